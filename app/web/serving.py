"""Serving the dashboard: who sends slowly is let go, and no more are let in than can be served."""

import asyncio
import resource
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 10.0
"""A request's head has to be there so soon after the connection, or after the answer before it."""
CONNECTIONS_MAX = 500


class Patient(H11Protocol):
    """uvicorn's own, which would wait for ever for the rest of a request's head."""

    _watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Somebody comes."""
        super().connection_made(transport)
        self._expect_head()

    def on_response_complete(self) -> None:
        """An answer is out; another request may follow."""
        super().on_response_complete()
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """They are gone."""
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watch = self.loop.call_later(HEAD_S, self._let_go)

    def _let_go(self) -> None:
        cycle: Any = self.cycle  # none before the first request, whatever its type says
        if (cycle is None or cycle.response_complete) and not self.transport.is_closing():
            self.transport.close()


def config(app: Any, **more: Any) -> uvicorn.Config:
    """How it is served, wherever: no log of addresses, no name of the server, bounds on who comes."""
    return uvicorn.Config(
        app,
        http=Patient,
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS_MAX,
        log_config=None,
        timeout_graceful_shutdown=5,
        **more,
    )


def run(host: str, port: int) -> None:
    """Serve until told to end."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    uvicorn.Server(config("app.web.main:create", factory=True, host=host, port=port)).run()
