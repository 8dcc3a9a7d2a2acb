"""Cost of an answer, as gateways really send it. Pure.

Gateways differ: some leave thinking tokens out of `completion_tokens`, some send numbers as text, some send
only a total. Numbers that contradict each other are read as the larger cost and named in `problem`.
"""

import math
from typing import Any

from app.gateway import TokenUsage, Usage
from app.text import storable

COST_MAX_USD = 10_000.0
INPUT = ("prompt_tokens", "input_tokens")
OUTPUT = ("completion_tokens", "output_tokens")
TOTAL = ("total_tokens",)
PROBLEM_MAX = 300


def read_usage(data: Any, tokens_max: int) -> Usage:
    """Read the usage of an answer. `tokens_max` is the most that input and output together can be."""
    usage = data.get("usage") if isinstance(data, dict) else None
    if not isinstance(usage, dict):
        return Usage()
    told: list[str] = []
    tokens = _tokens(usage, told)
    if tokens and not 0 < tokens.input + tokens.output <= tokens_max:
        told.append("implausible")
        tokens = None
    cost = _cost_of(usage, told)
    problem = None
    if told:
        sent = {name: usage[name] for name in (*INPUT, *OUTPUT, *TOTAL, "cost") if name in usage} | {
            part: value
            for group, part in (*_CACHED, *_REASONING)
            if (value := _part_as_sent(usage, group, part)) is not None
        }
        problem = storable(f"{', '.join(dict.fromkeys(told))}: {sent}", PROBLEM_MAX)
    return Usage(tokens, cost, problem)


_CACHED = (
    ("prompt_tokens_details", "cached_tokens"),
    ("input_tokens_details", "cached_tokens"),
    ("", "cached_tokens"),
    ("", "prompt_cache_hit_tokens"),
)
_REASONING = (
    ("completion_tokens_details", "reasoning_tokens"),
    ("output_tokens_details", "reasoning_tokens"),
)
"""Where a part of the input or output is told: group and field; without a group, beside the others."""


def _tokens(usage: dict[str, Any], told: list[str]) -> TokenUsage | None:
    sent, answered, total = (_count_of(usage, names, told) for names in (INPUT, OUTPUT, TOTAL))
    cached = _first_part(usage, _CACHED, told)
    reasoning = _first_part(usage, _REASONING, told)
    if sent is not None and usage.get("prompt_tokens") is None:  # Anthropic counts what it cached apart
        read, made = (_count(usage.get(f"cache_{verb}_input_tokens"), told) for verb in ("read", "creation"))
        sent += (read or 0) + (made or 0)
        cached = read if cached is None else cached
    if sent is None and answered is not None and total is not None and total >= answered:
        sent = total - answered
    if sent is None:
        if answered is not None or total is not None:
            told.append("incomplete")
        return None
    if answered is None:
        if total is None or total < sent:
            told.append("incomplete" if total is None else "contradictory")
            return None
        output = total - sent
    else:
        output = answered
        if total is not None and total - sent > answered:
            output = total - sent
            if reasoning is None:
                reasoning = output - answered
            elif reasoning not in (output, output - answered):
                told.append("contradictory")
        elif total is not None and total < sent + answered:
            told.append("contradictory")
        if reasoning is not None and reasoning > output:  # counted beside the answer
            output = answered + reasoning
            if total is not None:
                told.append("contradictory")
    if cached is not None and cached > sent:
        told.append("contradictory")
        cached = None
    return TokenUsage(sent, output, cached, reasoning)


def _count_of(usage: dict[str, Any], names: tuple[str, ...], told: list[str]) -> int | None:
    """The count by the first of its names that says more than 0: some gateways send both, one empty."""
    counts = [_count(usage[name], told) for name in names if usage.get(name) is not None]
    return next((count for count in counts if count), counts[0] if counts else None)


def _count(value: Any, told: list[str]) -> int | None:
    """A whole number that is not negative: 100, 100.0 or "100". None when it is nothing of that."""
    if value is None:
        return None
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        value = int(value.strip()[:30])
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    told.append("unreadable")
    return None


def _first_part(usage: dict[str, Any], places: tuple[tuple[str, str], ...], told: list[str]) -> int | None:
    found = (_part_as_sent(usage, group, name) for group, name in places)
    return _count(next((value for value in found if value is not None), None), told)


def _part_as_sent(usage: dict[str, Any], group: str, name: str) -> Any:
    details = usage.get(group) if group else usage
    return details.get(name) if isinstance(details, dict) else None


def _cost_of(usage: dict[str, Any], told: list[str]) -> int | None:
    """Return the cost of the call, as the gateway says it. With a key of one's own (OpenRouter's BYOK) `cost`
    is its fee, and what the provider takes comes beside it.
    """
    sent = usage.get("cost")
    if isinstance(sent, dict):  # Perplexity
        sent = sent.get("total_cost")
    cost = _cost(sent, told)
    details = usage.get("cost_details")
    if usage.get("is_byok") is True and isinstance(details, dict):
        upstream = _cost(details.get("upstream_inference_cost"), told)
        if upstream is not None:
            cost = (cost or 0) + upstream
    return cost


def _cost(value: Any, told: list[str]) -> int | None:
    """Dollars that the gateway itself reports, in micro-dollars."""
    if value is None:
        return None
    try:
        dollars = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        dollars = math.nan
    if isinstance(value, str) and "_" in value:  # Python alone takes 1_000 for a number
        dollars = math.nan
    if isinstance(value, bool) or not 0 <= dollars <= COST_MAX_USD:
        told.append("unreadable")
        return None
    return round(dollars * 1e6)
