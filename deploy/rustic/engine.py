"""RoostExecutionEngine: Rustic AI's agents on Roost's hosts. An adapter."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rustic_ai.core.guild.agent import Agent, AgentSpec
from rustic_ai.core.guild.dsl import GuildSpec
from rustic_ai.core.guild.execution.execution_engine import ExecutionEngine
from rustic_ai.core.messaging import Client, MessagingConfig, SimpleClient

from deploy.rustic.cluster import Cluster
from wire.agent_host import AgentRequest
from wire.errors import AlreadyExists

log = logging.getLogger("roost.rustic")

STOPS_AT_ONCE = 16


class RoostExecutionEngine(ExecutionEngine):
    """Places each agent on the cluster's hosts by consistent hashing, once in the whole cluster.

    Agents are durable: when their host dies they come back on another one. The cluster is found
    through REDIS_URL (and ROOST_CLUSTER, ROOST_TOKEN, TLS_CA ...). Every method blocks until it
    is done, and may be called from any thread. All raise what ``wire.errors`` lists.
    """

    def __init__(self, guild_id: str, organization_id: str) -> None:
        super().__init__(guild_id=guild_id, organization_id=organization_id)
        self._cluster = Cluster()
        self._started: dict[tuple[str, str], None] = {}

    def run_agent(
        self,
        guild_spec: GuildSpec,
        agent_spec: AgentSpec,
        messaging_config: MessagingConfig,
        machine_id: int,
        client_type: type[Client] = SimpleClient,
        client_properties: dict[str, Any] = {},  # noqa: B006  # as the base class has it
        default_topic: str = "default_topic",
    ) -> Agent | None:
        """Returns once the agent has initialised, wherever it runs. One that runs already is
        joined. Raises InvalidArgument naming the field when it cannot start, NoCapacity when
        every host is full."""
        spec = agent_spec if isinstance(agent_spec, AgentSpec) else agent_spec.get_spec()
        properties = {"organization_id": self.organization_id, "properties": client_properties}
        request = AgentRequest(
            spec.model_dump_json().encode(), guild_spec.model_dump_json().encode(),
            messaging_config.model_dump_json().encode(), machine_id,
            client_type.get_qualified_class_name(), json.dumps(properties).encode(),
        )  # fmt: skip
        try:
            self._cluster.create(request)
        except AlreadyExists:
            log.info("agent %s of guild %s runs already: joined", spec.id, guild_spec.id)
        else:
            self._started[guild_spec.id, spec.id] = None
        return None

    def get_agents_in_guild(self, guild_id: str) -> dict[str, AgentSpec]:
        """The guild's agents that run, by id."""
        found = (AgentSpec.model_validate_json(s.agent_spec) for s in self._cluster.specs(guild_id))
        return {spec.id: spec for spec in found}

    def find_agents_by_name(self, guild_id: str, agent_name: str) -> list[AgentSpec]:
        """The guild's agents of that name that run."""
        return [
            AgentSpec.model_validate_json(spec.agent_spec)
            for spec in self._cluster.specs(guild_id)
            if spec.name == agent_name
        ]

    def is_agent_running(self, guild_id: str, agent_id: str) -> bool:
        """Whether the agent runs somewhere, whoever started it."""
        return self._cluster.is_running(guild_id, agent_id)

    def stop_agent(self, guild_id: str, agent_id: str) -> None:
        """Stop the agent and wait for it; one that is gone is no error."""
        self._cluster.stop(guild_id, agent_id)
        self._started.pop((guild_id, agent_id), None)

    def shutdown(self) -> None:
        """Stop what this engine started. It may be used again."""
        started = list(self._started)
        if started:
            with ThreadPoolExecutor(STOPS_AT_ONCE, "roost-rustic-stop") as pool:
                list(pool.map(lambda agent: self.stop_agent(*agent), started))
