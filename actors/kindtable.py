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
        self,
        make_ref: RefMaker,
        kinds: Iterable[type[Actor]],
        *,
        hosts_what_it_meets: bool,
        mailbox_max: int,
    ) -> None:
        self._mailbox_max = mailbox_max
        self.hooks = Hooks(make_ref)
        self.anything = self.hooks.decoder(Any)
        self.terminated = self.hooks.decoder(Terminated)
        self._by_class: dict[type, Kind] = {}
        self._hosted: dict[str, Kind] = {}
        self._met: dict[str, Kind] = {}  # called from here, but not hosted
        self._hosts_what_it_meets = hosts_what_it_meets
        for cls in kinds:
            self._host(cls)

    def _host(self, cls: type[Actor]) -> Kind:
        kind = compile_kind(cls, self.hooks, self._mailbox_max)
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
            kind = self._by_class[cls] = compile_kind(cls, self.hooks, self._mailbox_max)
            self._met[kind.name] = kind
        return kind

    def hosted(self, name: str) -> Kind | None:
        """The kind of that name, if actors of it may run here."""
        return self._hosted.get(name)

    def named(self, name: str, cls: type | None) -> Kind:
        """The kind for a ref that arrived, where ``cls`` was asked for (None: any).

        A kind that is not known here has no handlers, but its refs can travel on. Raises
        ValueError when it is none of ``cls``.
        """
        from actors.actor import Actor

        if cls is None or cls is Actor:
            return self._known(name) or self._unknown(name, Actor)
        if not issubclass(cls, Actor):
            raise ValueError(f"expected {cls.__qualname__}, got a ref of {name}")
        if cls.__roost_kind__ == name:
            return self.of(cls)
        kind = self._known(name)
        if kind is None or not issubclass(kind.cls, cls):
            raise ValueError(f"expected a ref of {cls.__roost_kind__}, got one of {name}")
        return kind

    def _known(self, name: str) -> Kind | None:
        return self._hosted.get(name) or self._met.get(name)

    def _unknown(self, name: str, cls: type[Actor]) -> Kind:
        kind = self._met[name] = Kind(
            name, cls, KindOptions(), {}, None, None, False, self._mailbox_max, hosted=False
        )
        return kind

    def all_hosted(self) -> list[Kind]:
        """The hosted kinds."""
        return list(self._hosted.values())

    def names(self) -> tuple[str, ...]:
        """The names of the hosted kinds, sorted."""
        return tuple(sorted(self._hosted))

    def encode(self, value: object) -> bytes:
        """Plain arguments as msgpack."""
        return encode(Content.MSGPACK, value)
