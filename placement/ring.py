"""The consistent-hash ring: which member an actor belongs to. A decision module: pure.

The same members give the same ring on every host and in every process: the hash is BLAKE2b,
never Python's ``hash()``. Karger et al., "Consistent Hashing and Random Trees" (1997); spilling
to the next member follows Mirrokni et al., "Consistent Hashing with Bounded Loads" (2018).
"""

from __future__ import annotations

from array import array
from bisect import bisect
from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from uhashring import HashRing

from placement.records import Member, MemberState, View

#: Virtual nodes of a member of weight 1: at 1,024 ten equal members stay within 1.15 of the mean.
VNODES = 1024
#: Hosts whose points are remembered, 8 KB each.
HOSTS_KEPT_MAX = 4096
#: Rings whose order of points is remembered, 16 KB for each host on them.
LAYOUTS_KEPT_MAX = 4

_SPACE = 1 << 64


def stable_hash(text: str) -> int:
    """64 bits of ``text``, the same in every process and release."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def may_own(member: Member) -> bool:
    """Whether the ring gives actors to ``member``: it is up, ready and has a share at all."""
    return member.state is MemberState.UP and member.ready and _vnodes(member) > 0


class Ring:
    """The ring of one view. Build it once per view change; it never changes afterwards.

    A host id keeps its place across restarts. Of two members with one host id (a restart whose
    earlier incarnation is not buried yet) the one that sorts last by incarnation owns.
    """

    def __init__(self, view: View) -> None:
        owners = {m.host_id: m for m in sorted(view.members, key=member_order) if may_own(m)}
        self.members: tuple[Member, ...] = tuple(owners.values())
        layout = _layout(tuple((host_id, _vnodes(m)) for host_id, m in owners.items()))
        self._keys = layout.keys
        # One entry more than there are keys: past the last key the ring begins again.
        self._owners = [self.members[number] for number in layout.whose]

    def owner(self, actor: str) -> Member | None:
        """The member that should run ``actor``; None when no member may own."""
        if not self._keys:
            return None
        return self._owners[bisect(self._keys, stable_hash(actor))]

    def candidates(self, actor: str) -> Iterator[Member]:
        """The owner, then each other member once, in ring order: where to go when it is full."""
        if not self._keys:
            return
        count, start = len(self._keys), bisect(self._keys, stable_hash(actor))
        seen: set[str] = set()
        for step in range(count):
            member = self._owners[(start + step) % count]
            if member.host_id not in seen:
                seen.add(member.host_id)
                yield member
                if len(seen) == len(self.members):
                    return

    def ranges(self, incarnation: str) -> list[tuple[int, int]]:
        """The ranges of ``stable_hash`` (first, last; inclusive, ascending, none that touch) whose
        actors belong to that member; none if the ring gives it nothing."""
        found: list[tuple[int, int]] = []
        ends = zip([0, *self._keys], [*self._keys, _SPACE], self._owners, strict=True)
        for first, end, member in ends if self._keys else ():
            if member.incarnation != incarnation or first == end:
                continue
            if found and found[-1][1] == first - 1:
                first = found.pop()[0]
            found.append((first, end - 1))
        return found

    def share(self) -> dict[str, float]:
        """The part of the hash space (0 to 1) that each host id owns."""
        shares = dict.fromkeys((m.host_id for m in self.members), 0.0)
        before = self._keys[-1] - _SPACE if self._keys else 0
        for key, member in zip(self._keys, self._owners, strict=False):
            shares[member.host_id] += (key - before) / _SPACE
            before = key
        return shares


def moved(old: Ring, new: Ring, actors: Iterable[str]) -> list[str]:
    """The actors whose owner differs between the two rings, in the order given."""
    return [a for a in actors if _incarnation(old.owner(a)) != _incarnation(new.owner(a))]


def member_order(member: Member) -> tuple[str, str]:
    """The sort key of members in a view: host id, then incarnation."""
    return member.host_id, member.incarnation


class _Layout(NamedTuple):
    """A ring without its members: its points in order, and the number of the host at each."""

    keys: list[int]
    whose: list[int]


@lru_cache(maxsize=LAYOUTS_KEPT_MAX)
def _layout(hosts: tuple[tuple[str, int], ...]) -> _Layout:
    """Most views differ from the last in what their members say of themselves, and not in who
    stands where: then there is nothing to sort."""
    keys: list[int] = []
    whose: list[int] = []
    for number, (host_id, vnodes) in enumerate(hosts):
        points = _points(host_id, vnodes)
        keys += points
        whose += [number] * len(points)
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return _Layout([keys[i] for i in order], [whose[i] for i in order + order[:1]])


@lru_cache(maxsize=HOSTS_KEPT_MAX)
def _points(host_id: str, vnodes: int) -> array[int]:
    """Where one host stands on every ring that it is part of. Kept, since it takes 4 us a point,
    and a view change at a thousand hosts would take seconds."""
    ring = HashRing({host_id: {"vnodes": vnodes}}, hash_fn=stable_hash)
    return array("Q", (key for key, _ in ring.get_points()))


def _vnodes(member: Member) -> int:
    return round(VNODES * member.weight)


def _incarnation(member: Member | None) -> str | None:
    return None if member is None else member.incarnation
