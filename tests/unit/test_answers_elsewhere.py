"""Errors, answers and usage as the gateways of the field send them; each was reported in public or stands in
the documentation of the one who sends it.
"""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from app import kinds
from app.gateway import Completion, GatewayFault
from app.gateway.answers import read_answer
from app.gateway.faults import read_fault, refused_parameter
from app.gateway.thoughts import without_thoughts
from app.gateway.usage import read_usage
from app.kinds import Kind

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
MOST = 2_001_024


def fault(status: int, body: Any, headers: dict[str, str] | None = None) -> GatewayFault:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_fault(status, headers or {}, raw, NOW)


def said(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


def answer(data: Any) -> Completion:
    return read_answer(json.dumps(data).encode(), NOW, MOST)


def answer_fault(data: Any) -> GatewayFault:
    with pytest.raises(GatewayFault) as caught:
        answer(data)
    return caught.value


LITELLM = "key not allowed to access model. This key can only access models=['gpt-5']. Tried to access x"
XAI_SAFETY = {
    "code": "The caller does not have permission to execute the specified operation",
    "error": "Content violates usage guidelines. Team: x, API key ID: y, Model: grok-4-0709, Failed check: "
    "SAFETY_CHECK_TYPE_BIO",
}
XAI_MONEY = {
    "code": "Some resource has been exhausted",
    "error": "Your team 1 has either used all available credits or reached its monthly spending limit. To "
    "continue making API requests, please purchase more credits or raise your spending limit.",
}
ANTHROPIC = {
    "type": "error",
    "error": {
        "type": "invalid_request_error",
        "message": "Your credit balance is too low to access the Anthropic API. Go to Plans & Billing.",
    },
}
LOCATION = [
    {
        "error": {
            "code": 400,
            "message": "User location is not supported for the API use.",
            "status": "FAILED_PRECONDITION",
        }
    }
]
BILLING = {
    "error": {
        "code": 403,
        "message": "x",
        "status": "PERMISSION_DENIED",
        "details": [{"reason": "BILLING_DISABLED"}],
    }
}
UPSTREAM = {"raw": "Unauthorized", "provider_name": "Chutes"}
AFFORD = (
    "This request requires more credits, or fewer max_tokens. You requested up to 65536 tokens, but can only "
    "afford 1333. To increase, visit https://openrouter.ai/settings/keys and create a key with a higher limit"
)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        # One model's denial, or one prompt, does not stop the key.
        (401, said(LITELLM, type="key_model_access_denied", param="model", code="401"), kinds.MODEL_GONE),
        (403, said(LITELLM, type="team_model_access_denied", param="model"), kinds.MODEL_GONE),
        (403, said("x", code="model_permission_blocked_project", type="permissions_error"), kinds.MODEL_GONE),
        (403, XAI_SAFETY, kinds.PROMPT_FLAGGED),
        (
            403,
            said(
                "prohibited due to a violation of provider Terms Of Service.",
                code=403,
                metadata={"provider_name": None},
            ),
            kinds.REQUEST_REFUSED,
        ),
        (401, said("Provider returned error", code=401, metadata=UPSTREAM), kinds.GATEWAY_DOWN),
        # Money, whatever its status.
        (400, ANTHROPIC, kinds.CREDITS_EXHAUSTED),
        (
            400,
            said(
                "You have reached your specified API usage limits. You will regain access on 2026-12-01 "
                "at 00:00 UTC."
            ),
            kinds.KEY_LIMIT,
        ),
        (400, said("x", type="invalid_request_error", code="blocked_api_access"), kinds.CREDITS_EXHAUSTED),
        (
            412,
            said(
                "Account x is suspended, possibly due to reaching the monthly spending limit.",
                code="PRECONDITION_FAILED",
            ),
            kinds.CREDITS_EXHAUSTED,
        ),
        (429, XAI_MONEY, kinds.CREDITS_EXHAUSTED),
        (
            429,
            said(
                "Your prepayment credits are depleted. Please go to AI Studio at https://ai.studio",
                code=429,
                status="RESOURCE_EXHAUSTED",
            ),
            kinds.CREDITS_EXHAUSTED,
        ),
        (
            429,
            said(
                "Your account o<k> is suspended due to insufficient balance, please recharge",
                type="exceeded_current_quota_error",
            ),
            kinds.CREDITS_EXHAUSTED,
        ),
        (
            429,
            said("Insufficient balance or no resource package. Please recharge.", code="1113"),
            kinds.CREDITS_EXHAUSTED,
        ),
        (403, BILLING, kinds.CREDITS_EXHAUSTED),
        (
            403,
            {"code": 403, "reason": "NOT_ENOUGH_BALANCE", "message": "not enough balance"},
            kinds.CREDITS_EXHAUSTED,
        ),
        (
            403,
            {"code": 30001, "message": "Sorry, your account balance is insufficient"},
            kinds.CREDITS_EXHAUSTED,
        ),
        (403, said("x", code="personal-team-blocked:spending-limit"), kinds.CREDITS_EXHAUSTED),
        (402, said(AFFORD, code=402), kinds.KEY_LIMIT),
        (
            429,
            {
                "errors": [
                    {
                        "message": "AiError: 4006: you have used up your daily free allocation of 10,000 "
                        "neurons",
                        "code": 4006,
                    }
                ]
            },
            kinds.DAILY_LIMIT,
        ),
        # The key or the account.
        (
            400,
            {
                "code": "Client specified an invalid argument",
                "error": "Incorrect API key provided: xa***. You can obtain an API key from https://x.",
            },
            kinds.KEY_REFUSED,
        ),
        (400, {"error": "Incorrect%20API%20key%20provided:%20xa***."}, kinds.KEY_REFUSED),
        (400, said("Authentication Error - Expired Key", type="expired_key", code="400"), kinds.KEY_REFUSED),
        (400, said("Organization has been restricted.", code="organization_restricted"), kinds.FORBIDDEN),
        (400, LOCATION, kinds.FORBIDDEN),
        # The model.
        (400, said("Model Not Exist", type="invalid_request_error", param=None), kinds.MODEL_GONE),
        (
            400,
            {"code": 20012, "message": "Model does not exist. Please check it carefully."},
            kinds.MODEL_GONE,
        ),
        (
            400,
            said("The chatCompletion operation does not work with x", code="OperationNotSupported"),
            kinds.MODEL_GONE,
        ),
        (400, said("The provided model identifier is invalid.", code="validation_error"), kinds.MODEL_GONE),
        (503, said("no channel", code="model_not_found"), kinds.MODEL_GONE),
        (404, {"error": "model 'x' not found"}, kinds.MODEL_GONE),
        # The address.
        (404, {"detail": "Not Found"}, kinds.WRONG_ADDRESS),
        (404, b"<html>404 Not Found</html>", kinds.WRONG_ADDRESS),
        (404, b"404 page not found\n", kinds.WRONG_ADDRESS),
        (404, b"", kinds.MODEL_GONE),
        (
            404,
            said("Invalid URL (POST /v1/v1/chat/completions)", type="invalid_request_error"),
            kinds.WRONG_ADDRESS,
        ),
        # This request alone.
        (
            429,
            said(
                "Request too large for gpt-4o in organization o on tokens per min (TPM): Limit 30000",
                type="tokens",
                code="rate_limit_exceeded",
            ),
            kinds.REQUEST_REFUSED,
        ),
        (
            402,
            said("Prompt tokens limit exceeded: 14856 > 9376. To increase, visit", code=402),
            kinds.REQUEST_REFUSED,
        ),
        # What passes.
        (498, b"", kinds.GATEWAY_DOWN),
        (499, b"", kinds.GATEWAY_DOWN),
        (504, b"", kinds.NO_ANSWER),
        (524, b"", kinds.NO_ANSWER),
    ],
)
def test_an_error_of_the_field_means_what_its_sender_means(status: int, body: Any, kind: Kind) -> None:
    assert fault(status, body).kind is kind


