"""Names that gateways use: the names and the words by which an error is told. Data only;
app/gateway/faults.py reads it.

Where a gateway names an error, the name decides. Where one says it in words only, the whole message must have
the gateway's own form, because a message may quote the prompt.
"""

import re

from app import kinds
from app.kinds import Kind

NAMES: tuple[tuple[Kind, frozenset[str]], ...] = (
    (kinds.RATE_LIMITED, frozenset(("in_flight_budget", "in_flight_budget_exceeded"))),
    (
        kinds.CREDITS_EXHAUSTED,
        frozenset(
            (
                "insufficient_quota",
                "payment_required",
                "insufficient_credits",
                "insufficient_balance",
                "insufficient_funds",
                "insufficient_user_quota",
                "billing_hard_limit_reached",
                "billing_not_active",
                "billing_error",
                "credits_exhausted",
                "quota_exhausted",
                "arrearage",
                "exceeded_current_quota_error",
                "not_enough_balance",
                "accountoverdueerror",
                "blocked_api_access",
                "billing_disabled",
                "pre_consume_token_quota_failed",
                "personal-team-blocked:spending-limit",
                "1113",  # Z.ai
                "1008",  # MiniMax
                "30001",  # SiliconFlow
            )
        ),
    ),
    (kinds.KEY_LIMIT, frozenset(("key_limit_exceeded", "budget_exceeded"))),
    (kinds.DAILY_LIMIT, frozenset(("4006",))),  # Cloudflare
    (
        kinds.PROMPT_FLAGGED,
        frozenset(
            (
                "content_policy_violation",
                "content_filter",
                "responsibleaipolicyviolation",
                "content_policy",
                "moderation",
                "moderation_blocked",
                "prohibited_content",
                "data_inspection_failed",
                "sensitive_words_detected",
                "input_flagged",
                "safety",
                "blocklist",
                "1026",
                "1027",  # MiniMax
            )
        ),
    ),
    (
        kinds.MODEL_GONE,
        frozenset(
            (
                "model_not_found",
                "model_not_available",
                "model_not_supported",
                "model_deprecated",
                "model_decommissioned",
                "model_retired",
                "deploymentnotfound",
                "deprecated_model",
                "invalid_model",
                "unknown_model",
                "model_not_found_error",
                "operationnotsupported",
                "model_terms_required",
                "20012",  # SiliconFlow
            )
        ),
    ),
    (
        kinds.KEY_REFUSED,
        frozenset(
            (
                "api_key_invalid",
                "invalid_api_key",
                "invalid_key",
                "invalid_authentication",
                "authentication_error",
                "invalid_x_api_key",
                "unauthenticated",
                "unauthorized",
                "api_key_expired",
                "expired_api_key",
                "expired_key",
                "account_deactivated",
                "api_key_service_blocked",
                "token_not_found_in_db",
                "permission_denied",
                "permission_error",
                "1004",  # MiniMax
            )
        ),
    ),
    (kinds.FORBIDDEN, frozenset(("organization_restricted", "failed_precondition"))),
    (
        kinds.PARAMETER_REFUSED,
        frozenset(("unsupported_parameter", "unsupported_value", "unknown_parameter", "extra_forbidden")),
    ),
)
"""Meaning of the names, in this order: the first that is found decides."""

MODEL_DENIED = re.compile(r"\w*model_access_denied|model_permission_blocked\w*")
"""Names that say that the key may not ask this model; the key itself is in order."""

STATUS_OF_NAME = {
    "resource_exhausted": 429,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "too_many_requests": 429,
    "1002": 429,
    "not_found": 404,
    "unavailable": 503,
    "overloaded_error": 503,
    "overloaded": 503,
    "internal": 500,
    "api_error": 500,
    "server_error": 500,
    "internal_server_error": 500,
    "deadline_exceeded": 504,
    "invalid_argument": 400,
    "invalid_request_error": 400,
    "bad_request": 400,
}
"""The status of an error that came within a 200, where it gives no number."""

