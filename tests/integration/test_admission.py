"""Admission as a worker uses it, on a real Valkey with the real clock."""

import threading
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from pydantic import SecretStr
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy import delete, func, insert, select, update

from app.actions import Desk, Who, fleet
from app.admission import controller, drift
from app.admission.controller import Permit, Refusal, Request
from app.admission.limits import change_limits, follow_settings, read_limits
from app.admission.scripts import FLEET, alone, windows
from app.admission.turnstile import Stopping
from app.admission.values import Verdict
from app.cli.parts import free_port
from app.clock import monotonic, sleep, utcnow
from app.models import Agent, AuditEntry, Call, Run
from app.runs import leases, upkeep
from app.runs.execute import execute
from app.runs.scheduling import allowance
from app.settings import LimitSettings
from app.usage.calls import call_id
from app.wiring import build
from tests.support.factories import make_agents, make_run

OK = Verdict("ok")
STOP = Verdict("stop", reason="credits_exhausted")
WRONG_KEY = Verdict("stop", reason="key_refused", is_of_key=True)
PAUSE = Verdict("pause", 1_000_000)
LONG_PAUSE = Verdict("pause", 3_000_000_000)
DROP_MODEL = Verdict("drop_model", reason="model_gone", runs_to_confirm=2)
FORBIDDEN = Verdict("stop", reason="forbidden", is_of_key=True, runs_to_confirm=2)
DAILY = Verdict("stop", 20_000_000_000, "daily_limit")


def request(**values) -> Request:
    made = Request(uuid4(), uuid4(), uuid4(), is_adhoc=False, tokens=100, cost_micros=50, model="m")
    return replace(made, **values)


def acquire(services, **values):
    return services.admission.acquire(request(**values), lambda: None)


def change(services, **changes) -> None:
    with services.engine.begin() as connection:
        limits = change_limits(connection, services.settings.limits, changes, actor="test", reason="because")
    services.admission.put_in_force(limits)


def scripts_run(redis) -> int:
    return redis.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]


def test_two_round_trips_at_once_and_three_when_it_waits(services, redis):
    change(services, rate=10.0, burst=1)
    services.admission.settle(acquire(services), OK, tokens=1, cost_micros=1)
    sleep(0.3)
    before = scripts_run(redis)
    services.admission.settle(acquire(services), OK, tokens=1, cost_micros=1)
    assert scripts_run(redis) - before == 2
    before = scripts_run(redis)
    services.admission.settle(acquire(services), OK, tokens=1, cost_micros=1)
    assert scripts_run(redis) - before == 3


def test_settling_twice_counts_once(services, redis):
    permit = acquire(services)
    assert services.admission.settle(permit, OK, tokens=70, cost_micros=30)
    assert not services.admission.settle(permit, OK, tokens=70, cost_micros=30)
    assert int(redis.hget(permit.windows.keys[0], f"u:{permit.request.agent_id}")) == 70


def test_a_second_seeder_changes_no_counter_that_is_there(services, redis):
    """Two processes may warm up at once; the slower one read the ledger before a call was settled."""
    permit = acquire(services)
    services.admission.settle(permit, OK, tokens=70, cost_micros=30)
    quota, agent = permit.windows.keys[0], permit.request.agent_id
    alone(redis, "seed")(keys=[quota], args=[f"u:{agent}", 5, "u:another", 7])
    assert (redis.hget(quota, f"u:{agent}"), redis.hget(quota, "u:another")) == ("70", "7")


@pytest.mark.plan(27, 28)
def test_agent_over_its_quota_is_refused_and_others_are_not(services):
    change(services, agent_daily_tokens=250)
    ada = uuid4()
    for _ in range(2):
        assert isinstance(acquire(services, agent_id=ada), Permit)
    refusal = acquire(services, agent_id=ada)
    assert (refusal.reason, refusal.ticket) == ("quota", 0)
    assert refusal.retry_after_s <= 86_400
    assert isinstance(acquire(services), Permit)
    assert isinstance(acquire(services, agent_id=ada, quota=10_000), Permit)  # an override of its own


@pytest.mark.plan(27)
def test_fleet_budget_of_the_day_is_kept_by_twenty_at_once(services):
    change(services, budget_day_micros=500)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(acquire(services))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(answer, Permit) for answer in answers) == 10
    refused = {answer.reason for answer in answers if isinstance(answer, Refusal)}
    assert refused == {"budget_held"}, "nothing is spent yet: the others wait"
    assert not services.admission.state().budgets[0].is_used_up
    for permit in answers:
        if isinstance(permit, Permit):
            services.admission.settle(permit, OK, tokens=None, cost_micros=None)
    assert acquire(services).reason == "budget_day"
    assert services.admission.state().budgets[0].is_used_up


