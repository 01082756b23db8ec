"""How bad the world is at a moment of a simulation: chances and delays. Pure data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

#: Least and most, in seconds.
Span = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """Chances are 0 to 1, for each batch on a link or each request to the registry."""

    link_delay_s: Span = (0.0005, 0.002)
    link_duplicate: float = 0.0
    link_cut: float = 0.0
    asked_delay_s: Span = (0.0005, 0.002)  # on the way to the registry
    answered_delay_s: Span = (0.0005, 0.002)  # and back
    asked_late: float = 0.0  # the request takes longer than its client waits
    asked_never: float = 0.0  # it is lost
    asked_twice: float = 0.0  # it runs, and its connection breaks: the client sends it again
    asked_again: float = 0.0  # a copy of it runs much later
    unanswered: float = 0.0  # it runs, and the reply is lost
    broken: float = 0.0  # the client hears of a broken connection; it runs all the same
    unpublished: float = 0.0  # a change's notification is lost
    restore_fails: float = 0.0  # a snapshot cannot be restored where it goes


FAIR = Weather()

_GUSTS: dict[str, Weather] = {
    "slow links": Weather(link_delay_s=(0.0, 0.15)),
    "broken links": Weather(link_delay_s=(0.0, 0.02), link_duplicate=0.1, link_cut=0.05),
    "slow registry": Weather(asked_delay_s=(0.0, 0.2), answered_delay_s=(0.0, 0.2)),
    "late scripts": Weather(asked_late=0.15, asked_again=0.1, answered_delay_s=(0.0, 0.05)),
    "lost replies": Weather(unanswered=0.15, broken=0.1, asked_never=0.05, unpublished=0.5),
    "resent scripts": Weather(asked_twice=0.3, asked_again=0.2, asked_delay_s=(0.0, 0.05)),
    "bad snapshots": Weather(restore_fails=0.5),
}

LINK_GUSTS = ("slow links", "broken links")
REGISTRY_GUSTS = ("slow registry", "late scripts", "lost replies", "resent scripts")
GUSTS = tuple(_GUSTS)


def mixed(names: tuple[str, ...], rng: Random) -> tuple[str, Weather]:
    """One or two of the named gusts together, and what to call it."""
    chosen = rng.sample(names, min(len(names), rng.randint(1, 2)))
    weather = FAIR
    for name in chosen:
        gust = _GUSTS[name]
        changed = {
            f: getattr(gust, f) for f in gust.__slots__ if getattr(gust, f) != getattr(FAIR, f)
        }
        weather = replace(weather, **changed)
    return " + ".join(chosen), weather
