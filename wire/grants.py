"""How many items a slow stream client lets its producer run ahead. A decision module: pure."""

from __future__ import annotations

ITEMS_START = 2
ITEMS_MAX = 64
WINDOW_BYTES = 1 << 20


class GrantWindow:
    """Counts what is granted and not yet taken; keeps it near WINDOW_BYTES by the items' sizes.

    Small items run up to ITEMS_MAX ahead, items over WINDOW_BYTES one at a time; before a size
    is known, ITEMS_START.
    """

    def __init__(self) -> None:
        self._ahead = 0
        self._item_bytes = 0

    def start(self) -> int:
        """What to grant at first."""
        self._ahead = ITEMS_START
        return ITEMS_START

    def taken(self, size_bytes: int) -> int:
        """The client has taken an item of that size: how many more to grant now, maybe 0."""
        self._ahead -= 1
        # The largest seen, slowly forgotten: one large item among many must not be the rule.
        self._item_bytes = max(size_bytes, self._item_bytes * 15 // 16, 1)
        target = min(ITEMS_MAX, max(1, WINDOW_BYTES // self._item_bytes))
        if 2 * self._ahead > target:
            return 0
        more = target - self._ahead
        self._ahead += more
        return more
