"""`paceline agents`: the fleet's roster."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from app.actions import agents
from app.actions.inputs import given
from app.agents import roster
from app.agents.roster_file import read_roster
from app.cli.acting import Told, act
from app.cli.connect import database, desk, me
from app.cli.output import data, notes, print_json, progress, shorten
from app.cli.take_over import take_over
from app.clock import utcnow
from app.errors import ConfigError, NotFound, PacelineError
from app.runs.explain import explain
from app.runs.report import runs_of_agent
from app.runs.stops import look
from app.settings import get_settings
from app.wiring import build

app = typer.Typer(help="The agents of the fleet.", no_args_is_help=True)

PROBLEMS_SHOWN = 50


@app.command("import")
def import_agents(
    file: Annotated[Path, typer.Argument(help="CSV with handle,display_name,community,persona; or JSON")],
    partial: Annotated[
        bool, typer.Option("--partial", help="Import the good lines even if others are bad")
    ] = False,
    delimiter: Annotated[
        str | None, typer.Option(help="What separates columns; default: as the first line shows")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Like cp1252; default: UTF-8 or UTF-16, as the file shows")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Add agents from a file, or bring known handles up to date. Safe to repeat."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise NotFound(f"cannot read {file}: {error.strerror}") from None
    is_json = file.suffix.lower() == ".json"
    separator = "\t" if delimiter in ("tab", "\\t") else delimiter
    parsed = read_roster(content, is_json=is_json, delimiter=separator, encoding=encoding)
    if parsed.ignored_columns:
        notes.print(f"ignored columns: {', '.join(parsed.ignored_columns)}", markup=False)
    problems = [{"line": problem.line, "reason": problem.reason} for problem in parsed.problems]
    refused = bool(problems) and not (partial and parsed.entries)
    if not as_json:
        for problem in problems[:PROBLEMS_SHOWN]:
            notes.print(f"line {problem['line']}: {problem['reason']}", style="red", markup=False)
        if len(problems) > PROBLEMS_SHOWN:
            notes.print(f"... and {len(problems) - PROBLEMS_SHOWN} more")
    if refused:
        if as_json:
            print_json({"created": 0, "updated": 0, "unchanged": 0, "problems": problems})
        hint = " (--partial imports the good ones)" if parsed.entries else ""
        raise PacelineError(f"{len(problems)} bad lines in {file}, nothing imported{hint}")
    with (
        database(get_settings()) as engine,
        engine.begin() as connection,
        progress("importing", len(parsed.entries)) as advance,
    ):
        done = roster.add_agents(connection, parsed.entries, advance)
    if as_json:
        counts = {"created": done.created, "updated": done.updated, "unchanged": done.unchanged}
        print_json({**counts, "problems": problems})
    else:
        data.print(f"{done.created} created, {done.updated} updated, {done.unchanged} unchanged")


@app.command("add")
def add(
    handle: Annotated[str, typer.Argument(help="Letters, digits and _")],
    name: Annotated[str, typer.Option(help="As others see it")],
    community: Annotated[str, typer.Option(help="Where it lives; made when there is none")],
    persona: Annotated[str, typer.Option(help="Who it is, in the words of its prompts")],
    style_source: Annotated[
        str | None, typer.Option(help="User on X whose way of writing it takes on")
    ] = None,
    x_handle: Annotated[str | None, typer.Option(help="Its own account on X")] = None,
) -> None:
    """Add one agent, or bring it up to date."""
    fields = {
        "handle": handle,
        "display_name": name,
        "community": community,
        "persona": persona,
        "style_source": style_source,
        "x_handle": x_handle,
    }
    parsed = read_roster(json.dumps([fields]).encode(), is_json=True)
    if parsed.problems:
        raise ConfigError("; ".join(problem.reason for problem in parsed.problems))
    with database(get_settings()) as engine, engine.begin() as connection:
        done = roster.add_agents(connection, parsed.entries)
    what = "created" if done.created else "updated" if done.updated else "unchanged"
    data.print(f"{parsed.entries[0].handle}: {what}", markup=False)


@app.command("show")
def show(
    handle: Annotated[str, typer.Argument(help="Handle or id of the agent")],
    limit: Annotated[int, typer.Option(help="Latest runs to show", min=1, max=1_000)] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Show one agent: who it is, and its latest runs with what came of them."""
    with database(get_settings()) as engine, engine.connect() as connection:
        roster.find_known(connection, handle)
        found = roster.show_agent(connection, handle)
        assert found is not None
        runs = runs_of_agent(connection, found.id, limit)
    if as_json:
        print_json({"agent": found, "runs": runs})
        return
    for name, value in asdict(found).items():
        if value is not None:
            data.print(f"{name.replace('_', ' '):<13} {value}", markup=False)
    for run in runs:
        said = run.post or run.reason or ""
        data.print(
            f"{run.created_at:%Y-%m-%d %H:%M:%S}  {run.origin:<6} {run.state:<10} "
            f"{run.comments} comments  {shorten(said, 80)}",
            markup=False,
        )


