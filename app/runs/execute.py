"""Giving one agent its turn: the one use case.

claim and read what is needed (transaction) -> decide (pure) -> for each activity:
call the gateway (app.runs.calling) -> end the run (transaction). No transaction is open while the
gateway is called. A run taken over from a dead worker decides the same again, because its dice are
seeded, and leaves out the steps whose result is stored.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from uuid import UUID

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError

from app.admission.turnstile import Stopping
from app.agents import prompts
from app.agents.activities import (
    Activity,
    ActivityKind,
    Facts,
    choose_post,
    due_activities,
    is_visit_due,
    rng_for,
)
from app.clock import utcnow
from app.community import feed, publish
from app.community.reactions import choose_reactions
from app.log import get_logger
from app.models import Agent, AgentState, Community, PostKind, RunState
from app.models.agents import PHASES
from app.runs import leases
from app.runs.calling import Answered, Effect, Later, LeaseLost, Stopped, Turn, ask
from app.runs.leases import Claim
from app.runs.services import Services
from app.settings import ActivitySettings

log = get_logger(__name__)


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
class _Agent:
    """What the agent is and knows at the start of its run."""

    claim: Claim
    author: prompts.Author
    community_id: UUID
    state: str
    facts: Facts
    quota: int | None
    done: frozenset[str]


@dataclass(frozen=True, slots=True)
class _End:
    """How a turn ended, and the steps whose result is stored. `later`: it has not, it waits."""

    state: RunState
    reason: str | None
    done: set[str]
    later: Later | None = None


def execute(
    services: Services, run_id: UUID, *, is_adhoc: bool = False, worker: str = ""
) -> Outcome | None:
    """Give a run its turn; None when it is not ours to give (held, ended or unknown).

    A scheduled run begins when the line for permits is short enough, an ad-hoc run at once. Raises
    Stopping when the process is told to end: the run is queued still or again.
    """
    turnstile = services.admission.turnstile
    with nullcontext() if is_adhoc else turnstile.passing(services.stopping):
        lease = timedelta(seconds=services.settings.worker.lease_s)
        with services.engine.begin() as connection:
            held = leases.claim(connection, run_id, lease, worker)
            if held is None:
                return None
            agent = _read_agent(connection, held, services.settings.activity)
        with services.heartbeat.holding(held):
            return _work(services, agent)


def _work(services: Services, agent: _Agent) -> Outcome | None:
    """Do what is due in a run that we hold, and end it, put it back or release it."""
    held = agent.claim
    try:
        ended = _act(services, agent)
        if ended.later:
            return _put_back(services, agent, ended.later, ended.done)
    except LeaseLost:
        log.warning("run.lease_lost", run_id=str(held.run_id))
        return None
    except Stopping:
        with services.engine.begin() as connection:
            leases.release(connection, held)
        raise
    except SQLAlchemyError:
        log.exception("run.database_trouble", run_id=str(held.run_id))
        return None  # the lease runs out, and the run is resumed when the database is back
    except Exception as error:
        log.exception("run.broke", run_id=str(held.run_id))
        with services.engine.begin() as connection:
            leases.end(connection, held, RunState.FAILED, f"internal error: {error!r}"[:500])
        raise
    with services.engine.begin() as connection:
        is_ours = leases.end(connection, held, ended.state, ended.reason)
    if not is_ours:
        log.warning("run.lease_lost", run_id=str(held.run_id), agent=agent.author.handle)
        return None
    comments = sum(not step.startswith(("welcome", "post")) for step in ended.done)
    posts = len(ended.done) - comments
    outcome = Outcome(agent.author.handle, ended.state, ended.reason, posts, comments)
    log.info(
        "run.ended",
        run_id=str(held.run_id),
        agent=outcome.agent,
        state=outcome.state,
        reason=outcome.reason,
    )
    return outcome


def _put_back(services: Services, agent: _Agent, later: Later, done: set[str]) -> Outcome | None:
    """Snooze the run until its turn, or end it if that would be after its cycle."""
    held, wait = agent.claim, timedelta(seconds=later.wait_s)
    too_late = held.expires_at is not None and utcnow() + wait >= held.expires_at
    state, reason = RunState.SNOOZED, later.reason
    if too_late:
        state = RunState.COMPLETED if done else RunState.SKIPPED
        reason = f"{later.reason}: no permit within the cycle" + (" for the rest" if done else "")
    with services.engine.begin() as connection:
        is_ours = (
            leases.end(connection, held, state, reason)
            if too_late
            else leases.snooze(connection, held, wait, later.ticket)
        )
    if not is_ours:
        return None
    log.info(
        "run.put_back", run_id=str(held.run_id), agent=agent.author.handle, state=state,
        reason=reason, wait_s=round(later.wait_s, 3),
    )  # fmt: skip
    return Outcome(agent.author.handle, state, reason)


def _read_agent(connection: Connection, held: Claim, settings: ActivitySettings) -> _Agent:
    row = connection.execute(
        select(
            Agent.handle,
            Agent.display_name,
            Community.name,
            Agent.persona,
            Agent.community_id,
            Agent.state,
            Agent.welcomed_at,
            Agent.daily_tokens,
            Agent.phase,
            func.coalesce(Agent.visited_at, Agent.created_at).label("visited_at"),
        )
        .join(Community, Community.id == Agent.community_id)
        .where(Agent.id == held.agent_id)
    ).one()
    done = frozenset(publish.steps_done(connection, held.run_id))
    # Seen from the moment the run was opened: a resumed run must decide what the first one did.
    quiet = None
    if settings.post_quiet_s:
        latest = feed.latest_post_at(connection, row.community_id, held.opened_at, held.run_id)
        quiet = held.opened_at - latest if latest else None
    visit_due = held.cycle_at is not None and is_visit_due(
        row.visited_at, held.opened_at, row.phase / PHASES, settings
    )
    return _Agent(
        claim=held,
        author=prompts.Author(row.handle, row.display_name, row.name, row.persona),
        community_id=row.community_id,
        state=row.state,
        facts=Facts(row.welcomed_at is not None and "welcome" not in done, quiet, visit_due),
        quota=row.daily_tokens,
        done=done,
    )


def _act(services: Services, agent: _Agent) -> _End:
    """Do what is due."""
    held = agent.claim
    if held.is_expired:
        return _End(RunState.SKIPPED, "expired", set(agent.done))
    if agent.state != AgentState.ACTIVE:
        return _End(RunState.SKIPPED, f"agent {agent.state}", set(agent.done))
    rng = rng_for(held.agent_id, held.moment)
    activities, without_post = due_activities(rng, agent.facts, services.settings.activity)
    done = set(agent.done)
    troubles: list[str] = []
    _react(services, agent)
    is_denied = False
    ticket = held.ticket  # good for the first call after a snooze
    for activity in activities:
        if activity.step in done:
            continue
        if services.stopping.is_set():
            raise Stopping
        match _perform(services, agent, activity, ticket):
            case Answered():
                done.add(activity.step)
            case Stopped(reason=reason, ends_run=ends_run, is_denial=denial):
                troubles.append(f"{activity.step}: {reason}")
                is_denied = is_denied or denial
                if ends_run:
                    break
            case Later() as later:
                return _End(RunState.SNOOZED, later.reason, done, later)
            case None:
                continue
        ticket = None
    if done or not troubles:
        notes = [without_post, *troubles] if without_post else troubles
        return _End(RunState.COMPLETED, "; ".join(notes) or None, done)
    trouble = "; ".join(troubles)
    return _End(RunState.SKIPPED if is_denied else RunState.FAILED, trouble, done)


def _react(services: Services, agent: _Agent) -> None:
    """Votes with ready-made reactions: no call, and storing them twice changes nothing."""
    slots = services.settings.activity.reaction_slots
    if not slots:
        return
    held = agent.claim
    with services.engine.begin() as connection:
        posts = feed.posts_to_vote_on(connection, held.agent_id, agent.community_id, utcnow())
        rng = rng_for(held.agent_id, f"{held.moment}:reactions")
        reactions = choose_reactions(rng, posts, slots)
        publish.react(connection, run_id=held.run_id, agent_id=held.agent_id, reactions=reactions)


def _perform(
    services: Services, agent: _Agent, activity: Activity, ticket: int | None
) -> Answered | Stopped | Later | None:
    """Do one activity; None when there is nothing to do it to."""
    planned = _plan(services, agent, activity)
    if planned is None:
        return None
    turn = Turn(agent.claim, agent.quota, ticket)
    first, *others = planned.models
    answer = ask(services, turn, activity, first, planned.messages, planned.effect)
    for model in others:
        if not (isinstance(answer, Stopped) and answer.is_model_gone):
            break
        answer = ask(services, turn, activity, model, planned.messages, planned.effect)
    if activity.kind is ActivityKind.CROSS_VISIT and isinstance(answer, Stopped):
        with services.engine.begin() as connection:  # not again before the next interval
            publish.note_visit(connection, agent.claim.agent_id)
    return answer


@dataclass(frozen=True, slots=True)
class _Planned:
    """What to ask, of which models in turn, and what to do with the answer."""

    models: Sequence[str]
    messages: list[prompts.Message]
    effect: Effect


def _plan(services: Services, agent: _Agent, activity: Activity) -> _Planned | None:
    """Prompt, models and effect of an activity; None when there is nothing to do it to."""
    held, gateway = agent.claim, services.settings.gateway
    effect: Effect
    if activity.kind in (ActivityKind.COMMENT, ActivityKind.CROSS_VISIT):
        is_visit = activity.kind is ActivityKind.CROSS_VISIT
        find = feed.posts_elsewhere if is_visit else feed.posts_to_comment
        with services.engine.begin() as connection:
            posts = find(connection, held.agent_id, agent.community_id, utcnow())
        rng = rng_for(held.agent_id, f"{held.moment}:{activity.step}")
        chosen = choose_post(rng, [post.id for post in posts])
        if chosen is None:
            return None
        post = next(post for post in posts if post.id == chosen)
        messages = prompts.write_comment(agent.author, post.author, post.body)
        effect = partial(
            publish.publish_visit if is_visit else publish.publish_comment,
            run_id=held.run_id,
            agent_id=held.agent_id,
            post_id=post.id,
            slot=activity.slot,
        )
        return _Planned(gateway.models(gateway.comment_model), messages, effect)
    with services.engine.begin() as connection:
        recent = feed.own_recent_posts(connection, held.agent_id)
    messages = prompts.write_post(agent.author, activity.kind, recent)
    effect = partial(
        publish.publish_post,
        run_id=held.run_id,
        agent_id=held.agent_id,
        community_id=agent.community_id,
        kind=PostKind.WELCOME if activity.kind is ActivityKind.WELCOME else PostKind.REGULAR,
    )
    return _Planned(gateway.models(gateway.post_model), messages, effect)
