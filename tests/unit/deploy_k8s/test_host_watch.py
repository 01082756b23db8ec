"""What a host tells the watch of itself, and what it must know of itself to run in a cluster."""

from __future__ import annotations

import logging
import socket

import pytest

from deploy import host_watch
from deploy.settings import Settings, read
from deploy.watch.config import ApiServer, NoCluster, WatchConfig
from deploy.watch.verdicts import Birth
from placement.records import Member, View
from wire.errors import ConfigError

CLUSTER = ApiServer("http://127.0.0.1:1")


def own_address(monkeypatch: pytest.MonkeyPatch, found: str) -> None:
    """Let this machine's name stand for ``found``, or for nothing."""

    def gethostbyname(name: str) -> str:
        if not found:
            raise OSError("no such name")
        return found

    monkeypatch.setattr(socket, "gethostbyname", gethostbyname)


def told(settings: Settings, caplog: pytest.LogCaptureFixture) -> list[str]:
    with caplog.at_level(logging.WARNING):
        host_watch.prepare(settings, CLUSTER)
    return [record.getMessage() for record in caplog.records]


def test_a_pod_that_knows_its_address_and_uid_has_nothing_to_say(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert told(Settings(pod_ip="10.1.2.3", pod_uid="u"), caplog) == []


def test_a_pod_without_its_ip_says_what_others_are_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_address(monkeypatch, "10.1.2.3")
    (line,) = told(Settings(pod_uid="u"), caplog)
    assert line.startswith("POD_IP is not set (from status.podIP)")
    assert line.endswith("10.1.2.3")


@pytest.mark.parametrize("found", ["127.0.1.1", ""], ids=["loopback", "unknown"])
def test_a_pod_without_its_ip_that_no_other_could_reach_does_not_start(
    found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_address(monkeypatch, found)
    with pytest.raises(ConfigError, match=f"{found or 'not known'}.* set POD_IP from status.podIP"):
        host_watch.prepare(Settings(pod_uid="u"), CLUSTER)


def test_outside_of_a_cluster_nothing_is_asked_for(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_address(monkeypatch, "")
    host_watch.prepare(Settings(), NoCluster("none"))
    assert caplog.records == []


def test_what_is_watched_comes_from_the_settings() -> None:
    environ = {
        "K8S_NAMESPACE": "ns", "K8S_SERVICE": "svc", "K8S_POD_SELECTOR": "a=b,c=d",
        "K8S_CONTAINER": "main",
    }  # fmt: skip
    config = host_watch.watch_config(read(environ))
    assert config == WatchConfig("ns", service="svc", pod_selector="a=b,c=d", container="main")
    assert (config.slice_labels, config.pod_labels) == (
        "kubernetes.io/service-name=svc", "a=b,c=d",
    )  # fmt: skip


def test_only_incarnations_that_recorded_pod_and_start_can_be_proven_dead() -> None:
    view = View(1, 1, (
        Member("a", "inc-a", "10.0.0.1:1", pod_uid="uid-a", started_unix_s=5.5),
        Member("b", "inc-b", "10.0.0.2:1", pod_uid="uid-b"),
        Member("c", "inc-c", "10.0.0.3:1", started_unix_s=6.5),
    ))  # fmt: skip
    assert host_watch.births(view) == {"inc-a": Birth("uid-a", 5.5)}