@app.command("list")
def list_agents(
    search: Annotated[str, typer.Option(help="Part of a handle or name")] = "",
    after: Annotated[str, typer.Option(help="Start behind this handle")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 1_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """List agents by handle."""
    with database(get_settings()) as engine, engine.connect() as connection:
        found = roster.list_agents(connection, after=after, limit=limit, search=search)
        total = roster.count_agents(connection)
    if as_json:
        print_json({"agents": found, "total": total})
        return
    if not found:
        notes.print("no agents: paceline agents import examples/roster.csv" if not total else "none")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("HANDLE", "NAME", "COMMUNITY", "STATE", "LAST RUN (UTC)"):
        table.add_column(column, no_wrap=True)
    for agent in found:
        last = f"{agent.last_run_at:%Y-%m-%d %H:%M:%S}" if agent.last_run_at else "never"
        name, community = shorten(agent.display_name, 28), shorten(agent.community, 24)
        table.add_row(agent.handle, name, community, agent.state, last)
    data.print(table)
    if len(found) < total and not search:
        notes.print(f"{len(found)} of {total}; more: --after {found[-1].handle}")


@app.command("explain")
def explain_agent(
    handle: Annotated[str, typer.Argument(help="Handle or id of the agent")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Say why an agent has not run, or when it will."""
    settings = get_settings()
    with database(settings) as engine, engine.connect() as connection:
        agent_id = roster.find_known(connection, handle)
    services = build(settings, needs_gateway=False)
    try:
        found = explain(services, agent_id, utcnow())
    finally:
        services.close()
    if as_json:
        print_json(found)
        return
    data.print(f"[bold]{found.agent}[/]: ", end="")
    data.print(found.answer, markup=False)
    for finding in found.findings:
        mark = "[red]x[/]" if finding.stops else "[green]+[/]"
        data.print(f"  {mark} {finding.about:<10} ", end="")
        data.print(finding.says, markup=False)


@app.command("quota")
def quota(
    handle: Annotated[str, typer.Argument(help="Handle or id of the agent")],
    tokens: Annotated[str, typer.Argument(help="LLM tokens per day; 0: no limit; default: the fleet's")],
    reason: Annotated[str, typer.Option(help="Why; goes into the audit log")] = "",
) -> None:
    """Give an agent a daily quota of its own."""
    if tokens != "default" and not tokens.isdigit():
        raise ConfigError(f"{tokens!r} is neither a number of tokens nor `default`")
    value = None if tokens == "default" else int(tokens)
    ask = given(agents.SetQuota, reason, agents=[handle], tokens=value)
    settings = get_settings()
    with database(settings) as engine:
        at = desk(settings, engine)
        least = look(at.admission, settings, engine).asked.call_tokens
        agents.set_quota(at, ask, me(reason))
    said = {None: "the fleet's quota", 0: "no limit"}.get(
        value, f"{value:,} LLM tokens a day" if value else ""
    )
    data.print(f"{handle}: {said}", markup=False)
    if value and value < least:
        notes.print(
            f"a call reserves at least {least:,} LLM tokens, so {handle} will never call",
            style="yellow",
            markup=False,
        )


def _now(state: str) -> Told:
    return lambda ask, _: "\n".join(f"{handle}: {state}" for handle in ask.agents)


for verb, state in (("pause", "paused"), ("resume", "active")):
    app.command(verb)(act(f"agents-{verb}", _now(state)))
app.command("take-over")(take_over)
