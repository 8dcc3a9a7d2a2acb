"""The way out: what agents write appears in the application, once, in order, whatever its database says."""

from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest
from pydantic import SecretStr
from sqlalchemy import event, func, select, text, update

from app.alerts import rules
from app.community.review import decide
from app.db import make_engine
from app.errors import ConfigError, NotFound
from app.integration import app_link, checking, deliveries
from app.integration.deliver import Receivers, compare, keep
from app.integration.deliveries import APP
from app.integration.history import of_run
from app.integration.mapping import Mapping, presets, read_mapping, read_preset, title
from app.integration.standing import holds_back
from app.models import Agent, Call, Comment, Delivery, LinkState, OutboxEvent, Post
from app.runs.execute import execute
from app.wiring import build
from tests.conftest import make_settings
from tests.support.factories import make_agents, make_run
from tests.support.web import Browser, api_token, serving

EXAMPLES = Path(__file__).parents[2] / "examples"
TABLES = {
    "simple": ("comments", "posts"),
    "subtuna": ("subtuna_comments", "subtuna_posts", "subtuna", "agents"),
}


def make_application(engine, preset):
    with engine.begin() as connection:
        connection.execute(text((EXAMPLES / f"app-{preset}.sql").read_text()))


def drop_application(engine, preset):
    with engine.begin() as connection:
        connection.execute(text("set local session_replication_role = replica"))
        for table in TABLES[preset]:
            connection.execute(text(f"drop table if exists public.{table} cascade"))
        for name in ("set_slug", "count_posts", "count_comments", "refuse"):
            connection.execute(text(f"drop function if exists public.{name} cascade"))


def connect(engine, preset):
    with engine.begin() as connection:
        app_link.connect(connection, read_preset(preset), preset, actor="t", reason="")


@pytest.fixture(params=sorted(TABLES))
def preset(request, engine):
    make_application(engine, request.param)
    yield request.param
    drop_application(engine, request.param)


@pytest.fixture
def simple(engine):
    make_application(engine, "simple")
    connect(engine, "simple")
    yield
    drop_application(engine, "simple")


@pytest.fixture
def talkative(engine, redis, embedded, sandbox, home):
    """A fleet whose agents comment whenever there is something to comment on."""
    built = build(
        make_settings(embedded, sandbox.url, home, activity={"comment_probability": 1, "visit_every_s": 0})
    )
    yield built
    built.close()


@pytest.fixture
def receivers(talkative):
    found = Receivers(talkative.engine, talkative.settings)
    yield found
    found.close()


def write(services, agents=3):
    """So many agents have a turn; returns their ids."""
    with services.engine.begin() as connection:
        ids = make_agents(connection, agents)
        runs = [make_run(connection, agent) for agent in ids]
    for run_id in runs:
        assert execute(services, run_id).state == "completed"
    return ids


def rows(services, query):
    with services.engine.connect() as connection:
        return connection.execute(text(query)).all()


def ids_of(services, model):
    with services.engine.connect() as connection:
        query = select(model.id).where(model.state == "published")
        return set(connection.execute(query).scalars())


def standing(services):
    with services.engine.connect() as connection:
        return deliveries.backlog(connection, APP)


def at_once(services):
    """What waits for a later try is due now."""
    with services.engine.begin() as connection:
        connection.execute(update(Delivery).values(next_at=func.now()))


NO_CASCADE = """
do $$ declare one record; begin
  for one in select conname, conrelid::regclass as t, pg_get_constraintdef(oid) as def from pg_constraint
    where contype = 'f' and pg_get_constraintdef(oid) ilike '%on delete cascade%'
      and connamespace = 'public'::regnamespace
  loop
    execute format('alter table %s drop constraint %I, add constraint %I %s', one.t, one.conname, one.conname,
      replace(one.def, ' ON DELETE CASCADE', ''));
  end loop;
end $$
"""

POSTS = {"simple": "public.posts", "subtuna": "public.subtuna_posts"}
COMMENTS = {"simple": "public.comments", "subtuna": "public.subtuna_comments"}


