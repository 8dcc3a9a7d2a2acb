"""Giving one agent its turn: the one use case.

claim and read what is needed -> decide (pure) -> for each activity: call the gateway (app.runs.calling) ->
end the run. No transaction is open while the
gateway is called. A run taken over from a dead worker decides the same again, because its dice are
seeded, and leaves out the steps whose result is stored.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from app import tracing
from app.admission.turnstile import Stopping
from app.agents import profiles
from app.agents.activities import POSTS, Activity, ActivityKind, due_activities, rng_for
from app.clock import utcnow
from app.community import publish
from app.community.reactions import Reaction, choose_reactions
from app.db import borrowed
from app.log import get_logger, log_context
from app.models import AgentState, OverBudget, RunState
from app.refusals import EXPIRED, EXPIRED_ADHOC, reason_of, say
from app.runs import leases, writing
from app.runs.actor import Actor, take_turn
from app.runs.asking import STYLE_AGAIN, STYLE_LATER, Planned, plan
from app.runs.calling import Answered, Later, Stopped, Turn, ask
from app.runs.leases import LONGEST_SNOOZE, LeaseLost
from app.runs.services import Services
from app.sql_faults import describe, is_passing

log = get_logger(__name__)

LAST_LOOK = timedelta(seconds=10)
"""A wait that lasts until so shortly before the end of a run's cycle ends the run."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended, for logs and for Flower."""

    agent: str
    state: str
    reason: str | None
    posts: int = 0
    comments: int = 0

    def __str__(self) -> str:
        said = f"{self.agent}: {self.state}"
        if self.reason:
            return f"{said} ({self.reason})"
        return f"{said}, {self.posts} post, {self.comments} comments"


@dataclass(frozen=True, slots=True)
class _End:
    """How a turn ended, and the steps whose result is stored. `later`: it has not, it waits."""

    state: RunState
    reason: str | None
    done: set[str]
    later: Later | None = None


def execute(services: Services, run_id: UUID, *, is_adhoc: bool = False, worker: str = "") -> Outcome | None:
    """Give a run its turn; None when it is not ours to give (held, ended or unknown).

    A scheduled run begins when the line for permits is short enough, an ad-hoc run at once. Raises
    Stopping when the process is told to end: the run is queued still or again.
    """
    turnstile = services.admission.turnstile
    with nullcontext() if is_adhoc else turnstile.passing(services.stopping):
        try:
            actor = take_turn(services, run_id, worker)
        except SQLAlchemyError as error:
            if is_passing(error):
                raise
            _fail_waiting(services, run_id, error)
            return None
        if actor is None:
            return None
        held = actor.claim
        about = {
            tracing.OPERATION: "invoke_agent",
            tracing.AGENT: actor.author.handle,
            tracing.AGENT_ID: held.agent_id,
            tracing.RUN: held.run_id,
            tracing.CYCLE: held.cycle_at,
        }
        with (
            services.heartbeat.holding(held),
            log_context(run_id=str(held.run_id), agent=actor.author.handle),
            tracing.span(f"invoke_agent {actor.author.handle}", about) as span,
        ):
            outcome = _work(services, actor)
            if outcome:
                came = {tracing.STATE: outcome.state, tracing.REASON: outcome.reason}
                is_failure = outcome.state == RunState.FAILED
                tracing.tell(span, came, "failed" if is_failure else None)
            return outcome


