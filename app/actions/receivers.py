"""Actions on those who receive events: the user's application, and webhooks."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import uuid4

from pydantic import Field, StringConstraints
from sqlalchemy import Connection

from app.actions.action import SHOWN, Action, Desk, Done, Given, Who
from app.actions.inputs import Handle, Input
from app.audit_log import note_change
from app.clock import utcnow
from app.errors import ConfigError, Unreachable
from app.integration import EVENTS, app_link, deliveries, sending, webhooks
from app.integration.deliveries import APP, Due
from app.integration.standing import read_standing
from app.integration.webhooks import Hook
from app.models import LinkState, Role, WebhookState

Receivers = Annotated[
    list[Handle],
    Field(
        min_length=1,
        max_length=100,
        title="receivers",
        description="webhooks by id, the beginning of it, or address",
    ),
]
"""Or `app`."""
Address = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000)]


class PauseReceivers(Input):
    """Send nothing for now; events wait."""

    receivers: Receivers


class ResumeReceivers(Input):
    """Go on sending what waits."""

    receivers: Receivers


class ReplayReceivers(Input):
    """Send again what did not arrive, or everything since a moment."""

    receivers: Receivers
    since: datetime | None = Field(
        None,
        title="since",
        description="every event from then on (UTC unless it names a zone); empty: what is dead",
    )


class AddWebhook(Input):
    """Send events to an address from now on. The secret that signs them is shown once."""

    url: Address = Field(title="address", description="https://...")
    events: Annotated[list[Handle], Field(max_length=len(EVENTS))] | None = Field(
        None, title="events", description="names, or post.* for all of posts; empty: all"
    )


class TryWebhooks(Input):
    """Send a test event now and say what the receiver answered."""

    receivers: Receivers


class RotateSecrets(Input):
    """Make another secret. It is shown once, and for a day both sign."""

    receivers: Receivers


class RemoveWebhooks(Input):
    """Forget webhooks and what waits for them."""

    receivers: Receivers


class SyncApplication(Input):
    """Deliver also what was written before the application was connected."""


class DisconnectApplication(Input):
    """End the link. Delivered rows stay there, waiting events are forgotten."""


# Doing. Each is done to all that are named, or to none and NotFound.


def pause_receivers(desk: Desk, ask: PauseReceivers, who: Who) -> int:
    """Returns how many."""
    return _set(desk, ask.receivers, LinkState.PAUSED, WebhookState.PAUSED, who)


def resume_receivers(desk: Desk, ask: ResumeReceivers, who: Who) -> int:
    """Returns how many."""
    return _set(desk, ask.receivers, LinkState.ACTIVE, WebhookState.ACTIVE, who)


def _set(desk: Desk, receivers: Sequence[str], link: LinkState, hook: WebhookState, who: Who) -> int:
    about: dict[str, Any] = {"actor": who.name, "reason": who.reason}
    with desk.engine.begin() as connection:
        for receiver in receivers:
            if receiver == APP:
                app_link.set_state(connection, link, **about)
            else:
                webhooks.set_state(connection, webhooks.find(connection, receiver), hook, **about)
    return len(receivers)


def replay(desk: Desk, ask: ReplayReceivers, who: Who) -> int:
    """Returns how many events."""
    since = ask.since
    if since is not None and since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    with desk.engine.begin() as connection:
        count = 0
        for receiver in ask.receivers:
            hook = None if receiver == APP else webhooks.find(connection, receiver)
            count += deliveries.revive(connection, str(hook.id) if hook else APP, since)
            if hook:
                webhooks.wake(connection, hook)
        note_change(
            connection,
            actor=who.name,
            action="receivers.replay",
            subject=", ".join(ask.receivers)[:200],
            before={},
            after={"events": count},
            reason=who.reason,
        )
    return count


def add_webhook(desk: Desk, ask: AddWebhook, who: Who) -> Done:
    """Shows its id and its secret."""
    url = webhooks.check_url(ask.url, allows_private=desk.settings.app.private_networks)
    with desk.engine.begin() as connection:
        hook_id, secret = webhooks.add(
            connection, url, ask.events or ["*"], actor=who.name, reason=who.reason
        )
    return Done(1, {"id": str(hook_id), "secret": secret})


def try_webhooks(desk: Desk, ask: TryWebhooks, who: Who) -> Done:
    """Shows what each answered, by id; raises Unreachable when one does not take it."""
    hooks = _find(desk, ask.receivers)
    with desk.engine.begin() as connection:
        secrets = [webhooks.secret_of(connection, hook) for hook in hooks]
        note_change(
            connection,
            actor=who.name,
            action="webhooks.test",
            subject=", ".join(hook.url for hook in hooks)[:200],
            before={},
            after={},
            reason=who.reason,
        )
    due = Due(0, 0, sending.TEST, {"said": "It works."}, 0, utcnow())
    said = {}
    with sending.client(allows_private=desk.settings.app.private_networks) as http:
        for hook, secret in zip(hooks, secrets, strict=True):
            one = replace(due, event_id=uuid4().int % 10**9)
            answer = sending.send(http, hook.url, [secret], one)
            if not answer.is_good:
                raise Unreachable(f"{hook.url} did not take it: {answer.error}")
            said[str(hook.id)] = f"HTTP {answer.status}"
    return Done(len(hooks), said)


def rotate_secrets(desk: Desk, ask: RotateSecrets, who: Who) -> Done:
    """Shows the new secret of each, by id: two may have one address."""
    hooks = _find(desk, ask.receivers)
    with desk.engine.begin() as connection:
        return Done(
            len(hooks),
            {
                str(hook.id): webhooks.rotate(connection, hook, actor=who.name, reason=who.reason)
                for hook in hooks
            },
        )


def remove_webhooks(desk: Desk, ask: RemoveWebhooks, who: Who) -> int:
    """Returns how many."""
    hooks = _find(desk, ask.receivers)
    with desk.engine.begin() as connection:
        for hook in hooks:
            webhooks.remove(connection, hook, actor=who.name, reason=who.reason)
    return len(hooks)


def _find(desk: Desk, receivers: Sequence[str]) -> list[Hook]:
    """Webhooks, each once; the application is none."""
    if APP in receivers:
        raise ConfigError("the application is no webhook: `paceline app` is for its tables")
    with desk.engine.connect() as connection:
        found = [webhooks.find(connection, receiver) for receiver in receivers]
    return list({hook.id: hook for hook in found}.values())


def sync(desk: Desk, _: SyncApplication, who: Who) -> int:
    """Returns how many posts and comments."""
    with desk.engine.begin() as connection:
        link = app_link.read_connected(connection)
        count = app_link.sync(connection)
        note_change(
            connection,
            actor=who.name,
            action="app.sync",
            subject=link.name,
            before={},
            after={"events": count},
            reason=who.reason,
        )
    return count


def disconnect(desk: Desk, _: DisconnectApplication, who: Who) -> int:
    """Raises NotFound when nothing is connected."""
    with desk.engine.begin() as connection:
        app_link.set_state(connection, LinkState.DISCONNECTED, actor=who.name, reason=who.reason)
    return 1


# Asking


def _affects(_: Desk, connection: Connection, given: Given) -> str:
    wanted = given.get("receivers", ())
    found = [
        one
        for one in read_standing(connection)
        if any(one.where == name or (name and one.id.startswith(name)) for name in wanted)
    ]
    shown = "; ".join(f"{one.where}: {one.pending} wait, {one.dead} dead" for one in found[:SHOWN])
    return f"{shown}." if found else "nothing: there is no such receiver."


def _affects_app(desk: Desk, connection: Connection, _: Given) -> str:
    return _affects(desk, connection, {"receivers": [APP]})


def _affects_new(_: Desk, connection: Connection, __: Given) -> str:
    count = len(webhooks.list_webhooks(connection))
    return f"nobody else: there are {count} webhooks now."


_THESE: dict[str, Any] = {"back": "/application", "chosen": "receivers"}

ACTIONS = (
    Action(
        "receivers-pause",
        "Pause receivers",
        Role.OPERATOR,
        PauseReceivers,
        _affects,
        pause_receivers,
        command="paceline app pause; paceline webhooks pause ID",
        **_THESE,
    ),
    Action(
        "receivers-resume",
        "Let receivers go on",
        Role.OPERATOR,
        ResumeReceivers,
        _affects,
        resume_receivers,
        command="paceline app resume; paceline webhooks resume ID",
        **_THESE,
    ),
    Action(
        "receivers-replay",
        "Send again",
        Role.OPERATOR,
        ReplayReceivers,
        _affects,
        replay,
        command="paceline app replay; paceline webhooks replay ID --since MOMENT",
        **_THESE,
    ),
    Action(
        "webhooks-add",
        "Add a webhook",
        Role.ADMIN,
        AddWebhook,
        _affects_new,
        add_webhook,
        back="/application",
        command="paceline webhooks add https://... --events post.*",
    ),
    Action(
        "webhooks-test",
        "Send a test event",
        Role.OPERATOR,
        TryWebhooks,
        _affects,
        try_webhooks,
        command="paceline webhooks test ID",
        **_THESE,
    ),
    Action(
        "webhooks-rotate",
        "Make another secret",
        Role.ADMIN,
        RotateSecrets,
        _affects,
        rotate_secrets,
        command="paceline webhooks rotate ID",
        **_THESE,
    ),
    Action(
        "webhooks-remove",
        "Remove webhooks",
        Role.ADMIN,
        RemoveWebhooks,
        _affects,
        remove_webhooks,
        command="paceline webhooks remove ID",
        **_THESE,
    ),
    Action(
        "app-sync",
        "Deliver what was written before",
        Role.OPERATOR,
        SyncApplication,
        _affects_app,
        sync,
        back="/application",
        command="paceline app sync",
    ),
    Action(
        "app-disconnect",
        "Disconnect the application",
        Role.ADMIN,
        DisconnectApplication,
        _affects_app,
        disconnect,
        back="/application",
        command="paceline app disconnect",
    ),
)
