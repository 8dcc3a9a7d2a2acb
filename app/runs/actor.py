"""An agent and its knowledge at the start of its run."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import func, select, true

from app import controls
from app.admission.controller import Place
from app.agents import profiles
from app.agents.activities import Facts, is_visit_due
from app.agents.prompts import Author
from app.community import feed, publish
from app.community.feed import FeedPost
from app.controls import Controls
from app.db import borrowed
from app.models import Agent, Community
from app.models import Controls as ControlsRow
from app.models.agents import PHASES
from app.runs import leases
from app.runs.leases import Claim
from app.runs.services import Services
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
    own_posts: list[str]
    """Its last few, newest first."""
    to_vote_on: list[UUID]
    to_comment: tuple[FeedPost, ...]
    """Others' newest posts in its community that it has not voted on, and not commented on."""
    done: frozenset[str]
    attempts: dict[str, int]
    """The number of each step's latest attempt; who holds the run counts on."""
    commented: set[UUID] = field(default_factory=set)
    """Posts that this turn has turned to, so that a second comment takes another one."""


_TAKEN = leases.claiming().cte("taken")
_AGENT = _TAKEN.c.agent_id
_BEGIN = Statement(
    select(
        *_TAKEN.c,
        Agent.handle,
        Agent.display_name,
        Community.name,
        Agent.persona,
        Agent.community_id,
        Agent.state,
        Agent.welcomed_at,
        Agent.daily_tokens,
        Agent.phase,
        Agent.style_source,
        Agent.x_handle,
        Agent.welcome_tries,
        Community.budget_day_micros,
        Community.budget_month_micros,
        func.coalesce(Agent.visited_at, Agent.created_at),
        feed.latest_post_at(Agent.community_id, _TAKEN.c.created_at, _TAKEN.c.id),
        publish.kinds_of_posts(_TAKEN.c.id),
        publish.slots_of_comments(_TAKEN.c.id),
        feed.own_recent_posts(_AGENT),
        feed.posts_to_vote_on(_AGENT, Agent.community_id),
        feed.posts_to_comment(_AGENT, Agent.community_id),
        *controls.columns,
    )
    .join_from(_TAKEN, Agent, Agent.id == _AGENT)
    .join(Community, Community.id == Agent.community_id)
    .join(ControlsRow, true(), isouter=True)
)
"""All that a run begins with in one statement: every run does it."""
_CLAIM_FIELDS = len(_TAKEN.c)


class _Known(NamedTuple):
    """Columns that the statement selects after the claim; `controls` is None when there are none yet."""

    handle: str
    display_name: str
    community: str
    persona: str
    community_id: UUID
    state: str
    welcomed_at: datetime | None
    daily_tokens: int | None
    phase: int
    style_source: str | None
    x_handle: str | None
    welcome_tries: int
    budget_day_micros: int
    budget_month_micros: int
    visited_at: datetime
    latest_post_at: datetime | None
    kinds: list[str]
    slots: list[int]
    own_posts: list[str]
    to_vote_on: list[UUID]
    to_comment: list[list[str]]


_KNOWN_FIELDS = _CLAIM_FIELDS + len(_Known._fields)


def take_turn(services: Services, run_id: UUID, worker: str) -> Actor | None:
    """Take a queued run (app.runs.leases.claim) and read all about its agent; None if the run is held,
    snoozed, ended or unknown.

    Decision inputs are read as of the moment the run was opened, so that a resumed run decides the same.
    """
    lease = timedelta(seconds=services.settings.worker.lease_s)
    with borrowed(services.autocommit) as connection:
        row = _BEGIN.first(connection, run_id=run_id, lease=lease, holder=worker)
    if row is None:
        return None
    held, known = Claim(*row[:_CLAIM_FIELDS]), _Known(*row[_CLAIM_FIELDS:_KNOWN_FIELDS])
    rules = row[_KNOWN_FIELDS:]
    activity = services.settings.activity
    in_force = _first_controls(services) if rules[0] is None else controls.made(rules)
    done = publish.steps_done(known.kinds, known.slots)
    quiet = held.opened_at - known.latest_post_at if known.latest_post_at else None
    posts_left, comments_left = _room(services, held, in_force)
    facts = Facts(
        is_welcomed=(known.welcomed_at is not None or known.welcome_tries >= publish.WELCOME_TRIES)
        and "welcome" not in done,
        quiet=quiet if activity.post_quiet_s else None,
        is_visit_due=held.cycle_at is not None
        and is_visit_due(known.visited_at, held.opened_at, known.phase / PHASES, activity),
        is_style_due=_is_style_due(services, known.style_source),
        paused=frozenset(in_force.paused_activities),
        posts_left=posts_left,
        comments_left=comments_left,
    )
    return Actor(
        claim=held,
        author=Author(known.handle, known.display_name, known.community, known.persona),
        place=Place(known.community_id, known.budget_day_micros, known.budget_month_micros),
        state=known.state,
        facts=facts,
        quota=known.daily_tokens,
        style_source=known.style_source,
        x_handle=known.x_handle,
        controls=in_force,
        own_posts=known.own_posts,
        to_vote_on=known.to_vote_on,
        to_comment=feed.feed_posts(known.to_comment),
        done=done,
        attempts=_attempts_made(services, held),
    )


def _first_controls(services: Services) -> Controls:
    with services.engine.begin() as connection:
        return controls.read_controls(connection, services.settings.controls)


def _is_style_due(services: Services, style_source: str | None) -> bool:
    if style_source is None or services.sources.twitterapi is None:
        return False
    with services.engine.connect() as connection:
        return profiles.is_due(connection, style_source)


def _attempts_made(services: Services, held: Claim) -> dict[str, int]:
    """Steps that earlier attempts of the run tried; the first has nothing to ask for."""
    if held.attempt == 1:
        return {}
    with services.engine.connect() as connection:
        return calls.attempts_made(connection, held.agent_id, held.run_id, held.opened_at)


def _room(services: Services, held: Claim, rules: Controls) -> tuple[int | None, int | None]:
    """How many posts and comments the agent's caps leave; None where there is no cap."""
    caps = ((rules.posts_per_hour, rules.posts_per_day), (rules.comments_per_hour, rules.comments_per_day))
    if not any(cap for pair in caps for cap in pair):
        return None, None
    with services.engine.connect() as connection:
        lately = feed.written_lately(connection, held.agent_id, held.opened_at, held.run_id)
    written = ((lately.posts_hour, lately.posts_day), (lately.comments_hour, lately.comments_day))
    posts, comments = (
        min((cap - count for cap, count in zip(pair, counts, strict=True) if cap), default=None)
        for pair, counts in zip(caps, written, strict=True)
    )
    return posts, comments
