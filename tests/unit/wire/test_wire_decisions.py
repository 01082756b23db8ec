"""The pure parts of server and client: grants, backoff, addresses, arguments and TLS settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

import wire
from wire.channels import BACKOFF_MAX_S, backoff_s, parse_address
from wire.client_codec import ActorRef, decode_result, encode_arguments
from wire.errors import ConfigError, InvalidArgument, ProtocolError
from wire.grants import ITEMS_MAX, ITEMS_START, WINDOW_BYTES, GrantWindow
from wire.items import Content


@given(st.lists(st.integers(min_value=0, max_value=16 << 20), max_size=300))
def test_a_stream_producer_is_never_stuck_and_never_far_ahead(sizes: list[int]) -> None:
    window = GrantWindow()
    ahead = window.start()
    assert ahead == ITEMS_START
    for size in sizes:
        ahead -= 1
        ahead += window.taken(size)
        assert 1 <= ahead <= ITEMS_MAX


def test_small_items_run_far_ahead_and_large_ones_one_at_a_time() -> None:
    small, large = GrantWindow(), GrantWindow()
    ahead_small, ahead_large = small.start(), large.start()
    for _ in range(50):
        ahead_small += small.taken(100) - 1
        ahead_large += large.taken(WINDOW_BYTES) - 1
    assert ahead_small > ITEMS_MAX // 2
    assert ahead_large == 1


def test_one_large_item_among_many_small_ones_is_forgotten() -> None:
    window = GrantWindow()
    ahead = window.start() - 1 + window.taken(4 * WINDOW_BYTES)
    for _ in range(300):
        ahead += window.taken(10) - 1
    assert ahead > ITEMS_MAX // 2


@given(
    st.integers(min_value=1, max_value=10_000), st.integers(min_value=1, max_value=50),
    st.floats(min_value=0, max_value=1, exclude_max=True),
)  # fmt: skip
def test_backoff_is_bounded_and_starts_when_each_address_was_tried(
    attempt: int, addresses: int, chance: float
) -> None:
    pause_s = backoff_s(attempt, addresses, chance)
    assert 0 <= pause_s <= BACKOFF_MAX_S
    assert (pause_s == 0) == (attempt < addresses)


def test_addresses_are_host_and_port() -> None:
    assert parse_address("localhost:50051") == ("localhost", 50051)
    assert parse_address("[::1]:7") == ("::1", 7)


@pytest.mark.parametrize("address", ["", "localhost", "host:", ":1", "host:0", "host:65536", "h:x"])
def test_a_malformed_address_is_named(address: str) -> None:
    with pytest.raises(ConfigError, match=r"is not of the form host:port") as caught:
        wire.connect(address)
    assert repr(address) in str(caught.value)


def test_no_address_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="no address"):
        wire.connect([])


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan")])
def test_a_deadline_must_be_positive(timeout_s: float) -> None:
    with pytest.raises(ConfigError, match="timeout_s must be positive"):
        wire.connect("localhost:1", timeout_s=timeout_s)


def test_arguments_are_an_array_by_position_and_a_map_by_name() -> None:
    def decoded(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return msgspec.msgpack.decode(encode_arguments(args, kwargs, 1000))

    assert decoded((), {}) == []
    assert decoded((1, "b"), {}) == [1, "b"]
    assert decoded((), {"n": 1, "method": 2}) == {"n": 1, "method": 2}


@pytest.mark.parametrize(
    ("args", "kwargs", "problem"),
    [
        ((1,), {"n": 1}, "by position or by name, not both"),
        ((object(),), {}, "objects of type object cannot travel"),
        ((2**70,), {}, "cannot be encoded"),
        ((b"x" * 1000,), {}, r"arguments of \d+ bytes are over the limit of 1000 bytes"),
    ],
)
def test_arguments_that_cannot_travel_are_refused(
    args: tuple[Any, ...], kwargs: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        encode_arguments(args, kwargs, 1000)


def test_refs_go_and_come_as_actor_refs() -> None:
    ref = ActorRef("Counter", "a/b")
    payload = encode_arguments((ref, [ref]), {}, 1000)
    assert decode_result(Content.MSGPACK, payload) == [ref, [ref]]
    assert (str(ref), repr(ref)) == ("Counter/a/b", "ActorRef('Counter', 'a/b')")
    with pytest.raises(InvalidArgument):
        ActorRef("Counter", "")


@pytest.mark.parametrize(
    ("content", "payload"),
    [
        (Content.MSGPACK, b""), (Content.MSGPACK, b"\xc1"), (Content.JSON, b"{"),
        (Content.MSGPACK, b"\xc7\x03\x01bad"),
    ],
)  # fmt: skip
def test_a_malformed_result_is_a_protocol_error(content: Content, payload: bytes) -> None:
    with pytest.raises(ProtocolError, match="malformed result"):
        decode_result(content, payload)


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pem")
    authority = trustme.CA()
    one, other = authority.issue_cert("127.0.0.1"), authority.issue_cert("127.0.0.1")
    paths = {name: str(folder / f"{name}.pem") for name in ("ca", "cert", "key", "other", "junk")}
    authority.cert_pem.write_to_path(paths["ca"])
    one.cert_chain_pems[0].write_to_path(paths["cert"])
    one.private_key_pem.write_to_path(paths["key"])
    other.private_key_pem.write_to_path(paths["other"])
    Path(paths["junk"]).write_text("no PEM")
    return paths


def test_good_tls_files_make_contexts_that_speak_http2(pem: dict[str, str]) -> None:
    config = wire.TlsConfig(cert=pem["cert"], key=pem["key"], ca=pem["ca"])
    assert config.mutual
    assert config.server_context().verify_mode.name == "CERT_OPTIONAL"
    assert config.client_context().verify_mode.name == "CERT_REQUIRED"
    assert not wire.TlsConfig(cert=pem["cert"], key=pem["key"]).mutual


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"cert": "cert"}, "both or neither of certificate and key"),
        ({"cert": "missing", "key": "key"}, "certificate file .*missing.*: No such file"),
        ({"cert": "cert", "key": "missing"}, "key file .*missing.*: No such file"),
        ({"cert": "cert", "key": "other"}, "cert.pem and key .*other.pem do not load"),
        ({"cert": "junk", "key": "key"}, "certificate .*junk.pem and key"),
        ({"ca": "missing"}, "CA file .*missing.*: No such file"),
        ({"ca": "junk"}, "CA file .*junk.pem does not load"),
    ],
)
def test_a_wrong_tls_file_is_named(
    pem: dict[str, str], fields: dict[str, str], problem: str
) -> None:
    paths = {name: pem.get(value, f"/nowhere/{value}.pem") for name, value in fields.items()}
    with pytest.raises(ConfigError, match=problem):
        wire.TlsConfig(**paths)


def test_a_server_needs_a_certificate(pem: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="needs a certificate"):
        wire.TlsConfig(ca=pem["ca"]).server_context()
