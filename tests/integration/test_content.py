"""What is published and what is not: rules, dry run, approval, caps. All of it without a restart."""

from datetime import timedelta

import pytest
from sqlalchemy import delete, select, update

from app import controls
from app.agents import roster
from app.agents.roster_file import Entry
from app.clock import utcnow
from app.community import feed
from app.community.review import decide, list_content
from app.gateway import Completion, TokenUsage, Usage
from app.models import Agent, AuditEntry, Call, Comment, ContentState, Post
from app.runs.actor import take_turn
from app.runs.execute import execute
from app.settings import ControlSettings
from tests.conftest import make_settings
from tests.support.factories import make_agents, make_run

from app.wiring import build  # isort: skip


def set_controls(services, **changes):
    with services.engine.begin() as connection:
        controls.change_controls(
            connection, services.settings.controls, changes, actor="test", reason="a test"
        )


def say(services, *texts):
    """Let the gateway answer with these texts in turn; the last one for ever."""
    left = list(texts)

    def complete(prompt):
        text = left.pop(0) if len(left) > 1 else left[0]
        return Completion(text, Usage(TokenUsage(10, 5)))

    services.gateway.complete = complete


def rows(services, *columns):
    with services.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(select(*columns).order_by(*columns))]


@pytest.fixture
def ada(services):
    with services.engine.begin() as connection:
        (agent,) = make_agents(connection, 1)
        connection.execute(update(Agent).values(welcomed_at=utcnow()))
    return agent


def run(services, agent):
    with services.engine.begin() as connection:
        run_id = make_run(connection, agent)
    return execute(services, run_id)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Buy my C O I N now", "holds the banned word 'Coin'"),
        ("Buy my c0in", "holds the banned word 'Coin'"),
        ("Buy my co-in now", "holds the banned word 'Coin'"),
        ("Buy my соin now", "holds the banned word 'Coin'"),
        ("Buy my coin now", "holds the banned word 'Coin'"),
        ("Buy my COÏN now", "holds the banned word 'Coin'"),
        ("Buy my c\u200boin, now", "holds the banned word 'Coin'"),
        ("coins are fine", None),
    ],
)
def test_banned_words_are_found_under_their_dress_and_as_words(services, ada, text, reason):
    set_controls(services, banned_words=["Coin"])
    say(services, text)
    outcome = run(services, ada)
    assert outcome.state == "completed", "it was paid for"
    assert outcome.reason == (reason and f"post: refused: {reason}")
    assert rows(services, Post.state) == [("refused" if reason else "published",)]


def test_refused_text_is_kept_out_of_every_feed_and_not_asked_for_again(services, ada):
    set_controls(services, banned_words=["coin"])
    say(services, "a coin")
    with services.engine.begin() as connection:
        run_id = make_run(connection, ada)
    execute(services, run_id)
    with services.engine.begin() as connection:
        (bob,) = make_agents(connection, 2)[1:]
        assert feed.latest_posts(connection) == []
        run_id = make_run(connection, bob)
    actor = take_turn(services, run_id, "")
    assert (actor.to_comment, actor.to_vote_on, actor.facts.quiet) == ((), [], None)


def test_links_are_taken_out_kept_or_refused(services, ada):
    text = "Read this: https://evil.example/x?y=1 and www.a.io too"
    for links, body, state in (
        ("remove", "Read this: and too", "published"),
        ("allow", text, "published"),
        ("refuse", text, "refused"),
    ):
        set_controls(services, links=links, duplicates_s=0)
        say(services, text)
        run(services, ada)
        assert rows(services, Post.created_at, Post.body, Post.state)[-1][1:] == (body, state)
    set_controls(services, links="remove")
    say(services, "https://only.example/link")
    assert run(services, ada).reason == "post: refused: nothing is left without its links"


def test_texts_that_differ_in_dress_only_are_said_once(services, ada):
    say(services, "Good morning, Berlin!", "good morning berlin", "GOOD  MORNING — BERLIN", "Good night.")
    reasons = [run(services, ada).reason for _ in range(4)]
    assert reasons == [None, "post: refused: was said before", "post: refused: was said before", None]
    with services.engine.begin() as connection:
        bob = make_agents(connection, 2)[1]
        (eve,) = make_agents_elsewhere(connection)
        connection.execute(update(Agent).values(welcomed_at=utcnow()))
    say(services, "Good morning Berlin")
    assert "was said before" in run(services, bob).reason, "somebody else in the same community"
    say(services, "Good morning Berlin")
    assert run(services, eve).reason is None, "another community has not heard it"


def make_agents_elsewhere(connection):
    roster.add_agents(connection, [Entry(1, "eve", "Eve", "Elsewhere", "You like tests.")])
    return [connection.execute(select(Agent.id).where(Agent.handle == "eve")).scalar_one()]


def test_dry_run_writes_and_records_and_publishes_nothing(services, sandbox):
    with services.engine.begin() as connection:
        (agent,) = make_agents(connection, 1)
    set_controls(services, dry_run=True)
    for _ in range(2):
        assert run(services, agent).reason == "welcome: dry run"
    assert rows(services, Post.kind, Post.state) == [("welcome", "dry_run")] * 2
    assert len(sandbox.state.seen) == 2, "calls are made and paid for"
    assert rows(services, Agent.welcomed_at) == [(None,)]
    set_controls(services, dry_run=False)
    assert run(services, agent).reason is None
    assert ("welcome", "published") in rows(services, Post.kind, Post.state)
    assert run(services, agent).posts == 1
    assert ("regular", "published") in rows(services, Post.kind, Post.state)


