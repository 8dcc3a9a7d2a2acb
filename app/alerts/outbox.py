"""Messages that must arrive: stored first, sent after, tried again. A dead channel blocks nothing."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine, func, select, update
from sqlalchemy.dialects.postgresql import insert
from uuid_utils.compat import uuid7

from app.log import get_logger
from app.models import Alert

log = get_logger(__name__)

SEND_S = 20
TRIES_MAX = 30
BATCH = 20


@dataclass(frozen=True, slots=True)
class Message:
    """A message to send. `key` names the threshold and the period: the same key is told once."""

    key: str
    severity: str
    title: str
    body: str


class UnreadableChannel(Exception):
    """A URL of a channel that apprise cannot read. The message does not hold it, because it has a secret."""


class Channel(Protocol):
    """Sends a message; raises, or answers False, when it did not arrive."""

    def __call__(self, message: Message) -> bool: ...


def unreadable(urls: Sequence[str]) -> list[int]:
    """The URLs that name no service, by their place in the setting, from 1. They hold secrets."""
    import apprise  # noqa: PLC0415 (with all its services, and most processes send nothing)

    return [n for n, url in enumerate(urls, 1) if apprise.Apprise.instantiate(url) is None]


def apprise_channel(urls: Sequence[str]) -> Channel:
    """All of apprise's services at these URLs; those that cannot be read are told of and left out. Sending
    raises UnreadableChannel when none can be. A message has arrived when every one took it; if one did
    not, the next try goes to all of them again.
    """
    import apprise  # noqa: PLC0415

    services = apprise.Apprise()
    for url in urls:
        services.add(url)
    kinds = {"info": apprise.NotifyType.INFO, "warning": apprise.NotifyType.WARNING}

    def send(message: Message) -> bool:
        if len(services) < len(urls):
            log.error("alerts.channel_unreadable", which=unreadable(urls), of=len(urls))
        if not services:
            raise UnreadableChannel(f"none of {len(urls)} URLs names a service: look for a misspelling")
        kind = kinds.get(message.severity, apprise.NotifyType.FAILURE)
        # As text: names that people chose are no markup of an e-mail.
        text = apprise.NotifyFormat.TEXT
        arrived = services.notify(body=message.body, title=message.title, notify_type=kind, body_format=text)
        return bool(arrived)

    return send


def post(connection: Connection, messages: Sequence[Message], quiet_until: datetime | None = None) -> int:
    """Put messages into the outbox; returns how many were new. Messages of no failure wait for the end
    of quiet hours.
    """
    if not messages:
        return 0
    rows = [
        {
            "id": uuid7(),
            "key": m.key,
            "severity": m.severity,
            "title": m.title,
            "body": m.body,
            "next_try_at": func.now() if quiet_until is None or m.severity == "failure" else quiet_until,
        }
        for m in messages
    ]
    new = insert(Alert).values(rows).on_conflict_do_nothing().returning(Alert.id)
    return len(connection.execute(new).all())


def end_of_quiet(now: datetime, zone: ZoneInfo, hours: str) -> datetime | None:
    """When the quiet hours (like 22-07) that hold `now` end; None when it is not in any. Pure."""
    if not hours:
        return None
    first, last = (int(part) for part in hours.split("-"))
    local = now.astimezone(zone)
    is_quiet = first <= local.hour < last if first < last else local.hour >= first or local.hour < last
    if first == last or not is_quiet:
        return None
    end = local.replace(hour=last, minute=0, second=0, microsecond=0)
    return end if end > local else end + timedelta(days=1)


def send_due(engine: Engine, channel: Channel | None) -> tuple[int, int]:
    """Send what is due; returns (sent, failed). Without a channel messages are only kept.

    A message is taken for a while before it is sent, so two senders do not both send it; a sender
    that dies in between leaves it for the next one.
    """
    if channel is None:
        return 0, 0
    sent = failed = 0
    for alert_id, message, tries in _take(engine):
        error = _send(channel, message)
        values: dict[str, object] = {"tries": tries + 1, "last_error": error}
        if error is None:
            values["sent_at"] = func.now()
            sent += 1
        else:
            values["next_try_at"] = func.now() + timedelta(seconds=min(3600, 15 * 2 ** min(tries, 8)))
            failed += 1
            log.warning("alert.not_sent", key=message.key, error=error, tries=tries + 1)
        with engine.begin() as connection:
            connection.execute(update(Alert).where(Alert.id == alert_id).values(**values))
    return sent, failed


def _take(engine: Engine) -> list[tuple[UUID, Message, int]]:
    due = (
        select(Alert.id)
        .where(Alert.sent_at.is_(None), Alert.next_try_at <= func.now(), Alert.tries < TRIES_MAX)
        .order_by(Alert.created_at)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    )
    with engine.begin() as connection:
        taken = connection.execute(
            update(Alert)
            .where(Alert.id.in_(due))
            .values(next_try_at=func.now() + timedelta(seconds=2 * SEND_S * BATCH))
            .returning(
                Alert.id, Alert.key, Alert.severity, Alert.title, Alert.body, Alert.tries, Alert.created_at
            )
        ).all()
    taken = sorted(taken, key=lambda row: row.created_at)
    return [(row.id, Message(row.key, row.severity, row.title, row.body), row.tries) for row in taken]


def _send(channel: Channel, message: Message) -> str | None:
    """None when it arrived, else why not."""
    pool = ThreadPoolExecutor(1)
    try:
        arrived = pool.submit(channel, message).result(timeout=SEND_S)
    except TookTooLong:
        return f"no answer within {SEND_S} s"
    except Exception as error:  # noqa: BLE001 (a service of apprise may raise anything)
        return f"{type(error).__name__}: {error}"[:500]
    finally:
        pool.shutdown(wait=False)
    return None if arrived else "a channel refused it"


def list_alerts(connection: Connection, limit: int = 50) -> list[dict[str, object]]:
    """The newest messages and whether they arrived."""
    columns = (
        Alert.key,
        Alert.severity,
        Alert.title,
        Alert.body,
        Alert.created_at,
        Alert.sent_at,
        Alert.tries,
        Alert.last_error,
    )
    query = select(*columns).order_by(Alert.created_at.desc()).limit(limit)
    return [dict(row._mapping) for row in connection.execute(query)]