def test_calls_that_cost_less_than_their_estimate_leave_the_rest_of_a_budget(services):
    change(services, budget_day_micros=100)
    for _ in range(10):
        first, second = acquire(services), acquire(services)
        assert isinstance(first, Permit)
        if isinstance(second, Permit):
            services.admission.void(second)
        services.admission.settle(first, OK, tokens=1, cost_micros=10)
    assert acquire(services).reason == "budget_day"


def test_fleet_budget_of_the_month_holds_where_that_of_the_day_does_not(services):
    change(services, budget_month_micros=100)
    services.admission.settle(acquire(services), OK, tokens=1, cost_micros=100)
    refusal = acquire(services)
    assert refusal.reason == "budget_month"
    assert refusal.retry_after_s > 0
    change(services, budget_month_micros=200)
    assert isinstance(acquire(services), Permit)


def test_after_a_good_probe_the_next_stop_begins_with_a_short_wait(services, redis):
    def wait_s():
        return acquire(services).retry_after_s

    services.admission.settle(acquire(services), STOP, tokens=0, cost_micros=0)
    assert 55 < wait_s() <= 60
    for longer in (120, 240):
        redis.hset(FLEET[0], "open", 1)
        services.admission.settle(acquire(services), STOP, tokens=0, cost_micros=0)
        assert longer - 5 < wait_s() <= longer
    redis.hset(FLEET[0], "open", 1)
    services.admission.settle(acquire(services), OK, tokens=1, cost_micros=1)
    assert redis.hget(FLEET[0], "trips") == "0"
    services.admission.settle(acquire(services), STOP, tokens=0, cost_micros=0)
    assert 55 < wait_s() <= 60


def test_no_call_is_made_while_redis_does_not_answer(services, monkeypatch):
    """A local limit would be no limit: the run is put back."""
    monkeypatch.setattr(controller, "AWAY_S", 0.3)
    nowhere = SecretStr(f"redis://127.0.0.1:{free_port()}/0")
    away = build(services.settings.model_copy(update={"redis_url": nowhere}))
    prepared = []
    answer = away.admission.acquire(request(), lambda: prepared.append(1))
    assert isinstance(answer, Refusal)
    assert (answer.reason, prepared) == ("store_away", [])
    away.close()


def test_a_counter_that_moves_between_reading_and_mending_is_left_alone(services, redis):
    with services.engine.begin() as connection:
        (agent,) = make_agents(connection, 1)
        run_id = make_run(connection, agent)
    execute(services, run_id)
    window = windows(utcnow(), services.settings.zone)
    redis.hincrby(window.keys[0], f"u:{agent}", 5_000)
    found = upkeep.find_drift(services)
    redis.hincrby(window.keys[0], f"u:{agent}", 70)  # a settlement comes in between
    right = int(redis.hget(window.keys[0], f"u:{agent}"))
    assert drift.repair(redis, found) == 0
    assert int(redis.hget(window.keys[0], f"u:{agent}")) == right


@pytest.mark.plan(16)
def test_402_opens_the_breaker_stops_the_scheduler_and_resume_closes_it(services):
    services.admission.settle(acquire(services), STOP, tokens=0, cost_micros=0)
    assert acquire(services).reason == "credits_exhausted"
    state = services.admission.state()
    assert state.breaker == "open"
    assert allowance(state, services.settings, utcnow()).runs == 0
    assert "credits are used up" in allowance(state, services.settings, utcnow()).stopped
    with services.engine.begin() as connection:
        limits = read_limits(connection, services.settings.limits)
    services.admission.put_in_force(limits, close_breaker=True)
    assert isinstance(acquire(services), Permit)


def test_one_probe_at_a_time_when_credits_may_be_back(services, redis):
    services.admission.settle(acquire(services), STOP, tokens=0, cost_micros=0)
    redis.hset(FLEET[0], "open", 1)  # long ago
    assert allowance(services.admission.state(), services.settings, utcnow()).runs == 1
    probe = acquire(services)
    assert isinstance(probe, Permit)
    assert acquire(services).reason == "probing"
    services.admission.settle(probe, OK, tokens=1, cost_micros=1)
    assert services.admission.state().breaker == "closed"
    assert isinstance(acquire(services), Permit)


