"""Arguments, results and states to bytes and back, checked against type hints (msgspec).

Positional arguments travel as an array, named ones as a map; msgpack by default, JSON for foreign
clients. Refs travel as their names. A decision module: pure; it never unpickles or evaluates.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from actors.handlers import HandlerSpec
from wire.errors import InvalidArgument
from wire.items import Content

EXT_REF = 1
REF_FIELD = "$ref"

#: Makes a ref of (actor class or None, "Kind/key"); the system gives it.
RefMaker = Callable[[type | None, str], Any]


def _encode_unknown(value: object) -> object:
    name = getattr(value, "__roost_ref__", None)
    if name is None:
        raise NotImplementedError(f"objects of type {type(value).__qualname__} cannot travel")
    return msgspec.msgpack.Ext(EXT_REF, str(name).encode())


def _encode_unknown_json(value: object) -> object:
    name = getattr(value, "__roost_ref__", None)
    if name is None:
        raise NotImplementedError(f"objects of type {type(value).__qualname__} cannot travel")
    return {REF_FIELD: str(name)}


_MSGPACK = Content.MSGPACK
_msgpack = msgspec.msgpack.Encoder(enc_hook=_encode_unknown)
_json = msgspec.json.Encoder(enc_hook=_encode_unknown_json)


def encode(content: int, value: object) -> bytes:
    """``value`` in ``content``; raises InvalidArgument for what cannot travel."""
    try:
        return _msgpack.encode(value) if content == _MSGPACK else _json.encode(value)
    except (TypeError, ValueError, OverflowError, NotImplementedError, RecursionError) as exc:
        raise InvalidArgument(str(exc)) from exc


class Hooks:
    """How refs are made again while decoding, for one system."""

    def __init__(self, make_ref: RefMaker) -> None:
        self._make_ref = make_ref

    def decoder(self, type_: Any) -> Decoder:
        """A decoder of ``type_`` in both contents."""
        return Decoder(type_, self)

    def dec_hook(self, type_: type, value: object) -> object:
        name = getattr(value, "__roost_ref__", None)
        if name is None and isinstance(value, dict) and set(value) == {REF_FIELD}:
            name = value[REF_FIELD]
        if name is None:
            if not hasattr(type_, "__roost_kind__"):  # the annotation's fault, not the caller's
                raise ValueError(
                    f"{type_.__qualname__} is no type that can travel: annotate with builtin "
                    "types, dataclasses, msgspec.Struct or actor classes"
                )
            raise ValueError(f"expected a ref of {type_.__qualname__}, got {type(value).__name__}")
        return self._make_ref(type_, str(name))

    def ext_hook(self, code: int, data: memoryview) -> object:
        if code != EXT_REF:
            raise ValueError(f"unknown extension type {code}")
        return self._make_ref(None, str(data, "utf-8"))


class Decoder:
    """Decodes one type from msgpack and from JSON (made when first needed)."""

    __slots__ = ("_hooks", "_json", "_type", "from_msgpack")

    def __init__(self, type_: Any, hooks: Hooks) -> None:
        self._type, self._hooks = type_, hooks
        self.from_msgpack = msgspec.msgpack.Decoder(
            type_, dec_hook=hooks.dec_hook, ext_hook=hooks.ext_hook
        ).decode
        self._json: Callable[[bytes], Any] | None = None

    def decode(self, content: int, payload: bytes) -> Any:
        """The value in ``payload``; raises msgspec.MsgspecError or another ValueError."""
        if content == _MSGPACK:
            return self.from_msgpack(payload)
        if self._json is None:
            self._json = msgspec.json.Decoder(self._type, dec_hook=self._hooks.dec_hook).decode
        return self._json(payload)


def _is_named(content: int, payload: bytes) -> bool:
    """Whether ``payload`` is a map (named arguments) rather than an array."""
    if content == Content.JSON:
        return payload.lstrip()[:1] == b"{"
    head = payload[0] if payload else 0x90
    return 0x80 <= head <= 0x8F or head in (0xDE, 0xDF)


class Signature:
    """The argument list and the result of one handler, as bytes and as values."""

    __slots__ = (
        "_by_position", "_exact", "_hooks", "_named", "_names", "_positional", "_positional_max",
        "_types", "result", "where",
    )  # fmt: skip

    def __init__(self, kind: str, spec: HandlerSpec, hints: dict[str, Any], hooks: Hooks) -> None:
        self.where = f"{kind}.{spec.name.replace('$', 'on_')}"
        self._hooks = hooks
        self._names = [p.name for p in spec.parameters]
        self._types = [
            (p.name, hints.get(p.name, Any), p.default is not p.empty) for p in spec.parameters
        ]
        #: Parameters that the handler takes by position alone, and what stands in for absent ones.
        self._by_position = [
            (p.name, p.default) for p in spec.parameters if p.kind is p.POSITIONAL_ONLY
        ]
        self._positional_max = sum(p.kind is not p.KEYWORD_ONLY for p in spec.parameters)
        self._exact: Decoder | None = None
        if self._positional_max == len(self._names):
            types = tuple(t for _, t, _ in self._types)
            self._exact = hooks.decoder(tuple[types] if types else tuple[()])  # type: ignore[valid-type]
        self._named: Decoder | None = None
        self._positional: Decoder | None = None
        self.result = hooks.decoder(_result_type(hints.get("return", Any), spec))

    @property
    def exact(self) -> Callable[[bytes], Any] | None:
        """Decodes msgpack of all arguments by position, and raises for anything else; None, if
        some go by name alone."""
        return self._exact.from_msgpack if self._exact is not None else None

    @property
    def is_one(self) -> bool:
        """Whether there is just one argument."""
        return len(self._names) == 1

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The argument list as msgpack; raises InvalidArgument naming what cannot be."""
        if len(args) > self._positional_max:
            by_position = " by position" if self._positional_max < len(self._names) else ""
            raise InvalidArgument(
                f"{self.where} takes {self._positional_max} arguments{by_position}, got {len(args)}"
            )
        try:
            if not kwargs:
                return _msgpack.encode(args)
            return _msgpack.encode(self._merge(args, kwargs))
        except (TypeError, ValueError, OverflowError, NotImplementedError, RecursionError) as exc:
            raise InvalidArgument(f"{self.where}: {exc}") from exc

    def _merge(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        named = dict(zip(self._names, args, strict=False))
        twice = named.keys() & kwargs.keys()
        if twice:
            raise InvalidArgument(f"{self.where}: argument {min(twice)!r} given twice")
        return named | kwargs

    def decode(self, content: int, payload: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """(args, kwargs) to call the handler with; InvalidArgument names a wrong parameter."""
        exact = self._exact
        if exact is not None:
            try:
                if content == _MSGPACK:
                    return exact.from_msgpack(payload), _NO_KWARGS
                return exact.decode(content, payload), _NO_KWARGS
            except (msgspec.MsgspecError, ValueError, RecursionError):
                pass  # defaults, names or a mistake: the slower way tells which
        named = self._decode_by_name(content, payload)
        return tuple(named.pop(name, default) for name, default in self._by_position), named

    def _decode_by_name(self, content: int, payload: bytes) -> dict[str, Any]:
        named = _is_named(content, payload)
        try:
            values = self._struct(named).decode(content, payload or _EMPTY[content])
        except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
            raise InvalidArgument(f"{self.where}: {self._explain(str(exc))}") from exc
        found = {name: getattr(values, f"f_{name}") for name in self._names}
        return {name: value for name, value in found.items() if value is not UNSET}

    def _struct(self, named: bool) -> Decoder:
        if named:
            self._named = self._named or self._hooks.decoder(self._make_struct(array_like=False))
            return self._named
        self._positional = self._positional or self._hooks.decoder(
            self._make_struct(array_like=True)
        )
        return self._positional

    def _make_struct(self, *, array_like: bool) -> type[msgspec.Struct]:
        fields: list[Any] = []
        for name, type_, optional in self._types:
            if optional:
                fields.append((f"f_{name}", type_ | UnsetType, msgspec.field(default=UNSET)))
            else:
                fields.append((f"f_{name}", type_))
        return msgspec.defstruct(
            "Arguments",
            fields,
            array_like=array_like,
            kw_only=True,
            forbid_unknown_fields=True,
            rename={f"f_{name}": name for name in self._names},
        )

    def _explain(self, problem: str) -> str:
        """msgspec's words with our parameter names in them."""
        match = _INSIDE.search(problem)
        if match:
            what, index, name, rest = match.groups()
            if index is not None:
                position = int(index)
                name = self._names[position] if position < len(self._names) else f"#{index}"
            return f"argument {name!r}{' at ' + rest if rest else ''}: {what}"
        match = _TOO_FEW.search(problem)
        if match:
            missing = (n for n, _, optional in self._types[int(match[1]) :] if not optional)
            return f"missing argument {next(missing, '?')!r}"
        for pattern, form in _EXPLANATIONS:
            match = pattern.search(problem)
            if match:
                return form.format(*match.groups(), takes=len(self._names))
        return problem


_NO_KWARGS: dict[str, Any] = {}
_EMPTY: dict[int, bytes] = {Content.MSGPACK: b"\x90", Content.JSON: b"[]"}
_EXPLANATIONS = (
    (re.compile(r"missing required field `(\w+)`"), "missing argument {0!r}"),
    (
        re.compile(r"^Expected `(?:array|object)`, got `(\w+)`$"),
        "arguments come as an array (by position) or an object (by name), not as `{0}`",
    ),
    (re.compile(r"contains unknown field `(.+?)`"), "unexpected argument {0!r}"),
    (re.compile(r"`array` of at most length \d+, got (\d+)"), "takes {takes} arguments, got {0}"),
    (re.compile(r"`array` of at most length \d+"), "takes {takes} arguments, got more"),
    (re.compile(r"`array` of length [\d to]+, got (\d+)"), "takes {takes} arguments, got {0}"),
)


_INSIDE = re.compile(r"(.*) - at (?:`key` in )?`\$(?:\[(\d+)\]|\.(\w+))(.*)`", re.DOTALL)
_TOO_FEW = re.compile(r"`array` of at least length \d+, got (\d+)")


def _result_type(hint: Any, spec: HandlerSpec) -> Any:
    """What the handler returns, or, for a stream, what it yields."""
    if spec.mode == 2:
        arguments = getattr(hint, "__args__", None)
        return arguments[0] if arguments else Any
    return hint
