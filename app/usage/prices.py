"""Price of a call, in integer millionths of a US dollar. Unknown is None, never 0."""

from collections.abc import Sequence
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import Any

from app.settings import UsageSettings
from app.settings.groups import Price

MILLION = Decimal(1_000_000)


def cost_micros(
    model: str,
    tokens_input: int,
    tokens_output: int,
    at: datetime,
    settings: UsageSettings,
    *,
    cached: int = 0,
) -> int | None:
    """Estimated price of a call made at that time: by the operator's own prices when they name the model,
    else by the bundled list prices; times the operator's multiplier. `cached` is a part of the input.
    """
    micros = exact_micros(model, tokens_input, tokens_output, at, settings, cached=cached)
    return None if micros is None else int(micros.to_integral_value(ROUND_HALF_UP))


def exact_micros(
    model: str,
    tokens_input: int,
    tokens_output: int,
    at: datetime,
    settings: UsageSettings,
    *,
    cached: int = 0,
) -> Decimal | None:
    """The same, not rounded: for the sum of many calls. A price may rise with a call's length, so a sum of
    LLM tokens has no price.
    """
    minute = at.replace(second=0, microsecond=0)
    price = _own(model, at, settings) or _flat(model, minute)
    if price:
        of_cached = price.input if price.cached is None else price.cached
        micros = (tokens_input - cached) * price.input + cached * of_cached + tokens_output * price.output
    else:
        dollars = _listed(model, tokens_input, tokens_output, at, cached)
        if dollars is None:
            return None
        micros = dollars * MILLION
    return micros * Decimal(str(settings.price_multiplier))


def is_believable(reported: int, listed: int | None, tokens: int) -> bool:
    """Whether a cost in micro-dollars that a gateway reports can be true. `listed` is the list price of the
    call, where there is one: a hundred times as much, and ten dollars for what a request costs beside its
    tokens, is the most. Without one the dearest model there is, at 1,000 dollars per million tokens, counts.
    """
    return reported <= 10_000_000 + (tokens * 1_000 if listed is None else 100 * listed)


def models_without_price(models: Sequence[str], at: datetime, settings: UsageSettings) -> list[str]:
    """Those of the models whose calls have no known price."""
    return [model for model in models if cost_micros(model, 1, 1, at, settings) is None]


def _own(model: str, at: datetime, settings: UsageSettings) -> Price | None:
    valid = [price for price in settings.prices if price.model == model and price.since <= at]
    return max(valid, key=lambda price: price.since) if valid else None


@lru_cache(maxsize=256)
def _flat(model: str, minute: datetime) -> Price | None:
    """The list price that held in that minute, if it is the same for any number of LLM tokens.

    Looking it up takes as long as a database statement (0.07 ms), and each call needs it twice.
    """
    found = _look_up(model, minute, {})
    if found is None:
        return None
    found = found.model_price
    input_, output, cached = found.input_mtok, found.output_mtok, found.cache_read_mtok
    if found.requests_kcount or not (isinstance(input_, Decimal) and isinstance(output, Decimal)):
        return None
    if not (cached is None or isinstance(cached, Decimal)):
        return None
    return Price(model=model, input=input_, output=output, cached=cached)


def _listed(model: str, tokens_input: int, tokens_output: int, at: datetime, cached: int) -> Decimal | None:
    tokens = {
        "input_tokens": tokens_input,
        "output_tokens": tokens_output,
        "cache_read_tokens": cached or None,
    }
    price = _look_up(model, at, tokens)
    return Decimal(price.total_price) if price else None


def _look_up(model: str, at: datetime, tokens: dict[str, int | None]) -> Any:
    """The price of so many LLM tokens by the bundled list; None when it has no such model."""
    # All prices of all providers: imported where one is looked up, because most commands need none.
    from genai_prices import Usage, calc_price  # noqa: PLC0415

    provider, _, name = model.rpartition("/")
    try:
        return calc_price(Usage(**tokens), name, provider_id=provider or None, genai_request_timestamp=at)
    except (LookupError, ValueError):
        return None