@pytest.mark.plan(15)
def test_429_pauses_the_fleet_and_lowers_the_rate(services):
    change(services, rate=100.0, burst=1)
    permit = acquire(services)
    services.admission.settle(permit, PAUSE, tokens=0, cost_micros=0)
    state = services.admission.state()
    assert state.effective_rate == 70
    assert state.rate_limited_until is not None
    began = monotonic()
    assert isinstance(acquire(services), Permit)
    assert 0.8 < monotonic() - began < 1.5


def settle(services, verdict, **values) -> None:
    services.admission.settle(acquire(services, **values), verdict, tokens=0, cost_micros=0)


def test_refused_key_is_probed_and_ends_by_itself_when_it_works_again(services, redis):
    settle(services, WRONG_KEY)
    assert acquire(services).reason == "key_refused"
    state = services.admission.state()
    assert 50 < (state.probe_at - utcnow()).total_seconds() <= 60
    redis.hset(FLEET[0], "open", 1)  # a minute later
    settle(services, WRONG_KEY)
    again = services.admission.state().probe_at - utcnow()
    assert 110 < again.total_seconds() <= 120, "twice as long"
    redis.hset(FLEET[0], "open", 1)
    settle(services, OK)
    assert services.admission.state().stop_reason is None
    settle(services, WRONG_KEY)
    assert (services.admission.state().probe_at - utcnow()).total_seconds() <= 60, "counted anew"


def test_a_quota_of_the_day_is_probed_once_an_hour_until_it_begins_anew(services):
    settle(services, DAILY)
    state = services.admission.state()
    assert state.stop_reason == "daily_limit"
    assert 3_590 < (state.probe_at - utcnow()).total_seconds() <= 3_600
    assert 19_990 < (state.resets_at - utcnow()).total_seconds() <= 20_000


def test_a_403_without_a_reason_stops_nobody_until_a_second_run_sees_it(services):
    first, second = uuid4(), uuid4()
    settle(services, FORBIDDEN, run_id=first)
    settle(services, FORBIDDEN, run_id=first)
    settle(services, OK, run_id=second)
    settle(services, FORBIDDEN, run_id=second)
    assert services.admission.state().stop_reason is None, "an answer in between"
    settle(services, FORBIDDEN, run_id=first)
    assert acquire(services).reason == "forbidden"


def test_a_model_is_dropped_for_all_when_a_second_run_finds_it_gone(services):
    first, second = uuid4(), uuid4()
    settle(services, DROP_MODEL, run_id=first)
    settle(services, DROP_MODEL, run_id=first)
    settle(services, OK, model="another")
    settle(services, DROP_MODEL, run_id=second)
    assert acquire(services).reason == "model_gone"
    assert isinstance(acquire(services, model="another"), Permit)


def test_resume_and_a_change_of_limits_end_a_long_pause_and_wake_what_snoozes(services):
    desk = Desk(services.settings, services.engine, services.admission)
    for act in (
        lambda: fleet.resume(desk, fleet.Resume(reason="x"), Who("eve", "")),
        lambda: fleet.set_limits(desk, {"rate": 900.0}, Who("eve", "")),
    ):
        settle(services, LONG_PAUSE)
        assert allowance(services.admission.state(), services.settings, utcnow()).runs == 0
        with services.engine.begin() as connection:
            (agent,) = make_agents(connection, 1)
            late = utcnow() + timedelta(days=400)
            run_id = make_run(connection, agent, state="snoozed", wake_at=late)
        act()
        with services.engine.begin() as connection:
            assert leases.wake(connection) == [run_id]
            connection.execute(delete(Run))
        assert services.admission.state().rate_limited_until is None
        assert isinstance(acquire(services), Permit)


def test_a_sleeping_call_ends_at_the_stop_signal_and_gives_its_permit_back(services):
    change(services, rate=0.3, burst=1)
    acquire(services)
    stopping, began = threading.Event(), monotonic()
    threading.Timer(0.3, stopping.set).start()
    with pytest.raises(Stopping):
        services.admission.acquire(request(), lambda: None, stopping)
    assert monotonic() - began < 2
    assert services.admission.state().reserved == 1, "only the first"


def test_a_budget_refuses_a_model_without_a_price_and_only_then(services):
    assert isinstance(acquire(services, cost_micros=None), Permit)
    change(services, budget_day_micros=1_000_000)
    assert acquire(services, cost_micros=None).reason == "no_price"
    assert isinstance(acquire(services, cost_micros=None, obeys_budgets=False), Permit)
    assert isinstance(acquire(services), Permit)


