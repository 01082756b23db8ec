"""Every setting of a host in one table: environment and flags in, a checked record out. Pure.

A flag goes before the environment, the environment before the default; an empty value counts as
unset. A wrong one is a ConfigError that names the setting, its value and what it may be.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from wire.errors import ConfigError

REDIS_SCHEMES = ("redis", "rediss", "unix")
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("auto", "text", "json")


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table: what it is called, what it may be, and what it is for."""

    name: str
    parse: Callable[[str], Any]
    meaning: str
    default: str = ""
    unit: str = ""
    secret: bool = False
    required: bool = False

    @property
    def flag(self) -> str:
        return "--" + self.name.removeprefix("ROOST_").lower().replace("_", "-")


def _setting(
    name: str, default: Any, parse: Callable[[str], Any], meaning: str, **more: Any
) -> Any:
    shown = more.pop("shown", f"{default:g}" if isinstance(default, float) else str(default or ""))
    row = Setting(name, parse, meaning, default=shown, **more)
    return field(default=default, metadata={"setting": row})


# Parsers raise ValueError with the end of a sentence that starts "it must be ..." -----------


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise ValueError(f"a whole number from {least} to {most}")
        return value

    return parse


def _number(least: float, most: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            raise ValueError(f"a number from {least:g} to {most:g}")
        return value

    return parse


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return text.lower()

    return parse


def _text(text: str) -> str:
    return text


def _modules(text: str) -> str:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not all(part.isidentifier() for name in names for part in name.split(".")):
        raise ValueError("names of modules, separated by commas")
    return ",".join(names)


def _name(text: str) -> str:
    if any(c.isspace() or c in "{}" or not c.isprintable() for c in text) or len(text) > 253:
        raise ValueError("a name of at most 253 characters without spaces and braces")
    return text


def _ip(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError("an IP address such as 10.1.2.3") from None


def _redis_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in REDIS_SCHEMES and bool(parts.hostname or parts.scheme == "unix")
        _ = parts.port  # raises ValueError when it is no port
    except ValueError:
        good = False
    if not good:
        raise ValueError("a URL such as redis://:password@host:6379/0 (or rediss://, unix://)")
    return text


def _http_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        good = False
    if not good:
        raise ValueError("a URL such as http://127.0.0.1:8001")
    return text


_PORT = _whole(0, 65535)
_SECONDS = _number(0.1, 86_400)
_COUNT = _whole(0, 100_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one host. Read them with :func:`read`; each is described by its row."""

    redis_url: str = _setting(
        "REDIS_URL", "", _redis_url, "the Redis that decides where actors live", unit="URL",
        secret=True, required=True,
    )  # fmt: skip
    redis_wait_s: float = _setting(
        "REDIS_WAIT", 0.0, _number(0, 3600),
        "how long a host that starts waits for a Redis that is not there yet; 0: it exits at once",
        unit="seconds", shown="0",
    )  # fmt: skip
    redis_password: str = _setting(
        "REDIS_PASSWORD", "", _text, "its password; goes before one in REDIS_URL", secret=True
    )
    app: str = _setting(
        "ROOST_APP", "", _text,
        "the actors to host: pkg.module, path/to/file.py, either with :attribute",
        unit="module", required=True,
    )  # fmt: skip
    cluster: str = _setting(
        "ROOST_CLUSTER", "default", _name, "hosts of one name in one Redis form a cluster"
    )
    hostname: str = _setting(
        "HOSTNAME", "", _name, "stable name of this host; Kubernetes sets it to the pod's name",
        shown="the machine's host name",
    )  # fmt: skip
    grpc_port: int = _setting(
        "GRPC_PORT", 50051, _PORT, "serves everything: calls, links, health, reflection; 0: any",
        unit="port",
    )  # fmt: skip
    grpc_bind: str = _setting("GRPC_BIND", "0.0.0.0", _ip, "address to listen on", unit="IP")
    pod_ip: str = _setting(
        "POD_IP", "", _ip, "address at which other hosts reach this one", unit="IP",
        shown="GRPC_BIND, or if that is 0.0.0.0 this machine's own",
    )  # fmt: skip
    max_actors: int = _setting(
        "MAX_ACTORS", 0, _COUNT, "most activations here; more spill to other hosts; 0: no bound",
        unit="actors", shown="0",
    )  # fmt: skip
    max_processes: int = _setting(
        "MAX_PROCESSES", 100, _COUNT, 'most child processes of kinds with isolation="process"',
        unit="processes",
    )  # fmt: skip
    process_memory_max: int = _setting(
        "PROCESS_MEMORY_MAX", 0, _whole(0, 1 << 50),
        "what each of them may take beyond what it starts with; past it, it crashes; 0: no bound",
        unit="bytes", shown="0",
    )  # fmt: skip
    preload: str = _setting(
        "PRELOAD", "", _modules,
        "modules that child processes share, besides those of the kinds; separated by commas",
        unit="modules", shown="none",
    )  # fmt: skip
    agent_isolation: str = _setting(
        "AGENT_ISOLATION", "process", _one_of("process", "thread"),
        "how agents of Rustic AI run: each in a process of its own, or in threads of the host",
    )  # fmt: skip
    weight: float = _setting(
        "WEIGHT", 1.0, _number(0.01, 100), "this host's share of the actors, relative to others'"
    )
    lease_ttl_s: float = _setting(
        "LEASE_TTL", 12.0, _number(0.2, 3600),
        "how long a host may act after its last renewal (renewed every quarter of it); its actors "
        "answer elsewhere about this long after its death. Shorter recovers sooner, and bears "
        "shorter pauses of the host, the network and Redis",
        unit="seconds",
    )  # fmt: skip
    stall_limit_s: float | None = _setting(
        "STALL_LIMIT", None, _number(0.05, 3600),
        "a host whose loop has not turned for this long lets its lease go; below LEASE_TTL",
        unit="seconds", shown="LEASE_TTL / 2",
    )  # fmt: skip
    heartbeat_interval_s: float = _setting(
        "HEARTBEAT_INTERVAL", 20.0, _SECONDS,
        "how often a host tells its load, for people to see; takes no part in recovery",
        unit="seconds",
    )  # fmt: skip
    ask_timeout_s: float = _setting(
        "ASK_TIMEOUT", 30.0, _SECONDS, "deadline of a call that gives none", unit="seconds"
    )
    drain_timeout_s: float = _setting(
        "DRAIN_TIMEOUT", 30.0, _number(0, 86_400),
        "longest that SIGTERM waits for running handlers; keep it below the pod's grace period",
        unit="seconds",
    )  # fmt: skip
    idle_after_s: float = _setting(
        "IDLE_AFTER", 900.0, _number(0, 31_536_000),
        "an actor without a message for this long is passivated; 0: never", unit="seconds",
    )  # fmt: skip
    mailbox_max: int = _setting(
        "MAILBOX_MAX", 1_000, _whole(1, 1_000_000),
        "messages that may wait for one actor (MailboxFull)", unit="messages",
    )  # fmt: skip
    payload_bytes_max: int = _setting(
        "PAYLOAD_BYTES_MAX", 16 << 20, _whole(1_024, 1 << 30),
        "largest arguments, result, stream item or state (InvalidArgument)", unit="bytes",
    )  # fmt: skip
    tls_cert: str = _setting(
        "TLS_CERT", "", _text, "this host's certificate; turns TLS on, with TLS_KEY", unit="file"
    )
    tls_key: str = _setting("TLS_KEY", "", _text, "the certificate's private key", unit="file")
    tls_ca: str = _setting(
        "TLS_CA", "", _text, "who signs the hosts' certificates: hosts then prove themselves to "
        "each other", unit="file",
    )  # fmt: skip
    tls_name: str = _setting(
        "TLS_NAME", "", _text, "name in the hosts' certificates, where it is not their address"
    )
    token: str = _setting(
        "ROOST_TOKEN", "", _text, "bearer token that callers from outside must show", secret=True,
        shown="none: anyone may call",
    )  # fmt: skip
    health_port: int | None = _setting(
        "HEALTH_PORT", None, _PORT, "plaintext port that serves grpc.health.v1 only",
        unit="port", shown="none",
    )  # fmt: skip
    metrics_port: int | None = _setting(
        "METRICS_PORT", None, _PORT, "plaintext port that serves /metrics for Prometheus",
        unit="port", shown="none",
    )  # fmt: skip
    pod_uid: str = _setting(
        "POD_UID", "", _name, "this pod's UID, which lets its death be proven without its lease"
    )
    k8s_namespace: str = _setting(
        "K8S_NAMESPACE", "", _name, "namespace of K8S_SERVICE", shown="the service account's own"
    )
    k8s_service: str = _setting(
        "K8S_SERVICE", "agent-host", _name,
        "headless service of the hosts, whose endpoints and pods are watched in Kubernetes",
    )  # fmt: skip
    k8s_pod_selector: str = _setting(
        "K8S_POD_SELECTOR", "", _text, "labels of the hosts' pods", shown="app=K8S_SERVICE"
    )
    k8s_container: str = _setting(
        "K8S_CONTAINER", "agent-host", _name,
        "the host's container in its pod, where that has several",
    )  # fmt: skip
    k8s_api: str = _setting(
        "K8S_API", "", _http_url, "the API server, for example that of `kubectl proxy`",
        unit="URL", shown="the service account's; outside of Kubernetes none",
    )  # fmt: skip
    log_level: str = _setting(
        "LOG_LEVEL", "info", _one_of(*LOG_LEVELS), f"one of {', '.join(LOG_LEVELS)}"
    )
    log_format: str = _setting(
        "LOG_FORMAT", "auto", _one_of(*LOG_FORMATS),
        "text, json (one object per line), or auto: text on a terminal, else json",
    )  # fmt: skip


def rows() -> Iterator[tuple[str, Setting]]:
    """(field, row) of every setting, in the table's order."""
    for f in fields(Settings):
        yield f.name, f.metadata["setting"]


EVERYTHING = frozenset(name for name, _ in rows())


def read(
    environ: Mapping[str, str],
    flags: Mapping[str, str | None] | None = None,
    only: Container[str] = EVERYTHING,
) -> Settings:
    """The settings that ``environ`` and ``flags`` (by field name, unparsed) make together.

    ``only``: names of the fields that are looked at; the others keep their defaults. A
    REDIS_PASSWORD stands in ``redis_url`` afterwards. Raises ConfigError for the first wrong one,
    in the table's order.
    """
    given: dict[str, Any] = {}
    for name, row in rows():
        if name not in only:
            continue
        flag = (flags or {}).get(name)
        text = flag if flag is not None else environ.get(row.name, "").strip()
        if text:
            given[name] = _parse(row, row.name if flag is None else row.flag, text)
    settings = Settings(**given)
    _check_together(settings)
    if not settings.redis_password:
        return settings
    return replace(settings, redis_url=with_password(settings.redis_url, settings.redis_password))


def _parse(row: Setting, source: str, text: str) -> Any:
    try:
        return row.parse(text)
    except ValueError as exc:
        shown = repr(redacted(text)) if not row.secret or "://" in text else "set"
        remedy = f", or unset it for the default ({row.default})" if row.default else ""
        raise ConfigError(f"{source} is {shown}: it must be {exc}{remedy}") from None


def _check_together(settings: Settings) -> None:
    stall_s, lease_s = settings.stall_limit_s, settings.lease_ttl_s
    if stall_s is not None and stall_s >= lease_s:
        raise ConfigError(
            f"STALL_LIMIT is {stall_s:g}: it must be below LEASE_TTL ({lease_s:g}), "
            f"or unset it for the default ({lease_s / 2:g})"
        )
    if bool(settings.tls_cert) != bool(settings.tls_key):
        has, lacks = ("TLS_CERT", "TLS_KEY") if settings.tls_cert else ("TLS_KEY", "TLS_CERT")
        raise ConfigError(f"{has} is set and {lacks} is not: set both for TLS, or neither")
    ports: dict[int, str] = {}
    for name, row in rows():
        port = getattr(settings, name)
        if name.endswith("_port") and port and port in ports:
            raise ConfigError(f"{row.name} and {ports[port]} are both {port}: choose two ports")
        if name.endswith("_port") and port:
            ports[port] = row.name


def with_password(url: str, password: str) -> str:
    """The Redis ``url`` with ``password`` in the place of its own; "" stays ""."""
    if not url:
        return url
    parts = urlsplit(url)
    user, host = parts.netloc.rpartition("@")[::2]
    user = user.partition(":")[0]
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}"))


def redacted(url: str) -> str:
    """``url`` fit to be shown: its password, if it has one, is replaced."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "***" if "@" in url else url
    if "@" not in parts.netloc:
        return url
    user = parts.netloc.rpartition("@")[0].partition(":")[0]
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:***@{host}"))
