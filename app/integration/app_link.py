"""The link into the user's application: connecting, looking at it, and writing rows into its tables.

In the same database a row is written and its delivery marked in one transaction: exactly once. In another
one the row is written first, by a key of ours, and marked then: a repeat changes nothing. Never in the
transaction that stores a paid answer: a trigger of theirs that raises costs no second call.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    TableClause,
    bindparam,
    column,
    delete,
    func,
    select,
    table,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.types import NullType

from app.audit_log import note_change
from app.errors import NotFound
from app.integration import deliveries
from app.integration.deliveries import APP, Due
from app.integration.mapping import Mapping, TableMapping, row, value_of
from app.log import get_logger
from app.models import Agent, AgentState, AppLink, Comment, ContentState, LinkState, Post
from app.sql_faults import describe, is_passing, sqlstate

log = get_logger(__name__)

BATCH = 50
LEASE = timedelta(seconds=60)
TRIES_MAX = 8
"""Waits for a row that a trigger or a constraint of theirs refuses: ten minutes in all."""
RIGHTS = ("42501", "42P01", "42703", "42P10", "3F000", "42804", "22P02")
"""A right, a table, a column, a unique key or a type that the mapping needs and the application has not:
every row would fail, so the link is paused.
"""
_WRITTEN: dict[str, type[Post] | type[Comment]] = {"post": Post, "comment": Comment}
UNIQUE, FOREIGN = "23505", "23503"


@dataclass(frozen=True, slots=True)
class Link:
    """The link as it stands."""

    name: str
    state: str
    reason: str | None
    mapping: Mapping


@dataclass
class Round:
    """Result of one round."""

    delivered: int = 0
    refused: int = 0
    dead: int = 0
    paused: str | None = None
    errors: list[str] = field(default_factory=list)


def read(connection: Connection) -> Link | None:
    """The link, None when nothing was ever connected."""
    query = select(AppLink.name, AppLink.state, AppLink.reason, AppLink.mapping)
    found = connection.execute(query).one_or_none()
    if found is None:
        return None
    return Link(found.name, found.state, found.reason, Mapping.model_validate(found.mapping))


def read_connected(connection: Connection) -> Link:
    """The link; raises NotFound when nothing is connected."""
    link = read(connection)
    if link is None or link.state == LinkState.DISCONNECTED:
        raise NotFound("no application is connected: `paceline app connect --preset NAME`")
    return link


def connect(connection: Connection, mapping: Mapping, name: str, *, actor: str, reason: str) -> None:
    """Deliver into these tables from now on, in place of what was connected before."""
    before = read(connection)
    given = {
        "name": name,
        "mapping": mapping.model_dump(),
        "state": LinkState.ACTIVE,
        "reason": None,
        "since": func.now(),
    }
    own = insert(AppLink).values(id=1, **given)
    connection.execute(own.on_conflict_do_update(index_elements=["id"], set_=given))
    note_change(
        connection,
        actor=actor,
        action="app.connect",
        subject=name,
        before={"name": before.name} if before else {},
        after={"name": name},
        reason=reason,
    )


def set_state(
    connection: Connection, state: LinkState, *, actor: str, reason: str, why: str | None = None
) -> None:
    """Pause, go on or end; `why` is shown with the link. Raises NotFound when nothing is connected."""
    link = read_connected(connection)
    connection.execute(update(AppLink).values(state=state, reason=why))
    if state is LinkState.DISCONNECTED:
        deliveries.drop(connection, APP)
    note_change(
        connection,
        actor=actor,
        action=f"app.{state}",
        subject=link.name,
        before={"state": link.state},
        after={"state": state},
        reason=reason,
    )


# Writing rows


def _clause(mapped: TableMapping) -> TableClause:
    schema, _, name = mapped.table.partition(".")
    return table(name, *(column(one) for one in mapped.columns), schema=schema)


def _has_key(clause: TableClause, mapped: TableMapping, key: str) -> ColumnElement[bool]:
    """Without a type of ours, so that the server takes it for what its column is: a uuid, or a text."""
    return clause.c[mapped.key] == bindparam("our_key", key, type_=NullType())


def _write(there: Connection, mapped: TableMapping, payload: dict[str, Any]) -> bool:
    """Insert a row; False when it was there already."""
    statement = insert(_clause(mapped)).values(row(mapped, payload))
    done = there.execute(statement.on_conflict_do_nothing(index_elements=[mapped.key]))
    return done.rowcount > 0


def _change(there: Connection, mapped: TableMapping, key: str, values: dict[str, Any]) -> None:
    if values:
        clause = table(
            mapped.table.partition(".")[2],
            column(mapped.key),
            *(column(one) for one in values),
            schema=mapped.table.partition(".")[0],
        )
        there.execute(update(clause).where(_has_key(clause, mapped, key)).values(values))


def _remove(there: Connection, mapped: TableMapping, key: str) -> None:
    clause = _clause(mapped)
    there.execute(delete(clause).where(_has_key(clause, mapped, key)))


def apply(there: Connection, mapping: Mapping, kind: str, payload: dict[str, Any]) -> None:
    """Write one event into the application's tables; doing it twice changes nothing."""
    what, _, verb = kind.partition(".")
    mapped = mapping.part({"post": "posts", "comment": "comments", "vote": "votes"}[what])
    if mapped is None:
        return
    key = str(payload["id"])
    if verb == "hidden":
        if mapped.hidden == "delete":
            _remove(there, mapped, key)
        else:
            _change(there, mapped, key, dict(mapped.hidden))
        return
    if verb == "updated":
        changed = {
            name: value_of(value, payload)
            for name, value in mapped.columns.items()
            if value in ("$body", "$title")
        }
        _change(there, mapped, key, changed)
        return
    for part, field_name in (("communities", "community"), ("agents", "agent")):
        base = mapping.part(part)
        if base is not None and isinstance(payload.get(field_name), dict):
            about = payload[field_name]
            _write(there, base, payload | {"id": about.get("external_id") or about["id"]})
    if not _write(there, mapped, payload) and mapped.hidden != "delete":
        _change(there, mapped, key, dict(mapped.shown))


