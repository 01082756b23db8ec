"""Redis's errors put into the registry's words, at one place: the edge. An adapter's table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions as redis_errors

from placement.ports import RegistryError, RegistryMisconfigured, RegistryUnavailable

#: How replies begin that say: not now. The step may or may not have run.
_UNAVAILABLE = (
    "BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM", "READONLY",
    "TRYAGAIN", "UNKILLABLE", "max number of clients",
)  # fmt: skip

_MISCONFIGURED = (
    redis_errors.AuthenticationError,
    redis_errors.AuthenticationWrongNumberOfArgsError,
    redis_errors.AuthorizationError,
    redis_errors.NoPermissionError,
)

_OUT_OF_REACH = (
    redis_errors.BusyLoadingError,
    redis_errors.ConnectionError,
    redis_errors.OutOfMemoryError,
    redis_errors.ReadOnlyError,
    redis_errors.TimeoutError,
    OSError,
)


@contextmanager
def translated(address: str) -> Iterator[None]:
    """Raise RegistryError, of the kind that fits, for whatever redis-py raises inside."""
    try:
        yield
    except (redis_errors.RedisError, OSError) as exc:
        raise _translate(exc, address) from exc


def _translate(exc: Exception, address: str) -> RegistryError:
    text = str(exc) or type(exc).__name__
    if isinstance(exc, _MISCONFIGURED) or text.startswith(("NOAUTH", "WRONGPASS", "NOPERM")):
        return RegistryMisconfigured(
            f"Redis at {address} refuses the credentials ({text}): set REDIS_PASSWORD, or user and "
            "password in REDIS_URL"
        )
    if isinstance(exc, _OUT_OF_REACH) or any(word in text for word in _UNAVAILABLE):
        return RegistryUnavailable(f"Redis at {address}: {text}")
    if "compiling script" in text:
        return RegistryMisconfigured(
            f"Redis at {address} cannot run Roost's scripts; it must be Redis 7 or later, "
            f"or Valkey: {text}"
        )
    return RegistryError(f"Redis at {address}: {text}")
