"""What can be done from the pages and the JSON API: for each act its form, whom it affects, who may do it.

A page asks first, with the number it affects and for a reason; a POST does it. The JSON API takes the same
fields. The verbs are those of app.acts, which the command line uses, too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from app import acts
from app.actions import inputs
from app.acts import Desk, Who
from app.admission.limits import read_limits
from app.agents import roster
from app.controls import read_controls
from app.errors import ConfigError
from app.integration.standing import read_standing
from app.models import Agent, AgentState, Comment, Community, Post, Role, Run
from app.money import short_dollars
from app.runs.states import OPEN
from app.web.forms import plain

Given = Mapping[str, Sequence[str]]
SHOWN = 12


@dataclass(frozen=True, slots=True)
class Deed:
    """One act. `do` returns how many it was done to."""

    name: str
    title: str
    role: Role
    ask: type[inputs.Input]
    affects: Callable[[Desk, Connection, Given], str]
    do: Callable[[Desk, Any, Who], int]
    back: str
    """The page that one comes back to."""
    cli: str
    """The same on the command line."""
    present: Callable[[Desk, Connection], dict[str, Any]] = lambda _desk, _connection: {}
    """What the form is filled with."""
    hidden: tuple[str, ...] = ()
    needs: Callable[[Desk, Any], Role] | None = None
    """The role that these very fields need, where some need a higher one."""

    def role_for(self, desk: Desk, ask: inputs.Input) -> Role:
        """The role that it takes to do this."""
        return self.needs(desk, ask) if self.needs else self.role


def _fleet(_: Desk, connection: Connection, __: Given) -> str:
    agents = select(func.count()).where(Agent.state == AgentState.ACTIVE).scalar_subquery()
    runs = select(func.count()).select_from(Run).where(Run.state.in_(OPEN)).scalar_subquery()
    found = connection.execute(select(agents, runs)).one()
    return f"{found[0]:,} active agents, and {found[1]:,} runs that are open now."


def _agents(_: Desk, connection: Connection, given: Given) -> str:
    found, unknown = set(), []
    for handle in dict.fromkeys(given.get("agents", ())):
        agent_id = roster.find_agent(connection, handle.replace("\x00", ""))
        found.add(agent_id) if agent_id else unknown.append(handle)
    query = select(Agent.handle).where(Agent.id.in_(found)).order_by(Agent.handle).limit(SHOWN)
    names = list(connection.execute(query).scalars())
    noun = "agent" if len(found) == 1 else "agents"
    more = " ..." if len(found) > SHOWN else ""
    said = f"{len(found):,} {noun}{': ' if names else ''}{', '.join(names)}{more}."
    return said + (f" Unknown: {', '.join(unknown[:SHOWN])}." if unknown else "")


def _content(_: Desk, connection: Connection, given: Given) -> str:
    try:
        ids = inputs.ChooseContent.model_validate({"ids": given.get("ids", ()), "reason": "."}).ids
    except ValueError:
        return "nothing: no post or comment has such an id."
    bodies: list[str] = []
    for table in (Post, Comment):
        bodies += connection.execute(select(table.body).where(table.id.in_(ids))).scalars().all()
    shown = " / ".join(bodies[:SHOWN])
    return f"{len(bodies):,} of {len(set(ids)):,} texts: {shown}"


def _budget(desk: Desk, connection: Connection, given: Given) -> str:
    limits = read_limits(connection, desk.settings.limits)
    names = list(
        connection.execute(select(Community.name).order_by(Community.name).limit(SHOWN)).scalars()
    )
    return (
        f"the fleet, whose budgets are {_limit(limits.budget_day_micros)} per day and "
        f"{_limit(limits.budget_month_micros)} per month; or one community: {', '.join(names)}."
    )


def _limit(micros: int) -> str:
    return short_dollars(micros) if micros else "no limit"


def _runs(_: Desk, connection: Connection, given: Given) -> str:
    try:
        ids = inputs.ChooseRuns.model_validate({"runs": given.get("runs", ()), "reason": "."}).runs
    except ValueError:
        return "nothing: no run has such an id."
    query = select(func.count()).where(Run.id.in_(ids), Run.state.in_(OPEN))
    return f"{connection.execute(query).scalar_one():,} open of {len(set(ids)):,} runs."


def _receivers(_: Desk, connection: Connection, given: Given) -> str:
    wanted = set(given.get("receivers", ()))
    found = [one for one in read_standing(connection) if one.id in wanted]
    shown = "; ".join(f"{one.where}: {one.pending} wait, {one.dead} dead" for one in found[:SHOWN])
    return f"{shown}." if found else "nothing: there is no such receiver."


def _channels(desk: Desk, _: Connection, __: Given) -> str:
    return f"{len(desk.settings.alerts.urls)} channels, which get a message."


def _limits_now(desk: Desk, connection: Connection) -> dict[str, Any]:
    limits = read_limits(connection, desk.settings.limits)
    return {name: plain(getattr(limits, name)) for name in _own_fields(inputs.SetLimits)}


def _controls_now(desk: Desk, connection: Connection) -> dict[str, Any]:
    controls = read_controls(connection, desk.settings.controls)
    return {name: plain(getattr(controls, name)) for name in _own_fields(inputs.SetControls)}


def _own_fields(ask: type[inputs.Input]) -> list[str]:
    return [name for name in ask.model_fields if name != "reason"]


def _set_limits(desk: Desk, ask: inputs.SetLimits, who: Who) -> int:
    if not ask.changes:
        raise ConfigError("nothing to change")
    acts.set_limits(desk, ask.changes, who, version=ask.version)
    return 1


def _set_controls(desk: Desk, ask: inputs.SetControls, who: Who) -> int:
    if not ask.changes:
        raise ConfigError("nothing to change")
    acts.set_controls(desk, ask.changes, who, version=ask.version)
    return 1


def _set_budget(desk: Desk, ask: inputs.SetBudget, who: Who) -> int:
    changes = ask.in_micros
    if not changes:
        raise ConfigError("nothing to change: give dollars per day or per month")
    acts.set_budgets(desk, ask.community, changes, who)
    return 1


def _pause(desk: Desk, ask: inputs.Pause, who: Who) -> int:
    acts.pause(desk, ask.minutes, who, until=ask.until)
    return 1


def _resume(desk: Desk, _: inputs.Resume, who: Who) -> int:
    acts.resume(desk, who)
    return 1


def _role_for_controls(_: Desk, ask: inputs.SetControls) -> Role:
    """What happens over a budget is a question of money, as the budget is."""
    return Role.OPERATOR if ask.over_budget is None else Role.ADMIN


def _role_for_quota(desk: Desk, ask: inputs.SetQuota) -> Role:
    """A quota above the fleet's undoes a limit that only an administrator sets; a smaller one does not."""
    if ask.tokens is None:
        return Role.OPERATOR
    with desk.engine.begin() as connection:
        of_fleet = read_limits(connection, desk.settings.limits).agent_daily_tokens
    is_within = not of_fleet or 0 < ask.tokens <= of_fleet
    return Role.OPERATOR if is_within else Role.ADMIN


