"""Requirements of the plan over whole turns: a real gateway, a real database, deaths between statements."""

from collections import Counter
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from threading import Thread, current_thread
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError

from app.admission.controller import Permit, Place
from app.admission.limits import change_limits
from app.alerts import outbox
from app.alerts.rules import evaluate
from app.clock import monotonic, utcnow
from app.models import Agent, Alert, Call, Comment, Post, Run, Vote
from app.runs.execute import execute
from app.runs.rescue import rescue
from app.settings import load_settings
from app.statements import Statement
from app.usage.prices import cost_micros
from app.wiring import build
from tests.conftest import make_settings
from tests.integration.test_admission import acquire, change
from tests.support.factories import make_agents, make_run

FLASH, LITE = "google/gemini-2.5-flash", "google/gemini-2.5-flash-lite"


@pytest.fixture
def fleet(engine, redis, embedded, sandbox, home):
    """Make services with some settings of their own."""
    made = []

    def make(**groups):
        made.append(build(make_settings(embedded, sandbox.url, home, **groups)))
        return made[-1]

    yield make
    for services in made:
        services.close()


def agents_of(services, count, community="Tests"):
    with services.engine.begin() as connection:
        return make_agents(connection, count, community)


def turn(services, agent):
    with services.engine.begin() as connection:
        run_id = make_run(connection, agent)
    return execute(services, run_id)


def counted(services, *columns):
    with services.engine.connect() as connection:
        return Counter(tuple(row) for row in connection.execute(select(*columns)))


