"""Why has this agent not run? One answer, from everything that could stand in its way."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, func, select, true

from app.admission.controller import Place
from app.admission.scripts import windows
from app.clock import cycle_start
from app.models import Agent, AgentState, Community, Controls, Limits, OverBudget, Review, Run, RunState
from app.models.agents import PHASES
from app.refusals import reason_of
from app.runs import jobs
from app.runs.services import Services
from app.runs.stops import Look, Standing, find_stops, look, name_who_paused
from app.usage import calls


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `stops`: it keeps the agent from running or calling now."""

    about: str
    says: str
    stops: bool = False


CAUSES = ("agent", "admission", "scheduler", "budget", "quota", "run")
"""Causes that may stop an agent, the cause before its consequences: a paused fleet's runs wait, too."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer in a line, and what it rests on. `quota`: LLM tokens a day, 0: no limit."""

    agent: str
    answer: str
    findings: list[Finding]
    quota: int


def explain(services: Services, agent_id: UUID, now: datetime) -> Explanation:
    """Look at everything between an agent and its next call. The answer is what has to be mended first."""
    with services.engine.connect() as connection:
        facts = _facts(connection, services, agent_id, now)
        findings = [_agent(facts.agent_state), _scheduler(facts.silence_s, services)]
        findings.append(_slice(services, facts.phase, now))
        findings.append(_run(connection, facts, now))
        findings.append(_controls(facts, services))
    seen = look(services.admission, services.settings, services.engine)
    findings.append(_admission(seen, services))
    if seen.state is not None:
        findings.append(_budget(facts, seen, services))
        findings.append(_quota(facts, seen, services))
    stopping = sorted((f for f in findings if f.stops), key=lambda f: CAUSES.index(f.about))
    last = "no turn of it has completed yet"
    if facts.last_run_at:
        at = facts.last_run_at
        last = f"it last ran {_ago(at, now)} ({at:%Y-%m-%d %H:%M:%S} UTC)"
    answer = (
        f"{stopping[0].about}: {stopping[0].says}"
        if stopping
        else f"nothing stops it; {last}, {findings[2].says}"
    )
    return Explanation(facts.handle, answer, findings, _quota_of(facts, services))


def _facts(
    connection: Connection, services: Services, agent_id: UUID, now: datetime
) -> Row[*tuple[Any, ...]]:
    """The agent, its latest run, and what is in force for it, in one query."""
    run = (
        select(
            Run.id,
            Run.state,
            Run.reason,
            Run.origin,
            Run.due_at,
            Run.wake_at,
            Run.worker,
            Run.finished_at,
            Run.attempt,
            (Run.lease_until < func.now()).label("is_silent"),
        )
        .where(Run.agent_id == agent_id)
        .order_by(Run.created_at.desc())
        .limit(1)
        .subquery()
    )
    day_start = windows(now, services.settings.zone).day_start
    used = calls.billable_of_agent(agent_id, day_start).scalar_subquery()
    query = (
        select(
            Agent.handle,
            Agent.state.label("agent_state"),
            Agent.phase,
            Agent.last_run_at,
            Agent.daily_tokens,
            *run.c,
            jobs.silence_s().label("silence_s"),
            used.label("used"),
            Limits.agent_daily_tokens,
            Controls.dry_run,
            Controls.paused_activities,
            Controls.review,
            Controls.over_budget,
            Agent.community_id,
            Community.budget_day_micros,
            Community.budget_month_micros,
        )
        .select_from(Agent)
        .join(Community, Community.id == Agent.community_id)
    )
    for table in (run, Limits, Controls):  # one row at most of each
        query = query.join(table, true(), isouter=True)
    return connection.execute(query.where(Agent.id == agent_id)).one()


def _agent(state: str) -> Finding:
    says = {
        AgentState.ACTIVE: "takes part in cycles",
        AgentState.PAUSED: "is paused: `paceline agents resume` lets it go on",
        AgentState.QUARANTINED: "is quarantined, because the worker of its run went silent three times: look "
        "at the workers' logs, then run `paceline agents resume`",
    }
    return Finding("agent", says[AgentState(state)], state != AgentState.ACTIVE)


def _scheduler(silence_s: Any, services: Services) -> Finding:
    if silence_s is None:
        return Finding("scheduler", "no slice was ever opened: start `make up`, or beat", True)
    age_s = float(silence_s)
    said = jobs.say_age(age_s)
    if jobs.is_silent(age_s, services.settings):
        return Finding("scheduler", f"{said}: beat or every worker is gone or hangs", True)
    return Finding("scheduler", said)


def _slice(services: Services, phase: int, now: datetime) -> Finding:
    cycle = services.settings.cycle
    period = timedelta(seconds=cycle.period_s)
    began = cycle_start(now, period)
    number = phase * cycle.slices // PHASES
    due = began + period * number / cycle.slices
    if due <= now:
        due += period
    return Finding("slice", f"it falls due next at {due:%H:%M:%S} UTC (slice {number})")


