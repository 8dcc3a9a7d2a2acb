"""zone of rollups

Safe with the previous release: a new column that is null.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    about = "the business time zone of the rollups"
    op.add_column("usage_state", sa.Column("zone", sa.Text(), comment=about), schema="paceline")


def downgrade() -> None:
    op.drop_column("usage_state", "zone", schema="paceline")
