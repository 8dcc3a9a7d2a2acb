"""What an agent is and knows at the start of its run."""

from dataclasses import dataclass

from sqlalchemy import Connection, DateTime, Uuid, bindparam, func, select, true

from app import controls
from app.admission.controller import Place
from app.agents import profiles
from app.agents.activities import Facts, is_visit_due
from app.agents.prompts import Author
from app.community import feed, publish
from app.controls import Controls
from app.models import Agent, Community
from app.models import Controls as ControlsRow
from app.models.agents import PHASES
from app.runs.leases import Claim
from app.settings import Settings
from app.statements import Statement
from app.usage import calls


@dataclass(frozen=True, slots=True)
class Actor:
    """The agent whose turn it is. `done` are the steps that an earlier attempt of the run stored."""

    claim: Claim
    author: Author
    place: Place
    state: str
    facts: Facts
    quota: int | None
    style_source: str | None
    x_handle: str | None
    controls: Controls
    done: frozenset[str]
    attempts: dict[str, int]
    """The number of each step's latest attempt; who holds the run counts on."""


_RUN, _OPENED = bindparam("run_id", type_=Uuid()), bindparam("opened_at", type_=DateTime(True))
_READ = Statement(
    select(
        Agent.handle, Agent.display_name, Community.name, Agent.persona, Agent.community_id,
        Agent.state, Agent.welcomed_at, Agent.daily_tokens, Agent.phase, Agent.style_source,
        Agent.x_handle, Community.budget_day_micros, Community.budget_month_micros,
        func.coalesce(Agent.visited_at, Agent.created_at),
        feed.latest_post_at(Agent.community_id, _OPENED, _RUN),
        publish.kinds_of_posts(_RUN), publish.slots_of_comments(_RUN), *controls.columns,
    )
    .join(Community, Community.id == Agent.community_id)
    .join(ControlsRow, true(), isouter=True)
    .where(Agent.id == bindparam("agent_id", type_=Uuid()))
)  # fmt: skip
"""All in one statement, because every run begins with it."""


def read_actor(
    connection: Connection, held: Claim, settings: Settings, *, can_learn: bool
) -> Actor:
    """Read it all, as seen from the moment the run was opened: a resumed run must decide what the first
    one did. `can_learn`: there is a source of styles.
    """
    (
        handle, display_name, community, persona, community_id, state, welcomed_at, daily_tokens, phase,
        style_source, x_handle, budget_day, budget_month, visited_at, latest, kinds, slots, *found,
    ) = _READ.one(
        connection, run_id=held.run_id, agent_id=held.agent_id, opened_at=held.opened_at
    )  # fmt: skip
    # The first run of all finds no controls yet.
    in_force = (
        controls.read_controls(connection, settings.controls)
        if found[0] is None
        else controls.made(found)
    )
    done = publish.steps_done(kinds, slots)
    quiet = held.opened_at - latest if latest and settings.activity.post_quiet_s else None
    posts_left, comments_left = _room(connection, held, in_force)
    visit_due = held.cycle_at is not None and is_visit_due(
        visited_at, held.opened_at, phase / PHASES, settings.activity
    )
    facts = Facts(
        is_welcomed=welcomed_at is not None and "welcome" not in done,
        quiet=quiet,
        is_visit_due=visit_due,
        is_style_due=bool(can_learn and style_source and profiles.is_due(connection, style_source)),
        paused=frozenset(in_force.paused_activities),
        posts_left=posts_left,
        comments_left=comments_left,
    )
    attempts = (
        calls.attempts_made(connection, held.agent_id, held.run_id, held.opened_at)
        if held.attempt > 1
        else {}
    )
    return Actor(
        claim=held,
        author=Author(handle, display_name, community, persona),
        place=Place(community_id, budget_day, budget_month),
        state=state,
        facts=facts,
        quota=daily_tokens,
        style_source=style_source,
        x_handle=x_handle,
        controls=in_force,
        done=done,
        attempts=attempts,
    )


def _room(connection: Connection, held: Claim, rules: Controls) -> tuple[int | None, int | None]:
    """How many posts and comments the agent's caps leave; None where there is no cap."""
    caps = (
        (rules.posts_per_hour, rules.posts_per_day),
        (rules.comments_per_hour, rules.comments_per_day),
    )
    if not any(cap for pair in caps for cap in pair):
        return None, None
    lately = feed.written_lately(connection, held.agent_id, held.opened_at, held.run_id)
    written = (
        (lately.posts_hour, lately.posts_day),
        (lately.comments_hour, lately.comments_day),
    )
    posts, comments = (
        min((cap - count for cap, count in zip(pair, counts, strict=True) if cap), default=None)
        for pair, counts in zip(caps, written, strict=True)
    )
    return posts, comments
