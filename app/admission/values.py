"""Values of admission's rules: the limits, a question, a booking, and what an answer means for others.

Times are integer microseconds. LLM tokens and micro-dollars are integers. The rate is in thousandths of a
call per second.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Config:
    """Limits that an operator sets; 0 means no limit."""

    rate: int
    burst: int = 1
    horizon: int = 5_000_000
    tpm: int = 0
    quota: int = 0
    day_budget: int = 0
    month_budget: int = 0
    paused: int = 0


@dataclass(frozen=True, slots=True)
class Ask:
    """One question for admission."""

    rid: str
    agent: str
    lane: int = 1
    est: int = 0
    cost: int = 0
    """Micro-dollars at most; -1: the model has no known price."""
    ticket: int = 0
    quota: int = -1
    day_left: int = 1
    month_left: int = 1
    lease: int = 60_000_000
    key: str = "key"
    model: str = "model"
    place: str = "-"
    place_day: int = 0
    place_month: int = 0
    obeys: bool = True
    """Budgets refuse; else they are only counted."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Meaning of the gateway's answer for other calls: `effect` is ok, failed, void, pause, stop or
    drop_model.
    """

    effect: str
    span: int = 0
    """Microseconds to pause, or until a stop's limit begins anew; 0: unknown."""
    reason: str = ""
    is_of_key: bool = False
    runs_to_confirm: int = 1


@dataclass(frozen=True, slots=True)
class Mark:
    """How many runs in a row saw the same, and the last of them."""

    runs: int
    reason: str
    last: str


@dataclass(frozen=True, slots=True)
class Reservation:
    """A reservation, by its request id."""

    agent: str
    est: int
    cost: int
    slot: int
    gen: int
    started: bool
    vf: int
    rc: int
    exp: int
    place: str
