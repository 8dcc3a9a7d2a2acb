"""The sandbox as an ASGI application, and how to run it.

POST /v1/chat/completions   OpenAI's shape; 429, 402 and 401 in Lovable's
GET  /twitter/..., /oapi/..., /2/...   answered as twitterapi.io and as X (world.py)
GET  /sandbox/tally         sums
GET  /sandbox/requests      one JSON line per request, ?after=N
PUT  /sandbox/rules         change rate, capacity, latency_s, credits, retry_after_s, key, unlimited
PUT  /sandbox/world         what it knows as twitterapi.io and X: credits, tweets, missing, mentions
POST /sandbox/faults        add a scripted fault; DELETE removes them all
"""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import fields
from typing import Any
from urllib.parse import parse_qs, parse_qsl

import uvicorn

from app.gateway.sandbox.state import Fault, Rules, Sandbox, World, now_ns
from app.gateway.sandbox.world import answer, face_of
from app.gateway.sandbox.writer import write, write_style

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODY_MAX = 10_000_000


def make_app(sandbox: Sandbox) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """The ASGI application around one sandbox."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        arrived_ns = now_ns()
        if _is_of_a_page(_headers(scope)):
            await _json(send, 403, {"error": {"message": "not for web pages", "type": "forbidden"}})
            return
        body = await _body(receive)
        match scope["method"], scope["path"]:
            case "POST", "/v1/chat/completions":
                await _complete(sandbox, scope, body, arrived_ns, send)
            case "GET", "/sandbox/tally":
                await _json(send, 200, sandbox.tally())
            case "GET", "/sandbox/requests":
                query = parse_qs(scope["query_string"].decode())
                after = query.get("after", ["0"])[0]
                lines = sandbox.lines(int(after) if after.isdigit() else 0)
                text = "".join(json.dumps(line) + "\n" for line in lines)
                await _send(send, 200, text.encode(), "application/x-ndjson")
            case "PUT", "/sandbox/rules":
                await _json(send, *_set_rules(sandbox, body))
            case "PUT", "/sandbox/world":
                await _json(send, *_set(sandbox.world, body))
            case "GET", path if (face := face_of(path)) is not None:
                await _answer_as(sandbox, face, scope, send)
            case "POST", "/sandbox/faults":
                await _json(send, *_add_fault(sandbox, body))
            case "DELETE", "/sandbox/faults":
                sandbox.faults.clear()
                await _json(send, 200, {"faults": 0})
            case "GET", "/" | "/health":
                await _json(send, 200, {"sandbox": "ok"})
            case _:
                await _json(send, 404, {"error": {"message": "no such path", "type": "not_found"}})

    return app


def _is_of_a_page(headers: dict[str, str]) -> bool:
    """Whether a browser asks for a web page: any page in this machine's browser could add faults. A name with
    a dot is one that somebody may have pointed at this machine.
    """
    host = headers.get("host", "")
    is_address = host.startswith("[") or host.partition(":")[0].replace(".", "").isdigit()
    is_plain = is_address or "." not in host
    return "origin" in headers or "sec-fetch-site" in headers or not is_plain


async def _complete(sandbox: Sandbox, scope: Scope, body: bytes, arrived_ns: int, send: Send) -> None:
    headers = _headers(scope)
    request_id = headers.get("x-request-id", "")
    rules = sandbox.rules
    try:
        request = json.loads(body)
        model = str(request["model"])
        prompt_tokens = max(1, sum(len(str(m["content"])) for m in request["messages"]) // 4)
        max_tokens = int(request.get("max_tokens", 1_000_000))
        sandbox.bodies.append(request)
    except (ValueError, KeyError, TypeError):
        sandbox.record(request_id, arrived_ns, 400, "", (0, 0))
        return await _json(send, 400, {"error": {"message": "bad request", "type": "invalid"}})

    async def refuse(status: int, answer: object, extra: dict[str, str] | None = None) -> None:
        sandbox.record(request_id, arrived_ns, status, model, (0, 0))
        await _json(send, status, answer, extra)

    if rules.key is not None and headers.get("authorization") != f"Bearer {rules.key}":
        return await refuse(401, {"type": "unauthorized", "message": "", "details": ""})
    if not rules.unlimited and not sandbox.limit.allows(arrived_ns, rules.rate, rules.capacity):
        extra = {} if rules.retry_after_s is None else {"retry-after": f"{rules.retry_after_s:g}"}
        return await refuse(429, {"error": "Rate limit exceeded, please retry later"}, extra)
    if sandbox.is_broke():
        return await refuse(402, {"type": "payment_required", "message": "Not enough credits"})
    sandbox.in_flight += 1
    try:
        fault = sandbox.next_fault(model)
        if fault is not None:
            return await _misbehave(sandbox, fault, request_id, arrived_ns, model, prompt_tokens, send)
        wants_json = "response_format" in request
        text = json.dumps(write_style(request_id)) if wants_json else write(request_id)
        completion_tokens = max(1, min(len(text) // 4, max_tokens))
        sandbox.record(request_id, arrived_ns, 200, model, (prompt_tokens, completion_tokens))
        if rules.latency_s:
            await asyncio.sleep(rules.latency_s)
        await _json(send, 200, _completion(request_id, model, text, prompt_tokens, completion_tokens))
    finally:
        sandbox.in_flight -= 1


async def _answer_as(sandbox: Sandbox, face: str, scope: Scope, send: Send) -> None:
    """As twitterapi.io or as X, which have faults of their own."""
    headers = _headers(scope)
    query = dict(parse_qsl(scope["query_string"].decode()))
    status, said = answer(sandbox.world, scope["path"], query, headers)
    fault = sandbox.next_fault("", face)
    if fault is None:
        return await _json(send, status, said)
    await _send_fault(fault, json.dumps(said).encode(), send)


async def _misbehave(
    sandbox: Sandbox, fault: Fault, request_id: str, arrived_ns: int, model: str, tokens: int, send: Send
) -> None:
    status = fault.status if fault.kind == "status" else 200
    used = (tokens, 16) if fault.kind in ("empty", "half", "trickle") else tuple(fault.tokens)
    sandbox.record(request_id, arrived_ns, status, model, (used[0], used[1]))
    await _send_fault(fault, json.dumps(_completion(request_id, model, "", tokens, 16)).encode(), send)


async def _send_fault(fault: Fault, answer: bytes, send: Send) -> None:
    match fault.kind:
        case "status":
            await _send(send, fault.status, fault.body.encode(), "application/json", fault.headers)
        case "hang":
            await asyncio.sleep(fault.seconds)
        case "garbage":
            await _send(send, 200, b"<html>\xff\xfe{[", "text/html")
        case "empty":
            await _send(send, 200, answer, "application/json")
        case "half":
            await _send(send, 200, answer[:20], "application/json", {"content-length": "4000"})
        case "trickle":
            await send(_start(200, "application/json", {}))
            for byte in answer:
                await send({"type": "http.response.body", "body": bytes([byte]), "more_body": True})
                await asyncio.sleep(1)
            await send({"type": "http.response.body", "body": b""})


def _completion(request_id: str, model: str, text: str, tokens_in: int, tokens_out: int) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop" if text else "length",
            }
        ],
        "usage": {
            "prompt_tokens": tokens_in,
            "completion_tokens": tokens_out,
            "total_tokens": tokens_in + tokens_out,
        },
    }


def _set_rules(sandbox: Sandbox, body: bytes) -> tuple[int, object]:
    status, said = _set(sandbox.rules, body)
    if status != 200:
        return status, said
    if b'"credits"' in body:
        sandbox.spent = 0.0
    return 200, sandbox.tally()["rules"]


def _set(target: Rules | World, body: bytes) -> tuple[int, object]:
    """Change known fields only."""
    try:
        changes = json.loads(body)
        unknown = set(changes) - {f.name for f in fields(target)}
        if unknown:
            raise ValueError(f"unknown name {', '.join(sorted(unknown))}")
    except (ValueError, TypeError) as error:
        return 400, {"error": {"message": str(error)}}
    for name, value in changes.items():
        setattr(target, name, value)
    return 200, {"changed": sorted(changes)}


def _add_fault(sandbox: Sandbox, body: bytes) -> tuple[int, object]:
    try:
        sandbox.faults.append(Fault.from_json(json.loads(body)))
    except (ValueError, TypeError) as error:
        return 400, {"error": {"message": str(error)}}
    return 200, {"faults": len(sandbox.faults)}


async def _body(receive: Receive) -> bytes:
    chunks = bytearray()
    while len(chunks) <= BODY_MAX:
        message = await receive()
        chunks += message.get("body", b"")
        if not message.get("more_body"):
            break
    return bytes(chunks)


async def _json(send: Send, status: int, data: object, headers: dict[str, str] | None = None) -> None:
    await _send(send, status, json.dumps(data).encode(), "application/json", headers)


async def _send(
    send: Send, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None
) -> None:
    await send(_start(status, kind, {"content-length": str(len(body)), **(headers or {})}))
    await send({"type": "http.response.body", "body": body})


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode().lower(): value.decode("latin-1") for name, value in scope["headers"]}


def _start(status: int, kind: str, headers: dict[str, str]) -> dict[str, Any]:
    pairs = [(b"content-type", kind.encode())]
    pairs += [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": pairs}


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, so that the caller knows the port before the server runs."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol, because asyncio sends without delay only where it sees TCP: else each answer that is
    # written in two pieces waits 40 ms for the other side's acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(512)
    return listener


def run(listener: socket.socket, rules: Rules) -> None:
    """Serve until SIGINT or SIGTERM."""
    config = uvicorn.Config(
        make_app(Sandbox(rules)),
        log_level="error",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=2,
        timeout_keep_alive=60,
    )
    uvicorn.Server(config).run(sockets=[listener])
