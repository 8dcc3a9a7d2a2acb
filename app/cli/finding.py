"""Findings of `paceline doctor`: one line each."""

from dataclasses import dataclass

CLOCK_SKEW_S = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One check. `level` is ok, warning or error; a mend goes with what is not ok."""

    check: str
    level: str
    says: str
    mend: str = ""


def clock(check: str, server: str, skew_s: float) -> Finding:
    """How far this machine's clock and a server's are apart."""
    if skew_s <= CLOCK_SKEW_S:
        return Finding(check, "ok", f"in step with {server}")
    said = f"this machine and {server} are {skew_s:.1f} s apart"
    return Finding(check, "warning", said, "keep clocks in step (NTP): slices open late otherwise")
