"""A host is killed while its actors are asked, steadily, by a host and by clients from outside."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import trio

import actors
import wire
from actors import DeadlineExceeded, NotDelivered, OutcomeUnknown
from tests.integration.cluster import LEASE_TTL_S, keys_at, open_cluster, until
from tests.integration.cluster_app import Tally

ACTORS = 300
ASKERS = 10
TIMEOUT_S = 2.0
#: Over the deadline, for a machine that does many things at once.
SLACK_S = 1.5


@dataclass
class Ledger:
    """What the asks of one actor came to. Asks that ended in OutcomeUnknown may have counted."""

    acknowledged: int = 0
    unknown: int = 0
    last: int = 0


@dataclass
class Load:
    """Asks at a steady pace, until told to stop. A client outside may find its own deadline over
    before its host has said what became of the call: DeadlineExceeded by the client's clock."""

    ledgers: dict[str, Ledger]
    failures: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    asks: int = 0
    longest_s: float = 0.0
    stopped: bool = False

    async def ask_in_turn(self, keys: list[str], add: Any) -> None:
        while not self.stopped:
            for key in keys:
                await self._ask(key, add)
                await trio.sleep(0.002)

    async def _ask(self, key: str, add: Any) -> None:
        ledger = self.ledgers[key]
        began_s = trio.current_time()
        self.asks += 1
        try:
            total = await add(key)
        except OutcomeUnknown:
            ledger.unknown += 1
            self.failures["OutcomeUnknown"] += 1
        except NotDelivered:
            self.failures["NotDelivered"] += 1
        except DeadlineExceeded as exc:
            ledger.unknown += 1
            self.failures["DeadlineExceeded"] += 1
            if not exc.message.startswith("no answer from"):
                self.wrong.append(f"{key}: {exc!r}")
        except Exception as exc:
            self.wrong.append(f"{key}: {exc!r}")
        else:
            ledger.acknowledged += 1
            if total <= ledger.last:
                self.wrong.append(f"{key}: {total} after {ledger.last}")
            ledger.last = total
        self.longest_s = max(self.longest_s, trio.current_time() - began_s)


def test_actors_of_a_killed_host_answer_again_from_their_saved_state_and_no_ask_hangs() -> None:
    async def scenario(system: actors.HostSystem) -> None:
        keys = keys_at(system, Tally, "host-1", ACTORS)
        load = Load({key: Ledger() for key in keys})

        async def by_host(key: str) -> Any:
            return await system.ref(Tally, key).add.with_options(timeout_s=TIMEOUT_S)(1)

        addresses = [host.address for host in cluster.hosts.values()]  # that of the victim first
        async with (
            wire.trio_connect(addresses, timeout_s=TIMEOUT_S) as client,
            trio.open_nursery() as nursery,
        ):

            async def by_client(key: str) -> Any:
                return await client.ask("Tally", key, "add", 1)

            for number in range(ASKERS):
                add = by_client if number % 2 else by_host
                nursery.start_soon(load.ask_in_turn, keys[number::ASKERS], add)
            await until("all have answered", lambda: all(x.last for x in load.ledgers.values()))
            assert not load.failures
            assert not load.wrong, load.wrong[:3]

            cluster.hosts["host-1"].kill()
            killed_at = trio.current_time()
            before = {key: ledger.acknowledged for key, ledger in load.ledgers.items()}
            await until(
                "all answer again",
                lambda: all(x.acknowledged > before[k] + 1 for k, x in load.ledgers.items()),
            )
            recovered_s = trio.current_time() - killed_at
            load.stopped = True

        print(
            f"{load.asks} asks, {dict(load.failures)} failed, all {ACTORS} actors answered "
            f"{recovered_s:.2f} s after the kill, longest ask {load.longest_s:.2f} s"
        )
        assert not load.wrong, load.wrong[:3]
        # Else nothing was under way, and nothing has been tested.
        assert load.failures["OutcomeUnknown"] + load.failures["NotDelivered"] > 0
        assert load.longest_s < TIMEOUT_S + SLACK_S
        assert recovered_s > LEASE_TTL_S / 2  # nobody took over before the lease was out
        for key, ledger in load.ledgers.items():
            total = await system.ref(Tally, key).add(0)
            assert ledger.acknowledged <= total <= ledger.acknowledged + ledger.unknown, key
            assert await system.ref(Tally, key).add(0) == total

    with open_cluster(hosts=3) as cluster:
        cluster.play(scenario, within_s=90)
