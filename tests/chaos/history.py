"""Retention during the storm: old runs and votes go while the fleet works, and come back for the judge."""

from sqlalchemy import Connection, Engine, text

from app import retention
from app.clock import utcnow
from app.settings import KeepSettings

KEPT_S = 45
"""Seconds after its end that a run is kept: longer than anybody waits for its result."""


def set_up(connection: Connection) -> None:
    """Let the database put away each run that is deleted."""
    connection.execute(
        text("""
          create schema chaos;
          create table chaos.runs (like paceline.runs);
          create function chaos.put_away() returns trigger language plpgsql as
            $$ begin insert into chaos.runs select old.*; return old; end $$;
          create trigger put_away before delete on paceline.runs
            for each row execute function chaos.put_away();
        """)
    )


def forget(engine: Engine) -> dict[str, int]:
    """Do a round of retention; return how many rows went, by table."""
    days = KEPT_S / 86_400
    return retention.forget(engine, KeepSettings(runs_days=days, votes_days=days), utcnow(), seconds=5)


def bring_back(connection: Connection) -> int:
    """Put the deleted runs back; return how many there were."""
    connection.execute(text("insert into paceline.runs select * from chaos.runs"))
    return int(connection.execute(text("select count(*) from chaos.runs")).scalar_one())
