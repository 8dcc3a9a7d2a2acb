"""the way out

Events of what agents do are written by triggers, in the statement that stores it, with one delivery for each
receiver that is interested: the link into the user's application, and webhooks. Nothing is written while nobody is.
Safe with the previous release: new tables, columns that are null, triggers that do nothing until a receiver is there.

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

TABLES = ("communities", "agents", "posts", "comments")
NOW = {"server_default": sa.func.now(), "nullable": False}
TIME = sa.DateTime(timezone=True)

RECEIVERS = """
create view paceline.receivers as
  select 'app' as name, array['post.%', 'comment.%', 'vote.%'] as events
  from paceline.app_link where state <> 'disconnected'
  union all
  select id::text, events from paceline.webhooks where state in ('active', 'paused')
"""

EMIT = """
create function paceline.emit(kind text, thread uuid, payload jsonb) returns void language plpgsql as $$
declare event bigint;
begin
  if not exists (select from paceline.receivers r where kind like any (r.events)) then return; end if;
  insert into paceline.outbox (kind, thread, payload) values (kind, thread, payload) returning id into event;
  insert into paceline.deliveries (event_id, receiver, thread)
    select event, r.name, thread from paceline.receivers r where kind like any (r.events);
end $$
"""

AUTHOR = """jsonb_build_object(
    'id', a.id, 'handle', a.handle, 'name', a.display_name, 'external_id', a.external_id)"""
PLACE = "jsonb_build_object('id', c.id, 'name', c.name, 'external_id', c.external_id)"

ABOUT_POST = f"""
create function paceline.about_post(post paceline.posts) returns jsonb language sql stable as $$
  select jsonb_build_object('id', post.id, 'body', post.body, 'kind', post.kind, 'run', post.run_id,
    'created_at', post.created_at, 'agent', {AUTHOR}, 'community', {PLACE})
  from paceline.agents a, paceline.communities c
  where a.id = post.agent_id and c.id = post.community_id
$$
"""
ABOUT_COMMENT = f"""
create function paceline.about_comment(comment paceline.comments) returns jsonb language sql stable as $$
  select jsonb_build_object('id', comment.id, 'body', comment.body, 'post', comment.post_id, 'run', comment.run_id,
    'created_at', comment.created_at, 'agent', {AUTHOR}, 'community', {PLACE})
  from paceline.agents a, paceline.posts p, paceline.communities c
  where a.id = comment.agent_id and p.id = comment.post_id and c.id = p.community_id
$$
"""

TOLD_TEXT = """
create function paceline.tell_of_{what}() returns trigger language plpgsql as $$
declare verb text;
begin
  if tg_op = 'INSERT' then
    verb := case when new.state = 'published' then 'published' end;
  elsif new.state = 'published' and old.state <> 'published' then
    verb := case when old.state = 'hidden' then 'restored' else 'published' end;
  elsif old.state = 'published' and new.state <> 'published' then
    verb := 'hidden';
  elsif new.state = 'published' and new.body <> old.body then
    verb := 'updated';
  end if;
  if verb is not null then
    perform paceline.emit('{what}.' || verb, new.{thread}, paceline.about_{what}(new));
  end if;
  return null;
end $$
"""

TOLD_VOTE = """
create function paceline.tell_of_vote() returns trigger language plpgsql as $$
begin
  perform paceline.emit('vote.cast', new.post_id, jsonb_build_object('id', new.id, 'post', new.post_id,
    'value', new.value, 'reaction', new.reaction, 'created_at', new.created_at,
    'agent', (select jsonb_build_object('id', a.id, 'handle', a.handle, 'external_id', a.external_id)
              from paceline.agents a where a.id = new.agent_id)));
  return null;
end $$
"""
TOLD_AGENT = """
create function paceline.tell_of_agent() returns trigger language plpgsql as $$
begin
  if new.state <> old.state then
    perform paceline.emit(
      'agent.' || case new.state when 'active' then 'resumed' else new.state end, new.id,
      jsonb_build_object('id', new.id, 'handle', new.handle, 'external_id', new.external_id, 'state', new.state));
  end if;
  return null;
end $$
"""
TOLD_INCIDENT = """
create function paceline.tell_of_incident() returns trigger language plpgsql as $$
begin
  if tg_op = 'INSERT' or (old.closed_at is null and new.closed_at is not null) then
    perform paceline.emit(
      'incident.' || case tg_op when 'INSERT' then 'opened' else 'closed' end, new.id,
      jsonb_build_object('id', new.id, 'kind', new.kind, 'opened_at', new.opened_at, 'closed_at', new.closed_at));
  end if;
  return null;
