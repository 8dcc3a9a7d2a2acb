"""What an agent owes is decided by dice that always fall the same for the same run."""

from random import Random
from uuid import UUID

from app.agents.activities import ActivityKind, due_activities, expected_calls, rng_for
from app.settings import ActivitySettings

ADA = UUID(int=1)
SETTINGS = ActivitySettings()


def test_same_agent_and_cycle_decide_the_same_again() -> None:
    first = [
        due_activities(rng_for(ADA, str(n)), welcomed=True, settings=SETTINGS) for n in range(50)
    ]
    again = [
        due_activities(rng_for(ADA, str(n)), welcomed=True, settings=SETTINGS) for n in range(50)
    ]
    assert first == again
    assert len(set(first)) > 1


def test_welcome_comes_first_and_counts_as_the_post() -> None:
    (first, *_) = due_activities(Random(1), welcomed=False, settings=SETTINGS)
    assert first.kind is ActivityKind.WELCOME
    kinds = [a.kind for a in due_activities(Random(1), welcomed=False, settings=SETTINGS)]
    assert ActivityKind.POST not in kinds


def test_comments_are_drawn_once_per_slot() -> None:
    rng = Random(7)
    runs = 20_000
    comments = sum(
        len(due_activities(rng, welcomed=True, settings=SETTINGS)) - 1 for _ in range(runs)
    )
    assert abs(comments / runs - 0.80) < 0.02  # two slots at 0.40; 4 standard errors are 0.02


def test_dice_do_not_depend_on_being_welcomed() -> None:
    """A run that made its welcome and then lost its worker must draw the same comments again."""
    for number in range(50):
        before = due_activities(rng_for(ADA, str(number)), welcomed=False, settings=SETTINGS)
        after = due_activities(rng_for(ADA, str(number)), welcomed=True, settings=SETTINGS)
        assert before[1:] == after[1:]


def test_expected_calls() -> None:
    assert expected_calls(SETTINGS) == 1.8
