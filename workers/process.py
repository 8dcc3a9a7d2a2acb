"""Everything that one worker process holds: its services, built on first use and closed at its end.

Built lazily, so that nothing is shared over a fork, and a shell that only enqueues connects to
nothing but the broker.
"""

import gc
import os
import sys
from functools import cache

from celery.signals import (
    worker_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)
from sqlalchemy import Engine

from app import log, tracing
from app.db import check_database, make_engine
from app.errors import PacelineError
from app.integration.deliver import Receivers
from app.migrations import check_migrated
from app.runs.services import Services
from app.settings import get_settings
from app.usage import zones
from app.wiring import build, find_addresses, require_gateway


@cache
def engine() -> Engine:
    """The database of this process. A shell that only asks for runs needs no gateway, and so no services."""
    log.quiet_unless_configured()
    return make_engine(find_addresses(get_settings()).database_url)


@cache
def services() -> Services:
    """The services of this process. Every caller of the gateway asks for one: workers when they start."""
    return build(get_settings(), engine=engine(), needs_gateway=False)


@cache
def receivers() -> Receivers:
    """Return everything that this process needs to deliver events."""
    return Receivers(engine(), get_settings())


def _forget() -> None:
    receivers.cache_clear()
    services.cache_clear()
    engine.cache_clear()


os.register_at_fork(after_in_child=_forget)


@worker_init.connect
def _refuse_to_start_broken(**_: object) -> None:
    """Say in one line what is missing, rather than fail at every task."""
    try:
        require_gateway(find_addresses(get_settings()))
        tracing.configure(services().settings.tracing, "worker")
        check_database(services().engine)
        check_migrated(services().engine)
        with services().engine.connect() as connection:
            zones.check_zone(connection, services().settings.zone)
    except PacelineError as error:
        print(f"paceline: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(error.exit_code) from None


@worker_ready.connect
def _collect_less_garbage(**_: object) -> None:
    """Objects that are loaded by now stay, so the collector need not look at them; and a turn makes thousands
    of objects but hardly a cycle, so it need not look every 700. It took a fifth of a worker's CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


@worker_shutting_down.connect
def _begin_nothing(**_: object) -> None:
    """Running turns end between two calls; everything else stays queued for other workers."""
    services().stopping.set()


@worker_shutdown.connect
@worker_process_shutdown.connect
def _close(**_: object) -> None:
    if receivers.cache_info().currsize:
        receivers().close()
    if services.cache_info().currsize:
        services().close()
    _forget()
