"""Storing what agents wrote. Unique keys turn a second attempt into nothing.

Whatever was paid for is stored, with a state that says who may see it: what the rules refuse, what waits
for a person and what a dry run wrote is there to be looked at, and no agent reads it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from uuid_utils.compat import uuid7

from app.community import moderation
from app.community.feed import VISIBLE
from app.community.reactions import Reaction
from app.controls import Controls
from app.models import (
    VISIT_SLOT,
    Agent,
    Comment,
    ContentState,
    Links,
    Post,
    PostKind,
    Review,
    Vote,
)

WAITS = "waits for approval"


@dataclass(frozen=True, slots=True)
class Author:
    """Who writes, in which run, under which rules."""

    run_id: UUID
    agent_id: UUID
    controls: Controls


@dataclass(frozen=True, slots=True)
class _Judged:
    """A text as it is stored; `note` says why it is not published."""

    body: str
    fingerprint: str
    state: ContentState
    note: str | None


def publish_post(
    connection: Connection,
    author: Author,
    *,
    community_id: UUID,
    kind: PostKind,
    theme: str | None,
    body: str,
) -> str | None:
    """Store a post, unless the run has one; returns why it is not published, if so.

    A published welcome marks the agent as welcomed. Two runs of one agent, a cycle's and an ad-hoc one,
    may both have written a welcome. The second is stored as a regular post: it was paid for.
    """
    where = or_(Post.community_id == community_id, Post.agent_id == author.agent_id)
    found = _judge(connection, author.controls, body, Post, where, is_post=True)
    row = {
        "id": uuid7(),
        "run_id": author.run_id,
        "agent_id": author.agent_id,
        "community_id": community_id,
        "kind": kind,
        "theme": theme,
        **_columns(found),
    }
    adding = insert(Post).on_conflict_do_nothing().returning(Post.id)
    stored = connection.execute(adding, row).one_or_none()
    if stored is None and kind is PostKind.WELCOME:
        connection.execute(adding, row | {"kind": PostKind.REGULAR})
    if kind is PostKind.WELCOME and found.state in VISIBLE:
        connection.execute(
            update(Agent)
            .where(Agent.id == author.agent_id, Agent.welcomed_at.is_(None))
            .values(welcomed_at=func.now())
        )
    return found.note


def publish_comment(
    connection: Connection, author: Author, *, post_id: UUID, slot: int, body: str
) -> str | None:
    """Store a comment, unless this run's slot, or this agent on this post, has one already; returns why it
    is not published, if so.
    """
    where = or_(Comment.post_id == post_id, Comment.agent_id == author.agent_id)
    found = _judge(connection, author.controls, body, Comment, where, is_post=False)
    row = {"id": uuid7(), "run_id": author.run_id, "agent_id": author.agent_id}
    connection.execute(
        insert(Comment)
        .values(**row, post_id=post_id, slot=slot, **_columns(found))
        .on_conflict_do_nothing()
    )
    return found.note


def publish_visit(
    connection: Connection, author: Author, *, post_id: UUID, slot: int, body: str
) -> str | None:
    """Store a comment in another community, and that the agent was there."""
    note_visit(connection, author.agent_id)
    return publish_comment(connection, author, post_id=post_id, slot=slot, body=body)


def _judge(
    connection: Connection,
    controls: Controls,
    body: str,
    table: type[Post] | type[Comment],
    where: ColumnElement[bool],
    *,
    is_post: bool,
) -> _Judged:
    """Decide about a text by the rules in force."""
    shown = moderation.without_links(body) if controls.links == Links.REMOVE else body
    mark = moderation.fingerprint(shown or body)

    def judged(state: ContentState, note: str | None) -> _Judged:
        return _Judged(shown or body, mark, state, note)

    if not shown:
        return judged(ContentState.REFUSED, "refused: nothing is left without its links")
    if why := moderation.objection(shown, controls.banned_words, controls.links):
        return judged(ContentState.REFUSED, f"refused: {why}")
    if controls.duplicates_s:
        since = func.now() - timedelta(seconds=controls.duplicates_s)
        same = select(table.id).where(
            table.fingerprint == mark, table.created_at > since, table.state.in_(VISIBLE), where
        )
        if connection.execute(same.limit(1)).one_or_none():
            return judged(ContentState.REFUSED, "refused: was said before")
    if controls.dry_run:
        return judged(ContentState.DRY_RUN, "dry run")
    if controls.review == Review.ALL or (controls.review == Review.POSTS and is_post):
        return judged(ContentState.PENDING, WAITS)
    return judged(ContentState.PUBLISHED, None)


def _columns(found: _Judged) -> dict[str, object]:
    return {
        "body": found.body,
        "fingerprint": found.fingerprint,
        "state": found.state,
        "note": found.note,
    }


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
