"""A clock that goes back silences nothing, and what is in the future is not taken for fresh."""

import os
import signal
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from app.runs import jobs
from app.settings import Settings
from workers import alive
from workers.schedule import OnTheClock

NOON = datetime(2026, 11, 26, 12, 0, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("last_run", "is_due"),
    [
        (NOON - timedelta(seconds=6), False),
        (NOON - timedelta(seconds=8), True),
        (NOON + timedelta(seconds=0.5), False),
        (NOON + timedelta(seconds=20), True),
        (NOON + timedelta(hours=1), True),
    ],
)
def test_a_last_run_in_the_future_means_due_now(monkeypatch, last_run, is_due):
    schedule = OnTheClock(30.0)
    monkeypatch.setattr(schedule, "now", lambda: NOON)
    assert schedule.is_due(last_run) == (is_due, 23.0)


def test_beat_forgets_moments_of_the_clock_as_it_was(monkeypatch):
    scheduler = object.__new__(alive.Scheduler)
    monkeypatch.setattr(alive.beat.Scheduler, "tick", lambda self: 1.0)
    monkeypatch.setattr(alive, "touch", lambda: None)
    moments = iter([NOON, NOON + timedelta(seconds=1), NOON - timedelta(hours=1), NOON])
    monkeypatch.setattr(alive, "utcnow", lambda: next(moments))
    kept = []
    for _ in range(4):
        scheduler._heap = ["a moment"]
        scheduler.tick()
        kept.append(scheduler._heap is not None)
    assert kept == [True, True, False, True]


@pytest.mark.parametrize(
    ("age_s", "is_silent"), [(10.0, False), (69.0, False), (71.0, True), (-3.0, False), (-3568.0, True)]
)
def test_a_slice_from_the_future_is_no_sign_of_life(age_s, is_silent):
    assert jobs.is_silent(age_s, Settings()) == is_silent
    assert "-" not in jobs.say_age(age_s), "nobody reads a negative age"


def test_beat_ends_between_two_turns_though_what_it_calls_swallows_everything(monkeypatch):
    """A signal that came while a job was sent was lost, and beat slept on until it was killed."""

    def swallows(_):
        with suppress(BaseException):
            os.kill(os.getpid(), signal.SIGTERM)
        return 1.0

    scheduler = object.__new__(alive.Scheduler)
    monkeypatch.setattr(alive.beat.Scheduler, "tick", swallows)
    monkeypatch.setattr(alive, "touch", lambda: None)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        alive.beat_init.send(sender=None)
        assert scheduler.tick() == 1.0
        with pytest.raises(SystemExit):
            scheduler.tick()
    finally:
        alive._told_to_end.clear()
        for number, handler in before.items():
            signal.signal(number, handler)
