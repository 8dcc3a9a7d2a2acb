"""`paceline content`: what agents wrote, and a person's word about it."""

from typing import Annotated

import typer

from app.cli.acting import act
from app.cli.connect import database
from app.cli.output import data, notes, print_json
from app.community.review import count_by_state, list_content
from app.models import ContentState
from app.settings import get_settings

app = typer.Typer(help="What agents wrote: look, approve, reject, hide.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]


@app.command("list")
def show(
    state: Annotated[ContentState | None, typer.Option(help="Only these")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 20,
    as_json: AsJson = False,
) -> None:
    """List posts and comments, the newest first; `--state pending` is what waits for approval."""
    with database(get_settings()) as engine, engine.connect() as connection:
        found = list_content(connection, state=state, limit=limit)
        counts = count_by_state(connection)
    if as_json:
        print_json({"content": found, "not_published": counts})
        return
    for item in found:
        note = f" ({item.note})" if item.note else ""
        data.print(
            f"{item.id}  {item.created_at:%Y-%m-%d %H:%M:%S}  {item.kind} by {item.agent} in "
            f"{item.community}: {item.state}{note}",
            markup=False,
        )
        data.print(f"    {item.body}", markup=False)
        if item.dropped:
            data.print(f"    invisible characters were taken out: {item.dropped}", markup=False)
    if not found:
        notes.print("nothing there")
    if counts:
        notes.print(", ".join(f"{count} {name}" for name, count in sorted(counts.items())))


for verb in ("approve", "reject", "hide"):
    app.command(verb)(act(f"content-{verb}"))
