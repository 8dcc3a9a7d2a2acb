"""Suggestions for a handle that is not there."""

import difflib

from sqlalchemy import Connection, select

from app.models import Agent

LOOKED_AT = 2_000


def nearest(connection: Connection, who: str) -> list[str]:
    """Up to three handles that are written alike. Looks at those that begin alike first."""
    who = who.replace("\x00", "").strip().removeprefix("@").lower()[:80]
    begins = Agent.handle.startswith(who[:1], autoescape=True)
    query = select(Agent.handle).order_by(begins.desc(), Agent.handle).limit(LOOKED_AT)
    return difflib.get_close_matches(who, connection.execute(query).scalars().all(), n=3)
