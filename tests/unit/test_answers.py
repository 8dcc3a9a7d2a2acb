"""Whatever a gateway answers becomes a Completion or a fault whose kind says what follows."""

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import kinds
from app.gateway import Completion, GatewayFault, TokenUsage, Usage
from app.gateway.answers import read_answer, without_thoughts
from app.gateway.faults import read_fault
from app.gateway.retry import RETRY_AFTER_MAX_S
from app.kinds import Kind, Reach

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
TOKENS_MAX = 1_000_512


def answer(content: object, **more: object) -> bytes:
    message = {"choices": [{"message": {"content": content}, "finish_reason": "stop"}]}
    return json.dumps(message | more).encode()


def chosen(message: object, **choice: object) -> bytes:
    return json.dumps({"choices": [{"message": message, **choice}]}).encode()


def read(body: bytes) -> Completion:
    return read_answer(body, NOW, TOKENS_MAX)


def fault_of(body: bytes) -> GatewayFault:
    with pytest.raises(GatewayFault) as caught:
        read(body)
    return caught.value


def refused(status: int, body: object, headers: dict[str, str] | None = None) -> GatewayFault:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = read_fault(status, headers or {}, raw, NOW)
    assert found.http_status == status
    return found


MODERATED = {
    "error": {
        "code": 403,
        "message": "openai/gpt-4o requires moderation on OpenInference. Your input was flagged for "
        '"harassment". No credits were charged.',
        "metadata": {"reasons": ["harassment"], "flagged_input": "model_not_found insufficient_quota"},
    }
}
GOOGLE_KEY = {
    "error": {
        "code": 400,
        "message": "API key not valid. Pass a valid API key.",
        "status": "INVALID_ARGUMENT",
        "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}],
    }
}
LITELLM_POLICY = {
    "error": {
        "message": "litellm.ContentPolicyViolationError: ... Received Model Group=gpt-4o",
        "type": None,
        "param": None,
        "code": "content_policy_violation",
    }
}


