"""An agent: its own loop, a tool that fails, saved state, a durable timer, and a watcher.

    python docs/examples/agent.py

What waits in ``thoughts`` is in memory; what must outlive a host belongs in ``state``.
"""

from __future__ import annotations

import msgspec
import trio

import actors
from actors import Actor, handler


class Search(Actor, on_error="restart"):
    """A tool. What it raises reaches its caller; the tool itself starts anew."""

    @handler
    async def find(self, text: str) -> str:
        if "secret" in text:
            raise PermissionError(text)
        return f"all about {text}"


class Agent(Actor, persist="turn"):
    class State(msgspec.Struct):
        goal: str = ""
        notes: list[str] = []

    state: State

    async def on_spawn(self, goal: str) -> None:
        self.state.goal = goal

    async def on_activate(self) -> None:
        self.to_think, self.thoughts = trio.open_memory_channel[str](100)

    async def run(self) -> None:
        """Its own loop; cancelled when the agent leaves, started anew where it arrives."""
        tool = self.system.ref(Search, "web")
        async for question in self.thoughts:
            try:
                note = await tool.find.with_options(timeout_s=5)(question)
            except actors.ActorError as exc:
                note = f"no luck: {exc}"
            await self.ref.take(note)  # as a message: state changes in turns, and is saved

    @handler
    def take(self, note: str) -> None:
        self.state.notes.append(note)

    @handler
    async def think(self, question: str) -> None:
        await self.to_think.send(question)

    @handler
    async def sleep_on_it(self, seconds: float) -> None:
        await self.set_reminder("morning", seconds)

    async def on_reminder(self, name: str) -> None:
        self.state.notes.append(f"reminded: {name}")

    @handler
    def notes(self) -> list[str]:
        return self.state.notes


async def main() -> None:
    async with actors.open_system() as system, trio.open_nursery() as nursery:

        async def report_end() -> None:
            print("ended:", (await system.watch(agent)).reason)

        agent = await system.spawn(Agent, "a", goal="learn")
        nursery.start_soon(report_end)
        await agent.think("actors")
        await agent.think("secret plans")
        await agent.sleep_on_it(0.1)
        while len(notes := await agent.notes()) < 3:
            await trio.sleep(0.01)
        print(*notes, sep="\n")
        await system.stop(agent)


if __name__ == "__main__":
    trio.run(main)
