"""`python -m app.cli` is `paceline`."""

from app.cli.main import main

main()