def google_quota(quota_id: str, delay: str = "34s") -> dict[str, Any]:
    return {
        "error": {
            "code": 429,
            "message": "You exceeded your current quota",
            "status": "RESOURCE_EXHAUSTED",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                    "violations": [{"quotaId": quota_id, "quotaValue": "50"}],
                },
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay},
            ],
        }
    }


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (402, {"type": "payment_required", "message": "Not enough credits"}, kinds.CREDITS_EXHAUSTED),
        (402, {"error": {"code": 402, "metadata": {"reason": "in_flight_budget"}}}, kinds.RATE_LIMITED),
        (401, {"type": "unauthorized", "message": "", "details": ""}, kinds.KEY_REFUSED),
        (401, b"", kinds.KEY_REFUSED),
        (400, GOOGLE_KEY, kinds.KEY_REFUSED),
        (400, [GOOGLE_KEY], kinds.KEY_REFUSED),
        (403, {"error": {"message": "no", "code": "invalid_api_key"}}, kinds.KEY_REFUSED),
        (403, MODERATED, kinds.PROMPT_FLAGGED),
        (403, b"", kinds.FORBIDDEN),
        (403, b"<html>forbidden</html>", kinds.FORBIDDEN),
        (
            403,
            {
                "error": {
                    "message": "Key limit exceeded (daily limit). Manage it using https://x",
                    "code": 403,
                }
            },
            kinds.KEY_LIMIT,
        ),
        (
            403,
            {"error": {"message": "I wrote: Key limit exceeded (daily limit)", "code": 403}},
            kinds.FORBIDDEN,
        ),
        (400, {"error": {"code": "budget_exceeded", "message": "Budget has been exceeded"}}, kinds.KEY_LIMIT),
        (400, LITELLM_POLICY, kinds.PROMPT_FLAGGED),
        (
            400,
            {
                "error": {
                    "code": "content_filter",
                    "innererror": {"code": "ResponsibleAIPolicyViolation"},
                    "message": "The model ...",
                }
            },
            kinds.PROMPT_FLAGGED,
        ),
        (400, {"error": {"message": "the model refuses: bad temperature"}}, kinds.REQUEST_REFUSED),
        (400, {"error": {"message": "x/y is not a valid model ID", "code": 400}}, kinds.MODEL_GONE),
        (400, {"error": {"message": "you said: x/y is not a valid model ID"}}, kinds.REQUEST_REFUSED),
        (
            400,
            {"error": {"message": "no", "type": "invalid_request_error", "param": "model"}},
            kinds.MODEL_GONE,
        ),
        (404, {"error": {"message": "no such model", "code": "model_not_found"}}, kinds.MODEL_GONE),
        (404, {"error": {"message": "No endpoints found for x/y.", "code": 404}}, kinds.MODEL_GONE),
        (403, {"error": {"message": "no access", "code": "model_not_found"}}, kinds.MODEL_GONE),
        (410, {"error": {"message": "model x has been deprecated"}}, kinds.MODEL_GONE),
        (
            400,
            {"error": {"code": "unsupported_parameter", "param": "max_tokens", "message": "use other"}},
            kinds.PARAMETER_REFUSED,
        ),
        (
            400,
            {"error": {"code": "unsupported_value", "param": "temperature", "message": "only 1"}},
            kinds.PARAMETER_REFUSED,
        ),
        (
            400,
            {"error": {"code": "unsupported_value", "param": "messages[0].role", "message": "no"}},
            kinds.REQUEST_REFUSED,
        ),
        (429, {"error": "Rate limit exceeded, please retry later"}, kinds.RATE_LIMITED),
        (429, b"<html>slow down</html>", kinds.RATE_LIMITED),
        (
            429,
            {"error": {"type": "insufficient_quota", "code": "insufficient_quota", "message": "pay"}},
            kinds.CREDITS_EXHAUSTED,
        ),
        (429, google_quota("GenerateRequestsPerMinutePerProjectPerModel"), kinds.RATE_LIMITED),
        (429, google_quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier"), kinds.DAILY_LIMIT),
        (
            429,
            {"error": {"message": "Rate limit exceeded: free-models-per-day. Add credits", "code": 429}},
            kinds.DAILY_LIMIT,
        ),
        (422, b"", kinds.REQUEST_REFUSED),
        (413, b"", kinds.REQUEST_REFUSED),
        (408, b"", kinds.GATEWAY_DOWN),
        (500, b"\xff\xfe", kinds.GATEWAY_DOWN),
        (500, {"error": {"type": "insufficient_quota"}}, kinds.GATEWAY_DOWN),
        (503, b"", kinds.GATEWAY_DOWN),
        (529, {"error": {"type": "overloaded_error"}}, kinds.GATEWAY_DOWN),
    ],
)
def test_an_error_is_told_by_its_status_and_names(status: int, body: Any, kind: Kind) -> None:
    assert refused(status, body).kind is kind