def _is_still_shown(here: Connection, due: Due) -> bool:
    """A hide that overtakes its publish wins: what is hidden by now is not published any more."""
    model = _WRITTEN.get(due.kind.partition(".")[0])
    if model is None or due.kind.endswith((".hidden", ".updated")):
        return True
    query = select(model.state).where(model.id == due.payload["id"])
    if model is Comment:  # with a hidden post nobody sees it; it comes along when that is restored
        query = query.join(Post, Post.id == Comment.post_id).where(Post.state == ContentState.PUBLISHED)
    return here.execute(query).scalar_one_or_none() == ContentState.PUBLISHED


def deliver(here: Engine, there: Engine | None, timeout_s: float) -> Round:
    """One batch; `there` is None for the same database."""
    with here.connect() as connection:
        link = read(connection)
    found = Round()
    if link is None or link.state != LinkState.ACTIVE:
        return found
    if there is None:
        with here.begin() as connection:
            _limit(connection, timeout_s)
            for due in deliveries.take(connection, APP, BATCH):
                if not _deliver_one(connection, connection, link.mapping, due, found):
                    break
    else:
        _deliver_elsewhere(here, there, link.mapping, timeout_s, found)
    if found.paused:
        with here.begin() as connection:
            connection.execute(update(AppLink).values(state=LinkState.PAUSED, reason=found.paused))
        log.error("app.paused", why=found.paused)
    return found


def _limit(connection: Connection, timeout_s: float) -> None:
    connection.execute(text(f"set local statement_timeout = {int(timeout_s * 1000)}"))


def _deliver_elsewhere(here: Engine, there: Engine, mapping: Mapping, timeout_s: float, found: Round) -> None:
    with here.begin() as connection:
        claimed = deliveries.claim(connection, APP, BATCH, LEASE)
    for number, due in enumerate(claimed):
        try:
            # The inner one is committed first: a mark without its row would be a loss.
            with here.begin() as ours, there.begin() as theirs:
                _limit(theirs, timeout_s)
                if not _deliver_one(ours, theirs, mapping, due, found):
                    break
        except SQLAlchemyError as error:
            if not is_passing(error) and sqlstate(error) is not None:  # refused when it was committed
                with here.begin() as ours:
                    _refused(ours, due, error, found)
                continue
            # The application's server is away: all that is left waits.
            found.errors.append(describe(error))
            with here.begin() as ours:
                for left in claimed[number:]:
                    deliveries.again(ours, left, describe(error), tries_max=10**9, wait_s=2.0)
            return


