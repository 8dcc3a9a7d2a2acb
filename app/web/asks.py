"""What one may ask for in an act: the fields of its form and of its JSON body, with their bounds."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.models import Links, OverBudget, Review

Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
Handle = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80)]
Dollars = Annotated[float | None, Field(ge=0, le=1e9, allow_inf_nan=False)]
Activity = Literal["style", "welcome", "post", "comment", "cross_visit", "reaction"]
INT_MAX = 2_147_483_647
Count = Annotated[int | None, Field(ge=0, le=INT_MAX)]
Agents = Annotated[list[Handle], Field(min_length=1, max_length=1_000, title="agents")]
Ids = Annotated[list[UUID], Field(min_length=1, max_length=1_000, title="posts and comments")]


class Ask(BaseModel):
    """Every act takes a reason, for the audit log."""

    model_config = ConfigDict(extra="forbid")

    reason: Reason = Field(description="why; goes into the audit log")

    @property
    def changes(self) -> dict[str, Any]:
        """The fields that were given, without the reason and the version."""
        return self.model_dump(exclude_none=True, exclude={"reason", "version"})


class Versioned(Ask):
    """A change of what may have been changed by somebody else meanwhile."""

    version: int | None = Field(
        None,
        ge=0,
        le=INT_MAX,
        description="the version that was looked at; refused when it is no longer so",
    )


class AskPause(Ask):
    """Stop all gateway calls and all new runs; calls under way finish."""

    minutes: float | None = Field(
        None, gt=0, le=525_600, allow_inf_nan=False, title="for how many minutes",
        description="empty: until that moment, or until somebody resumes",
    )  # fmt: skip
    until: datetime | None = Field(
        None,
        title="or until",
        description="2026-12-24 18:00, of the business time zone unless it names one",
    )


class AskResume(Ask):
    """End a pause, close the breaker after 402, and forget a refused key."""


class AskLimits(Versioned):
    """Every worker's next call sees them, without a restart."""

    rate: Annotated[float | None, Field(ge=0.001, le=100_000, allow_inf_nan=False)] = Field(
        None, title="calls per second"
    )
    burst: int | None = Field(
        None, ge=1, le=100_000, title="calls that may start at once after a pause"
    )
    max_wait_s: float | None = Field(
        None, ge=0.1, le=60, allow_inf_nan=False, title="seconds a run waits on a worker"
    )
    tokens_per_minute: Count = Field(None, title="LLM tokens per minute", description="0: no limit")
    agent_daily_tokens: Count = Field(
        None, title="LLM tokens per agent and day", description="0: no limit"
    )


class AskBudget(Ask):
    """Every worker's next call sees it."""

    community: str | None = Field(
        None, max_length=200, title="of the community", description="empty: of the whole fleet"
    )
    day_usd: Dollars = Field(None, title="dollars per day", description="0: no limit")
    month_usd: Dollars = Field(None, title="dollars per month", description="0: no limit")


class AskControls(Versioned):
    """In force with the next run of every agent, without a restart."""

    dry_run: bool | None = Field(
        None, title="dry run", description="write and record, but publish nothing"
    )
    review: Review | None = Field(None, title="what waits for approval")
    paused_activities: list[Activity] | None = Field(None, title="what no agent does for now")
    posts_per_hour: Count = Field(None, title="posts of an agent per hour", description="0: no cap")
    posts_per_day: Count = Field(None, title="posts of an agent per day", description="0: no cap")
    comments_per_hour: Count = Field(
        None, title="comments of an agent per hour", description="0: no cap"
    )
    comments_per_day: Count = Field(
        None, title="comments of an agent per day", description="0: no cap"
    )
    banned_words: Annotated[list[Handle], Field(max_length=1_000)] | None = Field(
        None, title="banned words", description="one per line"
    )
    links: Links | None = Field(None, title="what becomes of links")
    duplicates_s: Count = Field(
        None, title="seconds in which a text may not be said again", description="0: it may"
    )
    over_budget: OverBudget | None = Field(None, title="when a budget is used up")


class AskAgents(Ask):
    """Some agents, by handle."""

    agents: Agents


class AskQuota(AskAgents):
    """A daily quota of their own for some agents."""

    tokens: int | None = Field(
        None, ge=0, le=INT_MAX, title="LLM tokens per day",
        description="0: no limit; empty: the fleet's",
    )  # fmt: skip


class AskContent(Ask):
    """Some posts and comments, by id."""

    ids: Ids


class AskAlertTest(Ask):
    """A test message to every channel."""
