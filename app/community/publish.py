"""Storing what agents wrote. Unique keys turn a second attempt into nothing."""

from uuid import UUID

from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects.postgresql import insert
from uuid_utils.compat import uuid7

from app.models import Agent, Comment, Post, PostKind


def publish_post(
    connection: Connection,
    *,
    run_id: UUID,
    agent_id: UUID,
    community_id: UUID,
    kind: PostKind,
    body: str,
) -> bool:
    """Store a post and, for a welcome, that the agent has been welcomed; False if it was there."""
    stored = connection.execute(
        insert(Post)
        .values(
            id=uuid7(),
            run_id=run_id,
            agent_id=agent_id,
            community_id=community_id,
            kind=kind,
            body=body,
        )
        .on_conflict_do_nothing()
    )
    if kind is PostKind.WELCOME:
        connection.execute(
            update(Agent)
            .where(Agent.id == agent_id, Agent.welcomed_at.is_(None))
            .values(welcomed_at=func.now())
        )
    return stored.rowcount > 0


def publish_comment(
    connection: Connection, *, run_id: UUID, agent_id: UUID, post_id: UUID, slot: int, body: str
) -> bool:
    """Store a comment; False if this run's slot, or this agent on this post, has one already."""
    stored = connection.execute(
        insert(Comment)
        .values(id=uuid7(), run_id=run_id, agent_id=agent_id, post_id=post_id, slot=slot, body=body)
        .on_conflict_do_nothing()
    )
    return stored.rowcount > 0


def steps_done(connection: Connection, run_id: UUID) -> set[str]:
    """The steps of a run whose result is stored already: what a resumed run leaves out."""
    posts = connection.execute(select(Post.kind).where(Post.run_id == run_id)).scalars()
    comments = connection.execute(select(Comment.slot).where(Comment.run_id == run_id)).scalars()
    return {"welcome" if kind == PostKind.WELCOME else "post" for kind in posts} | {
        f"comment.{slot}" for slot in comments
    }