@pytest.mark.plan(1, 39, 54)
def test_one_key_is_enough_for_every_kind_of_call_and_no_other_key_is_sent(
    engine, redis, embedded, sandbox, home, monkeypatch
):
    """With the key of Lovable alone in the environment, and those of others beside it."""
    monkeypatch.chdir(home)
    for name in ("OPENAI_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, "never-to-be-sent")
    monkeypatch.setenv("LOVABLE_API_KEY", "the-only-key")
    monkeypatch.setenv("DATABASE_URL", embedded.database_url)
    monkeypatch.setenv("REDIS_URL", embedded.redis_url)
    monkeypatch.setenv("PACELINE_GATEWAY__BASE_URL", sandbox.url)
    monkeypatch.setenv("PACELINE_ACTIVITY__COMMENT_PROBABILITY", "1")
    sandbox.state.rules.key = "the-only-key"
    sent = []
    plain = httpx2.Client.send

    def send(self, request, **options):
        sent.append(str(request.headers.multi_items()))
        return plain(self, request, **options)

    monkeypatch.setattr(httpx2.Client, "send", send)
    services = build(load_settings())
    try:
        ends = [turn(services, agent) for agent in agents_of(services, 3)]
    finally:
        services.close()
    assert {end.state for end in ends} == {"completed"}
    assert {seen.status for seen in sandbox.state.seen} == {200}
    assert len(sent) == len(sandbox.state.seen) > 3
    assert all("Bearer the-only-key" in headers for headers in sent)
    assert not any("never-to-be-sent" in headers for headers in sent)


@pytest.mark.plan(2, 30, 31, 33)
@pytest.mark.parametrize(
    ("gateway", "of_posts", "of_comments"),
    [
        ({}, FLASH, LITE),
        ({"post_model": LITE}, LITE, LITE),
        ({"post_model": "openai/gpt-5-nano", "comment_model": FLASH}, "openai/gpt-5-nano", FLASH),
    ],
)
def test_the_gateway_is_asked_for_the_models_that_are_set_and_for_text_alone(
    fleet, sandbox, gateway, of_posts, of_comments
):
    services = fleet(gateway=gateway, activity={"comment_probability": 1})
    agents = agents_of(services, 3)
    for _ in range(2):
        for agent in agents:
            assert turn(services, agent).state == "completed"
    kinds = counted(services, Call.request_type, Call.model)
    assert {model for kind, model in kinds if kind in ("welcome", "post")} == {of_posts}
    assert {model for kind, model in kinds if kind == "comment"} == {of_comments}
    assert {kind for kind, _ in kinds} == {"welcome", "post", "comment"}
    asked = Counter(seen.model for seen in sandbox.state.seen)
    assert asked == Counter(model for (_, model), n in kinds.items() for _ in range(n))
    for body in sandbox.state.bodies:
        assert all(isinstance(message["content"], str) for message in body["messages"])
        assert not {"tools", "modalities", "audio", "image_config", "stream"} & set(body)


class Death(BaseException):
    """The worker process is gone: nothing of it goes on, not even its `except` and `finally`."""


@contextmanager
def death_at(moment):
    """Let this thread die at its n-th moment: before and after each of its statements, counted from 0."""
    mine, moments, plain = current_thread(), count(), Statement.execute

    def reach():
        if current_thread() is mine and next(moments) >= moment:
            raise Death

    def execute_or_die(statement, connection, **values):
        reach()
        found = plain(statement, connection, **values)
        reach()
        return found

    Statement.execute = execute_or_die
    try:
        yield
    finally:
        Statement.execute = plain


@pytest.mark.plan(7, 8, 17)
def test_a_worker_that_dies_before_or_after_any_statement_leaves_one_welcome_and_one_post_a_run(
    fleet, engine
):
    """The first turn of an agent is cut at each moment in turn, and ends in another worker."""
    mortal, other = (fleet(activity={"comment_probability": 1}) for _ in range(2))
    for moment in range(60):
        agent, host = agents_of(other, 2 * moment + 2)[-2:]
        turn(other, host)
        with engine.begin() as connection:
            run_id = make_run(connection, agent)
        died = False
        try:
            with death_at(moment):
                execute(mortal, run_id)
        except Death:
            died = True
            come_back(engine, run_id)
            execute(other, run_id)
        assert turn(other, agent).state == "completed"
        with engine.begin() as connection:
            runs = connection.execute(select(Run.state).where(Run.agent_id == agent)).scalars()
            posts = connection.execute(select(Post.run_id, Post.kind).where(Post.agent_id == agent)).all()
            connection.execute(update(Agent).values(state="paused"))
        assert set(runs) == {"completed"}, moment
        assert sorted(kind for _, kind in posts) == ["regular", "welcome"], moment
        assert len({run for run, _ in posts}) == 2, moment
        if not died:
            break
    assert not died, "the last turn was whole"
    assert moment > 8


def come_back(engine, run_id):
    """What the fleet does about a run whose worker is gone, without the wait for its lease."""
    with engine.begin() as connection:
        connection.execute(
            update(Run)
            .where(Run.id == run_id, Run.state == "running")
            .values(lease_until=func.now() - timedelta(seconds=1))
        )
        rescue(connection, patience=timedelta(0), call_deadline=timedelta(0))


@pytest.mark.plan(9, 21, 53)
@pytest.mark.parametrize(("probability", "each"), [(0, 0), (1, 2)])
def test_a_turn_has_as_many_comments_as_its_probability_says_and_each_is_one_call(
    fleet, sandbox, probability, each
):
    services = fleet(activity={"comment_probability": probability})
    agents = agents_of(services, 6)
    for agent in agents:
        turn(services, agent)
    before = len(sandbox.state.seen)
    for agent in agents:
        turn(services, agent)
    per_run = counted(services, Comment.run_id).values()
    assert max(per_run, default=0) == each
    assert len(sandbox.state.seen) - before == 6 * (1 + each), "a post, and its comments"


@pytest.mark.plan(13, 23)
def test_votes_and_ready_made_reactions_come_with_each_turn_and_cost_no_call(fleet, sandbox):
    services = fleet(activity={"comment_probability": 0})
    agents = agents_of(services, 5)
    for _ in range(3):
        for agent in agents:
            turn(services, agent)
    voted = counted(services, Vote.agent_id, Vote.post_id)
    assert set(voted.values()) == {1}, "nobody votes twice on a post"
    assert {agent for agent, _ in voted} == set(agents)
    own = counted(services, Post.agent_id, Post.id)
    assert not set(voted) & set(own), "nor on a post of their own"
    assert len(sandbox.state.seen) == 15, "one call a turn, for its post"
    values = {value for (value,) in counted(services, Vote.value)}
    assert values <= {-1, 1}


@pytest.mark.plan(19)
def test_each_step_of_a_budget_is_told_once_as_calls_are_paid(fleet):
    """Calls are paid until the day's budget is used up; alerts are judged after each."""
    services = fleet(activity={"comment_probability": 0})
    (agent,) = agents_of(services, 1)
    turn(services, agent)
    with services.engine.begin() as connection:
        paid = int(connection.execute(select(func.sum(Call.cost_micros))).scalar_one())
        limits = change_limits(
            connection, services.settings.limits, {"budget_day_micros": paid * 90}, actor="test", reason=""
        )
    services.admission.put_in_force(limits)
    told = []
    for _ in range(300):
        with services.engine.begin() as connection:
            spent = connection.execute(select(func.sum(Call.cost_micros))).scalar_one()
            outbox.post(connection, evaluate(connection, services.settings))
            keys = connection.execute(select(Alert.key).where(Alert.key.like("budget.%")))
            steps = {int(key.rsplit(".", 1)[1]) for key in keys.scalars()}
        told += [(step, spent / (paid * 90)) for step in sorted(steps - {step for step, _ in told})]
        end = turn(services, agent)
        if end.state != "completed":
            break
    assert [step for step, _ in told] == [50, 80, 95, 100]
    for step, share in told:
        assert step / 100 <= share < step / 100 + 0.1, "told with the call that passed it"
    assert "budget" in end.reason


@pytest.mark.plan(26, 49)
def test_a_row_of_the_ledger_is_an_agents_and_one_call_has_one_row(fleet):
    services = fleet()
    (agent,) = agents_of(services, 1)
    turn(services, agent)
    with services.engine.connect() as connection:
        row = connection.execute(select(Call)).mappings().one()
    assert row["agent_id"] == agent
    assert row["tokens_used"] == row["tokens_input"] + row["tokens_output"] > 0
    assert (utcnow() - row["created_at"]).total_seconds() < 30
    for other in ({"agent_id": uuid4(), "id": uuid4()}, {"request_type": None, "id": uuid4()}, {}):
        with pytest.raises(IntegrityError), services.engine.begin() as connection:
            connection.execute(insert(Call).values(dict(row) | other))


@pytest.mark.plan(27, 28)
@pytest.mark.parametrize(
    "limit",
    ["agent_daily_tokens", "tokens_per_minute", "budget_day_micros", "budget_month_micros", "community"],
)
def test_each_limit_is_kept_by_twenty_calls_that_ask_at_once(services, limit):
    """Each call asks for 100 tokens and 50 micro-dollars; every limit leaves room for seven of them."""
    agent, place = uuid4(), None
    if limit == "community":
        place = Place(uuid4(), day_micros=350, month_micros=0)
    else:
        change(services, **{limit: 350 if limit.endswith("micros") else 700})
    answers = []

    def ask():
        answers.append(acquire(services, agent_id=agent, place=place))

    threads = [Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(answer, Permit) for answer in answers) == 7


@pytest.mark.plan(32)
def test_a_gateway_that_never_answers_holds_a_run_for_its_timeout_and_no_longer(fleet, sandbox):
    services = fleet(
        gateway={"read_timeout_s": 1, "total_timeout_s": 1.5}, activity={"comment_probability": 0}
    )
    (agent,) = agents_of(services, 1)
    sandbox.fault("trickle", count=1, seconds=60)
    began = monotonic()
    end = turn(services, agent)
    assert monotonic() - began < 15
    assert end.state in ("completed", "failed"), end
    with services.engine.connect() as connection:
        calls = connection.execute(select(Call.status, Call.latency_ms).order_by(Call.created_at)).all()
    assert calls[0].status == "error"
    assert 1_000 <= calls[0].latency_ms < 5_000, "the time that was waited is recorded"


@pytest.mark.plan(52)
def test_what_the_lite_model_saves_is_the_difference_of_the_ledgers_bills(fleet):
    """The same turns on either model, priced by the tokens that the gateway counted."""
    bills = {}
    for model in (FLASH, LITE):
        services = fleet(gateway={"post_model": model}, activity={"comment_probability": 0})
        agents = agents_of(services, 3, f"On {model[-5:]}")
        for agent in agents:
            turn(services, agent)
        with services.engine.connect() as connection:
            rows = connection.execute(
                select(Call.tokens_input, Call.tokens_output, Call.cost_micros).where(Call.model == model)
            ).all()
        assert len(rows) == 3
        assert [row.cost_micros for row in rows] == [
            cost_micros(model, row.tokens_input, row.tokens_output, utcnow(), services.settings.usage)
            for row in rows
        ]
        bills[model] = sum(row.cost_micros for row in rows)
    assert 0.7 < 1 - bills[LITE] / bills[FLASH] < 0.9, "0.10 and 0.40 against 0.30 and 2.50 dollars"
