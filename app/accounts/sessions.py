"""Signing in by name and password, and the sessions that follow. Rows, so any web process knows them."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, and_, delete, func, insert, not_, select, update

from app.accounts import Person, Visitor, evidence, hash_secret, new_secret, second_factor, throttle
from app.accounts.passwords import is_right
from app.accounts.people import is_alive, proofs
from app.accounts.throttle import Throttled
from app.models import Account, Role, Session

LONGEST = timedelta(days=7)
SEEN_EVERY = timedelta(minutes=1)
PROVED = timedelta(minutes=5)
"""For so long a person who has shown again who they are may do dangerous things."""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Cookies for a browser: the secret of its session, and one by which it is known when it comes again."""

    session: str
    device: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A session as its owner sees it. `id` names it and opens nothing."""

    id: str
    address: str
    browser: str
    created_at: datetime
    seen_at: datetime
    is_this: bool


def sign_in(engine: Engine, name: str, password: str, visitor: Visitor, code: str = "") -> SignedIn | None:
    """A new session, or None when name, password or the code of a second factor are wrong, or the account is
    disabled; raises Throttled and Busy.

    A try is counted before it is looked at, whichever process it came to; no transaction is open meanwhile.
    The session is opened only while the password is still the one that was looked at.
    """
    name = name.strip().lower()[:80].replace("\x00", "")
    query = select(Account.id, Account.role, Account.password_hash).where(
        Account.name == name, Account.disabled_at.is_(None)
    )
    tried = _count(engine, name, visitor)
    with engine.connect() as connection:
        row = connection.execute(query).one_or_none()
    if not is_right(row and row.password_hash, password) or row is None:
        evidence.failed(name, visitor)
        return None
    with engine.begin() as connection:
        session = None
        if second_factor.is_right(connection, row.id, code):
            session = open_session(connection, row.id, visitor, verified=row.password_hash)
        if session is None:
            evidence.failed(name, visitor)
            return None
        throttle.forgive(connection, tried)
        person = Person(row.id, name, Role(row.role))
        note_sign_in(connection, person)
        evidence.signed_in(connection, person, visitor)
        return SignedIn(session, throttle.know_device(connection, row.id, visitor.device))


def is_password(engine: Engine, person: Person, password: str, visitor: Visitor) -> bool:
    """Whether that is a person's present password; as throttled as signing in."""
    tried = _count(engine, person.name, visitor)
    with engine.connect() as connection:
        stored = proofs(connection, person).password_hash
    if not is_right(stored, password):
        evidence.failed(person.name, visitor)
        return False
    with engine.begin() as connection:
        throttle.forgive(connection, tried)
    return True


def _count(engine: Engine, name: str, visitor: Visitor) -> throttle.Try:
    try:
        with engine.begin() as connection:
            tried = throttle.count_try(connection, name, visitor)
            if tried.locks:
                evidence.locked(connection, name, visitor)
            return tried
    except Throttled:
        evidence.throttled(name, visitor)
        raise


def open_session(
    connection: Connection,
    account_id: object,
    visitor: Visitor | None = None,
    *,
    verified: str | None = None,
    by_company: bool = False,
) -> str | None:
    """A new session's secret; what has expired is removed on the way. None when the password is no longer the
    `verified` one: it was changed meanwhile.
    """
    if verified is not None:
        now = select(Account.password_hash).where(Account.id == account_id).with_for_update()
        if connection.execute(now).scalar_one_or_none() != verified:
            return None
    connection.execute(delete(Session).where(Session.expires_at < func.now()))
    secret = new_secret()
    row = {
        "hash": hash_secret(secret),
        "account_id": account_id,
        "expires_at": func.now() + LONGEST,
        "by_company": by_company,
        "address": visitor.address if visitor else "",
        "browser": visitor.browser if visitor else "",
    }
    connection.execute(insert(Session).values(row))
    return secret


def whose_session(connection: Connection, secret: str, *, is_used: bool = True) -> Person | None:
    """Return the person who is signed in with this cookie; None when nobody is, or too long ago. Not
    `is_used`: a page that keeps itself fresh is no use of it.
    """
    query = (
        select(
            Account.id,
            Account.name,
            Account.role,
            (Session.seen_at < func.now() - SEEN_EVERY).label("is_stale"),
            and_(Account.totp_since.is_(None), not_(Session.by_company)).label("lacks_factor"),
        )
        .join(Account, Account.id == Session.account_id)
        .where(Session.hash == hash_secret(secret), Account.disabled_at.is_(None), *is_alive())
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    if row.is_stale and is_used:
        seen = update(Session).where(Session.hash == hash_secret(secret))
        connection.execute(seen.values(seen_at=func.now()))
    return Person(row.id, row.name, Role(row.role), row.lacks_factor)


def note_sign_in(connection: Connection, person: Person) -> None:
    """Note on an account that somebody signed in to it just now."""
    own = update(Account).where(Account.id == person.id)
    connection.execute(own.values(signed_in_at=func.now()))


def prove(connection: Connection, secret: str) -> None:
    """Note that the person of this session has just shown again who they are."""
    own = update(Session).where(Session.hash == hash_secret(secret))
    connection.execute(own.values(proved_at=func.now()))


def is_proved(connection: Connection, secret: str) -> bool:
    """Whether that was a moment ago."""
    query = select(Session.hash).where(
        Session.hash == hash_secret(secret), Session.proved_at > func.now() - PROVED, *is_alive()
    )
    return connection.execute(query).first() is not None


def list_sessions(connection: Connection, person: Person, secret: str) -> list[Listed]:
    """Where a person is signed in, this browser first, then by when it was last used."""
    is_this = (Session.hash == hash_secret(secret)).label("is_this")
    query = (
        select(Session.hash, Session.address, Session.browser, Session.created_at, Session.seen_at, is_this)
        .where(Session.account_id == person.id, *is_alive())
        .order_by(is_this.desc(), Session.seen_at.desc())
    )
    return [Listed(*row) for row in connection.execute(query)]


def close_session(connection: Connection, secret: str) -> None:
    """Sign a browser out."""
    connection.execute(delete(Session).where(Session.hash == hash_secret(secret)))


def close_listed(connection: Connection, person: Person, listed_id: str) -> bool:
    """Sign one of a person's browsers out; False when there is no such one."""
    one = delete(Session).where(Session.account_id == person.id, Session.hash == listed_id)
    return connection.execute(one).rowcount > 0


def close_others(connection: Connection, person: Person, secret: str) -> int:
    """Sign all other browsers of a person out; returns how many."""
    others = delete(Session).where(Session.account_id == person.id, Session.hash != hash_secret(secret))
    return len(connection.execute(others.returning(Session.hash)).all())
