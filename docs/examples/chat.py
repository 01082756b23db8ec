"""Chat rooms: tells in, streams out, and subscribers who may leave at any time.

    python docs/examples/chat.py
    roost up --app docs/examples/chat.py
    roost ask Room/lobby listen --stream --timeout 600

A room that must move while somebody listens is given some time first, then their streams end with
OutcomeUnknown, and they listen again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import trio

import actors
from actors import Actor, handler

BEHIND_MAX = 100


class Message(msgspec.Struct):
    user: str
    text: str


class Room(Actor, max_concurrency=1_000):  # each subscriber's stream is a handler that runs
    class State(msgspec.Struct):
        last: list[Message] = []

    state: State

    def __init__(self) -> None:
        self.listeners: set[trio.MemorySendChannel[Message]] = set()

    @handler
    async def say(self, user: str, text: str) -> None:
        message = Message(user, text)
        self.state.last = [*self.state.last[-99:], message]
        for listener in list(self.listeners):
            try:
                listener.send_nowait(message)
            except trio.WouldBlock:  # too far behind: its stream ends, and it may come again
                listener.close()
                self.listeners.discard(listener)

    @handler
    async def listen(self) -> AsyncIterator[Message]:
        """What was said last, then what is said, until the subscriber leaves."""
        send, receive = trio.open_memory_channel[Message](BEHIND_MAX)
        self.listeners.add(send)
        try:
            for message in self.state.last:
                yield message
            async for message in receive:
                yield message
        finally:
            self.listeners.discard(send)

    @handler
    def listening(self) -> int:
        return len(self.listeners)


async def first_words(room: Room, count: int) -> list[str]:
    words: list[str] = []
    async with room.listen() as messages:  # leaving the block ends the handler there
        async for message in messages:
            words.append(message.text)
            if len(words) == count:
                break
    return words


async def main() -> None:
    async with actors.open_system() as system:
        room = system.ref(Room, "lobby")
        for text in ("hello", "is anybody here?"):
            await room.say.tell("ada", text)
        print(await first_words(room, 2))
        while await room.listening():
            await trio.sleep(0.01)
        print("nobody listens any more")


if __name__ == "__main__":
    trio.run(main)
