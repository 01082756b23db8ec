"""What rusticai-redis does by itself, without Roost, and test_loss therefore allows for.

A client that subscribes hears of new messages first and reads the backlog afterwards, from the
position that it has processed. Both tests speak in between, on Rustic AI's own thread engine.
"""

from __future__ import annotations

import pytest
from rustic_ai.core.guild.guild import Guild
from rustic_ai.redis.messaging.pubsub_manager import RedisPubSubManager

from deploy import embedded
from tests.rustic.agents import QUESTIONS, Counter, spec_of
from tests.rustic.conftest import messaging_over, wait_for
from tests.rustic.probe import probe_of


@pytest.fixture
def guild():
    with embedded.serve() as redis:
        guild = Guild(
            id="g", name="g", description="g", organization_id="org",
            execution_engine_clz="rustic_ai.core.guild.execution.multithreaded.MultiThreadedEngine",
            messaging_config=messaging_over(redis.url),
        )  # fmt: skip
        yield guild
        guild.shutdown()


def test_a_message_between_position_and_backlog_is_delivered_twice(guild, monkeypatch):
    probe = probe_of(guild)

    def between(manager, client_id, topic, load):
        position = load(manager, client_id, topic)
        probe.say({"count": 1})
        return position

    on_reading_the_position(monkeypatch, between)
    guild.launch_agent(spec_of(Counter, "c"))
    wait_for(lambda: {a["delivery"] for a in probe.counted(1)} == {1, 2})


def test_a_message_before_the_position_is_read_has_the_backlog_passed_over(guild, monkeypatch):
    probe = probe_of(guild)
    read = []

    def between(manager, client_id, topic, load):
        probe.say({"count": 1})
        wait_for(lambda: load(manager, client_id, topic))  # it is processed
        read.append(topic)
        return load(manager, client_id, topic)

    on_reading_the_position(monkeypatch, between)
    probe.say({"count": 0})  # while nobody listens: the backlog
    guild.launch_agent(spec_of(Counter, "c"))
    wait_for(lambda: read)
    probe.wait_counted(2, {"c"})
    assert probe.counted(0) == []


def on_reading_the_position(monkeypatch, between) -> None:
    load = RedisPubSubManager._load_position

    def instead(self, client_id, topic):
        if topic.endswith(f":{QUESTIONS}"):
            return between(self, client_id, topic, load)
        return load(self, client_id, topic)

    monkeypatch.setattr(RedisPubSubManager, "_load_position", instead)
