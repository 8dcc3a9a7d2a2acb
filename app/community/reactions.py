"""Common responses, kept ready so that a simple reaction costs no gateway call."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from uuid import UUID

APPROVING = ("👍", "❤️", "👏", "🙌", "💯", "😄", "Well said.", "So true.", "Love this.", "Same here.")
DOUBTING = ("🤔", "Not so sure.", "Hm, really?")
APPROVAL = 0.9
"""Most votes are kind; nobody reads a community where they are not."""


@dataclass(frozen=True, slots=True)
class Reaction:
    """A vote on a post, with the common response that goes with it."""

    post_id: UUID
    value: int
    text: str


def choose_reactions(rng: Random, candidates: Sequence[UUID], slots: int) -> list[Reaction]:
    """Reactions to at most `slots` of these posts, one each."""
    chosen = rng.sample(list(candidates), min(slots, len(candidates)))
    reactions = []
    for post_id in chosen:
        is_kind = rng.random() < APPROVAL
        text = rng.choice(APPROVING if is_kind else DOUBTING)
        reactions.append(Reaction(post_id, 1 if is_kind else -1, text))
    return reactions
