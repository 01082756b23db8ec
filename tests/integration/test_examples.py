"""The examples of docs/examples: each runs as it says, and type checkers accept it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from mypy import api

import actors
from deploy import app, embedded
from tests.integration.shell import ROOT, environment

EXAMPLES = ROOT / "docs" / "examples"


def run(*command: str) -> str:
    """What it prints; it must end well."""
    done = subprocess.run(
        [sys.executable, *command], env=environment(), cwd=ROOT, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("name", "prints"),
    [
        ("chat.py", "['hello', 'is anybody here?']\nnobody listens any more\n"),
        (
            "agent.py",
            "all about actors\nno luck: PermissionError: secret plans\n"
            "reminded: morning\nended: stopped\n",
        ),
        ("bank.py", "70 30\nActorError: ValueError: ada has only 70\n"),
    ],
)
def test_a_local_example_prints_what_it_should(name: str, prints: str) -> None:
    assert run(str(EXAMPLES / name)) == prints


def test_the_example_of_a_host_inside_asyncio_serves_and_leaves() -> None:
    with embedded.serve() as redis:
        embedded.settle(redis.url, "default")
        assert run(str(EXAMPLES / "web.py"), redis.url) == "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]\n"


def test_the_example_tests_pass() -> None:
    options = ("-q", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"))
    assert "2 passed" in run("-m", "pytest", *options, str(EXAMPLES / "test_account.py"))


def test_type_checkers_accept_the_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYPYPATH", str(EXAMPLES))
    files = [str(path) for path in sorted(EXAMPLES.glob("*.py"))]
    options = ("--strict", "--config-file", str(ROOT / "pyproject.toml"))
    out, err, status = api.run([*options, *files])
    assert (status, err) == (0, ""), out


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("chat.py", {"Room"}),
        ("agent.py", {"Agent", "Search"}),
        ("bank.py", {"Account", "Transfer"}),
    ],
)
def test_an_example_is_an_app_for_roost_up(
    name: str, kinds: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", sys.path[:])
    found = app.load_app(str(Path("docs") / "examples" / name))
    assert {kind.__name__ for kind in found} == kinds


def test_a_host_without_redis_fails_with_one_short_error() -> None:
    async def main() -> None:
        config = actors.HostConfig(redis_url="redis://127.0.0.1:1/0", bind="127.0.0.1", port=0)
        async with actors.open_host(config):
            raise AssertionError("it has no Redis")

    one_line = r"^Redis at 127.0.0.1:1: [^\n]*: start it, or set redis_url[^\n]*$"
    with pytest.raises(actors.Unavailable, match=one_line) as caught:
        actors.run(main)
    assert caught.value.__context__ is None or caught.value.__suppress_context__
