"""How often one may try a password. A flood of strangers must not keep out who comes by a known browser."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from app.accounts import Visitor, hash_secret, new_secret
from app.errors import PacelineError
from app.models import Account, Device, SignInFailure

FREE_TRIES = {"device": 10, "both": 5, "name": 50, "from": 100}
"""Wrong passwords in a row before one has to wait: a minute, two, four, ... up to an hour. A browser that has
signed in to the account before has tries of its own. Of strangers: few for a name from one address; many for
a name alone, or anybody could lock anybody out; an address may be an office's.
"""
LONGEST_WAIT = timedelta(hours=1)
DEVICES_MAX = 20
"""Failed tries of an account; the one that was seen longest ago is forgotten."""


class Throttled(PacelineError):
    """Too many wrong passwords; the message says how long to wait."""


@dataclass(frozen=True, slots=True)
class Try:
    """One try, by the keys that count it. `locks`: one that is the last for some time."""

    keys: dict[str, str]
    locks: bool


def count_try(connection: Connection, name: str, visitor: Visitor) -> Try:
    """Count a try as a failure, unless one has to wait; then nothing is counted and Throttled raised. One
    statement for each key, so that a thousand tries at once are counted one after another. A day without a
    failure is forgiven.
    """
    long_ago = func.now() - timedelta(days=1)
    connection.execute(delete(SignInFailure).where(SignInFailure.last_at < long_ago))
    keys, locks = _keys(connection, name, visitor), False
    for kind, key in keys.items():
        over = SignInFailure.failures - FREE_TRIES[kind]
        wait = timedelta(minutes=1) * func.power(2, func.least(over, 6))
        may_try = (over < 0) | (func.now() - SignInFailure.last_at >= func.least(wait, LONGEST_WAIT))
        counted = upsert(SignInFailure).values(key=key, failures=1, last_at=func.now())
        counted = counted.on_conflict_do_update(
            index_elements=["key"],
            set_={"failures": SignInFailure.failures + 1, "last_at": func.now()},
            where=may_try,
        )
        row = connection.execute(counted.returning(SignInFailure.failures)).first()
        if row is None:
            raise Throttled("too many wrong passwords: try again in some minutes, an hour at most")
        locks = locks or row.failures == FREE_TRIES[kind]
    return Try(keys, locks)


def forgive(connection: Connection, tried: Try) -> None:
    """It was right: the name and the browser are forgiven, and this try of the address, whose others stay."""
    right = [key for kind, key in tried.keys.items() if kind != "from"]
    connection.execute(delete(SignInFailure).where(SignInFailure.key.in_(right)))
    once = {"failures": func.greatest(SignInFailure.failures - 1, 0)}
    connection.execute(
        update(SignInFailure).where(SignInFailure.key == tried.keys.get("from", "")).values(once)
    )


def know_device(connection: Connection, account_id: object, device: str) -> str:
    """The secret of a browser that has signed in to the account: its own, or a new one."""
    seen = update(Device).where(Device.hash == hash_secret(device), Device.account_id == account_id)
    if device and connection.execute(seen.values(seen_at=func.now())).rowcount:
        return device
    secret = new_secret()
    connection.execute(upsert(Device).values(hash=hash_secret(secret), account_id=account_id))
    kept = (
        select(Device.hash)
        .where(Device.account_id == account_id)
        .order_by(Device.seen_at.desc())
        .limit(DEVICES_MAX)
    )
    connection.execute(delete(Device).where(Device.account_id == account_id, Device.hash.not_in(kept)))
    return secret


def _keys(connection: Connection, name: str, visitor: Visitor) -> dict[str, str]:
    known = (
        select(Device.hash)
        .join(Account, Account.id == Device.account_id)
        .where(Device.hash == hash_secret(visitor.device), Account.name == name)
    )
    if visitor.device and connection.execute(known).first():
        return {"device": f"device {hash_secret(visitor.device)}"}
    address = visitor.address
    return {"both": f"both {name} {address}", "name": f"name {name}", "from": f"from {address}"}
