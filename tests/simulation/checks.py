"""What must hold in every run: the invariants, as functions of the events alone. Pure.

Each yields a sentence for each breach. ``violations`` runs them all.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from tests.simulation.custody import SAVES_EACH_TURN, acknowledged_and_lost
from tests.simulation.events import (
    DRAIN_TIMEOUT_S,
    Answered,
    Began,
    Buried,
    Called,
    Ended,
    Event,
    Failed,
    Freed,
    Granted,
    Kept,
    Leased,
    LeaseOver,
    Left,
    LostData,
    Misled,
    Noted,
    Ran,
    Saved,
    SentLate,
    Streamed,
)
from tests.simulation.linear import Add, objection

Breaches = Iterator[str]
Place = tuple[str, int]  # incarnation, epoch
#: A lease that ends and one that begins at the same moment do not overlap.
TOUCH_S = 1e-9
#: What a call hears that was made through a host whose drain has ended.
LEFT = "this host has left the cluster"


def lease_ends(events: Sequence[Event]) -> dict[str, float]:
    """Until when each incarnation could act, in true time.

    A crash ends no lease: children of the process that died may survive it, and act until then.
    """
    ends: dict[str, float] = {}
    for event in events:
        if isinstance(event, Leased):
            ends[event.host] = max(ends.get(event.host, -math.inf), event.until)
    for event in events:
        if isinstance(event, LeaseOver) and event.host in ends and event.why != "crashed":
            ends[event.host] = min(ends[event.host], event.at)
    return ends


class Span(NamedTuple):
    """A time in which one activation acted, or could."""

    start: float
    end: float
    epoch: int
    host: str
    what: str


def spans_of(events: Sequence[Event]) -> dict[str, list[Span]]:
    """By actor: its activations' lives and turns, each cut off where its host's lease ends."""
    leases = lease_ends(events)
    spans: dict[str, list[Span]] = defaultdict(list)
    lives: dict[tuple[str, str], Began] = {}
    turns: dict[tuple[str, str, int], list[Ran]] = defaultdict(list)

    def close(first: Began | Ran, end: float, what: str) -> None:
        end = min(end, leases.get(first.host, math.inf))
        if end > first.at:
            spans[first.actor].append(Span(first.at, end, first.epoch, first.host, what))

    for event in events:
        if isinstance(event, Began):
            lives[event.actor, event.host] = event
        elif isinstance(event, Ended):
            began = lives.pop((event.actor, event.host), None)
            if began is not None:
                close(began, event.at, "an activation")
        elif isinstance(event, Ran) and event.stage == "in":
            turns[event.actor, event.host, event.op].append(event)
        elif isinstance(event, Ran) and event.stage == "out":
            begun = turns[event.actor, event.host, event.op]
            if begun:
                close(begun.pop(), event.at, "a turn")
    for began in lives.values():
        close(began, math.inf, "an activation")
    for rest in turns.values():
        for ran in rest:
            close(ran, math.inf, "a turn")
    return spans


def two_owners(events: Sequence[Event]) -> Breaches:
    """Never two activations of one actor that act while both their leases hold."""
    for actor, spans in spans_of(events).items():
        spans.sort()
        open_: list[Span] = []
        for span in spans:
            open_ = [other for other in open_ if other.end > span.start + TOUCH_S]
            for other in open_:
                if (other.epoch, other.host) != (span.epoch, span.host):
                    yield (
                        f"{actor}: {span.what} of {span.host} (epoch {span.epoch}) at "
                        f"{span.start:.3f} while {other.what} of {other.host} (epoch "
                        f"{other.epoch}) goes on until {other.end:.3f}"
                    )
            open_.append(span)


def epochs(events: Sequence[Event]) -> Breaches:
    """Epochs only grow: those granted, and those that activations begin with.

    The one exception: the server loses its data, and its clock has stepped back.
    """
    granted: dict[str, tuple[int, str]] = {}
    begun: dict[str, int] = defaultdict(int)
    for event in events:
        if isinstance(event, LostData) and event.is_back:
            granted.clear()
            begun.clear()
        elif isinstance(event, Granted):
            grant, before = (event.epoch, event.host), granted.get(event.actor, (0, ""))
            if event.epoch <= before[0]:
                yield f"{event.actor}: {grant} granted after {before}"
            granted[event.actor] = grant
        elif isinstance(event, Began) and event.how != "restarted":
            if event.epoch <= begun[event.actor]:
                yield (
                    f"{event.actor}: begins on {event.host} at epoch {event.epoch} after one at "
                    f"epoch {begun[event.actor]}"
                )
            begun[event.actor] = max(begun[event.actor], event.epoch)


def displaced(events: Sequence[Event]) -> Breaches:
    """Whoever acts under a lease keeps its location, unless the server has lost its data."""
    ends, owners, acting = lease_ends(events), dict[str, Place](), set[tuple[str, Place]]()
    for event in events:
        if isinstance(event, Began):
            acting.add((event.actor, (event.host, event.epoch)))
        elif isinstance(event, Ended):
            acting -= {a for a in acting if a[0] == event.actor and a[1][0] == event.host}
        elif isinstance(event, LostData):
            owners.clear()
        elif isinstance(event, (Granted, Freed)):
            place, before = (event.host, event.epoch), owners.get(event.actor)
            gone = place if isinstance(event, Freed) else before
            if gone and (event.actor, gone) in acting and event.at < ends.get(gone[0], 0.0):
                what = "freed" if isinstance(event, Freed) else f"given to {place}"
                yield f"{event.actor} at {gone} is {what} at {event.at:.3f} while it acts"
            owners[event.actor] = place


def burials(events: Sequence[Event]) -> Breaches:
    """Nobody is buried while its lease holds: from then on others may claim what it runs.

    A registry that has lost data may have forgotten that it buried a host that had yet to join.
    """
    losses = [index for index, event in enumerate(events) if isinstance(event, LostData)]
    for index, event in enumerate(events):
        if isinstance(event, Buried):
            known = events[: next((loss for loss in losses if loss > index), len(events))]
            until = lease_ends(known).get(event.host, 0.0)
            if event.at < until - TOUCH_S:
                yield f"{event.host} is buried at {event.at:.3f}, and its lease ends at {until:.3f}"


def rejoins(events: Sequence[Event]) -> Breaches:
    """A host is a new incarnation only when nothing of its last one runs any more."""
    turns: dict[str, int] = defaultdict(int)
    seen: set[str] = set()
    for event in events:
        if isinstance(event, Ran) and event.stage in ("in", "out"):
            turns[event.host] += 1 if event.stage == "in" else -1
        elif isinstance(event, LeaseOver) and event.why == "crashed":
            turns.pop(event.host, None)
        elif isinstance(event, Leased) and event.host not in seen:
            seen.add(event.host)
            name = event.host.partition("#")[0]
            for other, running in turns.items():
                if running and other != event.host and other.partition("#")[0] == name:
                    yield f"{event.host} begins while {running} turns of {other} run"


def saves(events: Sequence[Event]) -> Breaches:
    """No save is accepted that is not from the owner's newest activation, or not its newest."""
    granted: dict[str, tuple[int, str]] = {}
    stored: dict[str, tuple[int, int]] = {}
    for event in events:
        if isinstance(event, LostData):
            stored.clear()
            granted.clear()
        elif isinstance(event, Granted):
            granted[event.actor] = event.epoch, event.host
        elif isinstance(event, Saved):
            owner = granted.get(event.actor)
            if owner is not None and event.epoch != owner[0]:
                yield f"{event.actor}: a save of epoch {event.epoch} is accepted; owner: {owner}"
            number = event.epoch, event.number
            if number <= stored.get(event.actor, (0, 0)):
                yield f"{event.actor}: save {number} is accepted after {stored[event.actor]}"
            stored[event.actor] = number


