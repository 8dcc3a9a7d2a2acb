"""A receiver of webhooks: a real HTTP server that checks signatures by the library of the specification."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError


@dataclass
class Receiver:
    """What came. `answers`: what is said next, as (status, headers); 200 when it is empty. `before`: called
    with each request, and may take its time.
    """

    url: str = ""
    secrets: list[str] = field(default_factory=list)
    events: list[dict] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    forged: int = 0
    requests: int = 0
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    before: Callable[[], None] = lambda: None

    def check(self, headers: dict[str, str], body: bytes) -> None:
        """Every secret that is known has to fit; raises WebhookVerificationError."""
        for secret in self.secrets:
            Webhook(secret).verify(body.decode(), headers)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Receive for the block."""
    mine = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            mine.requests += 1
            mine.before()
            status, more = mine.answers.pop(0) if mine.answers else (200, {})
            try:
                mine.check({name.lower(): value for name, value in self.headers.items()}, body)
            except WebhookVerificationError:
                mine.forged += 1
                status = 401
            if status == 200:
                mine.events.append(json.loads(body))
                mine.ids.append(self.headers["webhook-id"])
            self.send_response(status)
            for name, value in more.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    mine.url = f"http://127.0.0.1:{server.server_port}/hook"
    try:
        yield mine
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
