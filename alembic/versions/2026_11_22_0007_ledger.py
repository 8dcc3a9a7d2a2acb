"""ledger

NOT safe beside the previous release: it finds calls by id alone, which still works, but counts on a key
that is gone. Stop the workers, upgrade, start the new ones. The ledger is copied once, into partitions by
day; that takes a while and needs room for a second copy. Going back loses the sums of
days whose calls were dropped.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


COLUMNS = """id, run_id, agent_id, step, attempt, request_type, model, status, error_code, http_status,
  tokens_reserved, tokens_input, tokens_output, tokens_used, cost_micros, latency_ms, created_at, finished_at"""
MAKE = """
create table paceline.ai_request_log (
  id uuid not null, run_id uuid not null, agent_id uuid not null, step text not null,
  attempt integer not null, request_type text not null, model text not null,
  status text default 'in_flight' not null, error_code text, http_status integer,
  tokens_reserved integer not null, tokens_input integer, tokens_output integer, tokens_used integer,
  {more} cost_micros bigint, latency_ms integer, created_at timestamptz default now() not null,
  finished_at timestamptz,
  constraint ck_ai_request_log_status check (status in ('in_flight', 'ok', 'error', 'unknown')),
  constraint fk_ai_request_log_agent_id foreign key (agent_id) references paceline.agents (id),
  constraint fk_ai_request_log_run_id foreign key (run_id) references paceline.runs (id),
  constraint pk_ai_request_log primary key ({key})
) {how};
create index ix_ai_request_log_agent_id_created_at on paceline.ai_request_log (agent_id, created_at);
create index ix_ai_request_log_not_ok on paceline.ai_request_log (created_at) where status <> 'ok';
comment on column paceline.ai_request_log.step is 'which of the run''s activities: post, comment.0, ...';
comment on column paceline.ai_request_log.attempt is '1 for the first try of the step';
"""
ASIDE = """
alter table paceline.ai_request_log rename to ai_request_log_old;
alter table paceline.ai_request_log_old drop constraint fk_ai_request_log_agent_id;
alter table paceline.ai_request_log_old drop constraint fk_ai_request_log_run_id;
alter table paceline.ai_request_log_old drop constraint ck_ai_request_log_status;
alter table paceline.ai_request_log_old drop constraint pk_ai_request_log;
drop index paceline.ix_ai_request_log_agent_id_created_at;
drop index paceline.ix_ai_request_log_not_ok;
"""
BACK = f"""
insert into paceline.ai_request_log ({COLUMNS}) select {COLUMNS} from paceline.ai_request_log_old;
drop table paceline.ai_request_log_old;
"""
MORE = "tokens_cached integer, tokens_reasoning integer,"
PARTITION = (
    ASIDE
    + MAKE.format(more=MORE, key="created_at, id", how="partition by range (created_at)")
    + """
comment on column paceline.ai_request_log.tokens_cached is 'part of tokens_input';
comment on column paceline.ai_request_log.tokens_reasoning is 'part of tokens_output';
create table paceline.ai_request_log_rest partition of paceline.ai_request_log default;
do $$
declare day date;
begin
  for day in select generate_series(
    coalesce((select min(created_at) at time zone 'UTC' from paceline.ai_request_log_old),
             now() at time zone 'UTC')::date,
    (now() at time zone 'UTC')::date + 7, interval '1 day')::date
  loop
    execute format(
      'create table paceline.%I partition of paceline.ai_request_log for values from (%L) to (%L)',
      'ai_request_log_' || to_char(day, 'YYYYMMDD'), day || ' 00:00:00+00', (day + 1) || ' 00:00:00+00');
  end loop;
