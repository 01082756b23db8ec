"""A client of AgentHostService for asyncio programs. An adapter."""

from __future__ import annotations

from typing import Any

from wire._generated.rustic_ai.k8s import agent_host as pb
from wire.agent_host import SERVICE, AgentInfo, AgentRequest
from wire.channels import Channels


class AgentClient:
    """Starts, finds and stops agents over ``channels``; see wire.agent_host.AgentHost for the
    promises and the errors. ``timeout_s`` bounds each call."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    async def create(self, request: AgentRequest, timeout_s: float) -> int:
        """The pid of the agent's process, once it has initialised."""
        message = pb.CreateAgentRequest(**request._asdict())
        reply = await self._unary("CreateAgent", message, pb.CreateAgentResponse, timeout_s)
        return int(reply.pid)

    async def stop(self, agent_id: str, wait_s: int, timeout_s: float) -> bool:
        """Whether it has stopped within ``wait_s``."""
        message = pb.StopAgentRequest(agent_id=agent_id, timeout=wait_s)
        reply = await self._unary("StopAgent", message, pb.StopAgentResponse, timeout_s)
        return bool(reply.success)

    async def info(self, agent_id: str, timeout_s: float) -> AgentInfo:
        message = pb.GetAgentInfoRequest(agent_id=agent_id)
        return _info(await self._unary("GetAgentInfo", message, pb.AgentInfo, timeout_s))

    async def list_agents(self, guild_id: str, timeout_s: float) -> list[AgentInfo]:
        message = pb.ListAgentsRequest(guild_id=guild_id)
        reply = await self._unary("ListAgents", message, pb.ListAgentsResponse, timeout_s)
        return [_info(agent) for agent in reply.agents]

    async def _unary(self, name: str, message: Any, reply: type[Any], timeout_s: float) -> Any:
        path, safe = f"/{SERVICE}/{name}", name in ("GetAgentInfo", "ListAgents")
        return await self._channels.unary(path, message, reply, timeout_s, safe=safe)


def _info(message: Any) -> AgentInfo:
    return AgentInfo(**{name: getattr(message, name) for name in AgentInfo._fields})
