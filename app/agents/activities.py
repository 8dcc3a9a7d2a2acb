"""What an agent owes in one run. Pure: the same seed and the same facts give the same answer.

That is what lets a run resume after a crash: it decides the same again, and leaves out the steps
that are already stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from random import Random
from uuid import UUID

from app.models import VISIT_SLOT
from app.settings import ActivitySettings


class ActivityKind(StrEnum):
    """The kinds of things an agent does; also the `request_type` of their calls."""

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
    """What is known of an agent at the start of its run."""

    is_welcomed: bool
    quiet: timedelta | None
    """Since the community's latest post; None when there is none."""
    is_visit_due: bool = False


def due_activities(
    rng: Random, facts: Facts, settings: ActivitySettings
) -> tuple[tuple[Activity, ...], str | None]:
    """A welcome the first time, else a post, unless the community was active just now; then each
    comment slot drawn once; then a visit. And why there is no post.
    """
    drawn = [rng.random() < settings.comment_probability for _ in range(settings.comment_slots)]
    due: list[Activity] = []
    without_post = None
    if not facts.is_welcomed:
        due.append(Activity(ActivityKind.WELCOME, "welcome"))
    elif facts.quiet is not None and facts.quiet.total_seconds() < settings.post_quiet_s:
        without_post = f"no post: the community had one {facts.quiet.total_seconds():.0f} s before"
    else:
        due.append(Activity(ActivityKind.POST, "post"))
    due += [
        Activity(ActivityKind.COMMENT, f"comment.{slot}", slot)
        for slot, is_due in enumerate(drawn)
        if is_due
    ]
    if facts.is_visit_due:
        due.append(Activity(ActivityKind.CROSS_VISIT, "cross_visit", VISIT_SLOT))
    return tuple(due), without_post


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


def expected_calls(settings: ActivitySettings, period_s: float) -> float:
    """Calls that an average run makes, when every regular post is made."""
    visits = period_s / settings.visit_every_s if settings.visit_every_s else 0.0
    return 1 + settings.comment_slots * settings.comment_probability + min(1.0, visits)
