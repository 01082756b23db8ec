"""Who gets an actor, and whose save counts (rules 5, 8 and 9). A decision module: pure.

The memory registry runs these functions; the Redis scripts say the same in Lua, and the contract
suite drives both with the same operations.
"""

from __future__ import annotations

from collections.abc import Container
from enum import Enum

from placement.records import Location, Stored


class SaveVerdict(Enum):
    STORE = "store"
    SAME = "same"  # that very save is there already: a repeated request
    REFUSED = "refused"


def claim_granted(
    location: Location | None, me: str, live: Container[str], offered: Location | None = None
) -> bool:
    """Whether ``me`` gets the actor: it is free, mine already, or its holder is dead; in a
    transfer: whether it is still located at exactly what was ``offered``.

    ``live`` are the incarnations in the registry's view; who is missing there has been proven
    dead, has left, or belongs to an older generation.
    """
    if offered is not None:
        return location == offered
    return location is None or location.incarnation == me or location.incarnation not in live


def owns(location: Location | None, me: str, epoch: int) -> bool:
    """Whether the location is exactly (me, epoch): the only one who may release or save."""
    return location is not None and location == (me, epoch)


def may_assert(location: Location | None, me: str, epoch: int, is_claimed: bool) -> bool:
    """Whether what ``me`` runs at ``epoch`` is newer than what a new generation knows of it.

    Whoever is recorded at the same epoch stays, so of two that assert it only one is told yes.
    ``is_claimed``: somebody has claimed in this generation. From then on only what is recorded
    already is confirmed, for a free location does not tell which epochs it has seen.
    """
    if is_claimed:
        return owns(location, me, epoch)
    return location is None or location.epoch < epoch or owns(location, me, epoch)


def judge_save(
    location: Location | None, stored: Stored | None, me: str, epoch: int, save_no: int
) -> SaveVerdict:
    """Whether a save counts: from the owner, and newer than what is stored."""
    if not owns(location, me, epoch):
        return SaveVerdict.REFUSED
    if stored is None or (stored.epoch, stored.save_no) < (epoch, save_no):
        return SaveVerdict.STORE
    same = (stored.epoch, stored.save_no) == (epoch, save_no)
    return SaveVerdict.SAME if same else SaveVerdict.REFUSED


def may_bury(current: int | None, seen: int) -> bool:
    """Whether a member may be declared dead: its counter is still the one that was seen.

    ``current`` is None for one that is no member any more: then there is nothing to do.
    """
    return current is not None and current == seen
