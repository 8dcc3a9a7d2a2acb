"""The sandbox gateway's own count of requests: the other side of the ledger. HTTP only."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import httpx2


@dataclass(frozen=True, slots=True)
class Answered:
    """One request as the gateway counts it."""

    request_id: UUID | None
    status: int
    tokens_input: int
    tokens_output: int


class SandboxTally:
    """Reads a sandbox's own count. A real gateway has none, so there is nothing to compare then."""

    def __init__(self, gateway_url: str) -> None:
        self._url = gateway_url.removesuffix("/").removesuffix("/v1")
        self._read = 0
        self._client = httpx2.Client(timeout=60, trust_env=False)

    def started_at(self) -> datetime | None:
        """When the sandbox began to count; None when the gateway is not one, or does not answer."""
        try:
            answer = self._client.get(f"{self._url}/sandbox/tally")
            answer.raise_for_status()
            return datetime.fromisoformat(answer.json()["started_at"])
        except (httpx2.HTTPError, ValueError, KeyError, TypeError):
            return None

    def new(self) -> Iterator[Answered]:
        """The requests since the last time this was asked."""
        answer = self._client.get(f"{self._url}/sandbox/requests", params={"after": self._read})
        answer.raise_for_status()
        for line in answer.text.splitlines():
            self._read += 1
            seen = json.loads(line)
            yield Answered(
                _uuid(seen["request_id"]), seen["status"], seen["tokens_input"], seen["tokens_output"]
            )

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
