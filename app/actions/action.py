"""The form of an action: one input, a role, whom it affects, one function. Every face is made from it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine

from app.actions.inputs import Input
from app.admission.controller import Admission
from app.models import Role
from app.settings import Settings
from app.text import storable

Given = Mapping[str, Sequence[str]]
"""A form's fields as they came, not yet checked."""
SHOWN = 12
"""So many names are listed of what an action affects."""


@dataclass(frozen=True, slots=True)
class Desk:
    """Everything that actions work with."""

    settings: Settings
    engine: Engine
    admission: Admission


@dataclass(frozen=True, slots=True)
class Who:
    """The person who acts, and why: a line each, whatever was pasted."""

    name: str
    reason: str

    def __post_init__(self) -> None:
        for name in ("name", "reason"):
            object.__setattr__(self, name, storable(getattr(self, name), 500).strip())


@dataclass(frozen=True, slots=True)
class Done:
    """Result of an action: how many things it was done to, and what is shown this once."""

    count: int = 1
    shown: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that a person may do. Pages ask with a form first, the JSON API takes the same fields, and
    the command line has them as options.
    """

    name: str
    """In addresses: agents-pause."""
    title: str
    role: Role
    """The least role; `needs` may ask for a higher one."""
    ask: type[Input]
    affects: Callable[[Desk, Connection, Given], str]
    do: Callable[[Desk, Any, Who], int | Done | None]
    """Does it, audited with who and why in the transaction that makes the change. None: once."""
    back: str
    """The page that one comes back to."""
    command: str
    """The same on the command line, with an example of its options."""
    chosen: str | None = None
    """The field that names what it is done to: ticked on a page, arguments on the command line."""
    present: Callable[[Desk, Connection], dict[str, Any]] = lambda _desk, _connection: {}
    """Values that the form begins with."""
    needs: Callable[[Desk, Any], Role] | None = None
    """The role that these very fields need, where some need a higher one."""

    @property
    def about(self) -> str:
        """A sentence that says what it does."""
        return self.ask.__doc__ or self.title

    @property
    def hidden(self) -> tuple[str, ...]:
        """The fields that a form carries along and nobody fills in."""
        known = (self.chosen, "version")
        return tuple(name for name in known if name and name in self.ask.model_fields)

    def role_for(self, desk: Desk, ask: Input) -> Role:
        """The role that it takes to do this."""
        return self.needs(desk, ask) if self.needs else self.role

    def run(self, desk: Desk, ask: Input, who: Who) -> Done:
        """Do it."""
        done = self.do(desk, ask, who)
        return done if isinstance(done, Done) else Done(1 if done is None else done)
