"""The real gateway: the openai client, one attempt per call, bounded in time."""

from collections.abc import Iterator
from typing import Any

import httpx2
from openai import APIConnectionError, APIStatusError, APITimeoutError, Omit, OpenAI, OpenAIError

from app.clock import monotonic, utcnow
from app.gateway import Completion, GatewayDown, NoAnswer, Prompt
from app.gateway.answers import read_answer, read_fault
from app.settings import GatewaySettings

ANSWER_MAX = 1_000_000

_OF_THE_CLIENT = ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async")
_OF_A_CALL = ("Retry-Count", "Read-Timeout")
"""What the client tells of this machine and itself, as X-Stainless-...; it is nobody's business, and nine
headers cost 6 % of the call's CPU.
"""
_UNTOLD: dict[str, Any] = {f"X-Stainless-{name}": Omit() for name in _OF_A_CALL}


class OpenAIGateway:
    """Any server that speaks OpenAI's chat completions. Safe to share between threads."""

    def __init__(
        self, base_url: str, key: str | None, settings: GatewaySettings, connections: int
    ) -> None:
        headers: dict[str, Any] = {f"X-Stainless-{name}": Omit() for name in _OF_THE_CLIENT}
        if key and "lovable" in base_url:
            headers["Lovable-API-Key"] = key
        self._settings = settings
        self._client = OpenAI(
            base_url=base_url,
            api_key=key or "none",
            max_retries=0,  # every attempt needs a permit and a ledger row of its own
            default_headers=headers,
            http_client=httpx2.Client(
                transport=_Bounded(settings.total_timeout_s, connections),
                timeout=httpx2.Timeout(settings.read_timeout_s, connect=settings.connect_timeout_s),
                trust_env=False,
            ),
        )

    def complete(self, prompt: Prompt) -> Completion:
        """Make exactly one attempt; raises GatewayFault."""
        try:
            # The client's own call for any path: `create` does the same after a third more CPU
            # spent on transforming parameters that are plain JSON already.
            response = self._client.post(
                "/chat/completions",
                cast_to=httpx2.Response,
                body=self._body(prompt),
                options={"headers": _UNTOLD | {"X-Request-Id": str(prompt.request_id)}},
            )
        except APIStatusError as error:
            answer = error.response
            raise read_fault(answer.status_code, answer.headers, answer.content, utcnow()) from None
        except APITimeoutError as error:
            if isinstance(error.__cause__, httpx2.ConnectTimeout | httpx2.PoolTimeout):
                raise GatewayDown("no connection in time") from None
            raise NoAnswer("no answer in time") from None
        except APIConnectionError as error:
            if isinstance(error.__cause__, httpx2.ConnectError):
                raise GatewayDown(f"no connection: {error.__cause__}") from None
            raise NoAnswer(f"connection lost: {error.__cause__ or error}") from None
        except (OpenAIError, httpx2.HTTPError) as error:
            raise NoAnswer(f"no usable answer: {error}") from None
        return read_answer(response.content)

    def _body(self, prompt: Prompt) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": prompt.model,
            "messages": prompt.messages,
            "max_tokens": prompt.max_tokens,
            "temperature": self._settings.temperature,
        }
        if prompt.reasoning is not None:
            body["reasoning"] = {"effort": prompt.reasoning}
        if prompt.is_json:
            body["response_format"] = {"type": "json_object"}
        return body

    def close(self) -> None:
        """Close connections."""
        self._client.close()


class _Bounded(httpx2.BaseTransport):
    """Adds what httpx lacks: an end to an answer that trickles for ever, or never stops growing."""

    def __init__(self, total_s: float, connections: int) -> None:
        self._total_s = total_s
        self._inner = httpx2.HTTPTransport(
            limits=httpx2.Limits(
                max_connections=connections,
                max_keepalive_connections=connections,
                keepalive_expiry=30,  # a new connection would make a call late
            )
        )

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        deadline = monotonic() + self._total_s
        response = self._inner.handle_request(request)
        assert isinstance(response.stream, httpx2.SyncByteStream)
        response.stream = _BoundedStream(response.stream, deadline, request)
        return response

    def close(self) -> None:
        self._inner.close()


class _BoundedStream(httpx2.SyncByteStream):
    def __init__(
        self, inner: httpx2.SyncByteStream, deadline: float, request: httpx2.Request
    ) -> None:
        self._inner = inner
        self._deadline = deadline
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for chunk in self._inner:
            size += len(chunk)
            if monotonic() > self._deadline:
                raise httpx2.ReadTimeout("answer took too long", request=self._request)
            if size > ANSWER_MAX:
                raise httpx2.ReadError("answer too long", request=self._request)
            yield chunk

    def close(self) -> None:
        self._inner.close()
