"""Celery's way to Redis, with one client kept per channel.

Kombu makes a client anew for each message that it takes and for each that it acknowledges, which redis-py 8
has made dear: 7 % of a worker's CPU went there. Kept objects are safe to share, and follow the pool when it
is made anew after a lost connection.
"""

from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis, virtual
from redis.exceptions import ClusterError, ResponseError

from app.log import get_logger
from app.redis_faults import explain

log = get_logger(__name__)

# Redis that answers with an error is as good as one that does not answer: OOM, READONLY, MISCONF and the like
# pass (app/redis_faults.py). Kombu takes them for errors of one command, and then the worker ends.
_SERVER_FAULTS = (ResponseError, ClusterError)


class _QoS(redis.QoS):
    """Messages that a channel has taken and not acknowledged."""

    def ack(self, delivery_tag: Any) -> None:
        """Acknowledge. Where Redis refuses it for now, forget the message here all the same: else the worker
        holds as many as it may, for ever, and takes no more. Redis delivers it again after the visibility
        timeout, and the claim of the run makes that harmless.
        """
        try:
            super().ack(delivery_tag)
        except _SERVER_FAULTS as error:
            log.warning("broker.not_acknowledged", why=explain(error))
            virtual.QoS.ack(self, delivery_tag)


class _OneClient:
    """Differences of both kinds of channels from kombu's."""

    _kept: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        create = super()._create_client  # type: ignore[misc]
        if asynchronous:
            return create(asynchronous=True)
        if self._kept is None or self._kept.connection_pool is not self.pool:  # type: ignore[attr-defined]
            self._kept = create()
        return self._kept


class _Channel(_OneClient, redis.Channel):
    QoS = _QoS


class _SentinelChannel(_OneClient, redis.SentinelChannel):
    QoS = _QoS


class Transport(redis.Transport):
    """`redis://` and `rediss://`."""

    Channel = _Channel
    connection_errors = redis.Transport.connection_errors + _SERVER_FAULTS


class SentinelTransport(redis.SentinelTransport):
    """`sentinel://`."""

    Channel = _SentinelChannel
    connection_errors = redis.SentinelTransport.connection_errors + _SERVER_FAULTS


def use() -> None:
    """Have Celery take these for its broker's URL."""
    TRANSPORT_ALIASES["redis"] = TRANSPORT_ALIASES["rediss"] = "workers.broker:Transport"
    TRANSPORT_ALIASES["sentinel"] = "workers.broker:SentinelTransport"