def test_posts_and_comments_appear_in_the_applications_tables_and_hidden_ones_go(
    talkative, receivers, preset
):
    connect(talkative.engine, preset)
    write(talkative)
    assert receivers.deliver_app() > 0
    posts, comments = ids_of(talkative, Post), ids_of(talkative, Comment)
    assert len(posts) == 3
    assert comments
    assert {row[0] for row in rows(talkative, f"select id from {POSTS[preset]}")} == posts
    assert {row[0] for row in rows(talkative, f"select id from {COMMENTS[preset]}")} == comments
    assert receivers.deliver_app() == 0, "nothing twice"
    hidden = sorted(posts)[0]
    for verb, shown in (("hide", False), ("approve", True)):
        with talkative.engine.begin() as connection:
            assert decide(connection, verb, [hidden], actor="eve", reason="x") == [hidden]
        receivers.deliver_app()
        there = {row[0] for row in rows(talkative, f"select id from {POSTS[preset]}")}
        assert (hidden in there) is shown
    with talkative.engine.connect() as connection:
        link = app_link.read(connection)
        assert checking.check(connection, link.mapping) == []
        assert set(checking.compare(connection, connection, link.mapping).values()) == {0}
        externals = connection.execute(select(Post.external_id)).scalars().all()
    assert externals == [
        str(one) for one in [row[0] for row in rows(talkative, "select id from paceline.posts")]
    ]


def test_nothing_is_written_into_the_outbox_while_nobody_is_connected(talkative):
    write(talkative)
    assert rows(talkative, "select 1 from paceline.outbox") == []


def test_a_trigger_of_the_application_that_raises_costs_no_second_call_and_no_post(
    talkative, receivers, simple, sandbox
):
    refuse = """
      create function public.refuse() returns trigger language plpgsql as
      $$ begin raise exception 'not today'; end $$;
      create trigger refuse before insert on public.posts for each row execute function public.refuse()
    """
    with talkative.engine.begin() as connection:
        connection.execute(text(refuse))
    write(talkative, 1)
    calls = len(sandbox.state.seen)
    for _ in range(3):
        receivers.deliver_app()
        at_once(talkative)
    assert len(sandbox.state.seen) == calls == 1
    assert ids_of(talkative, Post)
    assert "not today" in standing(talkative).error
    assert rows(talkative, "select 1 from public.posts") == []
    with talkative.engine.begin() as connection:
        connection.execute(text("drop trigger refuse on public.posts"))
    at_once(talkative)
    receivers.deliver_app()
    assert len(rows(talkative, "select 1 from public.posts")) == 1
    assert (standing(talkative).pending, standing(talkative).dead) == (0, 0)


def test_what_is_refused_again_and_again_is_a_dead_letter_that_can_be_sent_again(
    talkative, receivers, simple
):
    with talkative.engine.begin() as connection:
        connection.execute(text("alter table public.posts add constraint few check (title = '')"))
    write(talkative, 1)
    for _ in range(app_link.TRIES_MAX + 1):
        receivers.deliver_app()
        at_once(talkative)
    with talkative.engine.begin() as connection:
        (letter,) = deliveries.dead_letters(connection, APP)
        assert letter["kind"] == "post.published"
        assert "few" in letter["error"]
        connection.execute(text("alter table public.posts drop constraint few"))
        assert deliveries.revive(connection, APP) == 1
    receivers.deliver_app()
    assert len(rows(talkative, "select 1 from public.posts")) == 1


def test_a_community_that_is_gone_there_is_a_dead_letter_and_its_agent_pauses(talkative, receivers, engine):
    make_application(engine, "subtuna")
    try:
        mapping = read_preset("subtuna").model_copy(update={"communities": None})
        with engine.begin() as connection:
            app_link.connect(connection, mapping, "mine", actor="t", reason="")
        (agent,) = write(talkative, 1)
        receivers.deliver_app()
        assert standing(talkative).dead == 1
        with engine.connect() as connection:
            state = connection.execute(select(Agent.state).where(Agent.id == agent)).scalar_one()
            assert state == "paused"
    finally:
        drop_application(engine, "subtuna")


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        ("alter table public.posts drop column title", "no column title"),
        ("alter table public.posts drop constraint posts_pkey cascade", "not unique"),
        ("alter table public.posts add column must text not null", "must takes no null"),
        ("drop table public.comments", "no table public.comments"),
    ],
)
def test_what_the_mapping_needs_and_the_application_has_not_pauses_the_link_and_check_names_it(
    talkative, receivers, simple, breaks, said
):
    with talkative.engine.begin() as connection:
        connection.execute(text(breaks))
        mapping = app_link.read(connection).mapping
        assert any(said in finding.what for finding in checking.check(connection, mapping))
    write(talkative, 2)
    receivers.deliver_app()
    with talkative.engine.connect() as connection:
        link = app_link.read(connection)
    if "must" not in said:  # that one is refused row by row
        assert link.state == LinkState.PAUSED
        assert "paceline app check" in link.reason
    assert standing(talkative).pending > 0, "nothing is lost"


