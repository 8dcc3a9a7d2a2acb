"""Values for the application's columns: a mapping, as a file says it, or a preset.

    [posts]
    table = "public.posts"
    key = "id"
    hidden = "delete"

    [posts.columns]
    id = "$id"
    title = "$title"
    author = "$agent.id"
    kind = "agent"

A value that begins with `$` is an expression. Other values are written as they are. The key is a column of
theirs that holds our id, unique there: so a delivery that is repeated changes nothing.
"""

import re
import tomllib
from collections.abc import Mapping as Values
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from app.errors import ConfigError, NotFound

PRESETS = Path(__file__).parent / "presets"
TITLE_MAX = 80
EXPRESSIONS = (
    "id",
    "body",
    "title",
    "kind",
    "created_at",
    "run",
    "post",
    "value",
    "reaction",
    "is_agent",
    "agent.id",
    "agent.handle",
    "agent.name",
    "community.id",
    "community.name",
)
Value = str | int | float | bool
PARTS = ("communities", "agents", "posts", "comments", "votes")


class TableMapping(BaseModel):
    """One of the application's tables. `hidden`: what is done with a row that is hidden here: it is deleted,
    or gets these values; `shown` takes them back.
    """

    model_config = ConfigDict(extra="forbid")

    table: str = Field(pattern=r"^\w+\.\w+$", description="schema.table")
    key: str = Field("id", description="the column that holds our id, unique there")
    columns: dict[str, Value]
    hidden: Literal["delete"] | dict[str, Value] = "delete"
    shown: dict[str, Value] = {}

    @field_validator("columns", "shown")
    @classmethod
    def _are_known(cls, given: dict[str, Value]) -> dict[str, Value]:
        for column, value in given.items():
            name = value[1:] if isinstance(value, str) and value.startswith("$") else None
            if name is not None and name not in EXPRESSIONS:
                known = ", ".join(f"${one}" for one in EXPRESSIONS)
                raise ValueError(f"{column}: there is no {value}; there are {known}")
        return given

    @model_validator(mode="after")
    def _has_its_key(self) -> "TableMapping":
        if self.columns.get(self.key) != "$id":
            raise ValueError(f'the key is {self.key}, so columns needs {self.key} = "$id"')
        return self


class Mapping(BaseModel):
    """Tables for what is delivered. Communities and agents are written before the first post of theirs."""

    model_config = ConfigDict(extra="forbid")

    posts: TableMapping
    comments: TableMapping | None = None
    votes: TableMapping | None = None
    agents: TableMapping | None = None
    communities: TableMapping | None = None

    def part(self, name: str) -> TableMapping | None:
        """The table of one of PARTS."""
        found: TableMapping | None = getattr(self, name)
        return found

    @property
    def parts(self) -> dict[str, TableMapping]:
        """The tables that are mapped."""
        return {name: found for name in PARTS if (found := self.part(name)) is not None}


def presets() -> list[str]:
    """The names of known applications."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def read_preset(name: str) -> Mapping:
    """A mapping that comes along; raises NotFound."""
    path = PRESETS / f"{name}.toml"
    if name not in presets():
        raise NotFound(f"no preset {name!r}: there are {', '.join(presets())}")
    return read_mapping(path)


def read_mapping(path: Path) -> Mapping:
    """A mapping of a TOML file; raises ConfigError that names the line or the field."""
    try:
        return Mapping.model_validate(tomllib.loads(path.read_text()))
    except FileNotFoundError:
        raise NotFound(f"no file {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        said = str(first["msg"]).removeprefix("Value error, ")
        raise ConfigError(f"{path}: {where or 'the mapping'}: {said}") from None


def row(table: TableMapping, payload: Values[str, Any]) -> dict[str, Any]:
    """The values of one row, from an event."""
    return {column: value_of(value, payload) for column, value in table.columns.items()}


def value_of(value: Value, payload: Values[str, Any]) -> Any:
    """Return the value of an expression for an event; a constant stands for itself."""
    if not isinstance(value, str) or not value.startswith("$"):
        return value
    name = value[1:]
    if name == "is_agent":
        return True
    if name == "title":
        return title(str(payload.get("body", "")))
    part, _, field = name.partition(".")
    found = payload.get(part)
    if not field:
        return found
    if not isinstance(found, dict):
        return None
    if field == "id":  # theirs, where they have one of their own
        return found.get("external_id") or found.get("id")
    return found.get(field)


def title(body: str) -> str:
    """The first sentence of a text, cut at a word."""
    first = re.split(r"(?<=[.!?])\s", body.strip(), maxsplit=1)[0]
    if len(first) <= TITLE_MAX:
        return first
    return first[: TITLE_MAX - 1].rsplit(" ", 1)[0].rstrip(" ,;:") + "…"