def leases(events: Sequence[Event]) -> Breaches:
    """Past its lease a host serves nothing: nothing begins there, goes on, is sent or saved."""
    ends = lease_ends(events)
    over = {e.host: e.at for e in events if isinstance(e, LeaseOver)}
    adds = {e.op for e in events if isinstance(e, Called) and e.method == "add"}
    thawed: dict[str, float] = {}  # who was frozen as it noticed its end cleans up when it may
    for event in events:
        if isinstance(event, Noted) and event.what.startswith("thaw "):
            thawed[event.what.removeprefix("thaw ")] = event.at
        elif isinstance(event, Ran) and event.stage != "in" and event.op in adds:
            end = max(over.get(event.host, math.inf), thawed.get(event.host.partition("#")[0], 0.0))
            if event.at > end + TOUCH_S:
                yield f"operation {event.op} of {event.actor} goes on after the lease of its host"
        elif isinstance(event, SentLate):
            yield f"{event.host} sent {event.what} after its lease"
        elif _begins(event) is not None:
            assert isinstance(event, (Began, Ran))
            if event.at > ends.get(event.host, math.inf) + TOUCH_S:
                yield f"{event.host} began {_begins(event)} of {event.actor} after its lease"


def _begins(event: Event) -> str | None:
    if isinstance(event, Began):
        return f"epoch {event.epoch}"
    if isinstance(event, Ran) and event.stage == "in" and event.op:
        return f"operation {event.op}"
    return None


