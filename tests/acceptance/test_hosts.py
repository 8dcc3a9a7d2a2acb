"""Several hosts for real: servers on one, workers on two others, one of which is cut off and comes back.

The hosts are network namespaces with a bridge between them, so what crosses is a network: packets are lost
without a word, connections hang, nobody is told. Needs root and iproute2; skipped where there is neither.
"""

import asyncio
import os
import shutil
import subprocess
import sys
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from sqlalchemy import func, select, update

from app.actions import Desk, Who, agents
from app.actions.agents import start_runs
from app.clock import monotonic, sleep
from app.gateway.tally import SandboxTally
from app.models import Call, Run
from app.runs import upkeep
from app.runs.books import audit
from app.runs.states import OPEN, TERMINAL
from app.usage import calls
from app.wiring import build
from tests.chaos.proxy import Proxy
from tests.conftest import make_settings
from tests.support.factories import make_agents

pytestmark = [pytest.mark.acceptance, pytest.mark.long]

AGENTS, LEASE_S = 30, 5
NET = "10.77.77"


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)


@contextmanager
def hosts(*names):
    """Namespaces at 10.77.77.11, .12, ... and this one at .1, with a bridge between them."""
    tag = f"p{os.getpid() % 100_000}"
    bridge = f"{tag}b"
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("hosts need root and iproute2")
    try:
        ip("link", "add", bridge, "type", "bridge")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no bridge can be made here: {error.stderr.decode().strip()}")
    made = []
    try:
        ip("addr", "add", f"{NET}.1/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        for number, name in enumerate(names, 11):
            space, ours, theirs = f"{tag}{name}", f"{tag}{name}o", f"{tag}{name}i"
            try:
                ip("netns", "add", space)
                made.append(space)
                ip("link", "add", ours, "type", "veth", "peer", "name", theirs)
                ip("link", "set", theirs, "netns", space)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"no namespace can be made here: {error.stderr.decode().strip()}")
            ip("link", "set", ours, "master", bridge, "up")
            for command in (
                ("addr", "add", f"{NET}.{number}/24", "dev", theirs),
                ("link", "set", theirs, "up"),
                ("link", "set", "lo", "up"),
            ):
                ip("-n", space, *command)
        yield {name: (f"{tag}{name}", f"{tag}{name}o") for name in names}
    finally:
        for space in made:
            with suppress(subprocess.CalledProcessError):
                ip("netns", "del", space)
        ip("link", "del", bridge)


@contextmanager
def process(command, env, log):
    with log.open("ab") as file:
        started = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(40)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def worker_on(space, name, env, log):
    command = [
        "ip",
        "netns",
        "exec",
        space,
        sys.executable,
        "-m",
        "celery",
        "--app",
        "workers",
        "--quiet",
        "worker",
        f"--hostname={name}@{name}",
        "--loglevel=WARNING",
        "--without-gossip",
        "--without-mingle",
    ]
    return process(command, env, log)


@pytest.fixture
def fleet(engine, redis, embedded, sandbox, home, tmp_path):
    """Servers and gateway here; addresses at which the other hosts reach them."""
    sandbox.state.rules.latency_s = 0.5
    socket = embedded.database_url.partition("host=")[2] + "/.s.PGSQL.5432"
    valkey, gateway = urlsplit(embedded.redis_url), urlsplit(sandbox.url)
    with hosts("a", "b") as spaces:
        proxies = [
            Proxy(lambda: asyncio.open_unix_connection(socket), f"{NET}.1"),
            Proxy(lambda: asyncio.open_connection("127.0.0.1", valkey.port), f"{NET}.1"),
            Proxy(lambda: asyncio.open_connection("127.0.0.1", gateway.port), f"{NET}.1"),
        ]
        ports = [proxy.port for proxy in proxies]
        env = {
            **os.environ,
            "DATABASE_URL": f"postgresql://{urlsplit(embedded.database_url).netloc}{NET}.1:{ports[0]}/postgres"
            "?tcp_user_timeout=5000&connect_timeout=3",
            "REDIS_URL": f"redis://:{valkey.password}@{NET}.1:{ports[1]}/0",
            "PACELINE_HOME": str(tmp_path),
            "PACELINE_GATEWAY__BASE_URL": f"http://{NET}.1:{ports[2]}{gateway.path}",
            "PACELINE_GATEWAY__CONNECT_TIMEOUT_S": "2",
            "PACELINE_GATEWAY__READ_TIMEOUT_S": "4",
            "PACELINE_GATEWAY__TOTAL_TIMEOUT_S": "6",
            "PACELINE_CYCLE__PERIOD_S": "86400",
            "PACELINE_LIMITS__RATE": "20",
            "PACELINE_LIMITS__BURST": "2",
            "PACELINE_WORKER__LEASE_S": str(LEASE_S),
            "PACELINE_WORKER__THREADS": "4",
        }
        settings = make_settings(
            embedded, sandbox.url, home, limits={"rate": 20, "burst": 2}, worker={"lease_s": LEASE_S}
        )
        services = build(settings)
        with services.engine.begin() as connection:
            make_agents(connection, AGENTS)
        yield services, spaces, env
        services.close()
        for proxy in proxies:
            proxy.close()


