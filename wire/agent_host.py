"""rustic_ai.k8s.agent_host.AgentHostService: its port, and the service over it. An adapter.

Field numbers and names are those of existing Rustic AI clients (design section 9). What the calls
mean is behind :class:`AgentHost`, whose coroutines run in Trio.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

from grpclib.const import Cardinality, Handler

from wire._generated.rustic_ai.k8s import agent_host as pb
from wire.gateway_service import receive
from wire.loops import Crossing

SERVICE = "rustic_ai.k8s.agent_host.AgentHostService"


class AgentRequest(NamedTuple):
    """What CreateAgent was asked, as it came."""

    agent_spec: bytes  # JSON
    guild_spec: bytes  # JSON
    messaging_config: bytes  # JSON
    machine_id: int
    client_type: str
    client_properties: bytes  # JSON


class AgentInfo(NamedTuple):
    """One agent. ``created_at`` in Unix seconds; ``pid`` of the process that runs it, 0: none."""

    agent_id: str
    guild_id: str
    agent_name: str
    pid: int
    is_alive: bool
    created_at: int


class AgentHealth(NamedTuple):
    """How this host does; not healthy without its lease, and while it drains."""

    healthy: bool
    agent_count: int
    hostname: str


class AgentHost(Protocol):
    """Starts, finds and stops agents wherever in the cluster they live; any host takes any call.

    Errors name the field at fault: InvalidArgument, AlreadyExists, NotFound, NoCapacity.
    """

    async def create(self, request: AgentRequest) -> AgentInfo:
        """Returns once the agent has initialised; if it cannot, nothing of it stays."""

    async def stop(self, agent_id: str, timeout_s: float) -> bool:
        """Whether it has stopped within ``timeout_s`` (0: the default)."""

    async def info(self, agent_id: str) -> AgentInfo: ...

    async def list_agents(self, guild_id: str) -> list[AgentInfo]: ...

    def health(self) -> AgentHealth: ...


class AgentHostService:
    """Serves an AgentHost for a grpclib server."""

    def __init__(self, agents: AgentHost, crossing: Crossing) -> None:
        self._agents = agents
        self._crossing = crossing

    def __mapping__(self) -> dict[str, Handler]:
        methods = (
            ("CreateAgent", self._create, pb.CreateAgentRequest, pb.CreateAgentResponse),
            ("StopAgent", self._stop, pb.StopAgentRequest, pb.StopAgentResponse),
            ("GetAgentInfo", self._info, pb.GetAgentInfoRequest, pb.AgentInfo),
            ("ListAgents", self._list, pb.ListAgentsRequest, pb.ListAgentsResponse),
            ("Health", self._health, pb.HealthRequest, pb.HealthResponse),
        )
        return {
            f"/{SERVICE}/{name}": Handler(serve, Cardinality.UNARY_UNARY, request, reply)
            for name, serve, request, reply in methods
        }

    async def _create(self, stream: Any) -> None:
        request = await receive(stream)
        fields = {name: getattr(request, name) for name in AgentRequest._fields}
        info = await self._trio(self._agents.create, AgentRequest(**fields))
        await stream.send_message(
            pb.CreateAgentResponse(agent_id=info.agent_id, pid=info.pid, success=True)
        )

    async def _stop(self, stream: Any) -> None:
        request = await receive(stream)
        stopped = await self._trio(self._agents.stop, request.agent_id, float(request.timeout))
        error = "" if stopped else "it is still stopping"
        await stream.send_message(pb.StopAgentResponse(success=stopped, error=error))

    async def _info(self, stream: Any) -> None:
        request = await receive(stream)
        info = await self._trio(self._agents.info, request.agent_id)
        await stream.send_message(pb.AgentInfo(**info._asdict()))

    async def _list(self, stream: Any) -> None:
        request = await receive(stream)
        found = await self._trio(self._agents.list_agents, request.guild_id)
        agents = [pb.AgentInfo(**info._asdict()) for info in found]
        await stream.send_message(pb.ListAgentsResponse(agents=agents))

    async def _health(self, stream: Any) -> None:
        await receive(stream)
        await stream.send_message(pb.HealthResponse(**self._agents.health()._asdict()))

    async def _trio(self, fn: Callable[..., Awaitable[Any]], *args: object) -> Any:
        return await self._crossing.from_asyncio(fn, *args)
