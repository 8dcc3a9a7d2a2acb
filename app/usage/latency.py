"""How long answered calls take, as a histogram that can be added up over hours: buckets 5 % wide."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

STEP = 1.05
BUCKET = f"ceil(ln(greatest(latency_ms, 1)) / ln({STEP}))::int"
"""The bucket of a row of the ledger; bucket n holds more than 1.05^(n-1) and at most 1.05^n ms."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds within 5 %; None when there was no answer."""

    p50_ms: int | None
    p95_ms: int | None


def latency_between(connection: Connection, start: datetime, until: datetime) -> Latency:
    """Over whole hours that are rolled up; the running hour is in it as far as the last round came."""
    query = text("""
      select bucket, sum(requests) from paceline.ai_latency_hourly
      where hour >= :start and hour < :until group by 1 order by 1
    """)
    rows = connection.execute(query, {"start": start, "until": until})
    counts = [(int(row[0]), int(row[1])) for row in rows]
    return Latency(percentile(counts, 0.5), percentile(counts, 0.95))


def percentile(counts: Sequence[tuple[int, int]], share: float) -> int | None:
    """The middle of the bucket in which that share of the requests is reached; buckets in order."""
    total = sum(count for _, count in counts)
    seen = 0
    for bucket, count in counts:
        seen += count
        if seen >= share * total:
            return round(math.pow(STEP, bucket - 0.5))
    return None
