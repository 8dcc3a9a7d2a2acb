"""`paceline audit`: are the books right?"""

from typing import Annotated

import typer

from app.cli.connect import database
from app.cli.output import data, print_json
from app.errors import PacelineError
from app.gateway.tally import SandboxTally
from app.runs.books import Books, audit
from app.settings import get_settings
from app.wiring import build, find_addresses


def audit_books(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Compare the gateway's tally, the ledger and Redis; every difference is a number."""
    settings = get_settings()
    with database(settings):
        pass  # says what is missing before anything else is tried
    gateway_url = find_addresses(settings).gateway_url
    services = build(settings, needs_gateway=False)
    tally = SandboxTally(gateway_url) if gateway_url else None
    try:
        books = audit(services, tally)
    finally:
        services.close()
        if tally:
            tally.close()
    if as_json:
        print_json({"total": books.total, **vars(books)})
    else:
        _show(books)
    if books.total:
        raise PacelineError(f"the books differ in {books.total} places")


def _show(books: Books) -> None:
    data.print(f"gateway  {books.gateway}; {books.gateway_requests} requests")
    data.print(f"ledger   {books.ledger_rows} rows, {books.in_flight} in flight")
    data.print(f"redis    {books.redis}")
    data.print()
    for name, count in books.differences.items():
        style = "red" if count else "green"
        data.print(f"  [{style}]{count:>6}[/]  {name.replace('_', ' ')}")
    for name, count in books.uncertain.items():
        data.print(f"  [dim]{count:>6}  {name.replace('_', ' ')} (not a difference)[/]")
    data.print()
    for detail in books.details:
        data.print(f"  {detail}", markup=False)
    data.print("the books are equal" if not books.total else f"{books.total} differences")
