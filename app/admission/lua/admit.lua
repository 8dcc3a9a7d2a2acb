-- Decides about one gateway call: now, at a time to sleep until, or not; all limits at once.
-- Called again with the same request id after the sleep, it confirms the booking or makes a new one.
--
-- KEYS[1..5]  S R X W F, see _shared.lua
-- KEYS[6]  Q, hash, two days: agent's LLM tokens of the day, u:AGENT used and h:AGENT held
-- KEYS[7]  D, hash, two days: micro-dollars of the day, u and h of the fleet, u:PLACE and h:PLACE
-- KEYS[8]  M, hash, 40 days: the same of the month
-- ARGV  1 request id, 2 agent, 3 lane (0 ad hoc, 1 cycle), 4 estimated LLM tokens, 5 estimated
--       micro-dollars or -1 (the model has no known price), 6 ticket of an earlier refusal or 0,
--       7 agent's own daily quota in LLM tokens or -1, 8 the day's name, 9 microseconds to the end of the
--       day, 10 of the month, 11 microseconds a started call may take, 12 fingerprint of the gateway key,
--       13 model, 14 place (a community) or -, 15 its micro-dollars per day, 16 per month (0: no limit),
--       17 whether budgets refuse (1) or are only counted (0)
-- returns  {'go', wait} | {'sleep', wait} | {'no', retry_after, reason, ticket} | {'cold'}; times in
--          microseconds from now; 'cold' when the configuration or the day's counters are not there
--
-- Invariant: slots in any window w <= burst + rate * w, starts as they happen <= 1 + spare + rate * w; a
-- refusal books nothing (only the virtual queue moves); a request id holds at most one reservation; used +
-- held never passes a quota here, and a budget by one call's estimate at most. A budget is used up when what
-- was spent has reached it; while calls under way hold the rest of it, others wait for their end.
local Q, D, M = KEYS[6], KEYS[7], KEYS[8]
local rid, agent, lane = ARGV[1], ARGV[2], tonumber(ARGV[3])
local est, cost, ticket = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local place, obeys, is_priced = ARGV[14], ARGV[17] == '1', cost >= 0
cost = math.max(0, cost)
local day, day_left, month_left, lease = ARGV[8], tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
if not st.version or redis.call('HEXISTS', Q, 'seeded') == 0 or redis.call('HEXISTS', M, 'seeded') == 0 then
  return {'cold'}
end
local BUDGET_WAIT = 2000000  -- about a call's length
local T, tpm = step(), num('tpm')
local tau, tk = (num('burst') - 1) * T, tpm > 0 and 60000000 / tpm or 0

local function start(rec)
  rec.started, rec.exp = 1, math.max(now, rec.slot) + lease
  put('last', math.max(num('last'), rec.slot))
  put('ran', math.max(num('ran'), now, rec.slot) + pace())
  if tpm > 0 then put('tt', math.ceil(math.max(num('tt'), rec.slot) + est * tk)) end
  rec.vf, rec.rc = num('tt'), num('rc')
  redis.call('ZREM', W, rid)
  write_reservation(rid, rec)
end
local function no(retry_after, reason, place)
  save()
  return {'no', text(math.max(1, retry_after)), reason, text(place or 0)}
end
-- When an estimate fits into the tokens-per-minute bucket. A larger one waits for a full bucket.
local function tokens_ready(ahead)
  if tpm == 0 then return 0 end
  return math.ceil(num('tt') + (ahead + math.min(est, tpm) - tpm) * tk)
end

-- A booking of ours: a replayed question, a confirmation, or one that is void.
local rec = read_reservation(rid)
if rec then
  if rec.started == 1 then save(); return {'go', text(math.max(0, rec.slot - now))} end
  local valid = rec.gen == num('gen') and now <= rec.slot + GRACE
  if valid and now < rec.slot then save(); return {'sleep', text(rec.slot - now)} end
  if valid and tokens_ready(0) <= now and num('ran') - spare() <= now then
    put('se', math.max(0, num('se') - rec.est))
    start(rec)
    save()
    return {'go', '0'}
  end
  release(rid, rec, 0, 0, day, Q, D, M)
end

sweep(2, day, Q, D, M)

-- What no waiting in line helps against.
local stopped = is_stopped(ARGV[12])
if stopped then
  if now < num('open') then return no(num('open') - now, st.why or 'credits_exhausted') end
  local probe = st.probe
  if probe and probe ~= '' and redis.call('HEXISTS', R, string.sub(probe, 2)) == 1 then
    return no(5000000, 'probing')
  end
end
local gone = num('gone:' .. ARGV[13])
if gone > now then return no(gone - now, 'model_gone') end
if num('paused') > now then return no(num('paused') - now, 'paused') end
local limit = tonumber(ARGV[7])
if limit < 0 then limit = num('quota') end
if limit > 0 then
  local had = redis.call('HMGET', Q, 'u:' .. agent, 'h:' .. agent)
  if (tonumber(had[1]) or 0) + (tonumber(had[2]) or 0) + est > limit then return no(day_left, 'quota') end
