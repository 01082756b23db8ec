"""What a guild sees of a host's death, and a host's shutdown of its agents."""

from __future__ import annotations

import signal
import time

from tests.rustic.agents import Counter, Deaf, spec_of
from tests.rustic.conftest import FULL, children_of, rustic_cluster, wait_for
from tests.rustic.lives import Life, assert_one_at_a_time, lives_of
from tests.rustic.probe import probe_of

LEASE_S = 3.0
#: How long a host must have seen a dead one's counter stand still: the lease and its margin.
PROOF_S = LEASE_S * 9 / 8
#: Until it looks, and then until the agents have started.
BACK_S = 10.0


def test_a_conversation_goes_on_when_the_host_of_half_the_guild_is_killed():
    count = 60 if FULL else 12
    ids = {f"c{n}" for n in range(count)}
    with rustic_cluster(2, LEASE_TTL=f"{LEASE_S:g}") as cluster:
        guild = cluster.guild()
        for id in sorted(ids):
            guild.launch_agent(spec_of(Counter, id))
        probe = probe_of(guild)
        before = {a["by"]: a["pid"] for a in probe.wait_counted(1, ids)}
        victim = cluster.hosts[0]
        processes = children_of(victim.process.pid)
        lost = {id for id, pid in before.items() if pid in processes}
        epochs = _epochs(cluster.redis_url, guild.id)
        assert lost
        assert lost != ids
        with probe.talking(2, every_s=0.25 if FULL else 0.05) as said:
            wait_for(lambda: probe.counted(5))
            victim.process.kill()
            killed_s = time.monotonic()
            wait_for(lambda: not any(_lives(pid) for pid in processes), 5)
            dead_s = time.monotonic()
            wait_for(lambda: _answered(probe, since_s=dead_s) == ids, PROOF_S + BACK_S)
            print(f"{len(lost)} of {count} back {time.monotonic() - killed_s:.1f} s after the kill")
            since = len(said) + 3
            wait_for(lambda: len(said) > since)
        everything = {1, *said}
        wait_for(lambda: all(_numbers(probe, id) == everything for id in ids - lost))
        afterwards = {number for number in said if number >= since}
        wait_for(lambda: all(_numbers(probe, id) >= afterwards for id in lost))
        missed = sum(len(everything - _numbers(probe, id)) for id in lost)
        print(f"{len(said)} messages; of those said meanwhile rusticai-redis passed over {missed}")
        now = _epochs(cluster.redis_url, guild.id)
        assert {id for id in ids if now[id] > epochs[id]} == lost
        assert all(now[id] == epochs[id] for id in ids - lost)
        lives = lives_of(probe.answers())
        for id in ids:
            assert_one_at_a_time(lives[id], dict.fromkeys(processes, dead_s))
            _assert_messages_are_taken_once(lives[id], id in lost, since)
        guild.shutdown()


def _answered(probe, since_s: float) -> set[str]:
    return {a["by"] for a in probe.answers() if a["at_s"] > since_s}


def _numbers(probe, id: str) -> set[int]:
    return {a["counted"] for a in probe.answers() if a["by"] == id}


def _assert_messages_are_taken_once(lives: list[Life], was_lost: bool, since: int) -> None:
    """But for what rusticai-redis delivers twice: the message that a death interrupted, and such
    as are said while a client subscribes (see test_messaging)."""
    assert len(lives) == 1 + was_lost
    first = lives[0].answered  # it subscribed before anything was said
    assert len(set(first)) == len(first)
    for later in lives[1:]:
        assert set(first) & set(later.answered) <= {first[-1]}
        settled = [number for number in later.answered if number >= since]
        assert len(set(settled)) == len(settled)


def _lives(pid: int) -> bool:
    from tests.integration.shell import lives

    return lives(pid)


def test_a_hosts_shutdown_ends_agents_that_ignore_everything():
    count, deaf = (60, 10) if FULL else (10, 3)
    drain_s = 10.0 if FULL else 4.0
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
        took_s = time.monotonic() - began_s
        print(f"{count} agents, {deaf} of them deaf: gone after {took_s:.1f} s")
        assert took_s < drain_s + 5
        assert not any(_lives(pid) for pid in processes)
        assert _locations(cluster.redis_url) == {}


def _locations(url: str) -> dict[str, str]:
    """{actor: "epoch:incarnation"}: where the registry says that actors live."""
    from redis import Redis

    with Redis.from_url(url, decode_responses=True) as redis:
        return {k: v for key in redis.scan_iter("*:l:*") for k, v in redis.hgetall(key).items()}


def _epochs(url: str, guild_id: str) -> dict[str, int]:
    """{agent: the epoch at which it runs}."""
    kind, end = "rustic.Agent/", f"@{guild_id}"
    return {
        actor.removeprefix(kind).removesuffix(end): int(location.split(":")[0])
        for actor, location in _locations(url).items()
        if actor.startswith(kind) and actor.endswith(end)
    }
