"""Usage: the call ledger, prices and reports."""
