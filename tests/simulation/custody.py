"""What became of each operation's effect: where copies of it lived, and what took the last. Pure.

An effect lives in the memory of an activation and, once saved, in the registry. It may be lost
with an activation that was killed or whose host died (unless its kind saves before each reply),
and by a registry that loses data. Whatever was acknowledged and is lost otherwise is a breach.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from tests.simulation.events import (
    Answered,
    Began,
    Called,
    Ended,
    Event,
    LeaseOver,
    LostData,
    Ran,
    Read,
    Saved,
)

SAVES_EACH_TURN = ("Counter", "Agent")
STORED = ("", 0)  # the copy in the registry

#: Why the last copy went, and whether that is nobody's breach.
PLANNED, UNPLANNED, DATA_LOSS = "a planned step", "the end of its host", "the registry's loss"

Place = tuple[str, int]  # incarnation, epoch


class Custody:
    """The copies of one actor's operations."""

    def __init__(self, actor: str) -> None:
        self.actor = actor
        self.places: dict[Place, set[int]] = {STORED: set()}
        self.lost: dict[int, tuple[str, str]] = {}  # why, and by what step
        self.exposed: set[int] = set()  # the registry lost them, and has not got them again

    def put(self, place: Place, ops: Sequence[int], why: str, step: str) -> None:
        """``place`` holds exactly ``ops`` now."""
        before = self.places.get(place, set())
        self.places[place] = set(ops)
        if place == STORED:
            # What comes back with older data is as good as lost: whoever runs saves over it.
            self.exposed = self.exposed | before if why == DATA_LOSS else self.exposed - set(ops)
        self._note_lost(before - set(ops), why, step)
        for op in ops:
            self.lost.pop(op, None)

    def add(self, place: Place, op: int) -> None:
        if place in self.places:
            self.places[place].add(op)
            self.lost.pop(op, None)

    def drop(self, place: Place, why: str, step: str) -> None:
        """``place`` is no more."""
        self._note_lost(self.places.pop(place, set()), why, step)

    def drop_host(self, host: str, why: str, step: str) -> None:
        for place in [p for p in self.places if p[0] == host]:
            self.drop(place, why, step)

    def _note_lost(self, ops: set[int], why: str, step: str) -> None:
        for op in ops:
            if not any(op in held for held in self.places.values()):
                self.lost[op] = DATA_LOSS if op in self.exposed else why, step


def follow(events: Sequence[Event]) -> dict[str, Custody]:
    """The custody of every actor at the end of the run."""
    actors: dict[str, Custody] = {}

    def of(actor: str) -> Custody:
        if actor not in actors:
            actors[actor] = Custody(actor)
        return actors[actor]

    for event in events:
        if isinstance(event, Began):
            place = event.host, event.epoch
            if event.how == "resumed":  # it has been offered at an earlier epoch: the same memory
                of(event.actor).drop_host(event.host, PLANNED, f"resumption at {event.at:.3f}")
            of(event.actor).put(place, event.ops, PLANNED, f"beginning at {event.at:.3f}")
        elif isinstance(event, Ended):
            _end(of(event.actor), event)
        elif isinstance(event, Ran) and event.stage == "did":
            of(event.actor).add((event.host, event.epoch), event.op)
        elif isinstance(event, Saved):
            step = f"save of epoch {event.epoch} at {event.at:.3f}"
            of(event.actor).put(STORED, event.ops, PLANNED, step)
        elif isinstance(event, LostData):
            for actor, custody in actors.items():
                ops = event.stored.get(actor, ())
                custody.put(STORED, ops, DATA_LOSS, f"the registry at {event.at:.3f}")
        elif isinstance(event, LeaseOver):
            for custody in actors.values():
                custody.drop_host(event.host, UNPLANNED, f"{event.host}: {event.why}")
    return actors


def _end(custody: Custody, event: Ended) -> None:
    if event.how == "offered":
        return  # it keeps its memory until it knows that it has moved
    why = PLANNED if event.how in ("left", "taken") else UNPLANNED
    step = f"{event.host} at {event.at:.3f}: {event.how}"
    custody.drop_host(event.host, why, step)


def acknowledged_and_lost(events: Sequence[Event]) -> Iterator[str]:
    """An acknowledged call is never lost: by death if its kind saves each turn, else by moves."""
    custodies = follow(events)
    seen = {e.actor: set(e.ops) for e in events if isinstance(e, Read)}
    calls = {e.op: e for e in events if isinstance(e, Called)}
    lost: dict[str, list[str]] = defaultdict(list)
    for event in events:
        if not isinstance(event, Answered) or event.value < 0:
            continue
        call = calls[event.op]
        if call.mode != "ask" or call.actor not in seen or event.op in seen[call.actor]:
            continue
        why, step = custodies[call.actor].lost.get(event.op, ("nothing that is known", ""))
        if why == DATA_LOSS or (why == UNPLANNED and not call.actor.startswith(SAVES_EACH_TURN)):
            continue
        lost[call.actor].append(f"{event.op} (by {why}: {step})")
    for actor, ops in lost.items():
        yield f"{actor} has lost what it acknowledged: {', '.join(ops)}"
