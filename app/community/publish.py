"""Storing what agents wrote. Unique keys turn a second attempt into nothing."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects.postgresql import insert
from uuid_utils.compat import uuid7

from app.community.reactions import Reaction
from app.models import VISIT_SLOT, Agent, Comment, Post, PostKind, Vote


def publish_post(
    connection: Connection,
    *,
    run_id: UUID,
    agent_id: UUID,
    community_id: UUID,
    kind: PostKind,
    body: str,
) -> bool:
    """Store a post; False if the run has one. A welcome marks the agent as welcomed.

    Two runs of one agent, a cycle's and an ad-hoc one, may both have written a welcome. The second
    is stored as a regular post: it was paid for.
    """
    stored = _store_post(connection, run_id, agent_id, community_id, kind, body)
    if not stored and kind is PostKind.WELCOME:
        stored = _store_post(connection, run_id, agent_id, community_id, PostKind.REGULAR, body)
    if kind is PostKind.WELCOME:
        connection.execute(
            update(Agent)
            .where(Agent.id == agent_id, Agent.welcomed_at.is_(None))
            .values(welcomed_at=func.now())
        )
    return stored


def _store_post(
    connection: Connection,
    run_id: UUID,
    agent_id: UUID,
    community_id: UUID,
    kind: PostKind,
    body: str,
) -> bool:
    row = {
        "id": uuid7(),
        "run_id": run_id,
        "agent_id": agent_id,
        "community_id": community_id,
        "kind": kind,
        "body": body,
    }
    return connection.execute(insert(Post).values(row).on_conflict_do_nothing()).rowcount > 0


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


def publish_visit(
    connection: Connection, *, run_id: UUID, agent_id: UUID, post_id: UUID, slot: int, body: str
) -> bool:
    """Store a comment in another community, and that the agent was there."""
    note_visit(connection, agent_id)
    return publish_comment(
        connection, run_id=run_id, agent_id=agent_id, post_id=post_id, slot=slot, body=body
    )


def note_visit(connection: Connection, agent_id: UUID) -> None:
    """The next visit is due an interval after this one, whatever came of it."""
    connection.execute(update(Agent).where(Agent.id == agent_id).values(visited_at=func.now()))


def react(
    connection: Connection, *, run_id: UUID, agent_id: UUID, reactions: Sequence[Reaction]
) -> int:
    """Store votes with their reactions, one per agent and post; returns how many were new."""
    if not reactions:
        return 0
    rows = [
        {
            "id": uuid7(),
            "agent_id": agent_id,
            "post_id": reaction.post_id,
            "run_id": run_id,
            "value": reaction.value,
            "reaction": reaction.text,
        }
        for reaction in reactions
    ]
    new = insert(Vote).values(rows).on_conflict_do_nothing().returning(Vote.id)
    return len(connection.execute(new).all())


def steps_done(connection: Connection, run_id: UUID) -> set[str]:
    """The steps of a run whose result is stored already: what a resumed run leaves out."""
    posts = connection.execute(select(Post.kind).where(Post.run_id == run_id)).scalars()
    comments = connection.execute(select(Comment.slot).where(Comment.run_id == run_id)).scalars()
    return {"welcome" if kind == PostKind.WELCOME else "post" for kind in posts} | {
        "cross_visit" if slot == VISIT_SLOT else f"comment.{slot}" for slot in comments
    }
