"""What Prometheus sees of a host, and that the alert rules ask for nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trio
import yaml
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from deploy import metrics_server
from deploy.metrics import ASK_BOUNDS_S, Histogram, MetricsSnapshot, names, render
from deploy.metrics_server import HEAD_BYTES_MAX, respond, serve_metrics

SNAPSHOT = MetricsSnapshot(
    actors=3, activations=10, handoffs={"moved": 4, "given_up": 1}, mailbox_depth=7,
    asks=Histogram((0.1, 1.0), (5, 3, 2), sum_s=9.5), lease_margin_s=8.25,
    link_bytes={"in": 100, "out": 200}, view_version=12,
)  # fmt: skip
OVERLAYS = Path(__file__).parents[3] / "deploy/overlays"


def samples(body: bytes, parse: object = parse_text) -> dict[tuple[str, str], float]:
    """(name, labels) -> value."""
    return {
        (s.name, ",".join(f"{k}={v}" for k, v in s.labels.items())): s.value
        for family in parse(body.decode())  # type: ignore[operator]
        for s in family.samples
    }


def test_every_value_of_the_snapshot_is_shown_under_its_name() -> None:
    shown = samples(render(SNAPSHOT)[0])
    assert shown["roost_actors", ""] == 3
    assert shown["roost_activations_total", ""] == 10
    assert shown["roost_handoffs_total", "outcome=moved"] == 4
    assert shown["roost_link_bytes_total", "direction=out"] == 200
    assert shown["roost_lease_margin_seconds", ""] == 8.25
    assert shown["roost_view_version", ""] == 12


def test_the_buckets_of_a_histogram_add_up() -> None:
    shown = samples(render(SNAPSHOT)[0])
    name = "roost_ask_latency_seconds"
    assert [shown[f"{name}_bucket", f"le={le}"] for le in ("0.1", "1", "+Inf")] == [5, 8, 10]
    assert shown[f"{name}_count", ""] == 10
    assert shown[f"{name}_sum", ""] == 9.5


def test_a_histogram_that_lacks_a_bucket_is_refused() -> None:
    with pytest.raises(ValueError, match="2 counts for 2 bounds"):
        Histogram((0.1, 1.0), (5, 3))


def test_the_names_announced_are_the_names_shown() -> None:
    full = MetricsSnapshot(
        handoffs={"moved": 1}, errors={"x": 1}, link_bytes={"in": 1}, link_items={"in": 1}
    )
    shown = {name for name, _ in samples(render(full)[0])}
    assert shown == {name for name, _ in names()}


def test_openmetrics_is_spoken_to_those_who_ask_for_it() -> None:
    body, content_type = render(
        SNAPSHOT, "application/openmetrics-text; version=1.0.0,text/plain;q=0.1"
    )
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert samples(body, parse_openmetrics)["roost_actors", ""] == 3


def test_the_buckets_reach_from_a_local_call_to_the_default_deadline() -> None:
    assert list(ASK_BOUNDS_S) == sorted(ASK_BOUNDS_S)
    assert ASK_BOUNDS_S[0] <= 0.0001
    assert ASK_BOUNDS_S[-1] == 30.0


def status(request: str) -> str:
    return respond(request.encode("latin-1"), lambda: SNAPSHOT).split(b"\r\n")[0].decode()


@pytest.mark.parametrize(
    ("request_line", "expected"),
    [
        ("GET /metrics HTTP/1.1", "HTTP/1.1 200 OK"),
        ("GET /metrics?name[]=x HTTP/1.0", "HTTP/1.1 200 OK"),
        ("GET / HTTP/1.1", "HTTP/1.1 404 Not Found"),
        ("POST /metrics HTTP/1.1", "HTTP/1.1 405 Method Not Allowed"),
        ("\x00\xff", "HTTP/1.1 400 Bad Request"),
        ("GET /metrics SPDY/3", "HTTP/1.1 400 Bad Request"),
    ],
)
def test_other_requests_are_answered_with_what_is_wrong(request_line: str, expected: str) -> None:
    assert status(f"{request_line}\r\nHost: x\r\n\r\n") == expected


def test_head_has_the_length_and_no_body() -> None:
    head, _, body = respond(b"HEAD /metrics HTTP/1.1\r\n\r\n", lambda: SNAPSHOT).partition(
        b"\r\n\r\n"
    )
    assert body == b""
    assert int(re.findall(rb"Content-Length: (\d+)", head)[0]) == len(render(SNAPSHOT)[0])


def test_a_source_that_raises_is_a_500_and_a_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def source() -> MetricsSnapshot:
        raise RuntimeError("no host")

    assert b"500 Internal Server Error" in respond(b"GET /metrics HTTP/1.1\r\n\r\n", source)
    assert "the metrics could not be read" in caplog.text


async def serving(nursery: trio.Nursery) -> int:
    """A server of SNAPSHOT; its port."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(serve_metrics, lambda: SNAPSHOT, listeners)
    port: int = listeners[0].socket.getsockname()[1]
    return port


async def fetch(port: int, data: bytes) -> bytes:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(data)
        return b"".join([chunk async for chunk in stream])


async def test_a_scrape_gets_the_metrics_over_http(nursery: trio.Nursery) -> None:
    port = await serving(nursery)
    with trio.fail_after(10):
        answer = await fetch(port, b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert samples(answer.partition(b"\r\n\r\n")[2])["roost_actors", ""] == 3


async def test_a_request_without_end_is_cut_off_and_silent_ones_do_not_block_others(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_server, "REQUEST_TIMEOUT_S", 0.3)

    port = await serving(nursery)
    with trio.fail_after(10):
        assert await fetch(port, b"x" * (HEAD_BYTES_MAX + 1)) == b""
        silent = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(20)]
        answer = await fetch(port, b"GET /metrics HTTP/1.1\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK")
        for stream in silent:
            await stream.aclose()


def test_alerts_ask_for_metrics_that_exist_in_the_form_they_have() -> None:
    kinds = dict(names())
    rules = yaml.safe_load((OVERLAYS / "production/alerts.yaml").read_text())["groups"][0]["rules"]
    assert {rule["alert"] for rule in rules} >= {
        "RoostLeaseLost", "RoostHandoffStuck", "RoostNoCapacity",
    }  # fmt: skip
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert set(rule["annotations"]) == {"summary", "description"}
        (metric,) = set(re.findall(r"roost_\w+", rule["expr"]))
        assert ("increase(" in rule["expr"]) == (kinds[metric] == "counter")
