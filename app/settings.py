"""Settings: the only reader of the environment.

Read by entry points; everything below them is handed the group it needs. A name that starts with
`PACELINE_` and means nothing is refused, because a misspelt cap is a cap that does not hold.
What an operator changes while the program runs (rate, quotas, pauses) is a row in the database,
seeded from here.
"""

import difflib
import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dotenv import dotenv_values
from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.errors import ConfigError

PREFIX = "PACELINE_"
LOVABLE_URL = "https://ai.gateway.lovable.dev/v1"


class GatewaySettings(BaseModel):
    """The LLM gateway: any server that speaks OpenAI's chat completions."""

    base_url: str | None = Field(
        None,
        description="Default: the Lovable gateway when LOVABLE_API_KEY is set, else the sandbox",
    )
    api_key: SecretStr | None = Field(
        None, description="Key for base_url; default: LOVABLE_API_KEY", repr=False
    )
    post_model: str = Field("google/gemini-2.5-flash", description="Model for welcome and posts")
    comment_model: str = Field("google/gemini-2.5-flash-lite", description="Model for comments")
    fallback_models: tuple[str, ...] = Field(
        ("google/gemini-2.5-flash-lite", "google/gemini-2.5-flash"),
        description="Tried in this order when the gateway no longer has a model; a JSON list",
    )
    max_tokens: int = Field(
        1024,
        ge=512,
        description="Ceiling of an answer, thinking included; under 512 thinking eats it",
    )
    temperature: float = Field(0.8, ge=0, le=2)
    connect_timeout_s: float = Field(5, gt=0)
    read_timeout_s: float = Field(30, gt=0, description="Longest silence within one answer")
    total_timeout_s: float = Field(60, gt=0, description="Longest whole call")

    @property
    def longest_call_s(self) -> float:
        """No call lasts longer: a silence may begin just before the total time is up."""
        return self.connect_timeout_s + self.total_timeout_s + self.read_timeout_s

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

    rate: float = Field(4.0, gt=0, le=100_000, description="Calls per second")
    max_wait_s: float = Field(
        5,
        gt=0,
        le=60,
        description="Longest wait for a permit on a worker; beyond it the run is snoozed",
    )
    tokens_per_minute: int = Field(0, ge=0, description="LLM tokens per minute; 0: no limit")
    agent_daily_tokens: int = Field(
        0, ge=0, description="LLM tokens per agent and day; 0: no limit"
    )
    budget_day_usd: float = Field(0, ge=0, description="Dollars per day for the fleet; 0: no limit")
    budget_month_usd: float = Field(
        0, ge=0, description="Dollars per month for the fleet; 0: no limit"
    )
    burst: int = Field(
        1,
        ge=1,
        le=100_000,
        description="Calls that may start at once after a pause; keep it under the gateway's",
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


class ActivitySettings(BaseModel):
    """What an agent does in a cycle."""

    comment_slots: int = Field(2, ge=0, le=10, description="Comments an agent may make in a cycle")
    comment_probability: float = Field(
        0.40, ge=0, le=1, description="Chance of each comment, drawn once"
    )
    reaction_slots: int = Field(
        2, ge=0, le=10, description="Votes with a ready-made reaction in a cycle; they cost no call"
    )
    visit_every_s: float = Field(
        1800, ge=0, description="How often an agent comments in another community; 0: never"
    )
    post_quiet_s: float = Field(
        0,
        ge=0,
        description="No regular post when the community had one within this time; 0: always",
    )


class WorkerSettings(BaseModel):
    """The worker processes that `paceline up` starts, and how each works."""

    processes: int = Field(2, ge=1, le=64)
    threads: int = Field(
        16, ge=1, le=500, description="Runs that one worker process has in hand at once"
    )
    lease_s: float = Field(
        30, ge=3, description="A run whose worker is silent for this long is given to another"
    )
    events: bool = Field(
        True,
        description="Task events for Flower; without them a worker needs a third less CPU of its own",
    )


class AlertSettings(BaseModel):
    """Who is told when something needs a person."""

    urls: tuple[SecretStr, ...] = Field(
        (),
        description="Channels as apprise URLs, a JSON list: mailto://, slack://, tgram://, json://",
    )


class SandboxSettings(BaseModel):
    """The gateway to play with, started when there is no key."""

    port: int = Field(0, ge=0, le=65535, description="0: any free port")
    rate: float | None = Field(
        None, gt=0, description="Calls per second it lets through; default: the cap"
    )
    capacity: int | None = Field(None, ge=1, description="Its burst; default: max(2, rate/10)")
    latency_s: float = Field(0.3, ge=0, le=60)
    credits: float | None = Field(
        None, ge=0, description="Dollars until it answers 402; default: endless"
    )


class ListenSettings(BaseModel):
    """An address that a part listens on."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)


class WebSettings(ListenSettings):
    """The dashboard. Without a password it is for this machine only."""

    password: SecretStr | None = Field(
        None, description="Asked for by the dashboard (HTTP Basic, any user name)", repr=False
    )


class FlowerSettings(ListenSettings):
    """Flower, the worker monitor. Without basic_auth it is read-only and for this machine only."""

    port: int = Field(5555, ge=0, le=65535)
    basic_auth: SecretStr | None = Field(
        None, description="user:password; unlocks Flower's actions", repr=False
    )


class LogSettings(BaseModel):
    """Logs go to standard error."""

    level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    json_lines: bool | None = Field(
        None, description="Default: JSON unless a person reads on a terminal"
    )


class Settings(BaseSettings):
    """All of Paceline's settings."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_file=".env",
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,
    )

    database_url: SecretStr | None = Field(
        None,
        validation_alias="DATABASE_URL",
        description="PostgreSQL, any libpq-style URL; default: an embedded server under PACELINE_HOME",
    )
    redis_url: SecretStr | None = Field(
        None,
        validation_alias="REDIS_URL",
        description="Redis or Valkey; default: an embedded server under PACELINE_HOME",
    )
    lovable_api_key: SecretStr | None = Field(
        None, validation_alias="LOVABLE_API_KEY", description="Key of the Lovable AI gateway"
    )
    home: Path = Field(Path(".paceline"), description="Where embedded servers keep their data")
    timezone: str = Field("UTC", description="Time zone of days and months in quotas and budgets")
    gateway: GatewaySettings = GatewaySettings()
    limits: LimitSettings = LimitSettings()
    cycle: CycleSettings = CycleSettings()
    activity: ActivitySettings = ActivitySettings()
    worker: WorkerSettings = WorkerSettings()
    alerts: AlertSettings = AlertSettings()
    sandbox: SandboxSettings = SandboxSettings()
    web: WebSettings = WebSettings()
    flower: FlowerSettings = FlowerSettings()
    log: LogSettings = LogSettings()

    @field_validator("timezone")
    @classmethod
    def _zone_exists(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"no time zone {name!r}; Europe/Berlin is one") from None
        return name

    @property
    def zone(self) -> ZoneInfo:
        """The business time zone."""
        return ZoneInfo(self.timezone)

    @property
    def gateway_url(self) -> str | None:
        """Where to call, or None when only the sandbox is left."""
        if self.gateway.base_url:
            return self.gateway.base_url.rstrip("/")
        return LOVABLE_URL if self.lovable_api_key else None

    @property
    def gateway_key(self) -> str | None:
        """What to call with. The Lovable key goes to no other gateway unless it is given twice."""
        if self.gateway.api_key:
            return self.gateway.api_key.get_secret_value()
        if self.lovable_api_key:
            return self.lovable_api_key.get_secret_value()
        return None

    @property
    def gateway_key_name(self) -> str:
        """The setting a person must look at when the key is refused."""
        return "PACELINE_GATEWAY__API_KEY" if self.gateway.api_key else "LOVABLE_API_KEY"


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read settings, or raise ConfigError with one line that names the setting and the mend."""
    names = set(os.environ if environ is None else environ)
    names |= {name for name in dotenv_values(".env") if name}
    _refuse_unknown(names)
    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(
            f"{_variable(problem['loc'])}: {problem['msg']}" for problem in error.errors()
        )
        raise ConfigError(f"bad setting: {problems}") from None


@cache
def get_settings() -> Settings:
    """The settings of this process, read once."""
    return load_settings()


def variables() -> Iterator[tuple[str, str, object]]:
    """Every setting as (environment name, description, default); feeds .env.example and docs."""
    yield from _variables(Settings, PREFIX)


def _variables(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, object]]:
    for name, field in model.model_fields.items():
        alias = field.validation_alias
        variable = alias if isinstance(alias, str) else prefix + name.upper()
        if isinstance(field.default, BaseModel):
            yield from _variables(type(field.default), variable + "__")
        else:
            yield variable, field.description or "", field.default


def _variable(location: tuple[int | str, ...]) -> str:
    first = str(location[0])
    if first.isupper():
        return first
    return PREFIX + "__".join(str(part).upper() for part in location)


def _refuse_unknown(names: set[str]) -> None:
    known = [variable for variable, _, _ in variables()]
    for name in sorted(names):
        if not name.upper().startswith(PREFIX) or name.upper() in known:
            continue
        near = difflib.get_close_matches(name.upper(), known, n=1)
        hint = f"did you mean {near[0]}?" if near else "docs/settings.md lists them all"
        raise ConfigError(f"unknown setting {name}: {hint}")
