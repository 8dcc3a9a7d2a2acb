"""Spans of cycles, runs and calls, by OpenTelemetry; off unless an endpoint is set.

The names are those of its GenAI conventions as of 1.43, which still may change: they are here and nowhere
else. Prompts and answers are never in them.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Span, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from app.errors import ConfigError
from app.settings import TracingSettings

OPERATION = "gen_ai.operation.name"
AGENT, AGENT_ID = "gen_ai.agent.name", "gen_ai.agent.id"
MODEL, PROVIDER = "gen_ai.request.model", "gen_ai.provider.name"
TOKENS_INPUT, TOKENS_OUTPUT = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
ERROR, HTTP_STATUS = "error.type", "http.response.status_code"
RUN, REQUEST, STATE, REASON = ("paceline.run_id", "paceline.request_id", "paceline.state", "paceline.reason")
CYCLE, RUNS = "paceline.cycle_at", "paceline.runs"

_tracer = trace.get_tracer("paceline", version("paceline"))


def configure(settings: TracingSettings, part: str) -> None:
    """Send spans to the endpoint, if there is one. Call once in a process, after any fork."""
    if settings.endpoint is None:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            "PACELINE_TRACING__ENDPOINT needs the SDK: pip install 'paceline[tracing]'"
        ) from None
    about = {
        "service.name": "paceline",
        "service.instance.id": f"{part}@{socket.gethostname()}:{os.getpid()}",
        "service.version": version("paceline"),
    }
    provider = TracerProvider(resource=Resource.create(about))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(settings.endpoint)))
    trace.set_tracer_provider(provider)


@contextmanager
def span(name: str, attributes: dict[str, Any]) -> Iterator[Span]:
    """A span around the block, in whatever span is open; attributes that are None are left out."""
    with _tracer.start_as_current_span(
        name, attributes=_known(attributes), record_exception=False, set_status_on_exception=False
    ) as opened:
        yield opened


def tell(opened: Span, attributes: dict[str, Any], error: str | None = None) -> None:
    """Add what came of it; `error` is a short name."""
    if not opened.is_recording():
        return
    opened.set_attributes(_known(attributes))
    if error:
        opened.set_attribute(ERROR, error)
        opened.set_status(Status(StatusCode.ERROR, error))


def _known(attributes: dict[str, Any]) -> dict[str, AttributeValue]:
    return {
        name: value if isinstance(value, str | bool | int | float) else str(value)
        for name, value in attributes.items()
        if value is not None
    }