def _work(services: Services, actor: Actor) -> Outcome | None:
    """Do what is due in a run that we hold, and end it, put it back or release it."""
    held = actor.claim
    try:
        ended = _act(services, actor)
        if ended.later:
            return _put_back(services, actor, ended.later, ended.done)
    except LeaseLost:
        log.warning("run.lease_lost")
        return None
    except Stopping:
        with services.engine.begin() as connection:
            leases.release(connection, held)
        raise
    except SQLAlchemyError as error:
        if is_passing(error):
            log.exception("run.database_trouble")
            return None  # the lease runs out, and the run is resumed when the database is back
        log.exception("run.refused_by_database")
        ended = _End(RunState.FAILED, f"PostgreSQL refused it ({describe(error)})", set(actor.done))
    except Exception as error:
        log.exception("run.broke")
        with services.engine.begin() as connection:
            leases.end(connection, held, RunState.FAILED, f"internal error: {error!r}"[:500])
        raise
    is_ours = _end(services, actor, ended.state, ended.reason)
    if not is_ours:
        log.warning("run.lease_lost")
        return None
    comments = sum(step.startswith(("comment", "cross_visit")) for step in ended.done)
    posts = sum(step in ("welcome", "post") for step in ended.done)
    outcome = Outcome(actor.author.handle, ended.state, ended.reason, posts, comments)
    log.info("run.ended", state=outcome.state, reason=outcome.reason)
    return outcome


def _fail_waiting(services: Services, run_id: UUID, error: SQLAlchemyError) -> None:
    """End a run whose turn cannot even begin: its message would be sent again for ever."""
    log.exception("run.refused_by_database", run_id=str(run_id))
    reason = f"PostgreSQL refused its turn ({describe(error)})"
    try:
        with services.engine.begin() as connection:
            leases.fail_waiting(connection, run_id, reason)
    except SQLAlchemyError:
        log.exception("run.not_ended", run_id=str(run_id))


def _put_back(services: Services, actor: Actor, later: Later, done: set[str]) -> Outcome | None:
    """Snooze the run until its turn, or end it if that would be after its cycle. It looks again after a
    minute at the latest and just before its cycle ends, because what it waits for may end sooner.
    """
    held, wait = actor.claim, min(timedelta(seconds=later.wait_s), LONGEST_SNOOZE)
    left = held.expires_at - utcnow() if held.expires_at is not None else LONGEST_SNOOZE * 2
    if reason_of(later.reason).may_end_early and left > LAST_LOOK:
        wait = min(wait, left - LAST_LOOK / 2)
    too_late = wait >= left
    state, reason = RunState.SNOOZED, later.reason
    if too_late:
        did = done - {"style"}
        state = RunState.COMPLETED if did else RunState.SKIPPED
        within = "within the cycle" if held.cycle_at else "before it expired"
        reason = f"{say(later.reason)}; no permit {within}" + (" for the rest" if did else "")
    if too_late:
        is_ours = _end(services, actor, state, reason)
    else:
        with services.engine.begin() as connection:
            is_ours = leases.snooze(connection, held, wait, later.ticket or None)
    if not is_ours:
        return None
    log.info("run.put_back", state=state, reason=reason, wait_s=wait.total_seconds())
    return Outcome(actor.author.handle, state, reason)


def _act(services: Services, actor: Actor) -> _End:
    """Do what is due."""
    held = actor.claim
    if held.is_expired:
        reason = EXPIRED if held.cycle_at else EXPIRED_ADHOC
        return _End(RunState.SKIPPED, reason, set(actor.done))
    if actor.state != AgentState.ACTIVE:
        return _End(RunState.SKIPPED, f"agent {actor.state}", set(actor.done))
    rng = rng_for(held.agent_id, held.moment)
    activities, left_out = due_activities(rng, actor.facts, services.settings.activity)
    done = set(actor.done)
    notes, troubles = list(left_out), list[str]()
    policy = actor.controls.over_budget
    is_denied = False
    is_over = _is_over_budget(services, actor)
    ticket = held.ticket  # good for the first call after a snooze
    for activity in activities:
        if activity.step in done:
            continue
        if services.stopping.is_set():
            raise Stopping
        if is_over and activity.kind not in POSTS and policy == OverBudget.POSTS_ONLY:
            notes.append(f"no {activity.step}: a budget is used up")
            continue
        is_cheap = is_over and policy == OverBudget.CHEAPER_MODEL
        match _perform(services, actor, activity, ticket, is_cheap=is_cheap):
            case Answered(note=note):
                done.add(activity.step)
                if note:
                    notes.append(f"{activity.step}: {note}")
            case Stopped(reason=reason, fails_run=True):
                return _End(RunState.FAILED, f"{activity.step}: {reason}", done)
            case Stopped(reason=reason, ends_run=ends_run, is_denial=denial):
                troubles.append(f"{activity.step}: {reason}")
                is_denied = is_denied or denial
                if ends_run:
                    break
            case Later() as later:
                return _End(RunState.SNOOZED, later.reason, done, later)
            case str() as why:
                notes.append(why)
                continue
            case None:
                continue
        ticket = None
    if done - {"style"} or not troubles:
        return _End(RunState.COMPLETED, "; ".join([*notes, *troubles])[:1_000] or None, done)
    trouble = "; ".join(troubles)
    return _End(RunState.SKIPPED if is_denied else RunState.FAILED, trouble, done)


