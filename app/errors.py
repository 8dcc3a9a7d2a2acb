"""The errors a person may see. Each message is one line that says what to do about it.

`exit_code` is what the command line ends with; docs/cli.md lists them all.
"""


class PacelineError(Exception):
    """Something a person can mend; shown without a traceback."""

    exit_code = 1


class ConfigError(PacelineError):
    """A setting is missing, unknown or impossible."""

    exit_code = 2


class CameToNothing(PacelineError):
    """Everything went in order, and a limit or the gateway allowed nothing."""

    exit_code = 3


class RunFailed(PacelineError):
    """A run that did not come to its end. The message says why."""


class NotFound(PacelineError):
    """No such agent, run or file."""

    exit_code = 4


class Unreachable(PacelineError):
    """A server does not answer; trying again later may help."""

    exit_code = 75


class NotYet(Unreachable):
    """The action is done and stored, and takes effect when a server answers again: nothing to repeat.
    `done`: to how many.
    """

    exit_code = 3

    def __init__(self, message: str, done: int = 1) -> None:
        super().__init__(message)
        self.done = done


class MigrationsPending(PacelineError):
    """The database schema is not the one this program was written for."""

    exit_code = 3


class PortTaken(PacelineError):
    """Another program listens where one of ours should."""

    exit_code = 1
