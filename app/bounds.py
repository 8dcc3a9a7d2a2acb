"""Bounds of what a person sets, declared once for the environment, the command line, pages and the API."""

from typing import Annotated

from pydantic import Field

INT_MAX = 2_147_483_647
"""The largest integer of a column."""

RATE_MIN, RATE_MAX = 0.001, 100_000
Rate = Annotated[float, Field(ge=RATE_MIN, le=RATE_MAX, allow_inf_nan=False)]
"""Calls per second."""
Burst = Annotated[int, Field(ge=1, le=100_000)]
"""Calls that may start at once."""
MaxWait = Annotated[float, Field(ge=0.1, le=60, allow_inf_nan=False)]
"""Seconds that a run waits on a worker."""
Count = Annotated[int, Field(ge=0, le=INT_MAX)]
"""A cap or a quota; 0 is none."""
Dollars = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
"""A budget in US dollars; 0 is none."""
Minutes = Annotated[float, Field(gt=0, le=525_600, allow_inf_nan=False)]
"""A stretch of at most a year."""
Seconds = Annotated[int, Field(ge=0, le=10 * 366 * 86_400)]
"""A stretch of at most ten years; 0 is none."""
