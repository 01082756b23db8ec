"""What a crash does to an actor: reason in, directive out. A decision module: pure.

Source: the restart intensity of OTP supervisors, (count, window), with exponential backoff.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from actors.kinds import KindOptions


class Restart(NamedTuple):
    """Start the actor again after that many seconds, from its saved state."""

    after_s: float


class Stop(NamedTuple):
    """Stop the actor as failed; its watchers hear Terminated."""

    why: str


class Escalate(NamedTuple):
    """Stop the actor, and let whoever spawned it crash in turn."""

    why: str


Directive = Restart | Stop | Escalate | None


def is_actors_own(exc: BaseException) -> bool:
    """Whether what its code raised is for the actor to bear, not for its host: not Ctrl-C, not a
    cancellation, but ``sys.exit()``, which some library meant for a program of its own."""
    if isinstance(exc, BaseExceptionGroup):
        return all(is_actors_own(each) for each in exc.exceptions)
    return isinstance(exc, (Exception, SystemExit))


def after_handler_error(options: KindOptions, crashes: Sequence[float], now: float) -> Directive:
    """What a handler's exception asks for; None: the actor carries on."""
    if options.on_error == "resume":
        return None
    if options.on_error == "restart":
        return after_crash(options, crashes, now)
    if options.on_error == "escalate":
        return Escalate("a handler raised, and its kind escalates")
    return Stop("a handler raised, and its kind stops on errors")


def after_crash(options: KindOptions, crashes: Sequence[float], now: float) -> Directive:
    """What a crash of ``run()`` or a background task at ``now`` asks for.

    ``crashes`` are the times (seconds) of the earlier ones.
    """
    recent = [at for at in crashes if now - at < options.restart_window_s]
    if len(recent) >= options.restarts_max:
        return Stop(
            f"crashed {len(recent) + 1} times within {options.restart_window_s:g} s "
            f"(restarts_max={options.restarts_max})"
        )
    return Restart(min(options.backoff_s * 2 ** len(recent), options.backoff_max_s))
