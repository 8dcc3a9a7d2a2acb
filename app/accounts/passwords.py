"""Passwords: what one must be, and its hash by argon2id."""

import threading
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from app.errors import ConfigError

SHORTEST, LONGEST = 10, 200

_hasher = PasswordHasher()
_AT_ONCE = threading.BoundedSemaphore(2)
"""Each takes 64 MiB and a core for a moment, and anybody may ask."""


@cache
def _of_nobody() -> str:
    """A hash to compare with where there is no account; made when first needed, because it takes 64 MiB."""
    return _hasher.hash("nobody has this password")


def check_new(password: str, name: str) -> None:
    """Raise ConfigError when a password is too easy to guess or too long to be one."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise ConfigError(f"a password has {SHORTEST} to {LONGEST} characters")
    if len(set(password)) < 5 or (len(name) > 3 and name.lower() in password.lower()):
        raise ConfigError("that password is easily guessed: take another one")


def hash_password(password: str) -> str:
    """The hash to store, with its salt and parameters."""
    with _AT_ONCE:
        return _hasher.hash(password)


def is_right(stored: str | None, password: str) -> bool:
    """Whether the password is that of the hash. Takes as long for a name that does not exist (None)."""
    try:
        with _AT_ONCE:
            _hasher.verify(stored or _of_nobody(), password[: LONGEST + 1])
    except (VerificationError, InvalidHashError):
        return False
    return stored is not None
