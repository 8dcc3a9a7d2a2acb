"""tokens of calls whose usage nobody knows

Rollups say how many tokens were reserved for them, so that counters of quotas need not read the whole day's ledger. The
next round sums the last two days up anew. The previous release does not write the column: while it rolls up, counters read
too little for at most a minute and are set right after.

Revision ID: 0017
Revises: 0016
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

TABLES = ("ai_usage_hourly", "ai_usage_daily", "ai_usage_fleet_hourly", "ai_usage_agent_daily")


def upgrade() -> None:
    for table in TABLES:
        column = sa.Column("tokens_unknown", sa.BigInteger(), server_default="0", nullable=False)
        op.add_column(table, column, schema="paceline")
    # Until a round of this release has summed today up, everything is read from the ledger.
    op.execute("update paceline.usage_state set rolled_at = rolled_at - interval '2 days'")


def downgrade() -> None:
    for table in TABLES:
        op.drop_column(table, "tokens_unknown", schema="paceline")
