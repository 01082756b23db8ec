"""An example guild on Roost: agents that echo, spread over the cluster's hosts.

    REDIS_URL=redis://localhost:6379/0 python -m deploy.rustic.example

The hosts (``roost host``) use the same REDIS_URL; the guild's messages go through that Redis too.
Moving a guild from Ray is the one line ``set_execution_engine``, or, with the code left as it is,
``RUSTIC_AI_EXECUTION_ENGINE=deploy.rustic.RoostExecutionEngine``.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from typing import Any
from urllib.parse import urlsplit

from rustic_ai.core.agents.testutils.echo_agent import EchoAgent
from rustic_ai.core.agents.testutils.probe_agent import ProbeAgent
from rustic_ai.core.guild.builders import AgentBuilder, GuildBuilder

AGENTS = 3
ENGINE = "deploy.rustic.RoostExecutionEngine"
PATIENCE_S = 15.0


def main() -> int:
    """Launch the guild, say something, print who answered, stop it all; an exit status."""
    guild = example_guild().launch(organization_id="example")
    try:
        print(f"guild {guild.id} runs:")
        for spec in guild.list_all_running_agents():
            print(f"  {spec.id}  {spec.name}")
        return _talk(guild)
    finally:
        guild.shutdown()


def example_guild() -> GuildBuilder:
    """A guild of AGENTS agents that echo what they hear on a topic of their own."""
    redis = urlsplit(os.environ["REDIS_URL"])
    client = {"host": redis.hostname, "port": redis.port or 6379}
    builder = (
        GuildBuilder(f"example-{uuid.uuid4().hex[:8]}", "Example", "agents that echo")
        .set_execution_engine(ENGINE)
        .set_messaging(
            "rustic_ai.redis.messaging.backend", "RedisMessagingBackend", {"redis_client": client}
        )
    )
    for n in range(AGENTS):
        builder.add_agent_spec(_echo(n))
    return builder


def _echo(n: int) -> Any:
    agent = AgentBuilder(EchoAgent).set_id(f"echo-{n}").set_name(f"Echo {n}")
    return agent.set_description("echoes").add_additional_topic(f"echo-{n}").build_spec()


def _talk(guild: Any) -> int:
    probe_spec = (
        AgentBuilder(ProbeAgent).set_id("probe").set_name("Probe").set_description("listens")
    )
    for n in range(AGENTS):
        probe_spec.add_additional_topic(f"echo-{n}")
    probe = guild._add_local_agent(probe_spec.build_spec())
    for n in range(AGENTS):
        probe.publish_dict(f"echo-{n}", {"text": f"hello, echo-{n}"})
    end_s = time.monotonic() + PATIENCE_S
    answered: set[str] = set()
    while len(answered) < AGENTS and time.monotonic() < end_s:
        answered = {m.sender.id for m in probe.get_messages() if m.sender.id != "probe"}
        time.sleep(0.05)
    print(f"answers from {', '.join(sorted(answered)) or 'nobody'}")
    return 0 if len(answered) == AGENTS else 1


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # Rustic AI's messaging leaves threads behind