def test_a_role_with_the_rights_that_are_printed_is_enough_and_without_them_check_says_what_to_grant(
    talkative, engine, embedded, sandbox, home, simple
):
    role = f"app_{uuid4().hex[:8]}"
    mapping = read_preset("simple")
    url = make_engine(embedded.database_url).url
    with engine.begin() as connection:
        connection.execute(text(f"create role {role} login password 'secret'"))
    own = url.set(username=role, password="secret", drivername="postgresql")
    there = make_engine(own.render_as_string(hide_password=False))
    try:
        with there.connect() as connection:
            missing = checking.check(connection, mapping)
            assert any("grant insert" in one.mend and role in one.mend for one in missing)
        statements = checking.role_sql(mapping, role).splitlines()
        with engine.begin() as connection:
            for statement in statements[1:]:
                connection.execute(text(statement))
        with there.connect() as connection:
            assert checking.check(connection, mapping) == []
            with pytest.raises(Exception, match="permission denied"):
                connection.execute(text("select * from paceline.accounts"))
        write(talkative, 2)
        settings = talkative.settings.model_copy(deep=True)
        settings.app.database_url = SecretStr(own.render_as_string(hide_password=False))
        elsewhere = Receivers(talkative.engine, settings)
        assert elsewhere.deliver_app() > 0
        elsewhere.close()
        assert len(rows(talkative, "select 1 from public.posts")) == 2
    finally:
        there.dispose()
        with engine.begin() as connection:
            connection.execute(text(f"drop owned by {role}"))
            connection.execute(text(f"drop role {role}"))


@pytest.fixture
def theirs(engine, embedded):
    """A database of its own for the application, with a way to break it."""
    name = f"their_{uuid4().hex[:8]}"
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text(f"create database {name}"))
    url = make_engine(embedded.database_url).url.set(database=name, drivername="postgresql")
    there = make_engine(url.render_as_string(hide_password=False))
    make_application(there, "simple")
    yield there, url.render_as_string(hide_password=False)
    there.dispose()
    with engine.connect() as connection:
        quick = connection.execution_options(isolation_level="AUTOCOMMIT")
        quick.execute(text(f"drop database {name} with (force)"))


def test_another_database_gets_every_row_once_though_it_is_cut_off_in_between(
    talkative, theirs, engine, monkeypatch
):
    there, url = theirs
    connect(engine, "simple")
    settings = talkative.settings.model_copy(deep=True)
    settings.app.database_url = SecretStr(url)
    link = Receivers(talkative.engine, settings)
    write(talkative, 4)
    dice, done = Random(7), deliveries.done

    def forgetful(connection, delivery_id, note=None):
        """The row is written there, and we die before it is marked here."""
        if dice.random() < 0.5:
            raise RuntimeError("killed")
        done(connection, delivery_id, note)

    monkeypatch.setattr(deliveries, "done", forgetful)
    for _ in range(30):
        with suppress(RuntimeError):
            link.deliver_app()
        if dice.random() < 0.3:
            with engine.connect() as connection:
                kill = text("select pg_terminate_backend(pid) from pg_stat_activity where datname = :name")
                connection.execute(kill, {"name": there.url.database})
        link._away_until = 0
        at_once(talkative)
    monkeypatch.setattr(deliveries, "done", done)
    for _ in range(5):
        link.deliver_app()
        link._away_until = 0
        at_once(talkative)
    link.close()
    assert standing(talkative).pending == standing(talkative).dead == 0
    there.dispose()
    with there.connect() as connection:
        posts = set(connection.execute(text("select id from public.posts")).scalars())
        comments = set(connection.execute(text("select id from public.comments")).scalars())
    assert posts == ids_of(talkative, Post)
    assert comments == ids_of(talkative, Comment)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_what_their_database_refuses_at_the_commit_holds_back_no_other_row_and_is_not_lost(
    talkative, theirs, engine, elsewhere
):
    there = theirs[0] if elsewhere else engine
    if not elsewhere:
        make_application(engine, "simple")
    connect(engine, "simple")
    settings = talkative.settings.model_copy(deep=True)
    if elsewhere:
        settings.app.database_url = SecretStr(theirs[1])
    late = """
      create function public.refuse() returns trigger language plpgsql as
      $$ begin if new.title like '%Q%' then raise exception 'at the commit'; end if; return null; end $$;
      create constraint trigger late after insert on public.posts deferrable initially deferred
      for each row execute function public.refuse()
    """
    with there.begin() as connection:
        connection.execute(text(late))
    link = Receivers(talkative.engine, settings)
    write(talkative, 3)
    with engine.begin() as connection:
        bad = connection.execute(select(Post.id).order_by(Post.created_at).limit(1)).scalar_one()
        connection.execute(
            text(
                "update paceline.outbox set payload = jsonb_set(payload, '{body}', '\"Q.\"') "
                "where payload ->> 'id' = :id"
            ),
            {"id": str(bad)},
        )
    for _ in range(3):
        link.deliver_app()
        link._away_until = 0
    with there.connect() as connection:
        posts = set(connection.execute(text("select id from public.posts")).scalars())
    assert posts == ids_of(talkative, Post) - {bad}
    with there.begin() as connection:
        connection.execute(text("drop trigger late on public.posts"))
    at_once(talkative)
    link.deliver_app()
    with there.connect() as connection:
        posts = set(connection.execute(text("select id from public.posts")).scalars())
    assert posts == ids_of(talkative, Post)
    link.close()
    there.dispose()
    if not elsewhere:
        drop_application(engine, "simple")


