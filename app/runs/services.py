"""What runs work with. Put together in app.wiring."""

import threading
from dataclasses import dataclass, field

from redis import Redis
from sqlalchemy import Engine

from app.admission.controller import Admission
from app.gateway import Gateway
from app.runs.heartbeat import Heartbeat
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class Services:
    """The connections and clients of one process; safe to share between its threads."""

    settings: Settings
    engine: Engine
    redis: Redis
    gateway: Gateway
    admission: Admission
    heartbeat: Heartbeat
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the process is told to end: no run begins, and those at work stop between two calls."""

    def close(self) -> None:
        """Give every connection back."""
        self.heartbeat.close()
        self.gateway.close()
        self.redis.close()
        self.engine.dispose()
