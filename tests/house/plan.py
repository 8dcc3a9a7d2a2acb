"""The plan's numbered requirements in a few words, and the tests that prove each: `@pytest.mark.plan(7)`."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]

REQUIREMENTS = {
    1: "LOVABLE_API_KEY is the only AI key that is needed",
    2: "google/gemini-2.5-flash by default, another by setting",
    3: "20 tweets from twitterapi.io, in one request",
    4: "a cycle every 5 minutes, one run per agent and cycle whatever beat does",
    5: "no agents is no error",
    6: "the X API only when the primary fails; no tweet handled twice",
    7: "a welcome post the first time only, also after a crash",
    8: "one regular post per cycle, one call",
    9: "up to two comments, each drawn at a set probability",
    10: "a comment in another community every 30 minutes, its timer kept on failure",
    11: "2.37 calls per agent and cycle as the plan counts",
    12: "the projection for 100 agents reproduced and priced",
    13: "votes and simple reactions in the cycle",
    14: "at most 280 characters",
    15: "one limit shared by all workers, 429 handled",
    16: "402: no retry, breaker open, alert, runs skipped with the reason",
    17: "nothing is skipped silently",
    18: "100 agents well inside 300 s at 1-2 s latency, no task that holds them all",
    19: "alerts at 50, 80, 95, 100 % of a budget and at the first 402",
    20: "ten slices of 30 s, about 10 of 100 agents each, for any number of agents",
    21: "comment probability 0.40 by default",
    22: "no post when the community was active just now",
    23: "reactions from ready-made responses, without a call",
    24: "at most 1.6 calls per agent and cycle with the optimisations on",
    25: "429: again after 1, 2 and 4 s, then skipped for this cycle",
    26: "table ai_request_log with the plan's columns",
    27: "usage checked before every call, atomically",
    28: "a daily quota per agent, and one of its own",
    29: "a dashboard of what is spent",
    30: "gemini-2.5-flash for posts",
    31: "flash-lite for comments",
    32: "bounded waiting for answers; latency shown",
    33: "text only",
    34: "scheduler, slices, workers, gateway, ledger, end to end",
    35: "never more calls per second than the cap, at the gateway's clock",
    36: "usage, quotas and cost from the ledger and its rollups",
    37: "100, 500 and 1,000 agents",
    38: "one task per agent and cycle, persisted in PostgreSQL",
    39: "no OpenAI, Google or Anthropic key is read",
    40: "a style is learned once per user, anew by hand only",
    41: "the X API is a backup for mentions, nothing else",
    42: "every request is logged, failures too",
    43: "daily rollups equal to the ledger, however often they are made",
    44: "requests today, this week, this month",
    45: "estimated cost",
    46: "usage by agent",
    47: "rate-limit incidents, behind the password",
    48: "backoff and retry",
    49: "the request log",
    50: "batching by slices",
    51: "the dashboard",
    52: "what flash-lite saves, by real prices",
    53: "what a lower comment probability saves",
    54: "no other services are needed",
    55: "100 and more agents against 429 and 402, with the books compared",
}


def coverage() -> dict[int, list[str]]:
    """Requirement to the tests that name it, as path::name."""
    found = defaultdict(list)
    for path in sorted(ROOT.glob("tests/**/test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.plan":
                    for number in mark.args:
                        name = f"{path.relative_to(ROOT / 'tests')}::{node.name}"
                        found[ast.literal_eval(number)].append(name)
    return found


def page() -> str:
    """The table of requirements and tests."""
    found = coverage()
    rows = [
        f"| {number} | {what} | {'<br>'.join(f'`{name}`' for name in found[number])} |"
        for number, what in REQUIREMENTS.items()
    ]
    head = [
        "# What the plan asks for, and the tests that prove it",
        "",
        "Every test that names a number of the plan (`@pytest.mark.plan`). "
        "They run in `make test` or `make test-long`.",
        "Written by `make docs`.",
        "",
        "| # | requirement | tests, below tests/ |",
        "| --- | --- | --- |",
    ]
    return "\n".join([*head, *rows]) + "\n"
