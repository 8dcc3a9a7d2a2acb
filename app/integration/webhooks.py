"""Receivers by HTTP, as rows: adding, listing, pausing, another secret."""

import secrets
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import Connection, delete, func, insert, select, update
from uuid_utils.compat import uuid7

from app.audit_log import note_change
from app.errors import ConfigError, NotFound
from app.integration import EVENTS, deliveries
from app.models import Webhook, WebhookState

PREFIX = "whsec_"
ROTATES = timedelta(days=1)
"""For so long the old secret signs, too."""


@dataclass(frozen=True, slots=True)
class Hook:
    """A webhook as a list shows it: never its secret."""

    id: UUID
    url: str
    events: list[str]
    state: str
    reason: str | None
    created_at: datetime


def new_secret() -> str:
    """A secret as the specification writes it."""
    return PREFIX + b64encode(secrets.token_bytes(32)).decode()


def patterns(events: Sequence[str]) -> list[str]:
    """Names of events, with a star for many, as patterns of LIKE; raises ConfigError for unknown ones."""
    given = (one.strip() for event in events for one in event.split(","))
    wanted = [event for event in given if event] or ["*"]
    for event in wanted:
        begin = event.removesuffix("*")
        is_known = any(name.startswith(begin) for name in EVENTS) if event.endswith("*") else event in EVENTS
        if not is_known:
            raise ConfigError(f"there is no event {event!r}: there are {', '.join(EVENTS)}, and post.*")
    return [event.replace("_", r"\_").replace("*", "%") for event in wanted]


def check_url(url: str, *, allows_private: bool) -> str:
    """The address, if it can be one; raises ConfigError."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ConfigError(f"{url!r} is no address") from None
    if parts.scheme not in ("https", "http") or not host or parts.username or not url.isprintable():
        raise ConfigError(f"{url!r} is no address of https or http without a password in it")
    if parts.scheme == "http" and not allows_private:
        raise ConfigError("a webhook's address begins with https: who reads along could not sign, but read")
    return url


def add(
    connection: Connection, url: str, events: Sequence[str], *, actor: str, reason: str
) -> tuple[UUID, str]:
    """A new webhook; returns its id and its secret, which is shown this once."""
    secret, new_id = new_secret(), uuid7()
    wanted = patterns(events)
    connection.execute(insert(Webhook).values(id=new_id, url=url, events=wanted, secret=secret))
    _note(connection, "add", url, actor, reason, {"events": list(events) or ["*"]})
    return new_id, secret


def list_webhooks(connection: Connection) -> list[Hook]:
    """All of them, the oldest first."""
    query = select(
        Webhook.id, Webhook.url, Webhook.events, Webhook.state, Webhook.reason, Webhook.created_at
    ).order_by(Webhook.created_at, Webhook.id)
    return [Hook(*row) for row in connection.execute(query)]


def find(connection: Connection, which: str) -> Hook:
    """A webhook by its id, the beginning of it, or its address; raises NotFound."""
    found = [
        hook for hook in list_webhooks(connection) if str(hook.id).startswith(which) or hook.url == which
    ]
    if len(found) != 1:
        said = "no webhook" if not found else "several webhooks are"
        raise NotFound(f"{said} {which!r}: `paceline webhooks list` shows their ids")
    return found[0]


def secret_of(connection: Connection, hook: Hook) -> str:
    """Secrets that sign now."""
    return connection.execute(select(Webhook.secret).where(Webhook.id == hook.id)).scalar_one()


def set_state(connection: Connection, hook: Hook, state: WebhookState, *, actor: str, reason: str) -> None:
    """Pause it, or go on."""
    own = update(Webhook).where(Webhook.id == hook.id)
    connection.execute(own.values(state=state, reason=None, rests_until=None))
    _note(connection, str(state), hook.url, actor, reason, {"state": state})


def wake(connection: Connection, hook: Hook) -> None:
    """Ask it again at once, however it answered before."""
    connection.execute(update(Webhook).where(Webhook.id == hook.id).values(rests_until=None))


def rotate(connection: Connection, hook: Hook, *, actor: str, reason: str) -> str:
    """Another secret; for a day both sign, so that the receiver can change over. Shown this once."""
    secret = new_secret()
    own = update(Webhook).where(Webhook.id == hook.id)
    connection.execute(own.values(secret=secret, old_secret=Webhook.secret, old_until=func.now() + ROTATES))
    _note(connection, "rotate", hook.url, actor, reason, {})
    return secret


def remove(connection: Connection, hook: Hook, *, actor: str, reason: str) -> None:
    """Forget a webhook and what waits for it."""
    connection.execute(delete(Webhook).where(Webhook.id == hook.id))
    deliveries.drop(connection, str(hook.id))
    _note(connection, "remove", hook.url, actor, reason, {})


def _note(
    connection: Connection, verb: str, url: str, actor: str, reason: str, after: dict[str, Any]
) -> None:
    note_change(
        connection, actor=actor, action=f"webhooks.{verb}", subject=url, before={}, after=after, reason=reason
    )