def test_the_day_on_which_access_comes_back_is_read() -> None:
    text = "You have reached your specified workspace API usage limits. You will regain access on 2026-12-01 "
    assert fault(400, said(text + "at 00:00 UTC.")).resets_at == datetime(2026, 12, 1, tzinfo=UTC)
    assert fault(400, said(text + "at 99:99 UTC.")).kind is kinds.KEY_LIMIT


@pytest.mark.parametrize(
    ("parameter", "status", "body"),
    [
        ("reasoning", 400, said("property 'reasoning' is unsupported", type="invalid_request_error")),
        (
            "reasoning",
            400,
            [
                said(
                    'Invalid JSON payload received. Unknown name "reasoning": Cannot find.',
                    code=400,
                    status="INVALID_ARGUMENT",
                )
            ],
        ),
        ("reasoning", 400, said("Unrecognized request argument supplied: reasoning", param=None)),
        ("reasoning", 400, said("Extra inputs are not permitted, field: 'reasoning', value: {'e': 1}")),
        (
            "reasoning",
            422,
            {
                "detail": [
                    {
                        "type": "extra_forbidden",
                        "loc": ["body", "reasoning"],
                        "msg": "Extra inputs are not permitted",
                    }
                ]
            },
        ),
        ("reasoning", 400, said("Reasoning is mandatory for this endpoint and cannot be disabled.")),
        (
            "reasoning",
            400,
            said(
                "Unsupported value: 'reasoning_effort' does not support 'none'.",
                param="reasoning_effort",
                code="unsupported_value",
            ),
        ),
        ("reasoning", 400, said("x", param="reasoning.effort", code="unsupported_parameter")),
        ("temperature", 400, said("`temperature` is deprecated for this model.", type="x")),
        (
            "temperature",
            400,
            said(
                "litellm.UnsupportedParamsError: gpt-5 models (including x) don't "
                "support temperature=0.8. Only temperature=1 is supported.",
                type="None",
                param="None",
                code="400",
            ),
        ),
        (
            "response_format",
            400,
            said(
                "Invalid parameter: 'response_format' of type 'json_object' is not "
                "supported with this model.",
                param="response_format",
                code=None,
            ),
        ),
        ("max_completion_tokens", 400, said("x", param="max_completion_tokens", code="unknown_parameter")),
        ("max_tokens", 400, said("Unsupported parameter: 'max_tokens' is not supported with this model.")),
    ],
)
def test_a_parameter_is_refused_in_many_words(parameter: str, status: int, body: Any) -> None:
    found = fault(status, body)
    assert (found.kind, refused_parameter(found)) == (kinds.PARAMETER_REFUSED, parameter)


