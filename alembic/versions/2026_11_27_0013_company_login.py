"""company login

An account may be opened by a company's provider (OpenID Connect), and then needs no password. Safe with the previous
release: columns that are null; the column that may be null now is so only for accounts which that release cannot
open.

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.alter_column(
        "accounts",
        "password_hash",
        nullable=True,
        schema="paceline",
        comment="null: only the company's sign-in opens it",
    )
    op.add_column(
        "accounts", sa.Column("oidc_issuer", sa.Text(), comment="the company's provider"), schema="paceline"
    )
    op.add_column(
        "accounts",
        sa.Column("oidc_subject", sa.Text(), comment="the provider's name for the person"),
        schema="paceline",
    )
    op.create_unique_constraint(
        "uq_accounts_oidc", "accounts", ["oidc_issuer", "oidc_subject"], schema="paceline"
    )
    op.add_column(
        "sessions",
        sa.Column(
            "by_company",
            sa.Boolean(),
            server_default=sa.false(),
            nullable=False,
            comment="opened by the company's sign-in",
        ),
        schema="paceline",
    )
    op.add_column(
        "sessions",
        sa.Column(
            "proved_at", sa.DateTime(timezone=True), comment="when the person last showed again who they are"
        ),
        schema="paceline",
    )


def downgrade() -> None:
    op.drop_column("sessions", "proved_at", schema="paceline")
    op.drop_column("sessions", "by_company", schema="paceline")
    op.drop_constraint("uq_accounts_oidc", "accounts", schema="paceline")
    op.drop_column("accounts", "oidc_subject", schema="paceline")
    op.drop_column("accounts", "oidc_issuer", schema="paceline")
    op.execute("update paceline.accounts set password_hash = '' where password_hash is null")
    op.alter_column("accounts", "password_hash", nullable=False, schema="paceline", comment=None)
