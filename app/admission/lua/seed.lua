-- Sets counters that are not there yet: after a fresh start, a flush, at midnight.
--
-- KEYS[1]  one of Q D M, see admit.lua
-- ARGV     field, value, field, value, ...
-- returns  nothing
--
-- Invariant: a counter that is there stays as it is, so a second seeder does no harm.
for at = 1, #ARGV, 2 do
  redis.call('HSETNX', KEYS[1], ARGV[at], ARGV[at + 1])
end
