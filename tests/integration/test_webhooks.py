"""Webhooks: signed, in order, tried again, and nowhere that they must not go."""

import json
import threading
from datetime import timedelta

import pytest
from sqlalchemy import func, insert, select, update

from app.alerts import outbox
from app.clock import utcnow
from app.community.review import decide
from app.errors import ConfigError
from app.integration import EVENTS, deliveries, sending, webhooks
from app.integration.deliver import Receivers
from app.integration.deliveries import Due
from app.models import Agent, Delivery, Incident, Post, Webhook, WebhookState
from app.runs.execute import execute
from app.wiring import build
from tests.conftest import make_settings
from tests.support.factories import make_agents, make_run
from tests.support.program import wait_for
from tests.support.receiver import receiving


@pytest.fixture
def fleet(engine, redis, embedded, sandbox, home):
    built = build(
        make_settings(
            embedded, sandbox.url, home, app={"private_networks": True}, activity={"visit_every_s": 0}
        )
    )
    yield built
    built.close()


@pytest.fixture
def receivers(fleet):
    found = Receivers(fleet.engine, fleet.settings)
    yield found
    found.close()


@pytest.fixture
def receiver():
    with receiving() as mine:
        yield mine


def add(fleet, receiver, events="*"):
    with fleet.engine.begin() as connection:
        hook_id, secret = webhooks.add(connection, receiver.url, events.split(","), actor="t", reason="")
    receiver.secrets.append(secret)
    return hook_id


def write(fleet, count=2):
    with fleet.engine.begin() as connection:
        ids = make_agents(connection, count)
        connection.execute(update(Agent).values(welcomed_at=func.now()))
        runs = [make_run(connection, agent) for agent in ids]
    for run_id in runs:
        assert execute(fleet, run_id).state == "completed"


def standing(fleet, hook_id):
    with fleet.engine.connect() as connection:
        return deliveries.backlog(connection, str(hook_id))


def at_once(fleet):
    with fleet.engine.begin() as connection:
        connection.execute(update(Delivery).values(next_at=func.now()))
        connection.execute(update(Webhook).values(rests_until=None))


def deliver(fleet, receivers, hook_id):
    """Until nothing is due."""
    while sending.deliver(fleet.engine, receivers.http, hook_id):
        pass


def test_events_come_signed_and_each_once_and_those_of_a_thread_in_order(fleet, receivers, receiver):
    hook = add(fleet, receiver)
    write(fleet, 3)
    with fleet.engine.begin() as connection:
        post = connection.execute(select(Post.id).limit(1)).scalar_one()
        decide(connection, "hide", [post], actor="eve", reason="x")
        connection.execute(update(Agent).where(Agent.handle == "a0").values(state="paused"))
    deliver(fleet, receivers, hook)
    assert receiver.forged == 0
    assert len(receiver.ids) == len(set(receiver.ids)) == len(receiver.events)
    kinds = [event["type"] for event in receiver.events]
    assert kinds.count("post.published") == 3
    assert "agent.paused" in kinds
    mine = [event["type"] for event in receiver.events if event["data"]["id"] == str(post)]
    assert mine == ["post.published", "post.hidden"]
    told = next(event for event in receiver.events if event["type"] == "post.published")
    assert set(told["data"]) == {"id", "body", "kind", "run", "created_at", "agent", "community"}
    assert set(kinds) <= set(EVENTS)
    deliver(fleet, receivers, hook)
    assert len(receiver.events) == len(kinds)


def test_only_the_events_that_were_asked_for_come(fleet, receivers, receiver):
    hook = add(fleet, receiver, "post.hidden,agent.*")
    write(fleet, 2)
    assert standing(fleet, hook).pending == 0
    with fleet.engine.begin() as connection:
        post = connection.execute(select(Post.id).limit(1)).scalar_one()
        decide(connection, "hide", [post], actor="eve", reason="x")
    deliver(fleet, receivers, hook)
    assert [event["type"] for event in receiver.events] == ["post.hidden"]


