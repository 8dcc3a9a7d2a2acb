"""The beginning of every command, and its end when something goes wrong."""

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from app import log
from app.audit_log import Actor, ActorKind, act_as
from app.cli.output import notes
from app.errors import PacelineError, Unreachable
from app.redis_faults import explain as explain_redis
from app.sql_faults import explain as explain_sql


def begin() -> None:
    """Set up the log, and say who acts."""
    log.configure_for_commands()
    act_as(Actor(ActorKind.COMMAND))


def explain(error: Exception) -> int | None:
    """Print what a person can do about an error; returns the exit code, None for one that nobody foresaw."""
    match error:
        case PacelineError():
            said, code = str(error), error.exit_code
        case SQLAlchemyError():
            said, is_later = explain_sql(error)
            code = Unreachable.exit_code if is_later else PacelineError.exit_code
        case RedisError():
            said, code = explain_redis(error), Unreachable.exit_code
        case _:
            return None
    notes.print(f"paceline: {said}", style="red", markup=False)
    return code
