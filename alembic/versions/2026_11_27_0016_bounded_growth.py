"""bounded growth

Tables that grow are read by indexes, and lose old rows: no foreign key holds a run because of what came of it. Votes go
with their post. Tables whose rows change in place leave room for it.
Safe with the previous release: it needs none of these keys.

Revision ID: 0016
Revises: 0015
"""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

OF_RUNS = ("posts", "comments", "votes", "mentions", "ai_request_log")
IN_PLACE = {"runs": 80, "agents": 80}
ABOUT = {
    "posts": "the run that made it; it may be gone, because runs are kept for less time",
    "comments": "the run that made it; it may be gone, because runs are kept for less time",
    "votes": "the run that made it; it may be gone, because runs are kept for less time",
    "mentions": "the run whose post took it up; it may be gone",
}


def upgrade() -> None:
    for table in OF_RUNS:
        op.drop_constraint(f"fk_{table}_run_id", table, schema="paceline", type_="foreignkey")
    op.drop_constraint("fk_votes_post_id", "votes", schema="paceline", type_="foreignkey")
    op.create_foreign_key(
        "fk_votes_post_id",
        "votes",
        "posts",
        ["post_id"],
        ["id"],
        ondelete="cascade",
        source_schema="paceline",
        referent_schema="paceline",
    )
    for table in ("posts", "comments"):
        op.create_index(f"ix_{table}_created_at", table, ["created_at"], schema="paceline")
    op.create_index("ix_runs_agent_id_created_at", "runs", ["agent_id", "created_at"], schema="paceline")
    op.create_index("ix_runs_finished_at", "runs", ["finished_at"], schema="paceline")
    for table, said in ABOUT.items():
        op.execute(f"comment on column paceline.{table}.run_id is '{said}'")
    for table, fill in IN_PLACE.items():
        op.execute(
            f"alter table paceline.{table} set (fillfactor = {fill}, autovacuum_vacuum_scale_factor = 0.02, "
            "autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02)"
        )


def downgrade() -> None:
    for table in ABOUT:
        said = "'the run whose post took it up'" if table == "mentions" else "null"
        op.execute(f"comment on column paceline.{table}.run_id is {said}")
    for table in IN_PLACE:
        op.execute(
            f"alter table paceline.{table} reset (fillfactor, autovacuum_vacuum_scale_factor, "
            "autovacuum_analyze_scale_factor, autovacuum_vacuum_insert_scale_factor)"
        )
    op.drop_index("ix_runs_finished_at", "runs", schema="paceline")
    op.drop_index("ix_runs_agent_id_created_at", "runs", schema="paceline")
    for table in ("posts", "comments"):
        op.drop_index(f"ix_{table}_created_at", table, schema="paceline")
    op.drop_constraint("fk_votes_post_id", "votes", schema="paceline", type_="foreignkey")
    op.create_foreign_key(
        "fk_votes_post_id",
        "votes",
        "posts",
        ["post_id"],
        ["id"],
        source_schema="paceline",
        referent_schema="paceline",
    )
    for table in OF_RUNS:
        op.create_foreign_key(
            f"fk_{table}_run_id",
            table,
            "runs",
            ["run_id"],
            ["id"],
            source_schema="paceline",
            referent_schema="paceline",
        )
