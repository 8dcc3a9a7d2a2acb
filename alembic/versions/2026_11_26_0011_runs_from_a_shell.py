"""runs from a shell

Options of Celery's canvas for a run, and the person who cancelled it. Safe with the previous release: columns that may be
null, and indexes of rows that have them.

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

COLUMNS = (
    sa.Column("options", postgresql.JSONB(), comment="of its message: queue, chain, chord, links"),
    sa.Column("group_id", sa.Text(), comment="Celery's group that it is of"),
    sa.Column("is_continued", sa.Boolean(), comment="whether what follows it was begun; null: nothing does"),
    sa.Column("cancelled_by", sa.Text(), comment="who ended it before its time"),
)
INDEXES = (
    ("ix_runs_group_id", "group_id", "group_id is not null"),
    ("ix_runs_to_continue", "finished_at", "not is_continued"),
)


def upgrade() -> None:
    for column in COLUMNS:
        op.add_column("runs", column, schema="paceline")
    for name, column, condition in INDEXES:
        where = sa.text(condition)
        op.create_index(name, "runs", [column], schema="paceline", postgresql_where=where)


def downgrade() -> None:
    for name, *_ in INDEXES:
        op.drop_index(name, "runs", schema="paceline")
    for column in COLUMNS:
        op.drop_column("runs", column.name, schema="paceline")
