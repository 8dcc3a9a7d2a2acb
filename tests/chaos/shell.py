"""A Python shell in the storm: it asks for runs by `delay`, waits by `get`, and writes down what it was told.

    python -m tests.chaos.shell FILE AGENTS SEED

A line of JSON for each result: the run's id, and `told`, which is the run's state or the name of what was
raised. Ends on SIGTERM, when all that it waits for has come.
"""

import json
import random
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from celery.exceptions import TaskRevokedError

from app.clock import sleep
from app.errors import RunFailed, Unreachable
from workers.tasks import run_agent

ending = threading.Event()
WAITING_MAX, GET_S = 40, 240


def main() -> None:
    file, agents, seed = sys.argv[1:]
    rng = random.Random(int(seed))
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    with open(file, "a", buffering=1) as out, ThreadPoolExecutor(WAITING_MAX) as pool:
        while not ending.is_set():
            handle = f"a{rng.randrange(int(agents))}"
            try:
                result = run_agent.delay(handle)
            except Unreachable:  # it says so: nothing is promised
                sleep(0.5)
                continue
            pool.submit(lambda r=result: out.write(json.dumps({"id": r.id, "told": wait(r)}) + "\n"))
            ending.wait(rng.expovariate(1.0))


def wait(result) -> str:
    """What `get` says, tried again while a server is away."""
    while True:
        try:
            return result.get(timeout=GET_S).state
        except Unreachable:
            sleep(0.5)
        except (RunFailed, TaskRevokedError) as told:
            return type(told).__name__
        except Exception as other:  # noqa: BLE001 (whatever it is, it is not the truth)
            return f"{type(other).__name__}: {other}"


if __name__ == "__main__":
    main()