def test_while_a_secret_rotates_both_fit_and_then_only_the_new_one(fleet, receivers, receiver):
    hook = add(fleet, receiver)
    with fleet.engine.begin() as connection:
        found = webhooks.find(connection, str(hook))
        receiver.secrets.append(webhooks.rotate(connection, found, actor="t", reason=""))
    write(fleet, 1)
    deliver(fleet, receivers, hook)
    assert (receiver.forged, len(receiver.events)) == (0, 1)
    with fleet.engine.begin() as connection:
        connection.execute(update(Webhook).values(old_until=func.now() - timedelta(seconds=1)))
    write_again(fleet)
    deliver(fleet, receivers, hook)
    assert receiver.forged == 1, "the old one fits no more"


def write_again(fleet):
    with fleet.engine.begin() as connection:
        agent = connection.execute(select(Agent.id).limit(1)).scalar_one()
        run = make_run(connection, agent)
    execute(fleet, run)


@pytest.mark.parametrize("answer", [(500, {}), (404, {}), (302, {"Location": "http://127.0.0.1:1/"})])
def test_what_is_not_taken_is_tried_again_later_and_not_lost(fleet, receivers, receiver, answer):
    hook = add(fleet, receiver)
    write(fleet, 2)
    receiver.answers = [answer]
    deliver(fleet, receivers, hook)
    assert receiver.requests == 1, (
        "a receiver in trouble is not asked for the others, and no redirect is followed"
    )
    waiting = standing(fleet, hook).pending
    assert waiting >= 2
    assert str(answer[0]) in standing(fleet, hook).error
    at_once(fleet)
    deliver(fleet, receivers, hook)
    assert len(receiver.events) == waiting
    assert standing(fleet, hook).pending == 0


def test_a_receiver_in_trouble_rests_and_is_not_asked_for_other_events_meanwhile(fleet, receivers, receiver):
    hook = add(fleet, receiver)
    write(fleet, 4)
    receiver.answers = [(500, {})] * 20
    for _ in range(5):
        deliver(fleet, receivers, hook)
    assert receiver.requests == 1, "one of many events found out for all"
    receiver.answers = []
    at_once(fleet)
    deliver(fleet, receivers, hook)
    assert standing(fleet, hook).pending == 0


def test_incidents_and_budgets_are_events_too(fleet, receivers, receiver):
    hook = add(fleet, receiver, "incident.*,budget.crossed")
    with fleet.engine.begin() as connection:
        at = {"opened_at": utcnow(), "last_at": utcnow(), "calls": 1, "agents": 1, "peak_per_minute": 1}
        connection.execute(insert(Incident).values(kind="credits_exhausted", **at))
        connection.execute(update(Incident).values(closed_at=func.now()))
        outbox.post(connection, [outbox.Message("budget.day.1.80", "warning", "80 %", "of it")])
        outbox.post(connection, [outbox.Message("sign_in.x", "warning", "other", "thing")])
    deliver(fleet, receivers, hook)
    kinds = [event["type"] for event in receiver.events]
    assert sorted(kinds) == ["budget.crossed", "incident.closed", "incident.opened"]
    assert kinds.index("incident.opened") < kinds.index("incident.closed")


def test_retry_after_is_kept_and_410_disables(fleet, receivers, receiver):
    hook = add(fleet, receiver)
    write(fleet, 1)
    receiver.answers = [(429, {"Retry-After": "120"})]
    deliver(fleet, receivers, hook)
    with fleet.engine.connect() as connection:
        wait = connection.execute(select(Delivery.next_at - func.now())).scalar_one()
    assert timedelta(seconds=110) < wait <= timedelta(seconds=120)
    at_once(fleet)
    receiver.answers = [(410, {})]
    deliver(fleet, receivers, hook)
    with fleet.engine.connect() as connection:
        found = webhooks.find(connection, str(hook))
    assert (found.state, "410" in found.reason) == (WebhookState.DISABLED, True)
    write_again(fleet)
    assert receiver.requests == 2


