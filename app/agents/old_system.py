"""Taking agents over from the application that ran before: its tables in a Supabase database.

Reads only, in one read-only transaction, and by name: a column that is not there is a fact that is not
known. Agents keep their ids, so taking over again brings them up to date and doubles nothing.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert
from uuid_utils.compat import uuid7

from app.agents import style
from app.agents.roster import phase_of
from app.agents.roster_file import CONTROL, HANDLE, LONGEST, X_USER
from app.errors import NotFound
from app.models import Agent, AgentState, Community, StyleProfile, StyleState

GENERAL = "General"
JOBS = "agent-auto-engage%"
LEFT = (
    "posts, comments, votes, karma, members and reports stay in the old system",
    "wallet addresses and API keys are not taken",
)


@dataclass(frozen=True, slots=True)
class OldAgent:
    """An agent of the old system, as we would have it."""

    id: UUID
    wanted_handle: str
    display_name: str
    community: str
    persona: str
    is_active: bool
    welcomed_at: datetime | None
    style_source: str | None
    x_handle: str | None


@dataclass
class Found:
    """Contents of the old database; `problems` are agents and styles that cannot be taken, with reasons."""

    agents: list[OldAgent] = field(default_factory=list)
    styles: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    running_jobs: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TakenOver:
    """Result of the move, in rows."""

    created: int
    updated: int
    unchanged: int
    communities: int
    styles: int


def read_old_system(connection: Connection, schema: str) -> Found:
    """Read the old tables; raises NotFound when there is no table of agents."""
    connection.execute(text("set transaction read only"))
    if not _exists(connection, schema, "agents"):
        raise NotFound(f"no table {schema}.agents in that database: is it the right one?")
    found = Found()
    communities = {}
    for row in _rows(connection, schema, "subtuna"):
        if row.get("agent_id") and (name := _text(row.get("name"), LONGEST["community"])):
            communities[str(row["agent_id"])] = name
    for row in _rows(connection, schema, "agents"):
        _read_agent(row, communities.get(str(row.get("id")), GENERAL), found)
    for row in _rows(connection, schema, "twitter_style_library"):
        user = _user(row.get("username") or row.get("twitter_username"))
        values = (value for value in row.values() if isinstance(value, dict))
        if user:
            _read_style(user, next(values, None), found)
    found.running_jobs = _jobs(connection)
    return found


def _exists(connection: Connection, schema: str, table: str) -> bool:
    query = text("select to_regclass(format('%I.%I', cast(:schema as text), cast(:table as text)))")
    return connection.execute(query, {"schema": schema, "table": table}).scalar_one() is not None


def _rows(connection: Connection, schema: str, table: str) -> Iterator[dict[str, Any]]:
    if not _exists(connection, schema, table):
        return
    name = f'"{schema.replace(chr(34), chr(34) * 2)}"."{table}"'
    query = text(f"select to_jsonb(t) from {name} t order by to_jsonb(t)->>'created_at', to_jsonb(t)->>'id'")
    for (row,) in connection.execute(query.execution_options(yield_per=1_000)):
        yield row


def _read_agent(row: dict[str, Any], community: str, found: Found) -> None:
    name = _text(row.get("name"), LONGEST["display_name"])
    try:
        agent_id = UUID(str(row.get("id")))
    except ValueError:
        found.problems.append(f"agent {name or '?'}: its id is no UUID")
        return
    if not name:
        found.problems.append(f"agent {agent_id}: it has no name")
        return
    x_handle, source = _user(row.get("twitter_handle")), _user(row.get("style_source_username"))
    persona = _text(row.get("description"), LONGEST["persona"]) or f"You are {name}."
    is_active = row.get("status", "active") == "active"
    found.agents.append(
        OldAgent(
            agent_id,
            x_handle or _slug(name),
            name,
            community,
            persona,
            is_active,
            _moment(row) if row.get("has_posted_welcome") else None,
            source,
            x_handle,
        )
    )
    if source and row.get("writing_style"):
        _read_style(source, row["writing_style"], found)


def _read_style(user: str, value: Any, found: Found) -> None:
    try:
        found.styles.setdefault(user, style.read_profile(json.dumps(value)))
    except style.NotAProfile as why:
        found.problems.append(f"style of {user}: {why}")


def _jobs(connection: Connection) -> list[str]:
    """The old system's schedule, as far as we may read it."""
    if not _exists(connection, "cron", "job"):
        return []
    allowed = text(
        "select has_schema_privilege('cron', 'usage') and has_table_privilege('cron.job', 'select')"
    )
    if not connection.execute(allowed).scalar_one():
        return []
    query = text("select jobname from cron.job where active and jobname like :jobs order by 1")
    return list(connection.execute(query, {"jobs": JOBS}).scalars())


