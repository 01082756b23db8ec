"""The kinds that run agents of Rustic AI: one actor per agent, in a process or with threads.

The agent's class never knows: it talks through its messaging backend. What moves with the actor is
what the agent was made from, so an agent starts anew where its actor goes.
"""

from __future__ import annotations

import msgspec
import trio

from actors import Actor, Reason
from deploy.agent_record import RUSTIC_KINDS
from deploy.rustic.wrapper import HostedAgent


class Made(msgspec.Struct):
    """What the agent is made from (see deploy.agent_spec.pack)."""

    packed: bytes = b""


class _RusticAgent(Actor, idle_after_s=0, persist="never", on_error="stop"):
    state: Made
    _agent: HostedAgent | None = None

    async def on_spawn(self, packed: bytes) -> None:
        """Start the agent, unless it runs already. Raises FieldError."""
        if not self.state.packed:
            await self._start(packed)
            self.state.packed = packed

    async def on_activate(self) -> None:
        if self.state.packed:
            await self._start(self.state.packed)

    async def on_deactivate(self, reason: Reason) -> None:
        agent, self._agent = self._agent, None
        if agent is not None:
            # One that does not come to its end is left behind: its host, or its process, goes on.
            await trio.to_thread.run_sync(agent.shutdown, abandon_on_cancel=True)

    async def _start(self, packed: bytes) -> None:
        def start() -> HostedAgent:
            agent = HostedAgent.of(packed)
            agent.run()
            return agent

        self._agent = await self.run_blocking(start)


class RusticAgent(_RusticAgent, kind=RUSTIC_KINDS["process"], isolation="process"):
    """An agent in a process of its own."""


class RusticThreadAgent(_RusticAgent, kind=RUSTIC_KINDS["thread"], isolation="thread"):
    """An agent whose code runs in threads of the host: cheap, and trusted not to crash it."""
