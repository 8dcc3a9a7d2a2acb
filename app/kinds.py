"""Every kind of gateway answer that gives no text: whom it stops, whether it is retried, what it costs, and
what ends it. One row each; code, ledger, incidents, pages and alerts use the same name.

docs/gateway-answers.md is generated from this table.
"""

from dataclasses import dataclass
from enum import StrEnum


class Reach(StrEnum):
    """Reach of an answer's stop."""

    REQUEST = "request"
    MODEL = "model"
    KEY = "key"
    FLEET = "fleet"


class Effect(StrEnum):
    """Reaction of admission."""

    NONE = "failed"
    PAUSE = "pause"
    """All calls wait until a moment, then go on more slowly."""
    STOP = "stop"
    """All calls stop; single probes look whether the cause is gone."""
    DROP_MODEL = "drop_model"
    """The model is not asked for ten minutes."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of answer. `attempts`: calls in all; `is_billable`: may cost although no usage was sent;
    `runs_to_confirm`: how many runs in a row must see it before it reaches further than its own request.
    """

    code: str
    title: str
    reach: Reach
    ends: str
    mend: str = ""
    effect: Effect = Effect.NONE
    attempts: int = 1
    is_billable: bool = False
    is_denial: bool = False
    """The run is not at fault: the run is skipped, not failed."""
    runs_to_confirm: int = 1
    is_retried_at_once: bool = False
    """Waiting would not help: the next try is another request."""

    @property
    def ends_run(self) -> bool:
        """Whether the run's other calls would hear the same."""
        return self.effect in (Effect.STOP, Effect.PAUSE) and self.runs_to_confirm == 1


