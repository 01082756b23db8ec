"""The settings: what comes first, what is refused, and that each refusal names the offender."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio.connection import parse_url

from actors.config import HostConfig, SystemConfig
from deploy import settings_table
from deploy.settings import Settings, read, redacted, rows
from wire.errors import ConfigError

PAGE = Path(__file__).parents[3] / "docs" / "settings.md"


def refusal(environ: dict[str, str], flags: dict[str, str | None] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        read(environ, flags)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_empty_environment_gives_the_defaults_of_the_contract():
    settings = read({})
    assert (settings.grpc_port, settings.max_processes) == (50051, 100)
    assert (settings.heartbeat_interval_s, settings.lease_ttl_s) == (20, 12)
    assert (settings.ask_timeout_s, settings.stall_limit_s) == (30, None)


def test_the_defaults_are_those_of_the_host_itself():
    settings, host, system = read({}), HostConfig(redis_url="redis://x"), SystemConfig()
    assert settings.grpc_port == host.port
    assert settings.grpc_bind == host.bind
    assert settings.cluster == host.cluster
    assert settings.weight == host.weight
    assert settings.lease_ttl_s == host.lease_ttl_s
    assert settings.heartbeat_interval_s == host.heartbeat_interval_s
    assert settings.drain_timeout_s == host.drain_timeout_s
    assert settings.redis_wait_s == host.redis_wait_s
    assert settings.ask_timeout_s == system.ask_timeout_s
    assert settings.idle_after_s == system.idle_after_s
    assert settings.mailbox_max == system.mailbox_max
    assert settings.max_actors == system.capacity
    assert settings.payload_bytes_max == system.payload_bytes_max


def test_a_flag_goes_before_the_environment():
    assert read({"GRPC_PORT": "1"}, {"grpc_port": "2"}).grpc_port == 2
    assert read({"GRPC_PORT": "1"}, {"grpc_port": None}).grpc_port == 1


@pytest.mark.parametrize("text", ["", "   "])
def test_an_empty_variable_counts_as_unset(text):
    assert read({"GRPC_PORT": text, "STALL_LIMIT": text}) == Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_PROCESSES", "abc"),
        ("MAX_PROCESSES", "-1"),
        ("GRPC_PORT", "65536"),
        ("GRPC_PORT", "50051.5"),
        ("GRPC_BIND", "localhost"),
        ("POD_IP", "10.0.0"),
        ("LEASE_TTL", "0"),
        ("LEASE_TTL", "-3"),
        ("LEASE_TTL", "nan"),
        ("LEASE_TTL", "12s"),
        ("HEARTBEAT_INTERVAL", "0"),
        ("HEARTBEAT_INTERVAL", "-20"),
        ("HEARTBEAT_INTERVAL", "inf"),
        ("STALL_LIMIT", "0"),
        ("WEIGHT", "0"),
        ("MAILBOX_MAX", "0"),
        ("PAYLOAD_BYTES_MAX", "12"),
        ("ROOST_CLUSTER", "two words"),
        ("ROOST_CLUSTER", "{hash}"),
        ("LOG_LEVEL", "chatty"),
        ("K8S_API", "kubernetes.default.svc"),
        ("K8S_API", "ftp://host"),
        ("K8S_API", "http://host:port"),
        ("K8S_NAMESPACE", "two words"),
        ("LOG_FORMAT", "xml"),
        ("REDIS_URL", "localhost:6379"),
        ("REDIS_URL", "http://localhost:6379"),
        ("REDIS_URL", "redis://localhost:abc/0"),
    ],
)
def test_a_bad_value_is_refused_by_name_with_what_it_may_be(name, value):
    message = refusal({name: value})
    assert message.startswith(f"{name} is ")
    assert "it must be" in message


def test_the_refusal_names_the_flag_when_it_came_by_flag():
    assert refusal({}, {"grpc_port": "x"}).startswith("--grpc-port is 'x': it must be a whole")


def test_the_refusal_names_the_default_to_fall_back_to():
    assert "(50051)" in refusal({"GRPC_PORT": "x"})


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({"STALL_LIMIT": "12"}, ("STALL_LIMIT", "LEASE_TTL")),
        ({"LEASE_TTL": "3", "STALL_LIMIT": "5"}, ("STALL_LIMIT", "LEASE_TTL")),
        ({"TLS_CERT": "a.pem"}, ("TLS_CERT", "TLS_KEY")),
        ({"TLS_KEY": "a.key"}, ("TLS_KEY", "TLS_CERT")),
        ({"HEALTH_PORT": "50051"}, ("HEALTH_PORT", "GRPC_PORT")),
        ({"HEALTH_PORT": "80", "METRICS_PORT": "80"}, ("HEALTH_PORT", "METRICS_PORT")),
    ],
)
def test_settings_that_contradict_each_other_are_refused_by_name(environ, names):
    message = refusal(environ)
    assert all(name in message for name in names)


def test_only_the_settings_asked_for_are_looked_at():
    assert read({"GRPC_PORT": "x", "ROOST_CLUSTER": "c"}, only=("cluster",)).cluster == "c"


@pytest.mark.parametrize(
    "environ",
    [
        {"REDIS_URL": "redis://user:hunter2@host:bad/0"},
        {"REDIS_URL": "http://user:hunter2@host"},
        {"REDIS_URL": "hunter2"},
    ],
)
def test_a_refusal_never_shows_a_password(environ):
    assert "hunter2" not in refusal(environ)


@given(user=st.text("abc", max_size=3), secret=st.text("xyz", min_size=4), host=st.just("h:1"))
def test_redacted_urls_keep_the_host_and_lose_the_password(user, secret, host):
    shown = redacted(f"redis://{user}:{secret}@{host}/0")
    assert shown == f"redis://{user}:***@{host}/0"


def test_redacted_leaves_a_url_without_password_as_it_is():
    assert redacted("redis://127.0.0.1:6379/0") == "redis://127.0.0.1:6379/0"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:1/0", "redis://:***@h:1/0"),
        ("redis://me:old@h/0", "redis://me:***@h/0"),
        ("rediss://me@[::1]:1/0", "rediss://me:***@[::1]:1/0"),
        ("unix:///run/redis.sock?db=1", "unix://:***@/run/redis.sock?db=1"),
    ],
)
@given(password=st.text(min_size=1).filter(lambda text: text == text.strip()))
def test_redis_password_takes_the_place_of_the_one_in_the_url(url, shown, password):
    found = read({"REDIS_URL": url, "REDIS_PASSWORD": password}).redis_url
    assert parse_url(found)["password"] == password
    assert redacted(found) == shown


def test_a_redis_password_without_a_url_waits_for_one():
    assert read({"REDIS_PASSWORD": "x"}).redis_url == ""


def test_every_setting_has_a_name_a_flag_and_a_meaning_of_its_own():
    table = [row for _, row in rows()]
    for column in ("name", "flag", "meaning"):
        values = [getattr(row, column) for row in table]
        assert all(values)
        assert len(set(values)) == len(values)


def test_every_setting_is_in_the_help():
    text = settings_table.help_text()
    for _, row in rows():
        assert f"  {row.name}, {row.flag}" in text
    assert max(map(len, text.splitlines())) <= 100


def test_the_page_of_settings_is_the_one_that_the_table_prints():
    assert PAGE.read_text() == settings_table.markdown(), (
        "run: python -m deploy.settings_table > docs/settings.md"
    )
