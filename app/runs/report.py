"""One run with what it made and what it cost."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, Engine, func, select

from app.clock import monotonic, sleep
from app.models import Agent, Comment, Post, Run
from app.runs.states import TERMINAL
from app.usage.calls import calls_of_run


@dataclass(frozen=True, slots=True)
class RunReport:
    """A run as a person asks about it."""

    id: UUID
    agent: str
    state: str
    reason: str | None
    attempt: int
    posts: list[str]
    comments: list[str]
    calls: list[dict[str, object]]


def report_run(connection: Connection, run_id: UUID) -> RunReport:
    """Read a run; it must exist."""
    run = connection.execute(
        select(
            Run.agent_id,
            Run.state,
            Run.reason,
            Run.attempt,
            Run.created_at,
            Run.asked_for,
            Agent.handle,
        )
        .join(Agent, Agent.id == Run.agent_id, isouter=True)
        .where(Run.id == run_id)
    ).one()
    posts = connection.execute(select(Post.body).where(Post.run_id == run_id)).scalars()
    comments = connection.execute(
        select(Comment.body).where(Comment.run_id == run_id).order_by(Comment.slot)
    ).scalars()
    calls = calls_of_run(connection, run.agent_id, run_id, run.created_at) if run.agent_id else ()
    return RunReport(
        id=run_id,
        agent=run.handle or run.asked_for or "?",
        state=run.state,
        reason=run.reason,
        attempt=run.attempt,
        posts=list(posts),
        comments=list(comments),
        calls=list(calls),
    )


def wait_for_run(engine: Engine, run_id: UUID, timeout_s: float) -> RunReport:
    """The run when it has ended, or as it is after that time."""
    deadline = monotonic() + timeout_s
    while True:
        with engine.connect() as connection:
            report = report_run(connection, run_id)
        if report.state in TERMINAL or monotonic() > deadline:
            return report
        sleep(0.1)


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run in an agent's timeline."""

    created_at: datetime
    origin: str
    state: str
    reason: str | None
    post: str | None
    comments: int


def runs_of_agent(connection: Connection, agent_id: UUID, limit: int) -> list[RunLine]:
    """The agent's latest runs, the newest first."""
    comments = (
        select(func.count()).select_from(Comment).where(Comment.run_id == Run.id).scalar_subquery()
    )
    query = (
        select(Run.created_at, Run.origin, Run.state, Run.reason, Post.body, comments)
        .join(Post, Post.run_id == Run.id, isouter=True)
        .where(Run.agent_id == agent_id)
        .order_by(Run.created_at.desc())
        .limit(limit)
    )
    return [RunLine(*row) for row in connection.execute(query)]