end
-- The rule of budgets, the same as in app/budget_rule.py: used up when what was spent has reached it.
local is_held = false
local function refused(key, most, of, left, reason)
  if most == 0 or not obeys then return nil end
  if not is_priced then return no(60000000, 'no_price') end
  local had = redis.call('HMGET', key, 'u' .. of, 'h' .. of)
  local spent = tonumber(had[1]) or 0
  if spent >= most then return no(left, reason) end
  is_held = is_held or spent + (tonumber(had[2]) or 0) >= most
end
local budgets = {
  {D, num('day_budget'), '', day_left, 'budget_day'},
  {M, num('month_budget'), '', month_left, 'budget_month'},
}
if place ~= '-' then
  budgets[3] = {D, tonumber(ARGV[15]), ':' .. place, day_left, 'community_budget_day'}
  budgets[4] = {M, tonumber(ARGV[16]), ':' .. place, month_left, 'community_budget_month'}
end
for _, budget in ipairs(budgets) do
  local answer = refused(unpack(budget))
  if answer then return answer end
end
if is_held then return no(BUDGET_WAIT, 'budget_held') end

-- The slot: the earliest moment that every rate allows.
local earliest = math.max(now, num('pend'), num('ran') - spare(), tokens_ready(num('se')))
local slot = math.max(earliest, num('tat') - tau)
redis.call('ZREMRANGEBYSCORE', F, '-inf', '(' .. text(earliest))
local free = redis.call('ZRANGE', F, 0, 0, 'WITHSCORES')
local reused = free[1] and tonumber(free[2]) < slot
if reused then slot = tonumber(free[2]) end

-- The line. Ad-hoc calls have a line of their own for up to 4/5 of the rate, so that the cycle goes on.
local horizon = num('horizon')
local first = lane == 0 and num('lane') <= now + horizon
local line = first and 0 or 1
local VQ, DQ, TE, LA = 'vq' .. line, 'dq' .. line, 'te' .. line, 'la' .. line
local wait = slot - now
local admitted = wait <= horizon
  and (ticket > 0 or wait <= horizon / 2 or num(VQ) <= now + horizon)
if not admitted then
  local gap = math.max(T, num(TE))          -- what this line really moves at
  local excess, back = math.max(0, wait - horizon)
  if wait > horizon and earliest - now > horizon then
    back = earliest - now                   -- everything stands still: nobody has a better place
    if ticket == 0 then ticket = math.max(num(VQ), earliest); end
  elseif ticket == 0 then
    put(VQ, math.max(num(VQ), now + excess) + gap)
    ticket = num(VQ)
    back = ticket - now - horizon / 2
  elseif now < ticket - horizon / 2 then
    back = ticket - horizon / 2 - now       -- came early
  else
    put(DQ, math.max(num(DQ), now + excess) + gap)
    back = num(DQ) - now                    -- due, but no room: a short line in front
  end
  local reason = num('pend') - now > horizon and 'rate_limited' or 'wait'
  return no(math.floor(math.max(gap, back)), reason, math.floor(ticket))
end

-- Book.
if reused then redis.call('ZREM', F, free[1])
else put('tat', math.max(num('tat'), slot) + T) end
if first then
  put('lane', math.max(num('lane'), now) + math.ceil(T * 5 / 4))
  local moved = redis.call('ZRANGEBYSCORE', W, text(earliest), '(' .. text(slot), 'WITHSCORES', 'LIMIT', 0, 1)
  local owner = moved[1] and read_reservation(moved[1])
  if owner and owner.gen == num('gen') then  -- change places with it; it is moved once at most
    owner.slot, slot = slot, tonumber(moved[2])
    owner.exp = owner.slot + GRACE
    redis.call('ZREM', W, moved[1])
    write_reservation(moved[1], owner)
  end
end
-- What the line moves at is only seen while there is one; an idle hour says nothing.
local gap = math.min(math.max(now - num(LA), T), 8 * T)
if wait > horizon / 2 then put(TE, num(TE) + math.floor((gap - num(TE)) / 8)) else put(TE, T) end
put(LA, now)
redis.call('HINCRBY', Q, 'h:' .. agent, text(est))
hold(D, place, cost)
hold(M, place, cost)
if stopped then put('probe', 'p' .. rid) end
rec = {
  agent = agent, est = est, cost = cost, slot = slot, gen = num('gen'), started = 0,
  vf = 0, rc = 0, day = day, lane = lane, exp = slot + GRACE, place = place,
}
wait = math.max(0, slot - now)
if wait <= INSTANT then
  start(rec)
  save()
  return {'go', text(wait)}
end
put('se', num('se') + est)
write_reservation(rid, rec)
if not first then redis.call('ZADD', W, text(slot), rid) end
save()
return {'sleep', text(wait)}
