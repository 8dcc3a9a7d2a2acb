"""The Lua and its executable specification agree on every sequence, and both keep the promises.

The scripts run on a real Valkey; only their clock is replaced, by a key that the test sets. It starts
at a present-day epoch, because rounding errors hide at small numbers.
"""

import os
from collections import Counter
from dataclasses import dataclass, replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app.admission.bucket import Bucket
from app.admission.scripts import FLEET, source
from app.admission.values import Ask, Config, Verdict

EPOCH_US = 1_735_689_600_000_000
START = 1_795_348_800_000_000 - EPOCH_US
CLOCK = ("{paceline}:test:s", "{paceline}:test:us")
DAY = "2026-11-22"
WINDOW_KEYS = (f"{{paceline}}:quota:{DAY}", f"{{paceline}}:spend:{DAY}", "{paceline}:spend:2026-11")
KEYS = (*FLEET, *WINDOW_KEYS)


EXAMPLES = int(os.environ.get("PROPERTY_EXAMPLES", "150"))


class Real:
    """The scripts on a server, with the test's clock."""

    def __init__(self, redis) -> None:
        self.redis = redis
        redis.flushall()
        clock = f"{{redis.call('GET', '{CLOCK[0]}'), redis.call('GET', '{CLOCK[1]}')}}"
        self.scripts = {
            name: redis.register_script(source(name).replace("redis.call('TIME')", clock))
            for name in ("admit", "settle", "configure")
        }
        redis.hset(WINDOW_KEYS[0], "seeded", 1)
        redis.hset(WINDOW_KEYS[2], "seeded", 1)
        self.version = 0

    def _at(self, now: int) -> None:
        at = now + EPOCH_US
        self.redis.mset({CLOCK[0]: at // 1_000_000, CLOCK[1]: at % 1_000_000})

    def configure(self, config: Config, now: int, *, resumes: bool = False, is_new: bool = True) -> None:
        self._at(now)
        self.version += is_new
        paused = config.paused + EPOCH_US if config.paused else 0
        self.scripts["configure"](
            keys=FLEET,
            args=[
                self.version,
                config.rate,
                config.burst,
                config.horizon,
                config.tpm,
                config.quota,
                config.day_budget,
                config.month_budget,
                paused,
                "close" if resumes else "",
            ],
        )

    def admit(self, ask: Ask, now: int):
        self._at(now)
        code, *rest = self.scripts["admit"](
            keys=KEYS,
            args=[
                ask.rid,
                ask.agent,
                ask.lane,
                ask.est,
                ask.cost,
                ask.ticket,
                ask.quota,
                DAY,
                ask.day_left,
                ask.month_left,
                ask.lease,
                ask.key,
                ask.model,
                ask.place,
                ask.place_day,
                ask.place_month,
                int(ask.obeys),
            ],
        )
        if code == "no":
            return code, int(rest[0]), rest[1], int(rest[2])
        return code, int(rest[0]), "", 0

    def settle(self, rid, verdict, used, cost, now, *, key, model, run) -> int:
        self._at(now)
        return self.scripts["settle"](
            keys=KEYS,
            args=[
                rid,
                verdict.effect,
                used,
                cost,
                DAY,
                verdict.span,
                key,
                model,
                verdict.reason,
                int(verdict.is_of_key),
                verdict.runs_to_confirm,
                run,
            ],
        )

    def counters(self) -> dict[str, int]:
        quota = {name: int(value) for name, value in self.redis.hgetall(WINDOW_KEYS[0]).items()}
        spend = self.redis.hgetall(WINDOW_KEYS[1])
        quota.pop("seeded")
        found = quota | {f"money {name}": int(value) for name, value in spend.items()}
        return {name: value for name, value in found.items() if value}


PAUSE = Verdict("pause", 1_000_000)
LONG_PAUSE = Verdict("pause", 40_000_000)
STOP = Verdict("stop", reason="credits_exhausted")
STOP_KEY = Verdict("stop", reason="key_refused", is_of_key=True)
STOP_IF_TWO_SEE_IT = Verdict("stop", reason="forbidden", is_of_key=True, runs_to_confirm=2)
STOP_IF_THREE_SEE_IT = Verdict("stop", reason="not_stored", runs_to_confirm=3)
STOP_FOR_THE_DAY = Verdict("stop", 9_000_000_000, "daily_limit")
DROP_MODEL = Verdict("drop_model", reason="model_gone", runs_to_confirm=2)
OK, FAILED, VOID = Verdict("ok"), Verdict("failed"), Verdict("void")


def expected(bucket: Bucket) -> dict[str, int]:
    found = {f"u:{agent}": value for agent, value in bucket.used.items()}
    found |= {f"h:{agent}": value for agent, value in bucket.held.items()}
    for name, money in (("u", bucket.spent), ("h", bucket.spending)):
        found |= {f"money {name}{place and ':' + place}": value for place, value in money.items()}
    return {name: value for name, value in found.items() if value}


@dataclass
class Life:
    """One call as its caller lives it."""

    ask: Ask
    wake: int | None = None
    started: int | None = None
    settled: bool = False
    back_at: int = 0


def make_machine(redis):
    class Machine(RuleBasedStateMachine):
        """Callers that ask, sleep, wake on time or late, call, settle, die, repeat themselves."""

        @initialize(
            rate=st.sampled_from([4_000, 50_000, 333, 3_000, 7_777]),
            burst=st.integers(1, 5),
            horizon=st.sampled_from([500_000, 2_000_000]),
            tpm=st.sampled_from([0, 0, 600, 50_000]),
            quota=st.sampled_from([0, 0, 2_900]),
            budget=st.sampled_from([0, 0, 25_000]),
        )
        def begin(self, rate, burst, horizon, tpm, quota, budget):
            self.now = START
            self.config = Config(rate, burst, horizon, tpm, quota, budget, 0)
            self.real, self.spec = Real(redis), Bucket(Config(rate))
            self.spec.last = self.spec.tat = 0
            for side in (self.real, self.spec):
                side.configure(self.config, self.now)
            self.most, self.spare = self.config, self.spec.spare()
            self.lives: list[Life] = []
            self.starts: list[int] = []
            self.overrun: Counter[str] = Counter()
            self.lenient, self.dearer = False, 0

        def _ask(self, life: Life) -> None:
            real = self.real.admit(life.ask, self.now)
            assert real == self.spec.admit(life.ask, self.now)
            code, wait, _, ticket = real
            if code == "go":
                if life.started is None:
                    life.started = self.now + wait
                    self.starts.append(life.started)
            elif code == "sleep":
                life.wake = self.now + wait
            else:
                life.wake = None
                life.ask = replace(life.ask, ticket=ticket)
                life.back_at = self.now + wait

        @rule(
            crowd=st.lists(
                st.tuples(
                    st.sampled_from(["ada", "bob", "cleo"]),
                    st.sampled_from([0, 1, 1, 1]),
                    st.integers(1, 300),
                    st.integers(-1, 900),
                    st.sampled_from([-1, -1, -1, 4_000]),
                    st.sampled_from(["-", "bread", "bread", "maps"]),
                    st.sampled_from([True, True, True, False]),
                ),
                min_size=1,
                max_size=6,
            )
        )
        def ask(self, crowd):
            for agent, lane, est, cost, quota, place, obeys in crowd:
                rid = f"r{len(self.lives)}"
                ask = Ask(
                    rid,
                    agent,
                    lane,
                    est,
                    cost,
                    quota=quota,
                    lease=8_000_000,
                    place=place,
                    obeys=obeys,
                    place_day=3_000 if place == "maps" else 0,
                    place_month=5_000 if place == "bread" else 0,
                )
                self.lives.append(Life(ask))
                self.lenient = self.lenient or not obeys
                self._ask(self.lives[-1])

        @rule(
            outcome=st.sampled_from(
                [PAUSE, PAUSE, STOP, STOP_KEY, STOP_IF_TWO_SEE_IT, STOP_IF_THREE_SEE_IT, STOP_FOR_THE_DAY, OK]
            )
        )
        def gateway_says_no_while_others_sleep(self, outcome):
            """Several calls under way hear the same; then those who slept wake on time."""
            sleepers = [life for life in self.lives if life.wake and not life.started and not life.settled]
            calling = [life for life in self.lives if life.started and not life.settled][:3]
            for life in calling:
                self.now = max(self.now, life.started)
                self._settle(life, outcome, 0, 0, 1)
            for life in sleepers[:4]:
                self.now = max(self.now, life.wake)
                self._ask(life)

        @rule()
        @precondition(lambda self: self.spec.open > 0)
        def cause_may_be_gone(self):
            """Several ask when a probe is due; one of them is the probe."""
            self.now = max(self.now, self.spec.open)
            for _ in range(3):
                self.lives.append(Life(Ask(f"r{len(self.lives)}", "ada", lease=8_000_000)))
                self._ask(self.lives[-1])

        @rule()
        @precondition(lambda self: self.spec.open > self.now)
        def another_key_is_set(self):
            """A stop of one key holds back no other; one of all keys does."""
            ask = Ask(f"r{len(self.lives)}", "bob", lease=8_000_000, key="another")
            self.lives.append(Life(ask))
            self._ask(self.lives[-1])

        @rule(
            data=st.data(),
            late=st.sampled_from([0, 0, 0, 1, 2_000, 39_000, 41_000, 124_000, 126_000, 3_000_000]),
        )
        def wake(self, data, late):
            sleepers = [life for life in self.lives if life.wake and not life.started and not life.settled]
            if sleepers:
                life = data.draw(st.sampled_from(sleepers))
                self.now = max(self.now, life.wake + late)
                self._ask(life)

        @rule(data=st.data(), early=st.sampled_from([0, 0, 200_000]))
        def come_back(self, data, early):
            refused = [life for life in self.lives if life.ask.ticket and not life.wake and not life.started]
            if refused:
                life = data.draw(st.sampled_from(refused[:20]))
                self.now = max(self.now, life.back_at - early)
                self._ask(life)

        @rule(data=st.data())
        def repeat(self, data):
            if self.lives:
                life = data.draw(st.sampled_from(self.lives))
                if not life.settled:
                    self._ask(life)

        @rule(
            data=st.data(),
            outcome=st.sampled_from(
                [OK] * 20 + [FAILED, PAUSE, LONG_PAUSE] + [DROP_MODEL] * 2 + [STOP_IF_THREE_SEE_IT] * 2
            ),
            used=st.sampled_from([-1, 0, 10, 120, 500]),
            cost=st.sampled_from([-1, 0, 300]),
            times=st.integers(1, 2),
        )
        def settle(self, data, outcome, used, cost, times):
            calling = [life for life in self.lives if life.started and not life.settled]
            if calling:
                life = data.draw(st.sampled_from(calling))
                self.now = max(self.now, life.started)
                self._settle(life, outcome, used, cost, times)

        @rule(data=st.data())
        def void(self, data):
            waiting = [life for life in self.lives if life.wake and not life.started and not life.settled]
            if waiting:
                self._settle(data.draw(st.sampled_from(waiting)), VOID, -1, -1, 2)

        def _settle(self, life, outcome, used, cost, times) -> None:
            life.settled = True
            arguments = (life.ask.rid, outcome, used, cost, self.now)
            whose = {"key": life.ask.key, "model": life.ask.model, "run": life.ask.agent}
            answers = []
            for _ in range(times):
                real = self.real.settle(*arguments, **whose)
                assert real == self.spec.settle(*arguments, **whose)
                answers.append(real)
            assert answers[1:] == [0] * (times - 1)
            if answers[0] and outcome != VOID:
                self.overrun[life.ask.agent] += max(0, used - life.ask.est)
                self.dearer += max(0, cost - max(0, life.ask.cost))

        @rule(us=st.sampled_from([1, 1_000, 30_000, 250_000, 1_000_000, 9_000_000]))
        def wait(self, us):
            self.now += us

        @rule(rate=st.sampled_from([1_000, 4_000, 50_000]), burst=st.integers(1, 3), resumes=st.booleans())
        @precondition(lambda self: len(self.lives) > 5)
        def change(self, rate, burst, resumes):
            self.config = replace(self.config, rate=rate, burst=burst)
            self.most = Config(max(self.most.rate, rate))
            self.spare += Bucket(self.config).spare() + Bucket(self.config).pace()
            for side in (self.real, self.spec):
                side.configure(self.config, self.now, resumes=resumes)

        @rule(resumes=st.sampled_from([False, False, False, True]))
        def put_in_force_again(self, resumes):
            """What `limits.reconcile` does every 30 seconds ends no pause, and `resume` ends all."""
            pend = self.spec.pend
            for side in (self.real, self.spec):
                side.configure(self.config, self.now, resumes=resumes, is_new=False)
            assert self.spec.pend == (min(pend, self.now) if resumes else pend)

        @invariant()
        def counters_agree_and_nothing_is_negative(self):
            if not hasattr(self, "real"):
                return
            assert self.real.counters() == expected(self.spec)
            assert all(value >= 0 for value in expected(self.spec).values())

        @invariant()
        def no_agent_is_over_its_quota_but_by_debt(self):
            """The fleet's, or the largest of its own that a call came with."""
            if hasattr(self, "real") and self.config.quota:
                for agent in ("ada", "bob", "cleo"):
                    total = self.spec.used[agent] + self.spec.held[agent]
                    most = max(
                        [
                            self.config.quota,
                            *(life.ask.quota for life in self.lives if life.ask.agent == agent),
                        ]
                    )
                    assert total <= most + self.overrun[agent]

        @invariant()
        def no_community_is_over_its_budget_but_by_one_estimate(self):
            if hasattr(self, "real") and not self.lenient:
                for place, most in (("maps", 3_000), ("bread", 5_000)):
                    total = self.spec.spent[place] + self.spec.spending[place]
                    assert total < most + 900 + self.dearer

        def teardown(self):
            if not hasattr(self, "real"):
                return
            # Starts as they happened, however late their callers woke: what the gateway sees.
            starts, most = sorted(self.starts), self.most
            pace = 1e9 / most.rate
            for first in range(len(starts)):
                for last in range(first, len(starts)):
                    window = starts[last] - starts[first]
                    assert last - first <= (self.spare + window) / pace + 1e-6
            # Conservation: when all have died or settled, nothing is held.
            self.now += 200_000_000
            for number in range(len(self.lives) // 2 + 2):
                ask = Ask(f"end{number}", "end", est=0, lease=1)
                assert self.real.admit(ask, self.now) == self.spec.admit(ask, self.now)
                self.now += 100_000_000
            assert {
                name: value
                for name, value in expected(self.spec).items()
                if name.startswith(("h:", "money h")) and name != "h:end"
            } == {}

    return Machine


def test_lua_and_specification_agree_on_every_sequence(redis):
    run_state_machine_as_test(
        make_machine(redis),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
