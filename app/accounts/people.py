"""Accounts: making, listing, changing, removing. Each change has an audit entry."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, text, update
from uuid_utils.compat import uuid7

from app.accounts import Person
from app.accounts.passwords import check_new, hash_password
from app.audit_log import note_change
from app.errors import ConfigError, NotFound
from app.models import Account, ApiToken, AuditEntry, Device, Invitation, Role, Session

IDLE = timedelta(hours=12)
"""A session that is not used for so long is over."""
RESERVED = frozenset({"root", "environment", "celery", "paceline", "beat", "worker", "system", "anybody"})
"""They stand for other actors in the change log."""
NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,62}")


@dataclass(frozen=True, slots=True)
class Listed:
    """An account as a list shows it. `sessions`: browsers that are signed in."""

    id: UUID
    name: str
    role: str
    created_at: datetime
    signed_in_at: datetime | None
    disabled_at: datetime | None
    has_second_factor: bool
    sessions: int


def is_alive() -> tuple[ColumnElement[bool], ...]:
    """Whether a session still counts."""
    return Session.expires_at > func.now(), Session.seen_at >= func.now() - IDLE


def clean_name(name: str) -> str:
    """The name in its one spelling; raises ConfigError when it cannot be one."""
    name = name.strip().lower()
    if not NAME.fullmatch(name):
        raise ConfigError("a name has 1 to 63 characters: letters a to z, digits, dot, hyphen, underscore, @")
    return name


def add_account(
    connection: Connection, name: str, password: str | None, role: Role, reason: str = "by invitation"
) -> Person:
    """Make an account; raises ConfigError when the name is taken or the password will not do. Without a
    password only the company's sign-in opens it.
    """
    name = clean_name(name)
    if password is not None:
        check_new(password, name)
    _one_at_a_time(connection)
    if name in RESERVED:
        raise ConfigError(f"{name} is a name of the program's own: choose another name")
    was_there = select(AuditEntry.id).where(
        AuditEntry.action == "accounts.remove", AuditEntry.subject == name
    )
    if connection.execute(select(Account.id).where(Account.name == name)).first():
        raise ConfigError(f"{name} is taken: choose another name")
    if connection.execute(was_there.limit(1)).first():
        raise ConfigError(f"{name} was somebody else's: choose another name, or the change log lies")
    person = Person(uuid7(), name, role)
    hashed = None if password is None else hash_password(password)
    row = {"id": person.id, "name": name, "password_hash": hashed, "role": role}
    connection.execute(insert(Account).values(row))
    note_change(
        connection,
        actor=name,
        action="accounts.add",
        subject=name,
        before={},
        after={"role": role},
        reason=reason,
    )
    return person


def set_password(connection: Connection, person: Person, password: str) -> None:
    """Give an account another password. All that acts for it ends: browsers, API tokens, links to reset it,
    and that a browser is known.
    """
    check_new(password, person.name)
    changed = update(Account).where(Account.id == person.id)
    connection.execute(changed.values(password_hash=hash_password(password)))
    _end_all(connection, person)
    note_change(
        connection,
        actor=person.name,
        action="accounts.password",
        subject=person.name,
        before={},
        after={},
        reason="",
    )


@dataclass(frozen=True, slots=True)
class Proofs:
    """Ways to open an account: the hash of its password, and the provider it is linked with, if it has
    them.
    """

    password_hash: str | None
    oidc_issuer: str | None


def proofs(connection: Connection, person: Person) -> Proofs:
    """Return the ways to open a person's account."""
    query = select(Account.password_hash, Account.oidc_issuer).where(Account.id == person.id)
    return Proofs(*connection.execute(query).one())


def list_accounts(connection: Connection) -> list[Listed]:
    """All accounts by name."""
    sessions = (
        select(func.count())
        .select_from(Session)
        .where(Session.account_id == Account.id, *is_alive())
        .scalar_subquery()
    )
    query = select(
        Account.id,
        Account.name,
        Account.role,
        Account.created_at,
        Account.signed_in_at,
        Account.disabled_at,
        Account.totp_since.is_not(None),
        sessions,
    ).order_by(Account.name)
    return [Listed(*row) for row in connection.execute(query)]


