"""content

Safe with the previous release because: it reads and writes the old columns only: new ones are null or have a default, what it writes
is `published`, and the new tables are not its.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "controls",
        sa.Column("id", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("dry_run", sa.Boolean(), nullable=False, comment="write, record, publish nothing"),
        sa.Column("review", sa.Text(), nullable=False, comment="what waits for a person's approval"),
        sa.Column("paused_activities", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("posts_per_hour", sa.Integer(), nullable=False),
        sa.Column("posts_per_day", sa.Integer(), nullable=False),
        sa.Column("comments_per_hour", sa.Integer(), nullable=False),
        sa.Column("comments_per_day", sa.Integer(), nullable=False),
        sa.Column("banned_words", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("links", sa.Text(), nullable=False, comment="what becomes of links"),
        sa.Column(
            "duplicates_s", sa.Integer(), nullable=False, comment="how long a text may not be said again"
        ),
        sa.Column(
            "seed",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="the settings it was made from",
        ),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("links in ('allow', 'remove', 'refuse')", name=op.f("ck_controls_links")),
        sa.CheckConstraint("review in ('nothing', 'posts', 'all')", name=op.f("ck_controls_review")),
        sa.CheckConstraint("id = 1", name=op.f("ck_controls_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_controls")),
        schema="paceline",
    )
    op.create_table(
        "mention_scans",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("since_id", sa.Text(), nullable=True, comment="newest post seen; a number, as text"),
        sa.Column("scanned_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "good_at", sa.DateTime(timezone=True), nullable=True, comment="the last scan that was answered"
        ),
        sa.Column("source", sa.Text(), nullable=True, comment="who answered last"),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_mention_scans")),
        schema="paceline",
    )
    op.create_table(
        "sources",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("credits", sa.Integer(), nullable=True),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("blocked_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_sources")),
        schema="paceline",
    )
    op.create_table(
        "style_profiles",
        sa.Column("username", sa.Text(), nullable=False, comment="lower case, without @"),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("profile", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("tweets", sa.Integer(), nullable=True, comment="how many tweets it was learned from"),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column(
            "due_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="may be tried again from then on; null: it stays as it is",
        ),
        sa.Column("learned_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "state in ('due', 'learning', 'learned', 'generic', 'opted_out')",
            name=op.f("ck_style_profiles_state"),
        ),
        sa.PrimaryKeyConstraint("username", name=op.f("pk_style_profiles")),
        schema="paceline",
    )
    op.create_table(
        "mentions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("post_id", sa.Text(), nullable=False, comment="its id on X"),
        sa.Column("account", sa.Text(), nullable=False, comment="who was mentioned"),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("posted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("source", sa.Text(), nullable=False, comment="who told of it first"),
        sa.Column("run_id", sa.Uuid(), nullable=True, comment="the run whose post took it up"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["paceline.runs.id"], name=op.f("fk_mentions_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mentions")),
        sa.UniqueConstraint("post_id", name=op.f("uq_mentions_post_id")),
        schema="paceline",
    )
    op.create_index(
        "ix_mentions_open",
        "mentions",
        ["account", "posted_at"],
        unique=False,
        schema="paceline",
        postgresql_where=sa.text("run_id is null"),
    )
    op.add_column(
        "agents",
        sa.Column(
            "style_source", sa.Text(), nullable=True, comment="the user on X whose way of writing it takes on"
        ),
        schema="paceline",
    )
    op.add_column(
        "agents",
        sa.Column(
            "x_handle", sa.Text(), nullable=True, comment="its account on X: mentions of it go to this agent"
        ),
        schema="paceline",
    )
    op.create_index(op.f("ix_agents_x_handle"), "agents", ["x_handle"], unique=False, schema="paceline")
    op.add_column(
        "comments",
        sa.Column("state", sa.Text(), server_default="published", nullable=False),
        schema="paceline",
    )
    op.add_column(
        "comments",
        sa.Column("note", sa.Text(), nullable=True, comment="why it is not published"),
        schema="paceline",
    )
    op.add_column(
        "comments",
        sa.Column(
            "fingerprint",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="the same for texts that differ in dress only",
        ),
        schema="paceline",
    )
    op.create_index(
        "ix_comments_agent_id_created_at",
        "comments",
        ["agent_id", "created_at"],
        unique=False,
        schema="paceline",
    )
    op.create_index("ix_comments_fingerprint", "comments", ["fingerprint"], unique=False, schema="paceline")
    op.create_index(
        "ix_comments_unpublished",
        "comments",
        ["state", "created_at"],
        unique=False,
        schema="paceline",
        postgresql_where=sa.text("state <> 'published'"),
    )
    op.add_column(
        "posts",
        sa.Column("theme", sa.Text(), nullable=True, comment="what kind of regular post it is"),
        schema="paceline",
    )
    op.add_column(
        "posts", sa.Column("state", sa.Text(), server_default="published", nullable=False), schema="paceline"
    )
    op.add_column(
        "posts",
        sa.Column("note", sa.Text(), nullable=True, comment="why it is not published"),
        schema="paceline",
    )
    op.add_column(
        "posts",
        sa.Column(
            "fingerprint",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="the same for texts that differ in dress only",
        ),
        schema="paceline",
    )
    op.create_index("ix_posts_fingerprint", "posts", ["fingerprint"], unique=False, schema="paceline")
    op.create_index(
        "ix_posts_unpublished",
        "posts",
        ["state", "created_at"],
        unique=False,
        schema="paceline",
        postgresql_where=sa.text("state <> 'published'"),
    )
    for table in ("posts", "comments"):
        op.create_check_constraint(
            op.f(f"ck_{table}_state"),
            table,
            "state in ('published', 'pending', 'refused', 'rejected', 'hidden', 'dry_run')",
            schema="paceline",
        )
    # A welcome that nobody saw does not count as one.
    op.drop_index("uq_posts_welcome", table_name="posts", schema="paceline")
    op.create_index(
        "uq_posts_welcome",
        "posts",
        ["agent_id"],
        unique=True,
        schema="paceline",
        postgresql_where=sa.text("kind = 'welcome' and state in ('published', 'pending')"),
    )


def downgrade() -> None:
    op.drop_index("uq_posts_welcome", table_name="posts", schema="paceline")
    op.execute(
        "delete from paceline.comments where state <> 'published' or post_id in "
        "(select id from paceline.posts where state <> 'published')"
    )
    op.execute(
        "delete from paceline.votes where post_id in (select id from paceline.posts where state <> 'published')"
    )
    op.execute("delete from paceline.posts where state <> 'published'")
    op.create_index(
        "uq_posts_welcome",
        "posts",
        ["agent_id"],
        unique=True,
        schema="paceline",
        postgresql_where=sa.text("kind = 'welcome'"),
    )
    for table in ("posts", "comments"):
        op.drop_constraint(op.f(f"ck_{table}_state"), table, schema="paceline")
    op.drop_index(
        "ix_posts_unpublished",
        table_name="posts",
        schema="paceline",
        postgresql_where=sa.text("state <> 'published'"),
    )
    op.drop_index("ix_posts_fingerprint", table_name="posts", schema="paceline")
    op.drop_column("posts", "fingerprint", schema="paceline")
    op.drop_column("posts", "note", schema="paceline")
    op.drop_column("posts", "state", schema="paceline")
    op.drop_column("posts", "theme", schema="paceline")
    op.drop_index(
        "ix_comments_unpublished",
        table_name="comments",
        schema="paceline",
        postgresql_where=sa.text("state <> 'published'"),
    )
    op.drop_index("ix_comments_fingerprint", table_name="comments", schema="paceline")
    op.drop_index("ix_comments_agent_id_created_at", table_name="comments", schema="paceline")
    op.drop_column("comments", "fingerprint", schema="paceline")
    op.drop_column("comments", "note", schema="paceline")
    op.drop_column("comments", "state", schema="paceline")
    op.drop_index(op.f("ix_agents_x_handle"), table_name="agents", schema="paceline")
    op.drop_column("agents", "x_handle", schema="paceline")
    op.drop_column("agents", "style_source", schema="paceline")
    op.drop_index(
        "ix_mentions_open",
        table_name="mentions",
        schema="paceline",
        postgresql_where=sa.text("run_id is null"),
    )
    op.drop_table("mentions", schema="paceline")
    op.drop_table("style_profiles", schema="paceline")
    op.drop_table("sources", schema="paceline")
    op.drop_table("mention_scans", schema="paceline")
    op.drop_table("controls", schema="paceline")
