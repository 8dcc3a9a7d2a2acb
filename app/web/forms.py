"""Forms from models and back: a field's type says which input it is, its bounds are the browser's, too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from app.actions.inputs import explain_problems, plain_type

YES_NO = {"true": "yes", "false": "no"}


@dataclass(frozen=True, slots=True)
class Input:
    """One input. `kind`: number, text, select, checks, lines or hidden; `values` are what it holds."""

    name: str
    label: str
    kind: str
    values: tuple[str, ...]
    hint: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    is_required: bool = False
    problem: str = ""


def inputs(
    model: type[BaseModel],
    values: Mapping[str, Sequence[str]],
    problems: Mapping[str, str],
    hidden: Sequence[str] = (),
) -> list[Input]:
    """The inputs of a form, the reason last, filled with these values."""
    names = [*(name for name in model.model_fields if name != "reason"), "reason"]
    found = []
    for name in names:
        field = model.model_fields[name]
        kind, choices = _kind(field)
        found.append(
            Input(
                name=name,
                label=field.title or name.replace("_", " "),
                kind="hidden" if name in hidden else kind,
                values=tuple(values.get(name, ())),
                hint=field.description or "",
                choices=choices,
                is_required=field.is_required(),
                problem=problems.get(name, ""),
            )
        )
    return found


def parse(
    model: type[BaseModel], form: Mapping[str, Sequence[str]]
) -> tuple[BaseModel | None, dict[str, str]]:
    """The model that was filled in, or what is wrong, by field. An empty input was not given."""
    given: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        values = [value.strip() for value in form.get(name, ())]
        kind, _ = _kind(field)
        if name not in form:
            continue
        if kind == "lines":
            given[name] = [line.strip() for value in values for line in value.splitlines() if line.strip()]
        elif kind in ("checks", "hidden"):
            given[name] = [value for value in values if value]
        elif values and values[0]:
            given[name] = values[0]
    try:
        return model.model_validate(given), {}
    except ValidationError as error:
        return None, explain_problems(model, error)


def plain(value: object) -> list[str]:
    """A value as a form holds it."""
    if value is None:
        return []
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, list | tuple):
        return [str(item) for item in value]
    is_whole = isinstance(value, float) and value.is_integer()
    return [str(int(value)) if is_whole else str(value)]  # type: ignore[call-overload]


def _kind(field: FieldInfo) -> tuple[str, tuple[tuple[str, str], ...]]:
    kind = plain_type(field.annotation)
    if get_origin(kind) is list:
        (item,) = get_args(kind)
        if get_origin(item) is Literal:
            return "checks", tuple((name, name.replace("_", " ")) for name in get_args(item))
        return ("hidden" if field.is_required() else "lines"), ()
    if kind is bool:
        return "select", tuple(YES_NO.items())
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return "select", tuple((str(name), str(name).replace("_", " ")) for name in kind)
    return ("number" if kind in (int, float) else "text"), ()
