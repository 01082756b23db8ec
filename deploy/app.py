"""Loading the module that defines a host's actors: ``pkg.module`` or ``path/to/file.py``.

An adapter: it imports. Whatever goes wrong is one ConfigError that names the module and the place.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from actors.actor import Actor
from actors.codec import Hooks
from actors.kinds import compile_kind
from wire.errors import ConfigError

#: Names under which a module may list its kinds itself; the first that is a list counts.
LIST_NAMES = ("KINDS", "actors")

_HERE = __file__


def load_app(spec: str) -> list[type[Actor]]:
    """The actor classes of ``module``, ``file.py``, or either with ``:attribute``.

    ``attribute`` may be an actor class or a list of them. Without one: what the module's own
    ``KINDS`` or ``actors`` lists, else every public actor class that it defines or names in
    ``__all__``. Raises ConfigError when it cannot be imported or has no actors.
    """
    name, _, attribute = spec.partition(":")
    module = _import(name)
    kinds = _attribute(module, name, attribute) if attribute else _kinds_of(module, name)
    _check_distinct(kinds, name)
    _check_compiles(kinds, name)
    return kinds


def _import(name: str) -> ModuleType:
    is_file = name.endswith(".py") or os.sep in name
    try:
        return _import_file(Path(name)) if is_file else _import_module(name)
    except ConfigError:
        raise
    except (Exception, SystemExit) as exc:
        raise ConfigError(f"app {name!r} cannot be imported: {_cause(exc)}") from exc


def _import_module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(f"app {name!r} is neither a module's name nor a path that ends in .py")
    _search_first(os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name and (name == exc.name or name.startswith(exc.name + ".")):
            raise ConfigError(
                f"app {name!r}: there is no module {exc.name!r} here ({os.getcwd()}) or among the "
                f"installed packages"
            ) from exc
        raise


def _import_file(path: Path) -> ModuleType:
    path = path.resolve()
    if not path.is_file():
        raise ConfigError(f"app {str(path)!r}: there is no such file")
    _search_first(str(path.parent))
    name = _free_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"app {str(path)!r} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _free_name(path: Path) -> str:
    """The file's own name, unless a module of that name is imported already (``actors.py``)."""
    taken = sys.modules.get(path.stem)
    return path.stem if path.stem.isidentifier() and taken is None else f"roost_app_{path.stem}"


def _search_first(folder: str) -> None:
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _attribute(module: ModuleType, name: str, attribute: str) -> list[type[Actor]]:
    found = getattr(module, attribute, None)
    if isinstance(found, type):
        found = [found]
    if not isinstance(found, (list, tuple, set, frozenset)) or not found:
        raise ConfigError(
            f"app {name!r} has no actor class or list of them called {attribute!r}; "
            f"it defines {_names(_defined(module)) or 'no actors'}"
        )
    return _checked(found, f"{name}:{attribute}")


def _kinds_of(module: ModuleType, name: str) -> list[type[Actor]]:
    for list_name in LIST_NAMES:
        listed = getattr(module, list_name, None)
        if isinstance(listed, (list, tuple)):
            return _checked(listed, f"{name}:{list_name}")
    kinds = _defined(module)
    if not kinds:
        raise ConfigError(
            f"app {name!r} defines no actors: subclass actors.Actor in it, or list the classes "
            f"in KINDS = [...]"
        )
    return kinds


def _defined(module: ModuleType) -> list[type[Actor]]:
    exported = set(getattr(module, "__all__", ()))
    return [
        value
        for name, value in vars(module).items()
        if _is_kind(value)
        and (name in exported or (not name.startswith("_") and _is_own(value, module)))
    ]


def _is_own(cls: type, module: ModuleType) -> bool:
    return cls.__module__ == module.__name__ or cls.__module__.startswith(module.__name__ + ".")


def _is_kind(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Actor) and value is not Actor


def _checked(listed: Iterable[object], where: str) -> list[type[Actor]]:
    kinds: list[type[Actor]] = []
    for value in listed:
        if not (isinstance(value, type) and issubclass(value, Actor)):
            raise ConfigError(f"app {where} lists {value!r}, which is no actor class")
        kinds.append(value)
    return kinds


def _check_distinct(kinds: list[type[Actor]], name: str) -> None:
    seen: dict[str, type[Actor]] = {}
    for cls in kinds:
        other = seen.setdefault(cls.__roost_kind__, cls)
        if other is not cls:
            raise ConfigError(
                f"app {name!r}: {other.__module__}.{other.__qualname__} and "
                f"{cls.__module__}.{cls.__qualname__} are both of kind {cls.__roost_kind__!r}; "
                f"give one of them kind='another name'"
            )


def _check_compiles(kinds: list[type[Actor]], name: str) -> None:
    """A handler whose annotations cannot be resolved is found here, not at its first call."""
    for cls in kinds:
        try:
            compile_kind(cls, Hooks(lambda kind, key: None))
        except TypeError as exc:
            raise ConfigError(f"app {name!r}: {exc}") from exc


def _names(kinds: list[type[Actor]]) -> str:
    return ", ".join(cls.__name__ for cls in kinds)


def _cause(exc: BaseException) -> str:
    """``file.py:12: NameError: ...``: the innermost place outside of the import machinery."""
    what = f"{type(exc).__name__}: {str(exc).splitlines()[0] if str(exc) else 'no message'}"
    if isinstance(exc, SyntaxError) and exc.filename:
        return f"{_short(exc.filename)}:{exc.lineno}: {type(exc).__name__}: {exc.msg}"
    frames = [
        frame
        for frame in traceback.extract_tb(exc.__traceback__)
        if not frame.filename.startswith("<frozen") and frame.filename != _HERE
        and frame.filename != importlib.__file__
    ]  # fmt: skip
    return f"{_short(frames[-1].filename)}:{frames[-1].lineno}: {what}" if frames else what


def _short(filename: str) -> str:
    relative = os.path.relpath(filename)
    return filename if relative.startswith("..") else relative
