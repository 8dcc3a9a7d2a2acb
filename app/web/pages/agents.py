"""The agents: searching, sorting, and everything about one of them."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import Connection

from app.admission.circuit import StoreAway
from app.admission.limits import read_limits
from app.agents import roster
from app.clock import utcnow
from app.community.review import list_content, verbs_by_state
from app.models import AgentState
from app.runs.explain import explain
from app.runs.report import runs_of_agent
from app.usage.periods import Span, span_start
from app.usage.ranking import read_ranking
from app.usage.reports import Group, Metric, Usage, breakdown, days_of_agent, usage_of_agents
from app.web.charts import Chart
from app.web.site import Site

PAGE = 50
RUNS, POSTS, DAYS = 30, 10, 30
FEW = 2_000
Text = Annotated[str, Query(max_length=80)]


class Sort(StrEnum):
    """Sort orders of agents; `waited`: those that ran longest ago first."""

    HANDLE = "handle"
    WAITED = "waited"
    TOKENS = "tokens"
    COST = "cost"


@dataclass(frozen=True, slots=True)
class Row:
    """An agent in the list. `quota` 0: no limit; `counted`: LLM tokens as the quota counts them, what is
    reserved included, None while Redis is away.
    """

    agent: roster.Listed | roster.Shown
    today: Usage
    quota: int
    counted: int | None


def read_rows(
    site: Site,
    connection: Connection,
    now: datetime,
    *,
    search: str,
    state: AgentState | None,
    sort: Sort,
    after: str,
    total: int,
) -> list[Row]:
    """A page of agents, of `total` that are like that, with what they used today."""
    zone = site.settings.zone
    if sort in (Sort.TOKENS, Sort.COST):
        metric = Metric.TOKENS if sort is Sort.TOKENS else Metric.COST
        used = used_most(connection, now, zone, metric, search, state, total)
        agents, by_id = [agent for agent, _ in used], {agent.id: usage for agent, usage in used}
    else:
        agents = roster.list_agents(
            connection,
            after=after,
            limit=PAGE,
            search=search,
            state=state,
            waited_longest=sort is Sort.WAITED,
        )
        by_id = usage_of_agents(connection, [agent.id for agent in agents], now, zone)
    fleet = read_limits(connection, site.settings.limits).agent_daily_tokens
    counted = count_tokens(site, [agent.id for agent in agents])
    return [
        Row(
            agent,
            by_id.get(agent.id, Usage()),
            fleet if agent.daily_tokens is None else agent.daily_tokens,
            counted.get(agent.id),
        )
        for agent in agents
    ]


def used_most(
    connection: Connection,
    now: datetime,
    zone: ZoneInfo,
    metric: Metric,
    search: str,
    state: AgentState | None,
    total: int,
) -> list[tuple[roster.Listed, Usage]]:
    """The first page of those that used most today: a few are asked about one by one; of many, the ranking
    that is ready, as far as it has enough of them; else all are summed up.
    """
    is_filtered = bool(search) or state is not None
    if is_filtered and total <= FEW:
        ids = list(connection.execute(roster.matching(search, state)).scalars())
        usage = usage_of_agents(connection, ids, now, zone)
        most = sorted(usage, key=lambda one: (-getattr(usage[one], metric), -usage[one].requests))
        first = most[:PAGE]
        return [(agent, usage[agent.id]) for agent in roster.find_listed_by_id(connection, first)]
    if not search:
        ranked = read_ranking(connection, Span.TODAY, Group.AGENT, metric, now, zone)
        used = dict(ranked.rows if ranked else ())
        found = roster.find_listed(connection, list(used), state=state) if used else []
        if len(found) >= PAGE:
            return [(agent, used[agent.handle]) for agent in found[:PAGE]]
    used = dict(
        breakdown(
            connection,
            span_start(Span.TODAY, now, zone),
            now,
            Group.AGENT,
            zone,
            PAGE,
            metric,
            among=roster.matching(search, state) if is_filtered else None,
        )
    )
    return [(agent, used[agent.handle]) for agent in roster.find_listed(connection, list(used))]


def count_tokens(site: Site, agents: list[UUID]) -> dict[UUID, int]:
    """LLM tokens of today as quotas count them; nothing while Redis is away."""
    with suppress(StoreAway):
        return site.services.admission.tokens_of(agents)
    return {}


def add(router: APIRouter, site: Site) -> None:
    """Add the list and the page of one agent."""

    @router.get("/agents")
    def agents(
        request: Request,
        search: Text = "",
        state: AgentState | str = "",
        sort: Sort = Sort.HANDLE,
        after: Text = "",
    ) -> Response:
        search, after = (value.replace("\x00", "").strip() for value in (search, after))
        wanted = AgentState(state) if state in set(AgentState) else None
        with site.engine.connect() as connection:
            if search and not after and roster.find_agent(connection, search):
                return site.go(f"/agents/{search.removeprefix('@').lower()}")
            total = roster.count_agents(connection, search, wanted)
            rows = read_rows(
                site, connection, utcnow(), search=search, state=wanted, sort=sort, after=after, total=total
            )
        is_full = len(rows) == PAGE
        return site.page(
            "agents.html",
            request,
            rows=rows,
            total=total,
            search=search,
            state=wanted,
            sort=sort,
            sorts=list(Sort),
            states=list(AgentState),
            after=after,
            is_cut=is_full and sort is not Sort.HANDLE and total > PAGE,
            next_after=rows[-1].agent.handle if is_full and sort is Sort.HANDLE else None,
        )

    @router.get("/agents/{handle}")
    def agent(request: Request, handle: str) -> HTMLResponse:
        now, zone = utcnow(), site.settings.zone
        with site.engine.connect() as connection:
            shown = roster.show_agent(connection, handle)
            if shown is None:
                return site.page(
                    "error.html",
                    request,
                    404,
                    said="There is no such agent.",
                    mend="The list of agents has a search.",
                )
            runs = runs_of_agent(connection, shown.id, RUNS)
            texts = list_content(connection, agent_id=shown.id, limit=POSTS)
            days = days_of_agent(connection, shown.id, DAYS, now, zone)
            today = usage_of_agents(connection, [shown.id], now, zone).get(shown.id, Usage())
        why = explain(site.services, shown.id, now)
        row = Row(shown, today, why.quota, count_tokens(site, [shown.id]).get(shown.id))
        chart = Chart(
            f"Cost per day, the last {DAYS} days",
            "dollars",
            [f"{day:%m-%d}" for day, _ in days],
            {"cost": [cost / 1e6 for _, cost in days]},
        )
        return site.page(
            "agent.html",
            request,
            agent=shown,
            row=row,
            runs=runs,
            content=texts,
            chart=chart,
            possible=verbs_by_state(),
            found=why,
        )
