"""`paceline plan`: what a fleet would take, before you scale it."""

from typing import Annotated

import typer

from app.agents.activities import expected_by_kind, expected_calls
from app.bounds import RATE_MAX, RATE_MIN
from app.cli.output import data, finite, print_json
from app.clock import utcnow
from app.errors import ConfigError
from app.money import short_dollars
from app.runs.asking import models_for
from app.settings import Settings, get_settings
from app.usage.projection import Assumptions, Projection, project


def plan(
    agents: Annotated[int, typer.Option(help="How many agents", min=1, max=100_000_000)] = 100,
    calls_per_cycle: Annotated[
        float | None,
        typer.Option(
            help="Calls per agent and cycle; default: from the settings", min=0.01, max=1_000, callback=finite
        ),
    ] = None,
    tokens_in: Annotated[int, typer.Option(help="LLM tokens per prompt", min=0, max=10_000_000)] = 50,
    tokens_out: Annotated[int, typer.Option(help="LLM tokens per answer", min=0, max=10_000_000)] = 100,
    model: Annotated[
        str | None, typer.Option(help="For all calls; default: the model of each kind of request")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            help="Calls per second; default: from the settings", min=RATE_MIN, max=RATE_MAX, callback=finite
        ),
    ] = None,
    latency: Annotated[
        float, typer.Option(help="Seconds per answer", min=0, max=3_600, callback=finite)
    ] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Project calls, tokens, cost and time; exit 2 when the cap cannot serve the fleet."""
    settings = get_settings()
    period_s = settings.cycle.period_s
    given = Assumptions(
        agents=agents,
        calls_per_cycle=calls_per_cycle or expected_calls(settings.activity, period_s),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        models={model: 1.0} if model else _models(settings),
        period_s=period_s,
        rate=rate or settings.limits.rate,
        latency_s=latency,
        threads=settings.worker.threads,
    )
    found = project(given, utcnow(), settings.usage)
    if as_json:
        print_json({"projection": found, "feasible": found.is_feasible})
    else:
        _show(found)
    if not found.is_feasible:
        raise ConfigError(
            f"{agents} agents call for {found.demand_rate:.2f} calls/s and the cap is {given.rate:g}: "
            f"at most {found.largest_fleet} agents act in every {period_s:g} s cycle. With more, each "
            f"acts at least once in {found.longest_gap_cycles} cycles; raise PACELINE_LIMITS__RATE or "
            "PACELINE_CYCLE__PERIOD_S, or let agents do less"
        )


def _models(settings: Settings) -> dict[str, float]:
    """The models as they are configured, each by the calls that go to it."""
    found: dict[str, float] = {}
    for kind, calls in expected_by_kind(settings.activity, settings.cycle.period_s).items():
        if calls:
            model = models_for(kind, settings.gateway)[0]
            found[model] = found.get(model, 0.0) + calls
    return found


def _cost(costs: dict[str, int | None]) -> str:
    """Return the models' cost in 30 days, and the models without a price."""
    known = {model: micros for model, micros in costs.items() if micros is not None}
    unknown = [model for model in costs if model not in known]
    said = []
    if unknown:
        said.append(f"unknown: no price is known for {', '.join(unknown)} (set PACELINE_USAGE__PRICES)")
    if known:
        rest = "the rest " if unknown else ""
        by_model = ", ".join(f"{model} {short_dollars(micros)}" for model, micros in known.items())
        whole = short_dollars(sum(known.values()))
        by_model = f"{whole} per 30 days: {by_model}" if len(known) > 1 else f"{by_model} per 30 days"
        said.append(f"{rest}{by_model}, at today's list price")
    return "; ".join(said)


def _show(found: Projection) -> None:
    given = found.assumptions
    processes = "1 worker process" if found.workers == 1 else f"{found.workers} worker processes"
    rows = {
        "assumed": f"{given.agents:,} agents, {given.calls_per_cycle:.2f} calls each per "
        f"{given.period_s:g} s cycle, {given.tokens_in} + {given.tokens_out} tokens per call, "
        f"{given.latency_s:g} s per answer",
        "calls": f"{found.calls_cycle:,.0f} per cycle, {found.calls_hour:,.0f} per hour, "
        f"{found.calls_day:,.0f} per day, {found.calls_month:,.0f} per 30 days",
        "tokens": f"{found.tokens_in_month:,} in and {found.tokens_out_month:,} out per 30 days",
        "cost": _cost(found.costs),
        "cap": f"{found.demand_rate:.2f} of {given.rate:g} calls/s; a cycle is done after "
        f"{found.finish_s:.0f} s; room for {found.largest_fleet:,} agents",
        "workers": f"{found.calls_at_once} calls at once: {processes} of {given.threads} threads",
    }
    for name, said in rows.items():
        data.print(f"{name:<9}{said}", markup=False)
