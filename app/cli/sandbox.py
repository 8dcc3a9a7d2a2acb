"""`paceline sandbox`: the gateway to play with."""

from math import isfinite
from typing import Annotated, Any

import httpx2
import typer

from app.cli.output import data, notes
from app.errors import ConfigError, PortTaken
from app.settings import get_settings
from app.wiring import find_addresses

app = typer.Typer(
    help="Run an OpenAI-compatible gateway with a strict rate limit, credits, faults and a tally.",
    rich_markup_mode=None,
    invoke_without_command=True,
)
Address = Annotated[
    str, typer.Option("--url", help="The sandbox; default: the one that this fleet calls", metavar="URL")
]
MANY = 1_000_000_000
ENDS = "`paceline sandbox calm` ends it"


def _finite(given: float | None) -> float | None:
    """No number that never ends: `nan` and `inf` pass the bounds of an option."""
    if given is not None and not isfinite(given):
        raise typer.BadParameter("a number with an end")
    return given


@app.callback()
def sandbox(
    context: typer.Context,
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
    """Serve, unless a command for a running sandbox was given."""
    if context.invoked_subcommand:
        return
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


@app.command()
def fault(
    kind: Annotated[
        str,
        typer.Argument(help="A status such as 429, or hang, garbage, half, empty, trickle", metavar="KIND"),
    ],
    for_s: Annotated[
        float | None,
        typer.Option("--for", help="Seconds that it lasts", min=0.001, max=86_400, callback=_finite),
    ] = None,
    count: Annotated[
        int | None, typer.Option(help="Calls that it hits; default: 1, with --for all", min=1)
    ] = None,
    retry_after: Annotated[
        float | None, typer.Option(help="Seconds named in Retry-After", min=0, max=86_400, callback=_finite)
    ] = None,
    body: Annotated[str | None, typer.Option(help="Body of the answer")] = None,
    model: Annotated[str | None, typer.Option(help="Only calls of this model")] = None,
    url: Address = "",
) -> None:
    """Let the running sandbox misbehave: answer 429, 402 or 500, say nothing, break off."""
    if kind.isdecimal() and not 200 <= int(kind) <= 599:
        raise typer.BadParameter("a status is 200 to 599", param_hint="KIND")
    hits = count or (MANY if for_s else 1)
    given: dict[str, Any] = {"kind": kind, "count": hits, "for_s": for_s, "model": model}
    if kind.isdecimal():
        given |= {"kind": "status", "status": int(kind)}
    if retry_after is not None:
        given["headers"] = {"retry-after": f"{retry_after:g}"}
    if body is not None:
        given["body"] = body
    _ask("POST", "faults", url, given)
    what = f"answered {kind}" if kind.isdecimal() else f"hit by {kind}"
    if count is None and for_s:
        data.print(f"all calls of the next {for_s:g} s are {what}; {ENDS}")
    else:
        calls = "call is" if hits == 1 else f"{hits:,} calls are"
        data.print(f"the next {calls} {what}{f', for {for_s:g} s at most' if for_s else ''}; {ENDS}")


@app.command()
def credits(
    dollars: Annotated[
        float, typer.Argument(help="Dollars that are left; then it answers 402", min=0, callback=_finite)
    ],
    url: Address = "",
) -> None:
    """Set the credits that the running sandbox has left."""
    _ask("PUT", "rules", url, {"credits": dollars})
    data.print(f"${dollars:g} are left in the sandbox; {ENDS}")


@app.command()
def latency(
    seconds: Annotated[
        float, typer.Argument(help="Seconds that an answer takes", min=0, max=3_600, callback=_finite)
    ],
    url: Address = "",
) -> None:
    """Set how long the running sandbox takes for an answer."""
    _ask("PUT", "rules", url, {"latency_s": seconds})
    data.print(f"the sandbox answers after {seconds:g} s")


@app.command()
def calm(url: Address = "") -> None:
    """End all faults of the running sandbox, and give it endless credits."""
    _ask("DELETE", "faults", url)
    _ask("PUT", "rules", url, {"credits": None})
    data.print("the sandbox has no fault, and endless credits")


def _ask(method: str, what: str, url: str, given: object = None) -> None:
    """Ask the sandbox; raises ConfigError where there is none, with what it says of a wrong request."""
    settings = get_settings()
    base = url or settings.gateway_url or find_addresses(settings).gateway_url
    if not base:
        raise ConfigError("no sandbox runs here: start `paceline up` or `paceline sandbox`, or give --url")
    base = base.removesuffix("/").removesuffix("/v1")
    try:
        with httpx2.Client(trust_env=False, timeout=10) as client:
            answer = client.request(method, f"{base}/sandbox/{what}", json=given)
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        raise ConfigError(f"no sandbox answers at {base} ({error}): give its --url") from None
    if answer.status_code == 400:
        raise ConfigError(f"the sandbox refused it: {answer.json()['error']['message']}")
    if answer.status_code != 200:
        raise ConfigError(f"the gateway at {base} is no sandbox: faults are for the sandbox alone")
