"""What host and child say to each other besides turns and calls. A decision module: pure data.

Each is the body of a Request; the operations are named here.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from typing import Any

import msgspec

from actors.config import SystemConfig
from wire.errors import ConfigError

# From the host
INIT = "init"
SNAPSHOT = "snapshot"
DEACTIVATE = "deactivate"
# From the child
SAVE = "save"
STOP = "stop"
END = "end"
PASSIVATE = "passivate"
CRASHED = "crashed"
BUSY = "busy"
LOG = "log"
SET_REMINDER = "set-reminder"
DROP_REMINDER = "drop-reminder"

#: The module name under which a child knows what the host runs as its main program.
MAIN = "__roost_main__"


#: How a host starts the fork server: with the numbers of a socket and of the lease's memory.
BOOT = "import sys; from actors.isolation.forkserver import main; main(*map(int, sys.argv[1:]))"


class Plan(msgspec.Struct, array_like=True):
    """The fork server's first message: whose it is, and (module, file) of all to import first."""

    parent: int
    path: list[str]
    preload: list[tuple[str, str]]


class ClassPath(msgspec.Struct, frozen=True, array_like=True):
    """Where a class is to be found. ``file``: where its module came from, "" if not a file."""

    module: str
    qualname: str
    file: str


class Init(msgspec.Struct, array_like=True):
    """The actor that a child is to be."""

    cls: ClassPath
    key: str
    epoch: int
    host_id: str
    incarnation: str
    address: str
    config: SystemConfig
    snapshot: bytes
    memory_bytes_max: int
    log_level: int


def path_of(cls: type) -> ClassPath:
    """Where a child finds ``cls``; raises ConfigError for a class that only this process knows."""
    if "<locals>" in cls.__qualname__:
        raise ConfigError(
            f"{cls.__qualname__} is isolated in processes: define it at its module's top level"
        )
    module = sys.modules.get(cls.__module__)
    file = os.path.abspath(getattr(module, "__file__", None) or "") if module else ""
    return ClassPath(cls.__module__, cls.__qualname__, file if file.endswith(".py") else "")


def load_module(module: str, file: str) -> Any:
    """The module, imported by name, or from its file where the name is not importable."""
    name = MAIN if module == "__main__" else module
    if name in sys.modules:
        return sys.modules[name]
    if module != "__main__":
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            if not file:
                raise
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"module {module!r} cannot be imported in a child process")
    found = importlib.util.module_from_spec(spec)
    sys.modules[name] = found
    spec.loader.exec_module(found)
    return found


def load_class(path: ClassPath) -> Any:
    """The class at ``path``."""
    found: Any = load_module(path.module, path.file)
    for name in path.qualname.split("."):
        found = getattr(found, name)
    return found
