"""every answer means what it says

Safe with the previous release: new columns that are null or have a default, and more kinds of incidents.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

LEDGER = (
    ("cost_reserved", sa.BigInteger(), "micro-dollars booked for it; they count where the cost is unknown"),
    (
        "cost_reported",
        sa.BigInteger(),
        "micro-dollars that the gateway itself reported; wins over list prices",
    ),
    (
        "usage_problem",
        sa.Text(),
        "numbers of its usage that contradict each other or cannot be true, as they were sent",
    ),
)
ROLLUPS = ("ai_usage_hourly", "ai_usage_daily", "ai_usage_fleet_hourly", "ai_usage_agent_daily")
WRITTEN = ("posts", "comments")
KINDS_BEFORE = ("rate_limited", "credits_exhausted")
KINDS = (
    "rate_limited",
    "daily_limit",
    "credits_exhausted",
    "key_limit",
    "key_refused",
    "forbidden",
    "wrong_address",
    "not_stored",
)


def upgrade() -> None:
    for name, kind, about in LEDGER:
        column = sa.Column(name, kind, nullable=True, comment=about)
        op.add_column("ai_request_log", column, schema="paceline")
    for table in ROLLUPS:
        column = sa.Column(
            "cost_unknown_micros", sa.BigInteger(), server_default=sa.text("0"), nullable=False
        )
        op.add_column(table, column, schema="paceline")
    for table in WRITTEN:
        about = "invisible characters that were taken out of it, by their names"
        op.add_column(table, sa.Column("dropped", sa.Text(), nullable=True, comment=about), schema="paceline")
    about = "welcomes asked for; after three it writes regular posts"
    tries = sa.Column(
        "welcome_tries", sa.Integer(), server_default=sa.text("0"), nullable=False, comment=about
    )
    op.add_column("agents", tries, schema="paceline")
    _allow(KINDS)


def downgrade() -> None:
    gone = ", ".join(f"'{kind}'" for kind in KINDS if kind not in KINDS_BEFORE)
    op.execute(f"delete from paceline.incidents where kind in ({gone})")
    _allow(KINDS_BEFORE)
    op.drop_column("agents", "welcome_tries", schema="paceline")
    for table in WRITTEN:
        op.drop_column(table, "dropped", schema="paceline")
    for table in ROLLUPS:
        op.drop_column(table, "cost_unknown_micros", schema="paceline")
    for name, _, _ in reversed(LEDGER):
        op.drop_column("ai_request_log", name, schema="paceline")


def _allow(kinds: tuple[str, ...]) -> None:
    name = op.f("ck_incidents_kind")
    op.drop_constraint(name, "incidents", schema="paceline", type_="check")
    allowed = ", ".join(f"'{kind}'" for kind in kinds)
    op.create_check_constraint(name, "incidents", f"kind in ({allowed})", schema="paceline")
