"""The Lua scripts of the Redis registry, as text and digest, and the layout of its keys.

All keys of a cluster begin with ``roost:{<cluster>}:`` and so share one hash slot:
``meta`` (run and replication id, generation, version, epoch, and the last generations that were
settled and claimed in), ``members``, ``counters``, ``loads``, ``claims`` (hashes by incarnation),
``l:<bucket>`` (hashes actor -> ``epoch:incarnation``), ``s:<actor>`` (saved states), ``durable``
(sorted names of durable actors), ``d:<4 hex digits>`` (hashes actor -> spec, by the hash's first
digits), ``due`` (reminders by due time), ``r:<actor>`` (hashes name -> reminder); with a TTL only
``gone:<incarnation>`` and ``dropped:<reminder>``, marks against late requests. A data module.
"""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files
from typing import NamedTuple
from zlib import crc32

#: Hashes over which locations are spread: at a million actors each holds 15, at ten million 150,
#: and up to 512 entries they keep the compact encoding (listpack) that saves most of the memory.
BUCKETS = 65_536


class Script(NamedTuple):
    """A script's text and the digest by which the server knows it once it has been loaded."""

    name: str
    text: str
    sha: str


def bucket_of(actor: str) -> int:
    """The bucket of an actor's location; all hosts and releases must agree on it."""
    return crc32(actor.encode()) % BUCKETS


def meta_key(cluster: str) -> str:
    """The key that every script is given, and from which it makes the others."""
    return f"roost:{{{cluster}}}:meta"


def changes_channel(cluster: str) -> str:
    """Where each new (generation, version) is published, as ``generation:version``."""
    return f"roost:{{{cluster}}}:view"


def _load(name: str, *shared: str) -> Script:
    """A script's file after the common parts; the line ``#!lua`` with its flags must stay first."""
    folder = files("placement") / "scripts"
    flags, _, body = (folder / f"{name}.lua").read_text("utf-8").partition("\n")
    parts = [(folder / f"{part}.lua").read_text("utf-8") for part in ("common", *shared)]
    text = f"{flags}\n{''.join(parts)}{body}"
    return Script(name, text, sha1(text.encode(), usedforsecurity=False).hexdigest())


VIEW = _load("view")
CHANGE = _load("change")
REMOVE = _load("remove")
RENEW = _load("renew")
HEARTBEAT = _load("heartbeat")
LOADS = _load("loads")
CLAIM = _load("claim")
RELEASE = _load("release")
LOCATE = _load("locate")
SAVE = _load("save")
LOAD = _load("load")
FORGET = _load("forget")
LIST = _load("list")
ASSERT = _load("assert")
SETTLE = _load("settle")
SETTLED = _load("settled")
KEEP_SPEC = _load("keep_spec", "durable")
END_DURABLE = _load("end_durable", "durable")
SPECS = _load("specs", "durable")
SET_REMINDER = _load("set_reminder", "durable")
DROP_REMINDER = _load("drop_reminder", "durable")
DUE_REMINDERS = _load("due_reminders", "durable")
REMINDER_FIRED = _load("reminder_fired", "durable")
