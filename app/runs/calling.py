"""One activity's question to the gateway: up to four attempts, each paced, recorded and settled.

For each attempt: take a permit and sleep until its time -> insert the ledger row and renew the
lease (one transaction) -> call -> close the row, and on success store the effect with it (one
transaction). A 429 is tried again after 1, 2 and 4 seconds, or later if the gateway asks for it;
then the run gives up this cycle. 402 and a refused key end the run at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from redis.exceptions import RedisError
from sqlalchemy import Connection
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential

from app.admission.permits import KeyKnownBad
from app.agents.activities import Activity
from app.clock import monotonic, sleep, utcnow
from app.community.text import tidy
from app.gateway import (
    BadAnswer,
    Completion,
    CreditsExhausted,
    GatewayDown,
    GatewayFault,
    KeyRefused,
    Prompt,
    Throttled,
)
from app.log import get_logger
from app.models import CallStatus
from app.runs import leases
from app.runs.leases import Claim
from app.runs.services import Services
from app.usage import calls
from app.usage.prices import cost_micros

log = get_logger(__name__)

ATTEMPTS = {Throttled: 4, GatewayDown: 2}
"""Attempts by what went wrong; anything else is tried once."""

BACKOFF = wait_exponential(multiplier=1, exp_base=2, max=4)  # 1, 2, 4 seconds


class Effect(Protocol):
    """What to store when the answer is good, in the transaction that closes the call."""

    def __call__(self, connection: Connection, *, body: str) -> bool: ...


class LeaseLost(Exception):
    """Another worker has the run now."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The effect is stored."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """No effect. `is_denial`: nobody's fault here (429, 402, wrong key), so skipped, not failed."""

    reason: str
    ends_run: bool
    is_denial: bool


def ask(
    services: Services,
    held: Claim,
    activity: Activity,
    model: str,
    messages: Sequence[dict[str, str]],
    effect: Effect,
) -> Answered | Stopped:
    """Ask until there is an answer, or no point in asking. Raises LeaseLost."""
    retrying = Retrying(
        retry=retry_if_exception(lambda error: type(error) in ATTEMPTS),
        stop=_is_enough,
        wait=_pause,
        sleep=sleep,
        reraise=True,
    )
    try:
        retrying(_attempt, services, held, activity, model, list(messages), effect)
    except KeyKnownBad:
        return Stopped(_refused_key(services), ends_run=True, is_denial=True)
    except GatewayFault as fault:
        reason = f"{fault.code}: {fault}"
        if isinstance(fault, KeyRefused):
            services.permits.refuse_key()
            reason = _refused_key(services)
        is_denial = isinstance(fault, Throttled | CreditsExhausted | KeyRefused)
        log.warning("call.gave_up", run_id=str(held.run_id), step=activity.step, reason=reason)
        return Stopped(reason[:500], ends_run=is_denial, is_denial=is_denial)
    return Answered()


def _refused_key(services: Services) -> str:
    name = services.settings.gateway_key_name
    return f"{KeyRefused.code}: {name} was refused by the gateway, set the right key"


def _is_enough(state: RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome else None
    return state.attempt_number >= ATTEMPTS.get(type(error), 1)


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after_s if isinstance(error, Throttled) else None
    return max(BACKOFF(state), asked or 0.0)


def _attempt(
    services: Services,
    held: Claim,
    activity: Activity,
    model: str,
    messages: list[dict[str, str]],
    effect: Effect,
) -> None:
    lease = timedelta(seconds=services.settings.worker.lease_s)
    max_tokens = services.settings.gateway.max_tokens
    sleep(_permit(services))
    with services.engine.begin() as connection:
        if not leases.renew(connection, held, lease):
            raise LeaseLost
        call = calls.open_call(
            connection,
            run_id=held.run_id,
            agent_id=held.agent_id,
            step=activity.step,
            attempt=1
            + calls.last_attempt(
                connection, held.agent_id, held.run_id, held.opened_at, activity.step
            ),
            request_type=activity.kind,
            model=model,
            tokens_reserved=sum(len(m["content"]) for m in messages) // 4 + max_tokens,
        )
    if call is None:
        raise LeaseLost
    began = monotonic()
    try:
        completion = services.gateway.complete(Prompt(call.id, model, messages, max_tokens))
        body = tidy(completion.text)
        if not body:
            raise BadAnswer("nothing left to publish", http_status=200, usage=completion.usage)
    except GatewayFault as fault:
        _close(services, call, fault, began)
        raise
    with services.engine.begin() as connection:
        calls.close_call(connection, call, _result(model, completion, began))
        if not leases.renew(connection, held, lease):
            lost = True  # the spend is recorded all the same; the effect is not ours to store
        else:
            lost = False
            effect(connection, body=body)
    if lost:
        raise LeaseLost


def _permit(services: Services) -> float:
    """Seconds to wait for this call's turn. Redis away: wait for it, for it alone knows the cap."""
    while True:
        try:
            return services.permits.take()
        except RedisError as error:
            log.warning("permits.redis_away", error=str(error))
            sleep(1.0)


def _close(services: Services, call: calls.OpenedCall, fault: GatewayFault, began: float) -> None:
    with services.engine.begin() as connection:
        calls.close_call(connection, call, _result(call.model, fault, began))


def _result(model: str, answer: Completion | GatewayFault, began: float) -> calls.Result:
    is_ok = isinstance(answer, Completion)
    usage = answer.usage
    return calls.Result(
        status=CallStatus.OK if is_ok else CallStatus.ERROR,
        latency_ms=round((monotonic() - began) * 1000),
        error_code=None if isinstance(answer, Completion) else answer.code,
        http_status=200 if isinstance(answer, Completion) else answer.http_status,
        tokens_input=usage.input if usage else None,
        tokens_output=usage.output if usage else None,
        cost_micros=cost_micros(model, usage.input, usage.output, utcnow()) if usage else None,
    )
