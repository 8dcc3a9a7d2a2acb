"""accounts and pages

Safe with the previous release: new tables, a generated column of agents, and indexes on runs, posts and comments;
writers wait while these tables are read once.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("signed_in_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("role in ('viewer', 'operator', 'admin')", name=op.f("ck_accounts_role")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
        sa.UniqueConstraint("name", name=op.f("uq_accounts_name")),
        schema="paceline",
    )
    op.create_table(
        "sign_in_failures",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_sign_in_failures")),
        schema="paceline",
    )
    op.create_table(
        "usage_rankings",
        sa.Column("span", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False),
        sa.Column("took_ms", sa.Integer(), nullable=False),
        sa.Column(
            "rows",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="[name, sums], the first of every metric",
        ),
        sa.PrimaryKeyConstraint("span", "by", name=op.f("pk_usage_rankings")),
        schema="paceline",
    )
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("role in ('viewer', 'operator', 'admin')", name=op.f("ck_api_tokens_role")),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["paceline.accounts.id"],
            name=op.f("fk_api_tokens_account_id"),
            ondelete="cascade",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_tokens")),
        sa.UniqueConstraint("hash", name=op.f("uq_api_tokens_hash")),
        schema="paceline",
    )
    op.create_index("ix_api_tokens_account_id", "api_tokens", ["account_id"], unique=False, schema="paceline")
    op.create_table(
        "invitations",
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=True),
        sa.Column(
            "invited_by",
            sa.Uuid(),
            nullable=True,
            comment="whose word it is, and good for no longer than that; null: the command line",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("role in ('viewer', 'operator', 'admin')", name=op.f("ck_invitations_role")),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["paceline.accounts.id"],
            name=op.f("fk_invitations_account_id"),
            ondelete="cascade",
        ),
        sa.ForeignKeyConstraint(
            ["invited_by"],
            ["paceline.accounts.id"],
            name=op.f("fk_invitations_invited_by"),
            ondelete="cascade",
        ),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_invitations")),
        schema="paceline",
    )
    op.create_table(
        "sessions",
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["paceline.accounts.id"], name=op.f("fk_sessions_account_id"), ondelete="cascade"
        ),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_sessions")),
        schema="paceline",
    )
    op.create_index("ix_sessions_account_id", "sessions", ["account_id"], unique=False, schema="paceline")
    op.add_column(
        "agents",
        sa.Column(
            "searched",
            sa.Text(collation="C"),
            sa.Computed("lower(handle || ' ' || display_name)", persisted=True),
            nullable=False,
            comment="what a search looks through, byte by byte",
        ),
        schema="paceline",
    )
    op.drop_index(
        op.f("ix_comments_unpublished"),
        table_name="comments",
        schema="paceline",
        postgresql_where="(state <> 'published'::text)",
    )
    op.create_index(
        "ix_comments_unpublished",
        "comments",
        ["state", "id"],
        unique=False,
        schema="paceline",
        postgresql_where=sa.text("state <> 'published'"),
    )
    op.drop_index(
        op.f("ix_posts_unpublished"),
        table_name="posts",
        schema="paceline",
        postgresql_where="(state <> 'published'::text)",
    )
    op.create_index(
        "ix_posts_unpublished",
        "posts",
        ["state", "id"],
        unique=False,
        schema="paceline",
        postgresql_where=sa.text("state <> 'published'"),
    )
    op.drop_index(op.f("ix_runs_cycle_at_due_at"), table_name="runs", schema="paceline")
    op.create_index(
        "ix_runs_came_to_nothing",
        "runs",
        ["due_at", "id"],
        unique=False,
        schema="paceline",
        postgresql_where=sa.text("state in ('failed', 'skipped', 'quarantined')"),
    )
    op.create_index(
        "ix_runs_cycle_at_due_at_id", "runs", ["cycle_at", "due_at", "id"], unique=False, schema="paceline"
    )


def downgrade() -> None:
    op.drop_index("ix_runs_cycle_at_due_at_id", table_name="runs", schema="paceline")
    op.drop_index(
        "ix_runs_came_to_nothing",
        table_name="runs",
        schema="paceline",
        postgresql_where=sa.text("state in ('failed', 'skipped', 'quarantined')"),
    )
    op.create_index(
        op.f("ix_runs_cycle_at_due_at"), "runs", ["cycle_at", "due_at"], unique=False, schema="paceline"
    )
    op.drop_index(
        "ix_posts_unpublished",
        table_name="posts",
        schema="paceline",
        postgresql_where=sa.text("state <> 'published'"),
    )
    op.create_index(
        op.f("ix_posts_unpublished"),
        "posts",
        ["state", "created_at"],
        unique=False,
        schema="paceline",
        postgresql_where="(state <> 'published'::text)",
    )
    op.drop_index(
        "ix_comments_unpublished",
        table_name="comments",
        schema="paceline",
        postgresql_where=sa.text("state <> 'published'"),
    )
    op.create_index(
        op.f("ix_comments_unpublished"),
        "comments",
        ["state", "created_at"],
        unique=False,
        schema="paceline",
        postgresql_where="(state <> 'published'::text)",
    )
    op.drop_column("agents", "searched", schema="paceline")
    op.drop_index("ix_sessions_account_id", table_name="sessions", schema="paceline")
    op.drop_table("sessions", schema="paceline")
    op.drop_table("invitations", schema="paceline")
    op.drop_index("ix_api_tokens_account_id", table_name="api_tokens", schema="paceline")
    op.drop_table("api_tokens", schema="paceline")
    op.drop_table("usage_rankings", schema="paceline")
    op.drop_table("sign_in_failures", schema="paceline")
    op.drop_table("accounts", schema="paceline")
