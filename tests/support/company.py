"""A company's provider as a process of its own, and a dashboard that sends people there."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2

from app.accounts import oidc
from app.cli.parts import free_port
from app.wiring import build
from tests.conftest import make_settings
from tests.support.program import clean_env, get, wait_for
from tests.support.web import serving

MARA = {"sub": "u-17", "email": "mara@example.org", "email_verified": True}
PEOPLE = (
    MARA,
    {"sub": "u-18", "email": "ada@elsewhere.example", "email_verified": True},
    {"sub": "u-19", "email": "boss@example.org", "email_verified": False},
)


@contextmanager
def provider_process() -> Iterator[str]:
    """A provider that knows PEOPLE; yields its address."""
    port = free_port()
    users = [part for one in PEOPLE for part in ("--user-claims", json.dumps(one))]
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "oidc_provider_mock",
            "--port",
            str(port),
            "--require-nonce",
            "True",
            "--require-registration",
            "True",
            *users,
        ],
        env=clean_env(),
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: get(url) is not None, 30, "the provider")
        yield url
    finally:
        process.terminate()
        process.wait(15)


@contextmanager
def dashboard(embedded, sandbox, home, provider, **more):  # type: ignore[no-untyped-def]
    """A dashboard whose company's sign-in is the provider; yields its services and address."""
    port = free_port()
    back = f"http://127.0.0.1:{port}{oidc.CALLBACK}"
    client = httpx2.post(f"{provider}/oauth2/clients", json={"redirect_uris": [back]}).json()
    settings = make_settings(
        embedded,
        sandbox.url,
        home,
        web={"public_url": f"http://127.0.0.1:{port}"},
        oidc={
            "issuer": provider,
            "client_id": client["client_id"],
            "label": "Example Inc.",
            "client_secret": client["client_secret"],
            **more,
        },
    )
    built = build(settings)
    try:
        with serving(built, port) as address:
            yield built, address
    finally:
        built.close()
