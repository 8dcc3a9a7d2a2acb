"""The LLM gateway: HTTP only. What comes back is a Completion or a GatewayFault, nothing else."""

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """LLM tokens as the gateway counted them. `cached` is a part of the input, `reasoning` of the output;
    None when it did not say.
    """

    input: int
    output: int
    cached: int | None = None
    reasoning: int | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """A usable answer. `usage` is None when the gateway did not say."""

    text: str
    usage: TokenUsage | None


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question to the gateway; `request_id` goes with it and names it in both ledgers.

    `reasoning` is how much the model may think; None: it is not told. `is_json` asks for a JSON object.
    """

    request_id: UUID
    model: str
    messages: list[dict[str, str]]
    max_tokens: int
    reasoning: str | None = None
    is_json: bool = False


class GatewayFault(Exception):
    """An attempt that gave no usable answer. `usage` is what it cost all the same, if known."""

    code = "gateway_fault"

    def __init__(
        self, detail: str, *, http_status: int | None = None, usage: TokenUsage | None = None
    ) -> None:
        super().__init__(detail)
        self.http_status = http_status
        self.usage = usage


class Throttled(GatewayFault):
    """429: too many calls. `retry_after_s` is what the gateway asked for, if it did."""

    code = "rate_limited"

    def __init__(self, detail: str, *, http_status: int, retry_after_s: float | None) -> None:
        super().__init__(detail, http_status=http_status)
        self.retry_after_s = retry_after_s


class CreditsExhausted(GatewayFault):
    """402: nothing will work until somebody pays. Never retried."""

    code = "credits_exhausted"


class KeyRefused(GatewayFault):
    """401 or 403: the key is wrong. Never retried."""

    code = "key_refused"


class ModelGone(GatewayFault):
    """400 or 404 about the model: this model will not answer, another may."""

    code = "model_gone"


class RequestRefused(GatewayFault):
    """Another 4xx: this very request will never work."""

    code = "request_refused"


class GatewayDown(GatewayFault):
    """5xx or no connection."""

    code = "gateway_down"


class NoAnswer(GatewayFault):
    """The question was sent and no whole answer came: it may have been paid for."""

    code = "no_answer"


class BadAnswer(GatewayFault):
    """200 with nothing to publish: empty, cut off by thinking, or not what the API promises."""

    code = "bad_answer"


class Gateway(Protocol):
    """What the program needs of a gateway."""

    def complete(self, prompt: Prompt) -> Completion:
        """Make exactly one attempt; raises GatewayFault."""
        ...

    def close(self) -> None:
        """Close connections."""
        ...
