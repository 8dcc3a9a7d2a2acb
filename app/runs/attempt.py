"""One call that has its permit and its ledger row: call -> close the row, and on success store the effect
with it (one statement) -> settle the reservation. Every end of the call is recorded and settled once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from opentelemetry.trace import Span
from sqlalchemy.exc import SQLAlchemyError

from app import kinds, tracing
from app.admission.controller import Permit
from app.admission.values import Verdict
from app.clock import monotonic, utcnow
from app.db import borrowed
from app.gateway import Completion, GatewayFault, Prompt
from app.log import get_logger, log_context
from app.models import CallStatus
from app.runs import writing
from app.runs.leases import Claim, LeaseLost
from app.runs.services import Services
from app.runs.writing import Stored
from app.sql_faults import describe, is_passing, sqlstate
from app.statements import Statement
from app.usage import calls
from app.usage.prices import cost_micros, is_believable

log = get_logger(__name__)

BACKOFF_MAX_S = 4.0
PROBLEM_MAX = 300
UNSEEN_TOKENS = 20_000
"""Tokens that a gateway may add to a prompt. A token is a byte or more."""
LOST_A_RACE = ("40001", "40P01")
STORE_TRIES = 3
"""A serialization failure or a deadlock is tried again at once: the answer is paid for."""


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt, and the use of its answer."""

    messages: Sequence[dict[str, str]]
    fit: Callable[[str], Any]
    """Makes the answer's text fit to store; raises ValueError when there is nothing in it."""
    store: Statement
    """Stores that, as it closes the call: one of app.runs.writing."""
    values: Callable[[Any], dict[str, Any]]
    """Return the effect to store, from the result of `fit`."""
    is_json: bool = False


def make_call(
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
        call.id,
        call.model,
        list(question.messages),
        max_tokens,
        gateway.reasoning.get(call.model),
        question.is_json,
    )
    about = {
        tracing.OPERATION: "chat",
        tracing.MODEL: call.model,
        tracing.REQUEST: call.id,
        tracing.RUN: held.run_id,
        tracing.PROVIDER: call.model.partition("/")[0],
    }
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
        result = _result(services, call, question, fault, began)
        tracing.tell(span, _told(result), fault.code)
        with borrowed(services.autocommit) as connection:
            writing.close_call(connection, call, result)
        log.info("call.ended", model=call.model, error=fault.code, latency_ms=result.latency_ms)
        _settle(services, permit, _verdict(fault, failures), result)
        raise
    result = _result(services, call, question, completion, began)
    tracing.tell(span, _told(result))
    try:
        stored = _store(services, held, call, result, question, answer)
    except Exception as error:
        if isinstance(error, SQLAlchemyError) and is_passing(error):
            raise
        log.exception("call.not_stored", model=call.model)
        _close_unstored(services, call, result)
        said = (
            f"PostgreSQL refused it ({describe(error)})"
            if isinstance(error, SQLAlchemyError)
            else f"internal error: {error!r}"
        )
        unstored = GatewayFault(kinds.NOT_STORED, said[:400])
        _settle(services, permit, _verdict(unstored, failures), result)
        raise unstored from error
    log.info("call.ended", model=call.model, tokens=result.tokens_used, latency_ms=result.latency_ms)
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


def backoff_s(failures: int) -> float:
    """How long to wait after a call that failed, and so many before it: 1, 2, 4 seconds. After a 429 the
    whole fleet waits.
    """
    return min(BACKOFF_MAX_S, 2.0**failures)


def _verdict(fault: GatewayFault, failures: int) -> Verdict:
    """Return the meaning of a fault for other calls."""
    kind, span_s = fault.kind, 0.0
    if kind.effect is kinds.Effect.PAUSE:
        span_s = max(fault.retry_after_s or 0.0, backoff_s(failures))
    elif kind.effect is kinds.Effect.STOP and fault.resets_at is not None:
        span_s = max(1.0, (fault.resets_at - utcnow()).total_seconds())
    is_of_key = kind.reach is kinds.Reach.KEY
    return Verdict(kind.effect, int(span_s * 1e6), kind.code, is_of_key, kind.runs_to_confirm)


def _told(result: calls.Result) -> dict[str, Any]:
    return {
        tracing.HTTP_STATUS: result.http_status,
        tracing.TOKENS_INPUT: result.tokens_input,
        tracing.TOKENS_OUTPUT: result.tokens_output,
    }


def _settle(services: Services, permit: Permit, verdict: Verdict, result: calls.Result) -> None:
    """Turn the reservation into what the ledger row counts: known, or reserved, or nothing."""
    tokens, cost = result.tokens_used, result.cost_micros
    if not result.may_be_billed:
        tokens, cost = tokens or 0, cost or 0
    services.admission.settle(permit, verdict, tokens=tokens, cost_micros=cost)


def _result(
    services: Services,
    call: calls.OpenedCall,
    question: Question,
    answer: Completion | GatewayFault,
    began: float,
) -> calls.Result:
    """Return the result of a call with its cost: as reported where that can be true, else by its tokens."""
    usage, is_ok = answer.usage, isinstance(answer, Completion)
    tokens, reported = usage.tokens, usage.cost_micros
    problems = [usage.problem] if usage.problem else []
    listed = None
    if tokens is not None:
        listed = cost_micros(
            call.model,
            tokens.input,
            tokens.output,
            utcnow(),
            services.settings.usage,
            cached=tokens.cached or 0,
        )
        sent = sum(len(message["content"].encode()) for message in question.messages)
        if tokens.input > sent + UNSEEN_TOKENS:
            problems.append(f"doubtful: {tokens.input} tokens of a prompt of {sent} bytes")
    cost = listed if reported is None else reported
    all_tokens = tokens.input + tokens.output if tokens else 0
    if reported is not None and not is_believable(reported, listed, all_tokens):
        problems.append(f"implausible cost: {reported / 1e6:g} dollars")
        cost = listed
    return calls.Result(
        status=CallStatus.OK if is_ok else CallStatus.ERROR,
        latency_ms=round((monotonic() - began) * 1000),
        error_code=None if isinstance(answer, Completion) else answer.code,
        http_status=200 if isinstance(answer, Completion) else answer.http_status,
        tokens_input=tokens.input if tokens else None,
        tokens_output=tokens.output if tokens else None,
        tokens_cached=tokens.cached if tokens else None,
        tokens_reasoning=tokens.reasoning if tokens else None,
        cost_micros=cost,
        cost_reported=reported,
        usage_problem="; ".join(problems)[:PROBLEM_MAX] or None,
    )
