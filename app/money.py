"""Dollars and their millionths, in which money is counted."""


def dollars(micros: int | None) -> str:
    """Micro-dollars as dollars, with as many places as it takes to show the amount."""
    if micros is None:
        return "unknown"
    shown = f"${micros / 1e6:,.4f}"
    return f"${micros / 1e6:,.6f}" if micros and micros % 100 and micros < 10_000 else shown


def short_dollars(micros: int | None) -> str:
    """Micro-dollars as dollars for a page or a title: cents, and four places below a dollar."""
    if micros is None:
        return "unknown"
    return f"${micros / 1e6:,.2f}" if micros >= 1_000_000 or not micros else f"${micros / 1e6:.4f}"


def with_held(micros: int) -> str:
    """Return what calls under way hold, to say after what is spent; nothing when they hold nothing."""
    return f" and {dollars(micros)} reserved by calls under way" if micros else ""


def to_micros(usd: float) -> int:
    """Dollars as micro-dollars. More than nothing stays more than nothing: 0 would mean no limit."""
    return max(1, round(usd * 1e6)) if usd > 0 else 0
