"""Admission runs on fakeredis too, for those who test their own fleet without a server."""

from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from fakeredis import FakeRedis

from app.admission.controller import Admission, Permit, Refusal, Request, Spent
from app.admission.limits import Limits
from app.admission.values import Verdict


@pytest.fixture
def admission():
    limits = Limits(
        version=1,
        rate=1000.0,
        burst=5,
        max_wait_s=5.0,
        tokens_per_minute=0,
        agent_daily_tokens=100,
        budget_day_micros=0,
        budget_month_micros=0,
        paused_until=None,
    )
    return Admission(
        FakeRedis(decode_responses=True),
        read_limits=lambda: limits,
        read_spent=lambda _: Spent({UUID(int=2): 90}, {}, {}),
        zone=ZoneInfo("UTC"),
        key_fingerprint="test",
        call_s=10,
    )


def ask(admission, agent=1, tokens=30):
    request = Request(uuid4(), uuid4(), UUID(int=agent), False, tokens, 5, "model")
    return admission.acquire(request, lambda: None)


def test_permits_settle_once_and_quotas_hold(admission):
    permit = ask(admission)
    assert isinstance(permit, Permit)
    assert admission.settle(permit, Verdict("ok"), tokens=80, cost_micros=5)
    assert not admission.settle(permit, Verdict("ok"), tokens=80, cost_micros=5)
    refused = ask(admission)
    assert isinstance(refused, Refusal)
    assert refused.reason == "quota"


def test_counters_are_seeded_from_the_ledger(admission):
    assert ask(admission, agent=2).reason == "quota"


def test_402_stops_everybody(admission):
    admission.settle(ask(admission), Verdict("stop", reason="credits_exhausted"), tokens=0, cost_micros=0)
    assert ask(admission, agent=3).reason == "credits_exhausted"
