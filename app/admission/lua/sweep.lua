-- Ends the reservations of the dead when nobody asks: admission itself does two at each question.
--
-- KEYS[1..5]  S R X W F, see _shared.lua; KEYS[6..8]  Q D M, see admit.lua
-- ARGV  1 the day's name, 2 how many at most
-- returns  how many there were
--
-- Invariant: what admission would have done at its next questions; doing it twice changes nothing.
local swept = sweep(tonumber(ARGV[2]), ARGV[1], KEYS[6], KEYS[7], KEYS[8])
save()
return swept
