"""What holds for all tests: none changes asyncio for those after it."""

from __future__ import annotations

import sys

import pytest

_blamed = False


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Importing trio_asyncio patches asyncio for the whole process: later tests would hang."""
    global _blamed
    if "trio_asyncio" in sys.modules and not _blamed:
        _blamed = True
        pytest.fail(f"{item.name} imports trio_asyncio: give it a process of its own")