def take_over(connection: Connection, found: Found) -> TakenOver:
    """Create the agents, or bring those that are here up to date. Safe to repeat."""
    names = sorted({agent.community for agent in found.agents})
    new = [{"id": uuid7(), "name": name} for name in names]
    made = 0
    if new:
        adding = insert(Community).values(new).on_conflict_do_nothing().returning(Community.id)
        made = len(connection.execute(adding).all())
    query = select(Community.name, Community.id).where(Community.name.in_(names))
    communities = {row.name: row.id for row in connection.execute(query)}
    handles = {row.id: row.handle for row in connection.execute(select(Agent.handle, Agent.id))}
    taken = set(handles.values())
    created = updated = 0
    for old in found.agents:
        fields = {
            "display_name": old.display_name,
            "community_id": communities[old.community],
            "persona": old.persona,
            "style_source": old.style_source,
            "x_handle": old.x_handle,
        }
        is_known = old.id in handles
        handle = handles.get(old.id) or _free_handle(old.wanted_handle, taken)
        row = insert(Agent).values(
            id=old.id,
            handle=handle,
            state=AgentState.ACTIVE if old.is_active else AgentState.PAUSED,
            phase=phase_of(old.id),
            welcomed_at=old.welcomed_at,
            **fields,
        )
        is_other = tuple_(*(getattr(Agent, name) for name in fields)).is_distinct_from(
            tuple_(*(row.excluded[name] for name in fields))
        )
        row = row.on_conflict_do_update(index_elements=["id"], set_=fields, where=is_other)
        touched = connection.execute(row.returning(Agent.id)).one_or_none() is not None
        handles[old.id] = handle
        taken.add(handle)
        created += touched and not is_known
        updated += touched and is_known
    styles = 0
    for user, profile in found.styles.items():
        learned = insert(StyleProfile).values(
            username=user, state=StyleState.LEARNED, profile=profile, learned_at=text("now()")
        )
        adding_style = learned.on_conflict_do_nothing().returning(StyleProfile.username)
        styles += connection.execute(adding_style).one_or_none() is not None
    unchanged = len(found.agents) - created - updated
    return TakenOver(created, updated, unchanged, made, styles)


def _free_handle(wanted: str, taken: set[str]) -> str:
    """The handle it wants, or that with a number."""
    number, handle = 1, wanted
    while handle in taken:
        number += 1
        handle = f"{wanted[: LONGEST['handle'] - 6]}_{number}"
    return handle


def _slug(name: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[: LONGEST["handle"]]
    return slug if HANDLE.fullmatch(slug) else "agent"


def _user(value: Any) -> str | None:
    name = value.strip().removeprefix("@").lower() if isinstance(value, str) else ""
    return name if X_USER.fullmatch(name) else None


def _text(value: Any, longest: int) -> str:
    return CONTROL.sub("", value).strip()[:longest] if isinstance(value, str) else ""


def _moment(row: dict[str, Any]) -> datetime | None:
    for name in ("created_at", "updated_at"):
        try:
            return datetime.fromisoformat(row[name])
        except (KeyError, TypeError, ValueError):
            continue
    return None
