"""RoostExecutionEngine: the six methods, from wherever they are called."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import trio
from rustic_ai.core.guild.builders import GuildBuilder

from deploy.rustic import RoostExecutionEngine
from tests.rustic.agents import Counter, Launcher, Raises, spec_of
from tests.rustic.conftest import children_of, rustic_cluster, wait_for
from tests.rustic.probe import probe_of
from wire.errors import InvalidArgument, NoCapacity

ENGINE = "deploy.rustic.RoostExecutionEngine"


def engine_of(guild) -> RoostExecutionEngine:
    return guild._get_execution_engine()


def run(engine, guild, spec, machine_id=1):
    return engine.run_agent(guild.to_spec(), spec, guild.messaging, machine_id)


@pytest.fixture
def guild(three_hosts):
    guild = three_hosts.guild()
    yield guild
    guild.shutdown()


@pytest.mark.parametrize("by", ["environment", "property"])
def test_one_setting_names_the_engine(three_hosts, monkeypatch, by):
    builder = GuildBuilder(f"by-{by}", "g", "g").add_agent_spec(spec_of(Counter, "c"))
    messaging = three_hosts.messaging()
    builder.set_messaging(
        messaging.backend_module, messaging.backend_class, messaging.backend_config
    )
    if by == "environment":
        monkeypatch.setenv("RUSTIC_AI_EXECUTION_ENGINE", ENGINE)
    else:
        builder.set_property("execution_engine", ENGINE)
    guild = builder.launch("org")
    assert isinstance(guild._get_execution_engine(), RoostExecutionEngine)
    assert engine_of(three_hosts.guild(guild.id)).is_agent_running(guild.id, "c")
    guild.shutdown()


def test_full_specs_are_found_by_guild_and_by_name(guild, three_hosts):
    specs = [spec_of(Counter, f"c{n}", f"name {n % 2}") for n in range(4)]
    for spec in specs:
        guild.launch_agent(spec)
    engine = engine_of(guild)
    assert engine.get_agents_in_guild(guild.id) == {spec.id: spec for spec in specs}
    named = engine.find_agents_by_name(guild.id, "name 1")
    assert sorted(spec.id for spec in named) == ["c1", "c3"]
    assert engine.find_agents_by_name(guild.id, "nobody") == []
    assert engine.get_agents_in_guild("no-such-guild") == {}
    other = three_hosts.guild()
    assert engine_of(other).get_agents_in_guild(guild.id).keys() == {s.id for s in specs}


def test_agents_answer_and_those_that_are_stopped_do_not(guild):
    for n in range(3):
        guild.launch_agent(spec_of(Counter, f"c{n}"))
    probe = probe_of(guild)
    answers = probe.wait_counted(1, {"c0", "c1", "c2"})
    assert len({answer["pid"] for answer in answers}) == 3
    guild.remove_agent("c1")
    assert not guild.is_agent_running("c1")
    probe.wait_counted(2, {"c0", "c2"})
    assert {answer["by"] for answer in probe.counted(2)} == {"c0", "c2"}


def test_an_agent_that_two_callers_run_at_once_runs_once(guild, three_hosts):
    spec = spec_of(Counter, "twin")
    engines = [engine_of(guild), engine_of(three_hosts.guild(guild.id))]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: run(engines[n % 2], guild, spec), range(8)))
    assert len(probe_of(guild).wait_counted(1, {"twin"})) == 1
    assert engines[0].is_agent_running(guild.id, "twin")
    engines[0].stop_agent(guild.id, "twin")
    assert not engines[1].is_agent_running(guild.id, "twin")


def test_agents_of_one_id_in_two_guilds_are_two(guild, three_hosts):
    other = three_hosts.guild()
    guild.launch_agent(spec_of(Counter, "same"))
    other.launch_agent(spec_of(Counter, "same"))
    other.shutdown()
    assert guild.is_agent_running("same")
    assert not other.is_agent_running("same")


def test_stopping_what_is_gone_is_no_error(guild):
    engine_of(guild).stop_agent(guild.id, "nobody")
    guild.launch_agent(spec_of(Counter, "once"))
    engine_of(guild).stop_agent(guild.id, "once")
    engine_of(guild).stop_agent(guild.id, "once")


def test_shutdown_stops_what_this_engine_started_and_nothing_else(guild, three_hosts):
    second = three_hosts.guild(guild.id)
    guild.launch_agent(spec_of(Counter, "mine"))
    second.launch_agent(spec_of(Counter, "theirs"))
    guild.shutdown()
    guild.shutdown()
    assert not second.is_agent_running("mine")
    assert second.is_agent_running("theirs")
    second.shutdown()
    assert engine_of(second).get_agents_in_guild(guild.id) == {}


def test_the_engine_works_from_threads_and_inside_running_loops(guild):
    def launch(id: str) -> None:
        guild.launch_agent(spec_of(Counter, id))

    thread = threading.Thread(target=launch, args=("thread",))
    thread.start()
    thread.join()

    async def in_a_loop(id: str) -> None:
        launch(id)

    asyncio.run(in_a_loop("asyncio"))
    trio.run(in_a_loop, "trio")
    for id in ("thread", "asyncio", "trio"):
        assert guild.is_agent_running(id)


def test_an_agent_that_we_host_starts_another(guild):
    guild.launch_agent(spec_of(Launcher, "launcher"))
    probe = probe_of(guild)
    probe.say({"launch": "launched", "messaging": guild.messaging.model_dump()})
    wait_for(lambda: [p for p in probe.heard if p.get("launched") == "launched" and p["running"]])
    probe.wait_counted(1, {"launched"})
    engine_of(guild).stop_agent(guild.id, "launched")


def test_an_agent_that_cannot_start_raises_at_whoever_runs_it(guild):
    with pytest.raises(InvalidArgument, match=r"^agent_spec.class_name .* could not initialise"):
        guild.launch_agent(spec_of(Raises, "raises"))
    assert engine_of(guild).get_agents_in_guild(guild.id) == {}


def test_a_full_cluster_says_so_and_threads_cost_no_process():
    with rustic_cluster(1, MAX_PROCESSES="2") as cluster:
        guild = cluster.guild()
        for n in range(2):
            guild.launch_agent(spec_of(Counter, f"c{n}"))
        with pytest.raises(NoCapacity):
            guild.launch_agent(spec_of(Counter, "c2"))
        guild.remove_agent("c0")
        guild.launch_agent(spec_of(Counter, "c3"))
        guild.shutdown()
        (host,) = cluster.hosts
        wait_for(lambda: len(children_of(host.process.pid)) == 1)  # the fork server
    with rustic_cluster(1, AGENT_ISOLATION="thread", MAX_PROCESSES="0") as cluster:
        guild = cluster.guild()
        for n in range(10):
            guild.launch_agent(spec_of(Counter, f"c{n}"))
        probe_of(guild).wait_counted(1, {f"c{n}" for n in range(10)})
        (host,) = cluster.hosts
        assert children_of(host.process.pid) == set()
        guild.shutdown()
