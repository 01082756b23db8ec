"""The state space: parts numbered, their successors remembered, states packed into integers.

A state is (budget, cluster part, actor parts). What one actor does depends on the cluster part and
on its own only, so each such pair is worked out once. Hosts are interchangeable, and so are actors:
of all states that differ by such a renaming only one is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Generic, TypeVar

from tests.simulation.model import hosting, lives
from tests.simulation.model.bounds import Bounds, Budget, spend
from tests.simulation.model.invariants import broken_in, is_well
from tests.simulation.model.rules import PROTOCOL, Rules
from tests.simulation.model.shape import permuted, permuted_cluster, shaped
from tests.simulation.model.state import Actor, Cluster, initial

BITS = 24  # of a part's number
MASK = (1 << BITS) - 1
NOWHERE = -1

Key = TypeVar("Key")
Value = TypeVar("Value")


class Numbered(Generic[Value]):
    """Numbers for parts, from 1, in the order in which they are first met."""

    def __init__(self) -> None:
        self._parts: list[Value] = []
        self._numbers: dict[Value, int] = {}

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, number: int) -> Value:
        return self._parts[number - 1]

    def number(self, part: Value) -> int:
        number = self._numbers.get(part)
        if number is None:
            self._parts.append(part)
            number = self._numbers[part] = len(self._parts)
            assert number <= MASK
        return number


class Memo(dict[Key, Value]):
    """A function's results, worked out when first asked for."""

    def __init__(self, work_out: Callable[[Key], Value]) -> None:
        super().__init__()
        self._work_out = work_out

    def __missing__(self, key: Key) -> Value:
        value = self[key] = self._work_out(key)
        return value


Renaming = Callable[[int], int]  # of an actor part, by one renaming of the hosts
Move = tuple[int, int, int, str]  # cost, cluster part, actor part, promise broken
Turn = tuple[int, int, Memo[int, int] | None]  # cost, cluster part, effect on actor parts


class Space:
    """All that is known so far of one configuration's states.

    Worked out when first asked for: ``moves`` of a pair (``cluster << BITS | actor``), ``turns`` of
    a cluster part, ``verdicts`` on a pair, ``left`` of a budget by cost (NOWHERE: not enough).
    """

    def __init__(self, hosts: int, actors: int, bounds: Bounds, rules: Rules, fine: bool) -> None:
        self.rules = rules
        self.prune = rules == PROTOCOL
        self.turn_table = lives.FINE if fine else lives.COARSE
        self.budgets = Numbered[Budget]()
        self.clusters = Numbered[Cluster]()
        self.actors = Numbered[Actor]()
        self.moves: Memo[int, list[Move]] = Memo(self._moves)
        self.turns: Memo[int, list[Turn]] = Memo(self._turns)
        self.verdicts: Memo[int, str] = Memo(self._verdict)
        self.left: Memo[int, list[int]] = Memo(self._left)
        self._effects: Memo[lives.Effect, Memo[int, int]] = Memo(self._effect)
        self._orders = list(permutations(range(hosts)))
        self._renamed = [self._renaming(order) for order in self._orders]
        self._frames: Memo[int, tuple[int, list[Renaming]]] = Memo(self._frame)
        self.actor_count = actors
        cluster, actor = initial(hosts)
        ids = [self.actors.number(actor)] * actors
        budget = self.budgets.number(bounds.budget())
        self.start = self.pack(budget, self.clusters.number(cluster), ids)

    def pack(self, budget: int, cluster: int, actors: list[int]) -> int:
        """The state's integer, the same for all its renamings."""
        least, renamings = self._frames[cluster]
        if len(renamings) == 1:
            ids = sorted(map(renamings[0], actors))
        else:
            ids = min([sorted(map(renamed, actors)) for renamed in renamings])
        state = budget << BITS | least
        for actor in ids:
            state = state << BITS | actor
        return state

    def forget_renamings(self) -> None:
        """Tell hosts apart from now on, to check that not doing so hides nothing."""
        del self._orders[1:], self._renamed[1:]
        self._frames.clear()

    def unpack(self, state: int) -> tuple[int, int, list[int]]:
        """The numbers of its parts: budget, cluster part, actor parts."""
        actors = []
        for _ in range(self.actor_count):
            actors.append(state & MASK)
            state >>= BITS
        return state >> BITS, state & MASK, actors

    def is_well(self, state: int) -> bool:
        """Whether every actor serves."""
        _, number, actors = self.unpack(state)
        cluster = self.clusters[number]
        return all(is_well(cluster, self.actors[actor]) for actor in actors)

    def _renaming(self, order: tuple[int, ...]) -> Renaming:
        def work_out(actor: int) -> int:
            return self.actors.number(permuted(self.actors[actor], order))

        return Memo(work_out).__getitem__

    def _frame(self, cluster: int) -> tuple[int, list[Renaming]]:
        """The least number that a renaming gives the cluster part, and the renamings that do."""
        part = self.clusters[cluster]
        numbers = [self.clusters.number(permuted_cluster(part, order)) for order in self._orders]
        least = min(numbers)
        renamings = zip(numbers, self._renamed, strict=True)
        return least, [renamed for number, renamed in renamings if number == least]

    def _left(self, budget: int) -> list[int]:
        """What is left by cost, to be indexed with the costs of bounds.py, negative ones too."""
        part = self.budgets[budget]
        after = [spend(part, cost) for cost in range(len(part) - 1)]
        numbers = [NOWHERE if left is None else self.budgets.number(left) for left in after]
        return [*numbers, budget, budget]

    def _moves(self, pair: int) -> list[Move]:
        """What one actor may do next."""
        number, actor = pair >> BITS, pair & MASK
        cluster, part = self.clusters[number], self.actors[actor]
        found: dict[Move, None] = {}
        for table in hosting.STEPS.values():
            for step in table(self.rules, cluster, part):
                after = self.actors.number(shaped(step.actor, self.prune))
                then = self.clusters.number(step.cluster)
                if step.broken or (then, after) != (number, actor):
                    found[step.cost, then, after, step.broken] = None
        return list(found)

    def _turns(self, cluster: int) -> list[Turn]:
        """What may happen to the cluster next."""
        part = self.clusters[cluster]
        return [
            (
                turn.cost,
                self.clusters.number(turn.cluster),
                None if turn.effect == lives.UNTOUCHED else self._effects[turn.effect],
            )
            for table in self.turn_table.values()
            for turn in table(self.rules, part)
        ]

    def _effect(self, effect: lives.Effect) -> Memo[int, int]:
        """Actor parts after ``effect``; NOWHERE if the actor forbids it."""
        name, *arguments = effect
        apply = lives.EFFECTS[str(name)]

        def after(actor: int) -> int:
            part = apply(self.actors[actor], *arguments)
            return NOWHERE if part is None else self.actors.number(shaped(part, self.prune))

        return Memo(after)

    def _verdict(self, pair: int) -> str:
        return broken_in(self.clusters[pair >> BITS], self.actors[pair & MASK])
