"""Writes of a turn: before a call, after it, at its end; one statement each, a transaction of its own.

All do their part only if the run is ours, so whoever lost it stores nothing; what a call came to is
recorded all the same. They are put together here from what the ledger, the leases and those who store
effects know, because one statement costs an eighth of a transaction with five.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import CTE, func, select

from app.agents import profiles
from app.community import publish
from app.community.reactions import Reaction
from app.models import RunState
from app.runs import leases
from app.runs.leases import Claim
from app.statements import AnyConnection, Statement
from app.usage import calls
from app.usage.calls import OpenedCall, Result

_HELD = leases.renewing().cte("held")
_CLOSED = calls.closing().cte("closed")
_OPEN = Statement(calls.opening(_HELD))
_CLOSE = Statement(calls.closing())
_ENDED, _SERVED = leases.ending()
_END = Statement(select(func.count()).select_from(_ENDED).add_cte(_SERVED, publish.storing_votes(_ENDED)))


def _closing_with(effect: Callable[[CTE], tuple[CTE, ...]]) -> Statement:
    """Close the call and, if the run is ours, store the effect; its first part says what came of it."""
    stored, *more = effect(_HELD)
    count = func.count().label("count")
    return Statement(
        select(
            select(count).select_from(_HELD).scalar_subquery(),
            select(count).select_from(stored).scalar_subquery(),
            select(stored.c.note).scalar_subquery(),
        ).add_cte(_CLOSED, stored, *more)
    )


STORE_POST = _closing_with(publish.storing_post)
STORE_COMMENT = _closing_with(publish.storing_comment)
STORE_PROFILE = _closing_with(profiles.storing_profile)


class Stored(NamedTuple):
    """Result of storing an effect; `note` says why it is not published, if so."""

    is_ours: bool
    is_stored: bool
    note: str | None


def open_call(connection: AnyConnection, held: Claim, lease: timedelta, **attempt: Any) -> OpenedCall | None:
    """Renew the lease and insert the attempt's row (app.usage.calls.opening); None if the run is not ours."""
    row = _OPEN.first(connection, **leases.held_by(held, lease), **attempt)
    if row is None:
        return None
    return OpenedCall(attempt["request_id"], row[0], attempt["model"], attempt["tokens_reserved"])


def close_call(connection: AnyConnection, call: OpenedCall, result: Result) -> bool:
    """Write the outcome into the row; False if it was closed before."""
    return _CLOSE.first(connection, **calls.outcome(call, result)) is not None


def store(
    connection: AnyConnection,
    held: Claim,
    lease: timedelta,
    call: OpenedCall,
    result: Result,
    statement: Statement,
    effect: dict[str, Any],
) -> Stored:
    """Close the call and store its effect, by one of the statements above."""
    values = leases.held_by(held, lease) | calls.outcome(call, result) | effect
    held_runs, stored, note = statement.one(connection, **values)
    if held_runs and not stored:
        # A run beside this one may have stored the agent's one welcome in the same moment; now it is seen.
        held_runs, stored, note = statement.one(connection, **values)
    return Stored(held_runs > 0, stored > 0, note)


def end_run(
    connection: AnyConnection, held: Claim, state: RunState, reason: str | None, reactions: Sequence[Reaction]
) -> bool:
    """Put a held run into a terminal state and store its votes; False when it is no longer ours."""
    values = leases.ended_as(held, state, reason) | publish.votes_of(reactions)
    return bool(_END.one(connection, **values)[0])
