"""Rules for messages: RULES. Each rule reads facts and returns messages with keys of their own.

A key holds the threshold and the period, so a rule may say the same a thousand times and it is told
once; what is over has a key of its own, and is told only to who heard of its beginning.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, func, select, text

from app.alerts import money
from app.alerts.outbox import Message
from app.clock import utcnow
from app.integration.standing import read_standing
from app.kinds import BY_CODE, KEY_REFUSED, STOPPING, Effect
from app.models import Alert, AuditEntry, Incident, Role, Run, RunState, SignInFailure
from app.runs import jobs
from app.settings import Settings

RECENT = timedelta(days=2)
FAILING_CALLS = 10
MANY_FAILURES = 20


def _receivers(connection: Connection, _: Settings) -> list[Message]:
    """Events that do not arrive: nobody sees what agents write. Told once for each state, and once a day."""
    found = []
    for one in read_standing(connection):
        day = f"{utcnow():%Y-%m-%d}"
        if one.state != "active" and one.reason:
            key, title = f"receiver.{one.id}.{one.state}.{day}", f"{one.where} is {one.state}"
            body = f"{one.reason}. {one.pending} events wait."
        elif one.dead:
            key, title = f"receiver.{one.id}.dead.{day}", f"events did not arrive at {one.where}"
            body = f"{one.dead} are not tried again: {one.error}. "
            body += "`paceline app replay` or `paceline webhooks replay` sends them again."
        elif one.is_late:
            key, title = f"receiver.{one.id}.late.{day}", f"events are late at {one.where}"
            body = f"The oldest of {one.pending} waits for {one.lag_s / 60:.0f} minutes: {one.error}."
        else:
            continue
        found.append(Message(key, "failure", f"Paceline: {title}", body))
    return found


def _sign_ins(connection: Connection, settings: Settings) -> list[Message]:
    """Somebody tries passwords. Told once a day for each name and each address."""
    query = select(SignInFailure.key, SignInFailure.failures, SignInFailure.last_at).where(
        SignInFailure.failures >= MANY_FAILURES, SignInFailure.last_at > func.now() - RECENT
    )
    found = []
    for row in connection.execute(query):
        kind, _, whom = row.key.partition(" ")
        if kind not in ("name", "from"):
            continue
        what = f"for the name {whom}" if kind == "name" else f"from {whom}"
        day = f"{row.last_at.astimezone(settings.zone):%Y-%m-%d}"
        found.append(
            Message(
                f"sign_in.{row.key}.{day}",
                "warning",
                f"Paceline: many wrong passwords {what}",
                f"{row.failures} in a row, the last at {row.last_at:%H:%M:%S} UTC. They wait longer and "
                "longer between two tries; browsers that are known do not. The dashboard's log has each.",
            )
        )
    return found


def _access(connection: Connection, _: Settings) -> list[Message]:
    """New power over the fleet, so that nobody gets it unseen."""
    is_admin = AuditEntry.after["role"].astext == Role.ADMIN
    query = select(AuditEntry.id, AuditEntry.action, AuditEntry.subject, AuditEntry.actor).where(
        AuditEntry.at > func.now() - RECENT,
        (AuditEntry.action == "tokens.add")
        | (AuditEntry.action.in_(("accounts.add", "accounts.role")) & is_admin),
    )
    found = []
    for row in connection.execute(query):
        if row.action == "tokens.add":
            said = f"{row.actor} made the API token {row.subject}"
        else:
            said = f"{row.subject} is an administrator now, by {row.actor}"
        found.append(
            Message(
                f"access.{row.id}",
                "warning",
                f"Paceline: {said}",
                "If nobody of yours did this: `paceline accounts sign-out NAME`, then look at Audit.",
            )
        )
    return found


def _stops(connection: Connection, settings: Settings) -> list[Message]:
    return _incidents(connection, settings, is_pause=False)


def _long_429(connection: Connection, settings: Settings) -> list[Message]:
    return _incidents(connection, settings, is_pause=True)


def _incidents(connection: Connection, settings: Settings, *, is_pause: bool) -> list[Message]:
    query = select(
        Incident.id,
        Incident.kind,
        Incident.opened_at,
        Incident.closed_at,
        Incident.calls,
        Incident.agents,
        (func.coalesce(Incident.closed_at, func.now()) - Incident.opened_at).label("lasted"),
    ).where(Incident.opened_at > func.now() - RECENT)
    found = []
    for row in connection.execute(query):
        kind = BY_CODE[row.kind]
        if (kind.effect is Effect.PAUSE) is not is_pause:
            continue
        if is_pause and row.lasted < timedelta(minutes=settings.alerts.long_incident_min):
            continue
        what = "the gateway keeps answering 429" if is_pause else kind.title
        seen = f"{row.calls} calls of {row.agents} agents refused since {row.opened_at:%Y-%m-%d %H:%M:%S} UTC"
        mend = kind.mend
        if not is_pause:
            mend += " No call is made and no run is started meanwhile, but single probes."
        if kind is KEY_REFUSED:
            mend = f"The key is set by {settings.gateway_key_name}. {mend}"
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
    if jobs.is_silent(silence.total_seconds(), settings):
        said = f"No slice was opened since {last.done_at:%Y-%m-%d %H:%M:%S} UTC: beat, every worker, Redis "
        said += "or PostgreSQL is gone or hangs. `paceline doctor` says which."
        return [
            Message(
                f"scheduler.{last.done_at.isoformat()}", "failure", "Paceline: the scheduler is silent", said
            )
        ]
    query = select(Alert.key).where(Alert.key.like("scheduler.%"), Alert.created_at > func.now() - RECENT)
    return [
        Message(f"{key}.over", "info", "Paceline: the scheduler works again", "Slices are opened.")
        for key in connection.execute(query).scalars()
        if not key.endswith(".over")
    ]


def _quarantine(connection: Connection, _: Settings) -> list[Message]:
    query = select(Run.id, Run.asked_for, Run.reason, Run.agent_id).where(
        Run.state == RunState.QUARANTINED, Run.finished_at > func.now() - RECENT
    )
    return [
        Message(
            f"quarantine.{row.id}",
            "warning",
            "Paceline: an agent is quarantined",
            f"Run {row.id} of agent {row.agent_id}: {row.reason}. The agent sits out until "
            "`paceline agents resume`; the workers' logs say what happened.",
        )
        for row in connection.execute(query)
    ]


def _models(connection: Connection, _: Settings) -> list[Message]:
    """A model none of whose calls is answered: a retired model may even look like a rate limit. Over when
    one is; told again the next time it happens.
    """
    query = text("""
      select model, count(*) filter (where status = 'ok') as ok, count(*) as calls,
        min(created_at) as since, max(error_code) as error,
        coalesce(bool_or(error_code = 'model_gone'), false) as is_gone
      from paceline.ai_request_log
      where created_at > now() - interval '15 minutes' and status <> 'in_flight' group by model
    """)
    told, over = _told_models(connection)
    found = []
    for row in connection.execute(query):
        is_told = told[row.model] > over[row.model]
        key = f"model|{row.model}|{over[row.model] + 1}"  # the n-th time
        # A model that is gone is asked once in ten minutes, so few calls say enough.
        is_failing = not row.ok and (row.calls >= FAILING_CALLS or row.is_gone)
        if is_failing and not is_told:
            body = f"None of {row.calls} calls since {row.since:%Y-%m-%d %H:%M:%S} UTC was answered: "
            body += f"{row.error}. If it is retired: PACELINE_GATEWAY__POST_MODEL and its like."
            found.append(Message(key, "failure", f"Paceline: every call of {row.model} fails", body))
        elif row.ok and is_told:
            title = f"Paceline: over: {row.model} answers again"
            found.append(Message(f"{key}|over", "info", title, f"{row.ok} answered."))
    return found


def _told_models(connection: Connection) -> tuple[Counter[str], Counter[str]]:
    """How often it was told of each model that it fails, and that this is over."""
    query = text("""
      select split_part(key, '|', 2), count(*) filter (where key not like '%|over'),
        count(*) filter (where key like '%|over')
      from paceline.alerts where key like 'model|%' group by 1
    """)
    rows = connection.execute(query).all()
    return Counter({row[0]: row[1] for row in rows}), Counter({row[0]: row[2] for row in rows})


def _books(connection: Connection, _: Settings) -> list[Message]:
    """The books differ: at the last check; told once a day."""
    last = {job.name: job for job in jobs.last_rounds(connection)}.get(jobs.CHECK_BOOKS)
    if last is None or last.result.startswith("0 "):
        return []
    body = f"{last.result} between ledger, rollups and Redis at {last.done_at:%Y-%m-%d %H:%M:%S} UTC: "
    body += "`paceline audit` shows each."
    return [Message(f"books.{last.done_at:%Y-%m-%d}", "failure", "Paceline: the books differ", body)]


def _was_told(connection: Connection, key: str) -> bool:
    return connection.execute(select(Alert.id).where(Alert.key == key)).one_or_none() is not None


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of message. `about` says to people when it is told, with the values in force and the settings
    that they come from; `check` returns every message that the facts call for now.
    """

    name: str
    about: Callable[[Settings], str]
    check: Callable[[Connection, Settings], list[Message]]