def test_a_bound_of_a_wrong_size_is_not_left_out() -> None:
    body = said("max_tokens is too large: 99999", param="max_tokens", code="invalid_value")
    assert fault(400, body).kind is kinds.REQUEST_REFUSED


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"error": {"type": "insufficient_quota", "code": "insufficient_quota"}}, kinds.CREDITS_EXHAUSTED),
        ({"error": {"type": "authentication_error"}}, kinds.KEY_REFUSED),
        ({"error": {"status": "PERMISSION_DENIED"}}, kinds.KEY_REFUSED),
        ({"error": {"code": "model_not_found"}}, kinds.MODEL_GONE),
        ({"error": {"code": "content_filter"}}, kinds.PROMPT_FLAGGED),
        ({"error": {"code": "1113", "message": "x"}}, kinds.CREDITS_EXHAUSTED),
        ({"error": {"message": ANTHROPIC["error"]["message"]}}, kinds.CREDITS_EXHAUSTED),
        (
            {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}, "choices": None},
            kinds.CREDITS_EXHAUSTED,
        ),
        ({"base_resp": {"status_code": 1004, "status_msg": "x"}, "choices": None}, kinds.KEY_REFUSED),
        ({"base_resp": {"status_code": 1002, "status_msg": "x"}, "choices": None}, kinds.RATE_LIMITED),
        ({"base_resp": {"status_code": 1026, "status_msg": "x"}, "choices": None}, kinds.PROMPT_FLAGGED),
        ([{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "x"}}], kinds.RATE_LIMITED),
        (
            {"success": False, "errors": [{"code": 10000, "message": "Authentication error"}]},
            kinds.GATEWAY_DOWN,
        ),
        ({"code": "AccountOverdueError", "message": "x"}, kinds.CREDITS_EXHAUSTED),
        ({"choices": [{"index": 0, "finish_reason": "content_filter: PROHIBITED_CONTENT"}]}, kinds.FILTERED),
        (
            {"choices": [{"finish_reason": "content_filter: RECITATION", "message": {"content": "I am"}}]},
            kinds.FILTERED,
        ),
        (
            {"choices": [{"finish_reason": "content_filter: x", "message": {"role": "assistant"}}]},
            kinds.FILTERED,
        ),
        ({"choices": [{"finish_reason": "length"}]}, kinds.CUT_OFF),
        ({"choices": [{"finish_reason": "sensitive", "message": {"content": "I"}}]}, kinds.FILTERED),
        ({"choices": [{"finish_reason": ["length"], "message": {"content": "I"}}]}, kinds.BAD_ANSWER),
        *(
            (
                {
                    "choices": [
                        {
                            "finish_reason": "stop",
                            "native_finish_reason": native,
                            "message": {"content": "I ca"},
                        }
                    ]
                },
                kind,
            )
            for native, kind in (
                ("refusal", kinds.MODEL_REFUSED),
                ("error", kinds.BAD_ANSWER),
                ("OTHER", kinds.BAD_ANSWER),
                ("LANGUAGE", kinds.BAD_ANSWER),
                ("MALFORMED_FUNCTION_CALL", kinds.BAD_ANSWER),
                ("model_context_window_exceeded", kinds.CUT_OFF),
                ("pause_turn", kinds.BAD_ANSWER),
                ("insufficient_system_resource", kinds.BAD_ANSWER),
            )
        ),
    ],
)
def test_a_200_of_the_field_that_is_no_answer(data: Any, kind: Kind) -> None:
    assert answer_fault(data).kind is kind