def test_a_death_before_the_commit_there_marks_nothing_here(talkative, theirs, engine):
    """Marked first and then not written: that row would be lost."""
    there, url = theirs
    connect(engine, "simple")
    settings = talkative.settings.model_copy(deep=True)
    settings.app.database_url = SecretStr(url)
    link = Receivers(talkative.engine, settings)
    write(talkative, 3)
    left = [2]

    def die(_):
        if left[0]:
            left[0] -= 1
            raise RuntimeError("killed")

    event.listen(link.there, "commit", die)
    for _ in range(6):
        with suppress(RuntimeError):
            link.deliver_app()
        link._away_until = 0
        at_once(talkative)
    assert left == [0], "it died"
    link.close()
    with there.connect() as connection:
        posts = set(connection.execute(text("select id from public.posts")).scalars())
    assert posts == ids_of(talkative, Post)
    there.dispose()


def test_a_hide_that_overtakes_its_publish_wins(talkative, receivers, simple):
    """Nobody there sees it, not for a moment."""
    with talkative.engine.begin() as connection:
        connection.execute(
            text("""
          create table public.seen (id uuid);
          create function public.refuse() returns trigger language plpgsql as
            $$ begin insert into public.seen values (new.id); return new; end $$;
          create trigger seen after insert on public.posts for each row execute function public.refuse()
        """)
        )
    write(talkative, 2)
    hidden = sorted(ids_of(talkative, Post))[0]
    with talkative.engine.begin() as connection:
        decide(connection, "hide", [hidden], actor="eve", reason="x")
    receivers.deliver_app()
    assert {row[0] for row in rows(talkative, "select id from public.seen")} == ids_of(talkative, Post)
    with talkative.engine.begin() as connection:
        connection.execute(text("drop table public.seen"))


def test_a_comment_comes_after_its_post_and_threads_do_not_wait_for_each_other(talkative, simple):
    write(talkative, 3)
    with talkative.engine.begin() as connection:
        first = deliveries.take(connection, APP, 100)
        assert len({due.payload.get("post", due.payload["id"]) for due in first}) == len(first)
        assert all(due.kind == "post.published" or due.kind == "vote.cast" for due in first)
        stuck = first[0]
        deliveries.again(connection, stuck, "not now", wait_s=60)
        for due in first[1:]:
            deliveries.done(connection, due.id)
        second = deliveries.take(connection, APP, 100)
        assert stuck.payload["id"] not in {due.payload.get("post") for due in second}


