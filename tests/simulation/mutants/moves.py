"""Mutants of moves and drains (rules 7, 10, 14 and 15)."""

from __future__ import annotations

from tests.simulation.mutants.edit import Edit
from tests.simulation.mutants.mutant import Mutant

_MOVER = "actors.mover:Mover."

MOVES: dict[str, Mutant] = {
    "offer-before-quiet": Mutant(
        "14",
        "an actor is offered while its handlers run",
        (Edit(_MOVER + "_quiesce", "lifecycle = self._system.lifecycle", "return True"),),
        ("two_owners",),
        ("planned",),
    ),
    "resumes-at-its-old-epoch": Mutant(
        "7",
        "an actor whose offer was not taken goes on without a script that raises its epoch",
        (
            Edit(
                _MOVER + "_claim_back",
                "registry, me = self._system.registry, self._system.me.incarnation",
                "return Claimed(activation.epoch, None)",
            ),
        ),
        ("epochs",),
        ("planned",),
    ),
    "mailbox-left-behind": Mutant(
        "7",
        "messages that were taken and have not run do not move along",
        (Edit("actors.adopter:Adopter._continue", "in offer.waiting:", "in ():"),),
        ("planned", "left"),
        ("planned",),
    ),
    "callers-not-told": Mutant(
        "10",
        "callers are not told where the actor that has their messages went",
        (Edit(_MOVER + "_taken", "system.router.receiver.moved(activation, to, epoch)", "pass"),),
        ("planned", "left", "once"),
        ("planned", "links"),
    ),
    "leaves-without-goodbye": Mutant(
        "15",
        "a drained host does not wait until nothing is under way to it",
        (Edit("actors.router:Router.take_leave", "system = self.system", "return"),),
        ("planned",),
        ("planned",),
    ),
}
