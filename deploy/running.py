"""Where the local cluster of ``roost up`` is: a file that the other commands find. An adapter.

It lies in the user's runtime folder, readable by that user only (the Redis URL may hold a
password), under the cluster's name; it counts only while the process that wrote it lives.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from wire.errors import ConfigError


class LocalCluster(msgspec.Struct, frozen=True):
    """What ``roost up`` says of itself. ``pid`` is its own process id."""

    pid: int
    cluster: str
    redis_url: str
    addresses: tuple[str, ...]


def path_for(cluster: str, environ: Mapping[str, str]) -> Path:
    """The file of ``cluster``, whether or not it is there."""
    own = f"{tempfile.gettempdir()}/roost-{os.getuid()}"
    base = environ.get("XDG_RUNTIME_DIR") or own
    return Path(base) / "roost" / f"{cluster.replace('/', '_')}.json"


def write(path: Path, running: LocalCluster) -> None:
    """Write or replace the file, in one step; its folder is made.

    Raises ConfigError when the folder cannot be made, or others could write there.
    """
    try:
        for folder in (path.parent.parent, path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_private(path.parent)
        fresh = path.with_suffix(f".{running.pid}")
        fresh.touch(mode=0o600)
        fresh.write_bytes(msgspec.json.encode(running))
        fresh.replace(path)
    except OSError as exc:
        raise ConfigError(
            f"{path.parent} cannot be used ({exc.strerror}): set XDG_RUNTIME_DIR"
        ) from exc


def _check_private(folder: Path) -> None:
    about = folder.lstat()
    others = stat.S_IWGRP | stat.S_IWOTH
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & others:
        raise ConfigError(f"{folder} is not a folder of yours alone: set XDG_RUNTIME_DIR")


def remove(path: Path, pid: int) -> None:
    """Remove the file if ``pid`` wrote it."""
    found = _read(path)
    if found is not None and found.pid == pid:
        path.unlink(missing_ok=True)


def find(path: Path) -> LocalCluster | None:
    """The running local cluster, or None: no file, or its process is gone."""
    found = _read(path)
    return found if found is not None and _lives(found.pid) else None


def _read(path: Path) -> LocalCluster | None:
    try:
        if path.lstat().st_uid != os.getuid():
            return None
        return msgspec.json.decode(path.read_bytes(), type=LocalCluster)
    except (OSError, msgspec.MsgspecError):
        return None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
