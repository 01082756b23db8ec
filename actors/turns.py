"""Turns: one message's handler, from its arguments to its answer.

Which message is next says activation.py, whose task it runs in workers.py.
"""

from __future__ import annotations

import logging
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from actors.codec import encode
from actors.foreign import ChildRaised, Encoded
from actors.incoming import CURRENT, InCall, Internal, RowInCall
from actors.kinds import SPAWN
from actors.phase import Phase
from actors.rows import PASS_S, TOLD_PER_LOOK, TOLD_PER_PASS
from actors.supervision import is_actors_own
from wire.errors import ActorError, NotDelivered, OutcomeUnknown, RoostError, Unavailable
from wire.items import Mode

if TYPE_CHECKING:
    from actors.activation import Activation
    from actors.workers import Worker

#: In a message's headers: the actor is (to be) durable.
DURABLE = "roost-durable"
#: In the DURABLE header of a spec that is delivered once more, unasked.
AGAIN = "again"

SAVE_RETRY_S = 0.1
TURNS_PER_CHECKPOINT = 32

_ASK = Mode.ASK
_ACTIVE = Phase.ACTIVE

log = logging.getLogger("roost.actors")


def makes_durable(call: InCall) -> bool:
    """Whether the message makes its actor durable, rather than bringing one back that is."""
    if call.method != SPAWN or call.headers is None:
        return False
    return call.headers.get(DURABLE, AGAIN) != AGAIN


async def run_turns(activation: Activation, worker: Worker) -> None:
    """Run the handlers of its messages and answer their callers, until none is due or one has
    been cancelled. Raises nothing but cancellation.

    A message stays the task's CURRENT one, until its next turn or the worker's end of it. All in
    one coroutine: another for each turn would cost a tenth of it.
    """
    active = activation.active
    is_bare = activation.system.interceptors is None and activation.child is None
    turns = 0
    while not worker.is_cancelled:
        if turns >= TURNS_PER_CHECKPOINT:
            turns = 0
            await trio.lowlevel.cancel_shielded_checkpoint()
            continue
        if is_bare and activation.row is not None and (ran := await _run_row(activation, worker)):
            turns += ran
            continue
        call = activation.next_turn()
        if call is None:
            break
        call.worker = worker
        active.append(call)
        CURRENT.set(call)
        try:
            if not (is_bare and call.is_plain):
                await _run(activation, call)
            else:
                spec = call.spec  # decoded here: one call less for each turn
                try:
                    args, kwargs = spec.signature.decode(call.content, call.payload)
                except RoostError as exc:
                    mistaken(call, exc)
                else:
                    result = (
                        spec.function(activation.actor, *args, **kwargs)
                        if kwargs
                        else spec.function(activation.actor, *args)
                    )
                    if spec.is_async:
                        result = await result
                    if call.mode != _ASK:
                        call.reply(call.content, b"")  # nobody hears what a tell returns
                    elif activation.system.is_serving():
                        call.reply(call.content, _encode_result(activation, call, result))
        except BaseException as exc:
            if not _is_dealt_with(activation, call, exc):
                raise
            await trio.lowlevel.checkpoint_if_cancelled()
        finally:
            call.worker = None
            active.remove(call)
        turns += 1


async def _run_row(activation: Activation, worker: Worker) -> int:
    """Run what has been told in a row and is due now, until anything asks for a closer look;
    returns how many turns that were. Each means what it means in ``run_turns``, at half the cost.

    Whatever could run beside these turns, or waits for room, has ended the row when it came. The
    turns share one in-call, until somebody has got hold of it: then it has a token.
    """
    row, active, system = activation.row_due(), activation.active, activation.system
    if row is None or active:
        return 0
    spec, payloads = row.spec, row.payloads
    exact = spec.signature.exact
    if exact is None or not spec.is_plain:
        return 0
    actor, function, is_async = activation.actor, spec.function, spec.is_async
    is_one = spec.signature.is_one  # to spread one argument would cost a tenth of the turn
    call = RowInCall(activation, spec.name, b"", worker=worker)
    turns, is_serving = 0, system.is_serving
    pass_due = system.now() + PASS_S
    active.append(call)
    CURRENT.set(call)
    try:
        while payloads and activation.phase is _ACTIVE and is_serving():
            payload = payloads.popleft()
            try:
                args = exact(payload)
            except (msgspec.MsgspecError, ValueError, RecursionError, RoostError):
                payloads.appendleft(payload)  # a default, or a mistake: the longer way tells
                break
            turns += 1
            result = function(actor, args[0]) if is_one else function(actor, *args)
            if is_async:
                await result
            if call.known_as or worker.is_cancelled:
                break
            if not turns % TOLD_PER_LOOK and (turns >= TOLD_PER_PASS or system.now() >= pass_due):
                break
    except BaseException as exc:
        if not _is_dealt_with(activation, call, exc):
            raise
        await trio.lowlevel.checkpoint_if_cancelled()
    finally:
        call.done = True
        call.worker = None
        active.remove(call)
    return turns


def _is_dealt_with(activation: Activation, call: InCall, exc: BaseException) -> bool:
    """What a turn raised has been told to its caller; False when it is not the actor's own, so
    the worker's to raise."""
    if isinstance(exc, (Exception, SystemExit)):
        _raised(activation, call, exc)
        return True
    if isinstance(exc, BaseExceptionGroup):
        rest = _own_part(activation, call, exc)
        if rest is not None:
            _raised(activation, call, rest)
        return rest is not None
    if isinstance(exc, trio.Cancelled):
        where = f"{activation.id}.{call.method}"
        call.fail(OutcomeUnknown(f"{where} was cancelled: its actor stopped"))
    return False


