"""People who look at the fleet and act on it: accounts, sessions, invitations, API tokens."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, UniqueConstraint, false, func
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.models.columns import CreatedAt, Id, one_of


class Role(StrEnum):
    """Role of a person; each may do what the ones before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


class Account(Base):
    """A person who may sign in."""

    __tablename__ = "accounts"
    __table_args__ = (
        one_of("role", Role),
        UniqueConstraint("oidc_issuer", "oidc_subject", name="uq_accounts_oidc"),
    )

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str | None] = mapped_column(comment="null: only the company's sign-in opens it")
    oidc_issuer: Mapped[str | None] = mapped_column(comment="the company's provider")
    oidc_subject: Mapped[str | None] = mapped_column(comment="the provider's name for the person")
    role: Mapped[str]
    created_at: Mapped[CreatedAt]
    signed_in_at: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None] = mapped_column(comment="nobody signs in to it from then on")
    totp_secret: Mapped[str | None] = mapped_column(comment="of the second factor, base32")
    totp_since: Mapped[datetime | None] = mapped_column(comment="asked for from then on; null: not yet")
    totp_used: Mapped[int | None] = mapped_column(
        BigInteger, comment="the step of the last code, which is good once"
    )


class RecoveryCode(Base):
    """A code that stands once for the second factor. Stored as its hash."""

    __tablename__ = "recovery_codes"
    __table_args__ = (Index("ix_recovery_codes_account_id", "account_id"),)

    hash: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[UUID] = mapped_column(ForeignKey(Account.id, ondelete="cascade"))


class Device(Base):
    """A browser that has signed in to an account before. It opens nothing: its tries are counted apart."""

    __tablename__ = "devices"
    __table_args__ = (Index("ix_devices_account_id", "account_id"),)

    hash: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[UUID] = mapped_column(ForeignKey(Account.id, ondelete="cascade"))
    created_at: Mapped[CreatedAt]
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Session(Base):
    """A browser that is signed in. The cookie is not stored, only its hash."""

    __tablename__ = "sessions"
    __table_args__ = (Index("ix_sessions_account_id", "account_id"),)

    hash: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[UUID] = mapped_column(ForeignKey(Account.id, ondelete="cascade"))
    created_at: Mapped[CreatedAt]
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    by_company: Mapped[bool] = mapped_column(
        server_default=false(), comment="opened by the company's sign-in"
    )
    proved_at: Mapped[datetime | None] = mapped_column(
        comment="when the person last showed again who they are"
    )
    address: Mapped[str] = mapped_column(server_default="")
    browser: Mapped[str] = mapped_column(server_default="")


class Invitation(Base):
    """A link that works once: it makes an account, or sets the password of the one it names."""

    __tablename__ = "invitations"
    __table_args__ = (one_of("role", Role),)

    hash: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str]
    account_id: Mapped[UUID | None] = mapped_column(ForeignKey(Account.id, ondelete="cascade"))
    invited_by: Mapped[UUID | None] = mapped_column(
        ForeignKey(Account.id, ondelete="cascade"),
        comment="whose word it is, and good for no longer than that; null: the command line",
    )
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime]


class ApiToken(Base):
    """A token for the JSON API: whoever holds it may do what its account may, but no more than its role."""

    __tablename__ = "api_tokens"
    __table_args__ = (one_of("role", Role), Index("ix_api_tokens_account_id", "account_id"))

    id: Mapped[Id]
    hash: Mapped[str] = mapped_column(unique=True)
    account_id: Mapped[UUID] = mapped_column(ForeignKey(Account.id, ondelete="cascade"))
    label: Mapped[str]
    role: Mapped[str]
    created_at: Mapped[CreatedAt]
    used_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None] = mapped_column(comment="null: made before tokens ended")


class SignInFailure(Base):
    """Wrong passwords in a row, for a name or from an address."""

    __tablename__ = "sign_in_failures"

    key: Mapped[str] = mapped_column(primary_key=True)
    failures: Mapped[int]
    last_at: Mapped[datetime]
