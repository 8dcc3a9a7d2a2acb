"""One activity's question to the gateway: up to four attempts, each admitted, recorded and settled.

For each attempt: admission books the call's time (app/admission) -> while that comes, insert the ledger
row and renew the lease (one statement) -> sleep, confirm -> call -> close the row, and on success
store the effect with it (one statement) -> settle the reservation. A 429 is tried again after 1, 2
and 4 seconds, or later if the gateway asks for it, and the pause holds for the whole fleet; then the
run gives up this cycle. 402 and a refused key end the run at once. A permit that is not to be had soon
puts the run back.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from opentelemetry.trace import Span
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential

from app import tracing
from app.admission.controller import Permit, Place, Refusal, Request
from app.agents.activities import Activity
from app.clock import monotonic, sleep, utcnow
from app.db import borrowed
from app.gateway import (
    BadAnswer,
    Completion,
    CreditsExhausted,
    GatewayDown,
    GatewayFault,
    KeyRefused,
    ModelGone,
    NoAnswer,
    Prompt,
    Throttled,
)
from app.log import get_logger, log_context
from app.models import CallStatus
from app.runs import writing
from app.runs.leases import Claim
from app.runs.services import Services
from app.statements import Statement
from app.usage import calls, denials
from app.usage.prices import cost_micros

log = get_logger(__name__)

ATTEMPTS: dict[type[BaseException], int] = {Throttled: 4, GatewayDown: 2, NoAnswer: 2}
"""Attempts by what went wrong; anything else is tried once."""

BACKOFF = wait_exponential(multiplier=1, exp_base=2, max=4)  # 1, 2, 4 seconds

OUTCOMES: dict[type[GatewayFault], str] = {
    Throttled: "throttled",
    CreditsExhausted: "broke",
    KeyRefused: "key_refused",
    ModelGone: "model_gone",
}
"""What admission is told about a fault; anything else is `failed`."""

PASSING = ("wait", "paused", "store_away")
"""Refusals that time alone mends: the run is put back. The others end it."""


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask, and what becomes of the answer."""

    messages: Sequence[dict[str, str]]
    fit: Callable[[str], Any]
    """Makes the answer's text fit to store; raises ValueError when there is nothing in it."""
    store: Statement
    """Stores that, as it closes the call: one of app.runs.writing."""
    values: Callable[[Any], dict[str, Any]]
    """What is stored, from what `fit` made."""
    is_json: bool = False


class LeaseLost(Exception):
    """Another worker has the run now."""


class _Refused(Exception):
    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Turn:
    """The run that asks, and what admission must know of it."""

    claim: Claim
    quota: int | None
    ticket: int | None
    place: Place
    obeys_budgets: bool
    attempts: dict[str, int]
    """The number of each step's latest attempt; counted on here."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The effect is stored; `note` says why it is not published, if so."""

    note: str | None = None


@dataclass(frozen=True, slots=True)
class Stopped:
    """No effect. `is_denial`: nobody's fault here (429, 402, a limit), so skipped, not failed."""

    reason: str
    ends_run: bool
    is_denial: bool
    is_model_gone: bool = False


@dataclass(frozen=True, slots=True)
class Later:
    """No permit soon: come back after `wait_s` with this place in the line."""

    reason: str
    wait_s: float
    ticket: int


def ask(
    services: Services,
    turn: Turn,
    activity: Activity,
    model: str,
    question: Question,
) -> Answered | Stopped | Later:
    """Ask until there is an answer, or no point in asking. Raises LeaseLost."""
    retrying = Retrying(
        retry=retry_if_exception(lambda error: type(error) in ATTEMPTS),
        stop=_is_enough,
        wait=_pause,
        sleep=sleep,
        reraise=True,
    )
    failures = 0

    def attempt() -> str | None:
        nonlocal failures
        try:
            return _attempt(services, turn, activity, model, question, failures)
        except GatewayFault:
            failures += 1
            raise

    try:
        return Answered(retrying(attempt))
    except _Refused as refused:
        refusal = refused.refusal
        with services.engine.begin() as connection:
            denials.count(connection, refusal.reason)
        if refusal.reason in PASSING:
            return Later(refusal.reason, refusal.retry_after_s, refusal.ticket)
        if refusal.reason == ModelGone.code:
            return Stopped(f"{refusal.reason}: {model}", False, False, is_model_gone=True)
        return Stopped(_say(services, refusal.reason), ends_run=True, is_denial=True)
    except GatewayFault as fault:
        reason = _say(services, fault.code, str(fault))
        log.warning("call.gave_up", step=activity.step, reason=reason)
        is_denial = isinstance(fault, Throttled | CreditsExhausted | KeyRefused)
        is_gone = isinstance(fault, ModelGone)
        return Stopped(reason[:500], is_denial, is_denial, is_model_gone=is_gone)


def _say(services: Services, code: str, detail: str = "") -> str:
    """A reason that a person can act on."""
    if code == KeyRefused.code:
        name = services.settings.gateway_key_name
        return f"{code}: {name} was refused by the gateway, set the right key"
    return f"{code}: {detail}" if detail else code


