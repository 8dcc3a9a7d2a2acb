"""One round of deliveries: the application's tables, and each webhook in a thread of its own, so that a
receiver that hangs holds back nobody.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import httpx2
from sqlalchemy import Engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from app.clock import monotonic, sleep
from app.db import make_engine
from app.integration import app_link, checking, deliveries, sending
from app.log import get_logger
from app.models import AppLink, Delivery, DeliveryState, LinkState, Webhook, WebhookState
from app.settings import Settings
from app.sql_faults import describe

log = get_logger(__name__)

LOOK_EVERY_S = 0.2
AWAY_S = 2.0


@dataclass(frozen=True, slots=True)
class Delivered:
    """Result of a round."""

    app: int = 0
    webhooks: int = 0

    def __str__(self) -> str:
        return f"{self.app} into the application, {self.webhooks} to webhooks"


def _engine(url: str) -> Engine:
    return make_engine(url, pool_size=2, setting="PACELINE_APP__DATABASE_URL")


@contextmanager
def application(settings: Settings, here: Engine) -> Iterator[Engine]:
    """The application's database: of its own, or the same."""
    url = settings.app.database_url
    if url is None:
        yield here
        return
    engine = _engine(url.get_secret_value())
    try:
        yield engine
    finally:
        engine.dispose()


def compare(settings: Settings, here: Engine) -> dict[str, int] | None:
    """Return the differences between here and the application, by name; None when nothing is connected."""
    with here.connect() as ours:
        link = app_link.read(ours)
        if link is None or link.state == LinkState.DISCONNECTED:
            return None
        with application(settings, here) as engine, engine.connect() as theirs:
            return checking.compare(ours, theirs, link.mapping)


class Receivers:
    """Everything that one process needs to deliver: built when it first does. Safe to share between its
    threads.
    """

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine = engine
        self.settings = settings
        url = settings.app.database_url
        self.there = None if url is None else _engine(url.get_secret_value())
        self.http = sending.client(allows_private=settings.app.private_networks)
        self._busy: set[UUID] = set()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(8, "webhooks")
        self._away_until = 0.0

    def close(self) -> None:
        """Close connections."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.http.close()
        if self.there is not None:
            self.there.dispose()

    def deliver_app(self) -> int:
        """Into the application, until nothing is due; returns how many rows."""
        made = 0
        while monotonic() > self._away_until:
            try:
                found = app_link.deliver(self.engine, self.there, self.settings.app.timeout_s)
            except SQLAlchemyError as error:
                log.warning("app.not_delivered", why=describe(error))
                self._away_until = monotonic() + AWAY_S
                break
            made += found.delivered
            if not found.delivered:
                break
        return made

    def begin_webhooks(self) -> int:
        """Let each webhook that something is due for have a thread; returns how many began."""
        with self.engine.connect() as connection:
            due = connection.execute(
                select(Webhook.id).where(
                    Webhook.state == WebhookState.ACTIVE,
                    func.coalesce(Webhook.rests_until, func.now()) <= func.now(),
                    select(Delivery.id)
                    .where(
                        Delivery.receiver == func.cast(Webhook.id, Delivery.receiver.type),
                        Delivery.state == DeliveryState.PENDING,
                        Delivery.next_at <= func.now(),
                    )
                    .exists(),
                )
            ).scalars()
            wanted = list(due)
        begun = 0
        for hook_id in wanted:
            with self._lock:
                if hook_id in self._busy:
                    continue
                self._busy.add(hook_id)
            self._pool.submit(self._deliver_webhook, hook_id)
            begun += 1
        return begun

    def _deliver_webhook(self, hook_id: UUID) -> None:
        try:
            while sending.deliver(self.engine, self.http, hook_id):
                pass
        except (SQLAlchemyError, httpx2.HTTPError) as error:
            log.warning("webhook.not_delivered", webhook=str(hook_id), why=str(error).splitlines()[0])
        finally:
            with self._lock:
                self._busy.discard(hook_id)


def deliver_for(receivers: Receivers, seconds: float, ending: threading.Event | None = None) -> Delivered:
    """Look again and again for so long; what is written meanwhile is delivered within a moment."""
    until, app, hooks = monotonic() + seconds, 0, 0
    if not anybody(receivers.engine):
        return Delivered()
    while True:
        app += receivers.deliver_app()
        hooks += receivers.begin_webhooks()
        if monotonic() >= until or (ending is not None and ending.is_set()):
            return Delivered(app, hooks)
        sleep(LOOK_EVERY_S)


def anybody(engine: Engine) -> bool:
    """Whether anything is connected."""
    with engine.connect() as connection:
        link = select(AppLink.id).where(AppLink.state == LinkState.ACTIVE)
        hook = select(Webhook.id).where(Webhook.state == WebhookState.ACTIVE)
        return connection.execute(select(link.exists() | hook.exists())).scalar_one()


def keep(engine: Engine, days: int) -> int:
    """Forget old events; returns how many."""
    with engine.begin() as connection:
        return deliveries.forget(connection, timedelta(days=days)) if days else 0
