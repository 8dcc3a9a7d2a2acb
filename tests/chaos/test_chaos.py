"""The bounded storm that every test run goes through. The full one is `make chaos`."""

import tempfile
from pathlib import Path

import pytest

from tests.chaos.__main__ import storm

pytestmark = [pytest.mark.acceptance, pytest.mark.long]


@pytest.mark.plan(15, 55)
def test_nothing_is_lost_and_nothing_done_twice_over_thirty_faults():
    with tempfile.TemporaryDirectory(prefix="pl-") as folder:
        verdict = storm(Path(folder), faults=30, seed=20, pause_s=1.0)
    assert verdict.is_good, verdict
    assert verdict.faults == 30
    assert verdict.calls > 40  # on a busy machine the fleet calls less, and the faults are the same
    assert verdict.gets >= 5
    assert verdict.recoveries >= 1
    assert verdict.slowest_recovery_s <= 45
    assert min(verdict.way_out.rows, verdict.way_out.events) > 20
