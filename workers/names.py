"""Names that several modules of the workers share."""

RUN = "agents.run"
"""The name of the task of a run, whose id is the run's."""
