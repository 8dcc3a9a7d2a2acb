"""Many processes that ask admission and call the gateway, and nothing else.

    python -m tests.chaos.caller REDIS_URL GATEWAY_URL RATE PROCESSES SECONDS

Prints the process ids, on a line that begins with `pids`, when all of them are there.
"""

import os
import signal
import sys
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import httpx2
from redis import Redis
from redis.exceptions import RedisError

from app.admission.controller import Admission, Refusal, Request, Spent
from app.admission.limits import Limits
from app.admission.values import Verdict
from app.clock import monotonic, sleep

BODY = {"model": "m", "max_tokens": 20, "messages": [{"role": "user", "content": "hello"}]}


def main() -> None:
    redis_url, gateway, rate, processes, seconds = sys.argv[1:]
    children = []
    for _ in range(int(processes)):
        child = os.fork()
        if child == 0:
            try:
                call_until(redis_url, gateway, float(rate), monotonic() + float(seconds))
            finally:
                os._exit(0)
        children.append(child)
    sys.stdout.write(" ".join(["pids", *map(str, children)]) + "\n")
    sys.stdout.flush()
    signal.signal(signal.SIGTERM, lambda *_: [os.kill(pid, signal.SIGKILL) for pid in children])
    for pid in children:
        os.waitpid(pid, 0)


def call_until(redis_url: str, gateway: str, rate: float, end: float) -> None:
    """One process: wait for a permit, call, settle, again."""
    limits = Limits(
        version=1,
        rate=rate,
        burst=1,
        max_wait_s=5.0,
        tokens_per_minute=0,
        agent_daily_tokens=0,
        budget_day_micros=0,
        budget_month_micros=0,
        paused_until=None,
    )
    admission = Admission(
        Redis.from_url(redis_url, decode_responses=True, socket_timeout=5),
        read_limits=lambda: limits,
        read_spent=lambda _: Spent({}, {}, {}),
        zone=ZoneInfo("UTC"),
        key_fingerprint="test",
        call_s=10,
    )
    client = httpx2.Client(base_url=gateway, timeout=10, trust_env=False)
    ticket = 0
    while monotonic() < end:
        request = Request(uuid4(), uuid4(), UUID(int=os.getpid()), False, 50, 50, "m", ticket=ticket)
        try:
            permit = admission.acquire(request, lambda: None)
            if isinstance(permit, Refusal):
                ticket = permit.ticket
                sleep(min(permit.retry_after_s, max(0.0, end - monotonic())))
                continue
            ticket = 0
            status = client.post("/v1/chat/completions", json=BODY).status_code
            verdict = Verdict("pause", 1_000_000) if status == 429 else Verdict("ok")
            admission.settle(permit, verdict, tokens=30, cost_micros=30)
        except (RedisError, httpx2.HTTPError):
            sleep(0.1)


if __name__ == "__main__":
    main()
