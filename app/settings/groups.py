"""The groups of settings: what can be set, its default, its bounds, and what it is for."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

from pydantic import AwareDatetime, BaseModel, Field, PositiveFloat, SecretStr, model_validator

from app.bounds import Burst, Count, Dollars, MaxWait, Rate, Seconds


class GatewaySettings(BaseModel):
    """The LLM gateway: any server that speaks OpenAI's chat completions."""

    base_url: str | None = Field(
        None, description="Default: the Lovable gateway when LOVABLE_API_KEY is set, else the sandbox"
    )
    api_key: SecretStr | None = Field(
        None, description="Key for base_url; default: LOVABLE_API_KEY", repr=False
    )
    post_model: str = Field("google/gemini-2.5-flash", description="Model for welcome and posts")
    comment_model: str = Field("google/gemini-2.5-flash-lite", description="Model for comments")
    visit_model: str | None = Field(
        None, description="Model for comments in other communities; default: that for comments"
    )
    style_model: str | None = Field(None, description="Model that learns a style; default: that for posts")
    cheap_model: str = Field(
        "google/gemini-2.5-flash-lite",
        description="Asked for everything when a budget is used up and over_budget is cheaper_model",
    )
    fallback_models: tuple[str, ...] = Field(
        ("google/gemini-2.5-flash-lite", "google/gemini-2.5-flash"),
        description="Tried in this order when the gateway no longer has a model; a JSON list",
    )
    max_tokens: int = Field(
        1024, ge=512, description="Ceiling of an answer, thinking included; under 512 thinking eats it"
    )
    context_tokens: int = Field(
        2_000_000,
        ge=1,
        le=1_000_000_000,
        description="LLM tokens that the largest prompt of your models has; a usage above this and "
        "max_tokens together is implausible, and the estimate counts",
    )
    temperature: float = Field(0.8, ge=0, le=2)
    reasoning: dict[str, Literal["none", "low", "medium", "high"]] = Field(
        {},
        description="How much a model may think, by model, a JSON object; a model that is not named is "
        "not told, because some refuse to be",
    )
    connect_timeout_s: float = Field(5, gt=0)
    read_timeout_s: float = Field(30, gt=0, description="Longest silence within one answer")
    total_timeout_s: float = Field(
        60, gt=0, description="Longest whole call: connect, headers and body together"
    )

    @property
    def longest_call_s(self) -> float:
        """No call lasts longer: the total time holds for connect, headers and body together, and two seconds
        are for looking up the gateway's name.
        """
        return self.total_timeout_s + 2

    @property
    def every_model(self) -> tuple[str, ...]:
        """Every model that may be asked."""
        named = (
            self.post_model,
            self.comment_model,
            self.visit_model,
            self.style_model,
            self.cheap_model,
            *self.fallback_models,
        )
        return tuple(dict.fromkeys(model for model in named if model))

    def models(self, first: str) -> tuple[str, ...]:
        """A model, and what to ask in its place when it is gone."""
        return tuple(dict.fromkeys((first, *self.fallback_models)))

    @model_validator(mode="after")
    def _url_is_http(self) -> "GatewaySettings":
        if self.base_url is not None and not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url must start with http:// or https://, not {self.base_url!r}")
        return self


class LimitSettings(BaseModel):
    """How fast the gateway may be called and what it may cost, by all workers together.

    These seed a row in the database when it has none, and change it when they change; what an operator
    sets with `paceline limits set` stays in force until then.
    """

    rate: Rate = Field(4.0, description="Calls per second")
    max_wait_s: MaxWait = Field(
        5, description="Longest wait for a permit on a worker; beyond it the run is snoozed"
    )
    tokens_per_minute: Count = Field(0, description="LLM tokens per minute; 0: no limit")
    agent_daily_tokens: Count = Field(0, description="LLM tokens per agent and day; 0: no limit")
    budget_day_usd: Dollars = Field(0, description="Dollars per day for the fleet; 0: no limit")
    budget_month_usd: Dollars = Field(0, description="Dollars per month for the fleet; 0: no limit")
    burst: Burst = Field(
        1, description="Calls that may start at once after a pause; keep it under the gateway's"
    )


