"""Usage of what is chosen, over chosen days: equal to sums over single calls, on every face."""

import csv
import io
import json
from collections import Counter
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select
from typer.testing import CliRunner

from app.cli.main import app
from app.clock import utcnow
from app.errors import ConfigError
from app.models import Agent, Call, Community
from app.settings import get_settings
from app.usage.explore import OTHERS, Asked, explore, series_of
from app.usage.periods import Span
from app.usage.reports import Group, Metric
from app.usage.rollups import roll_up
from tests.integration.test_usage import USAGE_TABLES, add_call
from tests.support.factories import make_agents, make_run
from tests.support.web import Browser, api_token, serving

MODELS = ("google/gemini-2.5-flash", "google/gemini-2.5-flash-lite")
VALUE = {
    Metric.COST: lambda call: call.cost_micros or 0,
    Metric.REQUESTS: lambda call: 1,
    Metric.TOKENS: lambda call: (call.tokens_input or 0) + (call.tokens_output or 0),
    Metric.ERRORS: lambda call: int(call.status != "ok"),
}


@pytest.fixture
def fleet(engine):
    """Three agents of two communities, each with a run."""
    with engine.begin() as connection:
        agents = make_agents(connection, 2, "Tests") + make_agents(connection, 3, "Bread")[2:]
        return [(agent, make_run(connection, agent)) for agent in agents]


def call_rows(connection):
    query = select(Call.__table__, Agent.handle, Community.name.label("community")).join(
        Agent, Agent.id == Call.agent_id
    )
    return connection.execute(query.join(Community, Community.id == Agent.community_id)).all()


def name_of(row, group):
    outcome = row.status if row.status != "error" else row.error_code
    names = (row.handle, row.community, row.request_type, row.model, outcome)
    return dict(zip(Group, names, strict=True))[group]


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    zone=st.sampled_from(("UTC", "Asia/Kolkata", "America/New_York")),
    calls=st.lists(
        st.tuples(
            st.integers(0, 2), st.integers(1, 9 * 1440), st.integers(0, 1), st.booleans(), st.booleans()
        ),
        min_size=1,
        max_size=20,
    ),
    first=st.integers(0, 5),
    length=st.integers(1, 4),
    by=st.sampled_from(Group),
    metric=st.sampled_from(Metric),
    only=st.sets(st.sampled_from(Group), max_size=3),
    late=st.integers(0, 3_000),
)
def test_any_question_is_answered_as_single_calls_say(
    engine, fleet, zone, calls, first, length, by, metric, only, late
):
    """Calls of nine days, summed up to some moment; a question over some days with some names chosen."""
    zone, now = ZoneInfo(zone), utcnow()
    with engine.begin() as connection:
        for table in USAGE_TABLES:
            connection.execute(delete(table))
        for agent, minutes, model, is_ok, is_comment in calls:
            refused = {
                "status": "error",
                "http_status": 429,
                "cost_micros": None,
                "tokens_input": None,
                "tokens_output": None,
                "tokens_used": None,
            }
            add_call(
                connection,
                *fleet[agent],
                now - timedelta(minutes=minutes),
                model=MODELS[model],
                request_type="comment" if is_comment else "post",
                **({} if is_ok else refused),
            )
        roll_up(connection, zone, late=timedelta(minutes=late))
        rows = call_rows(connection)
        chosen = {group: name_of(rows[0], group) for group in only}
        today = now.astimezone(zone).date()
        until = today - timedelta(days=first)
        since = until - timedelta(days=length - 1)
        question = Asked(
            metric=metric,
            by=by,
            since=since,
            until=until,
            **{str(group): name for group, name in chosen.items()},
        ).question(now, zone)
        found = explore(connection, question, now, zone)

        def of(begin, end):
            return [
                row
                for row in rows
                if begin <= row.created_at.astimezone(zone).date() <= end
                and row.created_at < now
                and all(name_of(row, group) == name for group, name in chosen.items())
            ]

        wanted, before = of(since, until), of(since - timedelta(days=length), since - timedelta(days=1))
        value = VALUE[metric]
        expected = Counter()
        for row in wanted:
            expected[name_of(row, by)] += value(row)
        assert {row.name: getattr(row.usage, metric) for row in found.rows} == dict(expected)
        assert getattr(found.total, metric) == sum(expected.values())
        assert found.total.requests == len(wanted)
        assert found.before == sum(value(row) for row in before)
        for row in found.rows:
            assert row.before == sum(value(one) for one in before if name_of(one, by) == row.name)
        assert found.rest.requests == 0
        names = [row.name for row in found.rows]
        over_time = series_of(connection, found, zone)
        summed = {name: sum(v or 0 for v in values) for name, values in over_time.values.items()}
        assert sum(summed.values()) == sum(expected.values())
        for name in names:
            assert summed.get(name, 0) == expected[name]
        assert set(summed) <= {*names, OTHERS}


