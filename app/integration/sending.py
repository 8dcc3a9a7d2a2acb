"""Sending events to webhooks as Standard Webhooks 1.0 says: signed, tried again for a day and a half.

The headers are `webhook-id`, `webhook-timestamp` and `webhook-signature`, which is `v1,` and the base64
HMAC-SHA256 of `id.timestamp.body` by the bytes of the secret.
"""

import hmac
import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from hashlib import sha256
from uuid import UUID

import httpx2
from sqlalchemy import Connection, Engine, func, select, update

from app.bounded_http import BoundedTransport, only_public
from app.clock import utcnow
from app.integration import deliveries
from app.integration.deliveries import Due
from app.integration.webhooks import PREFIX
from app.log import get_logger
from app.models import Webhook, WebhookState

log = get_logger(__name__)

TIMEOUT_S = 10.0
BATCH = 20
BODY_MAX = 20_000
TEST = "webhook.test"
REST_MAX_S = 600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer of a receiver: None as status when it said nothing."""

    status: int | None
    error: str | None
    retry_after_s: float | None = None

    @property
    def is_good(self) -> bool:
        """Whether it took the event."""
        return self.status is not None and 200 <= self.status < 300


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
    """Return the body that is sent for an event."""
    made = {"type": due.kind, "timestamp": due.created_at.astimezone(UTC).isoformat(), "data": due.payload}
    return json.dumps(made, separators=(",", ":")).encode()[:BODY_MAX]


def client(*, allows_private: bool) -> httpx2.Client:
    """A client for receivers: no redirect, no proxy, no private network unless a setting allows it."""
    transport = BoundedTransport(
        total_s=TIMEOUT_S, bytes_max=65_536, allows=None if allows_private else only_public
    )
    return httpx2.Client(transport=transport, timeout=TIMEOUT_S, follow_redirects=False, trust_env=False)


def send(http: httpx2.Client, url: str, secrets_: Sequence[str], due: Due) -> Answer:
    """One request; never raises."""
    body = body_of(due)
    headers = {
        **sign(secrets_, f"evt_{due.event_id}", utcnow(), body),
        "content-type": "application/json",
        "user-agent": "Paceline-Webhooks",
    }
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
                Webhook.url,
                Webhook.secret,
                Webhook.old_secret,
                Webhook.old_until,
                Webhook.state,
                (func.coalesce(Webhook.rests_until, func.now()) > func.now()).label("is_resting"),
            ).where(Webhook.id == hook_id)
        ).one_or_none()
        if row is None or row.state != WebhookState.ACTIVE or row.is_resting:
            return 0
        lease = timedelta(seconds=TIMEOUT_S * BATCH + 30)
        claimed = deliveries.claim(connection, str(hook_id), BATCH, lease)
    is_rotating = row.old_secret and row.old_until and row.old_until > utcnow()
    keys = [row.secret, row.old_secret] if is_rotating else [row.secret]
    arrived = 0
    for due in claimed:
        answer = send(http, row.url, keys, due)
        with engine.begin() as connection:
            if answer.is_good:
                deliveries.done(connection, due.id)
                arrived += 1
                continue
            _not_taken(connection, hook_id, due, answer)
            for left in claimed[claimed.index(due) + 1 :]:
                deliveries.postpone(connection, left.id, 0.0)  # untried, for whenever it has rested
        log.info("webhook.refused", webhook=str(hook_id), why=answer.error)
        break
    return arrived


def _not_taken(connection: Connection, hook_id: UUID, due: Due, answer: Answer) -> None:
    """Later again. Until then the receiver rests, ten minutes at most: it is asked for no other event."""
    if answer.status == 410:
        _disable(connection, hook_id, "it answered 410: it wants no more")
    wait_s = deliveries.waiting_s(due.tries + 1)
    rest_s = min(wait_s, REST_MAX_S)
    if answer.retry_after_s is not None:
        wait_s = rest_s = max(answer.retry_after_s, wait_s)
    deliveries.again(connection, due, answer.error or "no answer", wait_s=wait_s)
    own = update(Webhook).where(Webhook.id == hook_id)
    connection.execute(own.values(rests_until=func.now() + timedelta(seconds=rest_s)))


def _disable(connection: Connection, hook_id: UUID, reason: str) -> None:
    own = update(Webhook).where(Webhook.id == hook_id)
    connection.execute(own.values(state=WebhookState.DISABLED, reason=reason))
    log.warning("webhook.disabled", webhook=str(hook_id), why=reason)
