"""Commands that are imported when they are asked for: `paceline --help` and completion answer at once."""

import ast
import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
from typer.core import CompletionItem, TyperGroup  # type: ignore[attr-defined]
from typer.main import get_command, get_group

FOLDER = Path(__file__).parent


class Commands(Mapping[str, Any]):
    """Name -> command; `places` says where each is, as MODULE:NAME below app.cli. `before` is called once,
    before the first is imported.
    """

    def __init__(self, places: Mapping[str, str], before: Callable[[], None]) -> None:
        self._places, self._before, self._made = places, before, dict[str, Any]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            if not self._made and name in self._places:
                self._before()
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Any:
        module, _, attribute = self._places[name].partition(":")
        found = getattr(importlib.import_module(f"app.cli.{module}"), attribute)
        if isinstance(found, typer.Typer):
            found.rich_markup_mode = None  # as the whole program has it
            command: Any = get_group(found)
        else:
            alone = typer.Typer(add_completion=False, rich_markup_mode=None)
            alone.command(name)(found)
            command = get_command(alone)
        command.name = name
        return command

    def about(self, name: str) -> str:
        """The first sentence of a command's help, read from its source: nothing is imported for a list."""
        module, _, attribute = self._places[name].partition(":")
        for node in ast.parse((FOLDER / f"{module}.py").read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name == attribute:
                return _first(ast.get_docstring(node) or "")
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == attribute:
                assert isinstance(node.value, ast.Call)
                given = {keyword.arg: keyword.value for keyword in node.value.keywords}
                return _first(ast.literal_eval(given["help"]))
        raise LookupError(f"app/cli/{module}.py has no {attribute}")


def _first(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())


def group(places: Mapping[str, str], before: Callable[[], None]) -> type[TyperGroup]:
    """A class of groups for these places."""
    commands = Commands(places, before)

    class Group(TyperGroup):
        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            self.commands = commands  # type: ignore[assignment]

        def format_commands(self, ctx: Any, formatter: Any) -> None:
            """The list of the help."""
            with formatter.section("Commands"):
                formatter.write_dl([(name, commands.about(name)) for name in commands])

        def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
            """Names of commands that begin so."""
            found = [name for name in commands if name.startswith(incomplete)]
            return [CompletionItem(name, help=commands.about(name)) for name in found]

    return Group
