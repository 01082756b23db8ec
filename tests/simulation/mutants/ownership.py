"""Mutants of claims, saves and releases (rules 5, 8 and 17)."""

from __future__ import annotations

from tests.simulation.mutants.edit import Edit
from tests.simulation.mutants.mutant import Mutant

_CLAIMS = "placement.claims:"
_MEMORY = "placement.memory:MemoryRegistry."
_LIFECYCLE = "actors.lifecycle:Lifecycle."

OWNERSHIP: dict[str, Mutant] = {
    "takeover-without-proof": Mutant(
        "5",
        "a claim takes an actor from a living host",
        (Edit(_CLAIMS + "claim_granted", "location.incarnation not in live", "True"),),
        ("two_owners",),
        ("planned", "hosts"),
    ),
    "own-claim-keeps-its-epoch": Mutant(
        "5",
        "a claim by the recorded incarnation gets the epoch that is recorded",
        (
            Edit(
                _MEMORY + "claim",
                "        if location == mine:",
                "        if location and location.incarnation == me:\n"
                "            answers.append(Claimed(location.epoch, stored.get(actor)))\n"
                "            continue\n"
                "        if location == mine:",
            ),
        ),
        ("epochs",),
        ("registry", "storm"),
    ),
    "release-of-any-epoch": Mutant(
        "8",
        "a release that arrives late frees what has been claimed since",
        (
            Edit(
                _MEMORY + "release",
                "owns(store.locations.get(actor), me, epoch)",
                "actor in store.locations and store.locations[actor].incarnation == me",
            ),
        ),
        ("displaced", "two_owners"),
        ("registry", "storm"),
    ),
    "saves-without-epoch": Mutant(
        "8",
        "nobody looks at the epoch of a save",
        (
            Edit(_CLAIMS + "judge_save", "if not owns(location, me, epoch):", "if False:"),
            Edit(
                _CLAIMS + "judge_save",
                "(stored.epoch, stored.save_no) < (epoch, save_no)",
                "stored.epoch != epoch or stored.save_no < save_no",
            ),
        ),
        ("saves",),
        ("registry", "storm"),
    ),
    "saves-without-number": Mutant(
        "8",
        "a save that arrives behind a later one is accepted",
        (
            Edit(
                _CLAIMS + "judge_save",
                "(stored.epoch, stored.save_no) < (epoch, save_no)",
                "True",
            ),
        ),
        ("saves",),
        ("registry", "storm"),
    ),
    "released-before-saved": Mutant(
        "8",
        "a passivating actor is released before its state is saved",
        (
            Edit(
                _LIFECYCLE + "_stop",
                "    await self.save_before_leaving(activation)\n",
                "    await self._system.claimer.release(activation)\n"
                "    await self.save_before_leaving(activation)\n",
            ),
        ),
        ("displaced", "acknowledged_and_lost"),
        ("planned",),
    ),
    "answered-before-saved": Mutant(
        "8",
        "a kind that saves each turn answers before it has saved",
        (
            Edit(
                "actors.turns:_run",
                "if activation.kind.options.persist",
                "call.reply(call.content, payload)\n    if activation.kind.options.persist",
            ),
        ),
        ("acknowledged_and_lost", "counters"),
        ("hosts", "storm"),
    ),
    "durable-stop-in-two-steps": Mutant(
        "17",
        "a durable actor is released first, and its spec deleted after",
        (
            Edit(
                _LIFECYCLE + "_release",
                "    if for_good:\n",
                "    if for_good:\n        await self._free(activation)\n",
            ),
            Edit(
                _LIFECYCLE + "_end_durable",
                "return not await system.durables.has_spec(activation.id)",
                "return True",
            ),
        ),
        ("durable",),
        ("planned",),
    ),
    "stop-gives-up": Mutant(
        "17",
        "a stop counts as done when the registry is away",
        (
            Edit(
                _LIFECYCLE + "_end_durable",
                "await trio.sleep(SAVE_RETRY_S)",
                "return True",
            ),
        ),
        ("durable",),
        ("registry",),
    ),
    "stop-undoes-the-next-spawn": Mutant(
        "17",
        "a stop that nobody waits for any more ends the spawn that came behind it",
        (
            Edit(
                "actors.activation:Activation._is_for_next_life",
                "return self.stop_reason is",
                "return False and self.stop_reason is",
            ),
        ),
        ("left",),
        ("registry", "storm"),
        first=1469,
    ),
    "durables-not-sought": Mutant(
        "17",
        "nobody brings back the durable actors of a dead host",
        (Edit("actors.durables:Durables._scan", "system = self._system", "return"),),
        ("left",),
        ("hosts",),
    ),
}
