"""Tokens for the JSON API."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, delete, func, insert, or_, select, update
from uuid_utils.compat import uuid7

from app.accounts import RANKS, Person, hash_secret, new_secret
from app.audit_log import note_change
from app.errors import ConfigError
from app.models import Account, ApiToken, Role

PREFIX = "pl_"
"""So that a scanner for secrets knows one when it sees it."""
USED_EVERY = timedelta(minutes=1)
DAYS = (7, 30, 90, 365)
"""How long a token may be good for."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A token as its owner sees it: never the token."""

    id: UUID
    label: str
    role: str
    created_at: datetime
    used_at: datetime | None
    expires_at: datetime | None


def add_token(connection: Connection, person: Person, label: str, role: Role, days: int = 90) -> str:
    """A new token, shown this once; it may do what the person may, and no more than `role`, for some days."""
    if days not in DAYS:
        raise ConfigError(f"a token is good for {', '.join(map(str, DAYS))} days")
    secret = PREFIX + new_secret()
    label = label.strip()[:80].replace("\x00", "") or "unnamed"
    role = min(role, person.role, key=RANKS.__getitem__)
    row = {
        "id": uuid7(),
        "hash": hash_secret(secret),
        "account_id": person.id,
        "label": label,
        "role": role,
        "expires_at": func.now() + timedelta(days=days),
    }
    connection.execute(insert(ApiToken).values(row))
    note_change(
        connection,
        actor=person.name,
        action="tokens.add",
        subject=label,
        before={},
        after={"role": role, "days": days},
        reason="",
    )
    return secret


def list_tokens(connection: Connection, person: Person) -> list[Listed]:
    """A person's tokens, the newest first."""
    columns = [getattr(ApiToken, name) for name in Listed.__slots__]
    query = select(*columns).where(ApiToken.account_id == person.id)
    return [Listed(*row) for row in connection.execute(query.order_by(ApiToken.created_at.desc()))]


def remove_token(connection: Connection, person: Person, token_id: UUID) -> bool:
    """Remove one of a person's tokens; False when there is no such one."""
    gone = delete(ApiToken).where(ApiToken.id == token_id, ApiToken.account_id == person.id)
    label = connection.execute(gone.returning(ApiToken.label)).scalar_one_or_none()
    if label is not None:
        note_change(
            connection,
            actor=person.name,
            action="tokens.remove",
            subject=label,
            before={},
            after={},
            reason="",
        )
    return label is not None


def whose_token(connection: Connection, secret: str) -> Person | None:
    """Return the owner of this token, with the lesser of the person's and the token's role."""
    query = (
        select(
            Account.id,
            Account.name,
            Account.role,
            ApiToken.id.label("token_id"),
            ApiToken.role.label("token_role"),
            or_(ApiToken.used_at.is_(None), ApiToken.used_at < func.now() - USED_EVERY).label("is_stale"),
        )
        .join(Account, Account.id == ApiToken.account_id)
        .where(
            ApiToken.hash == hash_secret(secret),
            Account.disabled_at.is_(None),
            or_(ApiToken.expires_at.is_(None), ApiToken.expires_at > func.now()),
        )
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    if row.is_stale:
        used = update(ApiToken).where(ApiToken.id == row.token_id)
        connection.execute(used.values(used_at=func.now()))
    role = min(Role(row.role), Role(row.token_role), key=RANKS.__getitem__)
    return Person(row.id, row.name, role)
