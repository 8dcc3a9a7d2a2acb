"""What an agent is and knows at the start of its run."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from app.admission.controller import Place
from app.agents import profiles
from app.agents.activities import Facts, is_visit_due
from app.agents.prompts import Author
from app.community import feed, publish
from app.controls import Controls, read_controls
from app.models import Agent, Community
from app.models.agents import PHASES
from app.runs.leases import Claim
from app.settings import Settings


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


def read_actor(
    connection: Connection, held: Claim, settings: Settings, *, can_learn: bool
) -> Actor:
    """Read it all, as seen from the moment the run was opened: a resumed run must decide what the first
    one did. `can_learn`: there is a source of styles.
    """
    row = connection.execute(
        select(
            Agent.handle, Agent.display_name, Community.name, Agent.persona, Agent.community_id,
            Agent.state, Agent.welcomed_at, Agent.daily_tokens, Agent.phase, Agent.style_source,
            Agent.x_handle, Community.budget_day_micros, Community.budget_month_micros,
            func.coalesce(Agent.visited_at, Agent.created_at).label("visited_at"),
        )
        .join(Community, Community.id == Agent.community_id)
        .where(Agent.id == held.agent_id)
    ).one()  # fmt: skip
    done = frozenset(publish.steps_done(connection, held.run_id))
    controls = read_controls(connection, settings.controls)
    quiet = None
    if settings.activity.post_quiet_s:
        latest = feed.latest_post_at(connection, row.community_id, held.opened_at, held.run_id)
        quiet = held.opened_at - latest if latest else None
    posts_left, comments_left = _room(connection, held, controls)
    visit_due = held.cycle_at is not None and is_visit_due(
        row.visited_at, held.opened_at, row.phase / PHASES, settings.activity
    )
    facts = Facts(
        is_welcomed=row.welcomed_at is not None and "welcome" not in done,
        quiet=quiet,
        is_visit_due=visit_due,
        is_style_due=bool(
            can_learn and row.style_source and profiles.is_due(connection, row.style_source)
        ),
        paused=frozenset(controls.paused_activities),
        posts_left=posts_left,
        comments_left=comments_left,
    )
    return Actor(
        claim=held,
        author=Author(row.handle, row.display_name, row.name, row.persona),
        place=Place(row.community_id, row.budget_day_micros, row.budget_month_micros),
        state=row.state,
        facts=facts,
        quota=row.daily_tokens,
        style_source=row.style_source,
        x_handle=row.x_handle,
        controls=controls,
        done=done,
    )


def _room(connection: Connection, held: Claim, controls: Controls) -> tuple[int | None, int | None]:
    """How many posts and comments the agent's caps leave; None where there is no cap."""
    caps = (
        (controls.posts_per_hour, controls.posts_per_day),
        (controls.comments_per_hour, controls.comments_per_day),
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
