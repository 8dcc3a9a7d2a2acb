"""A person ends runs before their time, and it is noted who did."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection

from app.audit_log import note_change
from app.models import RunState
from app.runs import leases


def cancel(connection: Connection, run_ids: Sequence[UUID], actor: str, said: str, reason: str) -> list[UUID]:
    """Skip those of these runs that are open, each with a row of the change log; returns them. `said` becomes
    the run's reason.
    """
    done = leases.cancel(connection, run_ids, actor, said)
    for run_id in done:
        note_change(
            connection,
            actor=actor,
            action="runs.cancel",
            subject=str(run_id),
            before={},
            after={"state": RunState.SKIPPED},
            reason=reason,
        )
    return done