def _always(said: str) -> Callable[[Settings], str]:
    return lambda _: said


RULES = (
    Rule(
        "budgets",
        _always("50, 80, 95 and 100 % of a budget are used, of the fleet or of a community"),
        money.budgets,
    ),
    Rule(
        "runway",
        lambda s: f"the credits last fewer than {s.alerts.runway_days:g} days (PACELINE_ALERTS__RUNWAY_DAYS)",
        money.runway,
    ),
    Rule(
        "balance",
        lambda s: (
            f"twitterapi.io has fewer than {s.sources.low_balance_credits:,} credits "
            "(PACELINE_SOURCES__LOW_BALANCE_CREDITS)"
        ),
        money.balance,
    ),
    Rule("stops", _always(", ".join(kind.title for kind in STOPPING) + "; and when it is over"), _stops),
    Rule(
        "429",
        lambda s: (
            f"the gateway answers 429 for longer than {s.alerts.long_incident_min:g} minutes "
            "(PACELINE_ALERTS__LONG_INCIDENT_MIN)"
        ),
        _long_429,
    ),
    Rule("models", _always("none of the calls of a model is answered"), _models),
    Rule("scheduler", _always("no slice is opened for too long"), _scheduler),
    Rule("quarantine", _always("a run brought down three workers"), _quarantine),
    Rule("books", _always("ledger, rollups and Redis differ"), _books),
    Rule(
        "sign-ins",
        _always(f"{MANY_FAILURES} wrong passwords in a row, for one name or from one address"),
        _sign_ins,
    ),
    Rule("access", _always("somebody becomes administrator, or gets an API token"), _access),
    Rule(
        "receivers",
        _always("the application or a webhook is paused, ten minutes late, or lost an event"),
        _receivers,
    ),
)


def evaluate(connection: Connection, settings: Settings) -> list[Message]:
    """Every message that the facts call for now."""
    return [message for rule in RULES for message in rule.check(connection, settings)]