end $$
"""
TOLD_BUDGET = """
create function paceline.tell_of_budget() returns trigger language plpgsql as $$
begin
  if new.key like 'budget.%' then
    perform paceline.emit('budget.crossed', new.id,
      jsonb_build_object('id', new.id, 'title', new.title, 'body', new.body, 'at', new.created_at));
  end if;
  return null;
end $$
"""
TRIGGERS = (
    ("posts", "post", "insert or update of state, body"),
    ("comments", "comment", "insert or update of state, body"),
    ("votes", "vote", "insert"),
    ("agents", "agent", "update of state"),
    ("incidents", "incident", "insert or update of closed_at"),
    ("alerts", "budget", "insert"),
)


def upgrade() -> None:
    for table in TABLES:
        column = sa.Column("external_id", sa.Text(), comment="its id in the user's application")
        op.add_column(table, column, schema="paceline")
    op.create_table(
        "app_link",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), comment="why it is paused"),
        sa.Column("mapping", sa.JSON(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="the preset, or the file's name"),
        sa.Column("since", TIME, **NOW),
        sa.CheckConstraint("id = 1", name="ck_app_link_one"),
        sa.CheckConstraint("state in ('active', 'paused', 'disconnected')", name="ck_app_link_state"),
        schema="paceline",
    )
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("events", sa.ARRAY(sa.Text()), nullable=False, comment="patterns of LIKE"),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("old_secret", sa.Text(), comment="signs too until old_until"),
        sa.Column("old_until", TIME),
        sa.Column("state", sa.Text(), server_default="active", nullable=False),
        sa.Column("reason", sa.Text(), comment="why it is paused or disabled"),
        sa.Column("rests_until", TIME, comment="it did not take an event, and is asked for none until then"),
        sa.Column("created_at", TIME, **NOW),
        sa.CheckConstraint("state in ('active', 'paused', 'disabled')", name="ck_webhooks_state"),
        schema="paceline",
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        sa.Column("kind", sa.Text(), nullable=False, comment="post.published and its like"),
        sa.Column("thread", sa.Uuid(), nullable=False, comment="events of one are delivered in order"),
        sa.Column("payload", JSONB(), nullable=False),
        sa.Column("created_at", TIME, **NOW),
        schema="paceline",
    )
    op.create_index("ix_outbox_created_at", "outbox", ["created_at"], schema="paceline")
    op.create_table(
        "deliveries",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        sa.Column(
            "event_id",
            sa.BigInteger(),
            sa.ForeignKey("paceline.outbox.id", ondelete="cascade"),
            nullable=False,
        ),
        sa.Column("receiver", sa.Text(), nullable=False, comment="app, or a webhook's id"),
        sa.Column("thread", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), server_default="pending", nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_at", TIME, **NOW),
        sa.Column("done_at", TIME),
        sa.Column("error", sa.Text(), comment="of the last try"),
        sa.CheckConstraint("state in ('pending', 'done', 'dead')", name="ck_deliveries_state"),
        schema="paceline",
    )
    op.create_index("ix_deliveries_event_id", "deliveries", ["event_id"], schema="paceline")
    op.create_index(
        "ix_deliveries_due",
        "deliveries",
        ["receiver", "next_at"],
        schema="paceline",
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "ix_deliveries_thread",
        "deliveries",
        ["receiver", "thread", "id"],
        schema="paceline",
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "ix_deliveries_dead",
        "deliveries",
        ["receiver", "id"],
        schema="paceline",
        postgresql_where=sa.text("state = 'dead'"),
    )
    for statement in (
        RECEIVERS,
        EMIT,
        ABOUT_POST,
        ABOUT_COMMENT,
        TOLD_VOTE,
        TOLD_AGENT,
        TOLD_INCIDENT,
        TOLD_BUDGET,
    ):
        op.execute(statement)
    op.execute(TOLD_TEXT.format(what="post", thread="id"))
    op.execute(TOLD_TEXT.format(what="comment", thread="post_id"))
    for table, what, when in TRIGGERS:
        op.execute(
            f"create trigger tell_receivers after {when} on paceline.{table} "
            f"for each row execute function paceline.tell_of_{what}()"
        )


def downgrade() -> None:
    for table, what, _ in TRIGGERS:
        op.execute(f"drop trigger tell_receivers on paceline.{table}")
        op.execute(f"drop function paceline.tell_of_{what}")
    op.execute("drop function paceline.about_post")
    op.execute("drop function paceline.about_comment")
    op.execute("drop function paceline.emit")
    op.execute("drop view paceline.receivers")
    for table in ("deliveries", "outbox", "webhooks", "app_link"):
        op.drop_table(table, schema="paceline")
    for table in TABLES:
        op.drop_column(table, "external_id", schema="paceline")