def _controls(facts: Row[*tuple[Any, ...]], services: Services) -> Finding:
    controls = facts if facts.dry_run is not None else services.settings.controls
    said = ["dry run: nothing is published"] if controls.dry_run else []
    if controls.paused_activities:
        said.append(f"paused: {', '.join(controls.paused_activities)}")
    if controls.review != Review.NOTHING:
        said.append(f"{controls.review} wait for approval")
    return Finding("controls", "; ".join(said) or "nothing is held back")


def _run(connection: Connection, row: Row[*tuple[Any, ...]], now: datetime) -> Finding:
    if row.id is None:
        return Finding("run", "it had none yet")
    where = f"{row.origin} run {row.id}"
    match RunState(row.state):
        case RunState.QUEUED:
            ahead = connection.execute(
                select(func.count()).where(Run.state == RunState.QUEUED, Run.due_at < row.due_at)
            ).scalar_one()
            return Finding("run", f"{where} waits for a worker, {ahead} were due before it", True)
        case RunState.SNOOZED if row.due_at > now:
            return Finding("run", f"{where} begins at {row.due_at:%Y-%m-%d %H:%M:%S} UTC, as asked")
        case RunState.SNOOZED:
            said = f"{where} waits for a permit until {row.wake_at:%H:%M:%S} UTC"
            return Finding("run", said, True)
        case RunState.RUNNING:
            said = f"{where} is in the hands of {row.worker or 'a worker'}"
            if row.is_silent:
                return Finding("run", f"{said}, which went silent: it is resumed soon", True)
            return Finding("run", f"{said}, attempt {row.attempt}")
        case state:
            reason = f" ({row.reason})" if row.reason else ""
            ended = _ago(row.finished_at, now)
            return Finding("run", f"its latest one {state} {ended}{reason}")


def _admission(seen: Look, services: Services) -> Finding:
    stops = find_stops(seen)
    with services.engine.connect() as connection:
        stops = name_who_paused(connection, stops)
    for stop in stops:
        # A brake that only slows down stops nobody; a budget and a quota are findings of their own.
        if stop.standing in (Standing.STOPPED, Standing.PAUSED, Standing.THROTTLED) or (
            stop.about == "redis"
        ):
            return Finding("admission", str(stop), True)
    assert seen.state is not None  # else it is a stop
    return Finding("admission", f"open, {seen.state.effective_rate:g} of {seen.state.rate:g} calls/s")


def _budget(facts: Row[*tuple[Any, ...]], seen: Look, services: Services) -> Finding:
    place = Place(facts.community_id, facts.budget_day_micros, facts.budget_month_micros)
    code = services.admission.used_up_budget(place)
    if code is None:
        problem = seen.asked.price_problem
        if problem and _has_budget(place, seen):
            # A model that is only asked in another's place stops nothing by having no price.
            is_asked = any(model in seen.asked.unpriced for model in seen.asked.models)
            return Finding("budget", problem, is_asked and not seen.asked.is_free)
        return Finding("budget", "none is used up")
    period = "day" if code.endswith("day") else "month"
    said = f"{reason_of(code).says} (`paceline budget show`)"
    policy = facts.over_budget or services.settings.controls.over_budget
    if policy == OverBudget.STOP:
        return Finding("budget", f"{said}: it may call again in the next {period}", True)
    return Finding("budget", f"{said}: {policy.replace('_', ' ')}")


def _has_budget(place: Place, seen: Look) -> bool:
    of_fleet = seen.state is not None and any(budget.limit for budget in seen.state.budgets)
    return bool(of_fleet or place.day_micros or place.month_micros)


def _quota(facts: Row[*tuple[Any, ...]], seen: Look, services: Services) -> Finding:
    used, limit = int(facts.used or 0), _quota_of(facts, services)
    if not limit:
        return Finding("quota", f"{used} tokens used today, no quota")
    said, least = f"{used} of {limit} tokens used today", seen.asked.call_tokens
    if limit < least:
        said += f", and a call reserves at least {least}, so it never calls: raise it"
        return Finding("quota", said, True)
    if used + least > limit:
        said += f", and a call reserves at least {least}: it may call again after midnight"
        return Finding("quota", said, True)
    return Finding("quota", said)


def _quota_of(facts: Row[*tuple[Any, ...]], services: Services) -> int:
    """Its own, the fleet's, or what the fleet's will be; 0: no limit."""
    settings = services.settings.limits
    given = (facts.daily_tokens, facts.agent_daily_tokens, settings.agent_daily_tokens)
    return next((limit for limit in given if limit is not None), 0)


def _ago(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return "never"
    seconds = max(0, int((now - moment).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
