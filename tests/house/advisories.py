"""What pip-audit found, in words; that nobody could be asked is no good news, and is said so."""

import json
import sys
from pathlib import Path


def main() -> int:
    """Read its JSON; 0 when every package was looked up and none is known to be vulnerable."""
    try:
        packages = json.loads(Path(sys.argv[1]).read_text())["dependencies"]
    except (ValueError, KeyError, OSError):
        sys.stdout.write("advisories: could not be checked: no answer from the list\n")
        return 2
    asked = [one for one in packages if "skip_reason" not in one]
    bad = [one for one in asked if one.get("vulns")]
    for one in bad:
        for found in one["vulns"]:
            fixed = ", ".join(found.get("fix_versions", ())) or "no version yet"
            sys.stdout.write(f"{one['name']} {one['version']}: {found['id']}, mended in {fixed}\n")
    if len(asked) < len(packages) or not asked:
        sys.stdout.write(
            f"advisories: {len(packages) - len(asked)} of {len(packages)} packages could not be checked\n"
        )
        return 1 if bad else 2
    sys.stdout.write(f"advisories: {len(asked)} packages looked up, {len(bad)} with known vulnerabilities\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
