"""Agents of Rustic AI for the tests: one that answers, and ways not to start or not to stop."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

from rustic_ai.core.guild import agent
from rustic_ai.core.guild.agent import Agent, ProcessContext
from rustic_ai.core.guild.builders import AgentBuilder
from rustic_ai.core.messaging.core import JsonDict

#: Where agents are asked. They answer on the default topic, which only the probe hears.
QUESTIONS = "questions"


class Counter(Agent):
    """Answers ``{"count": n}`` with the same number, who it is, and of which of its deliveries.

    Its times are CLOCK_MONOTONIC's, which all processes of a machine share.
    """

    def __init__(self) -> None:
        self._route_to_default_topic = True
        self.made_s = time.monotonic()
        self.deliveries = 0

    @agent.processor(JsonDict)
    def count(self, ctx: ProcessContext[JsonDict]) -> None:
        if "count" not in ctx.payload:
            return
        self.deliveries += 1
        ctx.send_dict({
            "counted": ctx.payload["count"], "by": self.id, "pid": os.getpid(),
            "made_s": self.made_s, "at_s": time.monotonic(), "delivery": self.deliveries,
        })  # fmt: skip


class Raises(Agent):
    def __init__(self) -> None:
        raise RuntimeError("no")


class Exits(Agent):
    def __init__(self) -> None:
        sys.exit("no")


class Dies(Agent):
    def __init__(self) -> None:
        os._exit(5)


class Deaf(Agent):
    """Its process ignores SIGTERM, and its end never comes."""

    def __init__(self) -> None:
        # An agent is made in a thread, where Python's own signal module may not be used.
        ctypes.CDLL(None).signal(signal.SIGTERM, ctypes.c_void_p(1))

    def _get_client(self):
        time.sleep(600)

    @agent.processor(JsonDict)
    def ignore(self, ctx: ProcessContext[JsonDict]) -> None:
        return None


class Launcher(Agent):
    """Starts another agent of its guild, as a guild's manager does."""

    def __init__(self) -> None:
        self._route_to_default_topic = True

    @agent.processor(JsonDict)
    def launch(self, ctx: ProcessContext[JsonDict]) -> None:
        if "launch" not in ctx.payload:
            return
        from rustic_ai.core.messaging import MessagingConfig

        from deploy.rustic import RoostExecutionEngine

        engine = RoostExecutionEngine(self.guild_id, "org")
        spec = spec_of(Counter, str(ctx.payload["launch"]))
        engine.run_agent(
            self.guild_spec, spec, MessagingConfig.model_validate(ctx.payload["messaging"]), 77
        )
        running = engine.is_agent_running(self.guild_id, spec.id)
        ctx.send_dict({"launched": spec.id, "running": running})


class NoAgent:
    """No agent at all."""


def spec_of(cls: type[Agent], id: str, name: str = ""):
    """The spec of an agent that is asked on QUESTIONS."""
    builder = AgentBuilder(cls).set_id(id).set_name(name or id).set_description("for a test")
    return builder.add_additional_topic(QUESTIONS).listen_to_default_topic(False).build_spec()
