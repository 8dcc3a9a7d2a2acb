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
