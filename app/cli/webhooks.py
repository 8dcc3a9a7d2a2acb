"""`paceline webhooks`: events to your own receivers by HTTP, signed as Standard Webhooks says."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated
from uuid import uuid4

import typer
from rich.table import Table
from sqlalchemy import select

from app.cli.connect import database, user
from app.cli.output import data, notes, print_json
from app.clock import utcnow
from app.errors import CameToNothing
from app.integration import deliveries, sending, webhooks
from app.integration.deliveries import Due
from app.models import Webhook, WebhookState
from app.settings import get_settings

app = typer.Typer(
    help="Webhooks: events by HTTP, signed, tried again for a day and a half.", no_args_is_help=True
)

Which = Annotated[str, typer.Argument(help="Its id, the beginning of it, or its address")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]
Reason = Annotated[str, typer.Option(help="Why; goes into the audit log")]


@app.command("add")
def add(
    url: Annotated[str, typer.Argument(help="Where to send: https://...")],
    events: Annotated[
        str, typer.Option(help="Which, with commas: post.*,comment.published; default: all")
    ] = "*",
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Add a receiver; prints its secret, this once."""
    settings = get_settings()
    webhooks.check_url(url, allows_private=settings.app.private_networks)
    with database(settings) as engine, engine.begin() as connection:
        hook_id, secret = webhooks.add(
            connection, url, events.split(","), actor=user(), reason=reason
        )
    if as_json:
        print_json({"id": hook_id, "secret": secret})
        return
    data.print(f"{hook_id}", markup=False)
    data.print(f"secret, shown this once: {secret}", markup=False)
    notes.print(f"try it: paceline webhooks test {str(hook_id)[:13]}", style="dim", markup=False)


@app.command("list")
def show(as_json: AsJson = False) -> None:
    """List receivers with what waits for each and what did not arrive."""
    with database(get_settings()) as engine, engine.connect() as connection:
        found = webhooks.list_webhooks(connection)
        standing = {hook.id: deliveries.backlog(connection, str(hook.id)) for hook in found}
    if as_json:
        print_json(
            {"webhooks": [{**asdict(hook), "backlog": asdict(standing[hook.id])} for hook in found]}
        )
        return
    if not found:
        notes.print("none: paceline webhooks add https://...")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("ID", "STATE", "EVENTS", "DONE", "WAIT", "DEAD", "ADDRESS"):
        table.add_column(name, justify="right" if name in ("DONE", "WAIT", "DEAD") else "left")
    for hook in found:
        backlog = standing[hook.id]
        shown = ", ".join(one.replace("%", "*").replace("\\_", "_") for one in hook.events)
        table.add_row(str(hook.id), hook.state, shown, str(backlog.done), str(backlog.pending),
                      str(backlog.dead), hook.url)  # fmt: skip
    data.print(table)
    for hook in found:
        if said := hook.reason or standing[hook.id].error:
            notes.print(f"{str(hook.id)[:13]}: {said}", style="yellow", markup=False)


@app.command("test")
def test(which: Which) -> None:
    """Send a test event now and say what the receiver answered; exit 3 when it did not take it."""
    settings = get_settings()
    with database(settings) as engine, engine.connect() as connection:
        hook = webhooks.find(connection, which)
        secret = connection.execute(
            select(Webhook.secret).where(Webhook.id == hook.id)
        ).scalar_one()
    due = Due(0, uuid4().int % 10**9, sending.TEST, {"said": "It works."}, 0, utcnow())
    with sending.client(allows_private=settings.app.private_networks) as http:
        answer = sending.send(http, hook.url, [secret], due)
    if not answer.is_good:
        raise CameToNothing(f"{hook.url} did not take it: {answer.error}")
    data.print(f"{hook.url} took it: HTTP {answer.status}", markup=False)


def _set(which: str, state: WebhookState, reason: str, said: str) -> None:
    with database(get_settings()) as engine, engine.begin() as connection:
        hook = webhooks.find(connection, which)
        webhooks.set_state(connection, hook, state, actor=user(), reason=reason)
    data.print(f"{hook.url}: {said}", markup=False)


@app.command("pause")
def pause(which: Which, reason: Reason = "") -> None:
    """Send it nothing for now; events wait."""
    _set(which, WebhookState.PAUSED, reason, "paused, events wait")


@app.command("resume")
def resume(which: Which, reason: Reason = "") -> None:
    """Go on sending."""
    _set(which, WebhookState.ACTIVE, reason, "goes on")


@app.command("replay")
def replay(
    which: Which,
    since: Annotated[
        datetime | None, typer.Option(help="Every event from then on (UTC); default: what is dead")
    ] = None,
) -> None:
    """Send again what did not arrive, or everything since a moment."""
    with database(get_settings()) as engine, engine.begin() as connection:
        hook = webhooks.find(connection, which)
        count = deliveries.revive(connection, str(hook.id), since)
        webhooks.wake(connection, hook)
    data.print(f"{count} are sent again")


@app.command("rotate")
def rotate(which: Which, reason: Reason = "") -> None:
    """Make another secret; for a day both sign."""
    with database(get_settings()) as engine, engine.begin() as connection:
        hook = webhooks.find(connection, which)
        secret = webhooks.rotate(connection, hook, actor=user(), reason=reason)
    data.print(f"secret, shown this once: {secret}", markup=False)
    notes.print("the old one signs, too, for a day", style="dim")


@app.command("remove")
def remove(which: Which, reason: Reason = "") -> None:
    """Forget a receiver and what waits for it."""
    with database(get_settings()) as engine, engine.begin() as connection:
        hook = webhooks.find(connection, which)
        webhooks.remove(connection, hook, actor=user(), reason=reason)
    data.print(f"{hook.url}: removed", markup=False)
