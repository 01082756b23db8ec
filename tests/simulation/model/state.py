"""What a state of the model is: small tuples, one per cluster and one per actor.

A cluster part (generations, leases, membership) and an actor part for each actor make a state.
Time is abstracted: a lease is held until a step that is only possible after it has run out. A
decision module: pure.
"""

from __future__ import annotations

from typing import NamedTuple

NONE = 0  # no epoch, no snapshot: real epochs start at 1

# Incarnations: 0..n-1 are the hosts' present ones; those that are gone are numbered from here.
NOBODY = -1
GONE = 8

# A host's lease, when it is not the generation that granted it.
FRESH = -1  # not granted yet
LAPSED = -2  # run out; the host may not have noticed

# Membership of an incarnation in the server's present generation.
ABSENT, LIVE, BURIED = range(3)
MEMBERSHIPS = ("absent", "live", "buried")


class Host(NamedTuple):
    """A host's present incarnation. ``gen``: the newest generation it has seen.

    The last four are only used at the fine grain: ``reply`` is the generation of a renewal whose
    reply is on its way (-1: none); ``watched``: somebody counts a lease since it saw the counter;
    ``young``, ``reply_young``: the lease, and the one that the reply would give, began after that.
    """

    gen: int
    lease: int
    member: int
    reply: int = -1
    watched: bool = False
    young: bool = False
    reply_young: bool = False


class Cluster(NamedTuple):
    """The server's generation, whether a lagging copy of it exists, and the hosts.

    ``closed``: in this generation somebody has claimed, so a lease has passed since it began.
    """

    gen: int
    copied: bool
    closed: bool
    hosts: tuple[Host, ...]


class Location(NamedTuple):
    owner: int
    epoch: int


FREE = Location(NOBODY, NONE)


class Saved(NamedTuple):
    """The stored state, as far as it matters: who saved it and which of its saves it was."""

    epoch: int
    number: int


UNSAVED = Saved(NONE, 0)

# What an actor is to one host.
IDLE, CLAIMING, RESUMING, GRANTED, ACTIVE, OFFERED = range(6)
MODES = ("idle", "claiming", "resuming", "granted", "ACTIVE", "offered")


class Local(NamedTuple):
    """An actor at one host.

    CLAIMING and RESUMING wait for a script; GRANTED: its reply is on its way; OFFERED: quiesced.
    ``epoch``: what it runs at, or was granted; ``snapshot``: epoch of the state at hand (0: it
    loads what is stored); ``gen``: of the grant, assertion or offer; ``number``: of its last save;
    ``offered``, ``offered_gen``: the offer to go back to when resuming fails.
    """

    mode: int
    epoch: int = NONE
    snapshot: int = NONE
    gen: int = 0
    number: int = 0
    offered: int = NONE
    offered_gen: int = 0


NOT_HERE = Local(IDLE)

# What is in flight.
CLAIM, OFFER, SAVE, RELEASE, ASSERT = range(5)
KINDS = ("claim", "offer", "save", "release", "assert")

# Why a claim is made: for a message, by an offer, to resume one's own offer, to resume one of an
# older generation. Or it has run before, and was granted (only when a rule is off).
PLAIN, BY_OFFER, TO_RESUME, TO_RESUME_LATE, AGAIN = range(1, 6)


class Item(NamedTuple):
    """A script on its way to the server, or an offer on its way to host ``inc``.

    ``epoch``: of the location that a claim names (0: none), or of the sender's activation;
    ``number``: the save's, the epoch of the offer's snapshot, or a claim's reason; ``awaited``: the
    sender still waits for the reply (claims only); ``order``: among the sender's claims and
    assertions in flight, in which they were sent.
    """

    kind: int
    inc: int
    epoch: int
    number: int
    gen: int
    awaited: bool = False
    order: int = 0


class Actor(NamedTuple):
    """One actor: its records at the server, the lagging copy of them, the hosts, what is in flight.

    ``top``: the highest epoch that user code has run at (an observer's knowledge);
    ``members``: membership of the incarnations that are gone, by GONE number.
    """

    location: Location
    saved: Saved
    copy: tuple[Location, Saved] | None
    top: int
    locals: tuple[Local, ...]
    flight: tuple[Item, ...]
    members: tuple[int, ...] = ()


def put(actor: Actor, host: int, local: Local) -> Actor:
    """``actor`` with what it is to ``host`` replaced."""
    location, saved, copy, top, locals_, flight, members = actor  # faster than _replace
    locals_ = (*locals_[:host], local, *locals_[host + 1 :])
    return Actor(location, saved, copy, top, locals_, flight, members)


def fly(actor: Actor, flight: tuple[Item, ...]) -> Actor:
    """``actor`` with what is in flight replaced."""
    location, saved, copy, top, locals_, _, members = actor
    return Actor(location, saved, copy, top, locals_, flight, members)


def sent(actor: Actor, item: Item) -> Actor:
    return fly(actor, (*actor.flight, item))


def sent_numbered(actor: Actor, item: Item) -> Actor:
    """A claim or assertion is sent: it comes after all others of its sender."""
    before = [other.order for other in actor.flight if other.inc == item.inc]
    return sent(actor, item._replace(order=max(before, default=-1) + 1))


def arrived(actor: Actor, item: Item) -> Actor:
    """``actor`` without ``item`` in flight."""
    flight = list(actor.flight)
    flight.remove(item)
    return fly(actor, tuple(flight))


def put_host(cluster: Cluster, index: int, host: Host) -> Cluster:
    hosts = (*cluster.hosts[:index], host, *cluster.hosts[index + 1 :])
    return cluster._replace(hosts=hosts)


def membership(cluster: Cluster, actor: Actor, inc: int) -> int:
    """How the server's present generation knows ``inc``."""
    return cluster.hosts[inc].member if inc < GONE else actor.members[inc - GONE]


def may_act(host: Host) -> bool:
    """Whether the host's lease is held (rule 4), whatever generation granted it."""
    return host.lease >= 0


def up_to_date(cluster: Cluster, host: Host) -> bool:
    """Whether it holds a lease granted in the server's present generation."""
    return host.lease == cluster.gen == host.gen


def initial(hosts: int) -> tuple[Cluster, Actor]:
    """All hosts joined and hold their lease; the actor is nowhere and was never saved."""
    cluster = Cluster(0, False, False, (Host(0, 0, LIVE),) * hosts)
    return cluster, Actor(FREE, UNSAVED, None, NONE, (NOT_HERE,) * hosts, ())
