"""The periodic jobs that look outside: who mentioned us, what is left of a paid source's credits."""

from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import insert

from app.community import mentions
from app.community.mentions import ScanPoint, Seen
from app.log import get_logger
from app.models import SourceState
from app.runs.services import Services
from app.sources import NoSuchUser, Page, SourceFault
from app.sources.twitterapi import TwitterApi

log = get_logger(__name__)

OVERLAP = timedelta(minutes=2)
"""A scan asks a little further back than the last good one: posts reach a source late."""
BALANCE_EVERY = timedelta(hours=1)
TWITTERAPI = TwitterApi.name


@dataclass(frozen=True, slots=True)
class Scanned:
    """Result of a round; `problems` by account."""

    accounts: int = 0
    new: int = 0
    problems: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        said = f"{self.accounts} accounts scanned, {self.new} new mentions"
        return said + "".join(f"; {name}: {why}" for name, why in self.problems.items())


def scan_mentions(services: Services) -> Scanned:
    """Scan the accounts whose time has come: the primary source first, the backup when it fails.

    Both write to the same rows, unique by the post's id, so whoever sees a mention second adds nothing.
    """
    settings = services.settings.sources
    accounts = [name.removeprefix("@").lower() for name in settings.mention_accounts]
    if not accounts or not services.sources.for_mentions:
        return Scanned()
    with services.engine.begin() as connection:
        every = timedelta(seconds=settings.mention_every_s)
        due = mentions.due_accounts(connection, accounts, every)
    new, problems = 0, {}
    for account, point in due:
        found = _ask(services, account, point)
        with services.engine.begin() as connection:
            if isinstance(found, str):
                problems[account] = found
                mentions.note_problem(connection, account, found)
                continue
            source, page = found
            seen = [Seen(t.id, t.author, t.text, t.posted_at) for t in page.tweets]
            new += mentions.store(connection, account, source, seen)
            if not page.is_whole:
                problems[account] = "more mentions than one scan reads: the oldest were left out"
    return Scanned(len(due), new, problems)


def _ask(services: Services, account: str, point: ScanPoint) -> tuple[str, Page] | str:
    """The first source that answers, with its answer; or why none did."""
    since = point.good_at - OVERLAP if point.good_at else None
    problems = []
    for source in services.sources.for_mentions:
        if _is_blocked(services, source.name):
            problems.append(f"{source.name} wants no requests now")
            continue
        try:
            return source.name, source.mentions(account, since, point.since_id)
        except SourceFault as fault:
            problems.append(f"{source.name}: {fault}")
            log.warning("source.failed", source=source.name, account=account, error=str(fault))
            if not isinstance(fault, NoSuchUser):  # which is about the account, not the source
                _note(services, source.name, fault)
    return "; ".join(problems)


def _is_blocked(services: Services, name: str) -> bool:
    query = select(SourceState.blocked_until > func.now()).where(SourceState.name == name)
    with services.engine.connect() as connection:
        return bool(connection.execute(query).scalar_one_or_none())


def _note(services: Services, name: str, fault: SourceFault) -> None:
    until = func.now() + timedelta(seconds=fault.retry_after_s)
    with services.engine.begin() as connection:
        _store(connection, name, problem=str(fault)[:500], blocked_until=until)


def check_balance(services: Services) -> str:
    """Ask twitterapi.io what is left of our credits, once an hour; its pace depends on it."""
    source = services.sources.twitterapi
    if source is None:
        return "no key"
    with services.engine.connect() as connection:
        query = select(SourceState.checked_at > func.now() - BALANCE_EVERY)
        if connection.execute(query.where(SourceState.name == TWITTERAPI)).scalar_one_or_none():
            return "checked within the hour"
    try:
        left = source.credits()
    except SourceFault as fault:
        with services.engine.begin() as connection:
            _store(connection, TWITTERAPI, checked_at=func.now(), problem=str(fault)[:500])
        return str(fault)
    with services.engine.begin() as connection:
        _store(connection, TWITTERAPI, credits=left, checked_at=func.now(), problem=None)
    return f"{left} credits left"


def credits_left(connection: Connection) -> int | None:
    """Credits left by twitterapi.io's word; None when it never did."""
    query = select(SourceState.credits).where(SourceState.name == TWITTERAPI)
    return connection.execute(query).scalar_one_or_none()


def _store(connection: Connection, name: str, **values: object) -> None:
    row = insert(SourceState).values(name=name, **values)
    connection.execute(row.on_conflict_do_update(index_elements=["name"], set_=values))
