"""Giving one agent its turn: the one use case.

claim (transaction) -> read what is needed (transaction) -> decide (pure) -> for each activity:
call the gateway (app.runs.calling) -> end the run (transaction). No transaction is open while the
gateway is called. A run taken over from a dead worker decides the same again, because its dice are
seeded, and leaves out the steps whose result is stored.
"""

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from uuid import UUID

from sqlalchemy import Connection, select

from app.agents import prompts
from app.agents.activities import Activity, ActivityKind, choose_post, due_activities, rng_for
from app.clock import utcnow
from app.community import feed, publish
from app.log import get_logger
from app.models import Agent, AgentState, Community, PostKind, RunState
from app.runs import leases
from app.runs.calling import Answered, Effect, LeaseLost, Stopped, ask
from app.runs.leases import Claim
from app.runs.services import Services

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
class _Turn:
    """What the agent is and knows at the start of its run."""

    claim: Claim
    author: prompts.Author
    community_id: UUID
    state: str
    is_welcomed: bool
    done: frozenset[str]


def execute(services: Services, run_id: UUID) -> Outcome | None:
    """Give a run its turn; None when it is not ours to give (held, ended or unknown)."""
    lease = timedelta(seconds=services.settings.worker.lease_s)
    with services.engine.begin() as connection:
        held = leases.claim(connection, run_id, lease)
    if held is None:
        return None
    with services.engine.begin() as connection:
        turn = _read_turn(connection, held)
    try:
        state, reason, done = _act(services, turn)
    except LeaseLost:
        log.warning("run.lease_lost", run_id=str(run_id), agent=turn.author.handle)
        return None
    with services.engine.begin() as connection:
        is_ours = leases.end(connection, held, state, reason)
    if not is_ours:
        log.warning("run.lease_lost", run_id=str(run_id), agent=turn.author.handle)
        return None
    comments = sum(step.startswith("comment") for step in done)
    outcome = Outcome(turn.author.handle, state, reason, len(done) - comments, comments)
    log.info(
        "run.ended", run_id=str(run_id), agent=outcome.agent, state=outcome.state, reason=reason
    )
    return outcome


def _read_turn(connection: Connection, held: Claim) -> _Turn:
    row = connection.execute(
        select(
            Agent.handle,
            Agent.display_name,
            Community.name,
            Agent.persona,
            Agent.community_id,
            Agent.state,
            Agent.welcomed_at,
        )
        .join(Community, Community.id == Agent.community_id)
        .where(Agent.id == held.agent_id)
    ).one()
    return _Turn(
        claim=held,
        author=prompts.Author(row.handle, row.display_name, row.name, row.persona),
        community_id=row.community_id,
        state=row.state,
        is_welcomed=row.welcomed_at is not None,
        done=frozenset(publish.steps_done(connection, held.run_id)),
    )


def _act(services: Services, turn: _Turn) -> tuple[RunState, str | None, set[str]]:
    """Do what is due; returns the run's end, its reason, and the steps that are stored."""
    held = turn.claim
    if held.is_expired:
        return RunState.SKIPPED, "expired", set()
    if turn.state != AgentState.ACTIVE:
        return RunState.SKIPPED, f"agent {turn.state}", set()
    rng = rng_for(held.agent_id, held.moment)
    is_welcomed = turn.is_welcomed and "welcome" not in turn.done
    activities = due_activities(rng, welcomed=is_welcomed, settings=services.settings.activity)
    done = set(turn.done)
    troubles: list[str] = []
    is_denied = False
    for activity in activities:
        if activity.step in done:
            continue
        match _perform(services, turn, activity):
            case Answered():
                done.add(activity.step)
            case Stopped(reason=reason, ends_run=ends_run, is_denial=denial):
                troubles.append(f"{activity.step}: {reason}")
                is_denied = is_denied or denial
                if ends_run:
                    break
            case None:
                pass
    if done or not troubles:
        return RunState.COMPLETED, "; ".join(troubles) or None, done
    return (RunState.SKIPPED if is_denied else RunState.FAILED), "; ".join(troubles), done


def _perform(services: Services, turn: _Turn, activity: Activity) -> Answered | Stopped | None:
    """Do one activity; None when there is nothing to do it to."""
    held, models = turn.claim, services.settings.gateway
    effect: Effect
    if activity.kind is ActivityKind.COMMENT:
        with services.engine.begin() as connection:
            posts = feed.posts_to_comment(connection, held.agent_id, turn.community_id, utcnow())
        rng = rng_for(held.agent_id, f"{held.moment}:{activity.step}")
        chosen = choose_post(rng, [post.id for post in posts])
        if chosen is None:
            return None
        post = next(post for post in posts if post.id == chosen)
        messages = prompts.write_comment(turn.author, post.author, post.body)
        model = models.comment_model
        effect = partial(
            publish.publish_comment,
            run_id=held.run_id,
            agent_id=held.agent_id,
            post_id=post.id,
            slot=activity.slot,
        )
    else:
        with services.engine.begin() as connection:
            recent = feed.own_recent_posts(connection, held.agent_id)
        messages = prompts.write_post(turn.author, activity.kind, recent)
        model = models.post_model
        effect = partial(
            publish.publish_post,
            run_id=held.run_id,
            agent_id=held.agent_id,
            community_id=turn.community_id,
            kind=PostKind.WELCOME if activity.kind is ActivityKind.WELCOME else PostKind.REGULAR,
        )
    return ask(services, held, activity, model, messages, effect)
