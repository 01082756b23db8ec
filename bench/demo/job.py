"""The work of the demo: fill the library, ask it, lose a host half way, compare every answer.

The files come in shelves. While one shelf is read into its Document actors, the Library answers a
question about all the shelves before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

import trio

from bench.demo.answers import Hit, PlainLibrary
from bench.demo.cluster import Cluster
from bench.demo.corpus import File
from bench.demo.screen import Screen
from wire.errors import DeadlineExceeded, NotDelivered, OutcomeUnknown, Unavailable
from wire.trio_client import TrioClient

T = TypeVar("T")

#: The key of the one Library actor.
LIBRARY = "main"
#: Words to look for: one question for each shelf that the library has.
QUESTIONS = (
    "import", "lock thread", "class self", "async await", "license copyright", "json decode",
    "return none", "def the", "socket timeout", "raise error", "yield", "unicode utf",
    "test assert", "file path open", "lambda", "import def class return",
)  # fmt: skip
HALF_WAY = len(QUESTIONS) // 2
#: When two hosts more join, and when one leaves so that as many are left as at the beginning.
GROW_AT, SHRINK_AT = 7, 12
GROW_BY = 2
#: A change of hosts has settled when no document has moved for so long.
SETTLED_S = 1.5
SETTLE_LIMIT_S = 30.0
PAUSE_S = 0.01
FILES_AT_ONCE = 16
RETRY_S = 0.05
REPAINT_S = 0.1

#: How a call may end when a host is lost. Each call of this job may then be made again: to read
#: a file twice, to add a name twice, or to ask twice changes nothing.
LOST = (NotDelivered, OutcomeUnknown, Unavailable, DeadlineExceeded)


@dataclass
class Move:
    """A planned change of the number of hosts: how many documents moved, against the ideal share,
    and the calls that failed meanwhile."""

    what: str
    moved: int
    ideal: int
    failed: int


@dataclass
class Tally:
    """What has happened, for the table. Times in seconds."""

    documents: int = 0
    calls: int = 0  # answered ones; those that the Library made for an answer count too
    answers: int = 0
    unequal: list[str] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)  # by the error's name
    homes: Counter[str] = field(default_factory=Counter)  # documents by host, at the end
    moves: list[Move] = field(default_factory=list)
    killed_at_s: float | None = None  # on Trio's clock
    recovery_s: float | None = None
    elapsed_s: float = 0.0

    @property
    def is_good(self) -> bool:
        """Every answer was equal, a host was lost on the way, and no planned move failed a call."""
        moved_well = not any(move.failed for move in self.moves)
        return not self.unequal and self.recovery_s is not None and moved_well


class Job:
    """One run of the work, by a client of ``cluster``."""

    def __init__(
        self, client: TrioClient, cluster: Cluster, files: Sequence[File], plain: PlainLibrary,
        screen: Screen,
    ) -> None:  # fmt: skip
        self.tally = Tally()
        self._client = client
        self._cluster = cluster
        self._home = ""  # the host that is going to be killed: the Library's
        self._files = files
        self._plain = plain
        self._screen = screen
        self._catalogue: list[str] = []
        self._kill_next = False

    async def run(self) -> Tally:
        """Do all of it."""
        began_s = trio.current_time()
        first, *others = _split(self._files, len(QUESTIONS))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._show_progress, began_s)
            await self._fill(first)
            await self._catalogue_all(first)
            for n, (question, shelf) in enumerate(zip(QUESTIONS, [*others, []], strict=True), 1):
                if n == GROW_AT:
                    await self._grow()
                elif n == HALF_WAY:
                    self._home = await self._library()
                    self._kill_next = True
                elif n == SHRINK_AT:
                    await self._shrink()
                await self._ask_and_fill(question, shelf)
                await self._catalogue_all(shelf)
            nursery.cancel_scope.cancel()
        self._screen.end_progress()
        self.tally.elapsed_s = trio.current_time() - began_s
        self.tally.homes = Counter((await self._homes()).values())
        return self.tally

    async def _ask_and_fill(self, question: str, shelf: Sequence[File]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ask, question)
            nursery.start_soon(self._fill, shelf)

    # Files --------------------------------------------------------------------------------

    async def _fill(self, shelf: Sequence[File]) -> None:
        """Give each file to its Document."""
        limiter = trio.CapacityLimiter(FILES_AT_ONCE)

        async def give(file: File) -> None:
            async with limiter:
                await self._until_answered(
                    lambda: self._client.ask("Document", file.name, "read", file.data)
                )
            self.tally.documents += 1

        async with trio.open_nursery() as nursery:
            for file in shelf:
                nursery.start_soon(give, file)

    async def _catalogue_all(self, shelf: Sequence[File]) -> None:
        """Tell the Library of a full shelf."""
        names = [file.name for file in shelf]
        await self._until_answered(lambda: self._client.ask("Library", LIBRARY, "add", names))
        self._catalogue += names

    async def _homes(self) -> dict[str, str]:
        """Where each document lives."""
        found: dict[str, str] = {}
        cursor = ""
        while True:
            page, cursor = await self._client.list("Document", limit=1_000, cursor=cursor)
            found |= {document.actor.key: document.host_id for document in page}
            if not cursor:
                return found

    # Hosts that come and go ---------------------------------------------------------------

    async def _library(self) -> str:
        """The host that runs the Library now."""
        home: str = (await self._client.locate("Library", LIBRARY)).host_id
        return home

    async def _grow(self) -> None:
        """Two hosts more: each of them gets its share of the documents."""
        hosts = len(self._cluster.living())
        what = f"{hosts} to {hosts + GROW_BY} hosts"
        homes = await self._homes()
        ideal = len(homes) * GROW_BY // (hosts + GROW_BY)
        await self._change(what, homes, ideal, lambda: self._cluster.start(GROW_BY))

    async def _shrink(self) -> None:
        """One host leaves, not the one that runs the Library now: all it has goes elsewhere."""
        homes = await self._homes()
        library = await self._library()
        hosts = self._cluster.living()
        name = next(name for name in reversed(hosts) if name != library)
        ideal = sum(home == name for home in homes.values())
        what = f"{len(hosts)} to {len(hosts) - 1} hosts"
        await self._change(what, homes, ideal, lambda: self._cluster.drain(name))

    async def _change(
        self, what: str, before: dict[str, str], ideal: int, change: Callable[[], Awaitable[None]]
    ) -> None:
        """Make a planned change under load: the questions go on until it has settled."""
        failed = self.tally.failed.total()
        settled = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._until_settled, change, settled)
            while not settled.is_set():
                await self._ask(QUESTIONS[0], is_quiet=True)
                await trio.sleep(PAUSE_S)
        after = await self._homes()
        moved = sum(after.get(name) != home for name, home in before.items())
        move = Move(what, moved, ideal, self.tally.failed.total() - failed)
        self.tally.moves.append(move)
        self._screen.say(f"\n  {what}: {moved:,} documents moved, {move.failed} calls failed\n")

    async def _until_settled(
        self, change: Callable[[], Awaitable[None]], settled: trio.Event
    ) -> None:
        await change()
        last, since_s = await self._homes(), trio.current_time()
        with trio.move_on_after(SETTLE_LIMIT_S):
            while trio.current_time() < since_s + SETTLED_S:
                await trio.sleep(SETTLED_S / 5)
                homes = await self._homes()
                if homes != last:
                    last, since_s = homes, trio.current_time()
        settled.set()

    # Questions ----------------------------------------------------------------------------

    async def _ask(self, question: str, *, is_quiet: bool = False) -> None:
        """Have the Library answer, and compare; quietly: say nothing of an answer that is equal."""
        hits = await self._until_answered(lambda: self._search(question.split()))
        self.tally.calls += len(self._catalogue)
        self.tally.answers += 1
        verdict = self._screen.paint("equal", "green")
        if hits != self._plain.search(question.split(), self._catalogue):
            self.tally.unequal.append(question)
            verdict = self._screen.paint("NOT EQUAL", "red")
            is_quiet = False
        if not is_quiet:
            count = len(self._catalogue)
            self._screen.say(
                f"  {count:>6,} documents  {question:<25}{len(hits):>6,} hits  {verdict}"
            )

    async def _search(self, words: list[str]) -> list[Hit]:
        began_s = trio.current_time()
        hits: list[Hit] = []
        async with self._client.stream("Library", LIBRARY, "search", words) as stream:
            async for name, counts in stream:
                hits.append((name, counts))
                if self._kill_next:
                    self._kill()
        self._note_recovery(began_s)
        return hits

    async def _until_answered(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make the call, and again when it fails for a lost host; every failure counts."""
        while True:
            try:
                answer = await call()
            except LOST as exc:
                self.tally.failed[type(exc).__name__] += 1
                await trio.sleep(RETRY_S)
            else:
                self.tally.calls += 1
                return answer

    # The kill -----------------------------------------------------------------------------

    def _kill(self) -> None:
        """SIGKILL the host that is streaming an answer just now."""
        self._kill_next = False
        self._cluster.kill(self._home)
        self.tally.killed_at_s = trio.current_time()
        what = self._screen.paint(f"SIGKILL to {self._home}", "red")
        self._screen.say(f"\n  {what}, in the middle of an answer: the Library runs there\n")

    def _note_recovery(self, began_s: float) -> None:
        """Take the time when all documents answer a question that was put after the kill."""
        killed_at_s = self.tally.killed_at_s
        if self.tally.recovery_s is None and killed_at_s is not None and began_s >= killed_at_s:
            self.tally.recovery_s = trio.current_time() - killed_at_s

    # The bar ------------------------------------------------------------------------------

    async def _show_progress(self, began_s: float) -> None:
        while True:
            elapsed_s = trio.current_time() - began_s
            note = f"documents, {self.tally.answers} of {len(QUESTIONS)} answers, {elapsed_s:.0f} s"
            self._screen.progress(self.tally.documents, len(self._files), note)
            await trio.sleep(REPAINT_S)


def _split(files: Sequence[File], shelves: int) -> list[Sequence[File]]:
    """The files in order on so many shelves, as evenly as can be."""
    marks = [len(files) * n // shelves for n in range(shelves + 1)]
    return [files[start:end] for start, end in pairwise(marks)]