def test_after_a_day_and_a_half_it_is_dead_and_can_be_sent_again(fleet, receivers, receiver):
    hook = add(fleet, receiver)
    write(fleet, 1)
    assert 86_400 < sum(deliveries.WAITS_S) < 4 * 86_400
    receiver.answers = [(500, {})] * (len(deliveries.WAITS_S) + 1)
    for _ in range(len(deliveries.WAITS_S) + 1):
        deliver(fleet, receivers, hook)
        at_once(fleet)
    assert standing(fleet, hook).dead == 1
    with fleet.engine.begin() as connection:
        assert deliveries.revive(connection, str(hook)) == 1
    deliver(fleet, receivers, hook)
    assert len(receiver.events) == 1
    with fleet.engine.begin() as connection:
        since = utcnow() - timedelta(hours=1)
        assert deliveries.revive(connection, str(hook), since) == 1, "also what arrived"
    deliver(fleet, receivers, hook)
    assert receiver.ids[0] == receiver.ids[1], "under the same id, so that it can be known again"


def posts_of(receiver):
    return [event["type"] for event in receiver.events].count("post.published")


def test_a_receiver_that_hangs_holds_back_no_other(fleet, receivers, receiver):
    let_go = threading.Event()
    with receiving() as slow:
        slow.before = lambda: let_go.wait(30)
        add(fleet, slow)
        add(fleet, receiver)
        write(fleet, 3)
        receivers.begin_webhooks()
        wait_for(lambda: posts_of(receiver) == 3, 20, "the events of the other one")
        assert slow.requests == 1
        assert slow.events == []
        let_go.set()
        wait_for(lambda: posts_of(slow) == 3, 20, "those of the slow one")


def test_bodies_are_small_and_what_they_hold_is_whole(fleet, receivers, receiver):
    hook = add(fleet, receiver)
    write(fleet, 1)
    deliver(fleet, receivers, hook)
    due = Due(1, 1, "post.published", receiver.events[0]["data"], 0, utcnow())
    body = sending.body_of(due)
    assert len(body) < sending.BODY_MAX
    assert json.loads(body)["data"] == receiver.events[0]["data"]


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://[::1]:{port}/",
        "http://0.0.0.0:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://2130706433:{port}/",
        "http://0x7f.1:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "http://192.168.1.1/",
        "http://[fd00::1]/",
        "http://[64:ff9b::7f00:1]:{port}/",
    ],
)
def test_no_request_goes_into_a_private_network_unless_a_setting_says_so(receiver, address):
    port = receiver.url.rpartition(":")[2].partition("/")[0]
    due = Due(1, 1, sending.TEST, {}, 0, utcnow())
    with sending.client(allows_private=False) as http:
        answer = sending.send(http, address.format(port=port), [webhooks.new_secret()], due)
    assert not answer.is_good
    assert receiver.requests == 0
    assert "private network" in answer.error or "Connect" in answer.error


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://example.org/", "no address"),
        ("https://user:pw@example.org/", "without a password"),
        ("http://example.org/", "https"),
        ("https://", "no address"),
        ("nonsense", "no address"),
        ("https://exa mple.org\n/", "no address"),
        ("https://example.org:99999/", "no address"),
    ],
)
def test_addresses_that_cannot_be_are_refused(url, said):
    with pytest.raises(ConfigError, match=said):
        webhooks.check_url(url, allows_private=False)


@pytest.mark.parametrize("events", [["post.nonsense"], ["nothing.*"], ["post.published", "x"]])
def test_unknown_events_are_refused_with_those_that_there_are(events):
    with pytest.raises(ConfigError, match="post\\.published"):
        webhooks.patterns(events)
