-- Shared by admit.lua, settle.lua and configure.lua; put in front of each when it is loaded.
--
-- KEYS[1]  S, hash, no expiry: configuration and the fleet's state (see app/admission/__init__.py)
-- KEYS[2]  R, hash, no expiry: request id -> reservation, a line of fields
-- KEYS[3]  X, sorted set: request id by the time at which its reservation runs out
-- KEYS[4]  W, sorted set: request id of sleeping scheduled calls by slot, those that may be moved once
-- KEYS[5]  F, sorted set: booked slots that were given back, to be used again at the same instant
-- All times are integer microseconds since 2025-01-01 on this server's clock, which is never let go
-- back: written with %.0f, because Lua's own tostring keeps 14 digits only.
local S, R, X, W, F = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local EPOCH_S = 1735689600
local INSTANT = 50000     -- a wait this short starts at once, without confirming
local GRACE = 1000000     -- who confirms later than this is taken for dead
local st = {}
do
  local flat = redis.call('HGETALL', S)
  for i = 1, #flat, 2 do st[flat[i]] = tonumber(flat[i + 1]) or flat[i + 1] end
end
local dirty = {}
local function num(name) return st[name] or 0 end
local function put(name, value) st[name] = value; dirty[name] = true end
local function text(value)
  if type(value) == 'number' then return string.format('%.0f', value + 0) end  -- + 0: no -0
  return value
end
local function save()
  local flat = {}
  for name in pairs(dirty) do flat[#flat + 1] = name; flat[#flat + 1] = text(st[name]) end
  if #flat > 0 then redis.call('HSET', S, unpack(flat)) end
end

local now
do
  local time = redis.call('TIME')
  now = (time[1] - EPOCH_S) * 1000000 + time[2] + num('off')
  if now < num('hw') then
    put('off', num('off') + num('hw') - now)
    now = num('hw')
  end
  put('hw', now)
end

-- The rate in thousandths of a call per second: cut after a 429, then climbing back in 30 seconds.
local function rate()
  local full = num('rate')
  if not st.rate0 then return full end
  local since = now - num('pend')
  if since < 0 then since = 0 end
  local r = num('rate0') + math.floor(full * since / 30000000)
  if r > full then r = full end
  return r
end
-- Three thousandths below the rate: so the gateway's bucket, which we can only guess at, fills again.
local function step() return math.ceil(1003000000 / rate()) end
-- Starts as they really happened, which is what the gateway sees: `ran` is when a bucket that loses
-- one call per 1/rate would be empty. It may be ahead of now by `spare`: half of what a gateway forgives
-- that takes max(2, rate/10) calls at once, the other half is left for the way there; or the burst.
local function pace() return math.ceil(1000000000 / num('rate')) end
local function spare()
  local half = (math.max(2, math.floor(num('rate') / 10000)) - 1) / 2
  return math.floor(math.max(half, num('burst') - 1) * pace())
end

-- Whether calls with this key are stopped: a stop may be about one key, then `stopkey` holds its fingerprint.
local function is_stopped(fingerprint)
  local whose = st.stopkey or ''
  return num('open') > 0 and (whose == '' or whose == 'k' .. fingerprint)
end
local function end_stop()
  for _, name in ipairs({'open', 'opened', 'trips', 'resets'}) do put(name, 0) end
  for _, name in ipairs({'probe', 'why', 'stopkey', 'suspect'}) do put(name, '') end
end

-- After a pause or a change: the bucket is empty and no sleeper's booking counts any more.
local function restart(at)
  local T = step()
  local first = math.max(at, num('last') + T)
  put('gen', num('gen') + 1)
  put('tat', first + (num('burst') - 1) * T)
  put('se', 0)
  redis.call('DEL', W, F)
end

local NAMES = {'agent', 'est', 'cost', 'slot', 'gen', 'started', 'vf', 'rc', 'day', 'lane', 'exp', 'place'}
local TEXTS = {agent = true, day = true, place = true}
local function read_reservation(rid)
  local line = redis.call('HGET', R, rid)
  if not line then return nil end
  local rec, i = {}, 1
  for field in string.gmatch(line, '%S+') do
    local name = NAMES[i]
    rec[name] = TEXTS[name] and field or tonumber(field)
    i = i + 1
  end
  rec.place = rec.place or '-'  -- written by the release before this one
  return rec
end
local function write_reservation(rid, rec)
  local line = {}
  for i, name in ipairs(NAMES) do line[i] = text(rec[name]) end
  redis.call('HSET', R, rid, table.concat(line, ' '))
  redis.call('ZADD', X, text(rec.exp), rid)
end

-- Money of the fleet, `u` and `h`, and of a call's place (a community) if it has one, `u:PLACE` and `h:PLACE`.
local function hold(key, place, cost)
  redis.call('HINCRBY', key, 'h', text(cost))
  if place ~= '-' then redis.call('HINCRBY', key, 'h:' .. place, text(cost)) end
end
local function spend(key, place, cost)
  if cost <= 0 then return end
  redis.call('HINCRBY', key, 'u', text(cost))
  if place ~= '-' then redis.call('HINCRBY', key, 'u:' .. place, text(cost)) end
end

-- Take a reservation out and turn what it held into what was used. `day` is the day that the keys
-- Q, D and M are of: holds of another day went away with that day's keys.
local function release(rid, rec, used, cost, day, Q, D, M)
  redis.call('HDEL', R, rid)
  redis.call('ZREM', X, rid)
  redis.call('ZREM', W, rid)
  if rec.started == 0 and rec.gen == num('gen') then put('se', math.max(0, num('se') - rec.est)) end
  if rec.day == day then
    redis.call('HINCRBY', Q, 'h:' .. rec.agent, text(-rec.est))
    if used > 0 then redis.call('HINCRBY', Q, 'u:' .. rec.agent, text(used)) end
    hold(D, rec.place, -rec.cost)
    spend(D, rec.place, cost)
  end
  if string.sub(rec.day, 1, 7) == string.sub(day, 1, 7) then
    hold(M, rec.place, -rec.cost)
    spend(M, rec.place, cost)
  end
  -- LLM tokens per minute: more than reserved is debt, less comes back as far as it has not drained.
  local tpm = num('tpm')
  if tpm > 0 and rec.started == 1 then
    local tk = 60000000 / tpm
    local over = used - rec.est
    if over > 0 then
      put('tt', math.ceil(math.max(num('tt'), now) + over * tk))
    elseif over < 0 then
      local left = rec.vf - (num('rc') - rec.rc) - now
      local back = math.floor(math.max(0, math.min(-over * tk, left)))
      put('tt', num('tt') - back)
      put('rc', num('rc') + back)
    end
  end
end

-- Reservations of the dead: not begun, all comes back; begun, the estimate was probably spent.
local function sweep(most, day, Q, D, M)
  local expired = redis.call('ZRANGEBYSCORE', X, '-inf', text(now - 1), 'LIMIT', 0, most)
  for _, rid in ipairs(expired) do
    local rec = read_reservation(rid)
    if rec then
      release(rid, rec, rec.started * rec.est, rec.started * rec.cost, day, Q, D, M)
      if st.probe == 'p' .. rid then put('probe', '') end
    end
  end
  return #expired
end
