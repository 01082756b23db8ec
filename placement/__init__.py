"""Who owns what: the layer that decides on which host an actor lives.

Decisions (pure)   ring        which member an actor belongs to, and where it spills to
                   view        which view is newer, and what changed
                   membership  how a member's record changes
                   lease       how long a host may act, when another may take it for dead
                   claims      who gets an actor, whose save counts
                   durable     bounds of specs, when reminders are due
Data and ports     records     members, views, locations, the registry's answers
                   ports       Registry, Clock, and what a registry raises
Adapters (I/O)     memory          the registry of one process: tests, local systems (memory_store:
                                   its data, restarts and rollbacks)
                   redis_registry  the registry of a cluster; import it by its own name. With it:
                                   redis_scripts and scripts/ (Lua), redis_durable,
                                   redis_replies, redis_errors, redis_renewal, batcher
                   lease_thread    renews the lease in a thread, watches its deadline
"""

from placement.lease import Lease, LeaseTerms, Sightings
from placement.memory import MemoryRegistry, MemoryStore
from placement.ports import (
    Claim,
    Clock,
    Fenced,
    Registry,
    RegistryError,
    RegistryMisconfigured,
    RegistryUnavailable,
    StaleGeneration,
)
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
from placement.ring import Ring, moved, stable_hash
from placement.view import NO_VIEW, Diff, diff, newest

__all__ = [
    "NO_VIEW",
    "Claim",
    "Claimed",
    "Clock",
    "Diff",
    "Fenced",
    "Held",
    "Lease",
    "LeaseTerms",
    "Load",
    "Location",
    "Member",
    "MemberState",
    "MemoryRegistry",
    "MemoryStore",
    "Registry",
    "RegistryError",
    "RegistryMisconfigured",
    "RegistryUnavailable",
    "Reminder",
    "Renewal",
    "Ring",
    "Sightings",
    "StaleGeneration",
    "Stored",
    "View",
    "diff",
    "moved",
    "newest",
    "stable_hash",
]
