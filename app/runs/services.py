"""What runs work with. Put together in app.wiring."""

from dataclasses import dataclass

from redis import Redis
from sqlalchemy import Engine

from app.admission.controller import Admission
from app.gateway import Gateway
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class Services:
    """The connections and clients of one process; safe to share between its threads."""

    settings: Settings
    engine: Engine
    redis: Redis
    gateway: Gateway
    admission: Admission

    def close(self) -> None:
        """Give every connection back."""
        self.gateway.close()
        self.redis.close()
        self.engine.dispose()
