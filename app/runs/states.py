"""The life of a run, as one table. Pure."""

from app.models import RunState

OPEN = frozenset({RunState.QUEUED, RunState.RUNNING, RunState.SNOOZED})
WAITING = frozenset({RunState.QUEUED, RunState.SNOOZED})
TERMINAL = frozenset(RunState) - OPEN

TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    RunState.QUEUED: frozenset({RunState.RUNNING, RunState.SKIPPED, RunState.FAILED}),
    RunState.RUNNING: frozenset(
        {
            RunState.QUEUED,  # its worker went silent, or gave it back when it was told to end
            RunState.SNOOZED,
            RunState.COMPLETED,
            RunState.FAILED,
            RunState.SKIPPED,
            RunState.QUARANTINED,
        }
    ),
    RunState.SNOOZED: frozenset({RunState.QUEUED, RunState.SKIPPED, RunState.FAILED}),
    **{state: frozenset() for state in TERMINAL},
}
"""From each state, the states it may move to. A terminal state is for good."""
