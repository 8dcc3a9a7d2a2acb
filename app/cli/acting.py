"""A command made from an action: its fields are the arguments and options, with their bounds in the help."""

from collections.abc import Callable, Mapping
from datetime import datetime
from inspect import Parameter, Signature
from typing import Annotated, Any, Optional

import typer
from pydantic.fields import FieldInfo

from app.actions import Action, Desk, Done, find
from app.actions.inputs import allowed, given, plain_type
from app.cli.connect import database, desk, me
from app.cli.output import data, notes, print_json
from app.settings import get_settings

MOMENTS = [
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%dT%H:%M%z",
    "%Y-%m-%dT%H:%M:%S%z",
]
"""How a moment may be written."""

METAVARS: dict[Any, str] = {datetime: "MOMENT", float: "NUMBER", int: "NUMBER", list[str]: "TEXT"}

Told = Callable[[Any, Done], str]
"""Return the line that says what was asked and what came of it."""


def act(
    name: str,
    told: Told | None = None,
    *,
    after: Callable[[Desk, bool], None] | None = None,
    options: Mapping[str, str] | None = None,
    fixed: Mapping[str, Any] | None = None,
    help: str | None = None,
) -> Callable[..., None]:
    """A function for typer. `told` says in a line what was done, or `after` shows how things stand then (as
    JSON when true); `options` names options that are not called as their field, `fixed` gives fields that
    this command does not ask for.
    """
    action, settled = find(name), dict(fixed or {})

    def command(*, reason: str, as_json: bool, **asked: Any) -> None:
        ask = given(action.ask, reason, **settled, **asked)
        settings = get_settings()
        with database(settings) as engine:
            at = desk(settings, engine)
            done = action.run(at, ask, me(reason))
            if after is not None:
                after(at, as_json)
                return
        if as_json:
            print_json({"done": done.count, **({"shown": done.shown} if done.shown else {})})
            return
        data.print(told(ask, done) if told else f"{done.count} done", markup=False)
        for what, value in done.shown.items():
            data.print(f"{what}: {value}", markup=False)
        if done.shown and any(value.startswith("whsec_") for value in done.shown.values()):
            notes.print("a secret is shown this once", style="dim")

    command.__doc__ = help or action.about
    command.__name__ = name.replace("-", "_")
    command.__signature__ = _signature(action, settled, options or {})  # type: ignore[attr-defined]
    command.__annotations__ = {}
    return command


def _signature(action: Action, settled: Mapping[str, Any], options: Mapping[str, str]) -> Signature:
    found = []
    for name, field in action.ask.model_fields.items():
        if name in ("reason", "version") or name in settled:
            continue
        is_argument = name == action.chosen or field.is_required()
        found.append(_parameter(name, field, options.get(name), is_argument=is_argument))
    found.sort(key=lambda one: one.default is not Parameter.empty)
    why = Annotated[str, typer.Option(help="Why; goes into the audit log")]
    json = Annotated[bool, typer.Option("--json", help="Print JSON")]
    return Signature(
        [
            *found,
            Parameter("reason", Parameter.KEYWORD_ONLY, default="", annotation=why),
            Parameter("as_json", Parameter.KEYWORD_ONLY, default=False, annotation=json),
        ]
    )


def _parameter(name: str, field: FieldInfo, option: str | None, *, is_argument: bool) -> Parameter:
    kind = plain_type(field.annotation)
    metavar = METAVARS.get(kind)
    if is_argument:
        declared: Any = typer.Argument(help=_about(field), metavar=name.upper())
        return Parameter(name, Parameter.KEYWORD_ONLY, annotation=Annotated[kind, declared])
    formats = MOMENTS if kind is datetime else None
    names = [option] if option else []
    declared = typer.Option(*names, help=_about(field), metavar=metavar, formats=formats)
    annotation = Annotated[Optional[kind], declared]  # type: ignore[valid-type]  # noqa: UP045
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _about(field: FieldInfo) -> str:
    """`Dollars per day (0 to 1,000,000,000); 0: no limit`."""
    title = field.title or ""
    bounds = "" if field.is_required() else allowed(field)
    told = title[:1].upper() + title[1:] + (f" ({bounds})" if bounds else "")
    return "; ".join(part for part in (told, field.description) if part)
