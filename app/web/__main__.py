"""The dashboard alone: `python -m app.web`, which `paceline up` starts, too."""

import argparse
import sys

from app.errors import PacelineError
from app.settings import get_settings
from app.web import serving


def main() -> None:
    """Serve where the arguments say, else where the settings do."""
    listen = get_settings().web
    parser = argparse.ArgumentParser(prog="python -m app.web", description="Serve the dashboard.")
    parser.add_argument("--host", default=listen.host, help="default: PACELINE_WEB__HOST")
    parser.add_argument("--port", default=listen.port, type=int, help="default: PACELINE_WEB__PORT")
    given = parser.parse_args()
    serving.run(given.host, given.port)


if __name__ == "__main__":
    try:
        main()
    except PacelineError as error:
        sys.stderr.write(f"paceline: {error}\n")
        sys.exit(error.exit_code)
