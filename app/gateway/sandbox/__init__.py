"""The sandbox gateway: an OpenAI-compatible server to play with and to be judged by.

It is strict on purpose: its own rate limit, its own credits, its own tally of what it was asked, by
request id. It shares no code with the limiter or the ledger, so that their agreement means something.
"""
