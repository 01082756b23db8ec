"""KindTable: the kinds that a system hosts, and those that it only calls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from actors.codec import Hooks, RefMaker, encode
from actors.kinds import Kind, KindOptions, compile_kind
from actors.reasons import Terminated
from wire.errors import ConfigError
from wire.items import Content

if TYPE_CHECKING:
    from actors.actor import Actor


class KindTable:
    """Compiles each class once. ``hosts_what_it_meets``: a local system hosts every class that
    it makes a ref of; a host of a cluster hosts just those that it was given."""

    def __init__(
        self, make_ref: RefMaker, kinds: Iterable[type[Actor]], *, hosts_what_it_meets: bool
    ) -> None:
        self.hooks = Hooks(make_ref)
        self.anything = self.hooks.decoder(Any)
        self.terminated = self.hooks.decoder(Terminated)
        self._by_class: dict[type, Kind] = {}
        self._hosted: dict[str, Kind] = {}
        self._unknown: dict[str, Kind] = {}
        self._hosts_what_it_meets = hosts_what_it_meets
        for cls in kinds:
            self._host(cls)

    def _host(self, cls: type[Actor]) -> Kind:
        kind = compile_kind(cls, self.hooks)
        other = self._hosted.get(kind.name)
        if other is not None and other.cls is not cls:
            raise ConfigError(
                f"kind {kind.name!r} is claimed by {other.cls.__module__}.{other.cls.__qualname__} "
                f"and {cls.__module__}.{cls.__qualname__}: give one a kind= of its own"
            )
        self._by_class[cls] = self._hosted[kind.name] = kind
        return kind

    def of(self, cls: type[Actor]) -> Kind:
        """The kind of a class."""
        kind = self._by_class.get(cls)
        if kind is None:
            if self._hosts_what_it_meets:
                return self._host(cls)
            kind = self._by_class[cls] = compile_kind(cls, self.hooks)
        return kind

    def hosted(self, name: str) -> Kind | None:
        """The kind of that name, if actors of it may run here."""
        return self._hosted.get(name)

    def named(self, name: str, cls: type | None) -> Kind:
        """The kind for a ref that arrived: by class if its type was asked for, else by name; a
        kind that is not known here has no handlers, but its refs can travel on."""
        if cls is not None and hasattr(cls, "__roost_kind__"):
            return self.of(cls)
        hosted = self._hosted.get(name)
        if hosted is not None:
            return hosted
        if name not in self._unknown:
            from actors.actor import Actor

            self._unknown[name] = Kind(name, Actor, KindOptions(), {}, None, None, False, False)
        return self._unknown[name]

    def names(self) -> tuple[str, ...]:
        """The names of the hosted kinds, sorted."""
        return tuple(sorted(self._hosted))

    def encode(self, value: object) -> bytes:
        """Plain arguments as msgpack."""
        return encode(Content.MSGPACK, value)
