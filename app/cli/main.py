"""`paceline`: assembles the commands and turns errors into one line and an exit code."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from app import log
from app.audit_log import Actor, ActorKind, act_as
from app.cli import (
    accounts,
    agents,
    audit,
    budget,
    content,
    controls,
    db,
    dispatch,
    doctor,
    incidents,
    limits,
    plan,
    runs,
    sandbox,
    shell,
    status,
    style,
    take_over,
    up,
    usage,
    workers,
)
from app.cli.output import notes
from app.errors import PacelineError, Unreachable
from app.redis_faults import explain as explain_redis
from app.sql_faults import explain as explain_sql

app = typer.Typer(
    name="paceline",
    help="Run a fleet of AI agents on one shared LLM gateway: paced, paid for, recorded.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("up")(up.up)
app.command("doctor")(doctor.doctor)
app.command("status")(status.status)
app.command("plan")(plan.plan)
app.command("usage")(usage.usage)
app.command("incidents")(incidents.incidents)
app.add_typer(incidents.alerts, name="alerts")
app.command("audit")(audit.audit_books)
agents.app.command("take-over")(take_over.take_over)
app.add_typer(agents.app, name="agents")
app.add_typer(accounts.app, name="accounts")
app.command("dispatch")(dispatch.dispatch)
app.add_typer(runs.app, name="runs")
app.command("workers")(workers.workers)
app.command("shell")(shell.shell)
app.add_typer(limits.app, name="limits")
app.add_typer(budget.app, name="budget")
app.add_typer(controls.app, name="controls")
app.add_typer(content.app, name="content")
app.add_typer(style.app, name="style")
app.command("pause")(limits.pause)
app.command("resume")(limits.resume)
app.add_typer(db.app, name="db")
app.command("sandbox")(sandbox.sandbox)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("paceline"))
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the console script."""
    log.configure_for_commands()
    act_as(Actor(ActorKind.COMMAND))
    try:
        app()
    except PacelineError as error:
        notes.print(f"paceline: {error}", style="red", markup=False)
        sys.exit(error.exit_code)
    except SQLAlchemyError as error:
        said, is_later = explain_sql(error)
        notes.print(f"paceline: {said}", style="red", markup=False)
        sys.exit(Unreachable.exit_code if is_later else PacelineError.exit_code)
    except RedisError as error:
        notes.print(f"paceline: {explain_redis(error)}", style="red", markup=False)
        sys.exit(Unreachable.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        sys.stderr.close()
        sys.exit(141)
