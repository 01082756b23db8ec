"""Ports of placement: the registry that decides where actors live, and the clock.

Two adapters implement Registry (memory, Redis) under one contract suite. Every method is one
atomic step at the server and is safe to run twice and late. Ports only: no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from placement.records import (
    Claimed,
    Held,
    Load,
    Location,
    Member,
    MemberState,
    Reminder,
    Renewal,
    Stored,
    View,
)


class Clock(Protocol):
    """Seconds that only grow and count suspension (CLOCK_BOOTTIME on a real host)."""

    def __call__(self) -> float: ...


class RegistryError(Exception):
    """Root of what a registry raises."""


class RegistryUnavailable(RegistryError):
    """The server is out of reach, loading, read-only or full: the step may or may not have run."""


class RegistryMisconfigured(RegistryError):
    """The server would lose authoritative keys; the message says what to set."""


class Fenced(RegistryError):
    """The registry no longer takes this incarnation for alive: it must stop and rejoin anew."""


class StaleGeneration(RegistryError):
    """The caller speaks for an older generation of the registry's data, and nothing was done.

    ``view`` is the newer one; the registry object speaks for its generation from now on.
    """

    def __init__(self, message: str, view: View) -> None:
        super().__init__(message)
        self.view = view


class Claim(NamedTuple):
    """A request to run ``actor``. With ``offered`` it is a transfer (rule 7): granted only if
    the actor is located at exactly that offer, whether or not its holder lives."""

    actor: str
    offered: Location | None = None


class Registry(Protocol):
    """Redis decides: epochs are compared here, and nowhere else.

    ``me`` is always the calling incarnation. All raise RegistryUnavailable; those that act for
    ``me`` raise Fenced when ``me`` is not a live member.
    """

    async def join(self, member: Member) -> View:
        """Write ``member`` and raise the version. An earlier incarnation of the same host id or
        address stays until it leaves or is buried. Running it twice changes nothing more."""

    async def renew(self, me: str, counter: int) -> Renewal:
        """Set this host's renewal counter (only ever raised); works when Redis is full."""

    async def heartbeat(self, me: str, load: Load) -> None:
        """Refresh what others show of this host; takes no part in safety."""

    async def set_member(
        self, incarnation: str, *, state: MemberState | None = None, ready: bool | None = None,
        weight: float | None = None,
    ) -> View:  # fmt: skip
        """Change a live member's record, raising the version if anything changed."""

    async def leave(self, me: str) -> View:
        """Remove this host. The caller has released, or no longer runs, all it owned."""

    async def bury(self, incarnation: str, counter: int) -> bool:
        """Declare a member dead if its counter is still ``counter``: the caller has itself seen
        it unchanged for lease + margin (rule 3), or holds proof from outside that this
        incarnation has ended (rule 16) and names the last counter that it heard of. True if it
        is dead now, by whomever."""

    async def view(self) -> View: ...

    async def loads(self) -> dict[str, Load]:
        """Each member's last heartbeat, by incarnation."""

    async def claim(
        self, me: str, claims: Sequence[Claim], generation: int | None = None
    ) -> list[Claimed | Held]:
        """Claim each actor: free, mine already, or held by the dead -> Claimed with a new,
        higher epoch; else Held. A transfer is Claimed only where its offer still stands.
        Answers in the order asked; Held by "" means located nowhere.

        With ``generation`` it is void in any other (StaleGeneration), also where this host hears
        of a new one before the claim is on its way: whether it may claim is another question there.
        """

    async def release(self, me: str, owned: Sequence[tuple[str, int]]) -> None:
        """Free each (actor, epoch) that is still located at exactly (me, epoch)."""

    async def locate(self, actors: Sequence[str]) -> list[Location | None]:
        """Where each actor is recorded, whether or not its holder still lives."""

    async def save(self, me: str, actor: str, epoch: int, save_no: int, data: bytes) -> bool:
        """Store the state if the location is exactly (me, epoch) and ``save_no`` is greater
        than the stored one of this epoch (rule 8). False: refused, this host is not the owner,
        or a newer save is there. Saving the same (epoch, save_no) twice is True twice."""

    async def load(self, actor: str) -> Stored | None: ...

    async def forget(self, me: str, actor: str, epoch: int) -> bool:
        """Release the location and delete the saved state in one step, if still (me, epoch)."""

    async def list_actors(
        self, prefix: str, limit: int, cursor: str
    ) -> tuple[list[tuple[str, Location]], str]:
        """A page of (actor, location) whose name starts with ``prefix``, and the next cursor
        ("" at the end). Pages may exceed ``limit`` a little; actors may come and go between."""

    @property
    def generation(self) -> int:
        """The generation that this registry object speaks for; 0 before it has heard of any."""

    async def settle(self) -> None:
        """Note that a lease has passed since the present generation began: from now on every
        activation that may run is known here, and newcomers need not wait to claim."""

    async def is_settled(self) -> bool:
        """Whether someone has noted that for the present generation."""

    async def assert_owned(self, me: str, owned: Sequence[tuple[str, int]]) -> list[bool]:
        """In a new generation (rule 9): write each (actor, epoch) that ``me`` runs as located
        at exactly that, unless it is located at a higher epoch, or elsewhere at the same one:
        then False, and ``me`` must end it. ``me`` has joined the generation first. Once anybody
        has claimed in it, True only for what is located at exactly that already."""

    async def keep_spec(self, me: str, actor: str, epoch: int, spec: bytes) -> bool:
        """Make ``actor`` durable: keep ``spec`` (at most 64 KiB) until ``end_durable``. False
        if it is not located at exactly (me, epoch). Raises ValueError for a larger spec."""

    async def end_durable(self, me: str, actor: str, epoch: int) -> bool:
        """Release the location and delete the spec and reminders, in one step, if it is still
        located at exactly (me, epoch); the saved state stays."""

    async def specs(
        self, ranges: Sequence[tuple[int, int]], limit: int
    ) -> list[tuple[str, bytes, Location | None]]:
        """Durable actors whose stable_hash lies in one of ``ranges`` (first, last; inclusive),
        by hash within each, with spec and location, up to ``limit``: ask again from the last
        one's hash to page. Reads those ranges only, never all actors."""

    async def set_reminder(self, actor: str, name: str, after_s: float, every_s: float) -> None:
        """Remind ``actor`` after ``after_s`` by the server's clock, then each ``every_s`` if
        that is above 0. Replaces the reminder of that name. Both are kept to the millisecond;
        raises ValueError for one below 0 or above 100 years."""

    async def drop_reminder(self, actor: str, name: str) -> bool:
        """Forget it; whether it was there."""

    async def due_reminders(self, limit: int) -> list[Reminder]:
        """The reminders whose time has come, the longest due first."""

    async def reminder_fired(self, reminder: Reminder) -> None:
        """It was delivered: set it to its next time (the first one of its rhythm that is still
        ahead, so an outage is no burst), or forget it. Does nothing if it was set anew or
        dropped meanwhile, or reported before."""

    def on_change(self, callback: Callable[[int, int], None]) -> None:
        """Call back with (generation, version) when the view may have changed. A hint: it can be
        lost, and each renewal tells the same."""

    async def listen(self) -> None:
        """Feed ``on_change``, reconnecting, until cancelled: run it in a task of its own. Returns
        at once where nothing needs to be awaited."""

    async def aclose(self) -> None: ...