def _is_over_budget(services: Services, actor: Actor) -> bool:
    """Whether a budget is used up; asked only where that does not simply stop calls."""
    if actor.controls.over_budget == OverBudget.STOP:
        return False
    return services.admission.used_up_budget(actor.place) is not None


def _end(services: Services, actor: Actor, state: RunState, reason: str | None) -> bool:
    """End the run with the votes that its agent gives: ready-made reactions, without a call. A turn that was
    no turn gives none.
    """
    held, reactions = actor.claim, list[Reaction]()
    is_turn = actor.state == AgentState.ACTIVE and not held.is_expired
    if is_turn and "reaction" not in actor.facts.paused:
        rng = rng_for(held.agent_id, f"{held.moment}:reactions")
        slots = services.settings.activity.reaction_slots
        reactions = choose_reactions(rng, actor.to_vote_on, slots)
    try:
        with borrowed(services.autocommit) as connection:
            return writing.end_run(connection, held, state, reason, reactions)
    except SQLAlchemyError as error:
        if is_passing(error):
            raise
        log.exception("run.votes_refused_by_database")
        why = f"PostgreSQL refused its votes ({describe(error)})"
        with services.engine.begin() as connection:
            told = f"{reason}; {why}" if reason else why
            return leases.end(connection, held, RunState.FAILED, told[:1_000])


def _perform(
    services: Services, actor: Actor, activity: Activity, ticket: int | None, *, is_cheap: bool
) -> Answered | Stopped | Later | str | None:
    """Do one activity; a text says why there is nothing to ask, None that there is nobody to talk to."""
    planned = plan(services, actor, activity)
    if not isinstance(planned, Planned):
        return planned
    is_strict = actor.controls.over_budget == OverBudget.STOP
    turn = Turn(actor.claim, actor.quota, ticket, actor.place, is_strict, actor.attempts)
    cheap = services.settings.gateway.cheap_model
    first, *others = (cheap, *planned.models) if is_cheap else planned.models
    answer = ask(services, turn, activity, first, planned.question)
    for model in others:
        if not (isinstance(answer, Stopped) and answer.is_model_gone):
            break
        answer = ask(services, turn, activity, model, planned.question)
    if not isinstance(answer, Answered):
        _note_failure(services, actor, activity, answer)
    return answer


def _note_failure(services: Services, actor: Actor, activity: Activity, answer: Stopped | Later) -> None:
    """Visits and style learning have their own interval, welcomes a bound. Count a failure too, or the agent
    retries, and pays, in every cycle.
    """
    with services.engine.begin() as connection:
        if activity.kind is ActivityKind.WELCOME:
            if isinstance(answer, Stopped) and answer.is_answered:
                publish.note_welcome_try(connection, actor.claim.agent_id)
        elif activity.kind is ActivityKind.CROSS_VISIT and isinstance(answer, Stopped):
            publish.note_visit(connection, actor.claim.agent_id)
        elif activity.kind is ActivityKind.STYLE and actor.style_source:
            if isinstance(answer, Later):
                wait = max(STYLE_LATER, timedelta(seconds=answer.wait_s))
                profiles.postpone(connection, actor.style_source, wait)
            else:
                profiles.failed(connection, actor.style_source, answer.reason, STYLE_AGAIN)