class CycleSettings(BaseModel):
    """When agents act."""

    period_s: float = Field(300, ge=1, le=86_400, description="Every agent acts once in this time")
    slice_s: float | None = Field(
        None,
        gt=0,
        description="Agents are dispatched in slices of this length; default: a tenth of the period",
    )

    @model_validator(mode="after")
    def _whole_slices(self) -> "CycleSettings":
        if self.slice_s is not None:
            slices = self.period_s / self.slice_s
            if slices < 1 or abs(slices - round(slices)) > 1e-9:
                raise ValueError(
                    f"period_s ({self.period_s:g}) must be a whole number of slice_s ({self.slice_s:g})"
                )
        return self

    @property
    def slices(self) -> int:
        """How many slices make a cycle."""
        return 10 if self.slice_s is None else round(self.period_s / self.slice_s)

    @property
    def slice_length_s(self) -> float:
        """Seconds from one slice to the next."""
        return self.period_s / self.slices


SPARING_POSTS = 0.55
"""With the comments and visits of the defaults: 0.55 + 0.80 + 0.17 = 1.52 calls."""


class ActivitySettings(BaseModel):
    """Activities of an agent in a cycle."""

    sparing: bool = Field(
        False,
        description="About 1.5 calls per agent and cycle instead of 2: a regular post in 55 of 100 cycles, "
        "where you set no post_probability of your own",
    )
    post_probability: float = Field(1, gt=0, le=1, description="Chance of the regular post")
    comment_slots: int = Field(2, ge=0, le=10, description="Comments an agent may make in a cycle")
    comment_probability: float = Field(0.40, ge=0, le=1, description="Chance of each comment, drawn once")
    reaction_slots: int = Field(
        2, ge=0, le=10, description="Votes with a ready-made reaction in a cycle; they cost no call"
    )
    visit_every_s: float = Field(
        1800, ge=0, description="How often an agent comments in another community; 0: never"
    )
    post_quiet_s: float = Field(
        0, ge=0, description="No regular post when the community had one within this time; 0: always"
    )
    themes: dict[str, PositiveFloat] = Field(
        {"professional": 0.40, "trending": 0.25, "question": 0.20, "fun": 0.15},
        min_length=1,
        description="Kinds of regular posts by weight, a JSON object",
    )

    @model_validator(mode="after")
    def _spare(self) -> "ActivitySettings":
        if self.sparing and "post_probability" not in self.model_fields_set:
            self.post_probability = SPARING_POSTS
        return self


class ControlSettings(BaseModel):
    """Rules for what agents may do and publish.

    These seed a row in the database when it has none, and change it when they change; what an operator
    sets with `paceline controls set` stays in force until then.
    """

    dry_run: bool = Field(False, description="Write and record, but publish nothing")
    review: Literal["nothing", "posts", "all"] = Field(
        "nothing", description="What waits for approval (`paceline content approve`)"
    )
    paused_activities: tuple[
        Literal["style", "welcome", "post", "comment", "cross_visit", "reaction"], ...
    ] = Field((), description="What no agent does for now, a JSON list")
    posts_per_hour: Count = Field(0, description="Posts of one agent in any hour; 0: no cap")
    posts_per_day: Count = Field(0, description="Posts of one agent in any 24 hours; 0: no cap")
    comments_per_hour: Count = Field(0, description="Comments of one agent in any hour; 0: no cap")
    comments_per_day: Count = Field(0, description="Comments of one agent in any 24 hours; 0: no cap")
    banned_words: tuple[str, ...] = Field(
        (), description="A text with one of these words is not published, a JSON list"
    )
    links: Literal["allow", "remove", "refuse"] = Field(
        "remove", description="What becomes of links in what agents write"
    )
    duplicates_s: Seconds = Field(86_400, description="For so long a text may not be said again; 0: it may")
    over_budget: Literal["stop", "posts_only", "cheaper_model"] = Field(
        "stop", description="What happens when a budget is used up"
    )


class SourceSettings(BaseModel):
    """Where styles and mentions come from: twitterapi.io, and X as backup for mentions."""

    twitterapi_url: str = Field("https://api.twitterapi.io", pattern="^https?://")
    x_url: str = Field("https://api.x.com", pattern="^https?://")
    timeout_s: float = Field(20, gt=0)
    mention_accounts: tuple[str, ...] = Field(
        (), description="Accounts on X to scan for mentions, a JSON list; each scan costs credits"
    )
    mention_every_s: float = Field(300, ge=15, description="How often each account is scanned")
    low_balance_credits: int = Field(
        5_000, ge=0, description="Alert when twitterapi.io has fewer credits left; 0: never"
    )


class WorkerSettings(BaseModel):
    """The worker processes that `paceline up` starts, and how each works."""

    processes: int = Field(2, ge=1, le=64)
    threads: int = Field(16, ge=1, le=1_000, description="Runs that one worker process has in hand at once")
    heartbeat_file: str | None = Field(
        None,
        description="A worker touches it every few seconds, for health checks: older than a minute, it hangs",
    )
    lease_s: float = Field(
        30, ge=3, description="A run whose worker is silent for this long is given to another"
    )
    events: bool = Field(
        True, description="Task events for Flower; they cost a worker a few percent of its CPU"
    )


