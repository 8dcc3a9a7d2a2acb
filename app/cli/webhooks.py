"""`paceline webhooks`: events to your own receivers by HTTP, signed as Standard Webhooks says."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from app.cli.acting import Told, act
from app.cli.connect import database
from app.cli.output import data, notes, print_json
from app.integration import deliveries, webhooks
from app.settings import get_settings

app = typer.Typer(
    help="Webhooks: events by HTTP, signed, tried again for a day and a half.", no_args_is_help=True
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]


@app.command("list")
def show(as_json: AsJson = False) -> None:
    """List receivers with what waits for each and what did not arrive."""
    with database(get_settings()) as engine, engine.connect() as connection:
        found = webhooks.list_webhooks(connection)
        standing = {hook.id: deliveries.backlog(connection, str(hook.id)) for hook in found}
    if as_json:
        print_json({"webhooks": [{**asdict(hook), "backlog": asdict(standing[hook.id])} for hook in found]})
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
        table.add_row(
            str(hook.id),
            hook.state,
            shown,
            str(backlog.done),
            str(backlog.pending),
            str(backlog.dead),
            hook.url,
        )
    data.print(table)
    for hook in found:
        if said := hook.reason or standing[hook.id].error:
            notes.print(f"{str(hook.id)[:13]}: {said}", style="yellow", markup=False)


def _to(said: str) -> Told:
    return lambda ask, _: "\n".join(f"{receiver}: {said}" for receiver in ask.receivers)


app.command("add")(act("webhooks-add", lambda ask, _: f"{ask.url}: events are sent from now on"))
app.command("test")(act("webhooks-test", lambda _, done: f"{done.count} took it"))
app.command("pause")(act("receivers-pause", _to("paused, events wait")))
app.command("resume")(act("receivers-resume", _to("goes on")))
app.command("replay")(act("receivers-replay", lambda _, done: f"{done.count} are sent again"))
app.command("rotate")(act("webhooks-rotate", lambda _, done: "the old secret signs, too, for a day"))
app.command("remove")(act("webhooks-remove", _to("removed")))
