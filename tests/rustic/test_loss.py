"""What a guild sees of a host's death, and a host's shutdown of its agents."""

from __future__ import annotations

import signal
import time

from tests.rustic.agents import Counter, Deaf, spec_of
from tests.rustic.conftest import FULL, children_of, rustic_cluster, wait_for
from tests.rustic.probe import probe_of

LEASE_S = 3.0


def test_a_conversation_goes_on_when_the_host_of_half_the_guild_is_killed():
    count = 30 if FULL else 8
    ids = {f"c{n}" for n in range(count)}
    with rustic_cluster(2, LEASE_TTL=f"{LEASE_S:g}") as cluster:
        guild = cluster.guild()
        for id in sorted(ids):
            guild.launch_agent(spec_of(Counter, id))
        probe = probe_of(guild)
        before = {a["by"]: a["pid"] for a in probe.wait_counted(1, ids)}
        victim = cluster.hosts[0]
        lost = {id for id, pid in before.items() if pid in children_of(victim.process.pid)}
        orphans = children_of(victim.process.pid)
        assert lost
        assert lost != ids
        victim.process.kill()
        killed_s = time.monotonic()
        wait_for(lambda: not any(_lives(pid) for pid in orphans), 5)
        number = 1
        while {a["by"] for a in probe.counted(number)} != ids or number == 1:
            number += 1
            probe.say({"count": number})
            time.sleep(0.25)
            assert time.monotonic() - killed_s < LEASE_S * 2 + 12, "they are not back"
        after = {a["by"]: a["pid"] for a in probe.wait_counted(number + 1, ids)}
        assert all(after[id] == before[id] for id in ids - lost)
        assert all(after[id] != before[id] for id in lost)
        # One process answers for each agent. It may do so twice: rusticai-redis delivers a message
        # at least once, and again to a client that comes back while it is being published.
        for said in range(2, number + 2):
            for id in ids:
                pids = {a["pid"] for a in probe.counted(said) if a["by"] == id}
                assert len(pids) <= 1, f"{id} answered {said} from {pids}"
                assert pids <= {before[id], after[id]}
        guild.shutdown()


def _lives(pid: int) -> bool:
    from tests.integration.shell import lives

    return lives(pid)


def test_a_hosts_shutdown_ends_agents_that_ignore_everything():
    count, deaf = (60, 10) if FULL else (10, 3)
    drain_s = 10.0
    with rustic_cluster(1, DRAIN_TIMEOUT=f"{drain_s:g}", MAX_PROCESSES="70") as cluster:
        guild = cluster.guild()
        for n in range(count):
            guild.launch_agent(spec_of(Deaf if n < deaf else Counter, f"a{n}"))
        (host,) = cluster.hosts
        processes = children_of(host.process.pid)
        assert len(processes) == count + 1
        began_s = time.monotonic()
        host.signal(signal.SIGTERM)
        assert host.ended(drain_s + 30) == 0
        assert time.monotonic() - began_s < drain_s + 5
        assert not any(_lives(pid) for pid in processes)
        assert _locations(cluster.redis_url) == []


def _locations(url: str) -> list[str]:
    """Keys of the registry that say where an actor lives."""
    from redis import Redis

    with Redis.from_url(url) as redis:
        return [key.decode() for key in redis.scan_iter("*:l:*")]
