"""One activity's question to the gateway: each attempt admitted, recorded and settled.

For each attempt: admission books the call's time (app/admission) -> while that comes, insert the ledger
row and renew the lease (one statement) -> sleep, confirm -> make the call (app/runs/attempt.py).

Consequences of an answer stand in one table, app/kinds.py: a 429 is tried again after 1, 2 and 4 seconds,
or later if the gateway asks for it, and the pause holds for the whole fleet; a stop ends the run at once. A
wait that is longer than a worker waits puts the run back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError
from tenacity import RetryCallState, Retrying, retry_if_exception

from app import kinds
from app.admission.controller import Place, Refusal, Request
from app.admission.turnstile import Stopping, pause
from app.agents.activities import Activity
from app.clock import utcnow
from app.db import borrowed
from app.gateway import GatewayFault
from app.log import get_logger
from app.refusals import reason_of, say
from app.runs import writing
from app.runs.attempt import BACKOFF_MAX_S, Question, backoff_s, make_call
from app.runs.leases import Claim, LeaseLost
from app.runs.services import Services
from app.sql_faults import describe, is_passing
from app.usage import calls, denials
from app.usage.prices import cost_micros

log = get_logger(__name__)


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
    """No effect. `is_denial`: nobody's fault here (429, 402, a limit), so skipped, not failed. `fails_run`:
    the run ends as failed, whatever it did before. `is_answered`: an answer came and may have cost something.
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
    services: Services, turn: Turn, activity: Activity, model: str, question: Question
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
        wait_s = max(backoff_s(state.attempt_number - 1), fault.retry_after_s or 0.0)
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
    """Decide about an activity whose call admission does not allow."""
    with services.engine.begin() as connection:
        denials.count(connection, refusal.reason)
    if reason_of(refusal.reason).passes:
        return Later(refusal.reason, refusal.retry_after_s, refusal.ticket)
    if refusal.reason == kinds.MODEL_GONE.code:
        reason = f"{refusal.reason}: {model}"
        return Stopped(reason, ends_run=False, is_denial=False, is_model_gone=True)
    kind = kinds.BY_CODE.get(refusal.reason)
    reason = _say(services, kind) if kind else say(refusal.reason)
    if refusal.reason == "no_price":
        reason = f"{reason} ({model})"
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
    return make_call(services, held, permit, opened[0], question, failures, max_tokens)


def _withdraw(services: Services, opened: Sequence[calls.OpenedCall]) -> None:
    """Take back the row of a call that was not made."""
    for call in opened:
        with services.engine.begin() as connection:
            calls.withdraw_call(connection, call)
