"""Common parts of the inputs of actions: a reason, bounds, and what is wrong with a field in plain words."""

from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, MaxLen, MinLen
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic.fields import FieldInfo

from app.bounds import INT_MAX
from app.errors import ConfigError

Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
Handle = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80)]

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
    """Return the problem of each field, as a sentence that says what is allowed."""
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
    said = allowed(field)
    if not said and "expected" in problem.get("ctx", {}):
        said = f"one of {problem['ctx']['expected']}"
    return f"Invalid value {shown!r} for {label}: {said or problem['msg']}"


def _inner_metadata(annotation: Any) -> list[Any]:
    """Bounds of the type behind `| None`."""
    return [
        bound
        for part in (annotation, *getattr(annotation, "__args__", ()))
        for mark in getattr(part, "__metadata__", ())
        for bound in getattr(mark, "metadata", [mark])
    ]


def allowed(field: FieldInfo) -> str:
    """A field's bounds in words: `0.001 to 100,000`; empty when it has none."""
    bounds = field.metadata + _inner_metadata(field.annotation)
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


def plain_type(annotation: Any) -> Any:
    """The type behind `| None` and `Annotated`."""
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation = get_args(annotation)[0]
        elif origin in (Union, UnionType):
            (annotation,) = (one for one in get_args(annotation) if one is not NoneType)
        elif origin is list and get_origin(get_args(annotation)[0]) is Annotated:
            return list[plain_type(get_args(annotation)[0])]  # type: ignore[misc]
        else:
            return annotation


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
        None, ge=0, le=INT_MAX, description="the version that was looked at; refused when it is no longer so"
    )
