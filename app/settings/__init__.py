"""Settings: the only reader of the environment.

Read by entry points; everything below them is handed the group it needs. A name that starts with
`PACELINE_` and means nothing is refused, because a misspelt cap is a cap that does not hold.
Settings that an operator changes while the program runs (rate, quotas, pauses) is a row in the database,
seeded from here.
"""

import difflib
import json
import os
from collections.abc import Iterator, Mapping
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from app.errors import ConfigError
from app.settings.env_file import EnvFile, read_env_file
from app.settings.groups import (
    ActivitySettings,
    AlertSettings,
    AppSettings,
    ControlSettings,
    CycleSettings,
    GatewaySettings,
    KeepSettings,
    LimitSettings,
    LogSettings,
    SandboxSettings,
    SourceSettings,
    TracingSettings,
    UsageSettings,
    WorkerSettings,
)
from app.settings.listening import FlowerSettings, ListenSettings, OidcSettings, WebSettings

__all__ = [
    "ActivitySettings",
    "AlertSettings",
    "AppSettings",
    "ControlSettings",
    "CycleSettings",
    "FlowerSettings",
    "GatewaySettings",
    "KeepSettings",
    "LimitSettings",
    "ListenSettings",
    "LogSettings",
    "OidcSettings",
    "SandboxSettings",
    "Settings",
    "SourceSettings",
    "TracingSettings",
    "UsageSettings",
    "WebSettings",
    "WorkerSettings",
    "get_settings",
    "is_lovable",
    "load_settings",
    "variables",
]

PREFIX = "PACELINE_"
LOVABLE_URL = "https://ai.gateway.lovable.dev/v1"


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
        description="PostgreSQL, any libpq-style URL, with ?pooler=transaction behind such a pooler; "
        "default: an embedded server under PACELINE_HOME",
    )
    redis_url: SecretStr | None = Field(
        None,
        validation_alias="REDIS_URL",
        description="Redis or Valkey: redis://, rediss:// (TLS) or "
        "redis+sentinel://:password@host:26379,.../master/0; default: an embedded server under PACELINE_HOME",
    )
    lovable_api_key: SecretStr | None = Field(
        None, validation_alias="LOVABLE_API_KEY", description="Key of the Lovable AI gateway"
    )
    twitterapi_io_key: SecretStr | None = Field(
        None, validation_alias="TWITTERAPI_IO_KEY", description="For learning styles and mentions"
    )
    x_bearer_token: SecretStr | None = Field(
        None, validation_alias="X_BEARER_TOKEN", description="Backup for mentions: X's own API"
    )
    home: Path = Field(Path(".paceline"), description="Where embedded servers keep their data")
    timezone: str = Field("UTC", description="Time zone of days and months in quotas and budgets")
    gateway: GatewaySettings = GatewaySettings()
    limits: LimitSettings = LimitSettings()
    cycle: CycleSettings = CycleSettings()
    activity: ActivitySettings = ActivitySettings()
    controls: ControlSettings = ControlSettings()
    sources: SourceSettings = SourceSettings()
    worker: WorkerSettings = WorkerSettings()
    usage: UsageSettings = UsageSettings()
    alerts: AlertSettings = AlertSettings()
    keep: KeepSettings = KeepSettings()
    app: AppSettings = AppSettings()
    sandbox: SandboxSettings = SandboxSettings()
    web: WebSettings = WebSettings()
    oidc: OidcSettings = OidcSettings()
    flower: FlowerSettings = FlowerSettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Files after the environment: containers and systemd hand secrets over as files of these names."""
        found = [init_settings, env_settings, EnvFile(settings_cls)]
        if folders := secret_folders():
            files = NestedSecretsSettingsSource(
                file_secret_settings,
                secrets_dir=folders,
                secrets_dir_missing="ok",
                env_prefix=PREFIX,
                secrets_prefix=PREFIX,
                secrets_nested_delimiter="__",
            )
            found.append(files)
        return tuple(found)

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
    def kept(self) -> KeepSettings:
        """How long things are kept, with the name of before for calls."""
        if self.usage.keep_days is None or "calls_days" in self.keep.model_fields_set:
            return self.keep
        return self.keep.model_copy(update={"calls_days": self.usage.keep_days})

    @property
    def gateway_url(self) -> str | None:
        """Where to call, or None when only the sandbox is left."""
        if self.gateway.base_url:
            return self.gateway.base_url.rstrip("/")
        return LOVABLE_URL if self.lovable_api_key else None

    @property
    def gateway_key(self) -> str | None:
        """Return the key to call with. LOVABLE_API_KEY goes to Lovable, and to a gateway on this machine; any
        other gateway needs PACELINE_GATEWAY__API_KEY.
        """
        if self.gateway.api_key:
            return self.gateway.api_key.get_secret_value()
        if self.lovable_api_key and self._may_have_lovable_key:
            return self.lovable_api_key.get_secret_value()
        return None

    @property
    def _may_have_lovable_key(self) -> bool:
        return is_lovable(self.gateway_url or "") or _is_on_this_machine(self.gateway_url or "")

    @property
    def withheld_key(self) -> str | None:
        """Why LOVABLE_API_KEY is set and not sent; None when it is sent, or not needed."""
        if self.gateway.api_key or not self.lovable_api_key or self._may_have_lovable_key:
            return None
        host = urlsplit(self.gateway_url or "").hostname
        return f"LOVABLE_API_KEY is not sent to {host}, which is not Lovable's"

    @property
    def gateway_key_name(self) -> str:
        """The setting a person must look at when the key is refused."""
        is_own = self.gateway.api_key or self.withheld_key or not self._may_have_lovable_key
        return "PACELINE_GATEWAY__API_KEY" if is_own else "LOVABLE_API_KEY"


def is_lovable(url: str) -> bool:
    """Whether a gateway is Lovable's, by its host."""
    host = (urlsplit(url).hostname or "").lower()
    return host == "lovable.dev" or host.endswith(".lovable.dev")


def _is_on_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def secret_folders() -> list[Path]:
    """Where secrets may lie as files: systemd's credentials, and where containers mount theirs."""
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    folders = [Path("/run/secrets"), *([Path(given)] if given else [])]
    return [folder for folder in folders if folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)]


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read settings, or raise ConfigError with one line that names the setting and the mend."""
    names = set(os.environ if environ is None else environ)
    names |= {name for name in read_env_file() if name}
    names |= {file.name for folder in secret_folders() for file in folder.iterdir()}
    _refuse_unknown(names)
    try:
        return Settings()
    except SettingsError:
        raise ConfigError(_not_json(environ)) from None
    except ValidationError as error:
        problems = "; ".join(f"{_variable(problem['loc'])}: {problem['msg']}" for problem in error.errors())
        raise ConfigError(f"bad setting: {problems}") from None


def _not_json(environ: Mapping[str, str] | None) -> str:
    """Return the settings of lists and objects that are no JSON, and what they are like."""
    values = {**read_env_file(), **(os.environ if environ is None else environ)}
    found = []
    for name, _, default in variables():
        if values.get(name) and isinstance(default, tuple | dict):
            try:
                json.loads(values[name] or "")
            except ValueError as why:
                shape = 'a list, like ["a"]' if isinstance(default, tuple) else 'an object, like {"a": 1}'
                found.append(f"{name} is no JSON ({why}): it wants {shape}")
    return "bad setting: " + ("; ".join(found) or "one of the lists or objects is no JSON")


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