def test_a_comment_brings_its_post_along_when_that_was_written_before_anybody_was_connected(
    talkative, receivers, engine
):
    write(talkative, 2)
    make_application(engine, "simple")
    try:
        connect(engine, "simple")
        with engine.begin() as connection:
            (agent,) = make_agents(connection, 3)[2:]
            run = make_run(connection, agent)
        assert execute(talkative, run).comments > 0
        receivers.deliver_app()
        assert standing(talkative).dead == 0
        theirs = {row[0] for row in rows(talkative, "select id from public.posts")}
        assert {row[0] for row in rows(talkative, "select post_id from public.comments")} <= theirs
        assert rows(talkative, "select 1 from paceline.agents where state <> 'active'") == []
        with engine.begin() as connection:
            app_link.sync(connection)
        receivers.deliver_app()
        theirs = {row[0] for row in rows(talkative, "select id from public.posts")}
        assert theirs == ids_of(talkative, Post)
        comments = {row[0] for row in rows(talkative, "select id from public.comments")}
        assert comments == ids_of(talkative, Comment)
        with engine.begin() as connection:
            assert app_link.sync(connection) == 0
    finally:
        drop_application(engine, "simple")


def test_audit_names_what_is_gone_there_and_what_is_shown_there_though_hidden(talkative, receivers, preset):
    connect(talkative.engine, preset)
    write(talkative)
    receivers.deliver_app()
    settings, (gone, hidden, _) = talkative.settings, sorted(ids_of(talkative, Post))
    assert set(compare(settings, talkative.engine).values()) == {0}
    with talkative.engine.begin() as connection:
        connection.execute(text("set local session_replication_role = replica"))
        connection.execute(text(f"delete from {POSTS[preset]} where id = '{gone}'"))
    with talkative.engine.begin() as connection:
        assert decide(connection, "hide", [hidden], actor="eve", reason="x") == [hidden]
    found = compare(settings, talkative.engine)
    assert (found["posts_not_there"], found["posts_still_there"]) == (1, 0), "its hiding waits"
    with talkative.engine.begin() as connection:
        connection.execute(update(Delivery).values(state="done"))  # told, and the row stayed
    found = compare(settings, talkative.engine)
    assert (found["posts_not_there"], found["posts_still_there"]) == (1, 1)


def test_audit_sees_a_row_that_is_only_marked_as_hidden(talkative, receivers, engine):
    make_application(engine, "simple")
    try:
        with engine.begin() as connection:
            connection.execute(text("alter table public.posts add state text default 'shown'"))
            mapping = read_preset("simple").model_dump()
            mapping["posts"] |= {"hidden": {"state": "hidden"}, "shown": {"state": "shown"}}
            app_link.connect(connection, Mapping.model_validate(mapping), "mine", actor="t", reason="")
        write(talkative)
        receivers.deliver_app()
        post = sorted(ids_of(talkative, Post))[0]
        with engine.begin() as connection:
            decide(connection, "hide", [post], actor="eve", reason="x")
        receivers.deliver_app()
        assert set(compare(talkative.settings, engine).values()) == {0}
        with engine.begin() as connection:
            connection.execute(text("update public.posts set state = 'shown'"))
        assert compare(talkative.settings, engine)["posts_still_there"] == 1
    finally:
        drop_application(engine, "simple")


def test_the_comments_of_a_hidden_post_go_with_it_and_come_back(talkative, receivers, preset):
    """Also where their foreign key lets no post go that has comments."""
    with talkative.engine.begin() as connection:
        connection.execute(text(NO_CASCADE))
    connect(talkative.engine, preset)
    write(talkative, 4)
    receivers.deliver_app()
    with talkative.engine.connect() as connection:
        post = connection.execute(select(Comment.post_id).limit(1)).scalar_one()
        own = select(Comment.id).where(Comment.post_id == post)
        comments = set(connection.execute(own).scalars())
    theirs = f"select id from {COMMENTS[preset]} where post_id = '{post}'"
    assert {row[0] for row in rows(talkative, theirs)} == comments
    for verb, there in (("hide", set()), ("approve", comments), ("hide", set())):
        with talkative.engine.begin() as connection:
            decide(connection, verb, [post], actor="eve", reason="x")
        receivers.deliver_app()
        assert {row[0] for row in rows(talkative, theirs)} == there
        assert standing(talkative).dead == 0
        assert set(compare(talkative.settings, talkative.engine).values()) == {0}
    told = f"select kind from paceline.outbox where thread = '{post}' and kind like 'post.%' order by id"
    assert [row[0].partition(".")[2] for row in rows(talkative, told)] == [
        "published",
        "hidden",
        "restored",
        "hidden",
    ]


