"""What a call costs, in integer millionths of a US dollar. Unknown is None, never 0."""

from datetime import datetime
from decimal import ROUND_HALF_UP

from genai_prices import Usage, calc_price


def cost_micros(model: str, tokens_input: int, tokens_output: int, at: datetime) -> int | None:
    """Estimated list price of a call made at that time, by the bundled price table."""
    provider, _, name = model.rpartition("/")
    usage = Usage(input_tokens=tokens_input, output_tokens=tokens_output)
    try:
        price = calc_price(usage, name, provider_id=provider or None, genai_request_timestamp=at)
    except LookupError:
        return None
    return int((price.total_price * 1_000_000).to_integral_value(ROUND_HALF_UP))
