"""Budgets of single communities. The fleet's own are limits."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, or_, select, update

from app.audit_log import note_change
from app.models import Community


@dataclass(frozen=True, slots=True)
class Budget:
    """A community's budgets in micro-dollars; 0: none of its own."""

    id: UUID
    community: str
    day_micros: int
    month_micros: int


def list_budgets(connection: Connection) -> list[Budget]:
    """Communities that have a budget of their own, by name."""
    has_one = or_(Community.budget_day_micros > 0, Community.budget_month_micros > 0)
    query = select(Community.id, Community.name, Community.budget_day_micros, Community.budget_month_micros)
    rows = connection.execute(query.where(has_one).order_by(Community.name))
    return [Budget(*row) for row in rows]


def set_budget(
    connection: Connection, community: str, changes: dict[str, int], *, actor: str, reason: str
) -> bool:
    """Change a community's budgets (columns of its table), with an audit entry; False: no such community."""
    columns = [getattr(Community, name) for name in changes]
    row = connection.execute(
        select(Community.id, *columns).where(Community.name == community).with_for_update()
    ).one_or_none()
    if row is None:
        return False
    connection.execute(update(Community).where(Community.id == row.id).values(**changes))
    before = {name: getattr(row, name) for name in changes}
    note_change(
        connection,
        actor=actor,
        action="budget.set",
        subject=community,
        before=before,
        after=changes,
        reason=reason,
    )
    return True
