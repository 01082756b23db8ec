"""The answers that the actors must give, computed plainly: one process, one loop, no actors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.demo.corpus import File, count_words

#: A document that has some of the words, and how often it has them.
Hit = tuple[str, dict[str, int]]


class PlainLibrary:
    """All files, counted here and now."""

    def __init__(self, files: Iterable[File]) -> None:
        self._counts = {file.name: count_words(file.data) for file in files}

    def search(self, words: Sequence[str], among: Iterable[str]) -> list[Hit]:
        """The hits among the documents of those names, in their order."""
        hits = []
        for name in among:
            counts = self._counts[name]
            found = {word: counts[word] for word in words if word in counts}
            if found:
                hits.append((name, found))
        return hits
