"""The dashboard's process watches for alerts, too: a silent scheduler cannot say so itself."""

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import SQLAlchemyError

from app.alerts.watch import watch
from app.log import get_logger
from app.runs.services import Services
from app.runs.stops import look

log = get_logger(__name__)
EVERY_S = 30.0
ENDS_S = 10.0


def watching(services: Services) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """A lifespan that watches from a thread for as long as the application serves."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        ending = threading.Event()
        thread = threading.Thread(target=_watch, args=(services, ending), daemon=True)
        thread.start()
        yield
        ending.set()
        await run_in_threadpool(thread.join, ENDS_S)  # it may hold a connection
        services.close()

    return lifespan


def _watch(services: Services, ending: threading.Event) -> None:
    while not ending.wait(EVERY_S):
        try:
            seen = look(services.admission, services.settings, services.engine)
            watch(services.engine, services.settings, seen.stop_reason)
        except SQLAlchemyError as error:
            log.warning("alerts.not_watched", error=str(error).splitlines()[0])