@pytest.mark.parametrize("error", [{"code": 0, "message": ""}, {"message": None, "type": None}, None, {}])
def test_an_error_field_with_nothing_in_it_is_none(error: Any) -> None:
    choices = [{"message": {"content": "Hello"}, "finish_reason": "stop", "native_finish_reason": "STOP"}]
    assert answer({"error": error, "choices": choices, "base_resp": {"status_code": 0}}).text == "Hello"


@pytest.mark.parametrize(
    "text",
    [
        "<seed:think>secret</seed:think>Hello",
        "[THINK]secret[/THINK]Hello",
        "◁think▷secret◁/think▷Hello",
        "<|channel|>analysis<|message|>secret<|end|><|start|>assistant<|channel|>final<|message|>Hello",
        "<|START_THINKING|>secret<|END_THINKING|><|START_RESPONSE|>Hello<|END_RESPONSE|>",
        "<longcat_think>secret</longcat_think>Hello",
        "<|begin_of_thought|>secret<|end_of_thought|>\nHello",
        "<unused94>thought secret<unused95>Hello",
        "<|channel>thought secret<channel|>Hello",
        "<analysis>secret</analysis>Hello",
        "<scratchpad>secret</scratchpad>\n\nHello",
        "<thoughts>secret</thoughts>Hello",
        "<antThinking>secret</antThinking>Hello",
        "<mm:think>secret</mm:think>Hello",
        "<think>s</think><answer>Hello</answer>",
        "<output>Hello</output>",
        "<|begin_of_box|>Hello<|end_of_box|>",
        "Hello</s>",
        "Hello<|im_end|>",
        "Hello<|end|>",
        "Hello<|end|><|endoftext|>",
        "<think>a<think>b</think>c</think>Hello",
        "<thinking type='x'>secret</thinking>Hello",
        "Hello<|eot_id|>",
        "Hello<end_of_turn>",
        "<think>a</think>Hello</think>",
        "<thinking>s</think>Hello",
        "<think>a</think><think>b</think>Hello",
        "secret</think>Hello",
    ],
)
def test_thoughts_and_marks_of_every_format_go(text: str) -> None:
    assert without_thoughts(text) == "Hello"


@pytest.mark.parametrize(
    "text", ["Use <reasoning> tags in prompts", "I said <b>think</b> twice", "2 < 3 | 4", "a thought"]
)
def test_a_text_about_tags_stays(text: str) -> None:
    assert without_thoughts(text) == text


