"""Remote control that would do nothing here, or not what it says: each answers why, and what does it instead.

docs/celery.md lists every verb. Celery's own would answer `OK` to a rate limit that nothing obeys.
"""

from collections.abc import Callable

from celery.worker.control import Panel

THREADS = (
    "a worker's threads are set when it starts: `celery -A workers worker --concurrency N`, or "
    "PACELINE_WORKER__THREADS; start another worker for more"
)
INSTEAD = {
    "pool_grow": THREADS,
    "pool_shrink": THREADS,
    "autoscale": THREADS,
    "pool_restart": "stop the worker with TERM and start it: its runs go to other workers meanwhile",
    "rate_limit": "calls per second are a limit of the whole fleet: `paceline limits set --rate`",
    "time_limit": "a run is as long as its calls, which PACELINE_GATEWAY__TOTAL_TIMEOUT_S bounds",
    "terminate": "workers are threads: `celery -A workers control revoke ID` ends it before its next call",
    "revoke_by_stamped_headers": "runs carry no stamps: `celery -A workers control revoke ID`",
}
"""Verb -> what to do instead."""


def _refusal(instead: str) -> Callable[..., dict[str, str]]:
    return lambda _state, **_: {"error": f"not here: {instead}"}


Panel.data.update({verb: _refusal(instead) for verb, instead in INSTEAD.items()})
