"""Remote control as Celery has it, except that `revoke` ends the run itself, also when no worker listens."""

import getpass
from typing import Any

from celery.app.control import Control
from celery.utils.functional import maybe_list
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from app.errors import Unreachable
from app.log import get_logger
from app.redis_faults import explain as explain_redis
from app.sql_faults import explain
from workers.revoking import cancel

log = get_logger(__name__)


class RunControl(Control):
    """`r.revoke()`, `app.control.revoke(id)` and Flower's button come here."""

    def revoke(
        self,
        task_id: Any,
        destination: Any = None,
        terminate: bool = False,
        signal: Any = "SIGTERM",
        **kwargs: Any,
    ) -> Any:
        """End these runs, then have workers drop their messages. A run that is going on stops before its
        next call; `terminate` ends it no sooner, because workers are threads. Raises Unreachable when
        PostgreSQL is away: then nothing was revoked.
        """
        ids = [str(one) for one in maybe_list(task_id) or []]
        try:
            cancel(ids, getpass.getuser())
        except SQLAlchemyError as error:
            raise Unreachable(f"nothing was revoked: {explain(error)[0]}") from error
        try:
            return super().revoke(ids, destination=destination, terminate=False, signal=signal, **kwargs)
        except (OperationalError, RedisError) as error:  # the run has ended all the same
            log.warning("revoke.not_told", why=explain_redis(error))
            return None
