"""Renewals from a thread: the synchronous half of the Redis registry. An adapter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError
from redis.retry import Retry

from placement import redis_scripts as scripts
from placement.records import Renewal
from placement.redis_errors import translated
from placement.redis_replies import Heard, read_renewal


class RedisRenewer:
    """Renews over one connection of its own, from one thread.

    It shares with its registry what the host has heard. Each attempt ends within about twice
    ``timeout_s``: to connect, and to hear the reply.
    """

    def __init__(
        self, url: str, address: str, meta_key: str, heard: Heard, timeout_s: float
    ) -> None:
        self._redis: Any = Redis.from_url(
            url,
            max_connections=1,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        self._address = address
        self._meta_key = meta_key
        self._heard = heard

    def renew(self, me: str, counter: int) -> Renewal:
        """Like Registry.renew. Never resends: the keeper tries anew with the next counter."""
        heard = self._heard
        sent = (1, self._meta_key, heard.generation, heard.epoch, me, counter)
        with translated(self._address):
            try:
                reply = self._redis.execute_command("EVALSHA", scripts.RENEW.sha, *sent)
            except NoScriptError:
                reply = self._redis.execute_command("EVAL", scripts.RENEW.text, *sent)
        return read_renewal(heard.check(cast(Sequence[Any], reply)))

    def close(self) -> None:
        self._redis.close()
