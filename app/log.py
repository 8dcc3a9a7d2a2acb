"""Structured logs on standard error: events with fields, never sentences, never secrets."""

import logging
import sys
from contextlib import AbstractContextManager

import structlog
from rich.console import Console

from app.settings import LogSettings


def configure(settings: LogSettings) -> None:
    """Set up structlog and route the standard library's loggers through it. Call once per process."""
    json_lines = not sys.stderr.isatty() if settings.json_lines is None else settings.json_lines
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    terminal = Console(stderr=True)
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if json_lines
        else structlog.dev.ConsoleRenderer(colors=terminal.is_terminal and not terminal.no_color)
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            renderer,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level)
    for server in ("uvicorn", "uvicorn.error"):  # what it has set up by itself
        logging.getLogger(server).handlers.clear()
        logging.getLogger(server).propagate = True
    # Addresses may hold what is nobody's business, so no request is logged, with or without --no-access-log.
    logging.getLogger("uvicorn.access").disabled = True
    # Their lower levels say too much, and those of alerts hold the tokens of channels.
    for chatty in (
        "authlib",
        "httpx2",
        "httpcore2",
        "openai",
        "celery.worker.strategy",
        "celery.app.trace",
        "urllib3",
        "requests",
    ):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it writes URLs that it cannot read
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.level)),
        cache_logger_on_first_use=True,
    )


def configure_for_commands() -> None:
    """Only warnings and worse, on standard error: a command's standard output is its data."""
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )


def quiet_unless_configured() -> None:
    """For a plain Python shell, which set up no log: as for commands."""
    if not structlog.is_configured():
        configure_for_commands()


def log_context(**ids: str) -> AbstractContextManager[None]:
    """Name these in every event of the block: run, agent, request."""
    return structlog.contextvars.bound_contextvars(**ids)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger for one module."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger
