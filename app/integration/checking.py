"""Looking at the application: what it lacks for a mapping, what would be written, what is there."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, exists, select, text
from sqlalchemy.orm import aliased

from app.errors import ConfigError
from app.integration.app_link import apply
from app.integration.deliveries import APP
from app.integration.mapping import Mapping, TableMapping
from app.models import Comment, ContentState, Delivery, DeliveryState, Post

BATCH = 5_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that the mapping needs and the application has not, and what grants or makes it."""

    what: str
    mend: str


def check(there: Connection, mapping: Mapping) -> list[Finding]:
    """Return what this mapping lacks, for the role that is connected; nothing when all is there."""
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
        Finding(f"{name}: {mapped.table} has no column {one}", f"correct [{name}.columns] in the mapping")
        for one in mapped.columns
        if one not in columns
    ]
    found += [
        Finding(
            f"{name}: {mapped.table}.{one.attname} takes no null and the mapping gives it nothing",
            f"add it to [{name}.columns], or give it a default there",
        )
        for one in columns.values()
        if one.must and one.attname not in mapped.columns
    ]
    if mapped.key in columns and not _is_unique(there, about, mapped.key):
        found.append(
            Finding(
                f"{name}: {mapped.table}.{mapped.key} is not unique",
                f"create unique index on {mapped.table} ({mapped.key});",
            )
        )
    for right, wanted in rights_of(mapped).items():
        missing = sorted(one for one in wanted if one in columns and not _may(there, about, one, right, me))
        if missing:
            grant = f"grant {right} ({', '.join(missing)}) on {mapped.table} to {me};"
            found.append(
                Finding(f"{name}: {me} may not {right} {', '.join(missing)} of {mapped.table}", grant)
            )
    if mapped.hidden == "delete" and not _may(there, about, None, "delete", me):
        grant = f"grant delete on {mapped.table} to {me};"
        found.append(Finding(f"{name}: {me} may not delete from {mapped.table}", grant))
    return found


def rights_of(mapped: TableMapping) -> dict[str, set[str]]:
    """The columns that are read, inserted and updated."""
    changed = {*mapped.shown, *(mapped.hidden if isinstance(mapped.hidden, dict) else ())}
    changed |= {one for one, value in mapped.columns.items() if value in ("$body", "$title")}
    seen = {mapped.key, *(mapped.hidden if isinstance(mapped.hidden, dict) else ())}
    return {"select": seen, "insert": set(mapped.columns), "update": changed}


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
            f"{right} ({', '.join(sorted(wanted))})" for right, wanted in rights_of(mapped).items() if wanted
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
        raise ConfigError("nothing is written yet: let an agent write first, `paceline dispatch HANDLE`")
    kinds = zip(("post.published", "comment.published"), found, strict=True)
    return [(kind, payload) for kind, payload in kinds if payload is not None]


def compare(here: Connection, there: Connection, mapping: Mapping) -> dict[str, int]:
    """Return the differences between both sides, by name; all zero is what must be. Waiting events are left
    out.
    """
    found: dict[str, int] = {}
    for what, model in (("posts", Post), ("comments", Comment)):
        mapped = mapping.part(what)
        if mapped is None:
            continue
        not_there = still_there = 0
        goes = mapping.posts.hidden == "delete"
        for ours in _batches(here, model, goes_with_post=goes):
            theirs = _shown_there(there, mapped, list(ours))
            for key, is_shown in ours.items():
                not_there += is_shown and key not in theirs
                still_there += not is_shown and key in theirs
        found |= {f"{what}_not_there": not_there, f"{what}_still_there": still_there}
    return found


def _batches(
    here: Connection, model: type[Post] | type[Comment], *, goes_with_post: bool
) -> Iterator[dict[str, bool]]:
    """Select delivered events: its key there, and whether it is shown here, some at a time by id."""
    post = aliased(Post)
    thread = model.id if model is Post else Comment.post_id
    waits = exists().where(
        Delivery.receiver == APP, Delivery.state == DeliveryState.PENDING, Delivery.thread == thread
    )
    last = UUID(int=0)
    while True:
        query = (
            select(model.id, model.external_id, model.state, post.state.label("posts_state"))
            .join(post, post.id == thread)
            .where(model.external_id.is_not(None), ~waits, model.id > last)
            .order_by(model.id)
            .limit(BATCH)
        )
        rows = here.execute(query).all()
        if not rows:
            return
        last = rows[-1].id
        yield {
            row.external_id: row.state == ContentState.PUBLISHED
            and (not goes_with_post or row.posts_state == ContentState.PUBLISHED)
            for row in rows
        }


def _shown_there(there: Connection, mapped: TableMapping, keys: list[str]) -> set[str]:
    """Return the keys, of these, of rows that people of the application see."""
    key = f'"{mapped.key}"::text'
    given: dict[str, Any] = {"ids": keys}
    query = f"select {key} from {mapped.table} where {key} = any(:ids)"
    if isinstance(mapped.hidden, dict):
        marks = [
            f'"{name}" is not distinct from :hidden_{number}' for number, name in enumerate(mapped.hidden)
        ]
        query += f" and not ({' and '.join(marks)})"
        given |= {f"hidden_{number}": value for number, value in enumerate(mapped.hidden.values())}
    return set(there.execute(text(query), given).scalars())
