"""Agents, communities, content, runs and the call ledger.

Safe with the previous release because: there is none.

Revision ID: 0001
Revises: nothing
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "communities",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_communities")),
        sa.UniqueConstraint("name", name=op.f("uq_communities_name")),
        schema="paceline",
    )
    op.create_table(
        "agents",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("handle", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("community_id", sa.Uuid(), nullable=False),
        sa.Column("persona", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="active", nullable=False),
        sa.Column("phase", sa.Integer(), nullable=False),
        sa.Column("welcomed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_run_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("state in ('active', 'paused', 'quarantined')", name=op.f("ck_agents_state")),
        sa.CheckConstraint("phase >= 0 and phase < 1000000", name=op.f("ck_agents_phase")),
        sa.ForeignKeyConstraint(
            ["community_id"], ["paceline.communities.id"], name=op.f("fk_agents_community_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agents")),
        sa.UniqueConstraint("handle", name=op.f("uq_agents_handle")),
        schema="paceline",
    )
    op.create_index(
        op.f("ix_agents_community_id"), "agents", ["community_id"], unique=False, schema="paceline"
    )
    op.create_index("ix_agents_state_phase", "agents", ["state", "phase"], unique=False, schema="paceline")
    op.create_table(
        "runs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("agent_id", sa.Uuid(), nullable=True),
        sa.Column("asked_for", sa.Text(), nullable=True, comment="what an ad-hoc caller gave as agent"),
        sa.Column("cycle_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "due_at", sa.DateTime(timezone=True), nullable=False, comment="start of the slice that opened it"
        ),
        sa.Column(
            "expires_at", sa.DateTime(timezone=True), nullable=True, comment="not begun by then: skipped"
        ),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="queued", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column(
            "attempt", sa.Integer(), server_default=sa.text("0"), nullable=False, comment="fencing number"
        ),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "(origin = 'cycle') = (cycle_at is not null)", name=op.f("ck_runs_cycle_has_time")
        ),
        sa.CheckConstraint(
            "(state in ('queued', 'running', 'snoozed')) = (finished_at is null)",
            name=op.f("ck_runs_finished"),
        ),
        sa.CheckConstraint("agent_id is not null or state = 'failed'", name=op.f("ck_runs_agent_known")),
        sa.CheckConstraint("origin in ('cycle', 'adhoc')", name=op.f("ck_runs_origin")),
        sa.CheckConstraint(
            "state in ('queued', 'running', 'snoozed', 'completed', 'failed', 'skipped', 'quarantined')",
            name=op.f("ck_runs_state"),
        ),
        sa.ForeignKeyConstraint(["agent_id"], ["paceline.agents.id"], name=op.f("fk_runs_agent_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        sa.UniqueConstraint("agent_id", "cycle_at", name=op.f("uq_runs_agent_id_cycle_at")),
        schema="paceline",
    )
    op.create_index(
        "ix_runs_cycle_at_due_at", "runs", ["cycle_at", "due_at"], unique=False, schema="paceline"
    )
    op.create_index(
        "ix_runs_open",
        "runs",
        ["state", "due_at"],
        unique=False,
        schema="paceline",
        postgresql_where=sa.text("state in ('queued', 'running', 'snoozed')"),
    )
    op.create_table(
        "ai_request_log",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("agent_id", sa.Uuid(), nullable=False),
        sa.Column(
            "step", sa.Text(), nullable=False, comment="which of the run's activities: post, comment.0, ..."
        ),
        sa.Column("attempt", sa.Integer(), nullable=False, comment="1 for the first try of the step"),
        sa.Column("request_type", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="in_flight", nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("tokens_reserved", sa.Integer(), nullable=False),
        sa.Column("tokens_input", sa.Integer(), nullable=True),
        sa.Column("tokens_output", sa.Integer(), nullable=True),
        sa.Column("tokens_used", sa.Integer(), nullable=True),
        sa.Column("cost_micros", sa.BigInteger(), nullable=True),
        sa.Column("latency_ms", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status in ('in_flight', 'ok', 'error', 'unknown')", name=op.f("ck_ai_request_log_status")
        ),
        sa.ForeignKeyConstraint(
            ["agent_id"], ["paceline.agents.id"], name=op.f("fk_ai_request_log_agent_id")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["paceline.runs.id"], name=op.f("fk_ai_request_log_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ai_request_log")),
        schema="paceline",
    )
    op.create_index(
        "ix_ai_request_log_agent_id_created_at",
        "ai_request_log",
        ["agent_id", "created_at"],
        unique=False,
        schema="paceline",
    )
    op.create_index(
        "ix_ai_request_log_not_ok",
        "ai_request_log",
        ["created_at"],
        unique=False,
        schema="paceline",
        postgresql_where=sa.text("status <> 'ok'"),
    )
    op.create_table(
        "posts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("agent_id", sa.Uuid(), nullable=False),
        sa.Column("community_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("kind in ('welcome', 'regular')", name=op.f("ck_posts_kind")),
        sa.CheckConstraint("char_length(body) between 1 and 280", name=op.f("ck_posts_body")),
        sa.ForeignKeyConstraint(["agent_id"], ["paceline.agents.id"], name=op.f("fk_posts_agent_id")),
        sa.ForeignKeyConstraint(
            ["community_id"], ["paceline.communities.id"], name=op.f("fk_posts_community_id")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["paceline.runs.id"], name=op.f("fk_posts_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_posts")),
        sa.UniqueConstraint("run_id", name=op.f("uq_posts_run_id")),
        schema="paceline",
    )
    op.create_index(
        "ix_posts_agent_id_created_at", "posts", ["agent_id", "created_at"], unique=False, schema="paceline"
    )
    op.create_index(
        "ix_posts_community_id_created_at",
        "posts",
        ["community_id", "created_at"],
        unique=False,
        schema="paceline",
    )
    op.create_index(
        "uq_posts_welcome",
        "posts",
        ["agent_id"],
        unique=True,
        schema="paceline",
        postgresql_where=sa.text("kind = 'welcome'"),
    )
    op.create_table(
        "comments",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("post_id", sa.Uuid(), nullable=False),
        sa.Column("agent_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("char_length(body) between 1 and 280", name=op.f("ck_comments_body")),
        sa.ForeignKeyConstraint(["agent_id"], ["paceline.agents.id"], name=op.f("fk_comments_agent_id")),
        sa.ForeignKeyConstraint(["post_id"], ["paceline.posts.id"], name=op.f("fk_comments_post_id")),
        sa.ForeignKeyConstraint(["run_id"], ["paceline.runs.id"], name=op.f("fk_comments_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_comments")),
        sa.UniqueConstraint("agent_id", "post_id", name=op.f("uq_comments_agent_id_post_id")),
        sa.UniqueConstraint("run_id", "slot", name=op.f("uq_comments_run_id_slot")),
        schema="paceline",
    )
    op.create_index(
        "ix_comments_post_id_created_at",
        "comments",
        ["post_id", "created_at"],
        unique=False,
        schema="paceline",
    )
    op.create_table(
        "votes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("agent_id", sa.Uuid(), nullable=False),
        sa.Column("post_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("value", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("value in (-1, 1)", name=op.f("ck_votes_value")),
        sa.ForeignKeyConstraint(["agent_id"], ["paceline.agents.id"], name=op.f("fk_votes_agent_id")),
        sa.ForeignKeyConstraint(["post_id"], ["paceline.posts.id"], name=op.f("fk_votes_post_id")),
        sa.ForeignKeyConstraint(["run_id"], ["paceline.runs.id"], name=op.f("fk_votes_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_votes")),
        sa.UniqueConstraint("agent_id", "post_id", name=op.f("uq_votes_agent_id_post_id")),
        schema="paceline",
    )
    op.create_index(op.f("ix_votes_post_id"), "votes", ["post_id"], unique=False, schema="paceline")


def downgrade() -> None:
    op.drop_index(op.f("ix_votes_post_id"), table_name="votes", schema="paceline")
    op.drop_table("votes", schema="paceline")
    op.drop_index("ix_comments_post_id_created_at", table_name="comments", schema="paceline")
    op.drop_table("comments", schema="paceline")
    op.drop_index(
        "uq_posts_welcome",
        table_name="posts",
        schema="paceline",
        postgresql_where=sa.text("kind = 'welcome'"),
    )
    op.drop_index("ix_posts_community_id_created_at", table_name="posts", schema="paceline")
    op.drop_index("ix_posts_agent_id_created_at", table_name="posts", schema="paceline")
    op.drop_table("posts", schema="paceline")
    op.drop_index(
        "ix_ai_request_log_not_ok",
        table_name="ai_request_log",
        schema="paceline",
        postgresql_where=sa.text("status <> 'ok'"),
    )
    op.drop_index("ix_ai_request_log_agent_id_created_at", table_name="ai_request_log", schema="paceline")
    op.drop_table("ai_request_log", schema="paceline")
    op.drop_index(
        "ix_runs_open",
        table_name="runs",
        schema="paceline",
        postgresql_where=sa.text("state in ('queued', 'running', 'snoozed')"),
    )
    op.drop_index("ix_runs_cycle_at_due_at", table_name="runs", schema="paceline")
    op.drop_table("runs", schema="paceline")
    op.drop_index("ix_agents_state_phase", table_name="agents", schema="paceline")
    op.drop_index(op.f("ix_agents_community_id"), table_name="agents", schema="paceline")
    op.drop_table("agents", schema="paceline")
    op.drop_table("communities", schema="paceline")
