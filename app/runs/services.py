"""Everything that runs work with. Put together in app.wiring."""

import threading
from dataclasses import dataclass, field

from redis import Redis
from sqlalchemy import Engine

from app.admission.controller import Admission
from app.gateway import Gateway
from app.runs.heartbeat import Heartbeat
from app.settings import Settings
from app.sources import MentionSource
from app.sources.twitterapi import TwitterApi
from app.sources.x import XApi


@dataclass(frozen=True, slots=True)
class Sources:
    """The world outside, as far as there are keys for it."""

    twitterapi: TwitterApi | None = None
    x: XApi | None = None

    @property
    def for_mentions(self) -> tuple[MentionSource, ...]:
        """Sources to ask for mentions, the backup last."""
        return tuple(source for source in (self.twitterapi, self.x) if source is not None)

    def close(self) -> None:
        """Close connections."""
        for source in (self.twitterapi, self.x):
            if source is not None:
                source.close()


@dataclass(frozen=True, slots=True)
class Services:
    """The connections and clients of one process; safe to share between its threads."""

    settings: Settings
    engine: Engine
    autocommit: Engine
    """For statements that are a transaction of their own, which is nearly all a run does."""
    redis: Redis
    gateway: Gateway
    admission: Admission
    heartbeat: Heartbeat
    sources: Sources
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the process is told to end: no run begins, and those at work stop between two calls."""

    def close(self) -> None:
        """Give every connection back."""
        self.heartbeat.close()
        self.gateway.close()
        self.sources.close()
        self.redis.close()
        self.engine.dispose()
        self.autocommit.dispose()
