"""Writes into the view what the watch has found. An adapter (Trio)::

keeper = Keeper(registry, births=..., bury=..., clock=trio.current_time)
nursery.start_soon(keeper.run)      # for ever
keeper.put(evidence)                # from either loop, as is set_live
registry.on_change(keeper.view_changed)
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping

import trio

from deploy.watch.evidence import Evidence
from deploy.watch.verdicts import Action, Birth, Bury, Drain, SetReady, Told, decide, due
from placement.ports import Fenced, Registry, RegistryError
from placement.records import MemberState, View

log = logging.getLogger("roost.watch")

REASSERT_S = 60.0
RETRY_S = 1.0


class Keeper:
    """Keeps the view in line with the evidence.

    ``births`` reads, from a view, what each incarnation recorded of its start; those it leaves
    out wait for their lease when they die. ``bury`` declares an incarnation dead that is proven
    so, and tells whether it is dead now; :func:`buried_by_counter` makes one. ``clock`` gives
    seconds that only grow. While the registry is out of reach everything is tried again.
    """

    def __init__(
        self, registry: Registry, *,
        births: Callable[[View], Mapping[str, Birth]],
        bury: Callable[[str], Awaitable[bool]],
        clock: Callable[[], float],
        reassert_s: float = REASSERT_S,
        retry_s: float = RETRY_S,
    ) -> None:  # fmt: skip
        self._registry = registry
        self._births = births
        self._bury = bury
        self._clock = clock
        self._reassert_s = reassert_s
        self._retry_s = retry_s
        self._evidence: tuple[Evidence, ...] = ()
        self._is_live = False
        self._told: dict[str, Told] = {}
        self._changed = trio.Event()

    def put(self, evidence: tuple[Evidence, ...]) -> None:
        """All the evidence there is now; it replaces what was put before. Never blocks."""
        self._evidence = evidence
        self._changed.set()

    def set_live(self, is_live: bool) -> None:
        """Whether the evidence is up to date. Never blocks."""
        self._is_live = is_live
        self._changed.set()

    def view_changed(self, generation: int, version: int) -> None:
        """The view may have changed: look whether it still agrees. Never blocks."""
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled; errors of the registry are logged, retried, and never come out."""
        while True:
            pause_s = self._reassert_s
            try:
                if not await self.step():
                    pause_s = self._retry_s
            except RegistryError as exc:
                log.debug("evidence from Kubernetes waits for the registry: %s", exc)
                pause_s = self._retry_s
            with trio.move_on_after(pause_s):
                await self._changed.wait()

    async def step(self) -> bool:
        """Look once and do what is due; False when something is to be tried again."""
        self._changed = trio.Event()
        evidence, is_live, now_s = self._evidence, self._is_live, self._clock()
        if not evidence:
            return True
        view = await self._registry.view()
        verdicts = decide(view.members, self._births(view), evidence)
        actions, told = due(verdicts, self._told, is_live, now_s, self._reassert_s)
        done = [await apply(action, self._registry, self._bury) for action in actions]
        self._told = told
        return all(done)


async def apply(action: Action, registry: Registry, bury: Callable[[str], Awaitable[bool]]) -> bool:
    """Carry out one action and log it; False when it is to be tried again.

    Raises RegistryError, but for a member that has gone meanwhile: then there is nothing to do.
    """
    incarnation = action.incarnation
    try:
        match action:
            case Bury(_, proof):
                if not await bury(incarnation):
                    return False
                log.info("%s is dead: its container ended (%s)", incarnation, proof.reason)
            case Drain():
                await registry.set_member(incarnation, state=MemberState.DRAINING)
                log.info("%s drains: its pod terminates", incarnation)
            case SetReady(_, ready):
                await registry.set_member(incarnation, ready=ready)
                log.info(
                    "%s %s", incarnation,
                    "takes new actors" if ready else "gets no new actors: its pod is not ready",
                )  # fmt: skip
    except Fenced:
        pass
    return True


def buried_by_counter(
    registry: Registry, counters: Callable[[], Mapping[str, int]]
) -> Callable[[str], Awaitable[bool]]:
    """A ``bury`` over the registry's own. ``counters`` are those of the last renewal.

    The proof replaces the wait, not the comparison: a counter that still moves contradicts the
    proof, and then nothing is buried. A renewal just before the death delays it to our next one.
    """

    async def bury(incarnation: str) -> bool:
        counter = counters().get(incarnation)
        return counter is not None and await registry.bury(incarnation, counter)

    return bury
