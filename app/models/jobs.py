"""Periodic jobs, by name: when each last did its work, and what it did."""

from datetime import datetime

from sqlalchemy import func
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base


class Job(Base):
    """The last completed round of a job. Life is judged by this, not by a process that is there."""

    __tablename__ = "jobs"

    name: Mapped[str] = mapped_column(primary_key=True)
    done_at: Mapped[datetime] = mapped_column(server_default=func.now())
    result: Mapped[str]
