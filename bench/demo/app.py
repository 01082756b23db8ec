"""The actors of the demo: every file is a Document, and the Library asks all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import trio

from actors import Actor, handler
from bench.demo.corpus import count_words

#: Documents that the Library asks at the same time.
AT_ONCE = 100


class Words(msgspec.Struct):
    counts: dict[str, int] = {}


class Document(Actor, persist="turn"):
    """One file. What it has acknowledged survives the death of its host: ``persist="turn"``."""

    state: Words

    @handler(idempotent=True)
    def read(self, data: bytes) -> int:
        """Count the words of ``data``; how many there are."""
        self.state.counts = count_words(data)
        return sum(self.state.counts.values())

    @handler(idempotent=True)
    def count(self, words: list[str]) -> dict[str, int]:
        """How often each of ``words`` occurs here; without those that do not."""
        counts = self.state.counts
        return {word: counts[word] for word in words if word in counts}


class Catalogue(msgspec.Struct):
    names: list[str] = []


class Library(Actor, persist="turn"):
    """Knows the names of the documents, and puts each question to all of them."""

    state: Catalogue

    @handler(idempotent=True)
    def add(self, names: list[str]) -> int:
        """Take documents into the catalogue, once each; how many it has now."""
        self.state.names = list(dict.fromkeys(self.state.names + names))
        return len(self.state.names)

    @handler
    async def search(self, words: list[str]) -> AsyncIterator[tuple[str, dict[str, int]]]:
        """Each document that has any of ``words``, with its counts, in the catalogue's order."""
        names = self.state.names
        for start in range(0, len(names), AT_ONCE):
            shelf = names[start : start + AT_ONCE]
            for name, counts in zip(shelf, await self._ask_all(shelf, words), strict=True):
                if counts:
                    yield name, counts

    async def _ask_all(self, names: list[str], words: list[str]) -> list[dict[str, int]]:
        found: list[dict[str, int]] = [{}] * len(names)

        async def ask(n: int) -> None:
            found[n] = await self.system.ref(Document, names[n]).count(words)

        async with trio.open_nursery() as nursery:
            for n in range(len(names)):
                nursery.start_soon(ask, n)
        return found
