"""Reading `.env`, as a shell reads it: `${HOME}` is expanded, but not between single quotes."""

import re
from collections.abc import Mapping
from pathlib import Path

from dotenv.main import resolve_variables
from dotenv.parser import parse_stream
from pydantic_settings import DotEnvSettingsSource
from pydantic_settings.sources.utils import parse_env_vars

from app.errors import ConfigError

_SINGLE_QUOTED = re.compile(r"\s*(?:export\s+)?[^=\s]+\s*=\s*'")


def read_env_file(path: Path = Path(".env")) -> dict[str, str | None]:
    """Return the file's values; nothing when there is none. Raises ConfigError for a file that is no text."""
    try:
        with path.open(encoding="utf-8") as stream:
            lines = [line for line in parse_stream(stream) if line.key is not None]
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        raise ConfigError(
            f"{path.absolute()} is not UTF-8: save it as UTF-8, without a byte-order mark"
        ) from None
    found = dict(resolve_variables([(str(line.key), line.value) for line in lines], override=True))
    as_written = {str(line.key): line.value for line in lines if _SINGLE_QUOTED.match(line.original.string)}
    return found | as_written


class EnvFile(DotEnvSettingsSource):
    """The same for pydantic-settings, whose own reader expands within single quotes, too."""

    def _read_env_file(self, file_path: Path) -> Mapping[str, str | None]:
        return parse_env_vars(
            read_env_file(file_path), self.case_sensitive, self.env_ignore_empty, self.env_parse_none_str
        )
