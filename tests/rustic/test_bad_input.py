"""What CreateAgent cannot use: the status and the field at fault, and nothing that stays.

Asked by stubs that grpcio made from the .proto, of real hosts that run Rustic AI's agents.
"""

from __future__ import annotations

import json
import sys

import grpc
import pytest

from tests.integration.test_agent_host import AgentCluster, compiled, refused
from tests.rustic import agents
from tests.rustic.agents import Counter, spec_of
from tests.rustic.conftest import children_of, registry_entries

Status = grpc.StatusCode
AGENTS = agents.__name__
CLASS = "agent_spec.class_name"


@pytest.fixture(scope="module")
def hosts(three_hosts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("agent-stubs")
    yield AgentCluster(three_hosts.hosts, three_hosts.addresses, compiled(folder))
    sys.path.remove(str(folder))


def backend(**changed) -> dict:
    """A messaging config of rusticai-redis, where nothing listens."""
    client = {"host": "127.0.0.1", "port": 1, "pubsub_immediate_retry_attempts": 1}
    return {
        "backend_module": "rustic_ai.redis.messaging.backend",
        "backend_class": "RedisMessagingBackend",
        "backend_config": {"redis_client": client},
    } | changed


# What is wrong: {field of the request: its bytes}, or {field of the agent's spec: its value}.
@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"agent_spec": "{"}, "agent_spec"),
        ({"agent_spec": "[]"}, "agent_spec"),
        ({"agent_spec": ""}, "agent_spec"),
        ({"guild_spec": "nope"}, "guild_spec"),
        ({"messaging_config": "{"}, "messaging_config"),
        ({"client_properties": "{"}, "client_properties"),
        ({"class_name": "no.such.module.Agent"}, CLASS),
        ({"class_name": f"{AGENTS}.Missing"}, CLASS),
        ({"class_name": "tests.rustic.raises_on_import.Agent"}, CLASS),
        ({"class_name": ""}, CLASS),
        ({"class_name": f"{AGENTS}.NoAgent"}, CLASS),
        ({"class_name": f"{AGENTS}.spec_of"}, CLASS),
        ({"class_name": f"{AGENTS}.Raises"}, CLASS),
        ({"class_name": f"{AGENTS}.Exits"}, CLASS),
        ({"class_name": f"{AGENTS}.Dies"}, CLASS),
        ({"messaging_config": "{}"}, "messaging_config"),
        ({"messaging_config": backend(backend_module="no.such")}, "messaging_config"),
        ({"messaging_config": backend(backend_class="NoSuch")}, "messaging_config"),
        ({"messaging_config": backend(backend_config={"nope": 1})}, "messaging_config"),
        ({"messaging_config": backend()}, "messaging_config"),
        ({"guild_spec": {"name": "x"}}, "guild_spec.id"),
        ({"guild_spec": {"id": "", "name": "x", "description": "x"}}, "guild_spec.id"),
        ({"guild_spec": {"id": "bad"}}, "guild_spec"),
        ({"id": ""}, "agent_spec.id"),
        ({"id": " "}, "agent_spec.id"),
        ({"client_type": "no.such.Client"}, "client_type"),
        ({"client_type": f"{AGENTS}.NoAgent"}, "client_type"),
        ({"description": "x" * 5_000_000}, "agent_spec"),
        ({"guild_spec": {"id": "bad", "name": "x" * 5_000_000}}, "guild_spec"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_bad_input_is_refused_by_field_and_leaves_nothing(hosts, three_hosts, wrong, field):
    before = processes(hosts)
    status, message = refused(create, hosts, three_hosts, wrong)
    assert status is Status.INVALID_ARGUMENT
    assert message.startswith(field), message
    assert refused(hosts.list, "bad", at=1)[0] is Status.NOT_FOUND
    for id in ("bad", "bad/bad"):
        assert refused(hosts.info, id, at=2)[0] is Status.NOT_FOUND
    assert [name for name in registry_entries(three_hosts.redis_url) if "bad" in name] == []
    assert processes(hosts) == before


def create(hosts, three_hosts, wrong: dict):
    """CreateAgent for the agent ``bad`` of the guild ``bad``, with what is ``wrong`` put in."""
    spec = json.loads(spec_of(Counter, "bad").model_dump_json())
    fields = {
        "agent_spec": spec | {name: wrong[name] for name in wrong.keys() & spec.keys()},
        "guild_spec": {"id": "bad", "name": "g", "description": "g"},
        "messaging_config": three_hosts.messaging().model_dump(),
    } | {name: wrong[name] for name in wrong.keys() - spec.keys()}
    request = hosts.pb.CreateAgentRequest(
        machine_id=1, client_type=fields.pop("client_type", ""),
        **{name: as_bytes(value) for name, value in fields.items()},
    )  # fmt: skip
    return hosts.call("CreateAgent", request)


def as_bytes(value: dict | str) -> bytes:
    return (value if isinstance(value, str) else json.dumps(value)).encode()


def processes(hosts) -> set[int]:
    return set().union(*(children_of(host.process.pid) for host in hosts.hosts))


def test_what_is_right_is_created_by_the_same_request(hosts, three_hosts):
    assert create(hosts, three_hosts, {}).success
    assert len([n for n in registry_entries(three_hosts.redis_url) if "bad@bad" in n]) > 1
    assert hosts.stop("bad/bad", at=1).success


@pytest.mark.parametrize("call", ["stop", "info"])
def test_ids_that_are_empty_or_of_unknown_guilds_are_refused_by_name(hosts, call):
    assert refused(getattr(hosts, call), "") == (Status.INVALID_ARGUMENT, "agent_id is empty")
    for id in ("nobody", "no-such-guild/nobody", "no-such-guild/"):
        status, message = refused(getattr(hosts, call), id)
        assert status is Status.NOT_FOUND
        assert message.startswith(f"agent_id {id!r}")


def test_an_unknown_guild_is_refused_by_name(hosts):
    status, message = refused(hosts.list, "no-such-guild")
    assert status is Status.NOT_FOUND
    assert message.startswith("guild_id 'no-such-guild'")
