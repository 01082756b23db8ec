"""What agents of one guild in one process share, and that none of them notices."""

from __future__ import annotations

import pytest
from redis import Redis
from rustic_ai.core.guild.guild import Guild

from deploy import agent_spec, embedded
from deploy.rustic.wrapper import FieldError, HostedAgent
from tests.rustic.agents import Counter, Raises, spec_of
from tests.rustic.conftest import messaging_over, wait_for
from tests.rustic.probe import probe_of
from wire.agent_host import AgentRequest

# A worker of rusticai-redis ends with a KeyError when its client leaves while it works.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


class Process:
    """Agents of guilds in this process, as a host's threads run them."""

    def __init__(self, url: str) -> None:
        self.messaging = messaging_over(url)
        self._redis = Redis.from_url(url)

    def guild(self, id: str) -> Guild:
        return Guild(
            id=id, name="g", description="g", organization_id="org",
            execution_engine_clz="rustic_ai.core.guild.execution.sync.SyncExecutionEngine",
            messaging_config=self.messaging,
        )  # fmt: skip

    def run(self, guild: Guild, id: str, cls: type = Counter) -> HostedAgent:
        texts = [m.model_dump_json() for m in (spec_of(cls, id), guild.to_spec(), self.messaging)]
        request = AgentRequest(*(text.encode() for text in texts), 1, "", b"")
        agent = HostedAgent.of(agent_spec.pack(agent_spec.parse(request)))
        agent.run()
        return agent

    def subscribers(self) -> int:
        """Connections on which somebody listens."""
        return len(self._redis.client_list(_type="pubsub"))


@pytest.fixture
def process():
    with embedded.serve() as redis:
        yield Process(redis.url)


def test_agents_of_a_guild_share_a_connection_and_the_last_one_ends_it(process):
    agents = [process.run(process.guild("g"), f"c{n}") for n in range(5)]
    other = process.run(process.guild("other"), "c0")
    assert process.subscribers() == 2
    probe = probe_of(process.guild("g"))
    assert len(probe.wait_counted(1, {f"c{n}" for n in range(5)})) == 5
    for agent in agents[1:]:
        agent.shutdown()
    probe.wait_counted(2, {"c0"})
    assert len(probe.counted(2)) == 1
    assert process.subscribers() == 3  # the probe's, too
    agents[0].shutdown()
    other.shutdown()
    wait_for(lambda: process.subscribers() == 1)


def test_an_agent_that_comes_again_shares_nothing_with_its_predecessor(process):
    guild = process.guild("again")
    stays, goes = process.run(guild, "stays"), process.run(guild, "goes")
    goes.shutdown()
    again = process.run(guild, "goes")
    assert process.subscribers() == 2
    probe = probe_of(guild)
    assert len(probe.wait_counted(1, {"stays", "goes"})) == 2
    again.shutdown()
    stays.shutdown()


def test_an_agent_that_cannot_start_leaves_the_others_their_connection(process):
    guild = process.guild("failed")
    stays = process.run(guild, "stays")
    with pytest.raises(FieldError, match="could not initialise"):
        process.run(guild, "raises", Raises)
    probe_of(guild).wait_counted(1, {"stays"})
    stays.shutdown()
    wait_for(lambda: process.subscribers() == 1)
