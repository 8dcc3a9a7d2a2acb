"""history of deliveries

The page of a run shows what became of each event of it. Safe with the previous release: an index only.

Revision ID: 0015
Revises: 0014
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_outbox_run",
        "outbox",
        [sa.text("(payload ->> 'run')")],
        schema="paceline",
        postgresql_where=sa.text("payload ->> 'run' is not null"),
    )


def downgrade() -> None:
    op.drop_index("ix_outbox_run", "outbox", schema="paceline")