def test_the_first_rows_leave_a_rest_and_the_largest_come_first(engine, fleet):
    now, zone = utcnow(), ZoneInfo("UTC")
    with engine.begin() as connection:
        for number, (agent, run_id) in enumerate(fleet):
            for _ in range(number + 1):
                add_call(connection, agent, run_id, now - timedelta(seconds=5))
        found = explore(connection, Asked().question(now, zone), now, zone, limit=2)
    assert [row.usage.requests for row in found.rows] == [3, 2]
    assert (found.rest.requests, found.total.requests) == (1, 6)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"since": "2026-03-02", "until": "2026-03-01"}, "is after the last one"),
        ({"since": "2020-01-02"}, "at most 400 days at once"),
        ({"since": "0001-01-01", "until": "0001-01-01"}, "nothing was called before 2020"),
        ({"until": "1970-01-01"}, "nothing was called before 2020"),
    ],
)
def test_days_that_make_no_sense_are_refused_in_words(words, said):
    with pytest.raises(ConfigError, match=said):
        Asked.model_validate(words).question(utcnow(), ZoneInfo("UTC"))


def test_a_last_day_that_is_to_come_is_today_and_empty_words_were_not_given():
    now, zone = utcnow(), ZoneInfo("UTC")
    asked = Asked.model_validate({"since": "2026-11-01", "until": "2099-01-01", "agent": ""})
    question = asked.question(now, zone)
    assert (question.until, question.only, question.span) == (now.date(), {}, None)
    assert Asked.model_validate({"since": "", "until": ""}).question(now, zone).span is Span.TODAY


@pytest.fixture
def spent(services):
    """A fleet with calls of today and of three days ago; services."""
    with services.engine.begin() as connection:
        for number, agent in enumerate(make_agents(connection, 3)):
            run_id = make_run(connection, agent)
            for ago in (0, 3):
                add_call(
                    connection,
                    agent,
                    run_id,
                    utcnow() - timedelta(days=ago, seconds=1),
                    model=MODELS[number % 2],
                    cost_micros=1_000_000 * (number + 1 + ago),
                )
    return services


def test_page_csv_and_api_give_the_same_answer(spent):
    today = utcnow().astimezone(spent.settings.zone).date()
    days = f"since={today - timedelta(days=4)}&until={today}"
    with serving(spent) as base:
        browser = Browser(spent, base)
        page = browser.get(f"/usage?by=agent&{days}&model={MODELS[0]}")
        lines = list(
            csv.DictReader(io.StringIO(browser.get(f"/usage.csv?by=agent&{days}&model={MODELS[0]}").text))
        )
        token = {"Authorization": f"Bearer {api_token(spent)}"}
        answer = browser.client.get(f"/api/v1/usage?by=agent&{days}&model={MODELS[0]}", headers=token).json()
        refused = browser.get(f"/usage?since={today}&until=2020-01-01")
        nonsense = browser.get("/usage?since=yesterday")
        odd = [
            browser.get(f"/usage{path}").status_code
            for path in (
                "?model=%00",
                "?agent=%ED%A0%80",
                "?community=%27%5B/x%5D",
                ".csv?type=%00",
                "?until=0001-01-01",
            )
        ]
        browser.close()
    assert page.status_code == 200, page.text
    costs = {"a0": 1 + 4, "a2": 3 + 6}
    assert {line["agent"]: int(line["cost_micros"]) / 1e6 for line in lines} == costs
    assert {row["name"]: row["usage"]["cost_micros"] / 1e6 for row in answer["rows"]} == costs
    assert answer["total"]["cost_micros"] == 14_000_000
    assert "$14.00" in page.text
    assert f"model: {MODELS[0]} \N{MULTIPLICATION SIGN}" in page.text, "what is chosen can be taken away"
    assert "agent=a2" in page.text, "each name is a filter"
    assert f"--since {today - timedelta(days=4)}" in page.text
    assert refused.status_code == 422
    assert "is after the last one" in refused.text
    assert nonsense.status_code == 422
    assert odd == [200, 200, 200, 200, 422]


def test_command_line_answers_the_same_question(spent, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", spent.settings.database_url.get_secret_value())
    monkeypatch.setenv("REDIS_URL", spent.settings.redis_url.get_secret_value())
    get_settings.cache_clear()  # each command is a process of its own
    first = (date.fromisoformat(str(utcnow().date())) - timedelta(days=4)).isoformat()
    words = ["usage", "--by", "model", "--since", first]
    ended = CliRunner().invoke(app, [*words, "--agent", "a2", "--json"], catch_exceptions=False)
    answer = json.loads(ended.stdout)
    assert [(row["name"], row["cost_micros"]) for row in answer["groups"]] == [(MODELS[0], 9_000_000)]
    assert answer["only"] == {"agent": "a2"}
    shown = CliRunner().invoke(app, [*words, "--agent", "a2"], catch_exceptions=False).stdout
    assert "$9.00" in shown
    assert "together" in shown
    assert CliRunner().invoke(app, ["usage", "--since", "yesterday"]).exit_code == 2
    unknown = CliRunner().invoke(app, ["usage", "--agent", "a22"])
    assert "unknown agent 'a22': did you mean" in str(unknown.exception)
    odd = CliRunner().invoke(app, ["usage", "--model", "[/x]", "--metric", "tokens"], catch_exceptions=False)
    assert (odd.exit_code, "nothing in this time" in odd.stdout) == (0, True)
    get_settings.cache_clear()
