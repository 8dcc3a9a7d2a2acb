"""`paceline audit`: are the books right?"""

from typing import Annotated

import typer

from app.cli.connect import database
from app.cli.output import data, print_json
from app.errors import PacelineError
from app.gateway.tally import SandboxTally
from app.integration.deliver import compare
from app.runs.books import Books, audit
from app.settings import get_settings
from app.wiring import build, find_addresses


def audit_books(as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False) -> None:
    """Compare the gateway's tally, the ledger, Redis and the application; every difference is a number."""
    settings = get_settings()
    with database(settings) as here:  # says what is missing before anything else is tried
        application = compare(settings, here)
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
        print_json({"total": books.total, **vars(books), "application": application})
    else:
        _show(books, application)
    if books.total:
        raise PacelineError(f"the books differ in {books.total} places")
    if left := sum(n for what, n in (application or {}).items() if what.endswith("_still_there")):
        raise PacelineError(
            f"{left} texts are hidden here and shown in the application: `paceline app check`"
        )


def _show(books: Books, application: dict[str, int] | None) -> None:
    data.print(f"gateway  {books.gateway}; {books.gateway_requests} requests")
    data.print(f"ledger   {books.ledger_rows} rows, {books.in_flight} in flight")
    data.print(f"redis    {books.redis}")
    data.print()
    for name, count in books.differences.items():
        style = "red" if count else "green"
        data.print(f"  [{style}]{count:>6}[/]  {name.replace('_', ' ')}")
    for name, count in books.uncertain.items():
        data.print(f"  [dim]{count:>6}  {name.replace('_', ' ')} (not a difference)[/]")
    for what, count in (application or {}).items():
        is_theirs = what.endswith("_not_there")  # their people may have removed it
        style, note = ("dim", " (removed there, or lost)") if is_theirs else ("red", "")
        style = style if count else "green"
        data.print(f"  [{style}]{count:>6}[/]  application: {what.replace('_', ' ')}{note if count else ''}")
    data.print()
    for detail in books.details:
        data.print(f"  {detail}", markup=False)
    data.print("the books are equal" if not books.total else f"{books.total} differences")
