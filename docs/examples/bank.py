"""Money that is moved once: idempotent handlers, state saved before each reply.

    python docs/examples/bank.py
    roost up --app docs/examples/bank.py

An acknowledged transfer survives the death of every host that took part, and a repeated one does
nothing: a call whose outcome is unknown may simply be made again.
"""

from __future__ import annotations

import msgspec
import trio

import actors
from actors import Actor, handler


class Account(Actor, persist="turn"):
    class State(msgspec.Struct):
        balance: int = 0
        seen: set[str] = set()

    state: State

    @handler(idempotent=True)  # an outcome that is unknown: the call is made again by itself
    async def change(self, transfer: str, amount: int) -> int:
        if transfer not in self.state.seen:
            if self.state.balance + amount < 0:
                raise ValueError(f"{self.key} has only {self.state.balance}")
            self.state.balance += amount
            self.state.seen.add(transfer)
        return self.state.balance


class Transfer(Actor, persist="turn", idle_after_s=10):
    """One actor for each transfer; its key is the transfer's number."""

    class State(msgspec.Struct):
        is_done: bool = False

    state: State

    @handler(idempotent=True)
    async def make(self, source: Account, to: Account, amount: int) -> None:
        if self.state.is_done:
            return
        await source.change(f"{self.key}/out", -amount)
        await to.change(f"{self.key}/in", amount)
        self.state.is_done = True


async def main() -> None:
    async with actors.open_system() as system:
        ada, bob = system.ref(Account, "ada"), system.ref(Account, "bob")
        await ada.change("opening", 100)
        for _ in range(3):  # whoever is in doubt repeats it
            await system.ref(Transfer, "t1").make(ada, bob, 30)
        print(await ada.change("look", 0), await bob.change("look", 0))
        try:
            await system.ref(Transfer, "t2").make(ada, bob, 1_000)
        except actors.ActorError as exc:
            print(exc)


if __name__ == "__main__":
    trio.run(main)