def _own_part(
    activation: Activation, call: InCall, exc: BaseExceptionGroup[BaseException]
) -> BaseExceptionGroup[BaseException] | None:
    """What a turn raised while it cleaned up after its cancellation; None, and its caller has
    been told, when nothing of it is the actor's own."""
    _, rest = exc.split(trio.Cancelled)
    if rest is None or not is_actors_own(rest):
        call.fail(OutcomeUnknown(f"{activation.id}.{call.method} was cancelled"))
        return None
    return rest


def _raised(activation: Activation, call: InCall, exc: BaseException) -> None:
    if call.mode == Mode.TELL:
        log.error("%s.%s raised, and nobody waits for it", activation.id, call.method, exc_info=exc)
    call.fail(_actor_error(exc))
    activation.system.lifecycle.handler_raised(activation, exc)


async def _run(activation: Activation, call: InCall) -> None:
    if isinstance(call, Internal):
        await call.function()
        return
    arguments = _arguments(call)
    if arguments is None:
        return
    interceptors = activation.system.interceptors
    if interceptors is not None:
        result = await interceptors.around_turn(activation, call, *arguments)
    else:
        result = await invoke(activation, call, *arguments)
    is_heard = call.mode == Mode.ASK  # a stream's items have gone, and nobody hears a tell's
    payload = _encode_result(activation, call, result) if is_heard else b""
    if activation.kind.options.persist == "turn" and not await _is_saved(activation, call):
        return
    if call.method == SPAWN and call.headers is not None and DURABLE in call.headers:
        try:
            await activation.system.durables.keep(activation, call.content, call.payload)
        except (NotDelivered, Unavailable) as exc:
            call.fail(OutcomeUnknown(f"{activation.id} runs, but may not be durable: {exc}"))
            return
    if call.mode == Mode.TELL or activation.system.is_serving():
        call.reply(call.content, payload)


def _arguments(call: InCall) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """What the handler is called with; None when the caller has been told what is wrong."""
    try:
        return call.spec.signature.decode(call.content, call.payload)
    except RoostError as exc:
        mistaken(call, exc)
        return None


async def invoke(
    activation: Activation, call: InCall, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Call the handler; returns its result, or None once its stream has ended."""
    spec = call.spec
    if activation.child is not None:
        result = activation.child.invoke(call)
        return await (_stream(activation, call, result) if spec.mode is Mode.STREAM else result)
    if spec.mode is Mode.STREAM:
        await _stream(activation, call, spec.function(activation.actor, *args, **kwargs))
        return None
    if activation.kind.options.isolation == "thread" and not spec.is_async:
        function = partial(spec.function, activation.actor, *args, **kwargs)
        return await activation.run_blocking(function)
    result = spec.function(activation.actor, *args, **kwargs)
    return await result if spec.is_async else result


async def _is_saved(activation: Activation, call: InCall) -> bool:
    """Save what the turn changed, as soon as the registry can be reached within the lease
    and the call's deadline; without that its caller must not take it for done."""
    while True:
        try:
            await activation.system.lifecycle.save(activation)
            return True
        except (NotDelivered, Unavailable) as exc:
            why = f"{activation.id}.{call.method} ran, but its state is not saved: {exc}"
            if isinstance(exc, NotDelivered) or not activation.system.is_serving():
                call.fail(OutcomeUnknown(why))
                return False
            log.warning("%s", why)
        await trio.sleep(SAVE_RETRY_S)


async def _stream(activation: Activation, call: InCall, items: Any) -> None:
    try:
        async for item in items:
            payload = _encode_result(activation, call, item)
            await call.wait_credit()
            if call.done or not activation.system.is_serving():
                break
            call.chunk(call.content, payload)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
            await items.aclose()


def _encode_result(activation: Activation, call: InCall, value: object) -> bytes:
    payload = value.payload if type(value) is Encoded else encode(call.content, value)
    if len(payload) > (limit := activation.system.config.payload_bytes_max):
        raise ValueError(
            f"{activation.id}.{call.method} returned {len(payload)} bytes; "
            f"payload_bytes_max is {limit}"
        )
    return payload


def mistaken(call: InCall, exc: RoostError) -> None:
    """Its caller hears of the mistake; of that of a tell, on which nobody waits, the log."""
    if call.mode == Mode.TELL:
        log.error("%s was told, and did not run: %s", call.activation.id, exc)
    call.fail(exc)


def _actor_error(exc: BaseException) -> RoostError:
    """What a handler raised, as its caller sees it.

    An error that Roost raised inside the handler keeps its type only as a name: it is about
    another call than the caller's.
    """
    if isinstance(exc, ChildRaised):
        return exc.error
    text = "".join(traceback.format_exception(exc))
    if len(text) > 8_000:
        text = text[:2_000] + "\n...\n" + text[-6_000:]
    return ActorError(_message(exc)[:4_000], {"type": type(exc).__name__, "traceback": text})


def _message(exc: BaseException) -> str:
    """A group's own message says nothing of what went wrong: that of its members does."""
    if not isinstance(exc, BaseExceptionGroup):
        return str(exc)
    inside = "; ".join(f"{type(each).__name__}: {_message(each)}" for each in exc.exceptions)
    return f"{exc} [{inside}]"
