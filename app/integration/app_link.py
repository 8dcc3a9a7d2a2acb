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
from app.errors import ConfigError, NotFound
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
"""Of a row that a trigger or a constraint of theirs refuses: ten minutes in all."""
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
    """What one round did."""

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


def connect(
    connection: Connection, mapping: Mapping, name: str, *, actor: str, reason: str
) -> None:
    """Deliver into these tables from now on, in place of what was connected before."""
    before = read(connection)
    given = {
        "name": name, "mapping": mapping.model_dump(), "state": LinkState.ACTIVE, "reason": None,
        "since": func.now(),
    }  # fmt: skip
    own = insert(AppLink).values(id=1, **given)
    connection.execute(own.on_conflict_do_update(index_elements=["id"], set_=given))
    note_change(
        connection, actor=actor, action="app.connect", subject=name,
        before={"name": before.name} if before else {}, after={"name": name}, reason=reason,
    )  # fmt: skip


def set_state(
    connection: Connection, state: LinkState, *, actor: str, reason: str, why: str | None = None
) -> None:
    """Pause, go on or end; `why` is shown with the link. Raises NotFound when nothing is connected."""
    link = read(connection)
    if link is None or link.state == LinkState.DISCONNECTED:
        raise NotFound("no application is connected: `paceline app connect --preset NAME`")
    connection.execute(update(AppLink).values(state=state, reason=why))
    if state is LinkState.DISCONNECTED:
        deliveries.drop(connection, APP)
    note_change(
        connection, actor=actor, action=f"app.{state}", subject=link.name,
        before={"state": link.state}, after={"state": state}, reason=reason,
    )  # fmt: skip


# Writing rows


def _clause(mapped: TableMapping) -> TableClause:
    schema, _, name = mapped.table.partition(".")
    return table(name, *(column(one) for one in mapped.columns), schema=schema)


def _has_key(clause: TableClause, mapped: TableMapping, key: str) -> ColumnElement[bool]:
    """Without a type of ours, so that the server takes it for what its column is: a uuid, or a text."""
    return clause.c[mapped.key] == bindparam("our_key", key, type_=NullType())


def _write(there: Connection, mapped: TableMapping, payload: dict[str, Any]) -> None:
    statement = insert(_clause(mapped)).values(row(mapped, payload))
    there.execute(statement.on_conflict_do_nothing(index_elements=[mapped.key]))


def _change(there: Connection, mapped: TableMapping, key: str, values: dict[str, Any]) -> None:
    if values:
        clause = table(
            mapped.table.partition(".")[2], column(mapped.key), *(column(one) for one in values),
            schema=mapped.table.partition(".")[0],
        )  # fmt: skip
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
            name: value_of(value, payload) for name, value in mapped.columns.items()
            if value in ("$body", "$title")
        }  # fmt: skip
        _change(there, mapped, key, changed)
        return
    for part, field_name in (("communities", "community"), ("agents", "agent")):
        base = mapping.part(part)
        if base is not None and isinstance(payload.get(field_name), dict):
            about = payload[field_name]
            _write(there, base, payload | {"id": about.get("external_id") or about["id"]})
    _write(there, mapped, payload)
    if verb == "restored" and mapped.hidden != "delete":
        _change(there, mapped, key, dict(mapped.shown))


def _is_still_shown(here: Connection, due: Due) -> bool:
    """A hide that overtakes its publish wins: what is hidden by now is not published any more."""
    model = _WRITTEN.get(due.kind.partition(".")[0])
    if model is None or due.kind.endswith((".hidden", ".updated")):
        return True
    query = select(model.state).where(model.id == due.payload["id"])
    return here.execute(query).scalar_one_or_none() == ContentState.PUBLISHED


def _note_external(here: Connection, due: Due) -> None:
    model = _WRITTEN.get(due.kind.partition(".")[0])
    if model is not None:
        own = update(model).where(model.id == due.payload["id"])
        here.execute(own.values(external_id=str(due.payload["id"])))


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


def _deliver_elsewhere(
    here: Engine, there: Engine, mapping: Mapping, timeout_s: float, found: Round
) -> None:
    with here.begin() as connection:
        claimed = deliveries.claim(connection, APP, BATCH, LEASE)
    for number, due in enumerate(claimed):
        try:
            with there.begin() as theirs, here.begin() as ours:
                _limit(theirs, timeout_s)
                if not _deliver_one(ours, theirs, mapping, due, found):
                    break
        except SQLAlchemyError as error:  # the application's server is away: all that is left waits
            found.errors.append(describe(error))
            with here.begin() as ours:
                for left in claimed[number:]:
                    deliveries.again(ours, left, describe(error), tries_max=10**9, wait_s=2.0)
            return


