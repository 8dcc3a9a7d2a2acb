"""The business time zone of the rollups. Another one means other days, so all sums are made anew."""

from collections.abc import Callable
from datetime import timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine, text

from app.clock import utcnow
from app.errors import ConfigError
from app.usage.rollups import another_zone, recompute, set_watermark


def read_zone(connection: Connection) -> str | None:
    """The time zone whose days the rollups are of; None when nothing was summed up yet."""
    query = text("select zone from paceline.usage_state")
    found: str | None = connection.execute(query).scalar_one_or_none()
    return found


def check_zone(connection: Connection, zone: ZoneInfo) -> None:
    """Raise ConfigError when the rollups are of another zone's days: mixed, no sum would be right."""
    known = read_zone(connection)
    if known is not None and known != zone.key:
        raise ConfigError(another_zone(known, zone))


def rezone(engine: Engine, zone: ZoneInfo, tell: Callable[[int, int], None]) -> None:
    """Make every rollup anew by the days of another time zone, in one transaction. `tell` hears how many days
    are done, of how many. Raises ConfigError when the calls of some summed up days are gone.
    """
    with engine.begin() as connection:
        connection.execute(text("select pg_advisory_xact_lock(hashtext('paceline.usage.roll_up'))"))
        known, now = read_zone(connection), connection.execute(text("select now()")).scalar_one()
        first, last, summed = connection.execute(
            text("""
              select min(created_at), max(created_at),
                (select min(hour) from paceline.ai_usage_fleet_hourly where requests > 0)
              from paceline.ai_request_log
            """)
        ).one()
        if summed is not None and (first is None or summed + timedelta(hours=1) <= first):
            raise ConfigError(
                f"the calls of {summed:%Y-%m-%d} to {first or utcnow():%Y-%m-%d} are gone "
                "(PACELINE_USAGE__KEEP_DAYS), so their sums cannot be made anew: set "
                f"PACELINE_TIMEZONE={known} again"
            )
        for table in (
            "ai_usage_hourly",
            "ai_usage_fleet_hourly",
            "ai_latency_hourly",
            "ai_usage_daily",
            "ai_usage_agent_daily",
            "usage_days",
            "usage_rankings",
        ):
            connection.execute(text(f"delete from paceline.{table}"))
        if first is not None:
            day, end = first.astimezone(zone).date(), last.astimezone(zone).date()
            whole = (end - day).days + 1
            for done in range(whole):
                recompute(connection, zone, day + timedelta(days=done), now)
                tell(done + 1, whole)
        set_watermark(connection, zone, now, now)
