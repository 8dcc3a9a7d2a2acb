"""Redis behind TLS: `rediss://` for admission and for Celery's broker, and nobody unknown is trusted."""

import asyncio
import os
import shutil
import ssl
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from app.redis_client import make_redis
from tests.chaos.proxy import Proxy

BROKER = """
from workers.celery import app
with app.connection_for_write() as connection:
    connection.ensure_connection(max_retries=2, timeout=8)
    print(connection.default_channel.client.ping())
"""


@pytest.fixture
def secured(embedded, tmp_path):
    """The address of Valkey behind TLS, and the certificate that vouches for it."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-keyout",
            key,
            "-out",
            certificate,
        ],
        check=True,
        capture_output=True,
    )
    valkey = urlsplit(embedded.redis_url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    proxy = Proxy(lambda: asyncio.open_connection("127.0.0.1", valkey.port), tls=context)
    yield f"rediss://:{valkey.password}@localhost:{proxy.port}/0", certificate
    proxy.close()


def test_admission_and_broker_speak_tls(secured):
    url, certificate = secured
    trusted = f"{url}?ssl_cert_reqs=required&ssl_ca_certs={certificate}"
    client = make_redis(trusted)
    assert client.ping()
    client.close()
    env = {**os.environ, "REDIS_URL": trusted, "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/x"}
    ended = subprocess.run(
        [sys.executable, "-c", BROKER], env=env, capture_output=True, text=True, check=False, timeout=180
    )
    assert ended.stdout.strip() == "True", ended.stderr


def test_server_that_nobody_vouches_for_is_not_trusted(secured):
    client = make_redis(secured[0])
    with pytest.raises(RedisConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        client.ping()
    client.close()
