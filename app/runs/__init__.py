"""Runs: an agent's turn, from opening to end.

A run is a row before it is a message. Postgres says what is so; a message is only a hint that makes
a worker look. Losing a message delays a run, having it twice changes nothing: who claims a run gets
a fencing number (`attempt`) and a lease, and every later write names that number.
"""
