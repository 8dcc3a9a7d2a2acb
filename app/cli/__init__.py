"""The command line: one file per noun. Data on standard output, everything else on standard error."""