def _decide(decision: str) -> Callable[[Desk, inputs.ChooseContent, Who], int]:
    return lambda desk, ask, who: acts.decide_content(desk, decision, ask.ids, who)


_AGENTS: dict[str, Any] = {"affects": _agents, "back": "/agents", "hidden": ("agents",)}
_CONTENT: dict[str, Any] = {
    "ask": inputs.ChooseContent,
    "affects": _content,
    "back": "/feed",
    "hidden": ("ids",),
}

DEEDS = (
    Deed("pause", "Pause the fleet", Role.OPERATOR, inputs.Pause, _fleet, _pause, "/",
         "paceline pause --for MINUTES --until MOMENT --reason WHY"),
    Deed("resume", "Resume the fleet", Role.OPERATOR, inputs.Resume, _fleet, _resume, "/",
         "paceline resume --reason WHY"),
    Deed("limits", "Change limits", Role.ADMIN, inputs.SetLimits, _fleet, _set_limits, "/limits",
         "paceline limits set --rate 6 --reason WHY", _limits_now, ("version",)),
    Deed("budget", "Set a budget", Role.ADMIN, inputs.SetBudget, _budget, _set_budget, "/limits",
         "paceline budget set --day 5 --month 90 --community NAME --reason WHY"),
    Deed("controls", "Change controls", Role.OPERATOR, inputs.SetControls, _fleet, _set_controls, "/limits",
         "paceline controls set --dry-run --reason WHY", _controls_now, ("version",), _role_for_controls),
    Deed("agents-pause", "Pause agents", Role.OPERATOR, inputs.ChooseAgents,
         cli="paceline agents pause HANDLE",
         do=lambda desk, ask, who: acts.pause_agents(desk, ask.agents, who), **_AGENTS),
    Deed("agents-resume", "Resume agents", Role.OPERATOR, inputs.ChooseAgents,
         cli="paceline agents resume HANDLE",
         do=lambda desk, ask, who: acts.resume_agents(desk, ask.agents, who), **_AGENTS),
    Deed("agents-quota", "Set a daily quota", Role.OPERATOR, inputs.SetQuota,
         cli="paceline agents quota HANDLE TOKENS",
         do=lambda desk, ask, who: acts.set_quota(desk, ask.agents, ask.tokens, who),
         needs=_role_for_quota, **_AGENTS),
    Deed("agents-run", "Run agents now", Role.OPERATOR, inputs.ChooseAgents,
         cli="paceline dispatch HANDLE --wait",
         do=lambda desk, ask, who: len(acts.start_runs(desk, ask.agents, who)),
         **_AGENTS | {"back": "/runs"}),
    Deed("runs-cancel", "Cancel runs", Role.OPERATOR, inputs.ChooseRuns, _runs,
         lambda desk, ask, who: acts.cancel_runs(desk, ask.runs, who), "/runs", "paceline runs cancel ID",
         hidden=("runs",)),
    Deed("content-approve", "Publish", Role.OPERATOR, do=_decide("approve"),
         cli="paceline content approve ID", **_CONTENT),
    Deed("content-reject", "Reject", Role.OPERATOR, do=_decide("reject"), cli="paceline content reject ID",
         **_CONTENT),
    Deed("content-hide", "Hide", Role.OPERATOR, do=_decide("hide"), cli="paceline content hide ID",
         **_CONTENT),
    Deed("receivers-pause", "Pause receivers", Role.OPERATOR, inputs.ChooseReceivers, _receivers,
         lambda desk, ask, who: acts.set_receivers(desk, ask.receivers, is_active=False, who=who),
         "/application", "paceline app pause; paceline webhooks pause ID", hidden=("receivers",)),
    Deed("receivers-resume", "Let receivers go on", Role.OPERATOR, inputs.ChooseReceivers, _receivers,
         lambda desk, ask, who: acts.set_receivers(desk, ask.receivers, is_active=True, who=who),
         "/application", "paceline app resume; paceline webhooks resume ID", hidden=("receivers",)),
    Deed("receivers-replay", "Send dead letters again", Role.OPERATOR, inputs.ChooseReceivers, _receivers,
         lambda desk, ask, who: acts.replay_receivers(desk, ask.receivers, who),
         "/application", "paceline app replay; paceline webhooks replay ID", hidden=("receivers",)),
    Deed("alerts-test", "Send a test message", Role.OPERATOR, inputs.TestAlerts, _channels,
         lambda desk, _, who: acts.test_alerts(desk, who), "/alerts", "paceline alerts test"),
)  # fmt: skip