end $$;
"""
    + BACK
)
UNITE = ASIDE + MAKE.format(more="", key="id", how="") + BACK


def upgrade() -> None:
    op.create_table(
        "ai_latency_hourly",
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("request_type", sa.Text(), nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("hour", "request_type", "bucket", name=op.f("pk_ai_latency_hourly")),
        schema="paceline",
    )
    op.create_table(
        "ai_usage_fleet_hourly",
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("request_type", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("tokens_input", sa.BigInteger(), nullable=False),
        sa.Column("tokens_output", sa.BigInteger(), nullable=False),
        sa.Column("tokens_used", sa.BigInteger(), nullable=False),
        sa.Column("cost_micros", sa.BigInteger(), nullable=False),
        sa.Column("unpriced", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint(
            "hour", "request_type", "model", "outcome", name=op.f("pk_ai_usage_fleet_hourly")
        ),
        schema="paceline",
    )
    op.create_table(
        "denials",
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("minute", "reason", name=op.f("pk_denials")),
        schema="paceline",
    )
    op.create_table(
        "usage_days",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("tokens_used", sa.BigInteger(), nullable=False),
        sa.Column("cost_micros", sa.BigInteger(), nullable=False),
        sa.Column("frozen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("day", name=op.f("pk_usage_days")),
        schema="paceline",
    )
    op.create_table(
        "usage_state",
        sa.Column("id", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("rolled_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_usage_state_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage_state")),
        schema="paceline",
    )
    op.create_table(
        "ai_usage_agent_daily",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("agent_id", sa.Uuid(), nullable=False),
        sa.Column("ok", sa.Integer(), nullable=False),
        sa.Column("rate_limited", sa.Integer(), nullable=False),
        sa.Column("credits_exhausted", sa.Integer(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("tokens_input", sa.BigInteger(), nullable=False),
        sa.Column("tokens_output", sa.BigInteger(), nullable=False),
        sa.Column("tokens_used", sa.BigInteger(), nullable=False),
        sa.Column("cost_micros", sa.BigInteger(), nullable=False),
        sa.Column("unpriced", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["agent_id"], ["paceline.agents.id"], name=op.f("fk_ai_usage_agent_daily_agent_id")
        ),
        sa.PrimaryKeyConstraint("day", "agent_id", name=op.f("pk_ai_usage_agent_daily")),
        schema="paceline",
    )
    op.execute(PARTITION)
    op.add_column(
        "communities",
        sa.Column(
            "budget_day_micros",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="0: none of its own",
        ),
        schema="paceline",
    )
    op.add_column(
        "communities",
        sa.Column(
            "budget_month_micros",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="0: none of its own",
        ),
        schema="paceline",
    )
    # Made again from the ledger by the next round.
    op.execute("delete from paceline.ai_usage_hourly")
    op.execute("delete from paceline.ai_usage_daily")
    op.add_column(
        "controls",
        sa.Column(
            "over_budget",
            sa.Text(),
            server_default="stop",
            nullable=False,
            comment="what happens when a budget is used up",
        ),
        schema="paceline",
    )
    op.create_check_constraint(
        op.f("ck_controls_over_budget"),
        "controls",
        "over_budget in ('stop', 'posts_only', 'cheaper_model')",
        schema="paceline",
    )


def downgrade() -> None:
    op.drop_constraint(op.f("ck_controls_over_budget"), "controls", schema="paceline")
    op.drop_column("controls", "over_budget", schema="paceline")
    op.drop_column("communities", "budget_month_micros", schema="paceline")
    op.drop_column("communities", "budget_day_micros", schema="paceline")
    op.execute(UNITE)
    # The release before keeps hours for good and makes them from the ledger.
    op.execute("delete from paceline.ai_usage_hourly")
    op.execute("delete from paceline.ai_usage_daily")
    op.drop_table("ai_usage_agent_daily", schema="paceline")
    op.drop_table("usage_state", schema="paceline")
    op.drop_table("usage_days", schema="paceline")
    op.drop_table("denials", schema="paceline")
    op.drop_table("ai_usage_fleet_hourly", schema="paceline")
    op.drop_table("ai_latency_hourly", schema="paceline")
