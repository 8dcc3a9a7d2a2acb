"""The limiters that are compared, each behind one function: wait for a permit, then return.

Every adapter waits the way its library offers or its documentation shows, with a Redis of its own, empty.
Each library is there with the settings as it comes, and with those that serve it best here: it is told the
capacity that the gateway forgives, `room(rate)`, which Paceline assumes by itself.
"""

import time
from collections.abc import Callable
from itertools import count
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from limiters import SyncTokenBucket
from limits import RateLimitItemPerSecond
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter
from pyrate_limiter import Duration, Limiter, Rate, RedisBucket
from redis import Redis
from throttled import RateLimiterType, Throttled, per_sec
from throttled.store import RedisStore

from app.admission.controller import Admission, Refusal, Request, Spent
from app.admission.limits import Limits
from app.admission.values import Verdict

Acquire = Callable[[], None]


def room(rate: int) -> int:
    """Burst that a gateway forgives, as the judge of bench.limiters has it."""
    return max(2, rate // 10)


def paceline(url: str, rate: int, threads: int) -> Acquire:
    """All of admission: quota, budgets and breaker beside the rate, confirmation, settling."""
    redis = _redis(url, threads)
    limits = Limits(
        version=1,
        rate=float(rate),
        burst=1,
        max_wait_s=5.0,
        tokens_per_minute=0,
        agent_daily_tokens=10**12,
        budget_day_micros=10**12,
        budget_month_micros=10**12,
        paused_until=None,
    )
    admission = Admission(
        redis,
        read_limits=lambda: limits,
        read_spent=lambda _: Spent({}, {}, {}),
        zone=ZoneInfo("UTC"),
        key_fingerprint="bench",
        call_s=60,
    )
    agent = UUID(int=1)

    def acquire() -> None:
        ticket = 0
        while True:
            request = Request(uuid4(), uuid4(), agent, False, 100, 100, "model", ticket=ticket)
            answer = admission.acquire(request, lambda: None)
            if not isinstance(answer, Refusal):
                admission.settle(answer, Verdict("ok"), tokens=50, cost_micros=50)
                return
            ticket = answer.ticket
            time.sleep(answer.retry_after_s)

    return acquire


def limits_moving_window(url: str, rate: int, threads: int) -> Acquire:
    """limits: it has no waiting, so sleep until the window's reset, as its users do."""
    strategy = MovingWindowRateLimiter(RedisStorage(url, max_connections=threads + 2))
    item = RateLimitItemPerSecond(rate)

    def acquire() -> None:
        while not strategy.hit(item, "gateway"):
            stats = strategy.get_window_stats(item, "gateway")
            time.sleep(max(0.001, stats.reset_time - time.time()))

    return acquire


def pyrate_limiter(url: str, rate: int, threads: int) -> Acquire:
    """pyrate-limiter: RedisBucket, blocking."""
    bucket = RedisBucket.init([Rate(rate, Duration.SECOND)], _redis(url, threads), "gateway")
    limiter = Limiter(bucket)
    names = count()

    def acquire() -> None:
        limiter.try_acquire(f"call{next(names)}", blocking=True)

    return acquire


def pyrate_limiter_small(url: str, rate: int, threads: int) -> Acquire:
    """pyrate-limiter with a window as small as what the gateway forgives at once."""
    window_ms = round(1000 * room(rate) / rate)
    bucket = RedisBucket.init([Rate(room(rate), window_ms)], _redis(url, threads), "gateway")
    limiter = Limiter(bucket)
    names = count()

    def acquire() -> None:
        limiter.try_acquire(f"call{next(names)}", blocking=True)

    return acquire


def woken_by_the_server(url: str, rate: int, threads: int) -> Acquire:
    """redis-rate-limiters: its script says when to wake, in one round trip."""
    bucket = SyncTokenBucket(
        name="gateway",
        capacity=room(rate),
        refill_frequency=1 / rate,
        refill_amount=1,
        max_sleep=60,
        connection=_redis(url, threads),
    )

    def acquire() -> None:
        with bucket:
            pass

    return acquire


def throttled_gcra(url: str, rate: int, threads: int) -> Acquire:
    """throttled-py, GCRA with a burst of one."""
    return _throttled(url, rate, threads, RateLimiterType.GCRA, 1)


def throttled_gcra_room(url: str, rate: int, threads: int) -> Acquire:
    """throttled-py, GCRA with the burst that the gateway forgives."""
    return _throttled(url, rate, threads, RateLimiterType.GCRA, room(rate))


def throttled_token_bucket(url: str, rate: int, threads: int) -> Acquire:
    """throttled-py, token bucket with its default burst. With a burst below the rate this release lets every
    call through, so that is not among them.
    """
    return _throttled(url, rate, threads, RateLimiterType.TOKEN_BUCKET, None)


def _throttled(url: str, rate: int, threads: int, using: RateLimiterType, burst: int | None) -> Acquire:
    store = RedisStore(server=url, options={"MAX_CONNECTIONS": threads + 2})
    throttle = Throttled(
        key="gateway", using=using.value, quota=per_sec(rate, burst), store=store, timeout=60
    )

    def acquire() -> None:
        while throttle.limit().limited:
            pass

    return acquire


def polled_bucket(url: str, rate: int, threads: int) -> Acquire:
    """The usual program: INCR a key for this second, and look again in 50 ms if it is too much."""
    redis = _redis(url, threads)

    def acquire() -> None:
        while True:
            key = f"calls:{int(time.time())}"
            if int(redis.incr(key)) <= rate:
                return
            time.sleep(0.05)

    return acquire


def _redis(url: str, threads: int) -> Redis:
    return Redis.from_url(url, max_connections=threads + 2, decode_responses=True)


LIMITERS: dict[str, Callable[[str, int, int], Acquire]] = {
    "Paceline": paceline,
    "throttled-py GCRA, burst = capacity": throttled_gcra_room,
    "throttled-py GCRA, burst 1": throttled_gcra,
    "throttled-py token bucket as it comes": throttled_token_bucket,
    "redis-rate-limiters token bucket": woken_by_the_server,
    "pyrate-limiter, small window": pyrate_limiter_small,
    "pyrate-limiter, a second": pyrate_limiter,
    "limits moving window (a second at least)": limits_moving_window,
    "INCR polled at 50 ms": polled_bucket,
}
