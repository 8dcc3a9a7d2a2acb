"""Whatever a gateway answers becomes a Completion or a fault with a name."""

import json
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.gateway import (
    BadAnswer,
    Completion,
    CreditsExhausted,
    GatewayDown,
    GatewayFault,
    KeyRefused,
    ModelGone,
    RequestRefused,
    Throttled,
    TokenUsage,
)
from app.gateway.answers import RETRY_AFTER_MAX_S, read_answer, read_fault

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def answer(content: object, **more: object) -> bytes:
    message = {"choices": [{"message": {"content": content}, "finish_reason": "stop"}]}
    return json.dumps(message | more).encode()


def test_text_and_usage_are_read() -> None:
    body = answer("hello", usage={"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12})
    assert read_answer(body) == Completion("hello", TokenUsage(5, 7))


def test_missing_usage_is_not_zero() -> None:
    assert read_answer(answer("hello")).usage is None
    assert read_answer(answer("hello", usage={"prompt_tokens": True})).usage is None


def test_empty_content_is_a_fault_that_keeps_its_usage() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 512}
    with pytest.raises(BadAnswer, match="empty content") as caught:
        read_answer(answer("  ", usage=usage))
    assert caught.value.usage == TokenUsage(5, 512)


@pytest.mark.parametrize(
    ("status", "body", "fault"),
    [
        (402, b'{"type":"payment_required","message":"Not enough credits"}', CreditsExhausted),
        (401, b'{"type":"unauthorized","message":"","details":""}', KeyRefused),
        (403, b"", KeyRefused),
        (429, b'{"error":"Rate limit exceeded, please retry later"}', Throttled),
        (429, b"<html>slow down</html>", Throttled),
        (404, b'{"error":{"message":"no such model"}}', ModelGone),
        (400, b'{"error":{"message":"model is retired"}}', ModelGone),
        (400, b'{"error":{"message":"bad temperature"}}', RequestRefused),
        (422, b"", RequestRefused),
        (408, b"", GatewayDown),
        (500, b"\xff\xfe", GatewayDown),
        (503, b"", GatewayDown),
    ],
)
def test_status_decides_the_fault(status: int, body: bytes, fault: type[GatewayFault]) -> None:
    found = read_fault(status, {}, body, NOW)
    assert type(found) is fault
    assert found.http_status == status


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3.0),
        ("0.5", 0.5),
        ("Sun, 22 Nov 2026 12:00:10 GMT", 10.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", None),
        ("-1", None),
        ("nan", None),
        ("1e9", RETRY_AFTER_MAX_S),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_is_read_in_both_forms_and_capped(value: str, seconds: float | None) -> None:
    fault = read_fault(429, {"retry-after": value}, b"", NOW)
    assert isinstance(fault, Throttled)
    assert fault.retry_after_s == seconds


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "message", "content", "usage", "error", "prompt_tokens", "x"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_200_crashes_the_reader(body: bytes) -> None:
    with suppress(BadAnswer):
        assert read_answer(body).text.strip()


@given(
    st.integers(100, 999),
    st.dictionaries(st.sampled_from(["retry-after", "x"]), st.text(max_size=30)),
    st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()),
)
def test_no_error_answer_crashes_the_reader(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    assert isinstance(read_fault(status, headers, body, NOW), GatewayFault)
