"""Usage: rollups equal the ledger, reports are exact, incidents open and close once, alerts arrive."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from runpy import run_path
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, insert, select, text, update

from app import migrations
from app.alerts import incidents, outbox
from app.alerts.money import budget_messages
from app.alerts.outbox import Message
from app.alerts.rules import evaluate
from app.clock import day_window, utcnow
from app.errors import ConfigError
from app.models import (
    AgentDailyUsage,
    Alert,
    Call,
    DailyUsage,
    FleetHourlyUsage,
    HourlyUsage,
    Incident,
    Job,
    LatencyHourly,
    OverBudget,
    UsageDay,
    UsageState,
)
from app.runs import jobs
from app.runs.budgets import BudgetStatus
from app.usage import differences, partitions, periods, quotas, ranking, reports, rollups, zones
from app.usage.periods import Span
from app.usage.reports import Group, Metric
from tests.support.factories import make_agents, make_run
from tests.support.ledger import sum_up_all, tokens_by_agent

ZONES = ("UTC", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Europe/Berlin")


USAGE_TABLES = (
    Call,
    HourlyUsage,
    FleetHourlyUsage,
    DailyUsage,
    AgentDailyUsage,
    LatencyHourly,
    UsageDay,
    UsageState,
)


def add_call(connection, agent_id, run_id, at, **values):
    row = {
        "id": uuid4(),
        "run_id": run_id,
        "agent_id": agent_id,
        "step": "post",
        "attempt": 1,
        "request_type": "post",
        "model": "google/gemini-2.5-flash",
        "status": "ok",
        "http_status": 200,
        "tokens_reserved": 100,
        "tokens_input": 10,
        "tokens_output": 20,
        "tokens_used": 30,
        "cost_micros": 50,
        "created_at": at,
    }
    codes = {429: "rate_limited", 402: "credits_exhausted"}
    if values.get("http_status") in codes:
        values = {"error_code": codes[values["http_status"]]} | values
    connection.execute(insert(Call).values(**(row | values)))


@pytest.fixture
def ada(engine):
    with engine.begin() as connection:
        (agent_id,) = make_agents(connection, 1)
        return agent_id, make_run(connection, agent_id)


def sums(connection, table):
    row = connection.execute(
        select(func.sum(table.requests), func.sum(table.tokens_used), func.sum(table.cost_micros))
    ).one()
    return tuple(int(value or 0) for value in row)


AGO = st.timedeltas(timedelta(0), timedelta(days=45))
"""Back over the night in which clocks change in Berlin, Lord Howe and New York."""


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    zone=st.sampled_from(ZONES),
    early=st.lists(AGO, min_size=1, max_size=12),
    late=st.lists(st.integers(0, 110), max_size=6),
    steps=st.lists(st.sampled_from(["round", "keep"]), min_size=1, max_size=4),
)
@pytest.mark.plan(43)
def test_rollups_equal_the_ledger_whatever_is_made_dropped_and_repeated(
    engine, ada, zone, early, late, steps
):
    """Rounds and retention in any order; rows that end late; single calls gone, their sums are not."""
    agent_id, run_id = ada
    zone, now = ZoneInfo(zone), utcnow()

    def roll_up():
        with engine.begin() as connection:
            sum_up_all(connection, zone)

    with engine.begin() as connection:
        for table in USAGE_TABLES:
            connection.execute(delete(table))
        for ago in early:
            add_call(connection, agent_id, run_id, now - ago)
        for minutes in late:
            at = now - timedelta(minutes=minutes)
            add_call(connection, agent_id, run_id, at, status="in_flight", tokens_used=None, cost_micros=None)
        by_day = text(
            "select (created_at at time zone :zone)::date, sum(coalesce(tokens_used, 7)) "
            "from paceline.ai_request_log group by 1 order by 1"
        )
        ledger = dict(connection.execute(by_day, {"zone": zone.key}).all())
    for step in steps:
        if step == "round":
            roll_up()
        else:
            partitions.keep(engine, now, zone, keep_days=9)
    with engine.begin() as connection:  # calls of hours that had been summed up end
        ended = update(Call).where(Call.status == "in_flight")
        connection.execute(ended.values(status="ok", tokens_used=7, cost_micros=50))
    roll_up()
    partitions.keep(engine, now, zone, keep_days=9)
    count = len(early) + len(late)
    expected = (count, 30 * len(early) + 7 * len(late), 50 * count)
    with engine.connect() as connection:
        for table in (FleetHourlyUsage, DailyUsage, AgentDailyUsage):
            assert sums(connection, table) == expected
        assert differences.find_differences(connection, zone) == []
        daily = select(DailyUsage.day, func.sum(DailyUsage.tokens_used)).group_by(DailyUsage.day)
        assert {row[0]: int(row[1]) for row in connection.execute(daily)} == ledger
        oldest = connection.execute(select(func.min(Call.created_at))).scalar_one()
        assert oldest is None or oldest > now - timedelta(days=12), "old calls are gone"
        for until in (
            now + timedelta(seconds=1),
            now + timedelta(days=1),
        ):  # also when midnight came since the last round
            start = now - timedelta(days=50)
            start = start.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
            (by_place,) = reports.spent_by_community(connection, [start], until, zone)
            assert sum(by_place.values()) == 50 * count


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    zone=st.sampled_from(ZONES),
    written=st.lists(
        st.tuples(
            st.integers(0, 30 * 60),
            st.sampled_from(["ok", "unknown", "in_flight", "refused", "no_usage"]),
            st.booleans(),
        ),
        min_size=1,
        max_size=14,
    ),
    rolled_ago=st.integers(0, 5 * 60),
)
def test_quotas_count_the_same_by_sums_and_by_the_ledger(engine, ada, zone, written, rolled_ago):
    """Calls of the last 30 hours, some made and some ended since the watermark, which is so many minutes
    ago.
    """
    agent_id, run_id = ada
    zone, now = ZoneInfo(zone), utcnow()
    kinds = {
        "ok": {},
        "unknown": {"status": "unknown", "tokens_used": None},
        "in_flight": {"status": "in_flight", "tokens_used": None},
        "refused": {"status": "error", "error_code": "rate_limited", "tokens_used": None},
        "no_usage": {"status": "error", "error_code": "cut_off", "tokens_used": None},
    }
    with engine.begin() as connection:
        for table in USAGE_TABLES:
            connection.execute(delete(table))

        def write(is_late):
            for minutes, kind, late in written:
                # a call that comes after the round is later than the watermark
                at = now - timedelta(minutes=minutes % max(rolled_ago, 1) if is_late else minutes)
                if late is is_late and (rolled_ago or not is_late):
                    add_call(connection, agent_id, run_id, at, tokens_reserved=500, **kinds[kind])

        write(is_late=False)
        rollups.roll_up(connection, zone, late=timedelta(minutes=rolled_ago))
        write(is_late=True)
        since = now - rollups.LOOK_BACK + timedelta(minutes=1)
        ended = update(Call).where(Call.status == "in_flight", Call.created_at > since)
        connection.execute(ended.values(status="ok", tokens_used=30))
        start, _ = day_window(now, zone)
        assert quotas.tokens_by_agent(connection, start, zone) == tokens_by_agent(connection, start)


def test_sums_of_the_release_before_are_made_anew_so_that_quotas_count_what_nobody_knows(engine, ada):
    """Its rows say nothing of reserved tokens: migration 0017 lets the next round make them again."""
    (path,) = Path(migrations.__file__).parents[1].glob("alembic/versions/*_0017_*.py")
    made = run_path(str(path))
    zone, now = ZoneInfo("UTC"), utcnow()
    start, _ = day_window(now, zone)
    with engine.begin() as connection:
        add_call(connection, *ada, now - timedelta(days=3))
        since_midnight = (now - start).total_seconds()
        for part in (0.1, 0.5, 0.9):
            at = start + timedelta(seconds=since_midnight * part)
            add_call(connection, *ada, at, status="unknown", tokens_used=None, tokens_reserved=500)
        sum_up_all(connection, zone)
        for table in made["TABLES"]:
            connection.execute(text(f"update paceline.{table} set tokens_unknown = 0"))
        for statement in made["ANEW"]:
            connection.execute(text(statement))
        truth = tokens_by_agent(connection, start)
        assert truth == {ada[0]: 1_500}
        assert quotas.tokens_by_agent(connection, start, zone) == truth, "before the next round"
        sum_up_all(connection, zone)
        assert quotas.tokens_by_agent(connection, start, zone) == truth, "and after it"
        day = select(AgentDailyUsage.tokens_unknown).where(AgentDailyUsage.day == start.date())
        assert connection.execute(day).scalar_one() == 1_500
        assert differences.find_differences(connection, zone) == []


def test_a_call_that_was_given_up_and_ended_after_all_counts_right_an_hour_later(engine, ada):
    """Its worker was frozen for minutes: the call counted as unknown, and its answer came all the same."""
    zone, now = ZoneInfo("UTC"), utcnow()
    late = now.replace(minute=0, second=0, microsecond=0) - timedelta(minutes=30)
    with engine.begin() as connection:
        add_call(connection, *ada, late, status="unknown", tokens_used=None, cost_micros=None)
        add_call(connection, *ada, now)
        sum_up_all(connection, zone)
        assert sums(connection, AgentDailyUsage) == (2, 30, 50)
        ended = update(Call).where(Call.status == "unknown")
        connection.execute(ended.values(status="ok", tokens_used=30, cost_micros=50))
        back = "update paceline.usage_state set {0} = {0} - interval '1 hour'"
        for column in ("rolled_at", "watermark_of"):  # as if that round had been an hour ago
            connection.execute(text(back.format(column)))
        sum_up_all(connection, zone)
        for table in (FleetHourlyUsage, HourlyUsage, DailyUsage, AgentDailyUsage):
            assert sums(connection, table) == (2, 60, 100)


def test_day_is_frozen_when_it_equals_the_ledger_and_never_written_again(engine, ada):
    zone = ZoneInfo("UTC")
    with engine.begin() as connection:
        old = utcnow() - timedelta(days=3)
        add_call(connection, *ada, old)
        add_call(connection, *ada, utcnow() - timedelta(days=2), status="in_flight")
        add_call(connection, *ada, utcnow())
        assert sum_up_all(connection, zone).frozen == (old.date(),)
        assert sum_up_all(connection, zone).frozen == (), "a call is open on the next day"
        connection.execute(update(Call).where(Call.status == "in_flight").values(status="unknown"))
        assert sum_up_all(connection, zone).frozen, "mended, then frozen"
        assert differences.find_differences(connection, zone) == []
        add_call(connection, *ada, old)
        sum_up_all(connection, zone)
        assert sums(connection, DailyUsage)[0] == 3
        first = select(func.min(DailyUsage.day)).scalar_subquery()
        connection.execute(update(DailyUsage).where(DailyUsage.day == first).values(tokens_used=1))
        assert [d.rollup for d in differences.find_differences(connection, zone)] == ["ai_usage_daily"]
        assert differences.find_differences(connection, zone, days=1) == [], "the newest frozen day is right"


def test_a_day_whose_rollups_stay_different_is_not_frozen(engine, ada):
    """So that its calls are not dropped either: they are the only proof."""
    zone, old = ZoneInfo("UTC"), utcnow() - timedelta(days=2)
    with engine.begin() as connection:
        connection.execute(
            text("""
          create function pg_temp.one_more() returns trigger language plpgsql as
          $$ begin new.requests := new.requests + 1; return new; end $$
        """)
        )
        connection.execute(
            text(
                "create trigger one_more before insert on paceline.ai_usage_daily "
                "for each row execute function pg_temp.one_more()"
            )
        )
        add_call(connection, *ada, old)
        assert sum_up_all(connection, zone).frozen == ()
        told = [difference.rollup for difference in differences.find_differences(connection, zone)]
        assert "ai_usage_daily" in told
        connection.execute(text("drop trigger one_more on paceline.ai_usage_daily"))
        assert old.date() in sum_up_all(connection, zone).frozen


def test_calls_without_a_partition_of_their_day_are_taken_and_sorted_in_later(engine, ada):
    zone, far = ZoneInfo("UTC"), utcnow() + timedelta(days=30)
    partitions.keep(engine, utcnow(), zone, 90)
    with engine.begin() as connection:
        add_call(connection, *ada, far)
        add_call(connection, *ada, far + timedelta(days=1), status="in_flight")
    later = far + timedelta(days=2)
    assert partitions.keep(engine, far, zone, 90).made == 6, "not the days that are not settled"
    with engine.connect() as connection:
        assert partitions.rows_in_rest(connection) == 2
    partitions.keep(engine, later, zone, 90)
    with engine.begin() as connection:
        assert partitions.rows_in_rest(connection) == 1, "a call is under way"
        connection.execute(update(Call).values(status="ok"))
    partitions.keep(engine, later, zone, 90)
    with engine.connect() as connection:
        assert partitions.rows_in_rest(connection) == 0
        assert connection.execute(select(func.count()).select_from(Call)).scalar_one() == 2


def test_partitions_give_way_to_whoever_uses_the_ledger(engine, ada, monkeypatch):
    """A worker between two statements never loses its answer to them."""
    monkeypatch.setattr(partitions, "TRIES", 1)
    monkeypatch.setattr(partitions, "PAUSE_S", 0)
    far = utcnow() + timedelta(days=60)
    with engine.begin() as connection:
        connection.execute(text("lock table paceline.agents in row exclusive mode"))
        add_call(connection, *ada, utcnow())
        assert partitions.keep(engine, far, ZoneInfo("UTC"), 90).made == 0
    assert partitions.keep(engine, far, ZoneInfo("UTC"), 90).made == 8


def test_ranking_is_read_where_asking_anew_is_slow(engine, ada, monkeypatch):
    """Rows, sums and order are those of the breakdown; a fast one is not read, an old one neither."""
    zone, now = ZoneInfo("UTC"), utcnow()
    with engine.begin() as connection:
        others = make_agents(connection, 4)[1:]
        for n, agent_id in enumerate([ada[0], *others]):
            for _ in range(n + 1):
                add_call(connection, agent_id, ada[1], now - timedelta(minutes=5), cost_micros=90 - 30 * n)
        sum_up_all(connection, zone)
    assert ranking.rank(engine, now, zone) == "10 rankings"
    assert ranking.rank(engine, now, zone) == "0 rankings", "not due again"
    assert ranking.rank(engine, now + timedelta(minutes=2), zone) == "10 rankings"
    with engine.connect() as connection:
        assert ranking.read_ranking(connection, Span.WEEK, Group.AGENT, Metric.COST, now, zone) is None
        monkeypatch.setattr(ranking, "SLOW", timedelta(-1))
        for metric in Metric:
            for by in ranking.GROUPS:
                found = ranking.read_ranking(connection, Span.MONTH, by, metric, now, zone)
                start = periods.span_start(Span.MONTH, now, zone)
                assert found.rows == reports.breakdown(connection, start, now, by, zone, 100, metric)
        late = now + timedelta(days=2)
        assert ranking.read_ranking(connection, Span.WEEK, Group.AGENT, Metric.COST, late, zone) is None


def test_first_bar_of_a_chart_is_a_whole_one(engine, ada):
    zone, now = ZoneInfo("Asia/Kolkata"), utcnow()  # half an hour off
    with engine.begin() as connection:
        for hours in range(60):
            add_call(connection, *ada, now - timedelta(hours=hours, minutes=2))
        sum_up_all(connection, zone)
        bars = reports.series(connection, now - timedelta(hours=23), now, reports.Step.HOUR, zone)
        assert [usage.requests for _, usage in bars[:-1]] == [1] * (len(bars) - 1)
        assert len(bars) == 24
        days = reports.series(connection, now - timedelta(days=1), now, reports.Step.DAY, zone)
        assert days[0][1].requests == 24


def test_difference_between_ledger_and_rollup_is_seen(engine, ada):
    zone = ZoneInfo("UTC")
    with engine.begin() as connection:
        for hours in (1, 5):
            add_call(connection, *ada, utcnow() - timedelta(hours=hours))
        sum_up_all(connection, zone)
        assert differences.find_differences(connection, zone) == []
        old = select(func.min(FleetHourlyUsage.hour)).scalar_subquery()
        connection.execute(update(FleetHourlyUsage).where(FleetHourlyUsage.hour == old).values(tokens_used=1))
        found = differences.find_differences(connection, zone)
        assert {d.rollup for d in found} >= {"ai_usage_fleet_hourly"}
        hours = next(d for d in found if d.rollup == "ai_usage_fleet_hourly")
        assert hours.ledger[1] - hours.found[1] == 29, "30 tokens were booked, 1 was left"
        assert "the fleet: " in str(hours)
        assert f"{hours.ledger[1]:,} tokens" in str(hours)


def test_another_time_zone_is_refused_until_the_sums_are_made_anew(engine, ada):
    with engine.begin() as connection:
        for hours in range(0, 90, 3):
            add_call(connection, *ada, utcnow() - timedelta(hours=hours))
        sum_up_all(connection, ZoneInfo("UTC"))
    kolkata = ZoneInfo("Asia/Kolkata")
    with engine.begin() as connection:
        with pytest.raises(ConfigError, match="paceline db rezone"):
            sum_up_all(connection, kolkata)
        with pytest.raises(ConfigError, match="the days of UTC"):
            zones.check_zone(connection, kolkata)
    seen = []
    zones.rezone(engine, kolkata, lambda done, whole: seen.append((done, whole)))
    assert seen[-1][0] == seen[-1][1] > 3
    with engine.begin() as connection:
        sum_up_all(connection, kolkata)
        zones.check_zone(connection, kolkata)
        assert differences.find_differences(connection, kolkata) == []
        assert sums(connection, DailyUsage)[0] == 30
        assert connection.execute(select(func.count()).select_from(UsageDay)).scalar_one() >= 2


def test_days_whose_calls_are_gone_cannot_be_cut_anew(engine, ada):
    with engine.begin() as connection:
        add_call(connection, *ada, utcnow() - timedelta(days=4))
        add_call(connection, *ada, utcnow())
        sum_up_all(connection, ZoneInfo("UTC"))
        connection.execute(delete(Call).where(Call.created_at < utcnow() - timedelta(days=2)))
    with pytest.raises(ConfigError, match="are gone"):
        zones.rezone(engine, ZoneInfo("Asia/Kolkata"), lambda *_: None)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.plan(44, 45)
def test_requirements_44_45_requests_and_cost_today_this_week_this_month(engine, ada, zone):
    zone = ZoneInfo(zone)
    now = datetime(2026, 11, 18, 15, 30, tzinfo=zone)  # a Wednesday
    midnight = now.replace(hour=0, minute=0)
    second = timedelta(seconds=1)
    with engine.begin() as connection:
        monday, first = midnight - timedelta(days=2), midnight.replace(day=1)
        starts = (midnight, monday, first)
        for at in (*starts, *(start - second for start in starts), now - second):
            add_call(connection, *ada, at.astimezone(UTC))
        for with_rollup in (False, True):
            if with_rollup:
                sum_up_all(connection, zone)
            today, week, month = periods.periods(connection, now, zone)
            assert [p.usage.requests for p in (today, week, month)] == [2, 4, 6], with_rollup
            assert [p.before.requests for p in (today, week, month)] == [0, 0, 0]
            assert month.usage.cost_micros == 6 * 50


@pytest.mark.plan(46, 36)
def test_requirement_46_usage_by_agent_community_type_model_and_outcome(engine):
    with engine.begin() as connection:
        one, two = make_agents(connection, 2)
        for agent, count in ((one, 1), (two, 3)):
            run_id = make_run(connection, agent)
            for _ in range(count):
                add_call(connection, agent, run_id, utcnow())
        add_call(
            connection,
            one,
            run_id,
            utcnow(),
            status="error",
            http_status=429,
            tokens_input=None,
            tokens_output=None,
            tokens_used=None,
            cost_micros=None,
        )
        start, until = utcnow() - timedelta(hours=1), utcnow() + timedelta(minutes=1)

        def by(group):
            found = reports.breakdown(connection, start, until, group, ZoneInfo("UTC"))
            return [(name, usage.requests, usage.rate_limited) for name, usage in found]

        assert by(Group.AGENT) == [("a1", 3, 0), ("a0", 2, 1)]
        assert by(Group.COMMUNITY) == [("Tests", 5, 1)]
        assert by(Group.TYPE) == [("post", 5, 1)]
        assert by(Group.OUTCOME) == [("ok", 4, 0), ("rate_limited", 1, 1)]


@pytest.mark.plan(47)
def test_requirement_47_refusals_become_one_incident_that_opens_and_closes_once(engine, ada):
    long_ago = utcnow() - timedelta(minutes=20)
    with engine.begin() as connection:
        for n in range(5):
            at = long_ago + timedelta(seconds=10 * n)
            add_call(connection, *ada, at, status="error", http_status=429)
        assert incidents.fold(connection).closed == (), "nobody knows yet that it is over"
        connection.execute(delete(Incident))
        add_call(connection, *ada, long_ago + timedelta(minutes=1))
        folded = incidents.fold(connection)
        assert (len(folded.opened), len(folded.closed)) == (1, 1)
        assert incidents.fold(connection) == incidents.Folded()
        (incident,) = incidents.list_incidents(connection)
        assert (incident["calls"], incident["agents"], incident["kind"]) == (5, 1, "rate_limited")
        assert incident["closed_at"] == incident["last_at"]
        add_call(connection, *ada, utcnow(), status="error", http_status=429)
        add_call(connection, *ada, utcnow(), status="error", http_status=402)
        assert len(incidents.fold(connection).opened) == 2
        assert incidents.fold(connection) == incidents.Folded()
        add_call(connection, *ada, utcnow(), status="error", http_status=429)
        incidents.fold(connection)
        query = select(Incident.calls).where(Incident.closed_at.is_(None), Incident.kind == "rate_limited")
        assert connection.execute(query).scalar_one() == 2


@pytest.mark.plan(19)
def test_requirement_19_each_step_of_a_budget_is_told_once():
    def steps(spent):
        budget = BudgetStatus("fleet", "day", "2026-11-22", 1_000, spent)
        messages = budget_messages(budget, ZoneInfo("UTC"), OverBudget.STOP)
        return [message.key for message in messages]

    assert steps(499) == []
    assert steps(500) == ["budget.2026-11-22.1000.50"]
    assert steps(960) == ["budget.2026-11-22.1000.95"], "the highest is enough"
    own = BudgetStatus("Bread", "day", "2026-11-22", 1_000, 1_000)
    last = budget_messages(own, ZoneInfo("UTC"), OverBudget.POSTS_ONLY)[-1]
    assert "posts only" in last.body
    assert "budget set --community 'Bread'" in last.body
    assert steps(5_000)[-1] == "budget.2026-11-22.1000.100"


@pytest.mark.plan(16, 19)
def test_first_402_and_a_silent_scheduler_are_told_and_their_end_too(services):
    with services.engine.begin() as connection:
        (agent_id,) = make_agents(connection, 1)
        run_id = make_run(connection, agent_id)
        add_call(
            connection, agent_id, run_id, utcnow() - timedelta(minutes=5), status="error", http_status=402
        )
        incidents.fold(connection)
        jobs.done(connection, jobs.OPEN_SLICE, "slice")
        connection.execute(update(Job).values(done_at=func.now() - timedelta(hours=1)))
        first = evaluate(connection, services.settings)
        assert {message.key.split(".")[0] for message in first} == {"incident", "scheduler"}
        assert outbox.post(connection, first) == 2
        assert outbox.post(connection, first) == 0
        jobs.done(connection, jobs.OPEN_SLICE, "slice")
        add_call(connection, agent_id, run_id, utcnow() - timedelta(minutes=1))
        incidents.fold(connection)
        again = evaluate(connection, services.settings)
        assert outbox.post(connection, again) == 2
        assert all(
            key.endswith(".over")
            for key in connection.execute(select(Alert.key).where(Alert.severity == "info")).scalars()
        )


def test_ten_evaluators_and_senders_at_once_send_each_message_once(engine):
    arrived = []

    def channel(message):
        arrived.append(message.key)
        return True

    messages = [Message(f"key.{n}", "warning", "title", "body") for n in range(10)]

    def work():
        with engine.begin() as connection:
            outbox.post(connection, messages)
        outbox.send_due(engine, channel)

    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(arrived) == sorted(message.key for message in messages)


def test_dead_channel_loses_nothing_and_says_why(engine):
    def broken(_):
        raise ConnectionError("no route")

    with engine.begin() as connection:
        outbox.post(connection, [Message("key", "warning", "title", "body")])
    assert outbox.send_due(engine, broken) == (0, 1)
    assert outbox.send_due(engine, broken) == (0, 0), "it waits before the next try"
    with engine.begin() as connection:
        (alert,) = outbox.list_alerts(connection)
        assert (alert["tries"], alert["sent_at"]) == (1, None)
        assert alert["last_error"] == "ConnectionError: no route"
        connection.execute(update(Alert).values(next_try_at=func.now()))
    assert outbox.send_due(engine, lambda _: True) == (1, 0)
