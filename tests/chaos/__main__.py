"""Run the storm and print the verdict."""

import argparse
import json
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from app.clock import monotonic, sleep
from app.runs import leases
from tests.chaos import history
from tests.chaos.faults import NotPossible, Storm, close_breaker, inject
from tests.chaos.fleet import Fleet, wait_until
from tests.chaos.verdict import Recovery, Verdict, count_in_flight, judge


def main() -> None:
    parser = argparse.ArgumentParser(description="A fleet under load, faults at random, the books.")
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pause", type=float, default=2.0, help="mean seconds between two faults")
    parser.add_argument("--out", type=Path, help="write the verdict to this file")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pl-") as folder:
        verdict = storm(Path(folder), chosen.faults, chosen.seed, chosen.pause)
    result = {"seed": chosen.seed, "pause_s": chosen.pause, **verdict.as_json()}
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    if chosen.out:
        chosen.out.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(0 if verdict.is_good else 1)


def storm(home: Path, faults: int, seed: int, pause_s: float) -> Verdict:
    """Inject so many faults into a fleet at work, wait for quiet, judge."""
    fleet = Fleet(home)
    recovery, kinds = Recovery(), Counter[str]()
    try:
        if not wait_until(fleet.is_calling, 60):
            raise SystemExit(f"the fleet does not call; see {home}")
        weather = Storm(fleet, random.Random(seed))
        injected = 0
        while injected < faults:
            try:
                said = fleet.patiently(lambda: inject(weather))
            except NotPossible as why:
                kinds["not possible"] += 1
                sys.stderr.write(f"      {why}\n")
                if kinds["not possible"] > faults + 20:
                    raise SystemExit("more faults were prevented than done") from None
                sleep(0.5)
                continue
            injected += 1
            kinds[said.split()[0]] += 1
            sys.stderr.write(f"{injected:>5} {said}\n")
            fleet.patiently(lambda: recovery.mourn(fleet, weather.victims))
            weather.victims.clear()
            fleet.patiently(lambda: history.forget(fleet.engine))
            until = monotonic() + weather.rng.expovariate(1 / pause_s)
            while monotonic() < until:
                weather.heal_due()
                fleet.patiently(lambda: recovery.look(fleet))
                sleep(0.2)
        weather.heal_due(everything=True)
        _let_it_calm_down(fleet, recovery)
        return judge(fleet, injected, kinds["not possible"], recovery)
    finally:
        fleet.close()


def _let_it_calm_down(fleet: Fleet, recovery: Recovery) -> None:
    """No new slices, no faults; what is open comes to its end. The jobs of beat go on by hand."""
    sys.stderr.write("      calm\n")
    fleet.http.request("DELETE", "/sandbox/faults")
    fleet.redis.heal()
    fleet.postgres.heal()
    fleet.patiently(fleet.application.heal)
    fleet.stop_beats()
    fleet.stop_shell()
    fleet.patiently(lambda: close_breaker(fleet))

    sent, delivering = [0.0], [0.0]

    def is_quiet() -> bool:
        if monotonic() - sent[0] > 1.0:
            sent[0] = monotonic()
            fleet.send("runs.wake", "runs.rescue", "limits.reconcile")
        if monotonic() - delivering[0] > 5.0:
            delivering[0] = monotonic()
            fleet.patiently(fleet.application.heal)
            fleet.send("integration.deliver")
        fleet.patiently(lambda: recovery.look(fleet))
        with fleet.engine.connect() as connection:
            is_over = leases.count_open(connection) == 0 and count_in_flight(connection) == 0
        return is_over and fleet.patiently(fleet.application.is_quiet)

    # A call of a dead worker is given up a minute after the longest call.
    wait_until(lambda: fleet.patiently(is_quiet), 180)
    wait_until(lambda: fleet.shell.popen.poll() is not None, 60)
    sleep(1)
    for _ in range(3):
        fleet.send("limits.reconcile")
        sleep(1)


if __name__ == "__main__":
    main()
