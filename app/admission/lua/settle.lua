-- Ends a reservation: what was held becomes what was used. The outcome steers the whole fleet.
--
-- KEYS[1..8]  as in admit.lua, Q, D and M of the day of the admission
-- ARGV  1 request id, 2 outcome: ok, throttled, broke, key_refused, model_gone, failed or void (no call
--       was made), 3 LLM tokens used or -1 (unknown: the estimate stands), 4 micro-dollars used or
--       -1, 5 the day's name, 6 microseconds to pause after throttled, 7 fingerprint of the gateway
--       key, 8 model
-- returns  1, or 0 when there is no such reservation: settled before, run out, or lost with the state
--
-- Invariant: a reservation is settled once, however often it is asked for; of many 429s or 402s that
-- were under way together, one cuts the rate or opens the breaker.
local Q, D, M = KEYS[6], KEYS[7], KEYS[8]
local rid, outcome = ARGV[1], ARGV[2]
local rec = read_reservation(rid)
if not rec then return 0 end
local used, cost = tonumber(ARGV[3]), tonumber(ARGV[4])
if outcome == 'void' then used, cost = 0, 0 end
if used < 0 then used = rec.est end
if cost < 0 then cost = rec.cost end
release(rid, rec, used, cost, ARGV[5], Q, D, M)
local probing = st.probe == 'p' .. rid
if probing then put('probe', '') end
if outcome == 'void' and rec.started == 0 and rec.gen == num('gen') and rec.slot > now then
  redis.call('ZADD', F, text(rec.slot), text(rec.slot) .. ':' .. rid)
elseif outcome == 'throttled' then
  local until_ = now + tonumber(ARGV[6])
  if rec.gen == num('gen') then
    local cut = math.max(math.floor(num('rate') / 10), math.floor(rate() * 7 / 10), 1)
    put('pend', math.max(num('pend'), until_))
    put('rate0', cut)
    restart(num('pend'))
  elseif until_ > num('pend') then
    put('pend', until_)
    put('tat', math.max(num('tat'), until_ + (num('burst') - 1) * step()))
  end
elseif outcome == 'broke' then
  if num('open') == 0 or probing then
    put('trips', math.min(num('trips') + 1, 7))
    put('open', now + math.min(3600, 60 * 2 ^ (num('trips') - 1)) * 1000000)
    put('opened', st.opened and num('opened') > 0 and num('opened') or now)
    restart(now)
  end
elseif outcome == 'key_refused' then
  put('badkey', 'k' .. ARGV[7])
  restart(now)
elseif outcome == 'model_gone' then
  put('gone:' .. ARGV[8], now + 600000000)
elseif outcome == 'ok' and probing then
  put('open', 0)
  put('opened', 0)
  put('trips', 0)
  put('pend', now)
  put('rate0', math.max(1, math.floor(num('rate') / 4)))
end
save()
return 1
