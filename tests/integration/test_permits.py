"""One cap for all processes, in every window, by Valkey's clock."""

import multiprocessing
from itertools import pairwise

import pytest

from app.admission.permits import OWED, KeyKnownBad, Permits
from app.clock import monotonic, sleep
from app.redis_client import make_redis
from app.settings import LimitSettings


def make(redis, burst: int = 1, key: str = "key") -> Permits:
    return Permits(redis, LimitSettings(rate=10, burst=burst), "http://gateway", key)


def take_and_use(url: str, rate: float, burst: int, count: int, used) -> None:
    client = make_redis(url)
    permits = Permits(client, LimitSettings(rate=rate, burst=burst), "http://gateway", None)
    for _ in range(count):
        sleep(permits.take())
        used.append(monotonic())
    client.close()


def test_cap_holds_across_processes_and_is_used(embedded, redis):
    rate, burst, count = 50.0, 2, 40
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        used = manager.list()
        processes = [
            context.Process(
                target=take_and_use, args=(embedded.redis_url, rate, burst, count, used)
            )
            for _ in range(4)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        starts = sorted(used)
    assert len(starts) == 4 * count
    late_s = 0.1  # a process may wake late, and then be nearer to the next one
    for first in range(len(starts)):
        for last in range(first, len(starts)):
            assert last - first + 1 <= burst + rate * (starts[last] - starts[first] + late_s) + 1


def test_waits_are_one_step_apart_and_a_burst_is_a_burst(redis):
    permits = make(redis, 3)
    waits = [permits.take() for _ in range(6)]
    assert waits[:3] == [0, 0, 0]
    steps = [later - earlier for earlier, later in pairwise(waits[2:])]
    assert all(0.05 < step <= 0.1 for step in steps)


def test_state_expires_by_itself(redis):
    make(redis).take()
    assert 0 < redis.pttl(OWED) <= 1_200


def test_flushall_costs_at_most_one_burst(redis):
    permits = make(redis)
    for _ in range(5):
        permits.take()
    redis.flushall()
    assert permits.take() == 0
    assert permits.take() > 0.09


def test_refused_key_stops_every_process_until_the_key_changes(redis):
    make(redis).refuse_key()
    with pytest.raises(KeyKnownBad):
        make(redis).take()
    assert redis.get(OWED) is None
    assert make(redis, key="another").take() == 0
