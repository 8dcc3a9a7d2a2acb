"""`paceline workers`: which worker processes live, and what they have in hand."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from app.cli.output import data, notes, print_json
from app.clock import utcnow
from app.redis_client import make_redis
from app.runs.workers import list_workers
from app.settings import get_settings
from app.wiring import find_addresses


def workers(as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False) -> None:
    """List worker processes: where they run, when they were last heard of, what they have in hand."""
    client, now = make_redis(find_addresses(get_settings()).redis_url), utcnow()
    try:
        found = list_workers(client)
    finally:
        client.close()
    if as_json:
        print_json({"workers": [asdict(w) | {"is_silent": w.is_silent(now)} for w in found]})
        return
    if not found:
        notes.print("no worker was heard of: start `make up`, or `celery -A workers worker`")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("NAME", "HOST", "PID", "VERSION", "STARTED (UTC)", "RESTARTS", "HEARD", "IN HAND", "DONE"):
        table.add_column(column, no_wrap=column in ("PID", "VERSION", "IN HAND", "DONE"))
    for worker in found:
        heard = f"{(now - worker.seen_at).total_seconds():.0f} s ago"
        table.add_row(
            worker.name,
            worker.host,
            str(worker.pid),
            worker.version,
            f"{worker.started_at:%Y-%m-%d %H:%M:%S}",
            str(worker.restarts),
            heard + (", SILENT" if worker.is_silent(now) else ""),
            str(worker.in_hand),
            str(worker.done),
        )
    data.print(table)
