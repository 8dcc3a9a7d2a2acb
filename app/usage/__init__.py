"""What was spent: the call ledger, prices and reports."""
