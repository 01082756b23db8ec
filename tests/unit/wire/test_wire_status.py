"""Errors survive the way through gRPC trailers, whatever is in them."""

from __future__ import annotations

import pytest
from grpclib.const import Status
from grpclib.metadata import (
    decode_grpc_message,
    decode_metadata,
    encode_grpc_message,
    encode_metadata,
)
from hypothesis import given
from hypothesis import strategies as st

from wire import status
from wire.errors import ERRORS, ActorError, NotDelivered, OutcomeUnknown, RoostError

ALL = [*ERRORS.values(), RoostError]
TRAILERS_BYTES_MAX = 8192


def travel(error: RoostError) -> RoostError:
    """Through the trailers' text form and back."""
    sent = status.trailers(error)
    headers = encode_metadata(sent.metadata)
    message = encode_grpc_message(sent.message)
    size = len(message) + sum(len(key) + len(value) + 32 for key, value in headers)
    assert size < TRAILERS_BYTES_MAX
    assert message.isascii()
    return status.error_from(sent.status, decode_grpc_message(message), decode_metadata(headers))


@pytest.mark.parametrize("cls", ALL)
def test_every_error_arrives_as_the_same_class_with_message_and_details(
    cls: type[RoostError],
) -> None:
    got = travel(cls("what is wrong: ü\n", {"type": "ValueError", "where": "Counter.add"}))
    assert type(got) is cls
    assert got.message == "what is wrong: ü\n"
    assert got.details == {"type": "ValueError", "where": "Counter.add"}


def test_every_error_has_a_status_of_its_own_choice() -> None:
    assert set(status.STATUS) == set(ALL)
    assert Status.OK not in status.STATUS.values()


@given(
    st.sampled_from(ALL),
    st.text(max_size=3000),
    st.dictionaries(st.text(max_size=40), st.text(max_size=4000), max_size=8),
)
def test_no_message_or_detail_breaks_or_outgrows_the_trailers(
    cls: type[RoostError], message: str, details: dict[str, str]
) -> None:
    got = travel(cls(message, details))
    assert type(got) is cls
    if len(message.encode("utf-8", "replace")) < status.STATUS_MESSAGE_BYTES_MAX // 4 and message:
        assert got.message == message.encode("utf-8", "backslashreplace").decode()


def test_a_long_traceback_keeps_its_end_and_short_details_stay_whole() -> None:
    trace = "\n".join(f"frame {n}" for n in range(5000)) + "\nValueError: last words"
    got = travel(ActorError("m" * 10_000, {"traceback": trace, "type": "ValueError"}))
    assert got.details["type"] == "ValueError"
    assert got.details["traceback"].endswith("ValueError: last words")
    assert len(got.details["traceback"]) > 1000
    assert got.message.startswith("m" * 1000)
    assert got.message.endswith("...")


def test_lone_surrogates_travel_as_escapes() -> None:
    got = travel(ActorError("bad \udc80", {"value": "\ud800"}))
    assert (got.message, got.details) == ("bad \\udc80", {"value": "\\ud800"})


def test_a_status_without_our_trailers_counts_as_maybe_run_unless_it_cannot_have() -> None:
    for code in Status:
        if code is not Status.OK:
            error = status.error_from(code, None, {})
            assert error.may_have_run or code in (
                Status.INVALID_ARGUMENT, Status.NOT_FOUND, Status.RESOURCE_EXHAUSTED,
                Status.UNAUTHENTICATED, Status.PERMISSION_DENIED, Status.UNIMPLEMENTED,
            )  # fmt: skip
    assert type(status.error_from(Status.UNAVAILABLE, "proxy", {})) is OutcomeUnknown


def test_malformed_details_of_a_peer_are_ignored() -> None:
    got = status.error_from(
        Status.UNAVAILABLE, "x", {"roost-error": "not_delivered", "roost-details-bin": b"\xff{"}
    )
    assert type(got) is NotDelivered
    assert got.details == {}