def find_account(connection: Connection, name: str) -> Person:
    """The account with this name; raises NotFound."""
    query = select(Account.id, Account.name, Account.role).where(Account.name == name.lower())
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"no account {name!r}: `paceline accounts list` shows them all")
    return Person(row.id, row.name, Role(row.role))


def has_admin(connection: Connection) -> bool:
    """Whether anybody can administer yet."""
    query = select(Account.id).where(Account.role == Role.ADMIN, Account.disabled_at.is_(None))
    return connection.execute(query.limit(1)).first() is not None


def set_role(connection: Connection, name: str, role: Role, *, actor: str, reason: str) -> None:
    """Change what somebody may do; links that they gave are over. ConfigError for the last administrator."""
    _one_at_a_time(connection)
    person = find_account(connection, name)
    if role is not Role.ADMIN:
        _keep_an_admin(connection, person)
    connection.execute(update(Account).where(Account.id == person.id).values(role=role))
    connection.execute(delete(Invitation).where(Invitation.invited_by == person.id))
    note_change(
        connection,
        actor=actor,
        action="accounts.role",
        subject=person.name,
        before={"role": person.role},
        after={"role": role},
        reason=reason,
    )


def remove_account(connection: Connection, name: str, *, actor: str, reason: str) -> None:
    """Remove an account with its sessions and tokens; raises ConfigError for the last administrator."""
    _one_at_a_time(connection)
    person = find_account(connection, name)
    _keep_an_admin(connection, person)
    connection.execute(delete(Account).where(Account.id == person.id))
    note_change(
        connection,
        actor=actor,
        action="accounts.remove",
        subject=person.name,
        before={"role": person.role},
        after={},
        reason=reason,
    )


def disable(connection: Connection, name: str, *, actor: str, reason: str) -> None:
    """Let nobody sign in to an account, and end all that acts for it; it can be enabled again. Raises
    ConfigError for the last administrator.
    """
    _one_at_a_time(connection)
    person = find_account(connection, name)
    _keep_an_admin(connection, person)
    connection.execute(update(Account).where(Account.id == person.id).values(disabled_at=func.now()))
    _end_all(connection, person)
    connection.execute(delete(Invitation).where(Invitation.invited_by == person.id))
    note_change(
        connection,
        actor=actor,
        action="accounts.disable",
        subject=person.name,
        before={},
        after={},
        reason=reason,
    )


def enable(connection: Connection, name: str, *, actor: str, reason: str) -> None:
    """Let somebody sign in again."""
    person = find_account(connection, name)
    connection.execute(update(Account).where(Account.id == person.id).values(disabled_at=None))
    note_change(
        connection,
        actor=actor,
        action="accounts.enable",
        subject=person.name,
        before={},
        after={},
        reason=reason,
    )


def sign_out(connection: Connection, name: str, *, actor: str, reason: str) -> None:
    """End everything that acts for an account: its sessions, its API tokens, links to reset its password, and
    those that it gave.
    """
    person = find_account(connection, name)
    _end_all(connection, person)
    connection.execute(delete(Invitation).where(Invitation.invited_by == person.id))
    note_change(
        connection,
        actor=actor,
        action="accounts.sign_out",
        subject=person.name,
        before={},
        after={},
        reason=reason,
    )


def _end_all(connection: Connection, person: Person) -> None:
    for table in (Session, ApiToken, Device, Invitation):
        connection.execute(delete(table).where(table.account_id == person.id))


def _one_at_a_time(connection: Connection) -> None:
    """Two administrators must not remove each other at the same moment."""
    connection.execute(text("select pg_advisory_xact_lock(hashtext('paceline.accounts'))"))


def _keep_an_admin(connection: Connection, person: Person) -> None:
    query = select(func.count()).where(
        Account.role == Role.ADMIN, Account.id != person.id, Account.disabled_at.is_(None)
    )
    if person.role is Role.ADMIN and not connection.execute(query).scalar_one():
        raise ConfigError(f"{person.name} is the last administrator: make another one first")
