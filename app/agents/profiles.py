"""Style profiles: learned once per user on X, shared by the agents that take them on."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import CTE, Connection, Text, bindparam, cast, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from app.audit_log import note_change
from app.models import StyleProfile, StyleState

LEARNING_MAX = timedelta(minutes=10)
"""A worker that learns for longer than this has died."""
REFRESH_EVERY = timedelta(days=1)


def is_due(connection: Connection, username: str) -> bool:
    """Whether this user's style is to be learned now."""
    query = select(StyleProfile.state, StyleProfile.due_at <= func.now()).where(
        StyleProfile.username == username
    )
    row = connection.execute(query).one_or_none()
    return row is None or bool(row[1])


def begin(connection: Connection, username: str) -> bool:
    """Take the learning of a style for ourselves; False when somebody has it, or it is not due."""
    again = func.now() + LEARNING_MAX
    learning = {"state": StyleState.LEARNING, "due_at": again}
    row = upsert(StyleProfile).values(username=username, **learning)
    row = row.on_conflict_do_update(
        index_elements=["username"], set_=learning, where=StyleProfile.due_at <= func.now()
    )
    return connection.execute(row.returning(StyleProfile.username)).one_or_none() is not None


def storing_profile(held: CTE) -> tuple[CTE, ...]:
    """As part of the statement that closes a call of the run that `held` renews: store what was learned; it
    stays until somebody asks anew. Nothing when nobody waits for it.
    """
    stored = (
        update(StyleProfile)
        .where(
            StyleProfile.username == bindparam("username", type_=Text),
            StyleProfile.state == StyleState.LEARNING,
            exists().select_from(held),
        )
        .values(
            state=StyleState.LEARNED,
            profile=bindparam("profile"),
            tweets=bindparam("tweets"),
            problem=None,
            due_at=None,
            learned_at=func.now(),
        )
        .returning(cast(None, Text).label("note"))
        .cte("stored")
    )
    return (stored,)


def failed(connection: Connection, username: str, problem: str, again: timedelta) -> None:
    """It could not be learned; what was known before stays in use, and it is tried again later."""
    connection.execute(
        update(StyleProfile)
        .where(StyleProfile.username == username, StyleProfile.state == StyleState.LEARNING)
        .values(state=StyleState.GENERIC, problem=problem[:500], due_at=func.now() + again)
    )


def postpone(connection: Connection, username: str, wait: timedelta) -> None:
    """No call is allowed for it now. Reading the posts costs money each time, so not again at once."""
    connection.execute(
        update(StyleProfile)
        .where(StyleProfile.username == username, StyleProfile.state == StyleState.LEARNING)
        .values(state=StyleState.DUE, due_at=func.now() + wait)
    )


def profile_of(connection: Connection, username: str) -> dict[str, Any] | None:
    """Return what is known of a user's style, or None."""
    query = select(StyleProfile.profile).where(StyleProfile.username == username)
    return connection.execute(query).scalar_one_or_none()


@dataclass(frozen=True, slots=True)
class Listed:
    """A profile as a list shows it."""

    username: str
    state: str
    tweets: int | None
    learned_at: datetime | None
    problem: str | None
    profile: dict[str, Any] | None


def list_profiles(connection: Connection, limit: int = 1_000) -> list[Listed]:
    """All profiles by user."""
    columns = [getattr(StyleProfile, name) for name in Listed.__slots__]
    query = select(*columns).order_by(StyleProfile.username).limit(limit)
    return [Listed(*row) for row in connection.execute(query)]


def refresh(connection: Connection, username: str, *, actor: str, reason: str) -> datetime | None:
    """Have a style learned anew with the next run; or, when it was learned within a day, the moment from
    which that is possible. An unknown user is learned when an agent first needs it.
    """
    row = connection.execute(
        select(StyleProfile.state, StyleProfile.learned_at, func.now())
        .where(StyleProfile.username == username)
        .with_for_update()
    ).one_or_none()
    if row is None or row.state == StyleState.OPTED_OUT:
        return None
    learned_at: datetime | None = row.learned_at
    if learned_at is not None and row[2] < learned_at + REFRESH_EVERY:
        return learned_at + REFRESH_EVERY
    _set(
        connection,
        username,
        {"state": StyleState.DUE, "due_at": func.now()},
        "style.refresh",
        row.state,
        actor,
        reason,
    )
    return None


def opt_out(connection: Connection, username: str, *, actor: str, reason: str) -> None:
    """Forget a user's style, and never learn it again."""
    known = select(StyleProfile.state).where(StyleProfile.username == username).with_for_update()
    before = connection.execute(known).scalar_one_or_none()
    if before is None:
        row = upsert(StyleProfile).values(username=username, state=StyleState.OPTED_OUT)
        connection.execute(row.on_conflict_do_nothing())
    gone = {
        "state": StyleState.OPTED_OUT,
        "profile": None,
        "tweets": None,
        "problem": None,
        "due_at": None,
        "learned_at": None,
    }
    _set(connection, username, gone, "style.opt_out", before, actor, reason)


def opt_in(connection: Connection, username: str, *, actor: str, reason: str) -> None:
    """Take a user off the opt-out list."""
    back = {"state": StyleState.DUE, "due_at": func.now()}
    _set(connection, username, back, "style.opt_in", StyleState.OPTED_OUT, actor, reason)


def state_of(connection: Connection, username: str) -> str | None:
    """Where learning this user's style stands; None when it was never asked for."""
    query = select(StyleProfile.state).where(StyleProfile.username == username)
    return connection.execute(query).scalar_one_or_none()


def _set(
    connection: Connection,
    username: str,
    values: dict[str, Any],
    action: str,
    before: str | None,
    actor: str,
    reason: str,
) -> None:
    connection.execute(update(StyleProfile).where(StyleProfile.username == username).values(**values))
    note_change(
        connection,
        actor=actor,
        action=action,
        subject=username,
        before={"state": before},
        after={"state": values["state"]},
        reason=reason,
    )
