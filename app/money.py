"""Money in words."""


def dollars(micros: int | None) -> str:
    """Micro-dollars as dollars, with as many places as it takes to show the amount."""
    if micros is None:
        return "unknown"
    shown = f"${micros / 1e6:,.4f}"
    return f"${micros / 1e6:,.6f}" if micros and micros % 100 and micros < 10_000 else shown
