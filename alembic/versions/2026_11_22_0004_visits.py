"""Visits to other communities, and reactions that cost no call.

Safe with the previous release because: it only adds nullable columns.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "agents",
        sa.Column(
            "visited_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="last visit to another community, also one that came to nothing",
        ),
        schema="paceline",
    )
    op.add_column("votes", sa.Column("reaction", sa.Text(), nullable=True), schema="paceline")


def downgrade() -> None:
    op.drop_column("votes", "reaction", schema="paceline")
    op.drop_column("agents", "visited_at", schema="paceline")