def test_whom_each_kind_reaches() -> None:
    for kind in (kinds.PROMPT_FLAGGED, kinds.REQUEST_REFUSED, kinds.CUT_OFF, kinds.GATEWAY_DOWN):
        assert (kind.reach, kind.effect) == (Reach.REQUEST, kinds.Effect.NONE), "the fleet goes on"
    for kind in (kinds.CREDITS_EXHAUSTED, kinds.KEY_LIMIT, kinds.KEY_REFUSED, kinds.DAILY_LIMIT):
        assert (kind.attempts, kind.effect) == (1, kinds.Effect.STOP), "no retry in 1, 2, 4 s"
    assert kinds.MODEL_GONE.runs_to_confirm == kinds.FORBIDDEN.runs_to_confirm == 2
    billable = [kind for kind in kinds.FLEET_WIDE if kind.is_billable]
    assert billable == [kinds.NOT_STORED], "an answer came, and was paid for"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 429}, kinds.RATE_LIMITED),
        ({"code": "429", "message": "slow"}, kinds.RATE_LIMITED),
        ({"code": 402, "message": "pay"}, kinds.CREDITS_EXHAUSTED),
        ({"code": 401}, kinds.KEY_REFUSED),
        ({"status": "RESOURCE_EXHAUSTED"}, kinds.RATE_LIMITED),
        ({"type": "overloaded_error"}, kinds.GATEWAY_DOWN),
        ({"type": "insufficient_quota", "code": 429}, kinds.CREDITS_EXHAUSTED),
        ({"message": "nobody knows"}, kinds.GATEWAY_DOWN),
        ("just words", kinds.GATEWAY_DOWN),
    ],
)
def test_an_error_within_a_200_is_read_as_that_error(error: object, kind: Kind) -> None:
    for body in ({"choices": None, "error": error}, {"choices": [{"error": error}]}):
        fault = fault_of(json.dumps(body).encode())
        assert (fault.kind, fault.http_status) == (kind, 200)
        assert not kind.is_billable


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry-after": "3"}, {}, 3.0),
        ({"retry-after": "0.5"}, {}, 0.5),
        ({"retry-after": "Sun, 22 Nov 2026 12:00:10 GMT"}, {}, 10.0),
        ({"retry-after": "Sun, 22 Nov 2026 11:00:00 GMT"}, {}, None),
        ({"retry-after": "-1"}, {}, None),
        ({"retry-after": "nan"}, {}, None),
        ({"retry-after": "86400"}, {}, RETRY_AFTER_MAX_S),
        ({"retry-after": "soon"}, {}, None),
        ({"retry-after-ms": "2500"}, {}, 2.5),
        ({}, google_quota("PerMinute"), 34.0),
        ({}, google_quota("PerMinute", "0.25s"), 0.25),
        ({}, google_quota("PerMinute", "soon"), None),
        ({"retry-after": "2"}, google_quota("PerMinute"), 34.0),
        (
            {},
            {
                "error": {
                    "metadata": {"headers": {"X-RateLimit-Reset": str(int((NOW.timestamp() + 40) * 1000))}}
                }
            },
            40.0,
        ),
        ({}, {"error": {"metadata": {"retry_after_seconds": 7}}}, 7.0),
    ],
)
def test_when_to_ask_again_is_read_from_headers_and_body(
    headers: dict[str, str], body: object, seconds: float | None
) -> None:
    for status in (429, 503):
        assert refused(status, body, headers).retry_after_s == seconds


def test_limits_by_the_calendar_say_when_they_begin_anew() -> None:
    def of_key(period: str) -> datetime | None:
        body = {"error": {"message": f"Key limit exceeded ({period} limit)", "code": 403}}
        return refused(403, body).resets_at

    assert of_key("daily") == datetime(2026, 11, 23, tzinfo=UTC)
    assert of_key("weekly") == datetime(2026, 11, 23, tzinfo=UTC), "a Monday"
    assert of_key("monthly") == datetime(2026, 12, 1, tzinfo=UTC)
    assert of_key("total") is None
    daily = refused(429, google_quota("RequestsPerDayPerProject"))
    assert daily.resets_at == datetime(2026, 11, 23, 8, 0, tzinfo=UTC), "midnight of the Pacific"
    paid = refused(402, {}, {"retry-after": "60"})
    assert paid.resets_at == NOW + timedelta(seconds=60)


# Text


def test_text_and_usage_are_read() -> None:
    body = answer("hello", usage={"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12})
    assert read(body) == Completion("hello", Usage(TokenUsage(5, 7)))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("<think>first I ...</think>\n\nHello", "Hello"),
        ("<THINKING>a\nb</THINKING>Hello<reasoning>c</reasoning>", "Hello"),
        ("I think so.</think> Hello", "Hello"),
        ("<think>never ends", None),
        (
            [
                {"type": "thinking", "thinking": "x"},
                {"type": "text", "text": "Hel"},
                {"type": "text", "text": "lo"},
            ],
            "Hello",
        ),
        ([{"type": "reasoning", "text": "no"}, {"type": "output_text", "text": "Hello"}], "Hello"),
        ([{"type": "image_url", "image_url": {}}], None),
        (["Hello"], None),
        ("5 < 6 and <b>bold</b>", "5 < 6 and <b>bold</b>"),
        ("", None),
        (" \n", None),
        (None, None),
        (7, None),
    ],
)
def test_only_the_answer_is_the_text(content: object, text: str | None) -> None:
    if text is None:
        assert fault_of(answer(content)).kind is kinds.EMPTY_ANSWER
    else:
        assert read(answer(content)).text == text


