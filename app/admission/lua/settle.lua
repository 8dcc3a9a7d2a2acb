-- Ends a reservation: what was held becomes what was used. What the gateway answered steers the whole fleet.
--
-- KEYS[1..8]  as in admit.lua, Q, D and M of the day of the admission
-- ARGV  1 request id, 2 effect: ok, failed, void (no call was made), pause, stop or drop_model, 3 LLM tokens
--       used or -1 (unknown: the estimate stands), 4 micro-dollars used or -1, 5 the day's name,
--       6 microseconds to pause, or until a stop's limit begins anew (0: unknown), 7 fingerprint of the
--       gateway key, 8 model, 9 reason of a stop, 10 1 when a stop is about this key only, 11 how many runs
--       must see it before it takes effect, 12 the run
-- returns  1, or 0 when there is no such reservation: settled before, run out, or lost with the state
--
-- Invariant: a reservation is settled once, however often it is asked for; of many refusals that were
-- under way together, one cuts the rate or stops the fleet.
local Q, D, M = KEYS[6], KEYS[7], KEYS[8]
local rid, effect, span, fingerprint, model = ARGV[1], ARGV[2], tonumber(ARGV[6]), ARGV[7], ARGV[8]
local HOUR = 3600000000
local rec = read_reservation(rid)
if not rec then return 0 end
local used, cost = tonumber(ARGV[3]), tonumber(ARGV[4])
if effect == 'void' then used, cost = 0, 0 end
if used < 0 then used = rec.est end
if cost < 0 then cost = rec.cost end
release(rid, rec, used, cost, ARGV[5], Q, D, M)
local probing = st.probe == 'p' .. rid
if probing then put('probe', '') end

-- Whether enough runs in a row saw it: the mark is how many, of what and the last of them. An answered call
-- takes it away.
local function is_confirmed(mark)
  local count, reason, run = string.match(st[mark] or '', '^(%d+) (%S+) (%S+)$')
  if reason ~= ARGV[9] then count = 0
  elseif run == ARGV[12] then return tonumber(count) >= tonumber(ARGV[11]) end
  count = tonumber(count) + 1
  put(mark, text(count) .. ' ' .. ARGV[9] .. ' ' .. ARGV[12])
  return count >= tonumber(ARGV[11])
end

if effect == 'void' and rec.started == 0 and rec.gen == num('gen') and rec.slot > now then
  redis.call('ZADD', F, text(rec.slot), text(rec.slot) .. ':' .. rid)
elseif effect == 'pause' then
  local until_ = now + span
  if rec.gen == num('gen') then
    local cut = math.max(math.floor(num('rate') / 10), math.floor(rate() * 7 / 10), 1)
    put('pend', math.max(num('pend'), until_))
    put('rate0', cut)
    restart(num('pend'))
  elseif until_ > num('pend') then
    put('pend', until_)
    put('tat', math.max(num('tat'), until_ + (num('burst') - 1) * step()))
  end
elseif effect == 'stop' then
  local stopped = is_stopped(fingerprint)
  if (probing or not stopped) and is_confirmed('suspect') then
    put('trips', stopped and math.min(num('trips') + 1, 7) or 1)
    local wait = math.min(HOUR, 60000000 * 2 ^ (num('trips') - 1))
    if span > 0 then wait = math.min(span, HOUR) end  -- when the limit begins anew, and each hour before
    put('open', now + wait)
    put('opened', stopped and num('opened') > 0 and num('opened') or now)
    put('resets', span > 0 and now + span or 0)
    put('why', ARGV[9])
    put('stopkey', ARGV[10] == '1' and 'k' .. fingerprint or '')
    if not stopped then put('probe', '') end  -- of a stop of another key
    restart(now)
  end
elseif effect == 'drop_model' then
  if is_confirmed('seen:' .. model) then put('gone:' .. model, now + 600000000) end
elseif effect == 'ok' then
  if (st['seen:' .. model] or '') ~= '' then put('seen:' .. model, '') end
  if (st.suspect or '') ~= '' then put('suspect', '') end
  if probing then
    end_stop()
    put('pend', now)
    put('rate0', math.max(1, math.floor(num('rate') / 4)))
  end
end
save()
return 1
