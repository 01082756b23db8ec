"""One agent of Rustic AI, from the bytes that describe it to its end. An adapter.

What is wrong is told by the field that it is in, as the agent host's clients know the fields.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from rustic_ai.core.guild.agent import Agent
from rustic_ai.core.guild.dsl import AgentSpec, GuildSpec
from rustic_ai.core.guild.execution.agent_wrapper import AgentWrapper
from rustic_ai.core.guild.execution.utils import build_agent_from_spec
from rustic_ai.core.messaging import MessagingConfig
from rustic_ai.core.utils.class_utils import get_agent_class, get_client_class

from deploy import agent_spec
from deploy.rustic.messaging import Interfaces, SharedInterface

T = TypeVar("T")

DEFAULT_CLIENT = "rustic_ai.core.messaging.client.simple_client.SimpleClient"


_interfaces = Interfaces()


class FieldError(ValueError):
    """A field of the request cannot be used; the message begins with its name."""


class HostedAgent(AgentWrapper):
    """Initialises an agent and takes it down again. Its messages come in threads of the messaging,
    which the agents of one guild in this process share."""

    _shared: SharedInterface | None = None

    @classmethod
    def of(cls, packed: bytes) -> HostedAgent:
        """The agent that ``deploy.agent_spec.pack`` packed, not yet started. Raises FieldError."""
        spec = agent_spec.unpack(packed)
        _field("agent_spec.class_name", get_agent_class, spec.class_name)
        agent = _field("agent_spec", AgentSpec.model_validate_json, spec.agent_spec)
        guild = _field("guild_spec", GuildSpec.model_validate_json, spec.guild_spec)
        messaging = _field(
            "messaging_config", MessagingConfig.model_validate_json, spec.messaging_config or b"{}"
        )
        _field("messaging_config", lambda _: messaging.validate_config(), None)
        client = _field("client_type", get_client_class, spec.client_type or DEFAULT_CLIENT)
        properties = msgspec.json.decode(spec.client_properties or b"{}")
        organization = properties.get("organization_id")
        if organization is not None:  # from our own engine, which has one
            properties = properties.get("properties", {})
        return cls(
            guild_spec=guild, agent_spec=agent, messaging_config=messaging,
            machine_id=spec.machine_id, client_type=client, client_properties=properties,
            organization_id=organization,
        )  # fmt: skip

    def run(self) -> Agent | None:
        """Returns once the agent has initialised. Raises FieldError; nothing stays then."""
        try:
            return self.initialize_agent()
        except (Exception, SystemExit) as exc:
            # Messaging comes first, the agent next, and then it subscribes.
            is_its_own = hasattr(self, "messaging") and self.agent is None
            self.shutdown()
            if not is_its_own:
                raise FieldError(f"messaging_config: {_say(exc)}") from exc
            name = self.agent_spec.class_name
            raise FieldError(
                f"agent_spec.class_name {name!r} could not initialise: {_say(exc)}"
            ) from exc

    def initialize_agent(self) -> Agent:
        """As the base class does it, but for whose messaging it is."""
        self._shared = shared = _interfaces.join(
            self.guild_spec.id, self.agent_spec.id, self.messaging_config, self.organization_id
        )
        self.messaging = shared.connect()
        self.agent = build_agent_from_spec(
            self.agent_spec, self.guild_spec, self.dependencies, self.client_type,
            self.client_properties.copy(), self.machine_id, self.organization_id,
        )  # fmt: skip
        shared.subscribe(self.agent, self.organization_id)
        self.agent._notify_ready()
        return self.agent

    def shutdown(self) -> None:
        """The agent hears and says nothing any more."""
        shared, self._shared = self._shared, None
        if shared is not None:
            _interfaces.leave(shared, self.agent_spec.id, self.agent)


def _field(name: str, parse: Callable[[Any], T], value: Any) -> T:
    try:
        return parse(value)
    except (Exception, SystemExit) as exc:
        shown = f" {value!r}" if isinstance(value, str) else ""
        raise FieldError(f"{name}{shown}: {_say(exc)}") from exc


def _say(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}"[:1_000]
