"""The sandbox gateway in a thread: real HTTP, and its state at hand."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

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


@contextmanager
def run_sandbox(rules: Rules | None = None) -> Iterator[SandboxServer]:
    """Serve for the block."""
    state = Sandbox(rules or Rules(unlimited=True))
    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(
        make_app(state), log_level="critical", lifespan="off", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        sleep(0.01)
    try:
        yield SandboxServer(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", state)
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
