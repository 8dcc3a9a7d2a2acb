"""The fleet that is tormented: real servers behind proxies, workers, two beats, the dashboard, a gateway.

A supervisor starts again what dies, as systemd or a container runtime would.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import httpx2
from celery import Celery
from kombu import Queue
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app import migrations
from app.admission.circuit import StoreAway
from app.clock import monotonic, sleep
from app.db import make_engine
from app.embedded import Servers, revive, servers
from app.embedded.postgres import admin_url
from app.runs.cycles import queued_runs
from app.settings import Settings
from app.wiring import build
from tests.chaos import history
from tests.chaos.application import Application
from tests.chaos.proxy import Proxy
from tests.support.factories import make_agents

T = TypeVar("T")

RATE, CAPACITY, AGENTS, PERIOD_S, LEASE_S = 20, 6, 240, 20, 6
WORKERS, BEATS, QUOTA = 3, 2, 12_000


class Process:
    """One process of the fleet."""

    def __init__(self, name: str, command: list[str], env: dict[str, str], log: Path) -> None:
        self.name, self._command, self._env, self._log = name, command, env, log
        self.held_down_until = 0.0
        self.popen = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as log:
            return subprocess.Popen(
                self._command,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def revive(self) -> None:
        """Start it again if it died."""
        if self.popen.poll() is not None and monotonic() > self.held_down_until:
            self.popen = self._start()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it lives."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)


class Fleet:
    """Everything that runs, and handles on it that do not go through the proxies."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._stack = ExitStack()
        self.servers: Servers = self._stack.enter_context(servers(home / "servers"))
        assert self.servers.database_url
        assert self.servers.redis_url
        address = self.servers.database_url.partition("host=")[2] + "/.s.PGSQL.5432"
        who = urlsplit(self.servers.database_url).netloc
        redis = urlsplit(self.servers.redis_url)
        self.postgres = Proxy(lambda: asyncio.open_unix_connection(address))
        self.redis = Proxy(lambda: asyncio.open_connection("127.0.0.1", redis.port))
        made = make_engine(self.servers.database_url)
        migrations.upgrade(made)
        made.dispose()
        # Faults of the server need its superuser.
        admin = admin_url(home / "servers" / "postgres")
        self.engine: Engine = make_engine(admin, pool_size=4)
        with self.engine.begin() as connection:
            make_agents(connection, AGENTS)
            history.set_up(connection)
        self.application = Application(self.engine, address)
        port = _free_port()
        self.gateway = f"http://127.0.0.1:{port}"
        self.env = {
            **os.environ,
            "DATABASE_URL": f"postgresql://{who}127.0.0.1:{self.postgres.port}/postgres",
            "REDIS_URL": f"redis://:{redis.password}@127.0.0.1:{self.redis.port}/0",
            "PACELINE_HOME": str(home),
            "PACELINE_GATEWAY__BASE_URL": f"{self.gateway}/v1",
            "PACELINE_GATEWAY__CONNECT_TIMEOUT_S": "2",
            "PACELINE_GATEWAY__READ_TIMEOUT_S": "3",
            "PACELINE_GATEWAY__TOTAL_TIMEOUT_S": "5",
            "PACELINE_CYCLE__PERIOD_S": str(PERIOD_S),
            "PACELINE_CYCLE__SLICE_S": "2",
            "PACELINE_LIMITS__RATE": str(RATE),
            "PACELINE_LIMITS__AGENT_DAILY_TOKENS": str(QUOTA),
            "PACELINE_WORKER__LEASE_S": str(LEASE_S),
            "PACELINE_WORKER__THREADS": "16",
            **self.application.env(),
        }
        direct = {
            "DATABASE_URL": self.servers.database_url,
            "REDIS_URL": self.servers.redis_url,
            "PACELINE_HOME": str(home),
            "PACELINE_GATEWAY__BASE_URL": f"{self.gateway}/v1",
        }
        self.services = build(Settings.model_validate(_settings(direct)))
        # Of its own, because that of workers.celery is made from this process's environment.
        self._celery = Celery("chaos", broker=self.servers.redis_url)
        self._celery.conf.update(
            task_queues=[Queue(name) for name in ("adhoc", "maintenance", "cycle")],
            broker_transport_options={"global_keyprefix": "paceline:", "socket_timeout": 10},
            task_ignore_result=True,
        )
        self.processes: list[Process] = []
        self._sandbox = self._add(
            "gateway",
            "app.cli",
            "sandbox",
            "--port",
            str(port),
            "--rate",
            str(RATE),
            "--capacity",
            str(CAPACITY),
            "--latency",
            "0.3",
        )
        self.http = httpx2.Client(base_url=self.gateway, timeout=20, trust_env=False)
        celery = ("celery", "--app", "workers", "--quiet")
        self.workers = [
            self._add(
                f"worker{n}",
                *celery,
                "worker",
                f"--hostname=worker{n}@chaos",
                "--loglevel=WARNING",
                "--without-gossip",
                "--without-mingle",
            )
            for n in range(1, WORKERS + 1)
        ]
        self.beats = [self._add(f"beat{n}", *celery, "beat", "--loglevel=WARNING") for n in range(BEATS)]
        self.web = self._add("web", "app.web", "--port", str(_free_port()))
        self.told = home / "shell.jsonl"
        self.shell = self._add("shell", "tests.chaos.shell", str(self.told), str(AGENTS), "1")
        self._ending = threading.Event()
        self.server_down_until = 0.0
        self._supervisor = threading.Thread(target=self._supervise, daemon=True)
        self._supervisor.start()

    def _add(self, name: str, *module: str) -> Process:
        command = [sys.executable, "-m", *module]
        process = Process(name, command, self.env, self.home / f"{name}.log")
        self.processes.append(process)
        return process

    def _supervise(self) -> None:
        while not self._ending.wait(0.2):
            for process in self.processes:
                process.revive()
            if monotonic() > self.server_down_until:
                try:
                    revive(self.home / "servers", self.servers)
                except Exception:  # noqa: BLE001 (a crashed server's children hold its memory a while)
                    continue

    def server_pid(self, name: str) -> int | None:
        """The process id of postgres or valkey."""
        path = {"postgres": "postgres/data/postmaster.pid", "valkey": "valkey/pid"}[name]
        try:
            return int((self.home / "servers" / path).read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return None

    def fault(self, **fields: Any) -> None:
        """Script a fault of the gateway."""
        self.http.post("/sandbox/faults", json=fields).raise_for_status()

    def seen(self) -> list[dict[str, Any]]:
        """Every request that the gateway saw."""
        text = self.http.get("/sandbox/requests").text
        return [json.loads(line) for line in text.splitlines()]

    def publish(self, run_ids: list[UUID]) -> None:
        """Tell the workers of runs, as `paceline dispatch` does, and not through the proxy."""
        with self.engine.connect() as connection:
            for run in queued_runs(connection, run_ids):
                cycle = run.cycle_at.isoformat() if run.cycle_at else None
                self._celery.send_task(
                    "agents.run",
                    (run.handle, cycle),
                    task_id=str(run.id),
                    retry=False,
                    **{"queue": "cycle" if cycle else "adhoc"} | (run.options or {}),
                )

    def revoke(self, run_id: UUID) -> None:
        """Tell the workers to revoke a run's task, as Flower's button does."""
        with suppress(OperationalError):
            self._celery.control.revoke(str(run_id))

    def send(self, *tasks: str) -> None:
        """Do what beat would do."""
        with suppress(OperationalError):
            for name in tasks:
                self._celery.send_task(name, queue="maintenance", expires=5, retry=False)

    def is_calling(self) -> bool:
        """Whether the gateway is there and was asked for something."""
        try:
            return len(self.seen()) > 10
        except httpx2.HTTPError:
            return False

    def patiently(self, action: Callable[[], T]) -> T:
        """Do it, again if a server is away because of a fault."""
        deadline = monotonic() + 60
        while True:
            try:
                return action()
            except (SQLAlchemyError, RedisError, OperationalError, StoreAway):
                if monotonic() > deadline:
                    raise
                sleep(0.2)

    def stop_shell(self) -> None:
        """Ask for no more runs; it goes on waiting for those that it asked for."""
        self.processes.remove(self.shell)
        self.shell.signal(signal.SIGTERM)

    def stop_beats(self) -> None:
        """End the scheduler, so that no new slice is opened."""
        self.processes = [p for p in self.processes if p not in self.beats]
        for beat in self.beats:
            beat.popen.kill()
            beat.popen.wait()

    def close(self) -> None:
        """End everything that was started here."""
        self._ending.set()
        self._supervisor.join(30)
        if self.shell not in self.processes:
            self.processes.append(self.shell)
        for process in self.processes:
            process.signal(signal.SIGCONT)
            process.signal(signal.SIGTERM)
        self._celery.close()
        deadline = monotonic() + 15
        for process in self.processes:
            try:
                process.popen.wait(max(0.1, deadline - monotonic()))
            except subprocess.TimeoutExpired:
                process.popen.kill()
                process.popen.wait()
        self.services.close()
        self.http.close()
        self.application.close()
        self.engine.dispose()
        self.redis.close()
        self.postgres.close()
        self._stack.close()


def _settings(env: dict[str, str]) -> dict[str, Any]:
    gateway = {"base_url": env["PACELINE_GATEWAY__BASE_URL"]}
    return {
        "DATABASE_URL": env["DATABASE_URL"],
        "REDIS_URL": env["REDIS_URL"],
        "home": Path(env["PACELINE_HOME"]),
        "gateway": gateway,
        "limits": {"rate": RATE, "agent_daily_tokens": QUOTA},
        "cycle": {"period_s": PERIOD_S, "slice_s": 2},
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Any, seconds: float) -> bool:
    """Whether it became true in time."""
    deadline = monotonic() + seconds
    while monotonic() < deadline:
        if condition():
            return True
        sleep(0.2)
    return False
