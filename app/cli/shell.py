"""`paceline shell`: a Python shell with the fleet at hand."""

import code
import readline
import rlcompleter

from app.wiring import workers_entry


def shell() -> None:
    """Open a Python shell with run_agent, dispatch, explain, usage, limits and more."""
    names, banner = workers_entry("shell")()
    readline.set_completer(rlcompleter.Completer(names).complete)
    readline.parse_and_bind("tab: complete")
    code.interact(banner=banner, local=names, exitmsg="")
