"""From evidence to what is to be written into the view. A decision module: pure.

Design section 5: what Kubernetes says is evidence, not a second truth. A pod that is merely not
Ready gets no new actors, one that terminates drains, and only a witnessed end of its container
is a proof of death (rule 16). Everything else waits for the lease.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from deploy.watch.evidence import Evidence, Standing
from deploy.watch.objects import Death
from placement.records import Member, MemberState


class Birth(NamedTuple):
    """What an incarnation recorded of itself at its start: its pod, and when (Unix seconds, by
    the clock of the node that it runs on, which is also the clock of its kubelet)."""

    pod_uid: str
    started_s: float


class SetReady(NamedTuple):
    """Let the incarnation have new actors, or keep them away from it."""

    incarnation: str
    ready: bool


class Drain(NamedTuple):
    """The pod terminates: the incarnation leaves the ring and hands off."""

    incarnation: str


class Bury(NamedTuple):
    """The incarnation is proven dead: its actors may be claimed without waiting for its lease."""

    incarnation: str
    proof: Death


Action = SetReady | Drain | Bury


def decide(
    members: Sequence[Member],
    births: Mapping[str, Birth],
    evidence: Sequence[Evidence],
) -> dict[str, tuple[Evidence, Action | None]]:
    """For each member of which Kubernetes says something: what it says, and what to do then.

    ``births`` is by incarnation. Without one, evidence is matched by the pod's name alone, and
    can neither prove a death nor tell that the pod is gone. Never matched by address: addresses
    are reused. Of several incarnations in one pod only the youngest is ever opened to new
    actors: that the pod is ready says nothing of those before.
    """
    verdicts: dict[str, tuple[Evidence, Action | None]] = {}
    for member in members:
        birth = births.get(member.incarnation)
        found = _of(member, birth, evidence)
        if found is not None:
            action = _action(member, birth, found)
            if (
                isinstance(action, SetReady)
                and action.ready
                and not _youngest(member, members, births)
            ):
                action = None
            verdicts[member.incarnation] = (found, action)
    return verdicts


class Told(NamedTuple):
    """The evidence on an incarnation that was acted on, and since when (seconds) the view has
    disagreed with it all the same; None while it agrees."""

    evidence: Evidence
    disagrees_since_s: float | None


def due(
    verdicts: Mapping[str, tuple[Evidence, Action | None]],
    told: Mapping[str, Told],
    is_live: bool,
    now_s: float,
    reassert_s: float,
) -> tuple[list[Action], dict[str, Told]]:
    """The actions of ``verdicts`` to carry out now, and ``told`` for when that has been done.

    Every host watches, and one whose watch is broken without knowing it holds on to what is no
    longer true. So each acts when *its* evidence changes; when the view turns against unchanged
    evidence it waits ``reassert_s`` before it insists. Two that disagree cannot keep the view
    turning. One that knows its watch to be broken acts on proofs of death alone: they do not age.
    """
    actions: list[Action] = []
    after: dict[str, Told] = {}
    for incarnation, (evidence, action) in verdicts.items():
        before = told.get(incarnation)
        if is_live:
            acts, after[incarnation] = _judge(evidence, action, before, now_s, reassert_s)
        else:
            acts = False
            if before is not None:
                after[incarnation] = before
        if action is not None and (acts or isinstance(action, Bury)):
            actions.append(action)
    return actions, after


def _judge(
    evidence: Evidence, action: Action | None, before: Told | None, now_s: float, reassert_s: float
) -> tuple[bool, Told]:
    """Whether to act now, and what to remember."""
    if before is None or before.evidence != evidence:
        return True, Told(evidence, None)
    if action is None:
        return False, Told(evidence, None)
    if before.disagrees_since_s is None:
        return False, Told(evidence, now_s)
    if now_s - before.disagrees_since_s >= reassert_s:
        return True, Told(evidence, now_s)
    return False, before


def is_proof(death: Death, found: Evidence, birth: Birth) -> bool:
    """Whether this end of a run of the pod's container was ``birth``'s end.

    Stricter than rule 16, so that a node's clock which was set back between two runs does not
    make a living incarnation look older than its predecessor's end: the run that ended must also
    have begun before the birth, and a run that goes on must have begun after it. The API's times
    are cut to whole seconds, hence the asymmetry of the comparisons.
    """
    lives_on = found.running_since_s is not None and found.running_since_s <= birth.started_s
    spans = death.started_s <= birth.started_s < death.finished_s
    return found.pod_uid == birth.pod_uid and spans and not lives_on


def _of(member: Member, birth: Birth | None, evidence: Sequence[Evidence]) -> Evidence | None:
    named = [e for e in evidence if e.pod == member.host_id]
    if birth is not None:
        return next((e for e in named if e.pod_uid == birth.pod_uid), None)
    alive = [e for e in named if e.standing is not Standing.GONE]
    return alive[0] if len(alive) == 1 else None


def _youngest(member: Member, members: Sequence[Member], births: Mapping[str, Birth]) -> bool:
    """Whether no other incarnation of the member's host is, or may be, younger."""
    others = [m for m in members if m.host_id == member.host_id and m is not member]
    birth = births.get(member.incarnation)
    return all(
        birth is not None and other in births and births[other].started_s < birth.started_s
        for other in (m.incarnation for m in others)
    )


def _action(member: Member, birth: Birth | None, found: Evidence) -> Action | None:
    if birth is not None:
        for death in found.deaths:
            if is_proof(death, found, birth):
                return Bury(member.incarnation, death)
    if found.standing is Standing.TERMINATING and member.state in _DRAINABLE:
        return Drain(member.incarnation)
    ready = _READY.get(found.standing)
    return None if ready is None or ready == member.ready else SetReady(member.incarnation, ready)


_DRAINABLE = (MemberState.JOINING, MemberState.UP)
_READY = {Standing.READY: True, Standing.NOT_READY: False, Standing.GONE: False}
