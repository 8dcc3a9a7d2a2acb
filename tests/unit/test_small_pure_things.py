"""Time, prices, phases, the sandbox's own limit and the clock-bound schedule."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import money
from app.agents.roster import phase_of
from app.cli import shell
from app.clock import cycle_start
from app.errors import NotFound
from app.gateway.sandbox.state import StrictLimit
from app.gateway.sandbox.writer import write
from app.models import RunState
from app.models.agents import PHASES
from app.runs.states import OPEN, TERMINAL, TRANSITIONS
from app.settings import UsageSettings
from app.usage.prices import cost_micros
from workers.schedule import OnTheClock

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@given(st.datetimes(timezones=st.just(UTC)), st.integers(1, 86_400))
def test_cycle_starts_are_whole_periods_apart(now, period_s):
    period = timedelta(seconds=period_s)
    now = now.replace(year=max(2, min(now.year, 9998)))
    start = cycle_start(now, period)
    assert start <= now < start + period
    assert cycle_start(start, period) == start


def test_price_is_in_whole_micro_dollars_and_unknown_is_not_zero():
    listed = UsageSettings()
    assert cost_micros("google/gemini-2.5-flash", 50, 100, NOW, listed) == 265
    assert cost_micros("google/gemini-2.5-flash", 108_000_000, 216_000_000, NOW, listed) == 572_400_000
    assert cost_micros("nobody/knows-this", 50, 100, NOW, listed) is None
    assert cost_micros("knows-this-nobody", 50, 100, NOW, listed) is None


@given(st.uuids())
def test_phase_is_stable_and_within_the_cycle(agent_id):
    assert 0 <= phase_of(agent_id) < PHASES
    assert phase_of(agent_id) == phase_of(UUID(str(agent_id)))


def test_every_state_is_open_or_terminal_and_terminal_is_for_good():
    assert set(TRANSITIONS) == set(RunState) == OPEN | TERMINAL
    assert all(not TRANSITIONS[state] for state in TERMINAL)
    assert all(TRANSITIONS[state] & TERMINAL for state in OPEN)


@given(
    st.lists(st.integers(0, 400_000_000), min_size=1, max_size=80),
    st.sampled_from([4.0, 50.0, 3.0]),
    st.integers(1, 5),
)
def test_sandbox_never_lets_more_through_than_it_says(gaps_ns, rate, capacity):
    limit, now, starts = StrictLimit(), 10**18, []
    for gap in gaps_ns:
        now += gap
        if limit.allows(now, rate, capacity):
            starts.append(now)
    for first in range(len(starts)):
        for last in range(first, len(starts)):
            window_s = (starts[last] - starts[first]) / 1e9
            assert last - first + 1 <= capacity + rate * window_s + 1e-6


def test_sandbox_texts_are_many_and_repeatable():
    assert write("a") == write("a")
    assert len({write(str(n)) for n in range(1_000)}) > 900


@given(st.integers(0, 10**6), st.integers(0, 100), st.sampled_from([5.0, 30.0, 0.5]))
def test_schedule_keeps_to_the_clock(offset_s, waited_s, seconds):
    now = NOW + timedelta(seconds=offset_s)
    schedule = OnTheClock(seconds)
    schedule.nowfun = lambda: now
    last = now - timedelta(seconds=waited_s)
    is_due, next_s = schedule.is_due(last)
    assert 0 < next_s <= seconds
    assert ((now + timedelta(seconds=next_s)).timestamp() / seconds) % 1 in (0.0, 1.0)
    boundary = now.timestamp() // seconds * seconds
    assert is_due == (last.timestamp() < boundary)


def test_shell_says_what_a_person_can_mend_in_one_line(capsys):
    def dispatch(agent):
        raise NotFound(f"unknown agent {agent!r}")

    console = shell._Console({"dispatch": dispatch})
    console.push('dispatch("nobody")')
    console.push("1 / 0")
    said = capsys.readouterr().err
    assert said.startswith("paceline: unknown agent 'nobody'\n")
    assert "Traceback" in said, "what only a developer can mend is shown whole"
    assert said.count("Traceback") == 1


@pytest.mark.parametrize(
    ("micros", "long", "short"),
    [
        (0, "$0.0000", "$0.00"),
        (1, "$0.000001", "$0.0000"),
        (262_900, "$0.2629", "$0.2629"),
        (1_000_000, "$1.0000", "$1.00"),
        (12_345_678, "$12.3457", "$12.35"),
        (1_234_567_890, "$1,234.5679", "$1,234.57"),
        (None, "unknown", "unknown"),
    ],
)
def test_a_dollar_is_a_million_micro_dollars(micros, long, short):
    assert money.dollars(micros) == long
    assert money.short_dollars(micros) == short


@pytest.mark.parametrize("usd", [0.000001, 0.02, 1, 4.99, 12_345.67])
def test_dollars_come_back_as_they_went(usd):
    assert money.to_micros(usd) == round(usd * 1_000_000)
