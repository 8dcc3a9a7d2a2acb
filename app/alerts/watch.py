"""One round of watching: fold incidents, find what is worth a message, send what is due.

The beat asks for it, and so does the dashboard's process, because a scheduler that is silent cannot say
so itself. Both at once do no harm: messages are told apart by their keys.
"""

from sqlalchemy import Engine

from app.alerts import incidents, outbox, rules
from app.clock import utcnow
from app.runs import jobs
from app.settings import Settings


def watch(engine: Engine, settings: Settings, stop: str | None = None) -> str:
    """Do a round; returns what it did. `stop` is the kind of answer that stops all calls, if one does."""
    with engine.begin() as connection:
        folded = incidents.fold(connection, stop)
    with engine.begin() as connection:
        quiet_until = outbox.end_of_quiet(utcnow(), settings.zone, settings.alerts.quiet_hours)
        new = outbox.post(connection, rules.evaluate(connection, settings), quiet_until)
    urls = [url.get_secret_value() for url in settings.alerts.urls]
    sent, failed = outbox.send_due(engine, outbox.apprise_channel(urls) if urls else None)
    said = f"incidents: {folded}; alerts: {new} new, {sent} sent, {failed} failed"
    with engine.begin() as connection:
        jobs.done(connection, "alerts.watch", said)
    return said
