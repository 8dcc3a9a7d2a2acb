"""The gateway's client on the wire: what it sends, and that every call has an end."""

import gzip
import json
import re
import resource
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from uuid import uuid4

import pytest

from app import bounded_http, kinds
from app.clock import monotonic, sleep
from app.gateway import GatewayFault, Prompt
from app.gateway.client import OpenAIGateway
from app.gateway.parameters import Parameters
from app.settings import GatewaySettings, load_settings
from app.sources import SourceDown
from app.sources.http import SourceHttp

SETTINGS = GatewaySettings(read_timeout_s=1, total_timeout_s=2)
OK = json.dumps({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}).encode()


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[tuple[str, list[bytes]]]:
    """Answers each connection with a function; what it was asked is kept."""
    listener, seen = socket.create_server(("127.0.0.1", 0)), list[bytes]()

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    seen.append(_request(connection))
                    answer(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1", seen
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def _request(connection: socket.socket) -> bytes:
    """A whole request, which may come in pieces."""
    seen = b""
    while b"\r\n\r\n" not in seen:
        seen += connection.recv(65_536)
    head, _, body = seen.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.I)
    while length and len(body) < int(length[1]):
        body += connection.recv(65_536)
    return head + b"\r\n\r\n" + body


def send(body: bytes, head: str = "HTTP/1.1 200 OK") -> Callable[[socket.socket], None]:
    return lambda s: s.sendall(f"{head}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)


def prompt(model: str = "m") -> Prompt:
    return Prompt(uuid4(), model, [{"role": "user", "content": "hello"}], 512)


def call(url: str, key: str | None = "right") -> str:
    gateway = OpenAIGateway(url, key, SETTINGS, connections=2)
    try:
        return gateway.complete(prompt()).text
    finally:
        gateway.close()


def test_nothing_of_the_environment_reaches_the_gateway(monkeypatch) -> None:
    for name, value in {
        "OPENAI_CUSTOM_HEADERS": "Authorization: Bearer sk-other\nX-Other: 1",
        "OPENAI_API_KEY": "sk-other",
        "OPENAI_ADMIN_KEY": "sk-admin",
        "OPENAI_ORG_ID": "org-1",
        "OPENAI_PROJECT_ID": "proj-1",
        "OPENAI_BASE_URL": "http://127.0.0.1:9/",
        "OPENAI_LOG": "debug",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    with server(send(OK)) as (url, seen):
        assert call(url) == "hi"
    head = seen[0].split(b"\r\n\r\n")[0].decode().lower()
    assert "authorization: bearer right" in head
    assert "accept-encoding: identity" in head
    for word in ("other", "sk-", "org-1", "proj-1", "openai-organization", "stainless"):
        assert word not in head


def test_the_lovable_key_goes_to_lovable_and_to_this_machine_only(monkeypatch) -> None:
    monkeypatch.setenv("LOVABLE_API_KEY", "secret")
    assert load_settings().gateway_key == "secret"
    for url, key in (
        ("https://ai.gateway.lovable.dev/v1", "secret"),
        ("http://127.0.0.1:8080/v1", "secret"),
        ("http://localhost/v1", "secret"),
        ("https://openrouter.ai/api/v1", None),
        ("https://lovable.dev.evil.example/v1", None),
        ("https://evil.example/lovable.dev", None),
    ):
        monkeypatch.setenv("PACELINE_GATEWAY__BASE_URL", url)
        settings = load_settings()
        assert (settings.gateway_key, settings.withheld_key is None) == (key, key is not None)
    monkeypatch.setenv("PACELINE_GATEWAY__API_KEY", "own")
    assert (load_settings().gateway_key, load_settings().withheld_key) == ("own", None)


def _header_trickle(connection: socket.socket) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nx-slow: " + b"y" * 100:
        connection.sendall(bytes([byte]))
        sleep(0.2)


def _endless_102(connection: socket.socket) -> None:
    for _ in range(200):
        connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")
        sleep(0.1)


def _body_trickle(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    for _ in range(100):
        connection.sendall(b" ")
        sleep(0.2)


@pytest.mark.parametrize("answer", [_header_trickle, _endless_102, _body_trickle])
def test_the_deadline_covers_headers_and_body_and_closes_the_socket(answer) -> None:
    ended = threading.Event()

    def until_closed(connection: socket.socket) -> None:
        try:
            answer(connection)
        except OSError:
            ended.set()

    with server(until_closed) as (url, _):
        began = monotonic()
        with pytest.raises(GatewayFault) as caught:
            call(url)
        assert caught.value.kind is kinds.NO_ANSWER
        assert monotonic() - began < SETTINGS.longest_call_s
        assert ended.wait(5), "the connection is closed"


def test_the_deadline_holds_on_a_connection_that_is_used_again() -> None:
    turns = iter([send(OK), _header_trickle])

    def keep(connection: socket.socket) -> None:
        next(turns)(connection)
        _request(connection)
        next(turns)(connection)

    with server(keep) as (url, _):
        gateway = OpenAIGateway(url, None, SETTINGS, connections=1)
        assert gateway.complete(prompt()).text == "hi"
        sleep(2.5)  # longer than the first call's deadline
        began = monotonic()
        with pytest.raises(GatewayFault):
            gateway.complete(prompt())
        gateway.close()
        assert 1.5 < monotonic() - began < SETTINGS.longest_call_s


def test_a_compressed_answer_is_read_and_a_bomb_takes_no_memory() -> None:
    head = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip"
    with server(send(gzip.compress(OK), head)) as (url, _):
        assert call(url) == "hi"
    bomb = gzip.compress(b" " * 400_000_000, 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with server(send(bomb, head)) as (url, _):
        with pytest.raises(GatewayFault, match="answer too long"):
            call(url)
        source = SourceHttp(url, {}, 5, lambda: None)
        with pytest.raises(SourceDown, match="answer too long"):
            source.get("/x")
        source.close()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "kilobytes"


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "\x01"])
def test_an_answer_in_another_encoding_is_refused(encoding: str) -> None:
    with server(send(b"xxxx", f"HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}")) as (url, _):
        with pytest.raises(GatewayFault) as caught:
            call(url)
        assert caught.value.kind is kinds.NO_ANSWER


def test_reasoning_models_get_the_parameters_they_take() -> None:
    parameters = Parameters(0.8)
    for model in ("openai/gpt-5", "gpt-5-mini", "o3", "openai/o4-mini-2025-04-16"):
        body = parameters.body(prompt(model))
        assert body["max_completion_tokens"] == 512, model
        assert not {"max_tokens", "temperature"} & set(body), model
    for model in ("openai/gpt-4o", "google/gemini-2.5-flash", "ollama/o", "mistral/open-5"):
        assert {"max_tokens", "temperature"} <= set(parameters.body(prompt(model))), model
    parameters.learn("x/y", "temperature")
    assert "temperature" not in parameters.body(prompt("x/y"))
    assert "temperature" in parameters.body(prompt("x/z"))


PARAMETER = json.dumps({"error": {"param": "temperature", "code": "unsupported_value"}}).encode()


def test_first_calls_at_once_all_learn_what_a_model_does_not_take() -> None:
    """Each is judged by the body that it sent, not by what another has learned meanwhile."""
    refusal = send(PARAMETER, "HTTP/1.1 400 Bad Request\r\nconnection: close")
    with server(refusal) as (url, _):
        gateway = OpenAIGateway(url, None, GatewaySettings(), connections=4)
        body, all_have_one = gateway._parameters.body, threading.Barrier(4)

        def together(of: Prompt) -> dict[str, Any]:
            made = body(of)
            all_have_one.wait(5)
            return made

        def ask() -> str:
            with pytest.raises(GatewayFault) as caught:
                gateway.complete(prompt("x/y"))
            return caught.value.code

        gateway._parameters.body = together  # type: ignore[method-assign]
        with ThreadPoolExecutor(4) as pool:
            found = [pool.submit(ask) for _ in range(4)]
        assert [one.result() for one in found] == ["parameter_refused"] * 4
        gateway._parameters.body = body  # type: ignore[method-assign]
        assert ask() == "request_refused", "it was left out, and is refused all the same"
        gateway.close()


@pytest.mark.parametrize(
    ("status", "code"), [(401, "key_refused"), (429, "rate_limited"), (503, "gateway_down")]
)
def test_an_error_counts_by_its_status_though_its_body_cannot_be_read(status: int, code: str) -> None:
    for headers, body in (
        ("\r\ncontent-encoding: br", b"\x00\x01"),
        ("", b"x" * 1_200_000),
        ("\r\ncontent-encoding: gzip", b"no gzip"),
    ):
        with server(send(body, f"HTTP/1.1 {status} X\r\nretry-after: 7{headers}")) as (url, _):
            with pytest.raises(GatewayFault) as caught:
                call(url)
            assert (caught.value.code, caught.value.retry_after_s) == (code, 7)


def test_packed_answers_of_every_kind_are_read_and_broken_ones_are_no_answer() -> None:
    raw, half = zlib.compressobj(wbits=-15), len(OK) // 2
    packed = {
        "gzip": gzip.compress(OK[:half]) + gzip.compress(OK[half:]),
        "x-gzip": gzip.compress(OK),
        "deflate": raw.compress(OK) + raw.flush(),
    }
    for encoding, body in packed.items():
        with server(send(body, f"HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}")) as (url, _):
            assert call(url) == "hi", encoding
    broken = send(packed["x-gzip"][:-9], "HTTP/1.1 200 OK\r\ncontent-encoding: gzip")
    with server(broken) as (url, _), pytest.raises(GatewayFault) as caught:
        call(url)
    assert caught.value.kind is kinds.NO_ANSWER


def test_all_addresses_of_a_name_share_one_deadline(monkeypatch) -> None:
    with ExitStack() as sockets:
        silent = sockets.enter_context(socket.socket())
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        for _ in range(6):  # a full backlog drops what comes
            one = sockets.enter_context(socket.socket())
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.connect(silent.getsockname())
        monkeypatch.setattr(bounded_http, "_addresses", lambda *_: ["127.0.0.1"] * 8)
        settings = GatewaySettings(connect_timeout_s=1, read_timeout_s=2, total_timeout_s=2)
        url = f"http://many.example:{silent.getsockname()[1]}/v1"
        gateway = OpenAIGateway(url, None, settings, connections=1)
        began = monotonic()
        with pytest.raises(GatewayFault) as caught:
            gateway.complete(prompt())
        assert monotonic() - began < settings.longest_call_s
        assert caught.value.kind is kinds.GATEWAY_DOWN
        gateway.close()
