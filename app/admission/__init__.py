"""Between wanting a gateway call and being allowed to make it.

One Lua script decides about a call, all limits at once: refused key, gone model, pause, breaker, the
agent's daily quota, the fleet's budgets, calls per second, LLM tokens per minute. Redis' clock is the
only clock, in integer microseconds. Four words answer everything:

* **go**, after so many milliseconds: the call may be made, its tokens and money are reserved.
* **sleep** so long, then ask again with the same request id. A slot is booked; the caller sleeps once.
  Asking again *confirms*: the booking is void if a 429 or 402 came meanwhile, if the caller is so
  late that it would bunch up with others at the gateway, or if the reservation ran out; then the same
  round trip books anew. So one round trip when a call starts at once, two when it waits, and one more
  to settle, whatever the number of others who wait.
* **no**, with a reason and when to come back. Nothing is booked: booking for callers who then give up
  is what makes a limiter collapse under overload. A call that is refused because the line is longer than
  the horizon (5 s) gets a ticket, a place in a virtual line; with it, coming back is not polling.
* **cold**: the configuration or the day's counters are missing (first start, FLUSHALL, failover to an
  empty replica, midnight). One process puts them there from Postgres and all ask again. The bucket
  starts empty, so that at most one burst too many gets through.

Why the cap holds. Bookings are slots s, each at least max(now, tat - (burst-1)T), and each moves tat
to max(tat, s) + T, T = 1/rate rounded up. Take the k bookings with slots in [x, y] in booking order:
the first leaves tat >= x + T, each later one adds T, so the last slot is >= x + (k-1)T - (burst-1)T,
hence k <= burst + (y-x)/T. The set stays closed under taking slots away (crash, void), using a freed
slot at the same instant, and exchanging owners; so a void slot goes to a list and an ad-hoc call may
change places with a sleeping scheduled one. Moving tat back would not keep it.

Slots are promises; the gateway sees starts. A caller that the machine kept waiting starts late, and a
line that is always full never wins the time back: one stall of 80 ms at 50 calls/s, and any jitter
minutes later meets an empty bucket at the gateway. So starts have a bucket of their own, moved by the
moment of each confirmation, with half of the room that the gateway is taken to have, max(2, rate/10)
calls; who finds it full books anew, and the slot it leaves unused repays the stall. And slots are
three thousandths of a second per second slower than the rate.

The authority. Postgres: the limits (one row, versioned, audited) and what was used (the
ledger). Redis: permits, reservations, counters; all can be lost. Workers carry no limits, so a stale
worker cannot have an old cap.

Failures:
* *Redis away*: calls wait. One thread per process tries once a second (app/admission/circuit.py); after
  20 s the run is put back. Never a local bucket: N of them are N times the cap.
* *A caller dies*: its reservation runs out. Not begun: everything comes back, the slot is wasted. Begun:
  the estimate counts as spent.
* *An answer of Redis is lost*: asking again with the same request id gives the same booking; settling
  again does nothing.
* *The clock goes back*: an offset keeps time going; nobody stalls, nobody gets more.
* *429*: the call that reports it first cuts the rate to 70 % and stops everybody for 1, 2 or 4 s or for
  what Retry-After says; the others that were under way only prolong the pause. The rate climbs back
  in 30 s. *402*: the breaker opens, at first for a minute, doubling to an hour; then one call at a
  time probes; `cycles.open` stops making runs. *401*: nothing is called with that key again.
* *More used than reserved*: debt. The counter passes the limit and the next admission sees it.

`bucket.py` is all of this in plain Python, and a test holds the Lua to it.
"""
