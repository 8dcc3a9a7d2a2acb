"""The small periodic jobs around admission. Each returns what it did."""

from dataclasses import dataclass

from app.admission import drift
from app.admission.limits import read_limits
from app.admission.scripts import windows
from app.clock import utcnow
from app.runs.services import Services


@dataclass(frozen=True, slots=True)
class Reconciled:
    """Result of reconciling: limits put in force again, counters that differed, and were set right."""

    put_in_force: bool
    drifted: int
    repaired: int

    def __str__(self) -> str:
        said = f"{self.drifted} counters differed, {self.repaired} repaired"
        return f"limits put in force again, {said}" if self.put_in_force else said


def reconcile_limits(services: Services) -> Reconciled:
    """Bring Redis in line with Postgres: the limits in force and the counters."""
    with services.engine.begin() as connection:
        limits = read_limits(connection, services.settings.limits)
    is_new = services.admission.put_in_force(limits)
    services.admission.sweep()
    drifts = find_drift(services)
    return Reconciled(is_new, len(drifts), drift.repair(services.redis, drifts))


def find_drift(services: Services) -> list[drift.Drift]:
    """Counters that differ from the ledger, read in the order that makes a repair safe."""
    window = windows(utcnow(), services.settings.zone)
    counters = drift.read_counters(services.redis, window)
    return drift.find_drift(counters, services.admission.read_spent(window), window)
