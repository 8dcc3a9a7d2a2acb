"""Actions on agents and their runs: pause, resume, quota, start, cancel."""

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field
from sqlalchemy import Connection, func, select
from uuid_utils.compat import uuid7

from app.actions.action import SHOWN, Action, Desk, Given, Who
from app.actions.inputs import Handle, Input
from app.admission.limits import read_limits
from app.agents import roster
from app.audit_log import note_change
from app.bounds import Count
from app.clock import utcnow
from app.errors import NotFound, NotYet, Unreachable
from app.models import Agent, AgentState, Role, Run
from app.runs import adhoc, stopping
from app.runs.states import OPEN
from app.wiring import publish

Agents = Annotated[
    list[Handle], Field(min_length=1, max_length=1_000, title="agents", description="handles or ids")
]
Runs = Annotated[
    list[UUID],
    Field(min_length=1, max_length=1_000, title="runs", description="ids, as `runs list` shows them"),
]


class PauseAgents(Input):
    """Let agents sit out until they are resumed."""

    agents: Agents


class ResumeAgents(Input):
    """Let agents take part again."""

    agents: Agents


class RunAgents(Input):
    """Start agents now, ahead of the cycle's backlog."""

    agents: Agents


class SetQuota(Input):
    """Give agents a daily quota of their own."""

    agents: Agents
    tokens: Count | None = Field(
        None, title="LLM tokens per day", description="0: no limit; empty: the fleet's"
    )


class CancelRuns(Input):
    """Cancel runs that wait or go on. One that goes on stops before its next call."""

    runs: Runs


# Doing


def pause_agents(desk: Desk, ask: PauseAgents, who: Who) -> int:
    """Returns how many there were."""
    return _change(desk, ask.agents, {"state": AgentState.PAUSED}, "agents.pause", who)


def resume_agents(desk: Desk, ask: ResumeAgents, who: Who) -> int:
    """Returns how many there were."""
    return _change(desk, ask.agents, {"state": AgentState.ACTIVE}, "agents.resume", who)


def set_quota(desk: Desk, ask: SetQuota, who: Who) -> int:
    """Returns how many there were."""
    return _change(desk, ask.agents, {"daily_tokens": ask.tokens}, "agents.quota", who)


def _change(desk: Desk, handles: Sequence[str], changes: dict[str, Any], action: str, who: Who) -> int:
    with desk.engine.begin() as connection:
        found = {roster.find_known(connection, handle) for handle in handles}
        for agent_id in sorted(found):  # in one order, so that two people do not block each other
            roster.change_agent(
                connection, agent_id, changes, actor=who.name, action=action, reason=who.reason
            )
    return len(found)


def start_runs(desk: Desk, handles: Sequence[str], who: Who) -> list[UUID]:
    """Start agents, each once; returns the runs. All are known, or none starts. Asking again while a run
    waits for its worker returns that run. Raises NotYet when the runs are stored, but Redis does not answer.
    """
    now = utcnow()
    run_ids: list[UUID] = []
    with desk.engine.begin() as connection:
        found = {roster.find_known(connection, handle): handle for handle in handles}
        waiting = adhoc.waiting_runs(connection, found)
        run_ids += waiting.values()
        for agent_id, handle in found.items():
            if agent_id in waiting:
                continue
            run_id = uuid7()
            adhoc.request_run(connection, run_id, handle, now)
            note_change(
                connection,
                actor=who.name,
                action="agents.dispatch",
                subject=handle,
                before={},
                after={"run": str(run_id)},
                reason=who.reason,
            )
            run_ids.append(run_id)
    try:
        publish(run_ids)
    except Unreachable as why:
        said = f"stored, and begins when Redis answers again: {why}"
        raise NotYet(said, len(run_ids)) from why
    return run_ids


def _start(desk: Desk, ask: RunAgents, who: Who) -> int:
    return len(start_runs(desk, ask.agents, who))


def cancel_runs(desk: Desk, ask: CancelRuns, who: Who) -> int:
    """Returns how many were open; raises NotFound when none was."""
    said = f"cancelled by {who.name}" + (f": {who.reason}" if who.reason else "")
    with desk.engine.begin() as connection:
        done = stopping.cancel(connection, ask.runs, who.name, said, who.reason)
    if not done:
        raise NotFound("no such run is open: `paceline runs list --open` shows those that are")
    return len(done)


# Asking


def _affects_agents(_: Desk, connection: Connection, given: Given) -> str:
    found, unknown = set(), []
    for handle in dict.fromkeys(given.get("agents", ())):
        agent_id = roster.find_agent(connection, handle.replace("\x00", ""))
        found.add(agent_id) if agent_id else unknown.append(handle)
    query = select(Agent.handle).where(Agent.id.in_(found)).order_by(Agent.handle).limit(SHOWN)
    names = list(connection.execute(query).scalars())
    noun = "agent" if len(found) == 1 else "agents"
    more = " ..." if len(found) > SHOWN else ""
    said = f"{len(found):,} {noun}{': ' if names else ''}{', '.join(names)}{more}."
    return said + (f" Unknown: {', '.join(unknown[:SHOWN])}." if unknown else "")


def _affects_runs(_: Desk, connection: Connection, given: Given) -> str:
    try:
        ids = CancelRuns.model_validate({"runs": given.get("runs", ()), "reason": "."}).runs
    except ValueError:
        return "nothing: no run has such an id."
    query = select(func.count()).where(Run.id.in_(ids), Run.state.in_(OPEN))
    return f"{connection.execute(query).scalar_one():,} open of {len(set(ids)):,} runs."


def _role_for_quota(desk: Desk, ask: SetQuota) -> Role:
    """A quota above the fleet's undoes a limit that only an administrator sets; a smaller one does not."""
    if ask.tokens is None:
        return Role.OPERATOR
    with desk.engine.begin() as connection:
        of_fleet = read_limits(connection, desk.settings.limits).agent_daily_tokens
    is_within = not of_fleet or 0 < ask.tokens <= of_fleet
    return Role.OPERATOR if is_within else Role.ADMIN


ACTIONS = (
    Action(
        "agents-pause",
        "Pause agents",
        Role.OPERATOR,
        PauseAgents,
        _affects_agents,
        pause_agents,
        back="/agents",
        command="paceline agents pause HANDLE",
        chosen="agents",
    ),
    Action(
        "agents-resume",
        "Resume agents",
        Role.OPERATOR,
        ResumeAgents,
        _affects_agents,
        resume_agents,
        back="/agents",
        command="paceline agents resume HANDLE",
        chosen="agents",
    ),
    Action(
        "agents-quota",
        "Set a daily quota",
        Role.OPERATOR,
        SetQuota,
        _affects_agents,
        set_quota,
        back="/agents",
        command="paceline agents quota HANDLE TOKENS",
        chosen="agents",
        needs=_role_for_quota,
    ),
    Action(
        "agents-run",
        "Run agents now",
        Role.OPERATOR,
        RunAgents,
        _affects_agents,
        _start,
        back="/runs",
        command="paceline dispatch HANDLE --wait",
        chosen="agents",
    ),
    Action(
        "runs-cancel",
        "Cancel runs",
        Role.OPERATOR,
        CancelRuns,
        _affects_runs,
        cancel_runs,
        back="/runs",
        command="paceline runs cancel ID",
        chosen="runs",
    ),
)
