"""The lease thread, step by step on a clock of our own, and for real with a short lease."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from placement.lease import LeaseTerms
from placement.lease_thread import EXIT_LEASE_LOST, LeaseKeeper, boottime_s
from placement.ports import Fenced, RegistryUnavailable
from placement.records import Renewal

TERMS = LeaseTerms.of(12.0)


class Host:
    """A keeper with everything around it under the test's control."""

    def __init__(self, terms: LeaseTerms = TERMS, **options: Any) -> None:
        self.now_s = 1000.0
        self.fails: Exception | None = None
        self.on_send: Callable[[], None] = lambda: None
        self.sent: list[int] = []
        self.heard: list[float] = []
        self.fenced: list[str] = []
        self.remain = False
        self.killed = 0
        self.keeper = LeaseKeeper(
            terms,
            self.renew,
            on_renewal=lambda renewal, sent_at_s: self.heard.append(sent_at_s),
            on_fenced=lambda reason: self.fenced.append(str(reason)),
            activations_remain=lambda: self.remain,
            kill=self.kill,
            **{"clock": lambda: self.now_s, **options},
        )
        self.keeper.tick()

    def renew(self, counter: int) -> Renewal:
        self.sent.append(counter)
        self.on_send()
        if self.fails:
            raise self.fails
        return Renewal(1, 1, {"me": counter})

    def kill(self) -> None:
        self.killed += 1


def test_renewal_is_sent_at_once_and_then_every_quarter_of_the_lease() -> None:
    host = Host()
    assert host.keeper.renew_if_due() == 3.0
    assert host.keeper.is_held()
    assert host.keeper.deadline_s == 1010.5
    host.now_s = 1001.0
    assert host.keeper.renew_if_due() == 2.0
    assert host.sent == [1]
    host.now_s = 1003.0
    host.keeper.renew_if_due()
    assert host.sent == [1, 2]
    assert host.heard == [1000.0, 1003.0]


def test_deadline_counts_from_the_sending_however_late_the_reply() -> None:
    host = Host()
    host.on_send = lambda: setattr(host, "now_s", host.now_s + 5.0)
    host.keeper.renew_if_due()
    assert host.heard == [1000.0]
    assert host.keeper.deadline_s == 1010.5


def test_failed_renewal_is_tried_anew_soon_with_a_counter_of_its_own() -> None:
    host = Host()
    host.fails = RegistryUnavailable("away")
    assert host.keeper.renew_if_due() == TERMS.retry_every_s
    host.fails = None
    host.now_s += TERMS.retry_every_s
    host.keeper.renew_if_due()
    assert host.sent == [1, 2]
    assert host.keeper.is_held()


def test_stopped_loop_gets_no_renewals_until_it_ticks_again() -> None:
    host = Host()
    host.keeper.renew_if_due()
    host.now_s += TERMS.stall_limit_s
    assert host.keeper.renew_if_due() == TERMS.retry_every_s
    assert host.sent == [1]
    host.keeper.tick()
    host.keeper.renew_if_due()
    assert host.sent == [1, 2]


def test_fenced_host_holds_nothing_from_then_on_and_hears_it_once() -> None:
    host = Host()
    host.keeper.renew_if_due()
    host.fails = Fenced("buried")
    host.now_s += 3.0
    assert host.keeper.renew_if_due() is None
    assert not host.keeper.is_held()
    assert host.fenced == ["buried"]
    host.fails = None
    assert host.keeper.renew_if_due() is None
    host.now_s += 100.0
    host.keeper.watch()
    assert host.fenced == ["buried"]


def test_deadline_that_passes_is_told_once_and_no_late_renewal_revives_the_lease() -> None:
    host = Host()
    host.keeper.renew_if_due()
    host.fails = RegistryUnavailable("away")
    host.now_s = 1010.5
    assert not host.keeper.is_held()
    assert host.keeper.watch() == TERMS.margin_s
    assert host.fenced == ["the lease ran out before a renewal succeeded"]
    host.fails = None
    assert host.keeper.renew_if_due() is None
    assert host.sent == [1]


def test_reply_that_arrives_past_the_deadline_does_not_extend_the_lease() -> None:
    host = Host()
    host.keeper.renew_if_due()
    host.now_s = 1010.0
    host.keeper.tick()
    host.on_send = lambda: setattr(host, "now_s", 1010.6)
    assert host.keeper.renew_if_due() == TERMS.retry_every_s
    assert not host.keeper.is_held()
    assert host.heard == [1000.0]


