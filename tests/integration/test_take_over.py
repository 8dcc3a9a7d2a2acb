"""Agents of the application that ran before, from a database with its tables."""

import pytest
from sqlalchemy import make_url, select, text
from sqlalchemy.exc import DBAPIError

from app import migrations
from app.agents import old_system
from app.db import make_engine
from app.errors import NotFound
from app.models import Agent, Community, StyleProfile

ADA, BOB, CAT = (f"00000000-0000-4000-8000-00000000000{n}" for n in range(3))
TABLES = f"""
create table public.agents (id uuid primary key, name text, description text, wallet_address text,
  api_key_hash text, status text, karma int, has_posted_welcome bool, writing_style jsonb,
  style_source_username text, twitter_handle text, created_at timestamptz);
create table public.subtuna (id uuid, agent_id uuid, name text, ticker text);
create table public.twitter_style_library (id uuid, username text, style_data jsonb, usage_count int);
create schema cron;
create table cron.job (jobid int, jobname text, active bool);
insert into cron.job values (1, 'agent-auto-engage-5min', true), (2, 'vacuum', true);
insert into public.agents values
  ('{ADA}', 'Ada Löwe', 'Bakes.', '0x1', 'secret-hash', 'active', 9, true,
   '{{"tone": "dry", "emoji_frequency": "rare"}}', '@NASA', 'ada_x', '2026-02-01T00:00:00Z'),
  ('{BOB}', 'Bob', null, '0x2', null, 'suspended', 0, false, null, null, null, null),
  ('{CAT}', 'bob', 'Another one.', '0x3', null, 'active', 0, false, '"none"', 'elon', null, null),
  ('00000000-0000-4000-8000-000000000009', '', 'Nameless.', null, null, 'active', 0, false, null, null,
   null, null);
insert into public.subtuna values (gen_random_uuid(), '{ADA}', 'Bread', 'BRD');
insert into public.twitter_style_library values (gen_random_uuid(), 'jack', '{{"tone": "calm"}}', 3);
"""


@pytest.fixture
def databases(embedded):
    """The old system's database, and an empty one of ours."""
    admin = make_engine(embedded.database_url).execution_options(isolation_level="AUTOCOMMIT")
    engines = []
    for name in ("old_system", "taking_over"):
        with admin.connect() as connection:
            connection.execute(text(f"drop database if exists {name}"))
            connection.execute(text(f"create database {name}"))
        engines.append(
            make_engine(make_url(embedded.database_url).set(database=name).render_as_string(False))
        )
    old, ours = engines
    with old.begin() as connection:
        connection.exec_driver_sql(TABLES)
    migrations.upgrade(ours)
    yield old, ours
    for engine in engines:
        engine.dispose()
    with admin.connect() as connection:
        for name in ("old_system", "taking_over"):
            connection.execute(text(f"drop database {name}"))
    admin.dispose()


def read(old):
    with old.connect() as connection:
        return old_system.read_old_system(connection, "public")


def test_agents_communities_and_styles_are_taken_over_once(databases):
    old, ours = databases
    found = read(old)
    with ours.begin() as connection:
        first = old_system.take_over(connection, found)
    with ours.begin() as connection:
        second = old_system.take_over(connection, read(old))
    assert (first.created, first.communities, first.styles) == (3, 2, 2)
    assert (second.created, second.updated, second.unchanged, second.styles) == (0, 0, 3, 0)
    with ours.connect() as connection:
        query = (
            select(
                Agent.handle,
                Community.name,
                Agent.state,
                Agent.welcomed_at.is_not(None),
                Agent.style_source,
                Agent.x_handle,
            )
            .join(Community)
            .order_by(Agent.handle)
        )
        assert [tuple(row) for row in connection.execute(query)] == [
            ("ada_x", "Bread", "active", True, "nasa", "ada_x"),
            ("bob", "General", "paused", False, None, None),
            ("bob_2", "General", "active", False, "elon", None),
        ]
        styles = dict(connection.execute(select(StyleProfile.username, StyleProfile.state)).all())
        assert styles == {"nasa": "learned", "jack": "learned"}
    assert found.running_jobs == ["agent-auto-engage-5min"]
    assert any("no name" in problem for problem in found.problems)
    assert any("style of elon" in problem for problem in found.problems)


def test_what_changed_there_is_brought_up_to_date_and_our_own_word_stays(databases):
    old, ours = databases
    with ours.begin() as connection:
        old_system.take_over(connection, read(old))
        connection.execute(text("update paceline.agents set state = 'paused', daily_tokens = 5"))
    with old.begin() as connection:
        connection.execute(text("update public.agents set description = 'Bakes more.'"))
    with ours.begin() as connection:
        done = old_system.take_over(connection, read(old))
        assert (done.created, done.updated) == (0, 3)
        rows = connection.execute(select(Agent.persona, Agent.state, Agent.daily_tokens)).all()
    assert set(rows) == {("Bakes more.", "paused", 5)}


def test_the_source_is_only_read(databases):
    old, _ = databases
    with old.connect() as connection:
        old_system.read_old_system(connection, "public")
        with pytest.raises(DBAPIError, match="read-only"):
            connection.execute(text("delete from public.agents"))


def test_wrong_database_is_said(databases):
    _, ours = databases
    with ours.connect() as connection, pytest.raises(NotFound, match=r"no table public\.agents"):
        old_system.read_old_system(connection, "public")