def _deliver_one(here: Connection, there: Connection, mapping: Mapping, due: Due, found: Round) -> bool:
    """Write one event and mark it; False when no other one would go either."""
    try:
        if not _is_still_shown(here, due):
            deliveries.done(here, due.id, "hidden before it was delivered")
            return True
        steps = _steps(here, mapping, due)
        with there.begin_nested():
            for kind, payload in steps:
                apply(there, mapping, kind, payload)
            # Their database says now, of this row alone, what it would say at the commit.
            there.execute(text("set constraints all immediate"))
    except SQLAlchemyError as error:
        if is_passing(error) or sqlstate(error) is None:
            raise
        return _refused(here, due, error, found)
    deliveries.done(here, due.id)
    for kind, payload in steps:
        if model := _WRITTEN.get(kind.partition(".")[0]):
            own = update(model).where(model.id == payload["id"])
            here.execute(own.values(external_id=str(payload["id"])))
    found.delivered += 1
    return True


def _steps(here: Connection, mapping: Mapping, due: Due) -> list[tuple[str, dict[str, Any]]]:
    """The event with what must go along, in order. The post of a comment comes along when it was written
    before the application was connected. Where a hidden post is deleted there, its comments go first, as a
    foreign key may demand. With a post that is shown again its comments come, also those that were written
    while it was hidden.
    """
    own = (due.kind, due.payload)
    is_deleted = mapping.posts.hidden == "delete"
    if due.kind.startswith("comment."):
        post = _about(
            here, "post", "id = :id and state = 'published' and external_id is null", due.payload["post"]
        )
        return [*(("post.published", one) for one in post), own]
    if due.kind == "post.hidden" and is_deleted:
        there = _about(here, "comment", "post_id = :id and external_id is not null", due.payload["id"])
        return [*(("comment.hidden", one) for one in there), own]
    if due.kind in ("post.published", "post.restored"):
        theirs = _about(here, "comment", "post_id = :id and state = 'published'", due.payload["id"])
        return [own, *(("comment.published", one) for one in theirs)]
    return [own]


def _about(here: Connection, what: str, which: str, key: object) -> list[dict[str, Any]]:
    """Posts or comments as events tell of them, the oldest first."""
    query = f"""
      select paceline.about_{what}(t) from paceline.{what}s t where {which}
      order by created_at, id
    """
    return list(here.execute(text(query), {"id": key}).scalars())


def _refused(here: Connection, due: Due, error: SQLAlchemyError, found: Round) -> bool:
    """Decide about an event that the application's database refuses."""
    code, said = sqlstate(error) or "", describe(error)
    found.errors.append(said)
    if code in RIGHTS:
        found.paused = f"{said}: `paceline app check` says what is missing"
        return False
    if code == FOREIGN:
        found.dead += 1
        deliveries.die(here, due.id, said)
        if due.kind.startswith("post."):  # a comment's post may just be deleted there
            _pause_agent(here, due, said)
    else:
        found.refused += 1
        is_slug = code == UNIQUE
        deliveries.again(here, due, said, tries_max=TRIES_MAX, wait_s=1.0 if is_slug else None)
    return True


def _pause_agent(here: Connection, due: Due, said: str) -> None:
    """The row that its posts refer to is gone there, so nobody would see its texts."""
    agent = due.payload.get("agent")
    if not isinstance(agent, dict):
        return
    own = update(Agent).where(Agent.id == agent["id"], Agent.state == AgentState.ACTIVE)
    if here.execute(own.values(state=AgentState.PAUSED)).rowcount:
        note_change(
            here,
            actor="paceline",
            action="agents.pause",
            subject=str(agent["handle"]),
            before={"state": AgentState.ACTIVE},
            after={"state": AgentState.PAUSED},
            reason=f"the application refused its {due.kind.partition('.')[0]}: {said}"[:500],
        )


def sync(here: Connection, limit: int = 100_000) -> int:
    """Let all that is published and was never delivered be delivered, posts first; returns how much."""
    made = 0
    for what, thread in (("post", "id"), ("comment", "post_id")):
        query = text(f"""
          with fresh as (
            insert into paceline.outbox (kind, thread, payload)
            select '{what}.published', t.{thread}, paceline.about_{what}(t) from paceline.{what}s t
            where t.state = 'published' and t.external_id is null and not exists (
              select from paceline.deliveries d join paceline.outbox o on o.id = d.event_id
              where d.receiver = 'app' and d.thread = t.{thread} and d.state = 'pending'
                and o.payload ->> 'id' = t.id::text)
            order by t.created_at limit :limit
            returning id, thread)
          insert into paceline.deliveries (event_id, receiver, thread)
          select id, 'app', thread from fresh order by id
        """)
        made += here.execute(query, {"limit": limit}).rowcount
    return made
