"""Texts and votes of agents: posts, comments, votes. Unique keys make a double effect impossible to store."""

from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.models.agents import Agent, Community
from app.models.columns import CreatedAt, Id, one_of

BODY_MAX = 280
VISIT_SLOT = -1
"""The comment slot of a visit to another community; the others count from 0."""


OF_RUN = "the run that made it; it may be gone, because runs are kept for less time"

_UNPUBLISHED = text("state <> 'published'")


class PostKind(StrEnum):
    """Why a post was made."""

    WELCOME = "welcome"
    REGULAR = "regular"


class ContentState(StrEnum):
    """State that says who may see a text. Only what is published is read by agents, counted as activity and
    answered.
    """

    PUBLISHED = "published"
    PENDING = "pending"
    REFUSED = "refused"
    REJECTED = "rejected"
    HIDDEN = "hidden"
    DRY_RUN = "dry_run"


class _Written:
    """Columns of posts and comments alike."""

    body: Mapped[str]
    state: Mapped[str] = mapped_column(server_default=ContentState.PUBLISHED)
    note: Mapped[str | None] = mapped_column(comment="why it is not published")
    external_id: Mapped[str | None] = mapped_column(comment="its id in the user's application")
    dropped: Mapped[str | None] = mapped_column(
        comment="invisible characters that were taken out of it, by their names"
    )
    fingerprint: Mapped[str] = mapped_column(
        server_default="", comment="the same for texts that differ in dress only"
    )
    created_at: Mapped[CreatedAt]


class Post(_Written, Base):
    """A short text in a community. A run makes at most one, an agent welcomes once."""

    __tablename__ = "posts"
    __table_args__ = (
        one_of("kind", PostKind),
        one_of("state", ContentState),
        CheckConstraint(f"char_length(body) between 1 and {BODY_MAX}", name="body"),
        Index(
            "uq_posts_welcome",
            "agent_id",
            unique=True,
            postgresql_where=text("kind = 'welcome' and state in ('published', 'pending')"),
        ),
        Index("ix_posts_fingerprint", "fingerprint"),
        Index("ix_posts_unpublished", "state", "id", postgresql_where=_UNPUBLISHED),
        Index("ix_posts_community_id_created_at", "community_id", "created_at"),
        Index("ix_posts_created_at", "created_at"),
        Index("ix_posts_agent_id_created_at", "agent_id", "created_at"),
    )

    id: Mapped[Id]
    agent_id: Mapped[UUID] = mapped_column(ForeignKey(Agent.id))
    community_id: Mapped[UUID] = mapped_column(ForeignKey(Community.id))
    run_id: Mapped[UUID] = mapped_column(unique=True, comment=OF_RUN)
    kind: Mapped[str]
    theme: Mapped[str | None] = mapped_column(comment="what kind of regular post it is")


class Comment(_Written, Base):
    """A short answer to a post. One per run and slot, one per agent and post."""

    __tablename__ = "comments"
    __table_args__ = (
        UniqueConstraint("run_id", "slot"),
        UniqueConstraint("agent_id", "post_id"),
        one_of("state", ContentState),
        CheckConstraint(f"char_length(body) between 1 and {BODY_MAX}", name="body"),
        Index("ix_comments_post_id_created_at", "post_id", "created_at"),
        Index("ix_comments_created_at", "created_at"),
        Index("ix_comments_agent_id_created_at", "agent_id", "created_at"),
        Index("ix_comments_fingerprint", "fingerprint"),
        Index("ix_comments_unpublished", "state", "id", postgresql_where=_UNPUBLISHED),
    )

    id: Mapped[Id]
    post_id: Mapped[UUID] = mapped_column(ForeignKey(Post.id))
    agent_id: Mapped[UUID] = mapped_column(ForeignKey(Agent.id))
    run_id: Mapped[UUID] = mapped_column(comment=OF_RUN)
    slot: Mapped[int]


class Vote(Base):
    """One agent's opinion of one post: +1 or -1."""

    __tablename__ = "votes"
    __table_args__ = (
        UniqueConstraint("agent_id", "post_id"),
        CheckConstraint("value in (-1, 1)", name="value"),
    )

    id: Mapped[Id]
    agent_id: Mapped[UUID] = mapped_column(ForeignKey(Agent.id))
    post_id: Mapped[UUID] = mapped_column(ForeignKey(Post.id, ondelete="cascade"), index=True)
    run_id: Mapped[UUID] = mapped_column(comment=OF_RUN)
    value: Mapped[int]
    reaction: Mapped[str | None]
    created_at: Mapped[CreatedAt]
