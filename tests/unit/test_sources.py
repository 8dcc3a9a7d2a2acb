"""Clients of the gateway, twitterapi.io and X against ten thousand malformed answers over real HTTP."""

import json
import socket
import threading
from contextlib import contextmanager, suppress
from random import Random
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.agents import style
from app.gateway import Completion, GatewayFault, Prompt
from app.gateway.client import OpenAIGateway
from app.settings import GatewaySettings
from app.sources import Page, SourceFault
from app.sources.http import SourceHttp
from app.sources.twitterapi import TwitterApi, requests_per_s
from app.sources.x import XApi

EACH = 3_400  # of three clients: more than 10,000
TWEET = {
    "id": "1",
    "text": "hello",
    "author": {"userName": "eve"},
    "createdAt": "Tue Dec 10 07:00:30 +0000 2024",
}
GOOD = {
    "gateway": {
        "id": "x",
        "model": "m",
        "choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    },
    "twitterapi": {"status": "success", "data": {"pin_tweet": None, "tweets": [TWEET]}, "next_cursor": "c"},
    "x": {
        "data": [{"id": "5", "text": "hey", "author_id": "9", "created_at": "2026-11-22T10:00:00.000Z"}],
        "includes": {"users": [{"id": "9", "username": "eve"}]},
        "meta": {"result_count": 1},
    },
}
STATUSES = (200, 200, 200, 200, 200, 400, 401, 402, 403, 404, 408, 418, 429, 500, 502, 503, 599)
HEADERS = (
    "retry-after: 1",
    "retry-after: \xff",
    "retry-after: 9e999",
    "x-rate-limit-reset: soon",
    "x-rate-limit-reset: 99999999999999999999",
    "content-type: image/png",
    "content-encoding: gzip",
)


def mutate(rng, value):
    """A value like this one, with something wrong in it."""
    if isinstance(value, dict) and value and rng.random() < 0.7:
        name = rng.choice(list(value))
        if rng.random() < 0.2:
            return {key: item for key, item in value.items() if key != name}
        return value | {name: mutate(rng, value[name])}
    if isinstance(value, list) and value and rng.random() < 0.7:
        return [mutate(rng, item) for item in value] * rng.randrange(3)
    odd = (None, True, -1, 2**70, 1e308, "", "\x00\ud800", "\uff19", [], {}, [[]], "a" * 3_000, "<b>")
    return rng.choice(odd)


def malformed(rng, face):
    """Status line, headers and body of an answer that nobody promised."""
    status, extra = rng.choice(STATUSES), rng.sample(HEADERS, rng.randrange(2))
    body = json.dumps(mutate(rng, GOOD[face])).encode("utf-8", "surrogatepass")
    match rng.randrange(6):
        case 0:
            body = rng.randbytes(rng.randrange(60))
        case 1:
            body = body[: rng.randrange(len(body) + 1)]
        case 2:
            body = b"[" * rng.randrange(5_000)
    head = f"HTTP/1.1 {status} ?\r\ncontent-length: {len(body)}\r\n" + "".join(f"{h}\r\n" for h in extra)
    return head.encode("latin-1") + b"\r\n" + body


@contextmanager
def raw_server(answers, requests=None):
    """Serves whatever `answers` gives, byte for byte, request by request; notes these if asked to."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with suppress(OSError, StopIteration):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(ConnectionError):
                    while b"\r\n\r\n" in (seen := _request(connection)):
                        if requests is not None:
                            requests.append(seen)
                        connection.sendall(next(answers))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


def _request(connection):
    seen = bytearray()
    while b"\r\n\r\n" not in seen:
        chunk = connection.recv(65_536)
        if not chunk:
            return b""
        seen += chunk
    head, _, body = bytes(seen).partition(b"\r\n\r\n")
    length = next(
        (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
    )
    while len(body) < length:
        body += connection.recv(65_536)
    return bytes(seen)


def ask_gateway(url):
    gateway = OpenAIGateway(url, "k", GatewaySettings(read_timeout_s=2, total_timeout_s=3), 1)
    return gateway, lambda: gateway.complete(Prompt(uuid4(), "m", [{"role": "user", "content": "x"}], 512))


def ask_twitterapi(url):
    api = TwitterApi(url, "k", 2, lambda: None)
    return api, lambda: api.last_tweets("eve")


def ask_x(url):
    api = XApi(url, "t", 2, lambda: None)
    api._ids["eve"] = "9"
    return api, lambda: api.mentions("eve", None, None)


def outcome(ask, fault):
    """What it answered, or the reason why not."""
    try:
        return ask()
    except fault as reason:
        return str(reason)


@pytest.mark.plan(17)
@pytest.mark.parametrize(
    ("face", "client", "fault", "good"),
    [
        ("gateway", ask_gateway, GatewayFault, Completion),
        ("twitterapi", ask_twitterapi, SourceFault, list),
        ("x", ask_x, SourceFault, Page),
    ],
)
def test_ten_thousand_malformed_answers_are_a_result_or_a_fault_with_a_reason(face, client, fault, good):
    rng = Random(face)
    results = faults = 0
    with raw_server(malformed(rng, face) for _ in range(20 * EACH)) as url:
        api, ask = client(url)
        for _ in range(EACH):
            found = outcome(ask, fault)
            if isinstance(found, str):
                faults += 1
                assert found.strip()
                assert len(found) < 1_000
                assert "\x00" not in found
                continue
            results += 1
            assert isinstance(found, good)
            tweets = found.tweets if isinstance(found, Page) else found
            for tweet in tweets if isinstance(tweets, list) else ():
                assert int(tweet.id) >= 0
                tweet.text.encode()
                assert "\x00" not in tweet.text + tweet.author
        api.close()
    assert results + faults == EACH
    assert results > 20, "some are right by chance"


def test_gateway_is_told_what_it_needs_and_nothing_of_this_machine():
    body = json.dumps(GOOD["gateway"]).encode()
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    requests = []
    with raw_server(iter([answer]), requests) as url:
        gateway, ask = ask_gateway(url)
        assert isinstance(ask(), Completion)
        gateway.close()
    lines = requests[0].partition(b"\r\n\r\n")[0].lower().split(b"\r\n")[1:]
    names = {line.partition(b":")[0].decode() for line in lines}
    assert {"authorization", "x-request-id", "content-type"} <= names
    assert not [name for name in names if name.startswith("x-stainless")]


def test_endless_answer_is_cut():
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 9000000\r\n\r\n"
    with raw_server(iter([head + b"x" * 3_000_000])) as url:
        api = SourceHttp(url, {}, 2, lambda: None)
        with pytest.raises(SourceFault, match="answer too long"):
            api.get("/x")
        api.close()


def test_envelopes_of_twitterapi_old_and_new():
    for body in (
        {"data": {"tweets": [TWEET]}},
        {"data": [TWEET]},
        {"tweets": [TWEET]},
        {"data": None, "tweets": [TWEET, {"id": "x"}, None]},
    ):
        raw = json.dumps(body).encode()
        answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(raw) + raw
        with raw_server(iter([answer])) as url:
            api, ask = ask_twitterapi(url)
            (tweet,) = ask()
            api.close()
        assert (tweet.id, tweet.author, tweet.posted_at.year) == ("1", "eve", 2024)


def test_pace_follows_the_balance():
    rates = {None: 0.2, 0: 0.2, 999: 0.2, 1_000: 3, 5_000: 6, 10_000: 10, 50_000: 20}
    assert {credits: requests_per_s(credits) for credits in rates} == rates


FIELDS = st.sampled_from([*style.TEXTS, *style.LISTS])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FIELDS, inner),
    max_leaves=20,
)
FENCED = JSON.map(lambda value: f"```json\n{json.dumps(value)}\n```")


@given(st.text(max_size=200) | JSON.map(json.dumps) | FENCED)
def test_profile_of_any_answer_is_short_known_and_harmless_or_none(answer):
    try:
        profile = style.read_profile(answer)
    except style.NotAProfile:
        return
    assert profile
    assert set(profile) <= {*style.TEXTS, *style.LISTS}
    said = style.describe(profile)
    assert "<" not in said
    assert "\n" not in said
    assert len(said) < 4_000
