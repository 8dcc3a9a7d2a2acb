"""What an agent owes is decided by dice that always fall the same for the same run."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

import pytest

from app.agents.activities import ActivityKind, Facts, due_activities, expected_calls, is_visit_due, rng_for
from app.community.reactions import choose_reactions
from app.settings import ActivitySettings

ADA = UUID(int=1)
SETTINGS = ActivitySettings()
WELCOMED, NEW = Facts(is_welcomed=True, quiet=None), Facts(is_welcomed=False, quiet=None)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def due(rng, facts=WELCOMED, settings=SETTINGS):
    return due_activities(rng, facts, settings)[0]


def test_same_agent_and_cycle_decide_the_same_again() -> None:
    first = [due(rng_for(ADA, str(n))) for n in range(50)]
    again = [due(rng_for(ADA, str(n))) for n in range(50)]
    assert first == again
    assert len(set(first)) > 1


@pytest.mark.plan(7, 8)
def test_requirement_7_welcome_comes_first_and_counts_as_the_post() -> None:
    kinds = [activity.kind for activity in due(Random(1), NEW)]
    assert kinds[0] is ActivityKind.WELCOME
    assert ActivityKind.POST not in kinds


@pytest.mark.plan(9, 21, 53)
def test_requirements_9_and_21_comments_are_drawn_once_per_slot() -> None:
    for probability, expected in ((0.40, 0.80), (0.60, 1.20)):
        settings, rng, runs = ActivitySettings(comment_probability=probability), Random(7), 20_000
        comments = sum(len(due(rng, settings=settings)) - 1 for _ in range(runs))
        assert abs(comments / runs - expected) < 0.02  # 4 standard errors


def test_dice_do_not_depend_on_being_welcomed() -> None:
    """A run that made its welcome and then lost its worker must draw the same comments again."""
    for number in range(50):
        before, after = due(rng_for(ADA, str(number)), NEW), due(rng_for(ADA, str(number)))
        assert before[1:] == after[1:]


@pytest.mark.plan(22)
def test_requirement_22_no_post_when_the_community_was_active_just_now() -> None:
    settings = ActivitySettings(post_quiet_s=60, comment_slots=0)
    active = Facts(is_welcomed=True, quiet=timedelta(seconds=20))
    why = "no post: the community had one 20 s before"
    assert due_activities(Random(1), active, settings) == ((), (why,))
    quiet = Facts(is_welcomed=True, quiet=timedelta(seconds=61))
    assert [activity.step for activity in due(Random(1), quiet, settings)] == ["post"]
    new = Facts(is_welcomed=False, quiet=timedelta(seconds=20))
    assert [activity.step for activity in due(Random(1), new, settings)] == ["welcome"]


@pytest.mark.plan(10)
def test_requirement_10_a_visit_is_due_once_in_half_an_hour_and_agents_are_spread() -> None:
    for offset in (0.0, 0.3, 0.99):
        last, visits = NOON, 0
        for cycle in range(1, 61):
            now = NOON + timedelta(minutes=5 * cycle)
            if is_visit_due(last, now, offset, SETTINGS):
                last, visits = now, visits + 1
        assert visits == 10
    firsts = Counter(
        next(
            cycle
            for cycle in range(1, 8)
            if is_visit_due(NOON, NOON + timedelta(minutes=5 * cycle), n / 60, SETTINGS)
        )
        for n in range(60)
    )
    assert max(firsts.values()) <= 11
    assert not is_visit_due(NOON, NOON + timedelta(days=9), 0, ActivitySettings(visit_every_s=0))


@pytest.mark.plan(11, 24, 53)
def test_requirements_11_and_24_calls_per_agent_and_cycle() -> None:
    """The plan's baseline, and with its optimisations on, over 12,000 agent-cycles each."""

    def simulate(settings: ActivitySettings, quiet_share: float) -> float:
        calls, rng = 0, Random(11)
        for agent in range(100):
            last = NOON
            for cycle in range(1, 121):
                now = NOON + timedelta(minutes=5 * cycle)
                is_due = is_visit_due(last, now, agent / 100, settings)
                last = now if is_due else last
                was_active = rng.random() < quiet_share
                facts = Facts(True, timedelta(seconds=5) if was_active else None, is_due)
                calls += len(due(rng_for(UUID(int=agent), str(cycle)), facts, settings))
        return calls / 12_000

    baseline = simulate(ActivitySettings(comment_probability=0.6), 0)
    assert abs(baseline - 2.37) < 0.03
    assert abs(simulate(ActivitySettings(), 0) - 1.97) < 0.03, "as it comes"
    sparing = ActivitySettings(sparing=True)
    assert simulate(sparing, 0) <= 1.6, "by one switch, whatever communities do"
    assert abs(simulate(sparing, 0) - expected_calls(sparing, 300)) < 0.03
    assert simulate(ActivitySettings(post_quiet_s=30), 0.45) <= 1.6, "and in busy communities"
    own = ActivitySettings(sparing=True, post_probability=0.9)
    assert own.post_probability == 0.9


def test_expected_calls() -> None:
    assert round(expected_calls(SETTINGS, 300), 2) == 1.97
    assert round(expected_calls(ActivitySettings(comment_probability=0.6), 300), 2) == 2.37


@pytest.mark.plan(13, 23)
def test_requirements_13_and_23_reactions_come_from_what_is_ready_and_fall_the_same() -> None:
    posts = [UUID(int=n) for n in range(5)]
    first = choose_reactions(Random("x"), posts, 2)
    assert first == choose_reactions(Random("x"), posts, 2)
    assert len({reaction.post_id for reaction in first}) == 2
    assert all(reaction.value in (-1, 1) and reaction.text for reaction in first)
    assert choose_reactions(Random("x"), [], 2) == []