def test_review_keeps_posts_back_until_a_person_decides(services, ada):
    set_controls(services, review="posts")
    say(services, "one", "two", "three")
    for _ in range(3):
        assert run(services, ada).reason == "post: waits for approval"
    with services.engine.begin() as connection:
        waiting = list_content(connection, state=ContentState.PENDING)
        assert [item.body for item in waiting] == ["three", "two", "one"]
        one, two = waiting[2].id, waiting[1].id
        assert decide(connection, "approve", [one], actor="eve", reason="fine") == [one]
        assert decide(connection, "reject", [two], actor="eve", reason="dull") == [two]
        assert decide(connection, "approve", [one], actor="eve", reason="again") == []
        assert [body for _, body, _ in feed.latest_posts(connection)] == ["one"]
        assert decide(connection, "hide", [one], actor="eve", reason="after all") == [one]
        assert feed.latest_posts(connection) == []
    assert rows(services, Post.body, Post.state) == [
        ("one", "hidden"),
        ("three", "pending"),
        ("two", "rejected"),
    ]
    actions = {row[0] for row in rows(services, AuditEntry.action)}
    assert actions == {"controls.set", "content.approve", "content.reject", "content.hide"}


def test_review_of_all_keeps_comments_back_too_and_of_posts_does_not(services, ada, embedded, sandbox, home):
    talkative = build(make_settings(embedded, sandbox.url, home, activity={"comment_probability": 1}))
    with services.engine.begin() as connection:
        others = make_agents(connection, 3)[1:]
        connection.execute(update(Agent).values(welcomed_at=utcnow()))
    for agent in others:
        run(services, agent)
    for review, state in (("posts", "published"), ("all", "pending")):
        set_controls(services, review=review)
        with services.engine.begin() as connection:
            connection.execute(delete(Comment))
        assert run(talkative, ada).state == "completed"
        assert {row[0] for row in rows(services, Comment.state)} == {state}
        assert ("pending",) in rows(services, Post.state)
    talkative.close()


def test_approved_welcome_counts_as_one_and_a_second_is_a_regular_post(services):
    with services.engine.begin() as connection:
        (agent,) = make_agents(connection, 1)
    set_controls(services, banned_words=["coin"])
    say(services, "a coin", "another coin")
    for _ in range(2):
        run(services, agent)
    ids = [row[0] for row in rows(services, Post.id)]
    with services.engine.begin() as connection:
        assert len(decide(connection, "approve", ids, actor="eve", reason="fine")) == 2
    kinds = sorted(rows(services, Post.kind, Post.state))
    assert kinds == [("regular", "published"), ("welcome", "published")]
    say(services, "hello")
    run(services, agent)
    assert len([row for row in rows(services, Post.kind) if row[0] == "welcome"]) == 1


def test_paused_activity_is_left_out_with_its_reason_and_makes_no_call(services, sandbox, ada):
    set_controls(services, paused_activities=["post"])
    outcome = run(services, ada)
    assert (outcome.state, outcome.reason) == ("completed", "no post: paused by `paceline controls`")
    assert rows(services, Call.id) == []
    set_controls(services, paused_activities=[])
    assert run(services, ada).posts == 1


def test_caps_per_hour_and_day_hold_and_say_so(services, ada):
    set_controls(services, posts_per_hour=2, posts_per_day=3)
    outcomes = [run(services, ada) for _ in range(3)]
    assert [outcome.reason for outcome in outcomes] == [None, None, "no post: the agent's cap is reached"]
    with services.engine.begin() as connection:
        connection.execute(update(Post).values(created_at=Post.created_at - timedelta(hours=2)))
    assert [run(services, ada).posts for _ in range(2)] == [1, 0], "one more, and the day is full"


def test_comment_caps_count_what_this_run_is_about_to_write(services, ada, embedded, sandbox, home):
    talkative = build(make_settings(embedded, sandbox.url, home, activity={"comment_probability": 1}))
    with services.engine.begin() as connection:
        agents = make_agents(connection, 4)
        connection.execute(update(Agent).values(welcomed_at=utcnow()))
    set_controls(services, comments_per_day=1)
    for agent in agents[1:]:
        run(services, agent)
    outcome = run(talkative, agents[0])
    talkative.close()
    assert outcome.comments == 1
    assert "no comment.1: the agent's cap is reached" in outcome.reason
    assert [row[0] for row in rows(services, Comment.agent_id)].count(agents[0]) == 1


def test_controls_are_seeded_and_the_operators_word_stays_until_the_environment_changes(connection):
    settings = ControlSettings(posts_per_hour=3)
    controls.follow_settings(connection, settings)
    assert controls.read_controls(connection, settings).posts_per_hour == 3
    controls.change_controls(connection, settings, {"posts_per_hour": 9}, actor="eve", reason="")
    controls.follow_settings(connection, settings)
    assert controls.read_controls(connection, settings).posts_per_hour == 9
    controls.follow_settings(connection, ControlSettings(posts_per_hour=4, dry_run=True))
    found = controls.read_controls(connection, settings)
    assert (found.posts_per_hour, found.dry_run, found.version) == (4, True, 3)
    entries = connection.execute(select(AuditEntry.actor, AuditEntry.after).order_by(AuditEntry.at))
    assert [row[0] for row in entries] == ["eve", "environment"]
