"""How often what a run is meant to exercise really happened. Pure, from the events alone.

``counts`` takes what the world counted by itself, too: what no event tells.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from tests.simulation.custody import SAVES_EACH_TURN
from tests.simulation.events import (
    Answered,
    Began,
    Buried,
    Called,
    Ended,
    Event,
    Failed,
    Granted,
    Kept,
    LeaseOver,
    LostData,
    Noted,
    Ran,
    Saved,
    Streamed,
)

#: The first words of the world's notes, and what they are counted as.
_NOTES = {
    "start": "host started", "crash": "host crashed", "drain": "host drained",
    "freeze": "host frozen", "partition": "one-way partition", "cut": "link cut",
    "registry out": "registry cut off from a host", "registry down": "registry down",
    "registry replaced": "registry replaced", "clock": "registry's clock stepped",
    "weather: slow links": "slow links",
}  # fmt: skip

_ENDED = {"taken": "move done", "left": "actor left", "killed": "actor killed"}
_BEGAN = {"claimed": "actor begun", "resumed": "move come to nothing", "restarted": "restart"}

SLOW_TURN_S = 0.5


def counts(events: Sequence[Event], happened: Mapping[str, int]) -> dict[str, int]:
    """By name; what never happened is missing."""
    found: Counter[str] = Counter()
    for event in events:
        found[_name(event)] += 1
    found["slow turn"] = _slow_turns(events)
    found["host restarted"] = _restarts(events)
    found["joined or drained while another did"] = _overlaps(events)
    found["counter operation checked"] = _checked(events)
    found.update(happened)
    del found[""]
    return {name: count for name, count in sorted(found.items()) if count}


def _name(event: Event) -> str:
    match event:
        case Noted(what=what):
            return next((name for head, name in _NOTES.items() if what.startswith(head)), "")
        case Ended(how=how):
            return _ENDED.get(how, "")
        case Began(how=how):
            return _BEGAN.get(how, "")
        case LeaseOver(why=why):
            return "lease lost" if why not in ("crashed", "it ended") else ""
        case Failed(may_have_run=doubt):
            return "call failed in doubt" if doubt else "call failed and did not run"
        case Kept(is_wanted=is_wanted):
            return "durable spawned" if is_wanted else "durable stopped"
    names = {
        Called: "call", Answered: "call answered", Granted: "claim granted", Saved: "save",
        Buried: "host buried", LostData: "registry lost data", Streamed: "stream item",
    }  # fmt: skip
    return names.get(type(event), "")


def _slow_turns(events: Sequence[Event]) -> int:
    began: dict[tuple[str, str, int], float] = {}
    slow = 0
    for event in events:
        if isinstance(event, Ran) and event.op:
            key = event.actor, event.host, event.op
            if event.stage == "in":
                began[key] = event.at
            elif event.stage == "out":
                slow += event.at - began.get(key, event.at) >= SLOW_TURN_S
    return slow


def _restarts(events: Sequence[Event]) -> int:
    """Starts under a name that has been there before."""
    starts = Counter(e.what for e in events if isinstance(e, Noted) and e.what.startswith("start "))
    return sum(starts.values()) - len(starts)


def _overlaps(events: Sequence[Event]) -> int:
    """Joins and drains that began while another one had not ended."""
    busy: set[str] = set()
    overlaps = 0
    for event in events:
        if isinstance(event, LeaseOver):
            busy.discard(event.host.partition("#")[0])
        elif isinstance(event, Noted):
            word, _, name = event.what.partition(" ")
            if word in ("start", "drain"):
                overlaps += bool(busy - {name})
                busy.add(name)
            elif name == "is up":
                busy.discard(word.partition("#")[0])
            elif word == "crash":
                busy.discard(name)
    return overlaps


def _checked(events: Sequence[Event]) -> int:
    """Operations in the histories that must be linearizable: none where data was lost."""
    if any(isinstance(e, LostData) for e in events):
        return 0
    by_actor: dict[str, int] = defaultdict(int)
    for event in events:
        if isinstance(event, Called) and event.actor.startswith(SAVES_EACH_TURN):
            by_actor[event.actor] += event.method != "numbers"
    return sum(by_actor.values())
