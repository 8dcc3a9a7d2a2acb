"""Columns for rescuing a run, and the moment when each periodic job last did its work.

Safe with the previous release because: it only adds a table, nullable columns and defaults.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_jobs")),
        schema="paceline",
    )
    op.add_column(
        "runs",
        sa.Column("worker", sa.Text(), nullable=True, comment="who holds or last held it"),
        schema="paceline",
    )
    op.add_column(
        "runs",
        sa.Column(
            "losses",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="times its worker went silent while holding it",
        ),
        schema="paceline",
    )
    op.add_column(
        "runs",
        sa.Column(
            "published_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when workers were last told of it",
        ),
        schema="paceline",
    )


def downgrade() -> None:
    op.drop_column("runs", "published_at", schema="paceline")
    op.drop_column("runs", "losses", schema="paceline")
    op.drop_column("runs", "worker", schema="paceline")
    op.drop_table("jobs", schema="paceline")
