"""Links that work once: for a new account, or for another password."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, delete, func, insert, select

from app.accounts import Person, hash_secret, new_secret
from app.accounts.people import add_account, find_account, set_password
from app.audit_log import note_change
from app.errors import NotFound
from app.models import Account, Invitation, Role

VALID = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Invited:
    """Return what a link allows. `name`: of the account that gets another password; None: a new one."""

    role: Role
    name: str | None
    account_id: UUID | None
    expires_at: datetime


def invite(
    connection: Connection,
    role: Role,
    *,
    actor: str,
    reason: str,
    name: str | None = None,
    by: UUID | None = None,
) -> str:
    """A link's secret, good for a day, and no longer than the account that gives it (`by`) is there and keeps
    its role. With `name`: for another password of that account (NotFound).
    """
    person = find_account(connection, name) if name is not None else None
    secret = new_secret()
    row = {
        "hash": hash_secret(secret),
        "role": person.role if person else role,
        "account_id": person and person.id,
        "invited_by": by,
        "expires_at": func.now() + VALID,
    }
    connection.execute(insert(Invitation).values(row))
    note_change(
        connection,
        actor=actor,
        action="accounts.reset" if person else "accounts.invite",
        subject=person.name if person else role,
        before={},
        after={"role": row["role"]},
        reason=reason,
    )
    return secret


def link(url: str, secret: str) -> str:
    """The link of an invitation to the dashboard at this URL. The secret is behind the #, which browsers keep
    to themselves: no server, no proxy and no log sees it in an address.
    """
    return f"{url}/invitation#{secret}"


def invite_first_admin(connection: Connection) -> str:
    """A link for the first administrator; those given before no longer work."""
    gone = Invitation.role == Role.ADMIN, Invitation.account_id.is_(None)
    connection.execute(delete(Invitation).where(*gone))
    reason = "nobody administers yet"
    return invite(connection, Role.ADMIN, actor="paceline up", reason=reason)


def is_admin_invited(connection: Connection) -> bool:
    """Whether a link for an administrator waits to be used."""
    query = select(Invitation.hash).where(Invitation.role == Role.ADMIN, Invitation.expires_at > func.now())
    return connection.execute(query.limit(1)).first() is not None


def look_up(connection: Connection, secret: str) -> Invited | None:
    """Return what a link allows; None when it was used, is too old or never was."""
    query = (
        select(Invitation.role, Account.name, Invitation.account_id, Invitation.expires_at)
        .join(Account, Account.id == Invitation.account_id, isouter=True)
        .where(Invitation.hash == hash_secret(secret), Invitation.expires_at > func.now())
    )
    row = connection.execute(query).one_or_none()
    return row and Invited(Role(row[0]), *row[1:])


def accept(connection: Connection, secret: str, name: str, password: str) -> Person:
    """Use a link up; raises NotFound when it no longer works, ConfigError when name or password will not do
    (then, rolled back, it still works).
    """
    connection.execute(  # whoever comes second waits here, and finds it gone
        select(Invitation.hash).where(Invitation.hash == hash_secret(secret)).with_for_update()
    )
    found = look_up(connection, secret)
    if found is None:
        raise NotFound("this link was used or is too old: ask for another one")
    connection.execute(delete(Invitation).where(Invitation.hash == hash_secret(secret)))
    if found.account_id is None or found.name is None:
        return add_account(connection, name, password, found.role)
    person = Person(found.account_id, found.name, found.role)
    set_password(connection, person, password)
    return person
