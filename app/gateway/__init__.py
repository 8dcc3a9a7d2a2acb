"""The LLM gateway: HTTP only. A call ends with a Completion or a GatewayFault, nothing else."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from app.kinds import Kind


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """LLM tokens as the gateway counted them. `cached` is a part of the input, `reasoning` of the output;
    None when the gateway did not say.
    """

    input: int
    output: int
    cached: int | None = None
    reasoning: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Cost of an answer, as the gateway says it. `tokens` and `cost_micros` are None when it does not say,
    `problem` names numbers that contradict each other or cannot be true.
    """

    tokens: TokenUsage | None = None
    cost_micros: int | None = None
    problem: str | None = None


UNKNOWN_USAGE = Usage()


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole, final answer."""

    text: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question to the gateway; `request_id` goes with it and names it in both ledgers.

    `reasoning` is how much the model may think; None sends nothing about it. `is_json` asks for a JSON
    object.
    """

    request_id: UUID
    model: str
    messages: list[dict[str, str]]
    max_tokens: int
    reasoning: str | None = None
    is_json: bool = False


class GatewayFault(Exception):
    """An attempt that gave no usable answer. `kind` says what follows (app.kinds).

    `usage` is what the attempt cost all the same. `retry_after_s` and `resets_at` are what the gateway said
    about its end; None when it said nothing.
    """

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        http_status: int | None = None,
        usage: Usage = UNKNOWN_USAGE,
        retry_after_s: float | None = None,
        resets_at: datetime | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.http_status = http_status
        self.usage = usage
        self.retry_after_s = retry_after_s
        self.resets_at = resets_at

    @property
    def code(self) -> str:
        """The kind's name, as the ledger stores it."""
        return self.kind.code


class Gateway(Protocol):
    """Everything that the program needs of a gateway."""

    def complete(self, prompt: Prompt) -> Completion:
        """Make exactly one attempt; raises GatewayFault."""
        ...

    def close(self) -> None:
        """Close connections."""
        ...
