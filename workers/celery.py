"""The Celery application: `celery -A workers worker|beat|flower`.

Celery carries hints, Postgres holds the truth; each setting below says what it prevents.
"""

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from celery import Celery
from celery.signals import beat_init, setup_logging
from kombu import Exchange, Queue

from app import log
from app.errors import PacelineError
from app.settings import Settings, get_settings
from app.urls import parse_redis
from app.wiring import find_addresses
from beat_schedule import BEAT_SCHEDULE
from workers.alive import Alive
from workers.broker import use as use_kept_clients
from workers.consumer import FlushEvents
from workers.names import RUN
from workers.schedule import OnTheClock

KEY_PREFIX = "paceline:"
"""Priorities of the queues in Redis."""


class RunCelery(Celery):
    """Celery, except that a run is stored before its message goes out, whoever sends it by name."""

    def send_task(  # type: ignore[override]
        self, name: str, args: Any = None, kwargs: Any = None, *, is_stored: bool = False, **options: Any
    ) -> Any:
        """Used by `celery call`, Flower's API and other programs."""
        if name == RUN and not is_stored:
            self.loader.import_default_modules()
            return self.tasks[RUN].apply_async(args, kwargs, **options)
        return super().send_task(name, args, kwargs, **options)


def make_app(settings: Settings) -> Celery:
    """Settings to configuration. Raises ConfigError; connects to nothing."""
    broker, transport, tls = _broker(find_addresses(settings).redis_url)
    use_kept_clients()
    celery = RunCelery(
        "paceline",
        broker=broker,
        include=["workers.tasks", "workers.revoking", "workers.verbs"],
        control="workers.control:RunControl",
    )
    threads = settings.worker.threads
    # Longer than the longest run, and the same everywhere: the shortest one on a Redis wins, and a
    # message is delivered again when it is over. Rescue by lease is what is fast, this is a backstop.
    visibility_s = int(timedelta(hours=1).total_seconds())
    celery.conf.update(
        # Waiting for a permit and for the gateway is all a run does, so threads: a fraction of
        # prefork's memory, and time limits come from our own bounded HTTP calls.
        worker_pool="threads",
        worker_concurrency=threads,
        # Acknowledged after the work: a killed worker's message comes back, and the claim makes a
        # second delivery harmless.
        task_acks_late=True,
        task_acks_on_failure=True,
        task_acks_on_timeout=True,
        # Reserve what can be begun, no more: a backlog waits in Redis, where all workers see it.
        worker_prefetch_multiplier=1,
        worker_disable_rate_limits=True,  # Celery's is per worker; the cap is Paceline's business
        worker_cancel_long_running_tasks_on_connection_loss=False,  # the lease rejects duplicates
        # Results are the runs in Postgres: read there, never sent. Upkeep has none.
        task_ignore_result=True,
        result_backend="workers.results:RunsBackend",
        result_backend_thread_safe=True,
        task_store_errors_even_if_ignored=False,
        # Queues: a person first, then what keeps the rest going, then the fleet.
        task_queues=[
            Queue(name, Exchange(name), routing_key=name) for name in ("adhoc", "maintenance", "cycle")
        ],
        task_default_queue="maintenance",
        task_routes={RUN: {"queue": "adhoc"}},  # the cycle names its own queue
        task_create_missing_queues=False,
        task_serializer="json",
        accept_content=["json"],
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        worker_consumer="workers.consumer:PromptConsumer",
        broker_pool_limit=threads + 10,
        broker_use_ssl=tls,
        broker_transport_options={
            "visibility_timeout": visibility_s,
            "queue_order_strategy": "priority",  # in the order above
            "socket_keepalive": True,
            "socket_connect_timeout": 5,
            "socket_timeout": 30,  # else a publish on a dead connection waits for ever
            "health_check_interval": 10,
            "max_connections": threads + 20,
            "global_keyprefix": KEY_PREFIX,
            **transport,
        },
        visibility_timeout=visibility_s,
        # Flower lives on events; task-sent would double them for nothing it shows.
        worker_send_task_events=settings.worker.events,
        task_send_sent_event=False,
        control_queue_expires=60,
        beat_schedule={
            name: {**entry, "schedule": OnTheClock(entry["schedule"])}
            for name, entry in BEAT_SCHEDULE.items()
        },
        beat_max_loop_interval=1,
        # The schedule is safe to repeat, so beat need not remember: no file to lock or to corrupt.
        beat_scheduler="workers.alive:Scheduler",
        beat_enable_remote_control=True,
        enable_utc=True,
        timezone="UTC",
    )
    celery.steps["worker"] |= {Alive, FlushEvents}
    return celery


def _broker(url: str) -> tuple[str, dict[str, Any], dict[str, Any] | None]:
    """The address as kombu wants it, what it must know beside, and the arguments of TLS."""
    found = parse_redis(url)
    tls = {n: v for n, v in found.tls if n != "ssl"} if found.tls is not None else None
    if found.master:
        return (found.broker, {"master_name": found.master, "sentinel_kwargs": {"socket_timeout": 3}}, tls)
    return found.broker, {}, tls


@setup_logging.connect
def _set_up_logging(**_: object) -> None:
    log.configure(get_settings().log)


@beat_init.connect
def _catch_up(**_: object) -> None:
    """Do everything once when beat starts, rather than after a first interval."""
    for entry in BEAT_SCHEDULE.values():
        app.send_task(entry["task"], **entry["options"])


try:
    app = make_app(get_settings())
except PacelineError as error:
    if "celery" in Path(sys.argv[0]).parts[-2:]:  # a person at a command line: one line, no traceback
        raise SystemExit(f"paceline: {error}") from None
    raise