def test_thoughts_without_an_end_are_not_published() -> None:
    assert without_thoughts("<think>secret that goes on") == ""
    assert without_thoughts("<thinking mode='long'>secret that goes on") == ""
    assert without_thoughts("<|channel|>analysis<|message|>secret<|end|>") == ""
    parts = [{"type": "text", "text": "secret", "thought": True}, {"type": "text", "text": "Hello"}]
    assert answer({"choices": [{"message": {"content": parts}, "finish_reason": "stop"}]}).text == "Hello"


@pytest.mark.parametrize(
    ("usage", "tokens", "cost"),
    [
        (
            {
                "prompt_tokens": 14,
                "completion_tokens": 70,
                "total_tokens": 84,
                "cost": 0,
                "is_byok": True,
                "cost_details": {"upstream_inference_cost": 0.0123},
            },
            (14, 70),
            12_300,
        ),
        (
            {
                "prompt_tokens": 14,
                "completion_tokens": 70,
                "cost": 0.0006,
                "is_byok": True,
                "cost_details": {"upstream_inference_cost": 0.0123},
            },
            (14, 70),
            12_900,
        ),
        (
            {
                "prompt_tokens": 14,
                "completion_tokens": 70,
                "cost": 0.0006,
                "is_byok": False,
                "cost_details": {"upstream_inference_cost": 0.0005},
            },
            (14, 70),
            600,
        ),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 6,
                "cost": {"input_tokens_cost": 0, "total_cost": 0.007},
            },
            (5, 6),
            7_000,
        ),
        (
            {
                "input_tokens": 10,
                "cache_creation_input_tokens": 2000,
                "cache_read_input_tokens": 5000,
                "output_tokens": 50,
            },
            (7_010, 50),
            None,
        ),
        (
            {
                "prompt_tokens": 0,
                "completion_tokens": 0,
                "total_tokens": 0,
                "input_tokens": 10,
                "output_tokens": 5,
            },
            (10, 5),
            None,
        ),
        ({"prompt_tokens": 10, "completion_tokens": 5, "cost": "1_0"}, (10, 5), None),
    ],
)
def test_usage_of_the_field(usage: Any, tokens: tuple[int, int], cost: int | None) -> None:
    found = read_usage({"usage": usage}, MOST)
    assert found.tokens is not None
    assert ((found.tokens.input, found.tokens.output), found.cost_micros) == (tokens, cost)


@pytest.mark.parametrize(
    ("usage", "cached", "reasoning"),
    [
        (
            {"input_tokens_details": {"cached_tokens": 4}, "output_tokens_details": {"reasoning_tokens": 3}},
            4,
            3,
        ),
        ({"cached_tokens": 4}, 4, None),
        ({"prompt_cache_hit_tokens": 4}, 4, None),
    ],
)
def test_parts_of_usage_are_read_where_gateways_put_them(
    usage: Any, cached: int, reasoning: int | None
) -> None:
    found = read_usage({"usage": {"input_tokens": 10, "output_tokens": 5} | usage}, MOST)
    assert found.tokens is not None
    assert (found.tokens.cached, found.tokens.reasoning) == (cached, reasoning)


@pytest.mark.parametrize(
    ("headers", "error", "seconds"),
    [
        ({"x-ratelimit-reset-requests": "6m0s"}, {}, 360),
        ({"x-ratelimit-reset": "7.5"}, {}, 7.5),
        ({"retry-after": "Sun Nov 22 12:00:10 2026"}, {}, 10),
        ({"retry-after": "7.66s"}, {}, 7.66),
        ({"retry-after": "3", "x-ratelimit-reset-requests": "6m0s"}, {}, 3),
        ({}, {"details": [{"@type": "x/google.rpc.RetryInfo", "retryDelay": "1337.18ms"}]}, 1.33718),
        ({"retry-after": "1_000"}, {}, None),
        ({"retry-after": ""}, {}, None),
    ],
)
def test_waits_are_read_as_they_are_written(headers: Any, error: Any, seconds: float | None) -> None:
    found = fault(429, {"error": {"message": "slow", **error}}, headers).retry_after_s
    assert found == (seconds and pytest.approx(seconds))
