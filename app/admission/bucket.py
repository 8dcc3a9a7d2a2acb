"""The admission rules as plain Python: the executable specification of the Lua in `lua/`.

A token bucket whose tokens are called permits, kept as the time at which it would be full again
(virtual scheduling), with everything else that decides about a call beside it. One object is what one
Redis holds; `now` is an argument. A property test drives this and the scripts with the same
sequences and demands equal answers, so read this to understand those.

Times are integer microseconds, LLM tokens and micro-dollars integers, the rate thousandths of a call
per second.
"""

import math
from collections import Counter
from dataclasses import dataclass, field, replace

from app.admission.values import Ask, Config, Mark, Reservation, Verdict

GRACE = 1_000_000
INSTANT = 50_000
BUDGET_WAIT = 2_000_000
Reply = tuple[str, int, str, int]
"""(go | sleep | no, microseconds, reason, ticket)"""


@dataclass
class Bucket:
    """All of admission's state, within one day."""

    config: Config
    tat: int = 0
    last: int = 0
    ran: int = 0
    gen: int = 0
    pend: int = 0
    rate0: int | None = None
    tt: int = 0
    rc: int = 0
    sleeping: int = 0
    open: int = 0
    """When the next probe may go; 0: nothing is stopped."""
    why: str = ""
    stop_key: str = ""
    """The key that the stop is about; empty: all."""
    resets: int = 0
    trips: int = 0
    probe: str = ""
    suspect: Mark | None = None
    """The runs that saw a stop which others have to confirm."""
    seen: dict[str, Mark] = field(default_factory=dict)
    """The runs that saw a model gone, by model."""
    gone: dict[str, int] = field(default_factory=dict)
    lane: int = 0
    vq: list[int] = field(default_factory=lambda: [0, 0])
    dq: list[int] = field(default_factory=lambda: [0, 0])
    te: list[int] = field(default_factory=lambda: [0, 0])
    la: list[int] = field(default_factory=lambda: [0, 0])
    reservations: dict[str, Reservation] = field(default_factory=dict)
    movable: dict[str, int] = field(default_factory=dict)
    free: dict[str, int] = field(default_factory=dict)
    used: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    spent: Counter[str] = field(default_factory=Counter)
    spending: Counter[str] = field(default_factory=Counter)
    """Micro-dollars by place; the fleet's own are those of ""."""

    def rate(self, now: int) -> int:
        """The effective rate: cut after a 429, then climbing back in 30 seconds."""
        if self.rate0 is None:
            return self.config.rate
        since = max(0, now - self.pend)
        return min(self.config.rate, self.rate0 + self.config.rate * since // 30_000_000)

    def step(self, now: int) -> int:
        """Microseconds from one slot to the next, three thousandths more than the rate asks for: what
        a stall used up of the gateway's tolerance comes back.
        """
        return math.ceil(1_003_000_000 / self.rate(now))

    def pace(self) -> int:
        """Microseconds per call at the full rate."""
        return math.ceil(1_000_000_000 / self.config.rate)

    def spare(self) -> int:
        """How far starts as they happen may run ahead: half of what a gateway forgives that bears
        max(2, rate/10) calls at once, or the burst.
        """
        forgiven = (max(2, self.config.rate // 10_000) - 1) / 2
        return math.floor(max(forgiven, self.config.burst - 1) * self.pace())

    def restart(self, at: int, now: int) -> None:
        """An empty bucket from `at` on; no sleeper's booking counts any more."""
        step = self.step(now)
        self.gen += 1
        self.tat = max(at, self.last + step) + (self.config.burst - 1) * step
        self.sleeping = 0
        self.movable.clear()
        self.free.clear()

    def is_stopped(self, key: str) -> bool:
        """Whether calls with this key are stopped."""
        return self.open > 0 and self.stop_key in ("", key)

    def _end_stop(self) -> None:
        self.open = self.trips = self.resets = 0
        self.probe = self.why = self.stop_key = ""
        self.suspect = None

    def configure(self, config: Config, now: int, *, resumes: bool = False, is_new: bool = True) -> None:
        """Put another configuration in force. `resumes`: end what the gateway's answers stopped. Not
        `is_new`: it is the one in force, or an older one.
        """
        if resumes:
            self._end_stop()
            self.gone.clear()
            if self.pend > now:
                self.pend = now
                self.restart(now, now)
        if not is_new:
            return
        if self.pend > now + self.config.horizon:  # a long pause ends
            self.pend = now
        self.config = config
        self.rate0 = config.rate
        self.ran = min(self.ran, now + self.pace())  # counted at the old rate
        self.restart(max(now, self.pend), now)

    def admit(self, ask: Ask, now: int) -> Reply:
        """Decide about a call: go in so many microseconds, sleep so long and ask again, or no."""
        held = self.reservations.get(ask.rid)
        if held is not None:
            if held.started:
                return "go", max(0, held.slot - now), "", 0
            is_valid = held.gen == self.gen and now <= held.slot + GRACE
            if is_valid and now < held.slot:
                return "sleep", held.slot - now, "", 0
            is_ready = max(self._tokens_ready(ask.est, 0), self.ran - self.spare()) <= now
            if is_valid and is_ready:
                self.sleeping = max(0, self.sleeping - held.est)
                self._start(ask, held, now)
                return "go", 0, "", 0
            self._release(ask.rid, 0, 0, now)
        self._sweep(now)
        refusal = self._refusal(ask, now)
        if refusal:
            retry_after, reason = refusal
            return "no", max(1, retry_after), reason, 0
        return self._book(ask, now)

    def _start(self, ask: Ask, held: Reservation, now: int) -> None:
        self.last = max(self.last, held.slot)
        self.ran = max(self.ran, now, held.slot) + self.pace()
        if self.config.tpm:
            self.tt = math.ceil(max(self.tt, held.slot) + ask.est * self._per_token())
        self.movable.pop(ask.rid, None)
        self.reservations[ask.rid] = replace(
            held, started=True, exp=max(now, held.slot) + ask.lease, vf=self.tt, rc=self.rc
        )

    def _per_token(self) -> float:
        return 60_000_000 / self.config.tpm

    def _tokens_ready(self, est: int, ahead: int) -> int:
        """When an estimate fits into the LLM tokens per minute; a larger one waits for a full bucket."""
        tpm = self.config.tpm
        if not tpm:
            return 0
        return math.ceil(self.tt + (ahead + min(est, tpm) - tpm) * self._per_token())

    def _sweep(self, now: int) -> None:
        """Up to two reservations of the dead: begun ones cost their estimate, others nothing."""
        expired = sorted((r.exp, rid) for rid, r in self.reservations.items() if r.exp < now)[:2]
        for _, rid in expired:
            old = self.reservations[rid]
            self._release(rid, old.est * old.started, old.cost * old.started, now)
            if self.probe == rid:
                self.probe = ""

    def _refusal(self, ask: Ask, now: int) -> tuple[int, str] | None:
        """Refusals that no waiting in line helps against."""
        config = self.config
        if self.is_stopped(ask.key):
            if now < self.open:
                return self.open - now, self.why
            if self.probe in self.reservations:
                return 5_000_000, "probing"
        if self.gone.get(ask.model, 0) > now:
            return self.gone[ask.model] - now, "model_gone"
        if config.paused > now:
            return config.paused - now, "paused"
        limit = config.quota if ask.quota < 0 else ask.quota
        if limit and self.used[ask.agent] + self.held[ask.agent] + ask.est > limit:
            return ask.day_left, "quota"
        is_held = False
        for whose, most, left, reason in (
            ("", config.day_budget, ask.day_left, "budget_day"),
            ("", config.month_budget, ask.month_left, "budget_month"),
            (ask.place, ask.place_day, ask.day_left, "community_budget_day"),
            (ask.place, ask.place_month, ask.month_left, "community_budget_month"),
        ):
            if not (ask.obeys and most) or whose == "-":
                continue
            if ask.cost < 0:
                return 60_000_000, "no_price"
            if self.spent[whose] >= most:
                return left, reason
            is_held = is_held or self.spent[whose] + self.spending[whose] >= most
        return (BUDGET_WAIT, "budget_held") if is_held else None

    def _book(self, ask: Ask, now: int) -> Reply:
        """Find the slot, keep the line, and book, or refuse with a place in the line."""
        step, horizon = self.step(now), self.config.horizon
        tau = (self.config.burst - 1) * step
        tokens_ready = self._tokens_ready(ask.est, self.sleeping)
        earliest = max(now, self.pend, self.ran - self.spare(), tokens_ready)
        slot = max(earliest, self.tat - tau)
        self.free = {name: at for name, at in self.free.items() if at >= earliest}
        reused = min(self.free, key=lambda name: (self.free[name], name), default=None)
        if reused is not None and self.free[reused] < slot:
            slot = self.free[reused]
        else:
            reused = None

        first = ask.lane == 0 and self.lane <= now + horizon
        line = 0 if first else 1
        wait = slot - now
        has_place = ask.ticket > 0 or wait <= horizon / 2 or self.vq[line] <= now + horizon
        if wait > horizon or not has_place:
            return self._line_up(ask, line, wait, earliest, step, now)

        if reused is not None:
            del self.free[reused]
        else:
            self.tat = max(self.tat, slot) + step
        if first:
            self.lane = max(self.lane, now) + math.ceil(step * 5 / 4)
            slot = self._move_ahead(earliest, slot)
        gap = min(max(now - self.la[line], step), 8 * step)
        self.te[line] = self.te[line] + (gap - self.te[line]) // 8 if wait > horizon / 2 else step
        self.la[line] = now
        self.held[ask.agent] += ask.est
        cost = max(0, ask.cost)
        self._count(self.spending, ask.place, cost)
        if self.is_stopped(ask.key):
            self.probe = ask.rid
        booked = Reservation(ask.agent, ask.est, cost, slot, self.gen, False, 0, 0, slot + GRACE, ask.place)
        wait = max(0, slot - now)
        if wait <= INSTANT:
            self._start(ask, booked, now)
            return "go", wait, "", 0
        self.sleeping += ask.est
        self.reservations[ask.rid] = booked
        if not first:
            self.movable[ask.rid] = slot
        return "sleep", wait, "", 0

    def _count(self, money: Counter[str], place: str, micros: int) -> None:
        """Budgets of the fleet and, if the call has one, of its community."""
        money[""] += micros
        if place != "-":
            money[place] += micros

    def _move_ahead(self, earliest: int, slot: int) -> int:
        """Change places with the earliest scheduled sleeper; each is moved once at most."""
        ahead = sorted((at, rid) for rid, at in self.movable.items() if earliest <= at < slot)
        if not ahead:
            return slot
        at, rid = ahead[0]
        owner = self.reservations.get(rid)
        if owner is None or owner.gen != self.gen:
            return slot
        del self.movable[rid]
        self.reservations[rid] = replace(owner, slot=slot, exp=slot + GRACE)
        return at

    def _line_up(self, ask: Ask, line: int, wait: int, earliest: int, step: int, now: int) -> Reply:
        """No room: books nothing, says when to come back, and keeps that place."""
        horizon, ticket = self.config.horizon, ask.ticket
        gap = max(step, self.te[line])
        excess = max(0, wait - horizon)
        back: float
        if wait > horizon and earliest - now > horizon:
            back = earliest - now
            ticket = ticket or max(self.vq[line], earliest)
        elif not ticket:
            ticket = self.vq[line] = max(self.vq[line], now + excess) + gap
            back = ticket - now - horizon / 2
        elif now < ticket - horizon / 2:
            back = ticket - horizon / 2 - now
        else:
            self.dq[line] = max(self.dq[line], now + excess) + gap
            back = self.dq[line] - now
        reason = "rate_limited" if self.pend - now > horizon else "wait"
        return "no", max(1, math.floor(max(gap, back))), reason, ticket

    def _release(self, rid: str, used: int, cost: int, now: int) -> Reservation:
        held = self.reservations.pop(rid)
        self.movable.pop(rid, None)
        if not held.started and held.gen == self.gen:
            self.sleeping = max(0, self.sleeping - held.est)
        self.held[held.agent] -= held.est
        self.used[held.agent] += used
        self._count(self.spending, held.place, -held.cost)
        self._count(self.spent, held.place, cost)
        if self.config.tpm and held.started:
            over = used - held.est
            if over > 0:
                self.tt = math.ceil(max(self.tt, now) + over * self._per_token())
            elif over < 0:
                left = held.vf - (self.rc - held.rc) - now
                back = math.floor(max(0, min(-over * self._per_token(), left)))
                self.tt -= back
                self.rc += back
        return held

    def settle(
        self,
        rid: str,
        verdict: Verdict,
        used: int,
        cost: int,
        now: int,
        *,
        key: str = "key",
        model: str = "model",
        run: str = "run",
    ) -> int:
        """End a reservation; 0 when there is none, so settling twice counts once."""
        held = self.reservations.get(rid)
        if held is None:
            return 0
        if verdict.effect == "void":
            used = cost = 0
        held = self._release(rid, held.est if used < 0 else used, held.cost if cost < 0 else cost, now)
        is_probe = self.probe == rid
        if is_probe:
            self.probe = ""
        match verdict.effect:
            case "void":
                if not held.started and held.gen == self.gen and held.slot > now:
                    self.free[f"{held.slot}:{rid}"] = held.slot
            case "pause":
                self._pause(held, now + verdict.span, now)
            case "stop":
                self._stop(verdict, now, key, run, is_probe=is_probe)
            case "drop_model":
                self.seen[model] = mark = self._marked(self.seen.get(model), verdict, run)
                if mark.runs >= verdict.runs_to_confirm:
                    self.gone[model] = now + 600_000_000
            case "ok":
                self.seen.pop(model, None)
                self.suspect = None
                if is_probe:
                    self._end_stop()
                    self.pend, self.rate0 = now, max(1, self.config.rate // 4)
        return 1

    def _marked(self, mark: Mark | None, verdict: Verdict, run: str) -> Mark:
        """How many runs in a row have seen it, with this one."""
        if mark is None or mark.reason != verdict.reason:
            return Mark(1, verdict.reason, run)
        return mark if mark.last == run else Mark(mark.runs + 1, verdict.reason, run)

    def _stop(self, verdict: Verdict, now: int, key: str, run: str, *, is_probe: bool) -> None:
        """Stop all calls until a probe is answered; of several refusals under way one counts."""
        is_stopped = self.is_stopped(key)
        if is_stopped and not is_probe:
            return
        self.suspect = self._marked(self.suspect, verdict, run)
        if self.suspect.runs < verdict.runs_to_confirm:
            return
        self.trips = min(self.trips + 1, 7) if is_stopped else 1
        wait = min(3600, 60 * 2 ** (self.trips - 1)) * 1_000_000
        if verdict.span:
            wait = min(verdict.span, 3_600_000_000)
        self.open = now + wait
        self.resets = now + verdict.span if verdict.span else 0
        self.why = verdict.reason
        self.stop_key = key if verdict.is_of_key else ""
        if not is_stopped:
            self.probe = ""
        self.restart(now, now)

    def _pause(self, held: Reservation, until: int, now: int) -> None:
        """One 429 of a generation cuts the rate and pauses; the others only prolong the pause."""
        if held.gen == self.gen:
            cut = max(self.config.rate // 10, self.rate(now) * 7 // 10, 1)
            self.pend, self.rate0 = max(self.pend, until), cut
            self.restart(self.pend, now)
        elif until > self.pend:
            self.pend = until
            self.tat = max(self.tat, until + (self.config.burst - 1) * self.step(now))
