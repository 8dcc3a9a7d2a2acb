"""Changes that break a promise, each with the tests that have to notice. Run by `make mutants`."""
