"""who tried

Devices that people signed in from, second factors, disabled accounts, where sessions are, when tokens end, and
of each change what kind of actor
made it and from where. The change log takes no update and no delete. Safe with the previous release: new tables,
and columns that are null or have a default; it changes no row of the log either.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

LOG = (
    sa.Column("actor_kind", sa.Text(), comment="person, token, command, celery, environment, program"),
    sa.Column("account_id", sa.Uuid(), comment="of a person or a token; the account may be gone"),
    sa.Column("address", sa.Text(), comment="where a person or a token came from"),
)
ACCOUNT = (
    sa.Column("disabled_at", sa.DateTime(timezone=True), comment="nobody signs in to it from then on"),
    sa.Column("totp_secret", sa.Text(), comment="of the second factor, base32"),
    sa.Column("totp_since", sa.DateTime(timezone=True), comment="asked for from then on; null: not yet"),
    sa.Column("totp_used", sa.BigInteger(), comment="the step of the last code, which is good once"),
)
PLACES = (
    sa.Column("address", sa.Text(), server_default="", nullable=False),
    sa.Column("browser", sa.Text(), server_default="", nullable=False),
)


def upgrade() -> None:
    op.create_table(
        "devices",
        sa.Column("hash", sa.Text(), primary_key=True),
        sa.Column(
            "account_id", sa.Uuid(), sa.ForeignKey("paceline.accounts.id", ondelete="cascade"), nullable=False
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        schema="paceline",
    )
    op.create_index("ix_devices_account_id", "devices", ["account_id"], schema="paceline")
    for column in ACCOUNT:
        op.add_column("accounts", column, schema="paceline")
    op.create_table(
        "recovery_codes",
        sa.Column("hash", sa.Text(), primary_key=True),
        sa.Column(
            "account_id", sa.Uuid(), sa.ForeignKey("paceline.accounts.id", ondelete="cascade"), nullable=False
        ),
        schema="paceline",
    )
    op.create_index("ix_recovery_codes_account_id", "recovery_codes", ["account_id"], schema="paceline")
    for column in PLACES:
        op.add_column("sessions", column, schema="paceline")
    ends = sa.Column("expires_at", sa.DateTime(timezone=True), comment="null: made before tokens ended")
    op.add_column("api_tokens", ends, schema="paceline")
    for column in LOG:
        op.add_column("audit_log", column, schema="paceline")
    op.execute("""
        create function paceline.refuse_change() returns trigger language plpgsql as $$
        begin raise exception 'the change log takes no % ', lower(tg_op) using errcode = '42501'; end $$
    """)
    op.execute("""
        create trigger append_only before update or delete or truncate on paceline.audit_log
        for each statement execute function paceline.refuse_change()
    """)


def downgrade() -> None:
    op.execute("drop trigger append_only on paceline.audit_log")
    op.execute("drop function paceline.refuse_change")
    for column in LOG:
        op.drop_column("audit_log", column.name, schema="paceline")
    op.drop_column("api_tokens", "expires_at", schema="paceline")
    for column in PLACES:
        op.drop_column("sessions", column.name, schema="paceline")
    op.drop_table("recovery_codes", schema="paceline")
    for column in ACCOUNT:
        op.drop_column("accounts", column.name, schema="paceline")
    op.drop_table("devices", schema="paceline")
