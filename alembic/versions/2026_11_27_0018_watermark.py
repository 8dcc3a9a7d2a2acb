"""watermark of the rollups

Calls before it are summed up and final, later ones are read from the ledger. The previous release writes `rolled_at`
alone, and is read as it was.

Revision ID: 0018
Revises: 0017
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name, comment in (
        ("watermark", "calls before it are summed up, and final"),
        ("watermark_of", "the rolled_at of the round that wrote it: the release before writes none"),
    ):
        column = sa.Column(name, sa.DateTime(timezone=True), comment=comment, nullable=True)
        op.add_column("usage_state", column, schema="paceline")


def downgrade() -> None:
    # The release before reads whole hours that ended ten minutes before `rolled_at` from the sums. Its next round
    # sums up all there is.
    for name in ("watermark", "watermark_of"):
        op.drop_column("usage_state", name, schema="paceline")
