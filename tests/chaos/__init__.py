"""The chaos suite: a fleet under load, faults at random, and the books at the end.

python -m tests.chaos --faults 1000 --seed 7      (or make chaos)
"""
