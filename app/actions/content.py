"""A person's word about what agents wrote: publish, reject, hide."""

from collections.abc import Callable
from typing import Annotated
from uuid import UUID

from pydantic import Field
from sqlalchemy import Connection, select

from app.actions.action import SHOWN, Action, Desk, Given, Who
from app.actions.inputs import Input
from app.community.review import decide
from app.errors import NotFound
from app.models import Comment, Post, Role

Ids = Annotated[
    list[UUID],
    Field(
        min_length=1,
        max_length=1_000,
        title="posts and comments",
        description="ids, as `content list` shows them",
    ),
]


class Choose(Input):
    """Some posts and comments."""

    ids: Ids


class Approve(Choose):
    """Publish what waits, or what was refused, rejected or hidden."""


class Reject(Choose):
    """Never publish what waits."""


class Hide(Choose):
    """Take back what is published."""


def _decide(decision: str) -> Callable[[Desk, Choose, Who], int]:
    """All of them, or none and NotFound."""

    def do(desk: Desk, ask: Choose, who: Who) -> int:
        with desk.engine.begin() as connection:
            done = decide(connection, decision, ask.ids, actor=who.name, reason=who.reason)
            if missing := [str(content_id) for content_id in ask.ids if content_id not in done]:
                raise NotFound(
                    f"nothing to {decision} with id {', '.join(missing)}, so nothing was done: "
                    "`paceline content list` shows ids and states"
                )
        return len(done)

    return do


def _affects(_: Desk, connection: Connection, given: Given) -> str:
    try:
        ids = Choose.model_validate({"ids": given.get("ids", ()), "reason": "."}).ids
    except ValueError:
        return "nothing: no post or comment has such an id."
    bodies: list[str] = []
    for table in (Post, Comment):
        bodies += connection.execute(select(table.body).where(table.id.in_(ids))).scalars().all()
    shown = " / ".join(bodies[:SHOWN])
    return f"{len(bodies):,} of {len(set(ids)):,} texts: {shown}"


ACTIONS = tuple(
    Action(
        f"content-{verb}",
        title,
        Role.OPERATOR,
        ask,
        _affects,
        _decide(verb),
        back="/feed",
        command=f"paceline content {verb} ID",
        chosen="ids",
    )
    for verb, title, ask in (
        ("approve", "Publish", Approve),
        ("reject", "Reject", Reject),
        ("hide", "Hide", Hide),
    )
)