class Price(BaseModel):
    """An own price of a model, in dollars per million LLM tokens, from a moment on."""

    model: str
    since: AwareDatetime = datetime(2000, 1, 1, tzinfo=UTC)
    input: Decimal = Field(ge=0)
    output: Decimal = Field(ge=0)
    cached: Decimal | None = Field(None, ge=0)


class UsageSettings(BaseModel):
    """Prices of calls, and how long single calls are kept."""

    prices: tuple[Price, ...] = Field(
        (),
        description="Own prices before the bundled ones, a JSON list of objects: model, input, output and "
        "if you like cached (dollars per million LLM tokens), since",
    )
    price_multiplier: float = Field(
        1, ge=0, description="Of every price: what your gateway charges per dollar of list price"
    )
    unknown_prices: Literal["refuse", "warn"] = Field(
        "refuse",
        description="A budget cannot hold calls of a model without a known price: refuse them while a budget "
        "is set, or only warn and count them as free",
    )
    keep_days: int | None = Field(None, ge=0, description="The name of before of PACELINE_KEEP__CALLS_DAYS")
    credits_usd: float = Field(
        0, ge=0, description="Dollars you have bought at the gateway, for the forecast; 0: unknown"
    )
    credits_since: AwareDatetime | None = Field(
        None, description="When that was the balance; default: the start of the ledger"
    )


class KeepSettings(BaseModel):
    """How long what grows is kept. Texts that a person hid and the change log stay."""

    runs_days: float = Field(30, ge=0, description="Days that a run is kept after its end; 0: for ever")
    votes_days: float = Field(30, ge=0, description="Days that a vote is kept; 0: for ever")
    content_days: float = Field(365, ge=0, description="Days that a post or a comment is kept; 0: for ever")
    calls_days: int = Field(
        90,
        ge=0,
        description="Days of single calls kept; older ones are dropped once their sums are proved; 0: all",
    )
    disk_gb: float = Field(
        0, ge=0, description="Gigabytes that the database may take, for the forecast of doctor; 0: unknown"
    )


class AppSettings(BaseModel):
    """The way out: the application's tables, and webhooks."""

    database_url: SecretStr | None = Field(
        None,
        description="The application's database, where it is not DATABASE_URL: a role of its own there",
        repr=False,
    )
    timeout_s: float = Field(
        5, gt=0, le=60, description="A statement in the application's database may take so long"
    )
    backlog_max: int = Field(
        0,
        ge=0,
        description="No run is started while more events wait for the application; 0: go on whatever waits",
    )
    keep_days: int = Field(
        7, ge=0, le=365, description="Delivered events are kept so long, to be sent again; 0: always"
    )
    private_networks: bool = Field(
        False, description="Webhooks may go to private networks and to this machine, also by http"
    )


class AlertSettings(BaseModel):
    """Channels for messages when something needs a person."""

    urls: tuple[SecretStr, ...] = Field(
        (), description="Channels as apprise URLs, a JSON list: mailto://, slack://, tgram://, json://"
    )
    long_incident_min: float = Field(
        10, gt=0, description="Alert when the gateway answers 429 for so many minutes"
    )
    runway_days: float = Field(7, ge=0, description="Alert when the credits last fewer days; 0: never")
    quiet_hours: str = Field(
        "",
        pattern=r"^(([01]\d|2[0-3])-([01]\d|2[0-3]))?$",
        description="Hours of the business time zone in which only failures are sent, like 22-07",
    )


class SandboxSettings(BaseModel):
    """The gateway to play with, started when there is no key."""

    port: int = Field(0, ge=0, le=65535, description="0: any free port")
    rate: float | None = Field(None, gt=0, description="Calls per second it lets through; default: the cap")
    capacity: int | None = Field(None, ge=1, description="Its burst; default: max(2, rate/10)")
    latency_s: float = Field(0.3, ge=0, le=60)
    credits: float | None = Field(None, ge=0, description="Dollars until it answers 402; default: endless")


class TracingSettings(BaseModel):
    """Spans of cycles, runs and calls. Needs the extra `paceline[tracing]`."""

    endpoint: str | None = Field(
        None,
        pattern="^https?://",
        description="Where spans go: an OTLP/HTTP traces address, like http://127.0.0.1:4318/v1/traces",
    )


class LogSettings(BaseModel):
    """Logs go to standard error."""

    level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    json_lines: bool | None = Field(None, description="Default: JSON unless a person reads on a terminal")
