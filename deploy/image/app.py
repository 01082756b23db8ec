"""The app of an image that has no agents of its own yet: it greets, so that there is a call to try.

Yours replaces it: ``ENV ROOST_APP=my_agents`` in an image ``FROM rustic-ai/agent-host``.
"""

from __future__ import annotations

from actors import Actor, handler


class Hello(Actor):
    """``roost ask Hello/world greet`` answers from wherever the cluster put it."""

    @handler
    async def greet(self) -> str:
        return f"hello from {self.id}"
