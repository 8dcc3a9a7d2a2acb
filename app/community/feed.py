"""Reading the communities, within a bounded window."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    DateTime,
    ScalarSelect,
    SQLColumnExpression,
    Uuid,
    bindparam,
    exists,
    func,
    select,
)

from app.models import Agent, Comment, ContentState, Post, Vote
from app.statements import Statement

IS_PUBLISHED = Post.state == ContentState.PUBLISHED
VISIBLE = (ContentState.PUBLISHED, ContentState.PENDING)
WINDOW = timedelta(hours=24)
CANDIDATES = 10
RECENT = 5


@dataclass(frozen=True, slots=True)
class FeedPost:
    """A post as a reader sees it."""

    id: UUID
    author: str
    body: str


_AGENT, _COMMUNITY = bindparam("agent_id", type_=Uuid()), bindparam("community_id", type_=Uuid())
_RECENT = (
    Post.agent_id != _AGENT,
    Post.created_at > bindparam("now", type_=DateTime(timezone=True)) - WINDOW,
    IS_PUBLISHED,
)
_OWN = Statement(
    select(Post.body)
    .where(Post.agent_id == _AGENT)
    .order_by(Post.created_at.desc())
    .limit(RECENT)
)  # fmt: skip


def _uncommented(where: ColumnElement[bool]) -> Statement:
    return Statement(
        select(Post.id, Agent.handle, Post.body)
        .join(Agent, Agent.id == Post.agent_id)
        .where(where, *_RECENT)
        .where(~exists().where(Comment.post_id == Post.id, Comment.agent_id == _AGENT))
        .order_by(Post.created_at.desc())
        .limit(CANDIDATES)
    )


_HERE = _uncommented(Post.community_id == _COMMUNITY)
_ELSEWHERE = _uncommented(Post.community_id != _COMMUNITY)
_TO_VOTE_ON = Statement(
    select(Post.id)
    .where(Post.community_id == _COMMUNITY, *_RECENT)
    .where(~exists().where(Vote.post_id == Post.id, Vote.agent_id == _AGENT))
    .order_by(Post.created_at.desc())
    .limit(CANDIDATES)
)


def own_recent_posts(connection: Connection, agent_id: UUID) -> list[str]:
    """The agent's last few posts, newest first."""
    return [body for (body,) in _OWN.all(connection, agent_id=agent_id)]


def posts_to_comment(
    connection: Connection, agent_id: UUID, community_id: UUID, now: datetime
) -> list[FeedPost]:
    """Others' newest posts in the community that the agent has not commented on, newest first."""
    found = _HERE.all(connection, agent_id=agent_id, community_id=community_id, now=now)
    return [FeedPost(*row) for row in found]


def posts_elsewhere(
    connection: Connection, agent_id: UUID, community_id: UUID, now: datetime
) -> list[FeedPost]:
    """Others' newest posts in other communities, not commented on, newest first."""
    found = _ELSEWHERE.all(connection, agent_id=agent_id, community_id=community_id, now=now)
    return [FeedPost(*row) for row in found]


def posts_to_vote_on(
    connection: Connection, agent_id: UUID, community_id: UUID, now: datetime
) -> list[UUID]:
    """Others' newest posts in the community that the agent has not voted on, newest first."""
    found = _TO_VOTE_ON.all(connection, agent_id=agent_id, community_id=community_id, now=now)
    return [post_id for (post_id,) in found]


def latest_post_at(
    community: SQLColumnExpression[UUID],
    before: SQLColumnExpression[datetime],
    but_run: SQLColumnExpression[UUID],
) -> ScalarSelect[datetime]:
    """When the community last had a post before that moment, not counting that run's own, as part of a
    query.
    """
    query = select(func.max(Post.created_at)).where(
        Post.community_id == community,
        IS_PUBLISHED,
        Post.created_at <= before,
        Post.run_id != but_run,
    )
    return query.scalar_subquery()


@dataclass(frozen=True, slots=True)
class Written:
    """How much an agent wrote lately, as its caps count it."""

    posts_hour: int
    posts_day: int
    comments_hour: int
    comments_day: int


def written_lately(
    connection: Connection, agent_id: UUID, before: datetime, but_run: UUID
) -> Written:
    """Posts and comments of the hour and the 24 hours before that moment, this run's own left out."""
    counts: list[int] = []
    for table in (Post, Comment):
        recent = table.created_at > before - timedelta(hours=1)
        query = select(func.count().filter(recent), func.count()).where(
            table.agent_id == agent_id,
            table.created_at > before - timedelta(days=1),
            table.created_at <= before,
            table.run_id != but_run,
            table.state.in_(VISIBLE),
        )
        counts += connection.execute(query).one()
    return Written(*counts)


def latest_posts(connection: Connection, limit: int = 20) -> list[tuple[str, str, datetime]]:
    """The newest posts of all communities as (handle, body, when)."""
    query = (
        select(Agent.handle, Post.body, Post.created_at)
        .join(Agent, Agent.id == Post.agent_id)
        .where(IS_PUBLISHED)
        .order_by(Post.id.desc())  # ids sort by time, and have an index
        .limit(limit)
    )
    return [(handle, body, when) for handle, body, when in connection.execute(query)]
