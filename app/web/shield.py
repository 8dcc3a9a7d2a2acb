"""Around every answer: what browsers may do with it. Before every request: the path that all is under."""

import asyncio
from collections.abc import Callable, MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.clock import monotonic

CONTENT_POLICY = (
    "default-src 'none'; object-src 'none'; "
    "script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    # not no-referrer: browsers would then send forms with the origin `null`
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


BODY_S = 30.0
"""A request's body has to be there so soon."""


def _bounded(receive: Receive) -> Receive:
    """The same, for as long as a body may take; then it is as if the sender had gone."""
    until = monotonic() + BODY_S
    is_whole = False

    async def receive_in_time() -> MutableMapping[str, Any]:
        nonlocal is_whole
        if is_whole:
            return await receive()
        try:
            async with asyncio.timeout(max(0.0, until - monotonic())):
                message = await receive()
        except TimeoutError:
            return {"type": "http.disconnect"}
        is_whole = not message.get("more_body", False)
        return message

    return receive_in_time


class Shield:
    """ASGI middleware."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        prefix: str,
        is_https: bool,
        hosts: frozenset[str] | None,
        broken: Callable[[Request], Response],
    ) -> None:
        self._app, self._prefix, self._broken, self._hosts = app, prefix, broken, hosts
        self._headers = dict(HEADERS)
        if is_https:
            self._headers["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains"

    def _is_called_right(self, scope: Scope) -> bool:
        """Whether the name in the request is one of ours: another site may have pointed its name here. Health
        checks, metrics and the API are asked for by address, and hold no cookie.
        """
        path = scope["path"].removeprefix(self._prefix)
        if self._hosts is None or path.startswith(("/health/", "/metrics", "/api/v1/")):
            return True
        host = Headers(scope=scope).get("host", "").lower()
        name = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
        return name in self._hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._prefix and scope["path"] == self._prefix:
            scope["path"] += "/"
        is_asset = scope["path"].removeprefix(self._prefix).startswith("/static/")

        is_begun = False

        async def send_shielded(message: MutableMapping[str, Any]) -> None:
            nonlocal is_begun
            is_begun = True
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
                is_kept = is_asset and message["status"] == 200
                headers["Cache-Control"] = "max-age=86400" if is_kept else "no-store"
            await send(message)

        if self._prefix:
            scope["root_path"] = self._prefix
        if not self._is_called_right(scope):
            said = "this dashboard has another name: set PACELINE_WEB__PUBLIC_URL to the one you use\n"
            await PlainTextResponse(said, 421)(scope, receive, send_shielded)
            return
        try:
            await self._app(scope, _bounded(receive), send_shielded)
        except Exception:
            if is_begun:
                raise
            await self._broken(Request(scope))(scope, receive, send_shielded)
