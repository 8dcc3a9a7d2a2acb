"""The dashboard in a thread, and people who are signed in to it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import uvicorn
from sqlalchemy import select

from app.accounts import Person, people, sessions, tokens
from app.clock import sleep
from app.gateway.sandbox.server import listen
from app.models import Account, Role
from app.runs.services import Services
from app.web.access import COOKIE, form_token
from app.web.main import create_app
from app.web.serving import config as serving_config

PASSWORD = "correct horse battery"


@contextmanager
def serving(services: Services, port: int = 0) -> Iterator[str]:
    """Serve for the block; yields the address."""
    listener = listen("127.0.0.1", port)
    config = serving_config(create_app(services), log_level="error")
    config.timeout_graceful_shutdown = 1
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


def person(services: Services, role: Role = Role.ADMIN) -> Person:
    """Somebody with this role."""
    with services.engine.begin() as connection:
        row = connection.execute(select(Account.id, Account.name).where(Account.name == role)).one_or_none()
        if row is not None:
            return Person(row.id, row.name, role)
        return people.add_account(connection, role, PASSWORD, role)


class Browser:
    """A client that is signed in and knows its form token; it does what a browser does with forms."""

    def __init__(self, services: Services, base: str, role: Role = Role.ADMIN) -> None:
        self.services = services
        who = person(services, role)
        with services.engine.begin() as connection:
            self.secret = sessions.open_session(connection, who.id)
        self.base = base
        self.client = httpx2.Client(base_url=base, trust_env=False, timeout=20, cookies={COOKIE: self.secret})

    def get(self, path: str, **options: object) -> httpx2.Response:
        """Look at a page."""
        return self.client.get(path, **options)  # type: ignore[arg-type]

    def post(self, path: str, **fields: object) -> httpx2.Response:
        """Send a form of this very site."""
        data = {"csrf": form_token(self.secret), **fields}
        return self.client.post(path, data=data, headers={"Origin": self.base})

    def close(self) -> None:
        """Close connections."""
        self.client.close()


def api_token(services: Services, role: Role = Role.ADMIN) -> str:
    """An API token of somebody with this role."""
    who = person(services, role)
    with services.engine.begin() as connection:
        return tokens.add_token(connection, who, "tests", role)
