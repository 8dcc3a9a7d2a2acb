"""Figures that more than one bench computes."""

from collections.abc import Sequence


def peak_in_a_second(at: Sequence[float]) -> int:
    """The most moments in any closed second; `at` is sorted."""
    peak = first = 0
    for last, moment in enumerate(at):
        while moment - at[first] > 1.0:
            first += 1
        peak = max(peak, last - first + 1)
    return peak


def each_of(calls: int, cpu_s: float, took_s: float) -> dict[str, float]:
    """Return the cost of one of so many calls, and how many there were in a second."""
    return {"cpu_ms_per_call": round(1000 * cpu_s / calls, 3), "calls_per_s": round(calls / took_s, 1)}
