"""One messaging interface for all agents of a guild that run in this process. An adapter.

Rustic AI makes one for each agent: connections, and threads of which one polls a hundred times a
second. In a host whose agents run in threads, most of what an agent costs would be that.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable

from rustic_ai.core.guild.agent import Agent
from rustic_ai.core.guild.execution.utils import subscribe_agent_with_messaging
from rustic_ai.core.messaging import MessagingConfig, MessagingInterface

#: Agents that one interface has at most, one after another.
AGENTS_MAX = 10_000


class SharedInterface:
    """An interface, made when first needed, and who uses it."""

    def __init__(self, guild_id: str, config: MessagingConfig) -> None:
        self._guild_id = guild_id
        self._config = config
        self._interface: MessagingInterface | None = None
        self._agents: set[str] = set()
        # A backend may still be busy with an agent that has left, and take its successor for it.
        self._ever: set[str] = set()
        # Backends do not expect that one agent leaves a topic while another one joins it.
        self._subscribing = threading.Lock()

    def admit(self, agent_id: str) -> bool:
        """Whether that agent may use it, and does from now on."""
        if agent_id in self._ever or len(self._ever) >= AGENTS_MAX:
            return False
        self._ever.add(agent_id)
        self._agents.add(agent_id)
        return True

    def discharge(self, agent_id: str) -> bool:
        """That agent uses it no longer; whether anybody does."""
        self._agents.discard(agent_id)
        return bool(self._agents)

    def connect(self) -> MessagingInterface:
        """The interface; raises what making it raises."""
        with self._subscribing:
            if self._interface is None:
                self._interface = MessagingInterface(self._guild_id, self._config)
            return self._interface

    def subscribe(self, agent: Agent, organization_id: str | None) -> None:
        """Let the agent hear what it listens to; raises what the backend raises."""
        interface = self.connect()
        with self._subscribing:
            subscribe_agent_with_messaging(agent, interface, organization_id)

    def unsubscribe(self, agent: Agent) -> None:
        """The agent hears nothing from now on, and cannot publish."""
        client, interface = agent._get_client(), self.connect()
        with self._subscribing:
            for topic, clients in list(interface.subscribers.items()):
                if client.id in clients:
                    interface.unsubscribe(topic, client)
            for topic, clients in list(interface.shared_subscribers.items()):
                if client.id in clients:
                    interface.unsubscribe_shared(topic, client)
            interface.unregister_client(client)

    def shutdown(self, agent: Agent | None) -> None:
        """End it with the last agent that used it, if that one was made."""
        if self._interface is not None:
            if agent is not None:
                self._interface.unregister_client(agent._get_client())
            self._interface.shutdown()


class Interfaces:
    """The interfaces of this process. Its methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shared: dict[Hashable, list[SharedInterface]] = {}

    def join(
        self, guild_id: str, agent_id: str, config: MessagingConfig, organization_id: str | None
    ) -> SharedInterface:
        """What the guild's agents here share, for one more of them."""
        key = (guild_id, organization_id, config.model_dump_json())
        with self._lock:
            listed = self._shared.setdefault(key, [])
            for shared in listed:
                if shared.admit(agent_id):
                    return shared
            listed.append(SharedInterface(guild_id, config))
            listed[-1].admit(agent_id)
            return listed[-1]

    def leave(self, shared: SharedInterface, agent_id: str, agent: Agent | None) -> None:
        """The agent, if it was made, neither hears nor says anything from now on. What it shared
        ends with the last that uses it."""
        with self._lock:
            goes_on = shared.discharge(agent_id)
            if not goes_on:
                self._shared = {
                    key: rest
                    for key, listed in self._shared.items()
                    if (rest := [one for one in listed if one is not shared])
                }
        if not goes_on:
            shared.shutdown(agent)
        elif agent is not None:
            shared.unsubscribe(agent)