def once(events: Sequence[Event]) -> Breaches:
    """No operation runs twice, none runs that its caller was told did not, none goes astray."""
    targets = {e.op: e.actor for e in events if isinstance(e, Called)}
    began: set[int] = set()
    for event in events:
        if isinstance(event, Ran) and event.stage == "in" and event.op:
            if event.op in began:
                yield f"operation {event.op} of {event.actor} runs twice"
            began.add(event.op)
            if targets.get(event.op) != event.actor:
                yield f"operation {event.op} for {targets.get(event.op)} runs in {event.actor}"
    for event in events:
        if isinstance(event, Failed) and not event.may_have_run and event.op in began:
            yield (
                f"operation {event.op} of {targets[event.op]} ran, and its caller was told "
                f"{event.code}, which says that it did not: {event.message}"
            )


def order(events: Sequence[Event]) -> Breaches:
    """What one sender sends to one actor begins in the order sent.

    Two exceptions: a client outside goes from host to host, and is another sender on each; and
    what an activation had taken when it was killed is sent again, behind what followed it.
    """
    calls = {e.op: e for e in events if isinstance(e, Called) and not e.sender.startswith("client")}
    newest: dict[tuple[str, str], int] = defaultdict(int)
    killed: dict[str, float] = defaultdict(float)
    for event in events:
        if isinstance(event, Ended) and event.how in ("killed", "crashed"):
            killed[event.actor] = event.at
        elif isinstance(event, Ran) and event.stage == "in" and event.op in calls:
            call = calls[event.op]
            key = call.sender, call.actor
            if event.op < newest[key] and killed[call.actor] < call.at:
                yield (
                    f"{call.sender} sent operation {event.op} to {call.actor} before "
                    f"{newest[key]}, which began first"
                )
            newest[key] = max(newest[key], event.op)


def streams(events: Sequence[Event]) -> Breaches:
    """A stream's items come in order, none left out and none twice."""
    expected: dict[int, int] = defaultdict(int)
    for event in events:
        if isinstance(event, Streamed):
            if event.item != expected[event.op]:
                yield f"stream {event.op} gave item {event.item} instead of {expected[event.op]}"
            expected[event.op] = event.item + 1


def counters(events: Sequence[Event]) -> Breaches:
    """Counters that save each turn are linearizable, as long as no data is lost."""
    if any(isinstance(e, LostData) for e in events):
        return
    calls = {
        e.op: e
        for e in events
        if isinstance(e, Called) and e.actor.startswith(SAVES_EACH_TURN) and e.method != "numbers"
    }
    ends = {e.op: e for e in events if isinstance(e, (Answered, Failed))}
    histories: dict[str, list[Add]] = defaultdict(list)
    for op, call in calls.items():
        end = ends.get(op)
        if isinstance(end, Failed) and not end.may_have_run:
            continue
        if isinstance(end, Answered) and end.value >= 0:
            histories[call.actor].append(Add(call.at, end.at, end.value))
        else:
            histories[call.actor].append(Add(call.at, math.inf, None))
    for actor, history in histories.items():
        why = objection(history)
        if why:
            yield f"{actor} is not linearizable: {why}"


