"""What a call costs, in integer millionths of a US dollar. Unknown is None, never 0."""

from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal

from genai_prices import Usage, calc_price

from app.settings import UsageSettings

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
    dollars = _own(model, tokens_input, tokens_output, at, settings, cached)
    if dollars is None:
        dollars = _listed(model, tokens_input, tokens_output, at, cached)
    if dollars is None:
        return None
    micros = dollars * MILLION * Decimal(str(settings.price_multiplier))
    return int(micros.to_integral_value(ROUND_HALF_UP))


def _own(
    model: str,
    tokens_input: int,
    tokens_output: int,
    at: datetime,
    settings: UsageSettings,
    cached: int,
) -> Decimal | None:
    valid = [price for price in settings.prices if price.model == model and price.since <= at]
    if not valid:
        return None
    price = max(valid, key=lambda price: price.since)
    of_cached = price.input if price.cached is None else price.cached
    counted = (
        (tokens_input - cached, price.input), (cached, of_cached), (tokens_output, price.output),
    )  # fmt: skip
    return sum((Decimal(count) * rate for count, rate in counted), Decimal(0)) / MILLION


def _listed(
    model: str, tokens_input: int, tokens_output: int, at: datetime, cached: int
) -> Decimal | None:
    provider, _, name = model.rpartition("/")
    usage = Usage(
        input_tokens=tokens_input, output_tokens=tokens_output, cache_read_tokens=cached or None
    )
    try:
        price = calc_price(usage, name, provider_id=provider or None, genai_request_timestamp=at)
    except (LookupError, ValueError):
        return None
    return price.total_price
