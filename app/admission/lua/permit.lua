-- Books the next free moment for one gateway call and says how long to wait for it.
--
-- KEYS[1]  string, the time (integer microseconds) at which a full bucket of permits is owed again;
--          expires by itself once that is past
-- KEYS[2]  string, the fingerprint of a gateway key that the gateway refused; no expiry
-- ARGV[1]  microseconds from one permit to the next, at least 1
-- ARGV[2]  burst: permits that may be used at once after a pause, at least 1
-- ARGV[3]  fingerprint of the caller's gateway key
-- returns  microseconds to wait before the call, 0 or more; -1 when that key was refused
--
-- Invariant: permits in any window of w microseconds <= burst + w / ARGV[1]; a refusal books nothing.
-- The clock is the server's own, so that the callers' clocks do not matter.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if redis.call('GET', KEYS[2]) == ARGV[3] then return -1 end
local step = tonumber(ARGV[1])
local owed = tonumber(redis.call('GET', KEYS[1]) or 0)
if owed < now then owed = now end
local wait = owed - (tonumber(ARGV[2]) - 1) * step - now
if wait < 0 then wait = 0 end
owed = owed + step
redis.call('SET', KEYS[1], string.format('%.0f', owed), 'PX', math.ceil((owed - now) / 1000) + 1000)
return wait
