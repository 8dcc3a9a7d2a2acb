"""Receivers by HTTP, as Standard Webhooks 1.0 says: signed requests, tried again for a day and a half.

The headers are `webhook-id`, `webhook-timestamp` and `webhook-signature`, which is `v1,` and the base64
HMAC-SHA256 of `id.timestamp.body` by the bytes of the secret.
"""

import hmac
import json
import secrets
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx2
from sqlalchemy import Connection, Engine, delete, func, insert, select, update
from uuid_utils.compat import uuid7

from app.audit_log import note_change
from app.bounded_http import BoundedTransport, only_public
from app.clock import utcnow
from app.errors import ConfigError, NotFound
from app.integration import EVENTS, deliveries
from app.integration.deliveries import Due
from app.log import get_logger
from app.models import Webhook, WebhookState

log = get_logger(__name__)

PREFIX = "whsec_"
TIMEOUT_S = 10.0
BATCH = 20
BODY_MAX = 20_000
ROTATES = timedelta(days=1)
"""For so long the old secret signs, too."""
TEST = "webhook.test"


@dataclass(frozen=True, slots=True)
class Hook:
    """A webhook as a list shows it: never its secret."""

    id: UUID
    url: str
    events: list[str]
    state: str
    reason: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver said: None as status when it said nothing."""

    status: int | None
    error: str | None
    retry_after_s: float | None = None

    @property
    def is_good(self) -> bool:
        """Whether it took the event."""
        return self.status is not None and 200 <= self.status < 300


def new_secret() -> str:
    """A secret as the specification writes it."""
    return PREFIX + b64encode(secrets.token_bytes(32)).decode()


def patterns(events: Sequence[str]) -> list[str]:
    """Names of events, with a star for many, as patterns of LIKE; raises ConfigError for unknown ones."""
    wanted = [event.strip() for event in events if event.strip()] or ["*"]
    for event in wanted:
        begin = event.removesuffix("*")
        is_known = (
            any(name.startswith(begin) for name in EVENTS)
            if event.endswith("*")
            else event in EVENTS
        )
        if not is_known:
            raise ConfigError(
                f"there is no event {event!r}: there are {', '.join(EVENTS)}, and post.*"
            )
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
        raise ConfigError(
            "a webhook's address begins with https: who reads along could not sign, but read"
        )
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
        hook
        for hook in list_webhooks(connection)
        if str(hook.id).startswith(which) or hook.url == which
    ]
    if len(found) != 1:
        said = "no webhook" if not found else "several webhooks are"
        raise NotFound(f"{said} {which!r}: `paceline webhooks list` shows their ids")
    return found[0]


def set_state(
    connection: Connection, hook: Hook, state: WebhookState, *, actor: str, reason: str
) -> None:
    """Pause it, or go on."""
    own = update(Webhook).where(Webhook.id == hook.id)
    connection.execute(own.values(state=state, reason=None))
    _note(connection, str(state), hook.url, actor, reason, {"state": state})


def rotate(connection: Connection, hook: Hook, *, actor: str, reason: str) -> str:
    """Another secret; for a day both sign, so that the receiver can change over. Shown this once."""
    secret = new_secret()
    own = update(Webhook).where(Webhook.id == hook.id)
    connection.execute(
        own.values(secret=secret, old_secret=Webhook.secret, old_until=func.now() + ROTATES)
    )
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
    )  # fmt: skip


# Sending


def sign(secrets_: Sequence[str], message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """The headers of a request, signed by each of the secrets."""
    stamp = str(int(at.timestamp()))
    signed = f"{message_id}.{stamp}.".encode() + body
    signatures = [
        b64encode(hmac.new(b64decode(one.removeprefix(PREFIX)), signed, sha256).digest()).decode()
        for one in secrets_
    ]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": stamp,
        "webhook-signature": " ".join(f"v1,{one}" for one in signatures),
    }


def body_of(due: Due) -> bytes:
    """What is sent of an event."""
    made = {
        "type": due.kind,
        "timestamp": due.created_at.astimezone(UTC).isoformat(),
        "data": due.payload,
    }
    return json.dumps(made, separators=(",", ":")).encode()[:BODY_MAX]


def client(*, allows_private: bool) -> httpx2.Client:
    """A client for receivers: no redirect, no proxy, no private network unless a setting allows it."""
    transport = BoundedTransport(
        total_s=TIMEOUT_S, bytes_max=65_536, allows=None if allows_private else only_public
    )
    return httpx2.Client(
        transport=transport, timeout=TIMEOUT_S, follow_redirects=False, trust_env=False
    )


def send(http: httpx2.Client, url: str, secrets_: Sequence[str], due: Due) -> Answer:
    """One request; never raises."""
    body = body_of(due)
    headers = {
        **sign(secrets_, f"evt_{due.event_id}", utcnow(), body),
        "content-type": "application/json", "user-agent": "Paceline-Webhooks",
    }  # fmt: skip
    try:
        answer = http.post(url, content=body, headers=headers)
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        return Answer(None, f"{type(error).__name__}: {error}"[:300])
    said = None if answer.is_success else f"HTTP {answer.status_code}"
    return Answer(answer.status_code, said, _retry_after(answer.headers.get("retry-after")))


def _retry_after(said: str | None) -> float | None:
    if not said:
        return None
    try:
        return min(86_400.0, max(0.0, float(int(said))))
    except ValueError:
        pass
    try:
        return min(86_400.0, max(0.0, (parsedate_to_datetime(said) - utcnow()).total_seconds()))
    except (TypeError, ValueError):
        return None


def deliver(engine: Engine, http: httpx2.Client, hook_id: UUID) -> int:
    """One batch for one webhook, one after the other; returns how many arrived."""
    with engine.begin() as connection:
        row = connection.execute(
            select(
                Webhook.url, Webhook.secret, Webhook.old_secret, Webhook.old_until, Webhook.state
            ).where(Webhook.id == hook_id)
        ).one_or_none()
        if row is None or row.state != WebhookState.ACTIVE:
            return 0
        lease = timedelta(seconds=TIMEOUT_S * BATCH + 30)
        claimed = deliveries.claim(connection, str(hook_id), BATCH, lease)
    is_rotating = row.old_secret and row.old_until and row.old_until > utcnow()
    keys = [row.secret, row.old_secret] if is_rotating else [row.secret]
    arrived = 0
    for number, due in enumerate(claimed):
        answer = send(http, row.url, keys, due)
        with engine.begin() as connection:
            if answer.is_good:
                deliveries.done(connection, due.id)
                arrived += 1
                continue
            said = answer.error or "no answer"
            if answer.status == 410:
                _disable(connection, hook_id, "it answered 410: it wants no more")
            wait_s = None
            if answer.retry_after_s is not None:
                wait_s = max(answer.retry_after_s, deliveries.WAITS_S[min(due.tries, 9)])
            deliveries.again(connection, due, said, wait_s=wait_s)
            for left in claimed[number + 1 :]:  # a receiver in trouble is not asked for all of them
                deliveries.postpone(connection, left.id, wait_s or 1.0)
        log.info("webhook.refused", webhook=str(hook_id), why=said)
        break
    return arrived


def _disable(connection: Connection, hook_id: UUID, reason: str) -> None:
    own = update(Webhook).where(Webhook.id == hook_id)
    connection.execute(own.values(state=WebhookState.DISABLED, reason=reason))
    log.warning("webhook.disabled", webhook=str(hook_id), why=reason)
