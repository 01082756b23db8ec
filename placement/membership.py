"""How a member's record changes, and whom a newcomer puts in the shade. A decision module: pure."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite

from msgspec.structs import replace

from placement.records import Member, MemberState

WEIGHT_MAX = 64.0


def changed_member(
    member: Member, *, state: MemberState | None = None, ready: bool | None = None,
    weight: float | None = None,
) -> Member:  # fmt: skip
    """``member`` with the given parts changed; None leaves a part as it is.

    Raises ValueError for a weight outside 0 to 64, and for DEAD: only ``bury``, which compares
    the counter, may declare a death.
    """
    if state is MemberState.DEAD:
        raise ValueError("a member is declared dead by bury(), never by set_member()")
    if weight is not None and not (isfinite(weight) and 0 <= weight <= WEIGHT_MAX):
        raise ValueError(f"weight must be between 0 and {WEIGHT_MAX:g}, not {weight}")
    return replace(
        member,
        state=member.state if state is None else state,
        ready=member.ready if ready is None else ready,
        weight=member.weight if weight is None else weight,
    )


def shadowed(members: Iterable[Member], newcomer: Member) -> list[Member]:
    """Earlier incarnations with the newcomer's host id or address. They cannot be reached any
    more, so they must get no new actors; what they own is theirs until their lease is over."""
    return [
        m
        for m in members
        if m.ready
        and (m.host_id == newcomer.host_id or (m.address and m.address == newcomer.address))
    ]