def _deliver_one(
    here: Connection, there: Connection, mapping: Mapping, due: Due, found: Round
) -> bool:
    """Write one event and mark it; False when no other one would go either."""
    try:
        if not _is_still_shown(here, due):
            deliveries.done(here, due.id, "hidden before it was delivered")
            return True
        with there.begin_nested():
            apply(there, mapping, due.kind, due.payload)
    except SQLAlchemyError as error:
        if is_passing(error) or sqlstate(error) is None:
            raise
        return _refused(here, due, error, found)
    deliveries.done(here, due.id)
    _note_external(here, due)
    found.delivered += 1
    return True


def _refused(here: Connection, due: Due, error: SQLAlchemyError, found: Round) -> bool:
    """What becomes of an event that the application's database refuses."""
    code, said = sqlstate(error) or "", describe(error)
    found.errors.append(said)
    if code in RIGHTS:
        found.paused = f"{said}: `paceline app check` says what is missing"
        return False
    if code == FOREIGN:
        found.dead += 1
        deliveries.die(here, due.id, said)
        _pause_agent(here, due, said)
    else:
        found.refused += 1
        is_slug = code == UNIQUE
        deliveries.again(here, due, said, tries_max=TRIES_MAX, wait_s=1.0 if is_slug else None)
    return True


def _pause_agent(here: Connection, due: Due, said: str) -> None:
    """What its posts refer to is gone there, so nobody would see what it writes."""
    agent = due.payload.get("agent")
    if not isinstance(agent, dict):
        return
    own = update(Agent).where(Agent.id == agent["id"], Agent.state == AgentState.ACTIVE)
    if here.execute(own.values(state=AgentState.PAUSED)).rowcount:
        note_change(
            here, actor="paceline", action="agents.pause", subject=str(agent["handle"]),
            before={"state": AgentState.ACTIVE}, after={"state": AgentState.PAUSED},
            reason=f"the application refused its {due.kind.partition('.')[0]}: {said}"[:500],
        )  # fmt: skip