def test_refused_key_stops_calls_until_the_key_changes(services):
    services.admission.settle(acquire(services), WRONG_KEY, tokens=0, cost_micros=0)
    assert acquire(services).reason == "key_refused"
    assert allowance(services.admission.state(), services.settings, utcnow()).runs == 0
    services.admission.key = "another"
    assert isinstance(acquire(services), Permit)


def test_pause_and_a_new_rate_are_felt_within_a_second(services):
    change(services, paused_until=utcnow() + timedelta(minutes=5))
    assert acquire(services).reason == "paused"
    change(services, paused_until=None, rate=0.5, burst=1)
    acquire(services)
    sleeper: list[float] = []

    def sleep_for_a_permit() -> None:
        acquire(services)
        sleeper.append(monotonic())

    thread = threading.Thread(target=sleep_for_a_permit)
    thread.start()
    sleep(0.2)
    change(services, rate=50.0)
    began = monotonic()
    assert isinstance(acquire(services), Permit)
    assert monotonic() - began < 1
    thread.join()


def test_every_change_has_an_audit_entry(services):
    change(services, rate=7.0)
    with services.engine.connect() as connection:
        entry = connection.execute(select(AuditEntry)).one()
    assert (entry.actor, entry.before, entry.after, entry.reason) == (
        "test",
        {"rate": 1000.0},
        {"rate": 7.0},
        "because",
    )


def test_environment_seeds_limits_and_the_operators_word_stays_until_it_changes(connection):
    follow_settings(connection, LimitSettings(rate=4))
    change_limits(connection, LimitSettings(), {"rate": 9.0}, actor="me", reason="")
    follow_settings(connection, LimitSettings(rate=4))
    assert read_limits(connection, LimitSettings()).rate == 9
    follow_settings(connection, LimitSettings(rate=5))
    assert read_limits(connection, LimitSettings()).rate == 5


@pytest.mark.plan(36)
def test_counters_of_the_month_begin_with_its_first_day_and_those_of_the_day_with_midnight(services):
    noon = datetime(2026, 11, 20, 12, tzinfo=UTC)
    with services.engine.begin() as connection:
        (agent,) = make_agents(connection, 1)
        run_id = make_run(connection, agent)
        for number, (day, hour) in enumerate([(1, 0), (19, 23), (20, 0), (20, 11)]):
            at = datetime(2026, 11, day, hour, tzinfo=UTC)
            connection.execute(
                insert(Call).values(
                    id=call_id(run_id, "post", number),
                    run_id=run_id,
                    agent_id=agent,
                    step="post",
                    attempt=number,
                    request_type="post",
                    model="m",
                    status="ok",
                    created_at=at,
                    tokens_reserved=1,
                    tokens_used=10,
                    cost_micros=1_000,
                )
            )
    spent = services.admission.read_spent(windows(noon, services.settings.zone))
    assert sum(spent.month_micros.values()) == 4_000
    assert sum(spent.day_micros.values()) == 2_000
    assert spent.tokens_by_agent == {agent: 20}


def test_flushall_loses_no_count(services, redis):
    with services.engine.begin() as connection:
        agents = make_agents(connection, 1)
        run_id = make_run(connection, agents[0])
    execute(services, run_id)
    with services.engine.connect() as connection:
        used = connection.execute(select(func.sum(Call.tokens_used))).scalar_one()
    redis.flushall()
    permit = acquire(services, agent_id=agents[0])
    assert int(redis.hget(permit.windows.keys[0], f"u:{agents[0]}")) == used
    assert redis.ttl(permit.windows.keys[0]) > 86_400


def test_forgotten_scripts_are_sent_again(services, redis):
    acquire(services)
    redis.script_flush()
    assert isinstance(acquire(services), Permit)


def test_drift_is_found_and_mended_where_nothing_is_under_way(services, redis):
    with services.engine.begin() as connection:
        agents = make_agents(connection, 1)
        run_id = make_run(connection, agents[0])
    execute(services, run_id)
    window = windows(utcnow(), services.settings.zone)
    redis.hincrby(window.keys[0], f"u:{agents[0]}", 5_000)
    held = acquire(services)  # without a row in the ledger
    differences = sorted(found.redis - found.ledger for found in upkeep.find_drift(services))
    assert differences == [50, 50, 100, 5_000], "two of money, and the tokens of two agents"
    assert upkeep.reconcile_limits(services).repaired == 1, "not what something is held of"
    services.admission.void(held)
    assert upkeep.find_drift(services) == []
    assert drift.read_counters(redis, window)


