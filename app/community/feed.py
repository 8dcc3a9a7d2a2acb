"""Reading the communities, within a bounded window."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Function,
    ScalarSelect,
    Select,
    SQLColumnExpression,
    Uuid,
    bindparam,
    exists,
    func,
    select,
)
from sqlalchemy.orm import aliased

from app.models import Agent, Comment, ContentState, Post, Vote
from app.statements import AnyConnection, Statement

IS_PUBLISHED = Post.state == ContentState.PUBLISHED
VISIBLE = (ContentState.PUBLISHED, ContentState.PENDING)
WINDOW = timedelta(hours=24)
CANDIDATES = 10
LOOKED_THROUGH = 500
RECENT = 5


@dataclass(frozen=True, slots=True)
class FeedPost:
    """A post as a reader sees it."""

    id: UUID
    author: str
    body: str


Column = SQLColumnExpression[Any]


def _of_others(agent: Column) -> tuple[ColumnElement[bool], ...]:
    """Return new posts that are not the agent's own."""
    return Post.agent_id != agent, Post.created_at > func.now() - WINDOW, IS_PUBLISHED


def _has(table: type[Vote] | type[Comment], agent: Column) -> ColumnElement[bool]:
    """Whether the agent has voted or commented on the post."""
    return exists().where(table.post_id == Post.id, table.agent_id == agent).correlate_except(table)


def own_recent_posts(agent: Column) -> "Function[list[str]]":
    """The agent's last few posts, newest first, as part of a query."""
    query = select(Post.body).where(Post.agent_id == agent).order_by(Post.created_at.desc()).limit(RECENT)
    return func.array(query.scalar_subquery())


def posts_to_vote_on(agent: Column, community: Column) -> "Function[list[UUID]]":
    """Ids of others' newest posts in the community that the agent has not voted on, newest first, as part
    of a query.
    """
    query = (
        select(Post.id)
        .where(Post.community_id == community, *_of_others(agent))
        .where(~_has(Vote, agent))
        .order_by(Post.created_at.desc())
        .limit(CANDIDATES)
    )
    return func.array(query.scalar_subquery())


def posts_to_comment(agent: Column, community: Column) -> "Function[list[list[str]]]":
    """Others' newest posts in the community that the agent has not commented on, newest first, as part of a
    query: what `feed_posts` takes.
    """
    found = _uncommented(Post.community_id == community, agent)
    as_json = found.with_only_columns(func.json_build_array(*found.selected_columns))
    return func.array(as_json.scalar_subquery())


def feed_posts(found: list[list[str]]) -> tuple[FeedPost, ...]:
    """Result of `posts_to_comment`."""
    return tuple(FeedPost(UUID(post_id), author, body) for post_id, author, body in found)


_Writer = aliased(Agent)  # the query that this becomes a part of may be about another agent


def _uncommented(where: ColumnElement[bool], agent: Column) -> Select[UUID, str, str]:
    return (
        select(Post.id, _Writer.handle, Post.body)
        .join(_Writer, _Writer.id == Post.agent_id)
        .where(where, *_of_others(agent))
        .where(~_has(Comment, agent))
        .order_by(Post.created_at.desc())
        .limit(CANDIDATES)
    )


def _elsewhere() -> Select[UUID, str, str]:
    """Return those of the newest posts that are in other communities: what is looked through is bounded,
    however many there are of a day.
    """
    agent = bindparam("agent_id", type_=Uuid())
    newest = select(Post.id).where(*_of_others(agent)).order_by(Post.created_at.desc())
    is_elsewhere = Post.community_id != bindparam("community_id", type_=Uuid())
    return _uncommented(is_elsewhere & Post.id.in_(newest.limit(LOOKED_THROUGH)), agent)


_ELSEWHERE = Statement(_elsewhere())


def posts_elsewhere(connection: AnyConnection, agent_id: UUID, community_id: UUID) -> tuple[FeedPost, ...]:
    """Others' newest posts in other communities, not commented on, newest first."""
    found = _ELSEWHERE.all(connection, agent_id=agent_id, community_id=community_id)
    return tuple(FeedPost(*row) for row in found)


def latest_post_at(community: Column, before: Column, but_run: Column) -> ScalarSelect[datetime]:
    """When the community last had a post before that moment, not counting that run's own, as part of a
    query.
    """
    query = select(func.max(Post.created_at)).where(
        Post.community_id == community, IS_PUBLISHED, Post.created_at <= before, Post.run_id != but_run
    )
    return query.scalar_subquery()


@dataclass(frozen=True, slots=True)
class Written:
    """How much an agent wrote lately, as its caps count it."""

    posts_hour: int
    posts_day: int
    comments_hour: int
    comments_day: int


def written_lately(connection: Connection, agent_id: UUID, before: datetime, but_run: UUID) -> Written:
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