def answers(events: Sequence[Event]) -> Breaches:
    """Every call ends, or its caller did."""
    ended = {e.op for e in events if isinstance(e, (Answered, Failed))}
    gone = {e.host for e in events if isinstance(e, LeaseOver) and e.why == "crashed"}
    for event in events:
        if isinstance(event, Called) and event.op not in ended and not _is_of(event.sender, gone):
            yield f"operation {event.op} of {event.sender} to {event.actor} is never answered"


def _is_of(sender: str, hosts: set[str]) -> bool:
    return sender in hosts or sender.partition("@")[2] in hosts


#: How planned moves may end a call: by its own deadline, by its own mailbox, or because a handler
#: did not end by the drain's deadline (then calls made through that host end so, too).
PLANNED_ENDS = frozenset({"deadline_exceeded", "mailbox_full", "cancelled", "actor_error"})


def planned(events: Sequence[Event]) -> Breaches:
    """Without faults no call fails, and every message that was taken runs."""
    calls = {e.op: e for e in events if isinstance(e, Called)}
    ran = {e.op for e in events if isinstance(e, Ran) and e.stage == "in"}
    cut_short = _cut_short(events)
    for event in events:
        call = calls.get(getattr(event, "op", 0))
        if isinstance(event, Failed) and not _is_in_time(event) and call is not None:
            if event.message == LEFT and any(abs(at - event.at) < 0.1 for at in cut_short):
                continue
            yield (
                f"operation {event.op} ({call.mode} {call.method} of {call.actor}) failed in "
                f"planned moves: {event.code}: {event.message}"
            )
        elif isinstance(event, Answered) and event.op not in ran and not _may_drop(calls[event.op]):
            yield f"operation {event.op} of {calls[event.op].actor} was taken and never ran"


def _cut_short(events: Sequence[Event]) -> list[float]:
    """When drains ended because they had had all the time that a drain has."""
    began: dict[str, float] = {}
    ends: list[float] = []
    for event in events:
        if isinstance(event, Noted) and event.what.startswith("drain "):
            began[event.what.removeprefix("drain ")] = event.at
        elif isinstance(event, LeaseOver):
            since = began.pop(event.host.partition("#")[0], event.at)
            if event.at - since >= 0.98 * DRAIN_TIMEOUT_S:  # on a clock that may be fast
                ends.append(event.at)
    return ends


def _is_in_time(event: Failed) -> bool:
    return event.code in PLANNED_ENDS or event.message.endswith(
        ("before the deadline", "at the deadline")
    )


def _may_drop(call: Called) -> bool:
    """A tell that does not wait for room is taken on trial, and dropped when there is none."""
    return call.mode == "nowait"


def links(events: Sequence[Event]) -> Breaches:
    """Replies and control frames need no credit, and an incarnation's links are its own."""
    seen = {event.what: event for event in events if isinstance(event, Misled)}
    for event in seen.values():
        yield f"{event.what} at {event.at:.3f}"


def durable(events: Sequence[Event]) -> Breaches:
    """Who was spawned as durable has a spec, and who was stopped for good has none."""
    for event in events:
        if isinstance(event, Kept) and event.is_wanted is not event.has_spec:
            said = "spawned" if event.is_wanted else "stopped"
            yield f"{event.actor} is {said} at {event.at:.3f}, and its spec is not as it should be"


def left(events: Sequence[Event]) -> Breaches:
    """Everything settles, and nothing stays behind."""
    for event in events:
        if isinstance(event, Left):
            yield event.what


CHECKS: tuple[Callable[[Sequence[Event]], Breaches], ...] = (
    two_owners, displaced, burials, rejoins, epochs, saves, leases, once, order, streams, counters,
    acknowledged_and_lost, durable, links, answers, left,
)  # fmt: skip


def violations(events: Sequence[Event], *, is_planned: bool) -> list[str]:
    """Every breach, each with the name of its check. ``is_planned``: the run had no faults."""
    checks = (*CHECKS, planned) if is_planned else CHECKS
    return [f"{check.__name__}: {breach}" for check in checks for breach in check(events)]
