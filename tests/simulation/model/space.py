"""The state space: parts numbered, their successors remembered, states packed into integers.

A state is (budget, cluster part, actor parts). What one actor does depends on the cluster part and
on its own only, so each such pair is worked out once. Hosts are interchangeable, and so are actors:
of all states that differ by such a renaming only one is kept.
"""

from __future__ import annotations

from itertools import permutations
from typing import Generic, NamedTuple, TypeVar

from tests.simulation.model import hosting, lives
from tests.simulation.model.bounds import Bounds, Budget, spend
from tests.simulation.model.invariants import broken_in, is_well
from tests.simulation.model.rules import PROTOCOL, Rules
from tests.simulation.model.shape import permuted, permuted_cluster, shaped
from tests.simulation.model.state import Actor, Cluster, initial

PART_BITS = 24
PART_MASK = (1 << PART_BITS) - 1
NOWHERE = -1

Part = TypeVar("Part")


class Numbered(Generic[Part]):
    """Numbers for parts, from 1, in the order in which they are first met."""

    def __init__(self) -> None:
        self.parts: list[Part | None] = [None]
        self._numbers: dict[Part, int] = {}

    def number(self, part: Part) -> int:
        number = self._numbers.get(part)
        if number is None:
            number = self._numbers[part] = len(self.parts)
            self.parts.append(part)
        return number

    def __getitem__(self, number: int) -> Part:
        part = self.parts[number]
        assert part is not None
        return part


class Move(NamedTuple):
    """A step of one actor, by the numbers of the parts that come of it."""

    cost: int
    cluster: int
    actor: int
    broken: str


class Parts(NamedTuple):
    """A state unpacked: numbers of its parts, the actors' sorted."""

    budget: int
    cluster: int
    actors: tuple[int, ...]


class Space:
    """All that is known so far of one configuration's states."""

    def __init__(self, hosts: int, actors: int, bounds: Bounds, rules: Rules, fine: bool) -> None:
        self.rules = rules
        self.prune = rules == PROTOCOL
        self.turn_table = lives.FINE if fine else lives.COARSE
        self.orders = list(permutations(range(hosts)))
        self.budgets = Numbered[Budget]()
        self.clusters = Numbered[Cluster]()
        self.actors = Numbered[Actor]()
        self._spent: dict[tuple[int, int], int] = {}
        self._moves: dict[tuple[int, int], list[Move]] = {}
        self._turns: dict[int, list[tuple[int, int, lives.Effect]]] = {}
        self._effects: dict[tuple[lives.Effect, int], int] = {}
        self._frames: dict[int, tuple[int, list[int]]] = {}
        self._renamed: dict[tuple[int, int], int] = {}
        self._verdicts: dict[tuple[int, int], str] = {}
        cluster, actor = initial(hosts)
        budget = self.budgets.number(bounds.budget())
        ids = (self.actors.number(actor),) * actors
        self.actor_count = actors
        self.start = self.pack(budget, self.clusters.number(cluster), ids)

    def pack(self, budget: int, cluster: int, actors: tuple[int, ...]) -> int:
        """The state's integer, the same for all its renamings."""
        least, orders = self._frames.get(cluster) or self._frame(cluster)
        best = 0
        for order in orders:
            ids = sorted(
                [self._renamed.get((order, a)) or self._rename(order, a) for a in actors]
            ) if order else sorted(actors)
            key = 0
            for a in ids:
                key = key << PART_BITS | a
            if not best or key < best:
                best = key
        return (budget << PART_BITS | least) << (PART_BITS * self.actor_count) | best

    def unpack(self, state: int) -> Parts:
        ids = []
        for _ in range(self.actor_count):
            ids.append(state & PART_MASK)
            state >>= PART_BITS
        return Parts(state >> PART_BITS, state & PART_MASK, tuple(reversed(ids)))

    def _frame(self, cluster: int) -> tuple[int, list[int]]:
        """The least number that a renaming gives the cluster part, and which renamings do."""
        part = self.clusters[cluster]
        numbers = [self.clusters.number(permuted_cluster(part, order)) for order in self.orders]
        least = min(numbers)
        frame = least, [index for index, number in enumerate(numbers) if number == least]
        self._frames[cluster] = frame
        return frame

    def _rename(self, order: int, actor: int) -> int:
        part = permuted(self.actors[actor], self.orders[order])
        number = self._renamed[order, actor] = self.actors.number(part)
        return number

    def spent(self, budget: int, cost: int) -> int:
        """The number of what is left, or NOWHERE if ``cost`` cannot be paid."""
        known = self._spent.get((budget, cost))
        if known is None:
            left = spend(self.budgets[budget], cost)
            known = NOWHERE if left is None else self.budgets.number(left)
            self._spent[budget, cost] = known
        return known

    def moves(self, cluster: int, actor: int) -> list[Move]:
        """What one actor may do next."""
        known = self._moves.get((cluster, actor))
        if known is None:
            known = self._moves[cluster, actor] = self._work_out(cluster, actor)
        return known

    def _work_out(self, cluster: int, actor: int) -> list[Move]:
        before, part = self.clusters[cluster], self.actors[actor]
        found: dict[Move, None] = {}
        for table in hosting.STEPS.values():
            for step in table(self.rules, before, part):
                after = self.actors.number(shaped(step.actor, self.prune))
                move = Move(step.cost, self.clusters.number(step.cluster), after, step.broken)
                if step.broken or (move.cluster, after) != (cluster, actor):
                    found[move] = None
        return list(found)

    def turns(self, cluster: int) -> list[tuple[int, int, lives.Effect]]:
        """What may happen to the cluster next: (cost, cluster part, effect on each actor)."""
        known = self._turns.get(cluster)
        if known is None:
            part = self.clusters[cluster]
            known = self._turns[cluster] = [
                (turn.cost, self.clusters.number(turn.cluster), turn.effect)
                for table in self.turn_table.values()
                for turn in table(self.rules, part)
            ]
        return known

    def effect(self, effect: lives.Effect, actor: int) -> int:
        """The actor part after ``effect``; NOWHERE if the actor forbids it."""
        if effect is lives.UNTOUCHED:
            return actor
        known = self._effects.get((effect, actor))
        if known is None:
            name, *arguments = effect
            after = lives.EFFECTS[str(name)](self.actors[actor], *arguments)
            known = (
                NOWHERE if after is None else self.actors.number(shaped(after, self.prune))
            )
            self._effects[effect, actor] = known
        return known

    def verdict(self, cluster: int, actor: int) -> str:
        """The invariant that this pair breaks; "" if none."""
        known = self._verdicts.get((cluster, actor))
        if known is None:
            known = broken_in(self.clusters[cluster], self.actors[actor])
            self._verdicts[cluster, actor] = known
        return known

    def is_well(self, state: Parts) -> bool:
        cluster = self.clusters[state.cluster]
        return all(is_well(cluster, self.actors[actor]) for actor in state.actors)


