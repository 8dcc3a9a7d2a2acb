"""The sandbox gateway in a thread: real HTTP, and its state at hand."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

from app.clock import sleep
from app.gateway.sandbox.server import listen, make_app
from app.gateway.sandbox.state import Fault, Rules, Sandbox


@dataclass(frozen=True)
class SandboxServer:
    """A running sandbox."""

    url: str
    state: Sandbox

    def fault(self, kind: str, **fields: object) -> None:
        """Script a fault."""
        self.state.faults.append(Fault.from_json({"kind": kind, **fields}))


class Sandboxes:
    """One server with a sandbox below each path: to start and end a server takes a fifth of a second."""

    def __init__(self) -> None:
        self._apps: dict[str, Any] = {}
        self.url = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request by the sandbox of its path."""
        _, name, rest = scope["path"].split("/", 2)
        path = f"/{rest}"
        await self._apps[name](scope | {"path": path, "raw_path": path.encode()}, receive, send)

    def another(self) -> SandboxServer:
        """A new sandbox without a rate limit."""
        state, name = Sandbox(Rules(unlimited=True)), f"s{len(self._apps)}"
        self._apps[name] = make_app(state)
        return SandboxServer(f"{self.url}/{name}/v1", state)


@contextmanager
def run_sandboxes() -> Iterator[Sandboxes]:
    """Serve for the block."""
    many = Sandboxes()
    with _serving(many) as many.url:
        yield many


@contextmanager
def run_sandbox(rules: Rules | None = None) -> Iterator[SandboxServer]:
    """A server of its own for the block."""
    state = Sandbox(rules or Rules(unlimited=True))
    with _serving(make_app(state)) as url:
        yield SandboxServer(f"{url}/v1", state)


@contextmanager
def _serving(app: Any) -> Iterator[str]:
    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
