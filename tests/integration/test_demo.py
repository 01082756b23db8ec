"""The demo on few documents: it ends well, it can fail, and it leaves no process behind."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest
import trio
import trio.testing

import actors
from bench.demo.answers import PlainLibrary
from bench.demo.app import Document, Library
from bench.demo.corpus import DOCUMENTS_MIN, File, collect, count_words
from bench.demo.job import HALF_WAY, QUESTIONS, Job, Tally
from bench.demo.screen import Screen
from wire.errors import OutcomeUnknown

NOT_UTF8 = b"# caf\xe9: import The lock\nimport lock_file\n"
FILES = [File("latin.py", NOT_UTF8), File("empty.py", b""), File("other.py", b"class The: pass")]


# The whole of it, in processes --------------------------------------------------------------


@contextmanager
def demo() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "bench.demo", "--documents", "64"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_demo_ends_well_though_a_host_is_killed_half_way() -> None:
    with demo() as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    before, kill, after = output.partition("SIGKILL to host-")
    assert kill
    assert before.count(" equal\n") == HALF_WAY - 1
    assert "3 to 5 hosts: " in before
    after, moved, last = after.partition("4 to 3 hosts: ")
    assert moved
    after += last
    assert after.count(" equal\n") == len(QUESTIONS) - HALF_WAY + 1
    table = dict(re.findall(r"^  (\w[\w ]*?)  +(\S.*)$", after, re.MULTILINE))
    assert table["documents"].startswith("64 ")
    assert table["hosts"] == "3, then 5, one of them killed, then 3 again"
    for change in ("from 3 to 5 hosts", "from 4 to 3 hosts"):
        assert table[change].endswith("; 0 calls failed"), table
    assert float(table["recovery time"].split(" ")[0]) > 1.0  # no sooner than the lease allows
    answers, _, verdict = table["answers"].partition(", ")
    assert int(answers) >= len(QUESTIONS)
    assert verdict == "all equal to those of one plain process"
    assert {"calls", "calls per second", "failed calls"} <= table.keys()
    assert "\x1b" not in output  # it is no terminal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_demo_leaves_no_process_behind_when_stopped_by(number: signal.Signals) -> None:
    with demo() as process:
        assert process.stdout is not None
        next(line for line in process.stdout if "hosts up" in line)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 4  # Redis and three hosts
        process.send_signal(number)
        status = process.wait(timeout=20)
    assert status == (-number if number == signal.SIGKILL else 128 + number)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert [child for child in alive if child.status() != psutil.STATUS_ZOMBIE] == []


# Its parts ----------------------------------------------------------------------------------


async def test_the_actors_answer_as_the_plain_library_does_also_for_files_not_in_utf8() -> None:
    async with actors.open_system() as system:
        library = system.ref(Library, "a")
        for file in FILES:
            await system.ref(Document, file.name).read(file.data)
        names = [file.name for file in FILES]
        assert await library.add(names) == len(FILES)
        assert await library.add(names) == len(FILES)  # once each
        for words in (["the"], ["import", "lock"], ["lock_file"], ["absent"], []):
            hits = [hit async for hit in library.search(words)]
            assert hits == PlainLibrary(FILES).search(words, names)


def test_a_word_is_a_run_of_ascii_letters_and_underscores_in_lower_case() -> None:
    assert count_words(NOT_UTF8) == {"caf": 1, "import": 2, "the": 1, "lock": 1, "lock_file": 1}


def test_the_corpus_is_the_standard_library_filled_up_to_1500_files_of_distinct_names() -> None:
    names = [file.name for file in collect()]
    assert {"argparse.py", "json/decoder.py"} <= set(names)
    assert len(names) >= DOCUMENTS_MIN
    assert len(set(names)) == len(names)
    assert [file.name for file in collect(5)] == names[:5]


class FakeCluster:
    """Answers from a plain library of its own; the stream under way breaks with the kill."""

    def __init__(self, library: PlainLibrary) -> None:
        self.killed: list[str] = []
        self.catalogue: list[str] = []
        self._library = library

    def kill(self, name: str) -> None:
        self.killed.append(name)

    def living(self) -> list[str]:
        return ["host-7", "host-8"]

    async def start(self, count: int) -> None: ...

    async def drain(self, name: str) -> None: ...

    async def locate(self, kind: str, key: str) -> Any:
        return SimpleNamespace(host_id="host-7")

    async def ask(self, kind: str, key: str, method: str, argument: Any) -> None:
        if method == "add":
            self.catalogue += argument

    async def list(self, kind: str, *, limit: int, cursor: str) -> tuple[tuple[()], str]:
        return (), ""

    @asynccontextmanager
    async def stream(
        self, kind: str, key: str, method: str, words: Sequence[str]
    ) -> AsyncIterator[AsyncIterator[Any]]:
        yield self._hits(words, len(self.killed))

    async def _hits(self, words: Sequence[str], killed_before: int) -> AsyncIterator[Any]:
        for hit in self._library.search(words, self.catalogue):
            yield hit
            if len(self.killed) > killed_before:
                raise OutcomeUnknown("the host is gone")


async def tally_of(library: PlainLibrary, files: list[File]) -> tuple[Tally, FakeCluster]:
    fake, out = FakeCluster(library), io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    job = Job(cast(Any, fake), cast(Any, fake), files, PlainLibrary(files), Screen(out))
    return await job.run(), fake


async def test_a_call_that_a_kill_broke_is_counted_and_made_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    files = [File(f"{n}.py", b"import def the") for n in range(32)]
    tally, fake = await tally_of(PlainLibrary(files), files)
    assert fake.killed == ["host-7"]
    assert tally.failed == {"OutcomeUnknown": 1}
    assert tally.answers >= len(QUESTIONS)
    assert tally.documents == 32
    assert tally.is_good


async def test_one_count_that_is_wrong_fails_the_demo(
    autojump_clock: trio.testing.MockClock,
) -> None:
    files = [File(f"{n}.py", b"import def the") for n in range(32)]
    wrong = [*files[:-1], File("31.py", b"import import def the")]
    tally, _ = await tally_of(PlainLibrary(wrong), files)
    assert tally.unequal == ["import def class return"]
    assert not tally.is_good


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_lines_stay_above_the_bar_which_goes_in_the_end() -> None:
    out = Terminal()
    screen = Screen(out)
    screen.progress(1, 2, "files")
    screen.say("a line")
    screen.end_progress()
    painted = out.getvalue().split("\r\x1b[K")
    bar = "  " + "█" * 15 + "░" * 15 + "  1 of 2 files"
    assert painted == ["", bar, f"a line\n{bar}", ""]


def test_on_no_terminal_there_is_no_bar() -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    screen = Screen(out)
    screen.progress(1, 2, "files")
    screen.say("a line")
    screen.end_progress()
    out.seek(0)
    assert out.read() == "a line\n"