@pytest.mark.parametrize(
    ("message", "choice", "kind"),
    [
        ({"content": "half a"}, {"finish_reason": "length"}, kinds.CUT_OFF),
        ({"content": ""}, {"finish_reason": "length"}, kinds.CUT_OFF),
        ({"content": "half a"}, {"finish_reason": "MAX_TOKENS"}, kinds.CUT_OFF),
        (
            {"content": "half a"},
            {"finish_reason": "stop", "native_finish_reason": "MAX_TOKENS"},
            kinds.CUT_OFF,
        ),
        ({"content": "x"}, {"finish_reason": "content_filter"}, kinds.FILTERED),
        ({"content": "x"}, {"finish_reason": "SAFETY"}, kinds.FILTERED),
        ({"content": "x"}, {"finish_reason": "error"}, kinds.BAD_ANSWER),
        ({"content": "x"}, {"finish_reason": "tool_calls"}, kinds.BAD_ANSWER),
        ({"content": None, "refusal": "I cannot help"}, {"finish_reason": "stop"}, kinds.MODEL_REFUSED),
        ({"content": [{"type": "refusal", "refusal": "no"}]}, {}, kinds.MODEL_REFUSED),
    ],
)
def test_what_is_no_whole_answer_is_refused_with_its_own_reason(
    message: object, choice: dict[str, object], kind: Kind
) -> None:
    fault = fault_of(chosen(message, **choice))
    assert (fault.kind, fault.kind.is_billable) == (kind, True)
    if kind is kinds.MODEL_REFUSED and isinstance(message, dict) and message.get("refusal"):
        assert str(fault) == "the model refused: I cannot help"


def test_an_unusable_answer_keeps_its_usage() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 512}
    assert fault_of(answer("  ", usage=usage)).usage.tokens == TokenUsage(5, 512)
    assert fault_of(b"<html>").usage.tokens is None


@pytest.mark.parametrize("finish", ["stop", "STOP", None, "end_turn", "eos"])
def test_an_answer_that_ended_by_itself_is_whole(finish: str | None) -> None:
    assert read(chosen({"content": "yes"}, finish_reason=finish)).text == "yes"


# Usage


@pytest.mark.parametrize(
    ("usage", "right"),
    [
        ({"prompt_tokens": 20, "completion_tokens": 151, "total_tokens": 553}, (20, 533, 382)),
        (
            {
                "prompt_tokens": 32,
                "completion_tokens": 9,
                "total_tokens": 135,
                "completion_tokens_details": {"reasoning_tokens": 94},
            },
            (32, 103, 94),
        ),
        (
            {
                "prompt_tokens": 21,
                "completion_tokens": 0,
                "total_tokens": 81,
                "completion_tokens_details": {"reasoning_tokens": 60},
            },
            (21, 60, 60),
        ),
        ({"prompt_tokens": 50, "completion_tokens": 100.0}, (50, 100, None)),
        ({"prompt_tokens": 50, "completion_tokens": "100"}, (50, 100, None)),
        ({"prompt_tokens": 50, "total_tokens": 170}, (50, 120, None)),
        ({"completion_tokens": 120, "total_tokens": 170}, (50, 120, None)),
        ({"input_tokens": 50, "output_tokens": 120}, (50, 120, None)),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 7,
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            (5, 7, 3),
        ),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 7,
                "completion_tokens_details": {"reasoning_tokens": 30},
            },
            (5, 37, 30),
        ),
    ],
)
def test_usage_is_read_as_gateways_send_it(usage: object, right: tuple[int, int, int | None]) -> None:
    found = read(answer("hi", usage=usage)).usage
    assert found.tokens is not None
    assert (found.tokens.input, found.tokens.output, found.tokens.reasoning) == right
    assert found.problem is None


