"""Activities of an agent in one run. Pure: the same seed and the same facts give the same answer.

So a run resumes after a crash: it decides the same again, and leaves out the steps
that are already stored.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from random import Random
from uuid import UUID

from app.models import VISIT_SLOT
from app.settings import ActivitySettings


class ActivityKind(StrEnum):
    """The kinds of things an agent does; also the `request_type` of their calls."""

    STYLE = "style"
    WELCOME = "welcome"
    POST = "post"
    COMMENT = "comment"
    CROSS_VISIT = "cross_visit"


@dataclass(frozen=True, slots=True)
class Activity:
    """One thing to do. `step` names it within the run and never changes."""

    kind: ActivityKind
    step: str
    slot: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts of an agent at the start of its run."""

    is_welcomed: bool
    quiet: timedelta | None
    """Since the community's latest post; None when there is none."""
    is_visit_due: bool = False
    is_style_due: bool = False
    paused: frozenset[str] = frozenset()
    posts_left: int | None = None
    """Until the agent's cap of the hour or day; None: no cap."""
    comments_left: int | None = None


def due_activities(
    rng: Random, facts: Facts, settings: ActivitySettings
) -> tuple[tuple[Activity, ...], tuple[str, ...]]:
    """A style to learn, once; a welcome the first time, else a post, unless the community was active just
    now; then each comment slot drawn once; then a visit. A post is drawn where its chance is not 1. And
    why others are left out.
    """
    drawn = [rng.random() < settings.comment_probability for _ in range(settings.comment_slots)]
    wanted: list[Activity] = []
    left_out: list[str] = []
    if facts.is_style_due:
        wanted.append(Activity(ActivityKind.STYLE, "style"))
    if not facts.is_welcomed:
        wanted.append(Activity(ActivityKind.WELCOME, "welcome"))
    elif facts.quiet is not None and facts.quiet.total_seconds() < settings.post_quiet_s:
        seconds = facts.quiet.total_seconds()
        left_out.append(f"no post: the community had one {seconds:.0f} s before")
    elif settings.post_probability < 1 and rng.random() >= settings.post_probability:
        left_out.append("no post: not drawn this time")
    else:
        wanted.append(Activity(ActivityKind.POST, "post"))
    wanted += [
        Activity(ActivityKind.COMMENT, f"comment.{slot}", slot) for slot, is_due in enumerate(drawn) if is_due
    ]
    if facts.is_visit_due:
        wanted.append(Activity(ActivityKind.CROSS_VISIT, "cross_visit", VISIT_SLOT))
    due = list(_permitted(wanted, facts, left_out))
    return tuple(due), tuple(left_out)


POSTS = (ActivityKind.WELCOME, ActivityKind.POST)


def _permitted(wanted: Sequence[Activity], facts: Facts, left_out: list[str]) -> Iterator[Activity]:
    """Those that are not paused, for as long as the agent's caps leave room."""
    posts_left, comments_left = facts.posts_left, facts.comments_left
    for activity in wanted:
        is_post = activity.kind in POSTS
        left = posts_left if is_post else comments_left
        if activity.kind in facts.paused:
            left_out.append(f"no {activity.step}: paused by `paceline controls`")
        elif activity.kind is ActivityKind.STYLE:
            yield activity
        elif left is not None and left <= 0:
            left_out.append(f"no {activity.step}: the agent's cap is reached")
        else:
            posts_left = posts_left if not is_post or posts_left is None else posts_left - 1
            comments_left = comments_left if is_post or comments_left is None else comments_left - 1
            yield activity


def choose_theme(rng: Random, themes: Mapping[str, float]) -> str:
    """Return the kind of regular post to write, drawn by weight."""
    return rng.choices(list(themes), list(themes.values()))[0]


def is_visit_due(last: datetime, now: datetime, offset: float, settings: ActivitySettings) -> bool:
    """Whether a whole interval began since the last visit. `offset`, 0 to 1, spreads the agents."""
    every_s = settings.visit_every_s
    if not every_s:
        return False
    return _interval(now, every_s, offset) > _interval(last, every_s, offset)


def _interval(moment: datetime, every_s: float, offset: float) -> int:
    return int(moment.timestamp() / every_s + offset)


def choose_post(rng: Random, candidates: Sequence[UUID]) -> UUID | None:
    """The post to comment on, or None when there is none to comment on."""
    return rng.choice(candidates) if candidates else None


def rng_for(agent_id: UUID, moment: str) -> Random:
    """The dice of one run: seeded by the agent and the cycle (ad hoc: the run)."""
    return Random(f"{agent_id}:{moment}")


def expected_by_kind(settings: ActivitySettings, period_s: float) -> dict[ActivityKind, float]:
    """Calls that an average run makes of each kind, in communities that are never too busy for a post."""
    visits = period_s / settings.visit_every_s if settings.visit_every_s else 0.0
    return {
        ActivityKind.POST: settings.post_probability,
        ActivityKind.COMMENT: settings.comment_slots * settings.comment_probability,
        ActivityKind.CROSS_VISIT: min(1.0, visits),
    }


def expected_calls(settings: ActivitySettings, period_s: float) -> float:
    """Calls that an average run makes."""
    return sum(expected_by_kind(settings, period_s).values())
