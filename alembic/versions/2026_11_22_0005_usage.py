"""Rollups of the ledger, incidents, alerts.

Safe with the previous release because: it only adds tables.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_try_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alerts")),
        sa.UniqueConstraint("key", name=op.f("uq_alerts_key")),
        schema="paceline",
    )
    op.create_index(
        "ix_alerts_unsent",
        "alerts",
        ["next_try_at"],
        unique=False,
        schema="paceline",
        postgresql_where=sa.text("sent_at is null"),
    )
    op.create_table(
        "incidents",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False, comment="its first refusal"),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False, comment="its latest refusal"),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("calls", sa.Integer(), nullable=False, comment="calls that were refused"),
        sa.Column("agents", sa.Integer(), nullable=False, comment="agents that were hit"),
        sa.Column("peak_per_minute", sa.Integer(), nullable=False),
        sa.CheckConstraint("kind in ('rate_limited', 'credits_exhausted')", name=op.f("ck_incidents_kind")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incidents")),
        schema="paceline",
    )
    op.create_index("ix_incidents_opened_at", "incidents", ["opened_at"], unique=False, schema="paceline")
    op.create_index(
        "uq_incidents_open",
        "incidents",
        ["kind"],
        unique=True,
        schema="paceline",
        postgresql_where=sa.text("closed_at is null"),
    )
    op.create_table(
        "ai_usage_daily",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("agent_id", sa.Uuid(), nullable=False),
        sa.Column("request_type", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("tokens_input", sa.BigInteger(), nullable=False),
        sa.Column("tokens_output", sa.BigInteger(), nullable=False),
        sa.Column("tokens_used", sa.BigInteger(), nullable=False),
        sa.Column("cost_micros", sa.BigInteger(), nullable=False),
        sa.Column("unpriced", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["agent_id"], ["paceline.agents.id"], name=op.f("fk_ai_usage_daily_agent_id")
        ),
        sa.PrimaryKeyConstraint(
            "day", "agent_id", "request_type", "model", "outcome", name=op.f("pk_ai_usage_daily")
        ),
        schema="paceline",
    )
    op.create_index(
        "ix_ai_usage_daily_agent_id_day",
        "ai_usage_daily",
        ["agent_id", "day"],
        unique=False,
        schema="paceline",
    )
    op.create_table(
        "ai_usage_hourly",
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("agent_id", sa.Uuid(), nullable=False),
        sa.Column("request_type", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("tokens_input", sa.BigInteger(), nullable=False),
        sa.Column("tokens_output", sa.BigInteger(), nullable=False),
        sa.Column("tokens_used", sa.BigInteger(), nullable=False),
        sa.Column("cost_micros", sa.BigInteger(), nullable=False),
        sa.Column("unpriced", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["agent_id"], ["paceline.agents.id"], name=op.f("fk_ai_usage_hourly_agent_id")
        ),
        sa.PrimaryKeyConstraint(
            "hour", "agent_id", "request_type", "model", "outcome", name=op.f("pk_ai_usage_hourly")
        ),
        schema="paceline",
    )
    op.create_index(
        "ix_ai_usage_hourly_agent_id_hour",
        "ai_usage_hourly",
        ["agent_id", "hour"],
        unique=False,
        schema="paceline",
    )


def downgrade() -> None:
    op.drop_index("ix_ai_usage_hourly_agent_id_hour", table_name="ai_usage_hourly", schema="paceline")
    op.drop_table("ai_usage_hourly", schema="paceline")
    op.drop_index("ix_ai_usage_daily_agent_id_day", table_name="ai_usage_daily", schema="paceline")
    op.drop_table("ai_usage_daily", schema="paceline")
    op.drop_index(
        "uq_incidents_open",
        table_name="incidents",
        schema="paceline",
        postgresql_where=sa.text("closed_at is null"),
    )
    op.drop_index("ix_incidents_opened_at", table_name="incidents", schema="paceline")
    op.drop_table("incidents", schema="paceline")
    op.drop_index(
        "ix_alerts_unsent",
        table_name="alerts",
        schema="paceline",
        postgresql_where=sa.text("sent_at is null"),
    )
    op.drop_table("alerts", schema="paceline")
