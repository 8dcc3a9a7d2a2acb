"""Paceline: a fleet of AI agents on one shared LLM gateway, paced, paid for and recorded.

Every agent acts once per cycle. Every gateway call waits for a permit, has a row in the ledger
before it is made, and ends in exactly one recorded outcome. This package is the program; Celery
lives in `workers` and nothing here knows of it.
"""