def test_a_comment_on_a_post_that_is_hidden_meanwhile_comes_when_that_is_restored(
    talkative, receivers, simple
):
    write(talkative, 4)
    with talkative.engine.connect() as connection:
        post = connection.execute(select(Comment.post_id).limit(1)).scalar_one()
    for verb in ("hide", "approve"):
        with talkative.engine.begin() as connection:
            decide(connection, verb, [post], actor="eve", reason="x")
        receivers.deliver_app()
        assert standing(talkative).dead == 0
    assert {row[0] for row in rows(talkative, "select id from public.comments")} == ids_of(talkative, Comment)


def test_a_comment_written_while_its_post_is_hidden_comes_where_rows_are_only_marked(
    talkative, receivers, engine
):
    make_application(engine, "simple")
    try:
        with engine.begin() as connection:
            connection.execute(text("alter table public.posts add state text default 'shown'"))
            mapping = read_preset("simple").model_dump()
            mapping["posts"] |= {"hidden": {"state": "hidden"}, "shown": {"state": "shown"}}
            app_link.connect(connection, Mapping.model_validate(mapping), "mine", actor="t", reason="")
        write(talkative, 4)
        with engine.connect() as connection:
            post = connection.execute(select(Comment.post_id).limit(1)).scalar_one()
        for verb in ("hide", "approve"):
            with engine.begin() as connection:
                decide(connection, verb, [post], actor="eve", reason="x")
            receivers.deliver_app()
        theirs = {row[0] for row in rows(talkative, "select id from public.comments")}
        assert theirs == ids_of(talkative, Comment)
        shown = rows(talkative, f"select state from public.posts where id = '{post}'")
        assert [row[0] for row in shown] == ["shown"]
    finally:
        drop_application(engine, "simple")


def test_a_runs_page_says_where_each_of_its_texts_went_and_how_soon(talkative, receivers, simple):
    write(talkative, 2)
    with talkative.engine.connect() as connection:
        run_id, post = connection.execute(select(Post.run_id, Post.body).limit(1)).one()
        assert {step.state for step in of_run(connection, run_id)} == {"pending"}
    receivers.deliver_app()
    with talkative.engine.connect() as connection:
        step = next(one for one in of_run(connection, run_id) if one.event == "post.published")
        assert (step.text, step.where, step.state) == (post, "the app", "done")
        assert 0 <= step.took_s < 60
        assert of_run(connection, uuid4()) == []
    with serving(talkative) as base:
        browser = Browser(talkative, base)
        assert "s after it was written" in browser.get(f"/runs/{run_id}").text
        token = {"Authorization": f"Bearer {api_token(talkative)}"}
        found = browser.client.get(f"/api/v1/runs/{run_id}/deliveries", headers=token).json()
        assert found[0]["where"] == "the app"
        browser.close()


def test_dry_run_shows_the_rows_and_writes_none(talkative, engine):
    make_application(engine, "simple")
    try:
        write(talkative, 2)
        with engine.connect() as connection:
            events = checking.samples(connection)
            shown = checking.try_out(connection, read_preset("simple"), events)
            connection.rollback()
        assert shown[0][0] == "public.posts"
        assert shown[0][1]["is_agent"] is True
        assert rows(talkative, "select 1 from public.posts") == []
    finally:
        drop_application(engine, "simple")


def test_paused_waits_disconnected_forgets_and_old_events_go(talkative, receivers, simple):
    def set_state(state):
        with talkative.engine.begin() as connection:
            app_link.set_state(connection, state, actor="t", reason="x")

    set_state(LinkState.PAUSED)
    write(talkative, 2)
    assert receivers.deliver_app() == 0
    assert standing(talkative).pending > 0
    set_state(LinkState.ACTIVE)
    assert receivers.deliver_app() > 0
    with talkative.engine.begin() as connection:
        connection.execute(update(OutboxEvent).values(created_at=func.now() - timedelta(days=8)))
    assert keep(talkative.engine, 7) > 0
    assert rows(talkative, "select 1 from paceline.deliveries") == []
    set_state(LinkState.DISCONNECTED)
    with pytest.raises(NotFound):
        set_state(LinkState.ACTIVE)


def test_a_turn_makes_no_call_and_no_commit_more_with_a_link(talkative, simple, sandbox):
    def commits():
        query = "select xact_commit from pg_stat_database where datname = current_database()"
        return rows(talkative, query)[0][0]

    write(talkative, 2)
    with talkative.engine.connect() as connection:
        calls = connection.execute(select(func.count()).select_from(Call)).scalar_one()
        events = connection.execute(select(func.count()).select_from(OutboxEvent)).scalar_one()
    assert calls == len(sandbox.state.seen)
    assert events >= 2
    assert commits() > 0


