"""The real gateway: the openai client, one attempt per call, bounded in time."""

import logging
from typing import Any

import httpx2
from openai import APIConnectionError, APIStatusError, APITimeoutError, Omit, OpenAI, OpenAIError

from app import kinds
from app.bounded_http import PLAIN, BoundedTransport
from app.clock import utcnow
from app.gateway import Completion, GatewayFault, Prompt
from app.gateway.answers import read_answer
from app.gateway.faults import read_fault, refused_parameter
from app.gateway.parameters import Parameters
from app.settings import GatewaySettings, is_lovable

ANSWER_MAX = 1_000_000

# OPENAI_LOG=debug would write keys and prompts into the log.
logging.getLogger("openai").setLevel(logging.WARNING)

_OF_THE_CLIENT = ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async")
_OF_A_CALL = ("Retry-Count", "Read-Timeout")
"""Headers in which the client tells of this machine and itself, X-Stainless-...; it is nobody's business, and
nine headers cost 6 % of the call's CPU.
"""
_UNTOLD: dict[str, Any] = {f"X-Stainless-{name}": Omit() for name in _OF_A_CALL}


class OpenAIGateway:
    """Any server that speaks OpenAI's chat completions. Safe to share between threads."""

    def __init__(self, base_url: str, key: str | None, settings: GatewaySettings, connections: int) -> None:
        headers: dict[str, Any] = {f"X-Stainless-{name}": Omit() for name in _OF_THE_CLIENT}
        headers |= PLAIN
        if key and is_lovable(base_url):
            headers["Lovable-API-Key"] = key
        self._parameters = Parameters(settings.temperature)
        self._context_tokens = settings.context_tokens
        self._client = OpenAI(
            base_url=base_url,
            api_key=key or "none",
            admin_api_key="none",
            max_retries=0,  # every attempt needs a permit and a ledger row of its own
            default_headers=headers,
            http_client=httpx2.Client(
                transport=BoundedTransport(
                    total_s=settings.total_timeout_s, bytes_max=ANSWER_MAX, connections=connections
                ),
                timeout=httpx2.Timeout(settings.read_timeout_s, connect=settings.connect_timeout_s),
                trust_env=False,
            ),
        )
        # The client reads OPENAI_ORG_ID, OPENAI_PROJECT_ID and OPENAI_CUSTOM_HEADERS, which may even replace
        # the key. Only what was given here goes to the gateway.
        self._client.organization = self._client.project = None
        self._client._custom_headers = headers

    def complete(self, prompt: Prompt) -> Completion:
        """Make exactly one attempt; raises GatewayFault."""
        body = self._parameters.body(prompt)
        try:
            # The client's own call for any path: `create` does the same after a third more CPU
            # spent on transforming parameters that are plain JSON already.
            response = self._client.post(
                "/chat/completions",
                cast_to=httpx2.Response,
                body=body,
                options={"headers": _UNTOLD | {"X-Request-Id": str(prompt.request_id)}},
            )
        except APIStatusError as error:
            raise self._fault(body, error.response) from None
        except APITimeoutError as error:
            if isinstance(error.__cause__, httpx2.ConnectTimeout | httpx2.PoolTimeout):
                raise GatewayFault(kinds.GATEWAY_DOWN, "no connection in time") from None
            raise GatewayFault(kinds.NO_ANSWER, "no answer in time") from None
        except APIConnectionError as error:
            cause = error.__cause__
            if isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout):
                raise GatewayFault(kinds.GATEWAY_DOWN, f"no connection: {cause}") from None
            raise GatewayFault(kinds.NO_ANSWER, f"connection lost: {cause or error}") from None
        except (OpenAIError, httpx2.HTTPError) as error:
            raise GatewayFault(kinds.NO_ANSWER, f"no usable answer: {error}") from None
        tokens_max = self._context_tokens + prompt.max_tokens
        return read_answer(response.content, utcnow(), tokens_max)

    def _fault(self, sent: dict[str, Any], answer: httpx2.Response) -> GatewayFault:
        fault = read_fault(answer.status_code, answer.headers, answer.content, utcnow())
        if fault.kind is kinds.PARAMETER_REFUSED:
            parameter = refused_parameter(fault)
            if parameter not in sent:  # leaving it out is no mend: it was left out
                said = str(fault)
                return GatewayFault(kinds.REQUEST_REFUSED, said, http_status=fault.http_status)
            self._parameters.learn(sent["model"], parameter)
        return fault

    def close(self) -> None:
        """Close connections."""
        self._client.close()