RATE_LIMITED = Kind(
    "rate_limited",
    "the gateway answers 429: too many calls",
    Reach.FLEET,
    "Retry-After, or 1, 2, 4 s; then the rate climbs back within 30 s",
    "The fleet slows down by itself; `paceline limits set --rate` lowers the cap for good.",
    effect=Effect.PAUSE,
    attempts=4,
    is_denial=True,
)
DAILY_LIMIT = Kind(
    "daily_limit",
    "the gateway's quota of the day is used up",
    Reach.FLEET,
    "the end of the quota's day; a probe looks once an hour",
    "Wait for the quota's reset, or raise the quota at the gateway and then run `paceline resume`.",
    effect=Effect.STOP,
    is_denial=True,
)
CREDITS_EXHAUSTED = Kind(
    "credits_exhausted",
    "the gateway's credits are used up",
    Reach.FLEET,
    "a probe that is answered: after 1, 2, 4 ... 60 min",
    "Add credits, then run `paceline resume`.",
    effect=Effect.STOP,
    is_denial=True,
)
KEY_LIMIT = Kind(
    "key_limit",
    "the gateway key has reached its spending limit",
    Reach.KEY,
    "the limit's reset, or a probe that is answered: at most 60 min apart",
    "Raise the key's limit at the gateway or wait for its reset; then run `paceline resume`.",
    effect=Effect.STOP,
    is_denial=True,
)
KEY_REFUSED = Kind(
    "key_refused",
    "the gateway refused the key",
    Reach.KEY,
    "another key, or a probe that is answered: after 1, 2, 4 ... 60 min",
    "Set the right key; calls resume by themselves when a probe is answered.",
    effect=Effect.STOP,
    is_denial=True,
)
FORBIDDEN = Kind(
    "forbidden",
    "the gateway forbids calls without saying why (403)",
    Reach.KEY,
    "a probe that is answered: after 1, 2, 4 ... 60 min",
    "Look at the key's rights and the account at the gateway; then run `paceline resume`.",
    effect=Effect.STOP,
    is_denial=True,
    runs_to_confirm=2,
)
WRONG_ADDRESS = Kind(
    "wrong_address",
    "the gateway's address does not exist (404)",
    Reach.FLEET,
    "a probe that is answered: after 1, 2, 4 ... 60 min",
    "Correct PACELINE_GATEWAY__BASE_URL: most end in /v1. Then restart the workers.",
    effect=Effect.STOP,
    is_denial=True,
    runs_to_confirm=2,
)
MODEL_GONE = Kind(
    "model_gone",
    "the gateway no longer has the model",
    Reach.MODEL,
    "ten minutes; then one run asks again",
    "The fallback models are asked meanwhile; set PACELINE_GATEWAY__POST_MODEL and its like.",
    effect=Effect.DROP_MODEL,
    runs_to_confirm=2,
)
PARAMETER_REFUSED = Kind(
    "parameter_refused",
    "the model does not take a parameter",
    Reach.REQUEST,
    "the retry, which leaves the parameter out; the model is remembered",
    attempts=4,
    is_retried_at_once=True,
)
PROMPT_FLAGGED = Kind(
    "prompt_flagged",
    "the gateway's content policy refused this prompt",
    Reach.REQUEST,
    "the end of this request",
)
REQUEST_REFUSED = Kind(
    "request_refused", "the gateway refused this request", Reach.REQUEST, "the end of this request"
)
GATEWAY_DOWN = Kind(
    "gateway_down",
    "the gateway is out of order or cannot be reached",
    Reach.REQUEST,
    "one retry after 1 s or Retry-After",
    attempts=2,
)
NO_ANSWER = Kind(
    "no_answer",
    "the request was sent and no whole answer came",
    Reach.REQUEST,
    "one retry after 1 s",
    attempts=2,
    is_billable=True,
)
BAD_ANSWER = Kind(
    "bad_answer",
    "the answer is not what the API promises",
    Reach.REQUEST,
    "the end of this request",
    is_billable=True,
)
EMPTY_ANSWER = Kind(
    "empty_answer", "the answer holds no text", Reach.REQUEST, "the end of this request", is_billable=True
)
CUT_OFF = Kind(
    "cut_off",
    "the answer ended at max_tokens",
    Reach.REQUEST,
    "one retry with twice as many tokens",
    attempts=2,
    is_billable=True,
    is_retried_at_once=True,
)
FILTERED = Kind(
    "filtered",
    "the gateway's content filter cut the answer",
    Reach.REQUEST,
    "the end of this request",
    is_billable=True,
)
MODEL_REFUSED = Kind(
    "model_refused", "the model refused to answer", Reach.REQUEST, "the end of this request", is_billable=True
)
NOT_STORED = Kind(
    "not_stored",
    "answers are paid for and PostgreSQL refuses to store them",
    Reach.FLEET,
    "a probe whose answer is stored: after 1, 2, 4 ... 60 min; the run asks for nothing again",
    "The runs' reasons have the SQLSTATE; look at triggers and constraints on Paceline's tables, then run "
    "`paceline resume`.",
    effect=Effect.STOP,
    is_billable=True,
    runs_to_confirm=5,
)

KINDS = (
    RATE_LIMITED,
    DAILY_LIMIT,
    CREDITS_EXHAUSTED,
    KEY_LIMIT,
    KEY_REFUSED,
    FORBIDDEN,
    WRONG_ADDRESS,
    MODEL_GONE,
    PARAMETER_REFUSED,
    PROMPT_FLAGGED,
    REQUEST_REFUSED,
    GATEWAY_DOWN,
    NO_ANSWER,
    BAD_ANSWER,
    EMPTY_ANSWER,
    CUT_OFF,
    FILTERED,
    MODEL_REFUSED,
    NOT_STORED,
)
BY_CODE = {kind.code: kind for kind in KINDS}
BILLABLE = tuple(kind.code for kind in KINDS if kind.is_billable)
"""Codes of answers that may have cost something although they sent no usage."""
STOPPING = tuple(kind for kind in KINDS if kind.effect is Effect.STOP)
FLEET_WIDE = tuple(kind for kind in KINDS if kind.effect in (Effect.STOP, Effect.PAUSE))
"""Kinds that stop every call. Each has incidents and an alert."""
