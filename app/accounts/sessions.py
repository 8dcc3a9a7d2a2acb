"""Signing in by name and password, and the sessions that follow. Rows, so any web process knows them."""

from datetime import timedelta

from sqlalchemy import Connection, Engine, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from app.accounts import Person, hash_secret, new_secret
from app.accounts.passwords import is_right
from app.accounts.people import is_alive, password_hash
from app.errors import PacelineError
from app.models import Account, Role, Session, SignInFailure

LONGEST = timedelta(days=7)
SEEN_EVERY = timedelta(minutes=1)
FREE_TRIES = {"both": 5, "name": 50, "from": 100}
"""Wrong passwords in a row before one has to wait: a minute, two, four, ... up to an hour. Few for a name
from one address; many for a name alone, or anybody could lock anybody out; an address may be an office's.
"""
LONGEST_WAIT = timedelta(hours=1)


class Throttled(PacelineError):
    """Too many wrong passwords; the message says how long to wait."""


def sign_in(engine: Engine, name: str, password: str, address: str) -> str | None:
    """A new session's secret, or None when name or password are wrong; raises Throttled.

    A try is counted before it is looked at, whichever process it came to; no transaction is open meanwhile.
    """
    name = name.strip().lower()[:80].replace("\x00", "")
    query = select(Account.id, Account.password_hash).where(Account.name == name)
    with engine.begin() as connection:
        _count_try(connection, name, address)
        row = connection.execute(query).one_or_none()
    if not is_right(row and row.password_hash, password) or row is None:
        return None
    with engine.begin() as connection:
        _forgive(connection, name, address)
        connection.execute(
            update(Account).where(Account.id == row.id).values(signed_in_at=func.now())
        )
        return open_session(connection, row.id)


def is_password(engine: Engine, person: Person, password: str, address: str) -> bool:
    """Whether that is a person's present password; as throttled as signing in."""
    with engine.begin() as connection:
        _count_try(connection, person.name, address)
        stored = password_hash(connection, person)
    if not is_right(stored, password):
        return False
    with engine.begin() as connection:
        _forgive(connection, person.name, address)
    return True


def open_session(connection: Connection, account_id: object) -> str:
    """A new session's secret; what has expired is removed on the way."""
    connection.execute(delete(Session).where(Session.expires_at < func.now()))
    secret = new_secret()
    row = {
        "hash": hash_secret(secret),
        "account_id": account_id,
        "expires_at": func.now() + LONGEST,
    }
    connection.execute(insert(Session).values(row))
    return secret


def whose_session(connection: Connection, secret: str, *, is_used: bool = True) -> Person | None:
    """Who is signed in with this cookie; None when nobody is, or too long ago. Not `is_used`: a page that
    keeps itself fresh is no use of it.
    """
    query = (
        select(
            Account.id, Account.name, Account.role,
            (Session.seen_at < func.now() - SEEN_EVERY).label("is_stale"),
        )
        .join(Account, Account.id == Session.account_id)
        .where(Session.hash == hash_secret(secret), *is_alive())
    )  # fmt: skip
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    if row.is_stale and is_used:
        seen = update(Session).where(Session.hash == hash_secret(secret))
        connection.execute(seen.values(seen_at=func.now()))
    return Person(row.id, row.name, Role(row.role))


def close_session(connection: Connection, secret: str) -> None:
    """Sign a browser out."""
    connection.execute(delete(Session).where(Session.hash == hash_secret(secret)))


def close_others(connection: Connection, person: Person, secret: str) -> int:
    """Sign all other browsers of a person out; returns how many."""
    others = delete(Session).where(
        Session.account_id == person.id, Session.hash != hash_secret(secret)
    )
    return len(connection.execute(others.returning(Session.hash)).all())


def _keys(name: str, address: str) -> dict[str, str]:
    return {"both": f"both {name} {address}", "name": f"name {name}", "from": f"from {address}"}


def _count_try(connection: Connection, name: str, address: str) -> None:
    """Count it as a failure, unless one has to wait; then nothing is counted and Throttled raised. One
    statement for each key, so that a thousand tries at once are counted one after another. A day without a
    failure is forgiven.
    """
    long_ago = func.now() - timedelta(days=1)
    connection.execute(delete(SignInFailure).where(SignInFailure.last_at < long_ago))
    for kind, key in _keys(name, address).items():
        over = SignInFailure.failures - FREE_TRIES[kind]
        wait = timedelta(minutes=1) * func.power(2, func.least(over, 6))
        may_try = (over < 0) | (
            func.now() - SignInFailure.last_at >= func.least(wait, LONGEST_WAIT)
        )
        counted = upsert(SignInFailure).values(key=key, failures=1, last_at=func.now())
        counted = counted.on_conflict_do_update(
            index_elements=["key"],
            set_={"failures": SignInFailure.failures + 1, "last_at": func.now()},
            where=may_try,
        )
        if connection.execute(counted.returning(SignInFailure.key)).first() is None:
            raise Throttled("too many wrong passwords: try again in some minutes, an hour at most")


def _forgive(connection: Connection, name: str, address: str) -> None:
    """It was right: the name is forgiven, and this try of the address, whose others stay."""
    keys = _keys(name, address)
    right = SignInFailure.key.in_((keys["both"], keys["name"]))
    connection.execute(delete(SignInFailure).where(right))
    once = {"failures": func.greatest(SignInFailure.failures - 1, 0)}
    connection.execute(update(SignInFailure).where(SignInFailure.key == keys["from"]).values(once))
