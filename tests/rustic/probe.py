"""An agent in the test's own process that talks with a guild's agents and keeps what it hears."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rustic_ai.core.agents.testutils.probe_agent import PublishMixin
from rustic_ai.core.guild import agent
from rustic_ai.core.guild.agent import Agent
from rustic_ai.core.guild.builders import AgentBuilder
from rustic_ai.core.guild.execution.sync.sync_exec_engine import SyncExecutionEngine
from rustic_ai.core.messaging.core import JsonDict

from tests.rustic.agents import QUESTIONS


class Probe(Agent, PublishMixin):
    def __init__(self) -> None:
        self.heard: list[dict] = []
        self.lock = threading.Lock()

    @agent.processor(JsonDict)
    def hear(self, ctx: agent.ProcessContext[JsonDict]) -> None:
        with self.lock:
            self.heard.append(dict(ctx.payload))

    def say(self, payload: dict) -> None:
        self.publish_dict(QUESTIONS, payload)

    @contextmanager
    def talking(self, first: int, every_s: float) -> Iterator[list[int]]:
        """Ask ``count`` with one number after another, for the length of the block; those asked."""
        said: list[int] = []
        over = threading.Event()

        def talk() -> None:
            while not over.wait(every_s):
                self.say({"count": first + len(said)})
                said.append(first + len(said))

        thread = threading.Thread(target=talk)
        thread.start()
        try:
            yield said
        finally:
            over.set()
            thread.join()

    def answers(self) -> list[dict]:
        """All answers of Counters so far, in the order heard."""
        with self.lock:
            return [p for p in self.heard if "counted" in p]

    def counted(self, number: int) -> list[dict]:
        """The answers to ``count: number`` so far."""
        return [p for p in self.answers() if p["counted"] == number]

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
    spec = AgentBuilder(Probe).set_id("probe").set_name("probe").set_description("asks")
    return guild._add_local_agent(spec.build_spec(), engine)
