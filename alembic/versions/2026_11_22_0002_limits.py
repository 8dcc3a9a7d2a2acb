"""Limits and audit log; quotas of agents; runs that wait for their turn.

Safe with the previous release because: it only adds tables and nullable columns.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit_log",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("before", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("after", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
        schema="paceline",
    )
    op.create_index(op.f("ix_audit_log_at"), "audit_log", ["at"], unique=False, schema="paceline")
    op.create_table(
        "limits",
        sa.Column("id", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("rate", sa.Double(), nullable=False, comment="calls per second"),
        sa.Column("burst", sa.Integer(), nullable=False),
        sa.Column("max_wait_s", sa.Double(), nullable=False, comment="longest wait for a permit on a worker"),
        sa.Column("tokens_per_minute", sa.Integer(), nullable=False),
        sa.Column("agent_daily_tokens", sa.Integer(), nullable=False),
        sa.Column("budget_day_micros", sa.BigInteger(), nullable=False),
        sa.Column("budget_month_micros", sa.BigInteger(), nullable=False),
        sa.Column("paused_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "seed",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="the settings it was made from",
        ),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_limits_one_row")),
        sa.CheckConstraint("rate > 0 and burst >= 1 and max_wait_s > 0", name=op.f("ck_limits_possible")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_limits")),
        schema="paceline",
    )
    op.add_column(
        "agents",
        sa.Column("daily_tokens", sa.Integer(), nullable=True, comment="own quota; null: the fleet's"),
        schema="paceline",
    )
    op.add_column(
        "runs",
        sa.Column("wake_at", sa.DateTime(timezone=True), nullable=True, comment="snoozed until then"),
        schema="paceline",
    )
    op.add_column(
        "runs",
        sa.Column("ticket", sa.BigInteger(), nullable=True, comment="place in admission's line"),
        schema="paceline",
    )


def downgrade() -> None:
    op.drop_column("runs", "ticket", schema="paceline")
    op.drop_column("runs", "wake_at", schema="paceline")
    op.drop_column("agents", "daily_tokens", schema="paceline")
    op.drop_table("limits", schema="paceline")
    op.drop_index(op.f("ix_audit_log_at"), table_name="audit_log", schema="paceline")
    op.drop_table("audit_log", schema="paceline")
