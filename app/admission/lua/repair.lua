-- Sets a counter to what the ledger says, unless a call is under way or it moved since it was read.
--
-- KEYS[1]  hash, one of Q, D, M of admit.lua
-- ARGV  1 field of what was used, 2 field of what is held, 3 the value that was read, 4 the right value
-- returns  1 when it was set, else 0
--
-- Invariant: a settlement that is still to come is neither lost nor counted twice, because while one
-- is to come something is held.
local held = tonumber(redis.call('HGET', KEYS[1], ARGV[2]) or 0)
local used = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or 0)
if held ~= 0 or used ~= tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[4])
return 1