# Looking


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that the mapping needs and the application has not, and what grants or makes it."""

    what: str
    mend: str


def check(there: Connection, mapping: Mapping) -> list[Finding]:
    """What is missing for this mapping, by the role that is connected; nothing when all is there."""
    me = there.execute(text("select current_user")).scalar_one()
    found: list[Finding] = []
    for name, mapped in mapping.parts.items():
        found += _check_table(there, name, mapped, me)
    return found


def _check_table(there: Connection, name: str, mapped: TableMapping, me: str) -> list[Finding]:
    schema, _, short = mapped.table.partition(".")
    about = {"schema": schema, "table": short, "full": mapped.table}
    columns = {
        found.attname: found
        for found in there.execute(
            text("""
              select attname, attnotnull and not atthasdef and attidentity = '' as must
              from pg_attribute where attrelid = to_regclass(:full) and attnum > 0 and not attisdropped
            """),
            about,
        )
    }
    if not columns:
        mend = f"create it, or grant usage on schema {schema} to {me}; or correct [{name}] in the mapping"
        return [Finding(f"{name}: there is no table {mapped.table} that {me} may see", mend)]
    found = [
        Finding(
            f"{name}: {mapped.table} has no column {one}",
            f"correct [{name}.columns] in the mapping",
        )
        for one in mapped.columns
        if one not in columns
    ]
    found += [
        Finding(f"{name}: {mapped.table}.{one.attname} takes no null and the mapping gives it nothing",
                f"add it to [{name}.columns], or give it a default there")
        for one in columns.values()
        if one.must and one.attname not in mapped.columns
    ]  # fmt: skip
    if mapped.key in columns and not _is_unique(there, about, mapped.key):
        found.append(
            Finding(f"{name}: {mapped.table}.{mapped.key} is not unique",
                    f"create unique index on {mapped.table} ({mapped.key});")
        )  # fmt: skip
    for right, wanted in rights_of(mapped).items():
        missing = sorted(
            one for one in wanted if one in columns and not _may(there, about, one, right, me)
        )
        if missing:
            grant = f"grant {right} ({', '.join(missing)}) on {mapped.table} to {me};"
            found.append(
                Finding(
                    f"{name}: {me} may not {right} {', '.join(missing)} of {mapped.table}", grant
                )
            )
    if mapped.hidden == "delete" and not _may(there, about, None, "delete", me):
        grant = f"grant delete on {mapped.table} to {me};"
        found.append(Finding(f"{name}: {me} may not delete from {mapped.table}", grant))
    return found


def rights_of(mapped: TableMapping) -> dict[str, set[str]]:
    """The columns that are read, inserted and updated."""
    changed = {*mapped.shown, *(mapped.hidden if isinstance(mapped.hidden, dict) else ())}
    changed |= {one for one, value in mapped.columns.items() if value in ("$body", "$title")}
    return {"select": {mapped.key}, "insert": set(mapped.columns), "update": changed}


def _may(there: Connection, about: dict[str, str], one: str | None, right: str, me: str) -> bool:
    whole = text("select has_table_privilege(:me, :full, :right)")
    given = {"me": me, "full": about["full"], "right": right}
    if one is None:
        return bool(there.execute(whole, given).scalar_one())
    part = text("select has_column_privilege(:me, :full, :one, :right)")
    return bool(there.execute(part, {**given, "one": one}).scalar_one())


def _is_unique(there: Connection, about: dict[str, str], key: str) -> bool:
    query = text("""
      select exists (
        select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
        where i.indrelid = to_regclass(:full) and i.indisunique and i.indnkeyatts = 1
          and i.indpred is null and a.attname = :key)
    """)
    return bool(there.execute(query, {"full": about["full"], "key": key}).scalar_one())


def role_sql(mapping: Mapping, role: str = "paceline_app") -> str:
    """The statements for a role that may do what the mapping needs and no more."""
    lines = [f"create role {role} login password '...';"]
    for schema in sorted({mapped.table.partition(".")[0] for mapped in mapping.parts.values()}):
        lines.append(f"grant usage on schema {schema} to {role};")
    for mapped in mapping.parts.values():
        parts = [
            f"{right} ({', '.join(sorted(wanted))})"
            for right, wanted in rights_of(mapped).items()
            if wanted
        ]
        if mapped.hidden == "delete":
            parts.append("delete")
        lines.append(f"grant {', '.join(parts)} on {mapped.table} to {role};")
    return "\n".join(lines)


def try_out(
    there: Connection, mapping: Mapping, samples: list[tuple[str, dict[str, Any]]]
) -> list[tuple[str, Any]]:
    """The rows that these events would make, read back; the caller rolls back."""
    shown = []
    for kind, payload in samples:
        apply(there, mapping, kind, payload)
        part = {"post": "posts", "comment": "comments", "vote": "votes"}[kind.partition(".")[0]]
        mapped = mapping.part(part)
        if mapped is None:
            continue
        found = (
            there.execute(
                text(f'select * from {mapped.table} where "{mapped.key}"::text = :key'),
                {"key": str(payload["id"])},
            )
            .mappings()
            .one_or_none()
        )
        shown.append((mapped.table, dict(found) if found else None))
    return shown


def samples(here: Connection) -> list[tuple[str, dict[str, Any]]]:
    """The newest comment with its post, or the newest post, as events."""
    newest = """
      select paceline.about_post(p), case when c.id is not null then paceline.about_comment(c) end
      from paceline.posts p left join paceline.comments c on c.post_id = p.id and c.state = 'published'
      where p.state = 'published' order by c.created_at desc nulls last, p.created_at desc limit 1
    """
    found = here.execute(text(newest)).one_or_none()
    if found is None:
        raise ConfigError(
            "nothing is written yet: let an agent write first, `paceline dispatch HANDLE`"
        )
    kinds = zip(("post.published", "comment.published"), found, strict=True)
    return [(kind, payload) for kind, payload in kinds if payload is not None]


def compare(here: Connection, there: Connection, mapping: Mapping) -> dict[str, int]:
    """What is delivered here and missing there, by table."""
    missing = {}
    for what, model in (("posts", Post), ("comments", Comment)):
        mapped = mapping.part(what)
        if mapped is None:
            continue
        query = select(model.external_id).where(
            model.external_id.is_not(None), model.state == ContentState.PUBLISHED
        )
        ours = set(here.execute(query).scalars())
        theirs = set(
            there.execute(
                text(
                    f'select "{mapped.key}"::text from {mapped.table} where "{mapped.key}"::text = any(:ids)'
                ),
                {"ids": list(ours)},
            ).scalars()
        )
        missing[what] = len(ours - theirs)
    return missing