@pytest.mark.parametrize("name", ["simple", "subtuna"])
def test_presets_are_there_and_name_their_tables(name):
    assert name in presets()
    assert read_preset(name).posts.table.startswith("public.")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("[posts", "no TOML"),
        ("", "posts"),
        ('[posts]\ntable = "posts"\ncolumns = {}', "table"),
        (
            '[posts]\ntable = "public.p"\n[posts.columns]\nid = "$id"\nx = "$nothing"',
            "there is no \\$nothing",
        ),
        ('[posts]\ntable = "public.p"\n[posts.columns]\nbody = "$body"', 'needs id = "\\$id"'),
        ('[posts]\ntable = "public.p; drop table x"\n[posts.columns]\nid = "$id"', "table"),
    ],
)
def test_a_mapping_that_cannot_be_is_refused_with_the_place(tmp_path, written, said):
    file = tmp_path / "mapping.toml"
    file.write_text(written)
    with pytest.raises(ConfigError, match=said):
        read_mapping(file)


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ("A short one.", "A short one."),
        ("First. Second one here.", "First."),
        ("word " * 40, ("word " * 15).strip() + "…"),
    ],
)
def test_a_title_is_the_first_sentence_cut_at_a_word(body, shown):
    assert title(body) == shown
    assert len(title(body)) <= 80


def test_where_events_go_is_on_a_page_in_the_api_in_metrics_and_an_alert(talkative, receivers, simple):
    write(talkative, 2)
    with talkative.engine.begin() as connection:
        connection.execute(text("alter table public.posts drop column title"))
    receivers.deliver_app()
    with serving(talkative) as base:
        browser = Browser(talkative, base)
        page = browser.get("/application").text
        assert "paceline app check" in page
        assert "paused" in page
        token = {"Authorization": f"Bearer {api_token(talkative)}"}
        (standing_,) = browser.client.get("/api/v1/receivers", headers=token).json()
        assert (standing_["id"], standing_["state"]) == ("app", "paused")
        metrics = browser.client.get("/metrics", headers=token).text
        assert 'paceline_events_waiting{receiver="app"}' in metrics
        browser.close()
    with talkative.engine.begin() as connection:
        told = [m for m in rules.evaluate(connection, talkative.settings) if m.key.startswith("receiver")]
        assert "is paused" in told[0].title


def test_no_run_is_started_for_what_nobody_will_see_where_a_setting_says_so(talkative, simple):
    write(talkative, 2)
    with talkative.engine.connect() as connection:
        waiting = deliveries.backlog(connection, APP).pending
        assert waiting >= 2
        assert holds_back(connection, 0) is None
        assert holds_back(connection, waiting) is None
        assert "PACELINE_APP__BACKLOG_MAX" in holds_back(connection, waiting - 1)


def test_a_storm_of_refusals_loses_and_doubles_nothing_and_costs_no_call(
    talkative, receivers, simple, sandbox
):
    """A tenth of the inserts is refused by the application's trigger, connections are cut meanwhile."""
    storm = """
      create function public.refuse() returns trigger language plpgsql as
      $$ begin if random() < 0.1 then raise exception 'a bad day'; end if; return new; end $$;
      create trigger refuse before insert on public.posts for each row execute function public.refuse();
      create trigger refuse before insert on public.comments for each row execute function public.refuse()
    """
    with talkative.engine.begin() as connection:
        connection.execute(text(storm))
        ids = make_agents(connection, 40)
        runs = [make_run(connection, agent) for agent in ids]
    dice = Random(5)
    for number, run_id in enumerate(runs):
        assert execute(talkative, run_id).state == "completed"
        if number % 5 == 0:
            receivers.deliver_app()
        if dice.random() < 0.1:
            at_once(talkative)
    calls = len(sandbox.state.seen)
    with talkative.engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(Call)).scalar_one() == calls
    for _ in range(12):
        at_once(talkative)
        receivers.deliver_app()
    assert (standing(talkative).pending, standing(talkative).dead) == (0, 0)
    assert len(sandbox.state.seen) == calls
    assert {row[0] for row in rows(talkative, "select id from public.posts")} == ids_of(talkative, Post)
    assert {row[0] for row in rows(talkative, "select id from public.comments")} == ids_of(talkative, Comment)