def test_run_that_gets_no_permit_soon_is_snoozed_with_its_place_and_wakes(services, sandbox):
    change(services, rate=0.2, burst=1, max_wait_s=0.5)
    acquire(services)
    with services.engine.begin() as connection:
        agents = make_agents(connection, 1)
        run_id = make_run(connection, agents[0])
    outcome = execute(services, run_id)
    assert (outcome.state, outcome.reason) == ("snoozed", "wait")
    assert sandbox.state.seen == []
    with services.engine.begin() as connection:
        assert leases.wake(connection) == []  # not yet
    change(services, rate=1000.0, burst=100)
    deadline = monotonic() + 15
    woken: list = []
    while not woken and monotonic() < deadline:
        sleep(0.1)
        with services.engine.begin() as connection:
            woken = leases.wake(connection)
    assert woken == [run_id]
    assert execute(services, run_id).state == "completed"


def test_quota_ends_a_run_with_its_reason(services, sandbox):
    with services.engine.begin() as connection:
        agents = make_agents(connection, 1)
        connection.execute(update(Agent).values(daily_tokens=10))
        run_id = make_run(connection, agents[0])
    outcome = execute(services, run_id)
    assert outcome.state == "skipped"
    assert outcome.reason.startswith("welcome: quota: ")
    assert sandbox.state.seen == []


@pytest.mark.parametrize(
    ("zone", "now", "day", "hours"),
    [
        ("UTC", datetime(2026, 11, 22, 23, 59, tzinfo=UTC), "2026-11-22", 24),
        ("Europe/Berlin", datetime(2026, 3, 28, 23, 30, tzinfo=UTC), "2026-03-29", 23),
        ("Europe/Berlin", datetime(2026, 10, 24, 22, 30, tzinfo=UTC), "2026-10-25", 25),
        ("Pacific/Auckland", datetime(2026, 12, 31, 11, 30, tzinfo=UTC), "2027-01-01", 24),
        ("America/New_York", datetime(2026, 1, 1, 4, 59, tzinfo=UTC), "2025-12-31", 24),
    ],
)
def test_days_are_those_of_the_business_time_zone(zone, now, day, hours):
    window = windows(now, ZoneInfo(zone))
    end = now + timedelta(microseconds=window.day_left_us)
    assert window.day == day
    assert end - window.day_start == timedelta(hours=hours)
    assert window.keys[2].endswith(day[:7])


def test_keys_share_one_hash_tag():
    keys = (*FLEET, *windows(utcnow(), UTC).keys)
    assert {key.split("}")[0] for key in keys} == {"{paceline"}


def test_ad_hoc_call_does_not_wait_behind_the_cycles_line(services):
    change(services, rate=4.0, burst=1)
    acquire(services)
    threads = [threading.Thread(target=acquire, args=(services,)) for _ in range(12)]
    for thread in threads:
        thread.start()
    sleep(0.4)  # three seconds' worth of scheduled calls are booked by now
    began = monotonic()
    assert isinstance(acquire(services, is_adhoc=True), Permit)
    assert monotonic() - began < 1.0
    for thread in threads:
        thread.join()


def test_many_calls_at_once_ask_a_dead_redis_a_few_times_and_wait(services, redis, monkeypatch):
    """10,000 waiting tasks must not each time out: one asks for all of them."""
    tries = []

    def dead(**_):
        tries.append(monotonic())
        raise RedisConnectionError("refused")

    alive = services.admission._admit
    monkeypatch.setattr(services.admission, "_admit", dead)
    got = []
    threads = [threading.Thread(target=lambda: got.append(acquire(services))) for _ in range(50)]
    for thread in threads:
        thread.start()
    sleep(2.5)
    assert got == []
    assert len(tries) <= 8
    monkeypatch.setattr(services.admission, "_admit", alive)
    for thread in threads:
        thread.join(20)
    assert len(got) == 50
    assert all(isinstance(answer, Permit) for answer in got)


def test_turnstile_holds_scheduled_runs_back_while_the_line_is_long(services):
    turnstile, stopping, passed = services.admission.turnstile, threading.Event(), []
    turnstile.answered(3.0)

    def pass_through() -> None:
        with suppress(Stopping), turnstile.passing(stopping):
            passed.append(monotonic())

    began = monotonic()
    threads = [threading.Thread(target=pass_through) for _ in range(3)]
    for thread in threads:
        thread.start()
    sleep(1.0)
    assert passed == []
    for thread in threads:
        thread.join(10)
    assert len(passed) == 3
    assert 1.8 < min(passed) - began < 3.0, "until the line is a second long"
    turnstile.answered(5.0)
    last = threading.Thread(target=pass_through)
    last.start()
    stopping.set()
    last.join(3)
    assert not last.is_alive()
    assert len(passed) == 3
