-- Puts the configuration in force, if it is newer than the one that is.
--
-- KEYS[1..5]  S R X W F, see _shared.lua
-- ARGV  1 version, 2 thousandths of a call per second, 3 burst, 4 horizon in microseconds, 5 LLM tokens
--       per minute, 6 LLM tokens per agent and day, 7 micro-dollars per day, 8 per month (0: no limit),
--       9 epoch microseconds until which all is paused, 0 for not, 10 'close' to end what a gateway's
--       answers stopped: a stop, a pause after 429, dropped models
-- returns  1 when it took effect, 0 when a configuration at least as new is in force
--
-- Invariant: bookings made under the old configuration are void, and the new one begins with an empty
-- bucket: a change lets no more calls through than the stricter of the two.
local version = tonumber(ARGV[1])
local resumes = ARGV[10] == 'close'
if resumes then
  end_stop()
  for name in pairs(st) do
    if string.sub(name, 1, 5) == 'gone:' then put(name, 0) end
  end
  if num('pend') > now then
    put('pend', now)
    restart(now)
  end
end
save()
if st.version and version <= st.version then return 0 end
-- A short pause after a 429 holds through a change. A long one ends: somebody looked, and one call will tell.
if num('pend') > now + num('horizon') then put('pend', now) end
local names = {'version', 'rate', 'burst', 'horizon', 'tpm', 'quota', 'day_budget', 'month_budget'}
for i, name in ipairs(names) do put(name, tonumber(ARGV[i])) end
put('rate0', num('rate'))
local paused = tonumber(ARGV[9])
put('paused', paused > 0 and paused - EPOCH_S * 1000000 or 0)
put('ran', math.min(num('ran'), now + pace()))  -- counted at the old rate
restart(math.max(now, num('pend')))
save()
return 1
