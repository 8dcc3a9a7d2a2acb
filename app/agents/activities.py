"""What an agent owes in one run. Pure: the same seed and the same facts give the same answer.

That is what lets a run resume after a crash: it decides the same again, and leaves out the steps
that are already stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from uuid import UUID

from app.settings import ActivitySettings


class ActivityKind(StrEnum):
    """The kinds of things an agent does; also the `request_type` of their calls."""

    WELCOME = "welcome"
    POST = "post"
    COMMENT = "comment"


@dataclass(frozen=True, slots=True)
class Activity:
    """One thing to do. `step` names it within the run and never changes."""

    kind: ActivityKind
    step: str
    slot: int = 0


def due_activities(
    rng: Random, *, welcomed: bool, settings: ActivitySettings
) -> tuple[Activity, ...]:
    """A welcome the first time, else a post; then each comment slot drawn once."""
    first = (
        Activity(ActivityKind.POST, "post")
        if welcomed
        else Activity(ActivityKind.WELCOME, "welcome")
    )
    drawn = [rng.random() < settings.comment_probability for _ in range(settings.comment_slots)]
    comments = [
        Activity(ActivityKind.COMMENT, f"comment.{slot}", slot)
        for slot, is_due in enumerate(drawn)
        if is_due
    ]
    return (first, *comments)


def choose_post(rng: Random, candidates: Sequence[UUID]) -> UUID | None:
    """The post to comment on, or None when there is none to comment on."""
    return rng.choice(candidates) if candidates else None


def rng_for(agent_id: UUID, moment: str) -> Random:
    """The dice of one run: seeded by the agent and the cycle (ad hoc: the run)."""
    return Random(f"{agent_id}:{moment}")


def expected_calls(settings: ActivitySettings) -> float:
    """Calls that an average run makes."""
    return 1 + settings.comment_slots * settings.comment_probability
