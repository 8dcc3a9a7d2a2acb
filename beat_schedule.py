"""When things happen: the only place that says so. Data only; tasks by name.

`schedule` is in seconds and keeps to the clock: 30 means at :00 and :30. Every task is
safe to run twice or late, so several beats do no harm.
"""

from typing import Any

from app.settings import get_settings

_slice_s = get_settings().cycle.slice_length_s

BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    # One entry, whatever the number of agents: the database says who is due in the slice.
    "open the slice": {
        "task": "cycles.open",
        "schedule": _slice_s,
        # A slice opened late is caught up by the next one; a pile of them helps nobody.
        "options": {"queue": "maintenance", "expires": _slice_s},
    },
    # Snoozed runs have a place in the line for a moment that is known to the millisecond.
    "wake what snoozed": {
        "task": "runs.wake",
        "schedule": 1.0,
        "options": {"queue": "maintenance", "expires": 1.0},
    },
    "rescue what got stuck": {
        "task": "runs.rescue",
        "schedule": 5.0,
        "options": {"queue": "maintenance", "expires": 5.0},
    },
    "sum the ledger up": {
        "task": "usage.roll_up",
        "schedule": 60.0,
        "options": {"queue": "maintenance", "expires": 60.0},
    },
    "rank who uses most": {
        "task": "usage.rank",
        "schedule": 60.0,
        "options": {"queue": "maintenance", "expires": 60.0},
    },
    "keep the ledger's partitions": {
        "task": "ledger.keep",
        "schedule": 3600.0,
        "options": {"queue": "maintenance", "expires": 3600.0},
    },
    # A round lasts half a minute at most, so a backlog of a year goes within days and nobody feels it.
    "let go what is old": {
        "task": "history.forget",
        "schedule": 600.0,
        "options": {"queue": "maintenance", "expires": 600.0},
    },
    "check the books": {
        "task": "books.check",
        "schedule": 900.0,
        "options": {"queue": "maintenance", "expires": 900.0},
    },
    "fold incidents, tell people": {
        "task": "alerts.watch",
        "schedule": 15.0,
        "options": {"queue": "maintenance", "expires": 15.0},
    },
    # One round looks again and again until the next one is due, so an event is delivered within a moment.
    "deliver events": {
        "task": "integration.deliver",
        "schedule": 5.0,
        "options": {"queue": "maintenance", "expires": 5.0},
    },
    "forget old events": {
        "task": "integration.keep",
        "schedule": 3600.0,
        "options": {"queue": "maintenance", "expires": 3600.0},
    },
    # Each account keeps its own interval; this only looks whose time has come.
    "look for mentions": {
        "task": "mentions.scan",
        "schedule": 15.0,
        "options": {"queue": "maintenance", "expires": 15.0},
    },
    "check what sources have left": {
        "task": "sources.check",
        "schedule": 300.0,
        "options": {"queue": "maintenance", "expires": 300.0},
    },
    "keep Redis in line with Postgres": {
        "task": "limits.reconcile",
        "schedule": 30.0,
        "options": {"queue": "maintenance", "expires": 30.0},
    },
}
