"""What a shell gives and gets: arguments, tables, errors and their exit status."""

import errno
import io

import pytest

from deploy import failures, tables
from deploy.arguments import parse
from deploy.children import describe_exit
from placement.ports import RegistryMisconfigured, RegistryUnavailable
from wire.errors import ERRORS, ActorError, ConfigError, RoostError


@pytest.mark.parametrize(
    ("text", "positional", "named"),
    [
        ("", [], {}),
        ("  ", [], {}),
        ('{"n": 1}', [], {"n": 1}),
        ('[1, "a"]', [1, "a"], {}),
        ("[]", [], {}),
    ],
)
def test_an_object_is_by_name_and_an_array_by_position(text, positional, named):
    assert parse(text) == (positional, named)


@pytest.mark.parametrize("text", ["{n: 1}", "'a'", "{", "[" * 100_000, "\x00"])
def test_arguments_that_are_no_json_are_refused(text):
    with pytest.raises(ConfigError, match="not JSON"):
        parse(text)


@pytest.mark.parametrize("text", ["5", '"a"', "null", "true"])
def test_a_bare_value_is_refused_with_the_way_to_write_it(text):
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert f"write [{text}]" in str(caught.value)


def test_a_table_has_aligned_columns_and_no_trailing_blanks():
    assert tables.render(["host", "n"], [["host-1", "1"], ["b", ""]]) == ("HOST    N\nhost-1  1\nb")


def test_a_cell_cannot_forge_a_row_or_move_the_cursor():
    shown = tables.render(["a"], [["x\ny\x1b[2J"]])
    assert shown == "A\nx?y?[2J"


def test_colours_are_for_terminals_only(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert tables.paint("x", "red", Terminal()) == "\x1b[31mx\x1b[0m"
    assert tables.paint("x", "red", io.StringIO()) == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert tables.paint("x", "red", Terminal()) == "x"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0.0s"), (9.94, "9.9s"), (35.2, "35s"), (130, "2m"), (7300, "2h"), (400_000, "5d")],
)
def test_ages_are_short(seconds, shown):
    assert tables.age(seconds) == shown


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("x is wrong"), 2),
        (RegistryMisconfigured("x is wrong"), 2),
        (RegistryUnavailable("x is gone"), 2),
        (OSError(errno.EADDRINUSE, "Address already in use"), 2),
        (failures.CommandFailed("no", 7), 7),
        (KeyboardInterrupt(), 130),
        (ValueError("a bug"), 1),
    ],
)
def test_errors_have_their_exit_status(error, status):
    assert failures.explain(error).status == status


@pytest.mark.parametrize("cls", [cls for cls in ERRORS.values() if cls is not ConfigError])
def test_every_error_of_a_call_is_one_known_line_and_status_1(cls):
    failure = failures.explain(cls("two\nlines"))
    assert failure.status == 1
    assert failure.known
    assert "two lines" in failure.message


def test_an_error_of_the_actor_says_so():
    error = ActorError("no", {"type": "ValueError"})
    assert failures.explain(error).message == "the actor raised ValueError: no"


def test_a_bug_is_told_from_a_known_error():
    assert not failures.explain(ValueError("x")).known
    assert "internal error: ValueError: x" in failures.explain(ValueError("x")).message


def test_the_known_error_in_a_group_is_the_one_shown():
    group = BaseExceptionGroup(
        "", [ValueError("noise"), ExceptionGroup("", [ConfigError("the cause")])]
    )
    assert failures.explain(group) == failures.Failure("the cause", 2)


def test_an_error_without_words_is_still_named():
    assert failures.explain(RoostError()).message == "RoostError"


def test_exit_statuses_are_in_words():
    assert describe_exit(-9) == "was killed by SIGKILL"
    assert describe_exit(2) == "exited with 2"
    assert describe_exit(-200) == "was killed by signal 200"
