"""Data from outside: styles learned from users on X, mentions, the sources themselves."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.models.columns import CreatedAt, Id, one_of


class StyleState(StrEnum):
    """Where learning a style stands. `generic`: it could not be learned, `problem` says why."""

    DUE = "due"
    LEARNING = "learning"
    LEARNED = "learned"
    GENERIC = "generic"
    OPTED_OUT = "opted_out"


class StyleProfile(Base):
    """How a user on X writes: learned once, shared by all agents that take it on. No tweets are kept."""

    __tablename__ = "style_profiles"
    __table_args__ = (one_of("state", StyleState),)

    username: Mapped[str] = mapped_column(primary_key=True, comment="lower case, without @")
    state: Mapped[str]
    profile: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    tweets: Mapped[int | None] = mapped_column(comment="how many tweets it was learned from")
    problem: Mapped[str | None]
    due_at: Mapped[datetime | None] = mapped_column(
        comment="may be tried again from then on; null: it stays as it is"
    )
    learned_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]


class Mention(Base):
    """A post on X that mentions an account of ours. One row however many sources saw it."""

    __tablename__ = "mentions"
    __table_args__ = (
        Index("ix_mentions_open", "account", "posted_at", postgresql_where=text("run_id is null")),
    )

    id: Mapped[Id]
    post_id: Mapped[str] = mapped_column(unique=True, comment="its id on X")
    account: Mapped[str] = mapped_column(comment="who was mentioned")
    author: Mapped[str]
    body: Mapped[str]
    posted_at: Mapped[datetime]
    source: Mapped[str] = mapped_column(comment="who told of it first")
    run_id: Mapped[UUID | None] = mapped_column(comment="the run whose post took it up; it may be gone")
    created_at: Mapped[CreatedAt]


class MentionScan(Base):
    """Where scanning for mentions of an account stands."""

    __tablename__ = "mention_scans"

    account: Mapped[str] = mapped_column(primary_key=True)
    since_id: Mapped[str | None] = mapped_column(comment="newest post seen; a number, as text")
    scanned_at: Mapped[datetime | None]
    good_at: Mapped[datetime | None] = mapped_column(comment="the last scan that was answered")
    source: Mapped[str | None] = mapped_column(comment="who answered last")
    problem: Mapped[str | None]


class SourceState(Base):
    """A paid source: what is left of its credits, and until when it wants no requests."""

    __tablename__ = "sources"

    name: Mapped[str] = mapped_column(primary_key=True)
    credits: Mapped[int | None]
    checked_at: Mapped[datetime | None]
    blocked_until: Mapped[datetime | None]
    problem: Mapped[str | None]
