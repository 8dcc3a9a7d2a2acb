"""`paceline sandbox`: the gateway to play with."""

from typing import Annotated

import typer

from app.cli.output import notes
from app.errors import PortTaken
from app.settings import get_settings


def sandbox(
    host: Annotated[str, typer.Option(help="Address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes any", min=0, max=65535)] = 8999,
    rate: Annotated[float | None, typer.Option(help="Calls per second; default: the cap")] = None,
    capacity: Annotated[int | None, typer.Option(help="Burst; default: max(2, rate/10)", min=1)] = None,
    latency: Annotated[float | None, typer.Option(help="Seconds per answer", min=0)] = None,
    credits_usd: Annotated[float | None, typer.Option("--credits", help="Dollars until 402", min=0)] = None,
    retry_after: Annotated[float | None, typer.Option(help="Seconds named with a 429", min=0)] = None,
    key: Annotated[str | None, typer.Option(help="Answer 401 to any other key")] = None,
    unlimited: Annotated[bool, typer.Option("--unlimited", help="No rate limit at all")] = False,
) -> None:
    """Run an OpenAI-compatible gateway with a strict rate limit, credits, scripted faults and a tally."""
    # A server of its own, which no other command needs to load.
    from app.gateway.sandbox import server  # noqa: PLC0415
    from app.gateway.sandbox.state import Rules  # noqa: PLC0415

    settings = get_settings()
    chosen = settings.sandbox
    strict_rate = rate or chosen.rate or settings.limits.rate
    rules = Rules(
        rate=strict_rate,
        capacity=capacity or chosen.capacity or max(2, int(strict_rate / 10)),
        latency_s=chosen.latency_s if latency is None else latency,
        credits=chosen.credits if credits_usd is None else credits_usd,
        retry_after_s=retry_after,
        key=key,
        unlimited=unlimited,
    )
    try:
        listener = server.listen(host, port)
    except OSError as error:
        raise PortTaken(f"cannot listen on {host}:{port} ({error.strerror}): choose another --port") from None
    address = f"http://{host}:{listener.getsockname()[1]}"
    limit = "no limit" if unlimited else f"{rules.rate:g} calls/s, burst {rules.capacity}"
    notes.print(f"sandbox gateway on {address}/v1 ({limit}); its tally: {address}/sandbox/tally")
    server.run(listener, rules)