def _is_enough(state: RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome else None
    return error is None or state.attempt_number >= ATTEMPTS.get(type(error), 1)


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after_s if isinstance(error, Throttled) else None
    return max(BACKOFF(state), asked or 0.0)


def _attempt(
    services: Services,
    turn: Turn,
    activity: Activity,
    model: str,
    question: Question,
    failures: int,
) -> str | None:
    held = turn.claim
    lease = timedelta(seconds=services.settings.worker.lease_s)
    max_tokens = services.settings.gateway.max_tokens
    # English takes about four characters a token; three leave room for other tongues.
    prompt_tokens = sum(len(message["content"]) for message in question.messages) // 3
    number = turn.attempts.get(activity.step, 0) + 1
    request = Request(
        id=calls.call_id(held.run_id, activity.step, number),
        agent_id=held.agent_id,
        is_adhoc=held.cycle_at is None,
        tokens=prompt_tokens + max_tokens,
        cost_micros=cost_micros(model, prompt_tokens, max_tokens, utcnow(), services.settings.usage)
        or 0,
        model=model,
        quota=turn.quota,
        ticket=turn.ticket or 0,
        place=turn.place,
        obeys_budgets=turn.obeys_budgets,
    )
    opened: list[calls.OpenedCall] = []

    def open_row() -> None:
        with borrowed(services.autocommit) as connection:
            call = writing.open_call(
                connection,
                held,
                lease,
                request_id=request.id,
                step=activity.step,
                attempt=number,
                request_type=str(activity.kind),
                model=model,
                tokens_reserved=request.tokens,
            )
        if call is None:
            raise LeaseLost
        turn.attempts[activity.step] = number
        opened.append(call)

    permit = services.admission.acquire(request, open_row)
    if isinstance(permit, Refusal):
        if opened:  # booked, and then a 402 or a pause came before the call's time
            with services.engine.begin() as connection:
                calls.withdraw_call(connection, opened[0])
        raise _Refused(permit)
    return _call(services, held, permit, opened[0], question, failures)


def _call(
    services: Services,
    held: Claim,
    permit: Permit,
    call: calls.OpenedCall,
    question: Question,
    failures: int,
) -> str | None:
    """Make the call that has its permit and its row; whatever comes of it is recorded and settled."""
    gateway = services.settings.gateway
    prompt = Prompt(
        call.id, call.model, list(question.messages), gateway.max_tokens,
        gateway.reasoning.get(call.model), question.is_json,
    )  # fmt: skip
    about = {
        tracing.OPERATION: "chat", tracing.MODEL: call.model, tracing.REQUEST: call.id,
        tracing.RUN: held.run_id, tracing.PROVIDER: call.model.partition("/")[0],
    }  # fmt: skip
    with log_context(request_id=str(call.id)), tracing.span(f"chat {call.model}", about) as span:
        return _converse(services, held, permit, call, question, prompt, failures, span)


def _converse(
    services: Services,
    held: Claim,
    permit: Permit,
    call: calls.OpenedCall,
    question: Question,
    prompt: Prompt,
    failures: int,
    span: Span,
) -> str | None:
    began = monotonic()
    try:
        completion = services.gateway.complete(prompt)
        try:
            answer = question.fit(completion.text)
        except ValueError as why:
            raise BadAnswer(str(why), http_status=200, usage=completion.usage) from None
    except GatewayFault as fault:
        result = _result(services, call.model, fault, began)
        tracing.tell(span, _told(result), fault.code)
        with borrowed(services.autocommit) as connection:
            writing.close_call(connection, call, result)
        log.info("call.ended", model=call.model, error=fault.code, latency_ms=result.latency_ms)
        asked = fault.retry_after_s if isinstance(fault, Throttled) else None
        pause_s = max(asked or 0.0, min(4.0, 2.0**failures))
        _settle(services, permit, OUTCOMES.get(type(fault), "failed"), result, pause_s)
        raise
    result = _result(services, call.model, completion, began)
    tracing.tell(span, _told(result))
    lease = timedelta(seconds=services.settings.worker.lease_s)
    effect = question.values(answer)
    with borrowed(services.autocommit) as connection:
        stored = writing.store(connection, held, lease, call, result, question.store, effect)
    log.info(
        "call.ended", model=call.model, tokens=result.tokens_used, latency_ms=result.latency_ms
    )
    _settle(services, permit, "ok", result, 0)
    if not stored.is_ours:  # its spend is recorded, but the effect was not ours to store
        raise LeaseLost
    return stored.note


def _told(result: calls.Result) -> dict[str, Any]:
    return {
        tracing.HTTP_STATUS: result.http_status, tracing.TOKENS_INPUT: result.tokens_input,
        tracing.TOKENS_OUTPUT: result.tokens_output,
    }  # fmt: skip


def _settle(
    services: Services, permit: Permit, outcome: str, result: calls.Result, pause_s: float
) -> None:
    tokens, cost = result.tokens_used, result.cost_micros
    if tokens is None and not result.may_be_billed:
        tokens = cost = 0
    services.admission.settle(permit, outcome, tokens=tokens, cost_micros=cost, pause_s=pause_s)


def _result(
    services: Services, model: str, answer: Completion | GatewayFault, began: float
) -> calls.Result:
    usage, is_ok = answer.usage, isinstance(answer, Completion)
    result = calls.Result(
        status=CallStatus.OK if is_ok else CallStatus.ERROR,
        latency_ms=round((monotonic() - began) * 1000),
        error_code=None if isinstance(answer, Completion) else answer.code,
        http_status=200 if isinstance(answer, Completion) else answer.http_status,
    )
    if usage is None:
        return result
    cost = cost_micros(
        model,
        usage.input,
        usage.output,
        utcnow(),
        services.settings.usage,
        cached=usage.cached or 0,
    )
    return replace(
        result,
        tokens_input=usage.input,
        tokens_output=usage.output,
        tokens_cached=usage.cached,
        tokens_reasoning=usage.reasoning,
        cost_micros=cost,
    )
