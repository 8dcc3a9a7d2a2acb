"""A second factor: codes of an app on a phone (TOTP, RFC 6238), and recovery codes for when it is lost."""

import hmac
import secrets
from dataclasses import dataclass

import pyotp
import segno
from sqlalchemy import Connection, delete, func, insert, select, update

from app.accounts import Person, hash_secret
from app.audit_log import note_change
from app.clock import utcnow
from app.errors import ConfigError
from app.models import Account, RecoveryCode

RECOVERY_CODES = 10
RECOVERY_BYTES = 14
"""112 bits: nobody finds one by trying, though only a plain hash of it is stored."""
STEP_S = 30
LATE_STEPS = (-1, 0, 1)
"""A phone's clock may be off by half a minute."""


@dataclass(frozen=True, slots=True)
class Setup:
    """A new secret for an authenticator app: the secret, and the same as a picture (SVG)."""

    secret: str
    picture: str


def begin(connection: Connection, person: Person) -> Setup:
    """A new secret for a person's app. It is asked for when `confirm` has seen a code of it."""
    secret = pyotp.random_base32()
    own = update(Account).where(Account.id == person.id, Account.totp_since.is_(None))
    if not connection.execute(own.values(totp_secret=secret)).rowcount:
        raise ConfigError("the account has a second factor: remove it first")
    uri = pyotp.TOTP(secret).provisioning_uri(name=person.name, issuer_name="Paceline")
    picture = segno.make(uri).svg_inline(scale=4, omitsize=True, svgclass="code", light="#fff")
    return Setup(secret, picture)


def confirm(connection: Connection, person: Person, code: str) -> list[str]:
    """Ask for the second factor from now on; returns the recovery codes, shown this once."""
    query = select(Account.totp_secret).where(Account.id == person.id).with_for_update()
    secret = connection.execute(query).scalar_one()
    step = _step_of(secret, code) if secret else None
    if step is None:
        raise ConfigError("that is not the code that the app shows just now")
    own = update(Account).where(Account.id == person.id)
    connection.execute(own.values(totp_since=func.now(), totp_used=step))
    codes = [secrets.token_hex(RECOVERY_BYTES) for _ in range(RECOVERY_CODES)]
    connection.execute(delete(RecoveryCode).where(RecoveryCode.account_id == person.id))
    rows = [{"hash": hash_secret(one), "account_id": person.id} for one in codes]
    connection.execute(insert(RecoveryCode), rows)
    _note(connection, person, "on", person.name)
    return codes


def remove(connection: Connection, person: Person, *, actor: str, reason: str = "") -> None:
    """Ask for it no longer."""
    own = update(Account).where(Account.id == person.id)
    connection.execute(own.values(totp_secret=None, totp_since=None, totp_used=None))
    connection.execute(delete(RecoveryCode).where(RecoveryCode.account_id == person.id))
    _note(connection, person, "off", actor, reason)


def is_asked_for(connection: Connection, person: Person) -> bool:
    """Whether the person has one."""
    query = select(Account.totp_since.is_not(None)).where(Account.id == person.id)
    return connection.execute(query).scalar_one()


def is_right(connection: Connection, account_id: object, code: str) -> bool:
    """Whether a code will do, used up by that; True where no second factor is asked for."""
    query = select(Account.totp_secret, Account.totp_since, Account.totp_used)
    row = connection.execute(query.where(Account.id == account_id).with_for_update()).one()
    if row.totp_since is None:
        return True
    code = code.replace(" ", "").replace("-", "").lower()
    step = _step_of(row.totp_secret, code)
    if step is not None and step > (row.totp_used or 0):
        connection.execute(update(Account).where(Account.id == account_id).values(totp_used=step))
        return True
    spent = delete(RecoveryCode).where(
        RecoveryCode.account_id == account_id, RecoveryCode.hash == hash_secret(code)
    )
    return connection.execute(spent).rowcount > 0


def _step_of(secret: str, code: str) -> int | None:
    """The step of time that a code is of, None when it is of none about now."""
    now, totp = int(utcnow().timestamp()) // STEP_S, pyotp.TOTP(secret)
    for step in (now + late for late in LATE_STEPS):
        if hmac.compare_digest(totp.at(step * STEP_S).encode(), code.encode()):
            return step
    return None


def _note(connection: Connection, person: Person, state: str, actor: str, reason: str = "") -> None:
    note_change(
        connection,
        actor=actor,
        action="accounts.second_factor",
        subject=person.name,
        before={},
        after={"state": state},
        reason=reason,
    )
