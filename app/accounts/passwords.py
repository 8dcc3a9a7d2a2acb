"""Passwords: what one must be, and its hash by argon2id."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from app.errors import ConfigError, PacelineError
from app.models import Role

SHORTEST, LONGEST = 10, 200

READ, LEAST_SCORE = 72, 2
"""zxcvbn's scale: 0 and 1 are among the first million that people guess. It reads the first 72 characters."""

OWN_WORDS = ("paceline", *Role)
"""They make no password harder to guess."""

_hasher = PasswordHasher()
_AT_ONCE = threading.BoundedSemaphore(2)
"""Each takes 64 MiB and a core for a moment, and anybody may ask."""
LINE_MAX = 8
_IN_LINE = threading.BoundedSemaphore(2 + LINE_MAX)
"""So few may wait for their turn, or a flood of sign-ins would hold every thread of the dashboard."""


class Busy(PacelineError):
    """Too many passwords are looked at just now."""


@contextmanager
def _turn() -> Iterator[None]:
    """A turn at the hash; raises Busy when the line is full."""
    if not _IN_LINE.acquire(blocking=False):
        raise Busy("many people sign in just now: try again in a moment")
    try:
        with _AT_ONCE:
            yield
    finally:
        _IN_LINE.release()


@cache
def _of_nobody() -> str:
    """A hash to compare with where there is no account; made when first needed, because it takes 64 MiB."""
    return _hasher.hash("nobody has this password")


def check_new(password: str, name: str) -> None:
    """Raise ConfigError when a password is too easy to guess or too long to be one."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise ConfigError(f"a password has {SHORTEST} to {LONGEST} characters")
    # It takes half a second to load, and only a new password needs it.
    from zxcvbn import zxcvbn  # noqa: PLC0415

    if zxcvbn(password[:READ], user_inputs=[name, *OWN_WORDS])["score"] < LEAST_SCORE:
        raise ConfigError(
            "that password is easily guessed: take another one, for example four words that do not belong "
            "together"
        )


def hash_password(password: str) -> str:
    """The hash to store, with its salt and parameters."""
    with _turn():
        return _hasher.hash(password)


def is_right(stored: str | None, password: str) -> bool:
    """Whether the password is that of the hash. Takes as long for a name that does not exist (None)."""
    try:
        with _turn():
            _hasher.verify(stored or _of_nobody(), password[: LONGEST + 1])
    except (VerificationError, InvalidHashError):
        return False
    return stored is not None
