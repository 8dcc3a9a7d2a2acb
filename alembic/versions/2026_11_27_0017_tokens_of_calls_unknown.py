"""tokens of calls whose usage nobody knows

Rollups say how many tokens were reserved for them, so that counters of quotas need not read the whole day's ledger. The
next round sums up anew what is not frozen yet. The previous release does not write the column: while its workers still roll
up, counters of quotas leave such calls out; a round of this release sets them right.

Revision ID: 0017
Revises: 0016
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

ANEW = (
    # A round begins where the fleet's hours end, so these make it begin after the last frozen day. Until then
    # everything since is read from the ledger.
    """
    delete from paceline.ai_usage_fleet_hourly where hour >= coalesce(
      (select (max(day) + 1)::timestamp at time zone (select zone from paceline.usage_state) from paceline.usage_days),
      '-infinity')
    """,
    """
    update paceline.usage_state set rolled_at = coalesce(
      (select (max(day) + 1)::timestamp at time zone zone from paceline.usage_days), '2000-01-01')
    """,
)
TABLES = ("ai_usage_hourly", "ai_usage_daily", "ai_usage_fleet_hourly", "ai_usage_agent_daily")


def upgrade() -> None:
    for table in TABLES:
        column = sa.Column("tokens_unknown", sa.BigInteger(), server_default="0", nullable=False)
        op.add_column(table, column, schema="paceline")
    for statement in ANEW:
        op.execute(statement)


def downgrade() -> None:
    for table in TABLES:
        op.drop_column(table, "tokens_unknown", schema="paceline")
