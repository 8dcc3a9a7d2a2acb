"""How much Flower remembers: its memory after the events of a large cycle, as `paceline up` starts it.

    python -m bench.flower [--tasks 100000] [--out docs/flower.json]

Real Valkey, a real Flower behind its password; a worker's three events (received, started, succeeded) for
every task, sent as Celery sends them.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import psutil
from celery import Celery

from app.cli import flower
from app.cli.parts import free_port, stop_all
from app.clock import monotonic, sleep
from app.embedded import servers
from app.settings import Settings

NAME = "worker1@bench"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pl-") as folder:
        result = measure(Path(folder), chosen.tasks)
    print(json.dumps(result))
    if chosen.out:
        chosen.out.write_text(json.dumps(result, indent=1) + "\n")


def measure(home: Path, tasks: int) -> dict[str, Any]:
    """Start it, flood it, ask it."""
    with servers(home, postgres=False) as started:
        assert started.redis_url
        port = free_port()
        settings = Settings.model_validate({"home": home, "flower": {"port": port}})
        env = {
            "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/x",
            "REDIS_URL": started.redis_url,
            "PATH": "/usr/bin:/bin",
        }
        part = flower.start(settings, env, home)
        auth = (flower.USER, (home / "flower.password").read_text().strip())
        try:
            with httpx2.Client(
                base_url=f"http://127.0.0.1:{port}", auth=auth, trust_env=False, timeout=60
            ) as web:
                _wait_for(web)
                process = psutil.Process(part.pid)
                idle_mb = process.memory_info().rss / 1e6
                began = monotonic()
                _send(started.redis_url, tasks)
                sent_s = monotonic() - began
                seen = _settled(web, process)
                latest = web.get("/api/tasks", params={"limit": 1}).json()
                state = next(iter(latest.values()))["state"]
                return {
                    "tasks": tasks,
                    "remembered": seen,
                    "rss_mb_idle": round(idle_mb),
                    "rss_mb_after": round(process.memory_info().rss / 1e6),
                    "sent_s": round(sent_s, 1),
                    "latest": state,
                }
        finally:
            stop_all([part], 10)


def _wait_for(web: httpx2.Client) -> None:
    until = monotonic() + 60
    while monotonic() < until:
        try:
            if web.get("/api/workers").status_code == 200:
                return
        except httpx2.TransportError:
            pass
        sleep(0.3)
    sys.exit("Flower did not start")


def _send(url: str, tasks: int) -> None:
    app = Celery("bench", broker=url)
    app.conf.broker_transport_options = {"global_keyprefix": "paceline:"}
    with app.connection_for_write() as connection:
        send = app.events.Dispatcher(connection, hostname=NAME, buffer_while_offline=False).send
        for n in range(tasks):
            task = {"uuid": str(uuid4())}
            send("task-received", name="agents.run", args=f"('agent{n}', None)", kwargs="{}", **task)
            send("task-started", **task)
            send("task-succeeded", result=f"'agent{n}: completed, 1 post, 0 comments'", runtime=1.2, **task)


def _settled(web: httpx2.Client, process: psutil.Process) -> int:
    """How many tasks it knows when it has worked the events off."""
    until, last = monotonic() + 300, -1.0
    while monotonic() < until:
        busy = sum(process.cpu_times()[:2])
        if busy - last < 0.05:
            break
        last = busy
        sleep(1)
    return len(web.get("/api/tasks", params={"limit": 1_000_000}).json())


if __name__ == "__main__":
    main()
