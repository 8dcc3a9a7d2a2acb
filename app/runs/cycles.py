"""Opening slices: choosing who acts now, and making a run for each.

A cycle is cut into slices. An agent falls due in the slice that holds its phase; one that got no
run then stays due until the cycle ends, and is due from the start of the next one. So a slice that
beat missed is caught up by the next one, and when there are more agents than the cap can serve, those
that were not chosen come later, first those who waited longest.

At most as many runs are made as the cap can serve, the least recently served agents first, and none
on top of a queue that is already that long. Openers take turns on a lock and count what the slice
has already, so two beats, a restart or a retry make the same rows as one.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Connection, exists, false, func, literal, select, text
from sqlalchemy.dialects.postgresql import insert

from app.clock import cycle_start
from app.models import Agent, AgentState, Run, RunOrigin
from app.models.agents import PHASES
from app.runs.states import WAITING
from app.settings import CycleSettings

QUEUE_SLICES = 2
"""How many slices' worth of runs may wait: enough that workers never idle between two slices."""

SURPLUS = 1.25
"""Runs are opened for somewhat more than the cap: what an average run calls for is only an average, and
with exactly enough the cap measured 96 % used. The bound on what waits takes the surplus back."""


@dataclass(frozen=True, slots=True)
class QueuedRun:
    """A run that waits for a worker."""

    id: UUID
    handle: str
    cycle_at: datetime | None
    options: dict[str, Any] | None = None
    """Further values in its message: queue, chain, chord, links."""


@dataclass(frozen=True, slots=True)
class OpenedSlice:
    """Result of opening a slice. `deferred` agents are due but have to wait for a later slice."""

    cycle_at: datetime
    slice_index: int
    runs: tuple[QueuedRun, ...]
    deferred: int


def runs_per_slice(rate: float, cycle: CycleSettings, calls_per_run: float) -> int:
    """How many average runs keep the cap busy for one slice, at least one."""
    return max(1, math.ceil(SURPLUS * rate * cycle.slice_length_s / calls_per_run))


def open_slice(connection: Connection, *, now: datetime, cycle: CycleSettings, capacity: int) -> OpenedSlice:
    """Make a run for each agent chosen in the slice that holds `now`. Safe to repeat."""
    period = timedelta(seconds=cycle.period_s)
    cycle_at = cycle_start(now, period)
    slice_index = min(int((now - cycle_at) / period * cycle.slices), cycle.slices - 1)
    slice_at = cycle_at + period * slice_index / cycle.slices

    connection.execute(text("select pg_advisory_xact_lock(hashtext('paceline.cycles.open'))"))
    room = capacity - _count_opened(connection, cycle_at, slice_at)
    room = min(room, QUEUE_SLICES * capacity - _count_waiting(connection))
    is_its_time = Agent.phase < PHASES * (slice_index + 1) // cycle.slices
    is_due = (
        (Agent.state == AgentState.ACTIVE)
        & (is_its_time | _is_overdue(connection, cycle_at - period))
        & ~exists().where(Run.agent_id == Agent.id, Run.cycle_at == cycle_at)
    )
    due_count = connection.execute(select(func.count()).select_from(Agent).where(is_due)).scalar_one()
    chosen = (
        select(Agent.id, Agent.handle)
        .where(is_due)
        .order_by(Agent.last_run_at.asc().nulls_first(), Agent.phase, Agent.id)
        .limit(max(0, room))
    )
    handles = {row.id: row.handle for row in connection.execute(chosen)}
    opened: list[QueuedRun] = []
    if handles:
        rows = [
            {
                "id": uuid4(),
                "agent_id": agent_id,
                "cycle_at": cycle_at,
                "due_at": slice_at,
                "expires_at": cycle_at + period,
                "origin": RunOrigin.CYCLE,
            }
            for agent_id in handles
        ]
        made = connection.execute(insert(Run).on_conflict_do_nothing().returning(Run.id, Run.agent_id), rows)
        opened = [
            QueuedRun(run_id, handles[agent_id], cycle_at)
            for run_id, agent_id in made
            if agent_id is not None
        ]
    return OpenedSlice(cycle_at, slice_index, tuple(opened), due_count - len(opened))


def _is_overdue(connection: Connection, previous: datetime) -> ColumnElement[bool]:
    """Left out of the cycle before, so due from this one's first slice: else an agent with a late phase
    would compete for the last slices only. After an outage of whole cycles it is False: then all start anew.
    """
    if not connection.execute(select(exists().where(Run.cycle_at == previous))).scalar_one():
        return false()
    had_a_run = exists().where(Run.agent_id == Agent.id, Run.cycle_at == previous)
    return (Agent.created_at < previous) & ~had_a_run


def _count_opened(connection: Connection, cycle_at: datetime, slice_at: datetime) -> int:
    query = select(func.count()).where(Run.cycle_at == cycle_at, Run.due_at == slice_at)
    return connection.execute(query).scalar_one()


def _count_waiting(connection: Connection) -> int:
    query = select(func.count()).where(Run.state.in_(WAITING), Run.origin == RunOrigin.CYCLE)
    return connection.execute(query).scalar_one()


def queued_runs(connection: Connection, run_ids: "list[UUID] | tuple[UUID, ...]") -> list[QueuedRun]:
    """The given runs as messages need them, in no particular order."""
    query = (
        select(Run.id, func.coalesce(Agent.handle, Run.asked_for, literal("?")), Run.cycle_at, Run.options)
        .join(Agent, Agent.id == Run.agent_id, isouter=True)
        .where(Run.id.in_(run_ids))
    )
    return [QueuedRun(*row) for row in connection.execute(query)]