STATUS_OF_KIND = {
    kinds.RATE_LIMITED.code: 429,
    kinds.CREDITS_EXHAUSTED.code: 402,
    kinds.KEY_LIMIT.code: 403,
    kinds.DAILY_LIMIT.code: 429,
    kinds.PROMPT_FLAGGED.code: 400,
    kinds.MODEL_GONE.code: 404,
    kinds.KEY_REFUSED.code: 401,
    kinds.FORBIDDEN.code: 403,
    kinds.PARAMETER_REFUSED.code: 400,
}
"""The same where a name tells the kind."""

KEY_LIMIT_SAID = re.compile(r"Key limit exceeded(?: \((daily|weekly|monthly|total) limit\))?")
REGAIN_SAID = re.compile(r"You will regain access on (\d{4}-\d\d-\d\d) at (\d\d:\d\d) UTC")


def _words(status: int, kind: Kind, *forms: str) -> tuple[tuple[int, Kind, "re.Pattern[str]"], ...]:
    return tuple((status, kind, re.compile(form, re.S)) for form in forms)


IN_WORDS = (
    *_words(400, kinds.CREDITS_EXHAUSTED, r"Your credit balance is too low to access the Anthropic API\b.*"),
    *_words(
        429,
        kinds.CREDITS_EXHAUSTED,
        r"Your team \S+ has either used all available credits or reached its monthly spending limit\b.*",
        r"Your prepayment credits are depleted\b.*",
        r"Insufficient balance or no resource package\b.*",
        r"Your account \S.{0,120} is suspended\b.{0,40} insufficient balance\b.*",
    ),
    *_words(400, kinds.KEY_LIMIT, r"You have reached your specified (?:workspace )?API usage limits\b.*"),
    *_words(
        402, kinds.KEY_LIMIT, r"This request requires more credits, or fewer max_tokens\b.*/settings/keys\b.*"
    ),
    *_words(403, kinds.KEY_LIMIT, KEY_LIMIT_SAID.pattern + r"(?:[.;:,] .*|\.)?"),
    *_words(
        400, kinds.KEY_REFUSED, r"Incorrect API key provided: .*", r"Authentication Error\W+Expired Key\b.*"
    ),
    *_words(403, kinds.PROMPT_FLAGGED, r"Content violates usage guidelines\..*"),
    *_words(
        400,
        kinds.MODEL_GONE,
        r"\S+ is not a valid model ID\.?",
        r"Model Not Exist",
        r"Model does not exist\. .*",
        r"The provided model identifier is invalid\.?",
    ),
    *_words(
        429,
        kinds.DAILY_LIMIT,
        r"Rate limit exceeded: free-models-per-day\b.*",
        r"AiError: 4006: .*",
        r"Rate limit of \d+ per \d+s exceeded for UserByModelByDay\b.*",
    ),
    *_words(429, kinds.REQUEST_REFUSED, r"Request too large for \S+ .*"),
    *_words(402, kinds.REQUEST_REFUSED, r"Prompt tokens limit exceeded: \d+ > \d+\b.*"),
    *_words(404, kinds.WRONG_ADDRESS, r"Invalid URL \(\w+ \S+\)", r"Not Found", r"404 page not found\s*"),
)

PARAMETER_SAID = tuple(
    re.compile(form, re.S)
    for form in (
        r"property '([\w.]+)' is unsupported\b.*",
        r'Invalid JSON payload received\. Unknown name "([\w.]+)".*',
        r"Unrecognized request arguments? supplied: ([\w.]+)\b.*",
        r"Extra inputs are not permitted, field: '([\w.]+)'.*",
        r"`?([\w.]+)`? is deprecated for this model\b.*",
        r"Unsupported (?:value|parameter): '([\w.]+)' .*",
        r"Invalid parameter: '([\w.]+)' .*",
        r"(Reasoning) is mandatory for this endpoint and cannot be disabled\b.*",
        r"(?:litellm\.)?UnsupportedParamsError: .{0,120}?\bdon't support (?:parameters: \[')?(\w+)\b.*",
    )
)
"""How gateways say in words that a parameter is not taken."""

PARAMETERS = {
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_completion_tokens",
    "temperature": "temperature",
    "response_format": "response_format",
    "reasoning": "reasoning",
    "reasoning_effort": "reasoning",
    "reasoning.effort": "reasoning",
}
"""Parameters that a request can do without, by the names that gateways use for them."""
