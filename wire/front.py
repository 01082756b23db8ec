"""What every call passes on its way into a service: identity, draining, errors. An adapter."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from grpclib.const import Handler
from grpclib.exceptions import GRPCError, StreamTerminatedError
from h2.exceptions import H2Error

from wire import status
from wire.errors import OutcomeUnknown, RoostError, Unauthenticated, Unavailable

log = logging.getLogger(__name__)

HEALTH = "grpc.health.v1.Health"
PEER = "roost.v1.Peer"
#: Health of the agent host: its clients show no token, and want an answer while the host drains.
AGENT_HEALTH = "/rustic_ai.k8s.agent_host.AgentHostService/Health"

#: Services, and paths of single methods, that anyone may call at any time, token or not. They
#: tell how the host does and nothing of its actors.
OPEN_TO_ALL = frozenset({HEALTH, AGENT_HEALTH})

_HandlerFn = Callable[[Any], Awaitable[None]]


class Front:
    """Guards services: who may call, whether new calls are taken, and how errors leave.

    ``token``: what callers must show as ``authorization: Bearer TOKEN`` ("": nothing), on every
    service but :data:`OPEN_TO_ALL`. ``mutual``: hosts show certificates, so
    ``roost.v1.Peer`` wants one instead of the token.
    """

    def __init__(self, token: str = "", *, mutual: bool = False) -> None:
        self._bearer = f"Bearer {token}".encode() if token else b""
        self._mutual = mutual
        self._refusing = ""
        self._ended = ""
        self._running: set[asyncio.Task[Any]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    def guard(self, service: Any) -> Guarded:
        """``service`` with every method guarded."""
        mapping: Mapping[str, Handler] = service.__mapping__()
        return Guarded({path: self._guard(path, handler) for path, handler in mapping.items()})

    def refuse(self, reason: str) -> None:
        """Answer every new call but those of health and of peers with Unavailable."""
        self._refusing = reason

    async def wait_idle(self, timeout_s: float) -> bool:
        """Wait until no guarded call runs (links between hosts and health checks do not count);
        whether that came within ``timeout_s`` seconds."""
        if not self._running:
            return True
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def end_calls(self, reason: str) -> None:
        """Cancel every guarded call that runs; its caller gets OutcomeUnknown."""
        self._ended = reason
        for task in self._running:
            task.cancel()

    def _guard(self, path: str, handler: Handler) -> Handler:
        service, serve = path.split("/")[1], handler.func
        if OPEN_TO_ALL & {service, path}:
            admit = _anyone
        elif service == PEER:
            admit = self._admit_peer
        else:
            admit, serve = self._admit_client, self._counted(serve)

        async def guarded(stream: Any) -> None:
            try:
                admit(stream)
                await serve(stream)
            except RoostError as exc:
                await _end(stream, exc)
            except (GRPCError, StreamTerminatedError, H2Error):
                raise
            except Exception:
                log.exception("%s failed", path)
                await _end(stream, RoostError(f"internal error in {path}"))

        return handler._replace(func=guarded)

    def _counted(self, serve: _HandlerFn) -> _HandlerFn:
        async def counted(stream: Any) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._running.add(task)
            self._idle.clear()
            try:
                await serve(stream)
            except asyncio.CancelledError:
                if not self._ended:
                    raise
                raise OutcomeUnknown(f"{self._ended} while the call ran") from None
            finally:
                self._running.discard(task)
                if not self._running:
                    self._idle.set()

        return counted

    def _admit_client(self, stream: Any) -> None:
        self._check_token(stream)
        if self._refusing:
            raise Unavailable(self._refusing)

    def _admit_peer(self, stream: Any) -> None:
        if not self._mutual:
            self._check_token(stream)
        elif not stream.peer.cert():
            raise Unauthenticated("hosts must show a certificate here (mutual TLS)")

    def _check_token(self, stream: Any) -> None:
        if not self._bearer:
            return
        shown = str(stream.metadata.get("authorization", ""))
        if not hmac.compare_digest(shown.encode(), self._bearer):
            what = "a wrong token" if shown else "no token"
            raise Unauthenticated(f"{what}: send metadata 'authorization: Bearer TOKEN'")


class Guarded:
    """A service for a grpclib server, made of guarded handlers."""

    def __init__(self, mapping: dict[str, Handler]) -> None:
        self._mapping = mapping

    def __mapping__(self) -> dict[str, Handler]:
        return self._mapping


def _anyone(stream: Any) -> None:
    pass


async def _end(stream: Any, error: RoostError) -> None:
    ending = status.trailers(error)
    try:
        await stream.send_trailing_metadata(
            status=ending.status, status_message=ending.message, metadata=ending.metadata
        )
    except H2Error:
        pass  # the caller has gone
