"""Log lines: JSON for machines, text for people, and the fields of both."""

import io
import json
import logging

import pytest

from deploy import logs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restore_logging():
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield
    root.handlers[:], root.level = before
    logging.captureWarnings(False)
    for name in logs.QUIET:
        logging.getLogger(name).setLevel(logging.NOTSET)


def host_fields() -> logs.HostFields:
    fields = logs.HostFields("host-1")
    fields.incarnation = lambda: "abc"
    return fields


def test_json_lines_carry_host_incarnation_and_extra_fields():
    out = io.StringIO()
    logs.configure("info", "json", host_fields(), out)
    logging.getLogger("roost.x").warning("took %d", 3, extra={"actor": "Counter/a", "epoch": 7})
    line = json.loads(out.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "warning", "logger": "roost.x", "message": "took 3", "host": "host-1",
        "incarnation": "abc", "actor": "Counter/a", "epoch": 7,
    }  # fmt: skip


def test_the_incarnation_is_the_present_one():
    out, fields = io.StringIO(), host_fields()
    logs.configure("info", "json", fields, out)
    fields.incarnation = lambda: "next"
    logging.getLogger("roost.x").info("again")
    assert json.loads(out.getvalue())["incarnation"] == "next"


def test_an_exception_stays_on_its_json_line():
    out = io.StringIO()
    logs.configure("info", "json", host_fields(), out)
    try:
        raise ValueError("no\nway")
    except ValueError:
        logging.getLogger("roost.x").exception("failed")
    (line,) = out.getvalue().splitlines()
    assert "ValueError: no\nway" in json.loads(line)["exception"]


def test_text_shows_extra_fields_at_the_end():
    out = io.StringIO()
    logs.configure("info", "text", host_fields(), out)
    logging.getLogger("roost.x").info("hello", extra={"actor": "Counter/a"})
    assert out.getvalue().endswith("INFO    roost.x: hello actor=Counter/a\n")


@pytest.mark.parametrize(("stream", "is_json"), [(io.StringIO, True), (Terminal, False)])
def test_auto_is_text_on_a_terminal_only(stream, is_json):
    out = stream()
    logs.configure("info", "auto", host_fields(), out)
    logging.getLogger("roost.x").info("hello")
    assert out.getvalue().startswith("{") is is_json


def test_the_level_holds_and_libraries_are_quiet():
    out = io.StringIO()
    logs.configure("info", "text", host_fields(), out)
    logging.getLogger("roost.x").debug("hidden")
    logging.getLogger("grpclib.server").info("hidden")
    assert out.getvalue() == ""
