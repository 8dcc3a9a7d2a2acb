"""What is worth a message. Each rule reads facts and returns messages with keys of their own.

A key holds the threshold and the period, so a rule may say the same a thousand times and it is told
once; what is over has a key of its own, and is told only to who heard of its beginning.
"""

from dataclasses import dataclass
from datetime import timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, func, select

from app.admission.limits import read_limits
from app.alerts.outbox import Message
from app.clock import utcnow
from app.models import Alert, Incident, IncidentKind, Run, RunState
from app.runs import jobs
from app.runs.outside import credits_left
from app.settings import Settings
from app.usage.reports import period_start, usage_between

BUDGET_STEPS = (50, 80, 95, 100)
LONG = timedelta(minutes=10)
RECENT = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Budget:
    """A budget, and what is spent of it."""

    period: str
    name: str
    micros: int
    spent: int


def evaluate(connection: Connection, settings: Settings) -> list[Message]:
    """Every message that the facts call for now."""
    return [
        *_budgets(connection, settings),
        *_incidents(connection),
        *_scheduler(connection, settings),
        *_quarantine(connection),
        *_balance(connection, settings),
    ]


def _budgets(connection: Connection, settings: Settings) -> list[Message]:
    limits = read_limits(connection, settings.limits)
    now, zone = utcnow(), settings.zone
    found = []
    for period, micros in (
        ("today", limits.budget_day_micros),
        ("this month", limits.budget_month_micros),
    ):
        if micros:
            start = period_start(period, now, zone)
            spent = usage_between(connection, start, now, zone).cost_micros
            shape = "%Y-%m-%d" if period == "today" else "%Y-%m"
            name = f"{start.astimezone(zone):{shape}}"
            found.append(Budget(period, name, micros, spent))
    return [message for budget in found for message in budget_messages(budget, zone)]


def budget_messages(budget: Budget, zone: ZoneInfo) -> list[Message]:
    """One message for each step that is reached. Pure."""
    share = 100 * budget.spent / budget.micros
    return [
        Message(
            key=f"budget.{budget.name}.{step}",
            severity="failure" if step == 100 else "warning",
            title=f"Paceline: {step} % of the budget of {budget.period} is spent",
            body=f"${budget.spent / 1e6:,.2f} of ${budget.micros / 1e6:,.2f} ({share:.0f} %), estimated at "
            f"list price, {budget.name} in {zone.key}. "
            + (
                "Calls are refused until the next period, or `paceline limits set --budget-...`."
                if step == 100
                else "Calls are refused at 100 %."
            ),
        )
        for step in BUDGET_STEPS
        if share >= step
    ]


def _incidents(connection: Connection) -> list[Message]:
    query = select(
        Incident.id, Incident.kind, Incident.opened_at, Incident.closed_at, Incident.calls,
        Incident.agents, (func.coalesce(Incident.closed_at, func.now()) - Incident.opened_at).label("lasted"),
    ).where(Incident.opened_at > func.now() - RECENT)  # fmt: skip
    found = []
    for row in connection.execute(query):
        is_credits = row.kind == IncidentKind.CREDITS_EXHAUSTED
        if not is_credits and row.lasted < LONG:
            continue
        what = (
            "the gateway's credits are used up" if is_credits else "the gateway keeps answering 429"
        )
        seen = f"{row.calls} calls of {row.agents} agents refused since {row.opened_at:%Y-%m-%d %H:%M:%S} UTC"
        mend = (
            "No call is made and no run is started but a probe; add credits, then `paceline resume`."
            if is_credits
            else "The fleet paces itself below the cap; see `paceline incidents`, `paceline limits show`."
        )
        key = f"incident.{row.id}"
        found.append(Message(key, "failure", f"Paceline: {what}", f"{seen}. {mend}"))
        if row.closed_at and _was_told(connection, key):
            body = f"{seen} until {row.closed_at:%H:%M:%S}."
            found.append(Message(f"{key}.over", "info", f"Paceline: over: {what}", body))
    return found


def _scheduler(connection: Connection, settings: Settings) -> list[Message]:
    silence = jobs.scheduler_silence(connection)
    last = {job.name: job for job in jobs.last_rounds(connection)}.get(jobs.OPEN_SLICE)
    if silence is None or last is None:
        return []
    if silence > jobs.longest_silence(settings):
        said = f"No slice was opened since {last.done_at:%Y-%m-%d %H:%M:%S} UTC: beat, every worker, Redis "
        said += "or PostgreSQL is gone or hangs. `paceline doctor` says which."
        return [
            Message(f"scheduler.{last.done_at.isoformat()}", "failure",
                    "Paceline: the scheduler is silent", said)
        ]  # fmt: skip
    query = select(Alert.key).where(
        Alert.key.like("scheduler.%"), Alert.created_at > func.now() - RECENT
    )
    return [
        Message(f"{key}.over", "info", "Paceline: the scheduler works again", "Slices are opened.")
        for key in connection.execute(query).scalars()
        if not key.endswith(".over")
    ]


def _quarantine(connection: Connection) -> list[Message]:
    query = select(Run.id, Run.asked_for, Run.reason, Run.agent_id).where(
        Run.state == RunState.QUARANTINED, Run.finished_at > func.now() - RECENT
    )
    return [
        Message(f"quarantine.{row.id}", "warning", "Paceline: an agent is quarantined",
                f"Run {row.id} of agent {row.agent_id}: {row.reason}. The agent sits out until "
                "`paceline agents resume`; the workers' logs say what happened.")
        for row in connection.execute(query)
    ]  # fmt: skip


def _balance(connection: Connection, settings: Settings) -> list[Message]:
    """Few credits left at twitterapi.io; told once a day for as long as it lasts."""
    left, least = credits_left(connection), settings.sources.low_balance_credits
    if left is None or left >= least:
        return []
    today = utcnow().astimezone(settings.zone)
    body = f"{left:,} credits are left, the alert is set to {least:,}. Learning a style takes about 300, a "
    body += "scan for mentions 15 and more; without credits both stop and agents write in the generic style."
    key = f"twitterapi.low.{today:%Y-%m-%d}"
    return [Message(key, "warning", "Paceline: twitterapi.io runs out of credits", body)]


def _was_told(connection: Connection, key: str) -> bool:
    return connection.execute(select(Alert.id).where(Alert.key == key)).one_or_none() is not None
