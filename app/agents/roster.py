"""The agents of the fleet: adding, finding, listing, pausing."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Select, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from uuid_utils.compat import uuid7

from app.agents import names
from app.agents.roster_file import HANDLE, Entry
from app.audit_log import note_change
from app.errors import NotFound
from app.models import Agent, AgentState, Community
from app.models.agents import PHASES

CHUNK = 1_000


@dataclass(frozen=True, slots=True)
class Imported:
    """Result of an import, in agents."""

    created: int
    updated: int
    unchanged: int


def phase_of(agent_id: UUID) -> int:
    """An agent's place in the cycle, in millionths of the period: a stable hash of its id."""
    return int.from_bytes(hashlib.sha256(agent_id.bytes).digest()[:8]) % PHASES


def add_agents(
    connection: Connection, entries: Sequence[Entry], on_progress: Callable[[int], None] = lambda done: None
) -> Imported:
    """Create agents, or bring those with a known handle up to date. Safe to repeat."""
    communities = _ensure_communities(connection, {entry.community for entry in entries})
    created = changed = 0
    for start in range(0, len(entries), CHUNK):
        rows = []
        for entry in entries[start : start + CHUNK]:
            agent_id = uuid7()
            rows.append(
                {
                    "id": agent_id,
                    "handle": entry.handle,
                    "display_name": entry.display_name,
                    "community_id": communities[entry.community],
                    "persona": entry.persona,
                    "style_source": entry.style_source,
                    "x_handle": entry.x_handle,
                    "phase": phase_of(agent_id),
                }
            )
        upsert = insert(Agent).values(rows)
        new = upsert.excluded
        fields = ("display_name", "community_id", "persona", "style_source", "x_handle")
        upsert = upsert.on_conflict_do_update(
            index_elements=[Agent.handle],
            set_={name: new[name] for name in fields},
            where=tuple_(*(getattr(Agent, name) for name in fields)).is_distinct_from(
                tuple_(*(new[name] for name in fields))
            ),
        )
        proposed = {row["id"] for row in rows}
        touched = connection.execute(upsert.returning(Agent.id)).scalars().all()
        created += sum(agent_id in proposed for agent_id in touched)
        changed += sum(agent_id not in proposed for agent_id in touched)
        on_progress(min(start + CHUNK, len(entries)))
    return Imported(created, changed, len(entries) - created - changed)


def _ensure_communities(connection: Connection, names: set[str]) -> dict[str, UUID]:
    if names:
        rows = [{"id": uuid7(), "name": name} for name in sorted(names)]
        connection.execute(insert(Community).values(rows).on_conflict_do_nothing())
    found = connection.execute(select(Community.name, Community.id).where(Community.name.in_(names)))
    return {row.name: row.id for row in found}


@dataclass(frozen=True, slots=True)
class Listed:
    """An agent as a list shows it."""

    id: UUID
    handle: str
    display_name: str
    community: str
    state: str
    last_run_at: datetime | None
    daily_tokens: int | None
    """Its own quota; None: the fleet's."""


def _listed() -> Select[*tuple[Any, ...]]:
    columns = [Community.name if name == "community" else getattr(Agent, name) for name in Listed.__slots__]
    return select(*columns).join(Community, Community.id == Agent.community_id)


def list_agents(
    connection: Connection,
    *,
    after: str = "",
    limit: int = 1_000,
    search: str = "",
    state: AgentState | None = None,
    waited_longest: bool = False,
) -> list[Listed]:
    """Agents by handle, those behind `after` first come; `search` is part of handle or name. Or those
    that ran longest ago first, whatever `after` says.
    """
    query = _listed().where(*_matching(search, state)).limit(limit)
    if waited_longest:
        query = query.order_by(Agent.last_run_at.asc().nulls_first(), Agent.handle)
    else:
        query = query.where(Agent.handle > after).order_by(Agent.handle)
    return [Listed(*row) for row in connection.execute(query)]


