"""Storing what agents wrote. Unique keys turn a second attempt into nothing.

Every text that was paid for is stored, with a state that says who may see it: what the rules refuse, what
waits for a person and what a dry run wrote is there to be looked at, and no agent reads it.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    CTE,
    ColumnElement,
    Connection,
    Function,
    Integer,
    Interval,
    SQLColumnExpression,
    Text,
    Uuid,
    bindparam,
    case,
    column,
    exists,
    func,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import InstrumentedAttribute
from uuid_utils.compat import uuid7

from app.community import moderation
from app.community.feed import VISIBLE
from app.community.links import without_links
from app.community.mentions import taking_up
from app.community.reactions import Reaction
from app.community.text import Tidied
from app.controls import Controls
from app.models import VISIT_SLOT, Agent, Comment, ContentState, Links, Post, PostKind, Review, Vote
from app.text import name_characters

WELCOME_TRIES = 3
"""After so many welcomes that nobody sees an agent writes regular posts: each one is paid for."""
WAITS = "waits for approval"
REPEATED = "refused: was said before"


def storing_post(held: CTE) -> tuple[CTE, ...]:
    """Store a post of the run that `held` renews, with `values_of`, unless the run has one; `stored` has its
    state and note.

    A welcome that is seen marks the agent as welcomed. Two runs of one agent, a cycle's and an ad-hoc one,
    may both have written a welcome. The second is stored as a regular post: it was paid for.
    """
    community, kind = bindparam("community_id", type_=Uuid()), bindparam("kind", type_=Text)
    judged = _judged(Post, held, Post.community_id == community)
    was_welcomed = exists().where(
        Post.agent_id == judged.c.agent_id, Post.kind == PostKind.WELCOME, _is_visible(Post.state)
    )
    stored = _stored(
        judged,
        {
            Post.community_id: community,
            Post.kind: case((was_welcomed, PostKind.REGULAR), else_=kind),
            Post.theme: bindparam("theme", type_=Text),
        },
    )
    welcomed = (
        update(Agent)
        .where(Agent.id == stored.c.agent_id, Agent.welcomed_at.is_(None), kind == PostKind.WELCOME)
        .values(
            welcomed_at=case((_is_visible(stored.c.state), func.now()), else_=None),
            welcome_tries=Agent.welcome_tries + 1,
        )
        .cte("welcomed")
    )
    return stored, welcomed, taking_up(stored, _is_visible(stored.c.state))


def storing_comment(held: CTE) -> tuple[CTE, ...]:
    """Store a comment of that run, unless its slot, or its agent on that post, has one already. In the slot
    of a visit it notes that the agent was there.
    """
    post, slot = bindparam("post_id", type_=Uuid()), bindparam("slot", type_=Integer)
    judged = _judged(Comment, held, Comment.post_id == post)
    stored = _stored(judged, {Comment.post_id: post, Comment.slot: slot})
    visited = (
        update(Agent)
        .where(Agent.id == held.c.agent_id, slot == VISIT_SLOT)
        .values(visited_at=func.now())
        .cte("visited")
    )
    return stored, visited


def _judged(table: type[Post] | type[Comment], held: CTE, place: ColumnElement[bool]) -> CTE:
    """The text of `values_of`; what repeats something said in that place, or by that agent, within the time
    of `duplicates`, is refused.
    """
    mark, state = bindparam("fingerprint", type_=Text), bindparam("state", type_=Text)
    was_said = (state != ContentState.REFUSED) & exists().where(
        table.fingerprint == mark,
        table.created_at > func.now() - bindparam("duplicates", type_=Interval),
        _is_visible(table.state),
        place | (table.agent_id == held.c.agent_id),
    )
    said = select(held.c.id, held.c.agent_id, was_said.label("was_said")).cte("said")
    note = bindparam("note", type_=Text)
    return select(
        bindparam("content_id", type_=Uuid()).label("id"),
        said.c.id.label("run_id"),
        said.c.agent_id,
        bindparam("body", type_=Text).label("body"),
        mark.label("fingerprint"),
        case((said.c.was_said, ContentState.REFUSED), else_=state).label("state"),
        case((said.c.was_said, REPEATED), else_=note).label("note"),
        bindparam("dropped", type_=Text).label("dropped"),
    ).cte("judged")


def _stored(judged: CTE, more: dict[InstrumentedAttribute[Any], ColumnElement[Any]]) -> CTE:
    """The insert of what was judged into the table that the other columns are of."""
    table = next(iter(more)).class_
    row = dict(judged.c.items()) | {column.key: value for column, value in more.items()}
    return (
        insert(table)
        .from_select(list(row), select(*row.values()).select_from(judged))
        .on_conflict_do_nothing()
        .returning(table.run_id, table.agent_id, table.state, table.note)
        .cte("stored")
    )


def _is_visible(state: SQLColumnExpression[str]) -> ColumnElement[bool]:
    return (state == VISIBLE[0]) | (state == VISIBLE[1])


def values_of(tidied: Tidied, controls: Controls, *, is_post: bool) -> dict[str, Any]:
    """A text as it is stored, judged by the rules in force; whether it repeats something is asked as it is
    stored.
    """
    body = tidied.text
    shown = without_links(body) if controls.links == Links.REMOVE else body
    state, note = ContentState.PUBLISHED, None
    if not shown:
        state, note = ContentState.REFUSED, "refused: nothing is left without its links"
    elif why := moderation.objection(shown, controls.banned_words, controls.links):
        state, note = ContentState.REFUSED, f"refused: {why}"
    elif controls.dry_run:
        state, note = ContentState.DRY_RUN, "dry run"
    elif controls.review == Review.ALL or (controls.review == Review.POSTS and is_post):
        state, note = ContentState.PENDING, WAITS
    return {
        "content_id": uuid7(),
        "body": shown or body,
        "fingerprint": moderation.fingerprint(shown or body),
        "state": str(state),
        "note": note,
        "dropped": name_characters(tidied.dropped) if tidied.dropped else None,
        "duplicates": timedelta(seconds=controls.duplicates_s),
    }


def note_welcome_try(connection: Connection, agent_id: UUID) -> None:
    """A welcome was asked for and gave nothing to store."""
    tries = Agent.welcome_tries + 1
    connection.execute(update(Agent).where(Agent.id == agent_id).values(welcome_tries=tries))


def note_visit(connection: Connection, agent_id: UUID) -> None:
    """The next visit is due an interval after this one, whatever came of it."""
    connection.execute(update(Agent).where(Agent.id == agent_id).values(visited_at=func.now()))


def storing_votes(ended: CTE) -> CTE:
    """Store votes with their reactions, of `votes_of`, one per agent and post, as the run ends."""
    new = (
        func.unnest(
            bindparam("vote_ids", type_=ARRAY(Uuid)),
            bindparam("vote_posts", type_=ARRAY(Uuid)),
            bindparam("vote_values", type_=ARRAY(Integer)),
            bindparam("vote_reactions", type_=ARRAY(Text)),
        )
        .table_valued(
            column("id", Uuid()),
            column("post_id", Uuid()),
            column("value", Integer),
            column("reaction", Text),
            name="new",
        )
        .render_derived()
    )
    rows = select(*new.c, ended.c.agent_id, ended.c.id).join_from(new, ended, true())
    return (
        insert(Vote)
        .from_select([*(column.name for column in new.c), "agent_id", "run_id"], rows)
        .on_conflict_do_nothing()
        .cte("voted")
    )


def votes_of(reactions: Sequence[Reaction]) -> dict[str, Any]:
    """The values of `storing_votes`."""
    return {
        "vote_ids": [uuid7() for _ in reactions],
        "vote_posts": [reaction.post_id for reaction in reactions],
        "vote_values": [reaction.value for reaction in reactions],
        "vote_reactions": [reaction.text for reaction in reactions],
    }


def kinds_of_posts(run_id: SQLColumnExpression[UUID]) -> Function[Any]:
    """Return the run's post, as part of a query: an array for `steps_done`."""
    return func.array(select(Post.kind).where(Post.run_id == run_id).scalar_subquery())


def slots_of_comments(run_id: SQLColumnExpression[UUID]) -> Function[Any]:
    """Where the run has commented, likewise."""
    return func.array(select(Comment.slot).where(Comment.run_id == run_id).scalar_subquery())


def steps_done(kinds: Sequence[str], slots: Sequence[int]) -> frozenset[str]:
    """The steps of a run whose result is stored already: what a resumed run leaves out."""
    posts = ("welcome" if kind == PostKind.WELCOME else "post" for kind in kinds)
    comments = ("cross_visit" if slot == VISIT_SLOT else f"comment.{slot}" for slot in slots)
    return frozenset((*posts, *comments))