def test_watchdog_kills_a_host_whose_activations_outlive_the_lease_by_the_grace() -> None:
    host = Host()
    host.keeper.renew_if_due()
    host.remain = True
    host.now_s = 1010.5
    host.keeper.watch()
    host.now_s += TERMS.margin_s - 0.1
    assert host.keeper.watch() == pytest.approx(0.1)
    assert host.killed == 0
    host.now_s += 0.1
    host.keeper.watch()
    assert host.killed == 1


def test_watchdog_spares_a_host_that_has_stopped_all_in_time() -> None:
    host = Host()
    host.keeper.renew_if_due()
    host.now_s = 1010.5
    host.keeper.watch()
    host.now_s += TERMS.margin_s
    assert host.keeper.watch() is None
    assert host.killed == 0


def test_watchdog_kills_before_anyone_may_take_over() -> None:
    """From the last renewal's sending: deadline, detection and grace end before the proof."""
    latest_kill_s = TERMS.ttl_s - TERMS.margin_s + TERMS.margin_s
    assert latest_kill_s + TERMS.retry_every_s < TERMS.proof_s


def test_watchdog_looks_again_no_later_than_the_deadline() -> None:
    host = Host()
    assert host.keeper.watch() == TERMS.retry_every_s
    host.keeper.renew_if_due()
    host.now_s = 1010.4
    assert host.keeper.watch() == pytest.approx(0.1)


def test_stopped_keeper_says_nothing_more() -> None:
    host = Host()
    host.keeper.renew_if_due()
    host.keeper.stop()
    host.now_s = 1020.0
    host.keeper.watch()
    assert host.fenced == []


def wait_for(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.005)


def test_real_threads_renew_while_the_loop_ticks_and_stop_when_it_does_not() -> None:
    host = Host(LeaseTerms.of(0.4), clock=boottime_s)
    host.keeper.start()
    stopped = threading.Event()

    def loop() -> None:
        while not stopped.wait(0.02):
            host.keeper.tick()

    ticker = threading.Thread(target=loop)
    ticker.start()
    wait_for(lambda: len(host.heard) >= 6)
    assert host.fenced == []
    stopped.set()
    ticker.join()
    wait_for(lambda: bool(host.fenced))
    assert not host.keeper.is_held()
    assert host.keeper.wait_stopped(5.0)


def test_watchdog_acts_while_a_renewal_is_stuck_in_its_socket() -> None:
    stuck = threading.Event()
    host = Host(LeaseTerms.of(0.2), clock=boottime_s)
    host.remain = True

    def hang_after_the_first() -> None:
        if len(host.sent) > 1:
            stuck.wait(30.0)

    host.on_send = hang_after_the_first
    host.keeper.start()
    wait_for(lambda: host.killed == 1)
    stuck.set()
    assert host.keeper.wait_stopped(5.0)


def test_stop_is_prompt_in_the_middle_of_a_wait() -> None:
    host = Host(LeaseTerms.of(3600.0), clock=boottime_s)
    host.keeper.start()
    wait_for(lambda: bool(host.heard))
    started_s = time.monotonic()
    host.keeper.stop()
    assert host.keeper.wait_stopped(5.0)
    assert time.monotonic() - started_s < 1.0


OUTLIVES_ITS_LEASE = """
import time
from placement.lease import LeaseTerms
from placement.lease_thread import LeaseKeeper
from placement.ports import RegistryUnavailable
from placement.records import Renewal

def renew(counter):
    if counter > 1:
        raise RegistryUnavailable("away")
    return Renewal(1, 1, {})

keeper = LeaseKeeper(
    LeaseTerms.of(0.2), renew, on_renewal=lambda *_: None, on_fenced=lambda _: None,
    activations_remain=lambda: True,
)
keeper.start()
while True:
    keeper.tick()
    time.sleep(0.01)
"""


def test_process_whose_activations_outlive_the_lease_exits_by_itself() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", OUTLIVES_ITS_LEASE], timeout=30, capture_output=True, text=True
    )
    assert ended.returncode == EXIT_LEASE_LOST
    assert "lease is lost" in ended.stderr
