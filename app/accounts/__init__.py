"""People who may look, and people who may act: accounts, signing in, invitations, API tokens.

A secret of a browser or a program (a session's cookie, an invitation's link, an API token) is random and
stored only as its hash, so that whoever reads the database can become nobody.
"""

import secrets
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from app.models import Role

RANKS = {Role.VIEWER: 0, Role.OPERATOR: 1, Role.ADMIN: 2}


@dataclass(frozen=True, slots=True)
class Person:
    """A person who is signed in, and what they may do. `lacks_factor`: their session was opened by a password
    alone.
    """

    id: UUID
    name: str
    role: Role
    lacks_factor: bool = False

    def may(self, role: Role) -> bool:
        """Whether they may do what this role may."""
        return RANKS[self.role] >= RANKS[role]


@dataclass(frozen=True, slots=True)
class Visitor:
    """Where somebody comes from. `device`: the secret of a browser that has signed in before, if it has one;
    `browser`: as it calls itself.
    """

    address: str
    device: str = ""
    browser: str = ""


def new_secret() -> str:
    """256 random bits, fit for a cookie and a link."""
    return secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """Return the hash of a secret, as it is stored. A plain hash will do: it is random, not a password."""
    return sha256(secret.encode()).hexdigest()
