"""Views: which of two is newer, and what changed between them. A decision module: pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from placement.records import Member, View
from placement.ring import member_order

#: What a host holds before it has heard of any view: older than every real one.
NO_VIEW = View(0, 0, ())


class Diff(NamedTuple):
    """What changed from one view to another, each part in view order.

    ``changed`` holds (before, after) of members that are in both views with another record.
    """

    joined: tuple[Member, ...]
    gone: tuple[Member, ...]
    changed: tuple[tuple[Member, Member], ...]

    def __bool__(self) -> bool:
        return any(self)


def make_view(generation: int, version: int, members: Iterable[Member]) -> View:
    """A view with its members in the one order that all hosts agree on."""
    return View(generation, version, tuple(sorted(members, key=member_order)))


def number(view: View) -> tuple[int, int]:
    """(generation, version): views are ordered by it."""
    return view.generation, view.version


def newest(current: View, other: View) -> View:
    """The newer of the two; ``current`` itself when ``other`` is no news."""
    return other if number(other) > number(current) else current


def is_behind(view: View, generation: int, version: int) -> bool:
    """Whether a view of that number, heard of elsewhere, is newer than ``view``."""
    return (generation, version) > number(view)


def live_incarnations(view: View) -> frozenset[str]:
    """The incarnations that the view takes for alive, whatever their state."""
    return frozenset(m.incarnation for m in view.members)


def find_member(view: View, incarnation: str) -> Member | None:
    """The member of that incarnation, or None."""
    return next((m for m in view.members if m.incarnation == incarnation), None)


def diff(old: View, new: View) -> Diff:
    """What changed from ``old`` to ``new``. A restarted host counts as one gone, one joined."""
    before = {m.incarnation: m for m in old.members}
    after = {m.incarnation: m for m in new.members}
    return Diff(
        joined=tuple(m for i, m in after.items() if i not in before),
        gone=tuple(m for i, m in before.items() if i not in after),
        changed=tuple((before[i], m) for i, m in after.items() if i in before and before[i] != m),
    )
