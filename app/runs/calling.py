"""One activity's question to the gateway: each attempt admitted, recorded and settled.

For each attempt: admission books the call's time (app/admission) -> while that comes, insert the ledger
row and renew the lease (one statement) -> sleep, confirm -> call -> close the row, and on success
store the effect with it (one statement) -> settle the reservation.

What follows an answer stands in one table, app/kinds.py: a 429 is tried again after 1, 2 and 4 seconds,
or later if the gateway asks for it, and the pause holds for the whole fleet; a stop ends the run at once. A
wait that is longer than a worker waits puts the run back.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from opentelemetry.trace import Span
from sqlalchemy.exc import SQLAlchemyError
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential

from app import kinds, tracing
from app.admission.bucket import Verdict
from app.admission.controller import Permit, Place, Refusal, Request
from app.admission.turnstile import Stopping, pause
from app.agents.activities import Activity
from app.clock import monotonic, utcnow
from app.db import borrowed, describe, is_passing, sqlstate
from app.gateway import Completion, GatewayFault, Prompt
from app.log import get_logger, log_context
from app.models import CallStatus
from app.runs import writing
from app.runs.leases import Claim
from app.runs.services import Services
from app.runs.writing import Stored
from app.statements import Statement
from app.usage import calls, denials
from app.usage.prices import cost_micros

log = get_logger(__name__)

BACKOFF = wait_exponential(multiplier=1, exp_base=2, max=4)  # 1, 2, 4 seconds
BACKOFF_MAX_S = 4.0

PASSING = ("wait", "paused", "store_away")
"""Refusals that time alone mends: the run is put back. The others end it."""

LOST_A_RACE = ("40001", "40P01")
STORE_TRIES = 3
"""A serialization failure or a deadlock is tried again at once: the answer is paid for."""


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
    """No effect. `is_denial`: nobody's fault here (429, 402, a limit), so skipped, not failed. `fails_run`: the
    run ends as failed, whatever it did before. `is_answered`: an answer came, and may have cost something.
    """

    reason: str
    ends_run: bool
    is_denial: bool
    is_model_gone: bool = False
    fails_run: bool = False
    is_answered: bool = False


@dataclass(frozen=True, slots=True)
class Later:
    """No call soon: come back after `wait_s` with this place in the line."""

    reason: str
    wait_s: float
    ticket: int


class _PutBack(Exception):
    """The gateway wants to be asked again later than a worker waits."""

    def __init__(self, fault: GatewayFault, wait_s: float) -> None:
        super().__init__(str(fault))
        self.fault = fault
        self.wait_s = wait_s


def ask(
    services: Services,
    turn: Turn,
    activity: Activity,
    model: str,
    question: Question,
) -> Answered | Stopped | Later:
    """Ask until there is an answer, or no point in asking. Raises LeaseLost, and Stopping when the process is
    told to end.
    """
    longest_s = max(services.settings.limits.max_wait_s, BACKOFF_MAX_S)
    max_tokens = services.settings.gateway.max_tokens
    failures = 0

    def attempt() -> str | None:
        nonlocal failures, max_tokens
        try:
            return _attempt(services, turn, activity, model, question, failures, max_tokens)
        except GatewayFault as fault:
            failures += 1
            if fault.kind is kinds.CUT_OFF:
                max_tokens *= 2
            raise

    def wait(state: RetryCallState) -> float:
        fault = _fault_of(state)
        if fault is None or fault.kind.is_retried_at_once:
            return 0.0
        wait_s = max(BACKOFF(state), fault.retry_after_s or 0.0)
        if wait_s > longest_s:
            raise _PutBack(fault, wait_s)
        return wait_s

    retrying = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, GatewayFault)),
        stop=_is_enough,
        wait=wait,
        sleep=lambda seconds: pause(seconds, services.stopping),
        reraise=True,
    )
    try:
        return Answered(retrying(attempt))
    except _Refused as refused:
        return _refused(services, refused.refusal, model)
    except _PutBack as back:
        return Later(back.fault.code, back.wait_s, 0)
    except GatewayFault as fault:
        reason = _say(services, fault.kind, str(fault))
        log.warning("call.gave_up", step=activity.step, reason=reason)
        return Stopped(
            reason[:500],
            ends_run=fault.kind.ends_run,
            is_denial=fault.kind.is_denial,
            is_model_gone=fault.kind is kinds.MODEL_GONE,
            fails_run=fault.kind is kinds.NOT_STORED,
            is_answered=fault.kind.is_billable,
        )
    except SQLAlchemyError as error:
        if is_passing(error):
            raise
        log.exception("call.not_recorded", step=activity.step)
        reason = f"PostgreSQL refused the call's row: {describe(error)}"
        return Stopped(reason, ends_run=True, is_denial=False, fails_run=True)


def _refused(services: Services, refusal: Refusal, model: str) -> Stopped | Later:
    """What becomes of an activity whose call admission does not allow."""
    with services.engine.begin() as connection:
        denials.count(connection, refusal.reason)
    if refusal.reason in PASSING:
        return Later(refusal.reason, refusal.retry_after_s, refusal.ticket)
    if refusal.reason == kinds.MODEL_GONE.code:
        reason = f"{refusal.reason}: {model}"
        return Stopped(reason, ends_run=False, is_denial=False, is_model_gone=True)
    reason = refusal.reason
    if refusal.reason == "no_price":
        reason = (
            f"no_price: a budget is set and {model} has no known price, so nothing would hold the budget; "
            "set PACELINE_USAGE__PRICES"
        )
    elif kind := kinds.BY_CODE.get(refusal.reason):
        reason = _say(services, kind)
    return Stopped(reason, ends_run=True, is_denial=True)


def _say(services: Services, kind: kinds.Kind, detail: str = "") -> str:
    """A reason that a person can act on."""
    if kind is kinds.KEY_REFUSED:
        name = services.settings.gateway_key_name
        return f"{kind.code}: {name} was refused by the gateway, set the right key"
    return f"{kind.code}: {detail or kind.title}"


def _fault_of(state: RetryCallState) -> GatewayFault | None:
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, GatewayFault) else None


def _is_enough(state: RetryCallState) -> bool:
    fault = _fault_of(state)
    return fault is None or state.attempt_number >= fault.kind.attempts


def _attempt(
    services: Services,
    turn: Turn,
    activity: Activity,
    model: str,
    question: Question,
    failures: int,
    max_tokens: int,
) -> str | None:
    held = turn.claim
    lease = timedelta(seconds=services.settings.worker.lease_s)
    # English takes about four characters a token; three leave room for other tongues.
    prompt_tokens = sum(len(message["content"]) for message in question.messages) // 3
    number = turn.attempts.get(activity.step, 0) + 1
    usage = services.settings.usage
    cost = cost_micros(model, prompt_tokens, max_tokens, utcnow(), usage)
    is_counted_as_free = cost is None and usage.unknown_prices == "warn"
    request = Request(
        id=calls.call_id(held.run_id, activity.step, number),
        run_id=held.run_id,
        agent_id=held.agent_id,
        is_adhoc=held.cycle_at is None,
        tokens=prompt_tokens + max_tokens,
        cost_micros=0 if is_counted_as_free else cost,
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
                cost_reserved=cost,
            )
        if call is None:
            raise LeaseLost
        turn.attempts[activity.step] = number
        opened.append(call)

    try:
        permit = services.admission.acquire(request, open_row, services.stopping)
    except Stopping:
        _withdraw(services, opened)
        raise
    if isinstance(permit, Refusal):  # booked, and then a 402 or a pause came before the call's time
        _withdraw(services, opened)
        raise _Refused(permit)
    return _call(services, held, permit, opened[0], question, failures, max_tokens)


def _withdraw(services: Services, opened: Sequence[calls.OpenedCall]) -> None:
    """Take back the row of a call that was not made."""
    for call in opened:
        with services.engine.begin() as connection:
            calls.withdraw_call(connection, call)


def _call(
    services: Services,
    held: Claim,
    permit: Permit,
    call: calls.OpenedCall,
    question: Question,
    failures: int,
    max_tokens: int,
) -> str | None:
    """Make the call that has its permit and its row; whatever comes of it is recorded and settled."""
    gateway = services.settings.gateway
    prompt = Prompt(
        call.id, call.model, list(question.messages), max_tokens,
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
            raise GatewayFault(
                kinds.EMPTY_ANSWER, str(why), http_status=200, usage=completion.usage
            ) from None
    except GatewayFault as fault:
        result = _result(services, call.model, fault, began)
        tracing.tell(span, _told(result), fault.code)
        with borrowed(services.autocommit) as connection:
            writing.close_call(connection, call, result)
        log.info("call.ended", model=call.model, error=fault.code, latency_ms=result.latency_ms)
        _settle(services, permit, _verdict(fault, failures), result)
        raise
    result = _result(services, call.model, completion, began)
    tracing.tell(span, _told(result))
    try:
        stored = _store(services, held, call, result, question, answer)
    except Exception as error:
        if isinstance(error, SQLAlchemyError) and is_passing(error):
            raise
        log.exception("call.not_stored", model=call.model)
        _close_unstored(services, call, result)
        _settle(services, permit, Verdict("ok"), result)
        said = (
            f"PostgreSQL refused it ({describe(error)})"
            if isinstance(error, SQLAlchemyError)
            else f"internal error: {error!r}"
        )
        raise GatewayFault(kinds.NOT_STORED, said[:400]) from error
    log.info(
        "call.ended", model=call.model, tokens=result.tokens_used, latency_ms=result.latency_ms
    )
    _settle(services, permit, Verdict("ok"), result)
    if not stored.is_ours:  # its spend is recorded, but the effect was not ours to store
        raise LeaseLost
    return stored.note


def _store(
    services: Services,
    held: Claim,
    call: calls.OpenedCall,
    result: calls.Result,
    question: Question,
    answer: Any,
) -> Stored:
    """Close the call and store its effect in one statement; a lost race is tried again."""
    lease = timedelta(seconds=services.settings.worker.lease_s)
    effect = question.values(answer)
    for tries_left in reversed(range(STORE_TRIES)):
        try:
            with borrowed(services.autocommit) as connection:
                return writing.store(connection, held, lease, call, result, question.store, effect)
        except SQLAlchemyError as error:
            if sqlstate(error) not in LOST_A_RACE or not tries_left:
                raise
    raise AssertionError  # the last try returns or raises


def _close_unstored(services: Services, call: calls.OpenedCall, result: calls.Result) -> None:
    """Close a call whose answer cannot be stored, with its cost, in a statement of its own."""
    closed = replace(result, status=CallStatus.ERROR, error_code=kinds.NOT_STORED.code)
    try:
        with borrowed(services.autocommit) as connection:
            writing.close_call(connection, call, closed)
    except SQLAlchemyError as error:
        if is_passing(error):
            raise
        log.exception("call.not_closed")  # the row counts what was reserved


def _verdict(fault: GatewayFault, failures: int) -> Verdict:
    """What a fault means for other calls."""
    kind, span_s = fault.kind, 0.0
    if kind.effect is kinds.Effect.PAUSE:
        span_s = max(fault.retry_after_s or 0.0, min(BACKOFF_MAX_S, 2.0**failures))
    elif kind.effect is kinds.Effect.STOP and fault.resets_at is not None:
        span_s = max(1.0, (fault.resets_at - utcnow()).total_seconds())
    is_of_key = kind.reach is kinds.Reach.KEY
    return Verdict(kind.effect, int(span_s * 1e6), kind.code, is_of_key, kind.runs_to_confirm)


def _told(result: calls.Result) -> dict[str, Any]:
    return {
        tracing.HTTP_STATUS: result.http_status, tracing.TOKENS_INPUT: result.tokens_input,
        tracing.TOKENS_OUTPUT: result.tokens_output,
    }  # fmt: skip


def _settle(services: Services, permit: Permit, verdict: Verdict, result: calls.Result) -> None:
    """Turn the reservation into what the ledger row counts: known, or reserved, or nothing."""
    tokens, cost = result.tokens_used, result.cost_micros
    if not result.may_be_billed:
        tokens, cost = tokens or 0, cost or 0
    services.admission.settle(permit, verdict, tokens=tokens, cost_micros=cost)


def _result(
    services: Services, model: str, answer: Completion | GatewayFault, began: float
) -> calls.Result:
    usage, is_ok = answer.usage, isinstance(answer, Completion)
    result = calls.Result(
        status=CallStatus.OK if is_ok else CallStatus.ERROR,
        latency_ms=round((monotonic() - began) * 1000),
        error_code=None if isinstance(answer, Completion) else answer.code,
        http_status=200 if isinstance(answer, Completion) else answer.http_status,
        cost_micros=usage.cost_micros,
        cost_reported=usage.cost_micros,
        usage_problem=usage.problem,
    )
    tokens = usage.tokens
    if tokens is None:
        return result
    if result.cost_micros is None:
        priced = cost_micros(
            model, tokens.input, tokens.output, utcnow(), services.settings.usage,
            cached=tokens.cached or 0,
        )  # fmt: skip
        result = replace(result, cost_micros=priced)
    return replace(
        result,
        tokens_input=tokens.input,
        tokens_output=tokens.output,
        tokens_cached=tokens.cached,
        tokens_reasoning=tokens.reasoning,
    )