@pytest.mark.parametrize(
    ("usage", "tokens", "problem"),
    [
        ({"prompt_tokens": 2147483647, "completion_tokens": 2147483647}, None, "implausible"),
        ({"prompt_tokens": 0, "completion_tokens": 0}, None, "implausible"),
        ({"prompt_tokens": 50, "completion_tokens": 100, "total_tokens": 120}, (50, 100), "contradictory"),
        (
            {"prompt_tokens": 50, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 60}},
            (50, 7),
            "contradictory",
        ),
        (
            {
                "prompt_tokens": 50,
                "completion_tokens": 7,
                "total_tokens": 100,
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
            (50, 50),
            "contradictory",
        ),
        ({"prompt_tokens": -5, "completion_tokens": 7}, None, "unreadable"),
        ({"prompt_tokens": True, "completion_tokens": 7}, None, "unreadable"),
        ({"prompt_tokens": 1.5, "completion_tokens": 7}, None, "unreadable"),
        ({"total_tokens": 100}, None, "incomplete"),
        ({"prompt_tokens": 10**400, "completion_tokens": 1}, None, "implausible"),
    ],
)
def test_usage_that_cannot_be_true_is_named_with_its_numbers(
    usage: dict[str, Any], tokens: tuple[int, int] | None, problem: str
) -> None:
    found = read(answer("hi", usage=usage)).usage
    assert (found.tokens and (found.tokens.input, found.tokens.output)) == tokens
    assert found.problem is not None
    assert problem in found.problem
    assert str(next(iter(usage.values())))[:100] in found.problem


@pytest.mark.parametrize("usage", [None, {}, [], "x", {"prompt_tokens": None}])
def test_missing_usage_is_unknown_and_no_problem(usage: object) -> None:
    assert read(answer("hello", usage=usage)).usage == Usage()


@pytest.mark.parametrize(
    ("cost", "micros", "is_odd"),
    [
        (0.00125, 1250, False),
        ("0.5", 500_000, False),
        (0, 0, False),
        (None, None, False),
        (-1, None, True),
        ("much", None, True),
        (1e12, None, True),
        (True, None, True),
    ],
)
def test_a_cost_that_the_gateway_reports_is_read(cost: object, micros: int | None, is_odd: bool) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "cost": cost}
    found = read(answer("hello", usage=usage)).usage
    assert found.cost_micros == micros
    assert (found.problem is not None) == is_odd


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "message",
                    "content",
                    "usage",
                    "error",
                    "prompt_tokens",
                    "total_tokens",
                    "cost",
                    "code",
                    "type",
                    "status",
                    "details",
                    "metadata",
                    "reasons",
                    "retryDelay",
                    "@type",
                    "finish_reason",
                    "refusal",
                    "x",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_200_crashes_the_reader(body: bytes) -> None:
    with suppress(GatewayFault):
        found = read(body)
        assert found.text.strip()
        if found.usage.problem:
            found.usage.problem.encode()


@given(
    st.integers(100, 999),
    st.dictionaries(st.sampled_from(["retry-after", "x"]), st.text(max_size=30)),
    st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()),
)
def test_no_error_answer_crashes_the_reader(status: int, headers: dict[str, str], body: bytes) -> None:
    found = read_fault(status, headers, body, NOW)
    assert isinstance(found, GatewayFault)
    assert "\x00" not in str(found)
    str(found).encode()


@given(st.text(alphabet="<>/think a", max_size=60))
def test_thoughts_leave_no_tag_of_theirs(text: str) -> None:
    assert "</think>" not in without_thoughts(text)
