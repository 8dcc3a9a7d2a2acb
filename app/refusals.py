"""Why admission does not allow a call, in words, and what becomes of the run. Stops by a gateway's answer
are in app/kinds.py.
"""

from dataclasses import dataclass

from app import kinds


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason. `passes`: time mends it, so the run is put back; the others end it. `may_end_early`:
    something may end it at any moment, so the run waits for the rest of its cycle.
    """

    code: str
    says: str
    passes: bool = False
    may_end_early: bool = False


REASONS = (
    Reason("wait", "too many calls wait for a permit", passes=True),
    Reason("budget_held", "calls under way hold the rest of a budget", passes=True, may_end_early=True),
    Reason("probing", "one call looks whether the gateway answers again", passes=True, may_end_early=True),
    Reason("paused", "the fleet is paused", passes=True, may_end_early=True),
    Reason("store_away", "Redis does not answer", passes=True, may_end_early=True),
    Reason(kinds.RATE_LIMITED.code, "the gateway asked all calls to wait", passes=True, may_end_early=True),
    Reason("budget_day", "the fleet's budget of the day is used up"),
    Reason("budget_month", "the fleet's budget of the month is used up"),
    Reason("community_budget_day", "the community's budget of the day is used up"),
    Reason("community_budget_month", "the community's budget of the month is used up"),
    Reason("quota", "the agent's LLM tokens of the day are used up"),
    Reason(
        "no_price",
        "a budget is set and the model has no known price, so nothing would hold the budget; "
        "set PACELINE_USAGE__PRICES",
    ),
)
_BY_CODE = {reason.code: reason for reason in REASONS}

EXPIRED = "expired: it had not begun when its cycle ended"
EXPIRED_ADHOC = "expired: it had not begun when its time was over"


def reason_of(code: str) -> Reason:
    """The reason with this code; for a kind of gateway answer, what the table of kinds says."""
    if code in _BY_CODE:
        return _BY_CODE[code]
    kind = kinds.BY_CODE.get(code)
    return Reason(code, kind.title if kind else code)


def say(code: str) -> str:
    """The code, and what it means."""
    return f"{code}: {reason_of(code).says}"
