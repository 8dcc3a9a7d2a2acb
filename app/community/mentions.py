"""Mentions on X of accounts that are ours: each stored once, whoever saw it, and taken up by one post."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ARRAY, CTE, ColumnElement, Connection, Uuid, any_, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert
from uuid_utils.compat import uuid7

from app.models import Mention, MentionScan

FRESH = timedelta(days=1)
AT_ONCE = 3


@dataclass(frozen=True, slots=True)
class Seen:
    """A mention as a source told of it. `post_id` is a number, as text."""

    post_id: str
    author: str
    body: str
    posted_at: datetime


@dataclass(frozen=True, slots=True)
class ScanPoint:
    """How far an account was scanned."""

    since_id: str | None
    good_at: datetime | None


def due_accounts(
    connection: Connection, accounts: Sequence[str], every: timedelta
) -> list[tuple[str, ScanPoint]]:
    """Those of the accounts whose scan is due. Each is taken by one scanner at a time, for the
    transaction; a little early counts as in time, because the clock that asks is not exact.
    """
    for account in accounts:
        connection.execute(insert(MentionScan).values(account=account).on_conflict_do_nothing())
    query = (
        select(MentionScan.account, MentionScan.since_id, MentionScan.good_at)
        .where(
            MentionScan.account.in_(accounts),
            func.coalesce(MentionScan.scanned_at <= func.now() - every * 0.9, True),
        )
        .order_by(MentionScan.scanned_at.asc().nulls_first())
        .with_for_update(skip_locked=True)
    )
    taken = [(row.account, ScanPoint(row.since_id, row.good_at)) for row in connection.execute(query)]
    if taken:
        connection.execute(
            update(MentionScan)
            .where(MentionScan.account.in_([account for account, _ in taken]))
            .values(scanned_at=func.now())
        )
    return taken


def store(connection: Connection, account: str, source: str, seen: Sequence[Seen]) -> int:
    """Store what was seen and how far the scan came; returns how many are new."""
    new = 0
    if seen:
        rows = [
            {
                "id": uuid7(),
                "post_id": s.post_id,
                "account": account,
                "author": s.author,
                "body": s.body,
                "posted_at": s.posted_at,
                "source": source,
            }
            for s in seen
        ]
        added = insert(Mention).values(rows).on_conflict_do_nothing().returning(Mention.id)
        new = len(connection.execute(added).all())
    known = connection.execute(
        select(MentionScan.since_id).where(MentionScan.account == account).with_for_update()
    ).scalar_one_or_none()
    ids = [int(s.post_id) for s in seen] + ([int(known)] if known else [])  # as numbers, not as text
    values: dict[str, object] = {"source": source, "problem": None, "good_at": MentionScan.scanned_at}
    if ids:
        values["since_id"] = str(max(ids))
    connection.execute(update(MentionScan).where(MentionScan.account == account).values(**values))
    return new


def note_problem(connection: Connection, account: str, problem: str) -> None:
    """No source answered; the next scan starts from where the last good one ended."""
    connection.execute(
        update(MentionScan).where(MentionScan.account == account).values(problem=problem[:500])
    )


def open_mentions(connection: Connection, account: str, before: datetime) -> list[tuple[UUID, str, str]]:
    """Fresh mentions that no post took up, the newest first, as (id, author, body)."""
    query = (
        select(Mention.id, Mention.author, Mention.body)
        .where(
            Mention.account == account,
            Mention.run_id.is_(None),
            Mention.posted_at > before - FRESH,
            Mention.created_at <= before,
        )
        .order_by(Mention.posted_at.desc())
        .limit(AT_ONCE)
    )
    return [(row.id, row.author, row.body) for row in connection.execute(query)]


def taking_up(stored: CTE, is_visible: ColumnElement[bool]) -> CTE:
    """As part of the statement that stores a post: if that is seen, it took up the mentions in `heard`."""
    return (
        update(Mention)
        .where(
            Mention.id == any_(bindparam("heard", type_=ARRAY(Uuid))), Mention.run_id.is_(None), is_visible
        )
        .values(run_id=stored.c.run_id)
        .cte("heard")
    )
