"""An agent in the test's own process that talks with a guild's agents and keeps what it hears."""

from __future__ import annotations

import threading
import time

from rustic_ai.core.agents.testutils.probe_agent import PublishMixin
from rustic_ai.core.guild import agent
from rustic_ai.core.guild.agent import Agent
from rustic_ai.core.guild.execution.sync.sync_exec_engine import SyncExecutionEngine
from rustic_ai.core.messaging.core import JsonDict

from tests.rustic.agents import spec_of


class Probe(Agent, PublishMixin):
    def __init__(self) -> None:
        self.heard: list[dict] = []
        self.lock = threading.Lock()

    @agent.processor(JsonDict)
    def hear(self, ctx: agent.ProcessContext[JsonDict]) -> None:
        with self.lock:
            self.heard.append(dict(ctx.payload))

    def say(self, payload: dict) -> None:
        self.publish_dict("default_topic", payload)

    def counted(self, number: int) -> list[dict]:
        """The answers to ``count: number`` so far."""
        with self.lock:
            return [p for p in self.heard if p.get("counted") == number]

    def wait_counted(self, number: int, by: set[str], patience_s: float = 30.0) -> list[dict]:
        """The answers of all of ``by``, asked once; AssertionError names who is missing."""
        self.say({"count": number})
        end_s = time.monotonic() + patience_s
        while True:
            answers = self.counted(number)
            missing = by - {a["by"] for a in answers}
            if not missing:
                return answers
            assert time.monotonic() < end_s, f"no answer to {number} from {sorted(missing)}"
            time.sleep(0.02)


def probe_of(guild) -> Probe:
    """A probe in ``guild``; it ends with the process."""
    engine = SyncExecutionEngine(guild_id=guild.id, organization_id=guild.organization_id)
    return guild._add_local_agent(spec_of(Probe, "probe"), engine)