@dataclass(frozen=True, slots=True)
class Shown:
    """Everything about one agent; `daily_tokens` None: the fleet's quota."""

    id: UUID
    handle: str
    display_name: str
    community: str
    persona: str
    state: str
    daily_tokens: int | None
    style_source: str | None
    x_handle: str | None
    welcomed_at: datetime | None
    last_run_at: datetime | None
    visited_at: datetime | None
    created_at: datetime


def show_agent(connection: Connection, who: str) -> Shown | None:
    """The agent with this handle or id; None when there is no such one."""
    condition = _is(who)
    if condition is None:
        return None
    columns = [Community.name if name == "community" else getattr(Agent, name) for name in Shown.__slots__]
    query = select(*columns).join(Community, Community.id == Agent.community_id)
    row = connection.execute(query.where(condition)).one_or_none()
    return None if row is None else Shown(*row)


def matching(search: str, state: AgentState | None) -> Select[UUID]:
    """A query of the ids of all agents that `list_agents` would find."""
    return select(Agent.id).where(*_matching(search, state))


def _matching(search: str, state: AgentState | None) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if state is not None:
        found.append(Agent.state == state)
    if search:
        found.append(Agent.searched.contains(search.lower(), autoescape=True))
    return found


def count_agents(connection: Connection, search: str = "", state: AgentState | None = None) -> int:
    """How many agents there are, or are like that."""
    query = select(func.count()).select_from(Agent).where(*_matching(search, state))
    return connection.execute(query).scalar_one()


def find_listed(
    connection: Connection, handles: Sequence[str], state: AgentState | None = None
) -> list[Listed]:
    """The agents with these handles, in that order; unknown ones are left out, and those in another state."""
    rows = connection.execute(_listed().where(Agent.handle.in_(handles), *_matching("", state)))
    found = {row[1]: Listed(*row) for row in rows}
    return [found[handle] for handle in handles if handle in found]


def find_listed_by_id(connection: Connection, ids: Sequence[UUID]) -> list[Listed]:
    """The agents with these ids, in that order."""
    found = {row[0]: Listed(*row) for row in connection.execute(_listed().where(Agent.id.in_(ids)))}
    return [found[agent_id] for agent_id in ids if agent_id in found]


def find_agent(connection: Connection, who: str) -> UUID | None:
    """The id of the agent with this handle or id, or None, whatever `who` holds."""
    condition = _is(who)
    if condition is None:
        return None
    return connection.execute(select(Agent.id).where(condition)).scalar_one_or_none()


def find_known(connection: Connection, who: str) -> UUID:
    """The same; raises NotFound."""
    agent_id = find_agent(connection, who)
    if agent_id is None:
        near = " or ".join(names.nearest(connection, who))
        hint = f"did you mean {near}?" if near else "`paceline agents list` shows them all"
        raise NotFound(f"unknown agent {who[:80]!r}: {hint}")
    return agent_id


def _is(who: str) -> ColumnElement[bool] | None:
    handle = who.strip().removeprefix("@").lower()
    if HANDLE.fullmatch(handle):
        return Agent.handle == handle
    try:
        return Agent.id == UUID(who)
    except ValueError:
        return None


def change_agent(
    connection: Connection, agent_id: UUID, changes: dict[str, Any], *, actor: str, action: str, reason: str
) -> dict[str, Any]:
    """Change an agent, with an audit entry; returns what was there before."""
    columns = [getattr(Agent, name) for name in changes]
    row = connection.execute(
        select(Agent.handle, *columns).where(Agent.id == agent_id).with_for_update()
    ).one()
    before = {name: getattr(row, name) for name in changes}
    connection.execute(update(Agent).where(Agent.id == agent_id).values(**changes))
    note_change(
        connection,
        actor=actor,
        action=action,
        subject=row.handle,
        before=before,
        after=changes,
        reason=reason,
    )
    return before
