"""Texts that wait for a person, and decisions of people about texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, func, literal, select, union_all, update

from app.audit_log import note_change
from app.community.feed import VISIBLE
from app.models import Agent, Comment, Community, ContentState, Post, PostKind

DECISIONS = {
    "approve": (
        (ContentState.PENDING, ContentState.REFUSED, ContentState.REJECTED, ContentState.HIDDEN),
        ContentState.PUBLISHED,
    ),
    "reject": ((ContentState.PENDING,), ContentState.REJECTED),
    "hide": ((ContentState.PUBLISHED,), ContentState.HIDDEN),
}
"""A decision: what it is about, and what becomes of it. A text of a dry run stays what it is."""


def verbs_by_state() -> dict[ContentState, list[str]]:
    """Decisions that are possible for a text in each state."""
    return {
        state: [name for name, (states, _) in DECISIONS.items() if state in states] for state in ContentState
    }


@dataclass(frozen=True, slots=True)
class Item:
    """A post or a comment, as whoever decides about it sees it."""

    id: UUID
    kind: str
    agent: str
    community: str
    body: str
    state: str
    note: str | None
    dropped: str | None
    created_at: datetime


def list_content(
    connection: Connection,
    *,
    state: ContentState | None = None,
    agent_id: UUID | None = None,
    before: UUID | None = None,
    limit: int = 50,
) -> list[Item]:
    """Posts and comments, the newest first; those older than `before` come first. Their ids sort by time."""
    parts = []
    for table, kind in ((Post, "post"), (Comment, "comment")):
        in_post = Post.id == (table.id if table is Post else Comment.post_id)
        part = select(
            table.id,
            literal(kind).label("kind"),
            Agent.handle,
            Community.name,
            table.body,
            table.state,
            table.note,
            table.dropped,
            table.created_at,
        ).join(Agent, Agent.id == table.agent_id)
        if table is Comment:
            part = part.join(Post, in_post)
        part = part.join(Community, Community.id == Post.community_id)
        if state is not None:
            part = part.where(table.state == state)
        if agent_id is not None:
            part = part.where(table.agent_id == agent_id)
        if before is not None:
            part = part.where(table.id < before)
        # One agent's are found by its own index, which has times.
        newest_first = (table.id if agent_id is None else table.created_at).desc()
        newest = part.order_by(newest_first).limit(limit).subquery()
        parts.append(select(newest))
    both = union_all(*parts).subquery()
    query = select(both).order_by(both.c.id.desc()).limit(limit)
    return [Item(*row) for row in connection.execute(query)]


def count_by_state(connection: Connection) -> dict[str, int]:
    """How much there is of everything that is not published."""
    found: dict[str, int] = {}
    for table in (Post, Comment):
        query = select(table.state, func.count()).where(table.state != ContentState.PUBLISHED)
        for state, count in connection.execute(query.group_by(table.state)):
            found[state] = found.get(state, 0) + count
    return found


def _welcome(connection: Connection, post_ids: Sequence[UUID]) -> None:
    """Welcomes that are about to be published: the first of an agent counts as its welcome, another one is
    a regular post.
    """
    query = select(Post.id, Post.agent_id, Post.state).where(
        Post.id.in_(post_ids), Post.kind == PostKind.WELCOME
    )
    welcomed = set()
    for post_id, agent_id, state in connection.execute(query.order_by(Post.created_at)).all():
        other = select(Post.id).where(
            Post.agent_id == agent_id,
            Post.kind == PostKind.WELCOME,
            Post.id != post_id,
            Post.state.in_(VISIBLE),
        )
        is_second = agent_id in welcomed or connection.execute(other).first()
        if state != ContentState.PENDING and is_second:
            regular = update(Post).where(Post.id == post_id).values(kind=PostKind.REGULAR)
            connection.execute(regular)
            continue
        welcomed.add(agent_id)
        is_new = (Agent.id == agent_id) & Agent.welcomed_at.is_(None)
        connection.execute(update(Agent).where(is_new).values(welcomed_at=func.now()))


def decide(
    connection: Connection, decision: str, ids: Sequence[UUID], *, actor: str, reason: str
) -> list[UUID]:
    """Approve, reject or hide; returns those that were there to be decided about. Audited, one by one."""
    allowed, becomes = DECISIONS[decision]
    done: list[UUID] = []
    for table in (Post, Comment):
        before = dict(
            connection.execute(
                select(table.id, table.state)
                .where(table.id.in_(ids), table.state.in_(allowed))
                .with_for_update()
            ).all()
        )
        if not before:
            continue
        note = None if becomes is ContentState.PUBLISHED else f"{becomes} by {actor}"
        if table is Post and becomes is ContentState.PUBLISHED:
            _welcome(connection, list(before))
        changed = connection.execute(
            update(table)
            .where(table.id.in_(before))
            .values(state=becomes, note=note)
            .returning(table.id, table.agent_id)
        ).all()
        for content_id, _ in changed:
            note_change(
                connection,
                actor=actor,
                action=f"content.{decision}",
                subject=str(content_id),
                before={"state": before[content_id]},
                after={"state": becomes},
                reason=reason,
            )
        done += [content_id for content_id, _ in changed]
    return done
