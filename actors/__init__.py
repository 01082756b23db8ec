"""Roost: virtual actors on Trio. This package is what a program imports.

The map, from the outside in:

- what you write: ``actor`` (Actor), ``handlers`` (@handler), ``interceptors``, ``testing``
- what you hold: ``system`` (System), ``ref`` (refs and streams), ``reasons``, ``config``
- how you start: ``local`` (open_system), ``host`` (open_host), ``run``
- one actor here: ``activation``, ``turns``, ``lifecycle``, ``supervision``, ``nursery``,
  ``timers``, ``workers``, ``incoming``, ``resume``, ``collector``
- calls between actors: ``calls``, ``router``, ``outgoing`` and ``outbox`` (sender's half),
  ``receiver`` and ``inbox`` (receiver's half), ``routing``, ``resolver``, ``claimer``,
  ``deadlines``
- types to bytes: ``codec``, ``kinds``, ``kindtable``
- the cluster: ``membership``, ``gateway``, ``peers``

``placement`` says who owns what, ``wire`` moves bytes; neither knows the other, or this package.
"""

from actors.actor import Actor
from actors.config import HostConfig, SystemConfig
from actors.handlers import Method, Stream, StreamMethod, handler
from actors.host import open_host
from actors.hosting import HostSystem
from actors.interceptors import CallInfo, Interceptor
from actors.local import open_system
from actors.reasons import Reason, Terminated
from actors.ref import with_timeout
from actors.run import run, run_in_asyncio
from actors.system import System
from actors.timers import Timer
from wire.errors import (
    ActorError,
    ActorFailed,
    CallCycle,
    ConfigError,
    DeadlineExceeded,
    InvalidArgument,
    MailboxFull,
    NoCapacity,
    NotDelivered,
    OutcomeUnknown,
    ProtocolError,
    RoostError,
    Unauthenticated,
    Unavailable,
    UnknownKind,
)
from wire.ids import ActorId, actor_id, parse_actor_id

__all__ = [
    "Actor", "ActorError", "ActorFailed", "ActorId", "CallCycle", "CallInfo", "ConfigError",
    "DeadlineExceeded", "HostConfig", "HostSystem", "Interceptor", "InvalidArgument",
    "MailboxFull", "Method", "NoCapacity", "NotDelivered", "OutcomeUnknown", "ProtocolError",
    "Reason", "RoostError", "Stream", "StreamMethod", "System", "SystemConfig", "Terminated",
    "Timer", "Unauthenticated", "Unavailable", "UnknownKind", "actor_id", "handler", "open_host",
    "open_system", "parse_actor_id", "run", "run_in_asyncio", "with_timeout",
]  # fmt: skip
