"""Errors of Redis that pass by themselves. Admission and Celery's transport ask the same list."""

from redis.exceptions import ClusterError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

PASSING = {
    "OOM": "it is out of memory",
    "READONLY": "it is a replica that takes no writes",
    "UNBLOCKED": "it became a replica",
    "MISCONF": "it cannot save its data, so it takes no writes",
    "LOADING": "it loads its data",
    "MASTERDOWN": "its primary does not answer",
    "NOREPLICAS": "too few replicas follow it",
    "CLUSTERDOWN": "its cluster is down",
    "TRYAGAIN": "its cluster is moving keys",
    "BUSY": "it runs a script",
    "NOAUTH": "it wants a password that it did not want before",
    "WRONGPASS": "it refuses the password",
    "NOPERM": "its user may not do this",
}
"""Codes of answers that an operator or the server itself mends, and what each means. Calls wait meanwhile."""


def code_of(error: BaseException) -> str:
    """The code that an error of Redis begins with, like OOM; empty when it has none."""
    code = getattr(error, "status_code", None)
    if isinstance(code, str) and code.isupper():
        return code
    word = str(error).partition(" ")[0]
    return word if word.isupper() else ""


def is_passing(error: BaseException) -> bool:
    """Whether asking again later may help: Redis is down, slow, full, demoted, loading, or closed to us. An
    error in a script of ours is none of these.
    """
    if isinstance(error, OSError | RedisConnectionError | RedisTimeoutError | ClusterError):
        return True
    return isinstance(error, RedisError) and code_of(error) in PASSING


def explain(error: BaseException) -> str:
    """Return the fault of Redis in words."""
    code = code_of(error)
    if code in PASSING:
        return f"Redis answers {code}: {PASSING[code]}"
    if isinstance(error, ResponseError):
        return f"Redis answers: {error}"
    return f"Redis does not answer ({error})"
