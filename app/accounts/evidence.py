"""Sign-ins, and those that were refused: events of the log, the weightier ones also in the change log."""

from sqlalchemy import Connection

from app.accounts import Person, Visitor
from app.audit_log import Actor, ActorKind, note_change
from app.log import get_logger

log = get_logger(__name__)


def signed_in(connection: Connection, person: Person, visitor: Visitor) -> None:
    """Somebody came in."""
    log.info("sign_in.right", **_about(person.name, visitor))
    _note(
        connection,
        "accounts.sign_in",
        person.name,
        visitor,
        Actor(ActorKind.PERSON, person.id, visitor.address),
    )


def failed(name: str, visitor: Visitor) -> None:
    """A wrong name or password."""
    log.warning("sign_in.wrong", **_about(name, visitor))


def locked(connection: Connection, name: str, visitor: Visitor) -> None:
    """So many wrong ones that the next has to wait."""
    log.warning("sign_in.locked", **_about(name, visitor))
    _note(connection, "accounts.locked", name, visitor, Actor(ActorKind.PROGRAM, None, visitor.address))


def throttled(name: str, visitor: Visitor) -> None:
    """One that had to wait."""
    log.warning("sign_in.throttled", **_about(name, visitor))


def refused(person: Person, visitor: Visitor, what: str) -> None:
    """Somebody who is signed in wanted what their role may not."""
    log.warning("access.refused", wanted=what, role=str(person.role), **_about(person.name, visitor))


def _about(name: str, visitor: Visitor) -> dict[str, str]:
    return {"name": name, "address": visitor.address, "browser": visitor.browser}


def _note(connection: Connection, action: str, name: str, visitor: Visitor, actor: Actor) -> None:
    note_change(
        connection,
        actor=name if actor.kind is ActorKind.PERSON else "paceline",
        action=action,
        subject=name,
        before={},
        after={"address": visitor.address, "browser": visitor.browser},
        reason="",
        by=actor,
    )