def test_host_that_is_cut_off_loses_nothing_and_comes_back(fleet, engine, sandbox, tmp_path, monkeypatch):
    services, spaces, env = fleet
    here = {
        **env,
        "DATABASE_URL": services.settings.database_url.get_secret_value(),
        "REDIS_URL": services.settings.redis_url.get_secret_value(),
    }
    code = "import sys; from uuid import UUID; from workers.dispatch import publish; "
    code += "publish([UUID(run_id) for run_id in sys.argv[1:]])"

    def publish(run_ids):
        command = [sys.executable, "-c", code, *map(str, run_ids)]
        subprocess.run(command, env=here, check=True, timeout=180)

    monkeypatch.setattr(agents, "publish", publish)  # that of this process knows no servers
    desk = Desk(services.settings, services.engine, services.admission)
    handles = [f"a{n}" for n in range(AGENTS)]
    beat = [sys.executable, "-m", "celery", "--app", "workers", "--quiet", "beat", "--loglevel=WARNING"]
    with (
        worker_on(spaces["a"][0], "a", env, tmp_path / "a.log"),
        worker_on(spaces["b"][0], "b", env, tmp_path / "b.log"),
        process(beat, here, tmp_path / "beat.log"),
    ):
        start_runs(desk, handles, Who("t", "first"))
        wait_until(engine, lambda c: workers_of(c) == {"a@a", "b@b"}, 60)
        ip("link", "set", spaces["b"][1], "down")
        start_runs(desk, handles, Who("t", "while b is cut off"))
        wait_until(engine, lambda c: count(c, Run.state.in_(OPEN)) == 0, 90)
        ip("link", "set", spaces["b"][1], "up")
        for _ in range(12):  # until b takes runs again
            with engine.begin() as connection:
                connection.execute(update(Run).values(worker=None))
            start_runs(desk, handles[:8], Who("t", "b is back"))
            wait_until(engine, lambda c: count(c, Run.state.in_(OPEN)) == 0, 60)
            with engine.connect() as connection:
                if "b@b" in workers_of(connection):
                    break
        else:
            raise AssertionError("b took no run")
    with engine.connect() as connection:
        assert count(connection, Run.state.in_(TERMINAL)) == count(connection)
        assert connection.execute(select(func.count()).select_from(Call)).scalar_one() >= 2 * AGENTS
    with engine.begin() as connection:  # what b had in hand: a minute later rescue would, too
        calls.give_up(connection, timedelta(0))
    wait_until(engine, lambda _: upkeep.reconcile_limits(services).repaired == 0, 30)  # as beat does
    with closing(SandboxTally(sandbox.url)) as tally:
        books = audit(services, tally)
    assert books.total == 0, books


def workers_of(connection):
    return set(connection.execute(select(Run.worker).where(Run.worker.is_not(None))).scalars())


def count(connection, *where):
    return connection.execute(select(func.count()).select_from(Run).where(*where)).scalar_one()


def wait_until(engine, is_so, seconds):
    deadline = monotonic() + seconds
    while monotonic() < deadline:
        with engine.connect() as connection:
            if is_so(connection):
                return
        sleep(0.3)
    raise AssertionError(f"not within {seconds} s")
