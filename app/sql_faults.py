"""Errors of PostgreSQL: which pass by themselves, and what each means for a person."""

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

PASSING = ("08", "40001", "40P01", "25006", "57P", "53300", "53400")
"""SQLSTATEs of trouble that ends by itself, by their beginnings: a lost connection, a lost race between
transactions, a server that takes no writes or no more connections, one that is shutting down.
"""
LOST = ("08", "25006", "57P")
"""SQLSTATEs after which no connection to that server is worth keeping: broken, read-only, shutting down."""

_MEANS: dict[str, tuple[str, str, bool]] = {
    "25006": (
        "the server takes no writes: it is a standby or set read-only",
        "point DATABASE_URL to the primary, or set default_transaction_read_only off",
        True,
    ),
    "28P01": (
        "the password is wrong",
        "correct DATABASE_URL; write @ and / in a password as %40 and %2F",
        False,
    ),
    "28000": ("this role may not sign in", "correct DATABASE_URL, or grant the role LOGIN", False),
    "3D000": ("there is no such database", "create it, or correct DATABASE_URL", False),
    "42501": ("the role lacks a right", "grant it: docs/operations.md has the statements", False),
    "42P01": ("a table is missing", "run `paceline db upgrade`", False),
    "53100": ("the server's disk is full", "make room; nothing is lost, runs wait", True),
    "53200": ("the server is out of memory", "give it memory or fewer connections", True),
    "53300": (
        "no connection is left, of the server or of this role",
        "raise max_connections or the role's connection limit, or run fewer workers",
        True,
    ),
    "55P03": ("another transaction holds a lock on the table", "try again when it has ended", True),
    "57014": ("a statement took longer than statement_timeout", "raise statement_timeout for the role", True),
    "57P01": ("the server is shutting down", "try again when it is back", True),
    "57P03": ("the server is starting", "try again in a moment", True),
}
"""SQLSTATE -> what is wrong, what to do, whether trying again later may help."""
_CLASSES = {
    "08": ("the connection is lost", "look at the server and the network", True),
    "28": ("the server refuses to let this role in", "correct DATABASE_URL", False),
    "53": ("the server lacks a resource", "look at the server's log", True),
    "58": ("the server has trouble with its files", "look at the server's log", True),
}


def is_passing(error: SQLAlchemyError) -> bool:
    """Whether the same statement may work later. A row that the database refuses is no such trouble: asking
    again would cost again and be refused again.
    """
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    code = sqlstate(error)
    if code is None:  # the server said nothing, so it was not reached
        return isinstance(error, OperationalError | InterfaceError)
    return code.startswith(PASSING)


def is_lost(error: BaseException | None) -> bool:
    """Whether every connection to that server is lost with this one."""
    return (sqlstate(error) or "").startswith(LOST)


def sqlstate(error: BaseException | None) -> str | None:
    """The five characters by which PostgreSQL names an error; None when it was not PostgreSQL's."""
    driver = getattr(error, "orig", None) or error
    return getattr(driver, "sqlstate", None) or _state_in_words(driver)


_IN_WORDS = (
    ("too many connections", "53300"),
    ("remaining connection slots", "53300"),
    ("password authentication failed", "28P01"),
    ("the database system is starting up", "57P03"),
    ("the database system is shutting down", "57P01"),
)


def _state_in_words(error: BaseException | None) -> str | None:
    """The state of an error while connecting, for which libpq gives none, only words."""
    said = str(error)
    if "FATAL:" not in said:
        return None
    if 'database "' in said and "does not exist" in said:
        return "3D000"
    return next((code for words, code in _IN_WORDS if words in said), None)


def describe(error: BaseException) -> str:
    """An error in one line: SQLSTATE and what PostgreSQL said, without the statement."""
    said = str(getattr(error, "orig", None) or error).strip().splitlines()
    code = sqlstate(error)
    return f"{code or type(error).__name__}: {said[0] if said else 'no message'}"[:300]


def explain(error: SQLAlchemyError) -> tuple[str, bool]:
    """Return the fault and what to do about it, in one line; and whether trying again later may help."""
    code = sqlstate(error) or ""
    known = _MEANS.get(code) or _CLASSES.get(code[:2])
    if isinstance(error, PoolTimeout):
        return "no connection came free in time: PostgreSQL is slow or hangs; look at its log", True
    if known is None:
        if code:
            return f"PostgreSQL refused it ({describe(error)})", False
        return (f"PostgreSQL does not answer ({describe(error)}): start it, or correct DATABASE_URL", True)
    what, mend, is_later = known
    return f"PostgreSQL: {what} ({describe(error)}): {mend}", is_later
