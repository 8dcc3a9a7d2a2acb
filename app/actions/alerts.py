"""Actions on alerts: a test message to every channel."""

from sqlalchemy import Connection

from app.actions.action import Action, Desk, Given, Who
from app.actions.inputs import Input
from app.alerts.outbox import Message, UnreadableChannel, apprise_channel
from app.audit_log import note_change
from app.errors import ConfigError, Unreachable
from app.models import Role


class SendTest(Input):
    """Send a test message to every channel."""


def send_test(desk: Desk, _: SendTest, who: Who) -> int:
    """Returns how many took it. Raises ConfigError when there is none, Unreachable when one does not."""
    urls = [url.get_secret_value() for url in desk.settings.alerts.urls]
    if not urls:
        raise ConfigError(
            'no channel: set PACELINE_ALERTS__URLS=\'["mailto://...", "slack://..."]\' (apprise URLs)'
        )
    with desk.engine.begin() as connection:
        note_change(
            connection,
            actor=who.name,
            action="alerts.test",
            subject="fleet",
            before={},
            after={"channels": len(urls)},
            reason=who.reason,
        )
    message = Message("test", "info", "Paceline: a test", "If you read this, alerts arrive.")
    failed = [n for n, url in enumerate(urls, 1) if not _takes(url, message)]
    if failed:
        raise Unreachable(
            f"channel {', '.join(map(str, failed))} of {len(urls)} did not take it: check its URL"
        )
    return len(urls)


def _takes(url: str, message: Message) -> bool:
    try:
        return apprise_channel([url])(message)
    except UnreadableChannel:
        return False


def _affects(desk: Desk, _: Connection, __: Given) -> str:
    return f"{len(desk.settings.alerts.urls)} channels, which get a message."


ACTIONS = (
    Action(
        "alerts-test",
        "Send a test message",
        Role.OPERATOR,
        SendTest,
        _affects,
        send_test,
        back="/alerts",
        command="paceline alerts test",
    ),
)
