"""`paceline shell`: a Python shell with the fleet at hand."""

import code
import sys

from app.cli.output import notes
from app.errors import PacelineError
from app.wiring import workers_entry


class _Console(code.InteractiveConsole):
    def showtraceback(self) -> None:
        """One line for what a person can mend, everything for what only a developer can."""
        error = sys.exception()
        if isinstance(error, PacelineError):
            notes.print(f"paceline: {error}", style="red", markup=False)
        else:
            super().showtraceback()


def shell() -> None:
    """Open a Python shell with run_agent, dispatch, explain, usage, limits and more."""
    names, banner = workers_entry("shell")()
    _complete_with(names)
    _Console(names).interact(banner=banner, exitmsg="")


def _complete_with(names: dict[str, object]) -> None:
    """Tab completes, where this Python has readline or libedit."""
    try:
        import readline  # noqa: PLC0415
        import rlcompleter  # noqa: PLC0415
    except ImportError:
        return
    readline.set_completer(rlcompleter.Completer(names).complete)
    is_libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")
