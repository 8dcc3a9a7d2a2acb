"""The input of each action: its fields with their bounds, for forms, JSON bodies and the command line."""

from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

from annotated_types import Ge, Gt, Le, MaxLen, MinLen
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from app.bounds import INT_MAX, Burst, Count, Dollars, MaxWait, Minutes, Rate, Seconds
from app.errors import ConfigError
from app.models import Links, OverBudget, Review
from app.money import to_micros

Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
Handle = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80)]
Activity = Literal["style", "welcome", "post", "comment", "cross_visit", "reaction"]
Agents = Annotated[list[Handle], Field(min_length=1, max_length=1_000, title="agents")]
Ids = Annotated[list[UUID], Field(min_length=1, max_length=1_000, title="posts and comments")]
Runs = Annotated[list[UUID], Field(min_length=1, max_length=1_000, title="runs")]

I = TypeVar("I", bound="Input")  # noqa: E741


def given(model: type[I], reason: str, **fields: Any) -> I:
    """An input from the command line, where a reason may be left out; raises ConfigError in plain words."""
    known = {name: value for name, value in fields.items() if value is not None}
    try:
        return model.model_validate(known | {"reason": reason or "none given"})
    except ValidationError as error:
        problems = explain_problems(model, error)
        raise ConfigError("; ".join(problems.values())) from None


def explain_problems(model: type[BaseModel], error: ValidationError) -> dict[str, str]:
    """What is wrong with each field, as a sentence that says what is allowed."""
    found: dict[str, str] = {}
    for problem in error.errors():
        name = str(problem["loc"][0]) if problem["loc"] else ""
        found.setdefault(name, _sentence(model, name, problem))
    return found


def _sentence(model: type[BaseModel], name: str, problem: Any) -> str:
    field = model.model_fields.get(name)
    if field is None:
        return f"Unknown field {name!r}"
    label = field.title or name.replace("_", " ")
    if problem["type"] == "missing":
        return f"{label} is missing"
    shown = str(problem["input"])
    shown = shown if len(shown) <= 40 else shown[:40] + "..."
    allowed = _allowed(field.metadata + _inner_metadata(field.annotation))
    if not allowed and "expected" in problem.get("ctx", {}):
        allowed = f"one of {problem['ctx']['expected']}"
    if not allowed:
        allowed = str(problem["msg"])
    return f"Invalid value {shown!r} for {label}: {allowed}"


def _inner_metadata(annotation: Any) -> list[Any]:
    """Bounds of the type behind `| None`."""
    return [
        bound
        for part in (annotation, *getattr(annotation, "__args__", ()))
        for mark in getattr(part, "__metadata__", ())
        for bound in getattr(mark, "metadata", [mark])
    ]


def _allowed(bounds: list[Any]) -> str:
    """Bounds in words: `0.001 to 100,000`."""
    least = next((b for b in bounds if isinstance(b, Ge | Gt)), None)
    most = next((b for b in bounds if isinstance(b, Le)), None)
    if least is not None and most is not None:
        low = least.ge if isinstance(least, Ge) else least.gt
        if isinstance(least, Gt):
            return f"more than {low:,} and at most {most.le:,.0f}"
        return f"{low:,} to {most.le:,.0f}"
    sizes = [b.min_length for b in bounds if isinstance(b, MinLen)]
    sizes += [b.max_length for b in bounds if isinstance(b, MaxLen)]
    return f"{sizes[0]} to {sizes[-1]:,} of them" if len(sizes) == 2 else ""


class Input(BaseModel):
    """Every action takes a reason, for the audit log."""

    model_config = ConfigDict(extra="forbid")

    reason: Reason = Field(description="why; goes into the audit log")

    @property
    def changes(self) -> dict[str, Any]:
        """The fields that were given, without the reason and the version."""
        return self.model_dump(exclude_none=True, exclude={"reason", "version"})


class Versioned(Input):
    """A change of what may have been changed by somebody else meanwhile."""

    version: int | None = Field(
        None,
        ge=0,
        le=INT_MAX,
        description="the version that was looked at; refused when it is no longer so",
    )


class Pause(Input):
    """Stop all gateway calls and all new runs; calls under way finish."""

    minutes: Minutes | None = Field(
        None, title="minutes",
        description="empty: until that moment, or until somebody resumes",
    )  # fmt: skip
    until: datetime | None = Field(
        None,
        title="or until",
        description="2026-12-24 18:00, of the business time zone unless it names one",
    )


class Resume(Input):
    """End a pause, a stop by the gateway (credits, key, quota) and the wait after a 429."""


class SetLimits(Versioned):
    """Every worker's next call sees them, without a restart."""

    rate: Rate | None = Field(None, title="calls per second")
    burst: Burst | None = Field(None, title="calls that may start at once after a pause")
    max_wait_s: MaxWait | None = Field(None, title="seconds a run waits on a worker")
    tokens_per_minute: Count | None = Field(
        None, title="LLM tokens per minute", description="0: no limit"
    )
    agent_daily_tokens: Count | None = Field(
        None, title="LLM tokens per agent and day", description="0: no limit"
    )


class SetBudget(Input):
    """Every worker's next call sees it."""

    community: str | None = Field(
        None, max_length=200, title="of the community", description="empty: of the whole fleet"
    )
    day_usd: Dollars | None = Field(None, title="dollars per day", description="0: no limit")
    month_usd: Dollars | None = Field(None, title="dollars per month", description="0: no limit")

    @property
    def in_micros(self) -> dict[str, int]:
        """The budgets that were given, as columns in micro-dollars."""
        given = {"budget_day_micros": self.day_usd, "budget_month_micros": self.month_usd}
        return {name: to_micros(usd) for name, usd in given.items() if usd is not None}


class SetControls(Versioned):
    """In force with the next run of every agent, without a restart."""

    dry_run: bool | None = Field(
        None, title="dry run", description="write and record, but publish nothing"
    )
    review: Review | None = Field(None, title="what waits for approval")
    paused_activities: list[Activity] | None = Field(None, title="what no agent does for now")
    posts_per_hour: Count | None = Field(
        None, title="posts of an agent per hour", description="0: no cap"
    )
    posts_per_day: Count | None = Field(
        None, title="posts of an agent per day", description="0: no cap"
    )
    comments_per_hour: Count | None = Field(
        None, title="comments of an agent per hour", description="0: no cap"
    )
    comments_per_day: Count | None = Field(
        None, title="comments of an agent per day", description="0: no cap"
    )
    banned_words: Annotated[list[Handle], Field(max_length=1_000)] | None = Field(
        None, title="banned words", description="one per line"
    )
    links: Links | None = Field(None, title="what becomes of links")
    duplicates_s: Seconds | None = Field(
        None, title="seconds in which a text may not be said again", description="0: it may"
    )
    over_budget: OverBudget | None = Field(None, title="when a budget is used up")


class ChooseAgents(Input):
    """Some agents, by handle."""

    agents: Agents


class SetQuota(ChooseAgents):
    """A daily quota of their own for some agents."""

    tokens: Count | None = Field(
        None, title="LLM tokens per day",
        description="0: no limit; empty: the fleet's",
    )  # fmt: skip


class ChooseContent(Input):
    """Some posts and comments, by id."""

    ids: Ids


class ChooseRuns(Input):
    """Some runs, by id. A run that is going on stops before its next call."""

    runs: Runs


class ChooseReceivers(Input):
    """Where events go: app, or webhooks by id."""

    receivers: Annotated[list[Handle], Field(min_length=1, max_length=100, title="receivers")]


class TestAlerts(Input):
    """A test message to every channel."""
