"""Durable actors: names and bounds of their specs, and when reminders are due (rule 17). A decision
module: pure.

Times are whole milliseconds of the registry's own clock. The Redis scripts say the same in Lua.
"""

from __future__ import annotations

from placement.ring import stable_hash

SPEC_BYTES_MAX = 65_536
REMINDER_S_MAX = 100 * 365.25 * 86_400


def check_spec(spec: bytes) -> bytes:
    """``spec``; raises ValueError if it is above SPEC_BYTES_MAX."""
    if len(spec) > SPEC_BYTES_MAX:
        raise ValueError(f"a spec has at most {SPEC_BYTES_MAX} bytes, not {len(spec)}")
    return spec


def spec_name(actor: str) -> str:
    """The name by which durable actors sort by ``stable_hash``: 16 hex digits, then the actor."""
    return f"{stable_hash(actor):016x} {actor}"


def name_bounds(first: int, last: int) -> tuple[str, str]:
    """Below which text no spec name of a hash range (inclusive) sorts, and above which."""
    return f"{first:016x}", f"{last:016x}!"  # "!" comes right after the space in a name


def reminder_id(actor: str, name: str) -> str:
    """One text for both, that of no other pair: any character may be in either."""
    return f"{len(actor.encode())}:{actor}{name}"


def delay_ms(delay_s: float) -> int:
    """How long until a reminder is due; raises ValueError outside 0 to REMINDER_S_MAX."""
    if not 0 <= delay_s <= REMINDER_S_MAX:
        raise ValueError(f"a reminder waits between 0 and {REMINDER_S_MAX:.0f} s, not {delay_s}")
    return round(delay_s * 1000)


def period_ms(every_s: float) -> int:
    """How often a reminder repeats, 0 for never; raises ValueError like ``delay_ms``."""
    return max(1, delay_ms(every_s)) if every_s else 0


def first_due_ms(now_ms: int, after_ms: int, earlier_ms: int | None) -> int:
    """When a reminder that is set now is due: never when the one it replaces was, for the due time
    tells the two apart when one is reported as fired."""
    due_ms = now_ms + after_ms
    return due_ms + 1 if due_ms == earlier_ms else due_ms


def next_due_ms(due_ms: int, every_ms: int, now_ms: int) -> int:
    """When a reminder that was due at ``due_ms`` is due again: a whole number of periods later,
    and after now."""
    periods = max(1, (now_ms - due_ms) // every_ms + 1)
    return due_ms + periods * every_ms
