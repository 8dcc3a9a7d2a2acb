"""What is old goes, in small steps, and nothing that somebody needs."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import func, insert, select, text, update

from app import retention
from app.clock import utcnow
from app.community.review import decide
from app.models import AuditEntry, Call, Comment, Incident, Post, Run, Session, SignInFailure, Vote
from app.runs.books import audit
from app.runs.execute import execute
from app.settings import KeepSettings, Settings
from tests.support.factories import make_agents, make_run
from tests.support.web import person

KEEP = KeepSettings()


@pytest.fixture
def written(services):
    """Agents had some turns: posts, comments, votes, calls."""
    with services.engine.begin() as connection:
        runs = [make_run(connection, one) for one in make_agents(connection, 4) for _ in range(3)]
    for run_id in runs:
        assert execute(services, run_id).state == "completed"
    return services


def count(services, table, *where):
    with services.engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(table).where(*where)).scalar_one()


def age(services, days, *tables):
    """As if all of it had been written so long ago."""
    shift = timedelta(days=days)
    with services.engine.begin() as connection:
        for table in tables or (Run, Post, Comment, Vote):
            values = {"created_at": table.created_at - shift}
            if table is Run:
                values |= {"finished_at": Run.finished_at - shift}
            connection.execute(update(table).values(values))
        # the ids of votes sort by time, and they are found by them
        connection.execute(text(f"update paceline.votes set id = {ID_OF_ITS_TIME}"))


ID_OF_ITS_TIME = """(lpad(to_hex((extract(epoch from created_at) * 1000)::bigint), 12, '0') || '70008000' ||
  substr(md5(id::text), 1, 12))::uuid"""


def test_each_goes_at_its_own_time_and_the_books_stay_equal(written):
    comments, posts, calls = (count(written, t) for t in (Comment, Post, Call))
    assert min(comments, posts, count(written, Vote)) > 0
    assert retention.forget(written.engine, KEEP, utcnow()) == {}, "nothing is old"
    age(written, 31)
    gone = retention.forget(written.engine, KEEP, utcnow())
    assert set(gone) == {"runs", "votes"}
    assert (count(written, Run), count(written, Vote)) == (0, 0)
    assert (count(written, Comment), count(written, Post), count(written, Call)) == (comments, posts, calls)
    assert audit(written, None).total == 0
    age(written, 335, Post, Comment)
    assert retention.forget(written.engine, KEEP, utcnow()) == {"comments": comments, "posts": posts}
    assert audit(written, None).total == 0
    assert count(written, Call) == calls, "calls go by partition, when their sums are proved"


def test_what_a_person_hid_stays_with_all_that_hangs_on_it(written):
    with written.engine.begin() as connection:
        hidden, post = connection.execute(select(Comment.id, Comment.post_id).limit(1)).one()
        decide(connection, "hide", [hidden], actor="eve", reason="x")
    age(written, 400)
    retention.forget(written.engine, KEEP, utcnow())
    assert count(written, Comment) == 1
    with written.engine.connect() as connection:
        assert connection.execute(select(Post.id)).scalars().all() == [post], "its post stays"
    assert count(written, AuditEntry) > 0


def test_zero_keeps_for_ever_and_open_runs_and_those_to_continue_stay(written):
    age(written, 400)
    assert (
        retention.forget(written.engine, KeepSettings(runs_days=0, votes_days=0, content_days=0), utcnow())
        == {}
    )
    with written.engine.begin() as connection:
        ended = connection.execute(select(Run.id)).scalars().all()
        connection.execute(update(Run).where(Run.id == ended[0]).values(is_continued=False))
        connection.execute(update(Run).where(Run.id == ended[1]).values(state="queued", finished_at=None))
    assert retention.forget(written.engine, KEEP, utcnow())["runs"] == len(ended) - 2
    assert count(written, Run) == 2


def test_it_goes_in_small_steps_that_wait_for_nobody(written, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 2)
    age(written, 31)
    with written.engine.begin() as held:
        held.execute(select(Run.id).limit(1).with_for_update())
        done = threading.Event()
        worker = threading.Thread(
            target=lambda: (retention.forget(written.engine, KEEP, utcnow()), done.set()), daemon=True
        )
        worker.start()
        assert done.wait(20), "it does not wait for a row that somebody holds"
        worker.join()
        assert count(written, Run) == 1
    retention.forget(written.engine, KEEP, utcnow())
    assert count(written, Run) == 0
    age(written, 31, Vote)
    assert retention.forget(written.engine, KEEP, utcnow(), seconds=0) == {}, "a round has an end"


def test_what_is_over_by_itself_goes_too(services):
    admin = person(services)
    long_ago = utcnow() - timedelta(days=500)
    with services.engine.begin() as connection:
        connection.execute(insert(Session).values(hash="old", account_id=admin.id, expires_at=long_ago))
        connection.execute(insert(SignInFailure).values(key="x", failures=3, last_at=long_ago))
        incident = {"opened_at": long_ago, "last_at": long_ago, "calls": 1, "agents": 1, "peak_per_minute": 1}
        connection.execute(
            insert(Incident),
            [
                {"kind": "rate_limited", "closed_at": long_ago, **incident},
                {"kind": "rate_limited", "closed_at": None, **incident},
            ],
        )
    assert retention.forget(services.engine, KEEP, utcnow()) == {
        "sessions": 1,
        "sign_in_failures": 1,
        "incidents": 1,
    }
    assert count(services, Incident) == 1, "one that is open stays"


def test_the_name_of_before_still_sets_how_long_calls_are_kept():
    assert Settings().kept.calls_days == 90
    assert Settings(usage={"keep_days": 7}).kept.calls_days == 7
    assert Settings(usage={"keep_days": 7}, keep={"calls_days": 8}).kept.calls_days == 8


def test_sizes_say_how_a_table_grows_and_where_it_ends(written):
    with written.engine.connect() as connection:
        fresh = {
            one.table: one for one in retention.sizes(connection, Settings(keep=KEEP.model_dump()), utcnow())
        }
    assert fresh["runs"].size > 0
    assert fresh["runs"].per_day is None, "nobody knows after a second"
    age(written, 10)
    with written.engine.connect() as connection:
        found = {
            one.table: one for one in retention.sizes(connection, Settings(keep=KEEP.model_dump()), utcnow())
        }
    assert found["runs"].per_day == pytest.approx(found["runs"].size / 10, rel=0.01)
    assert found["runs"].ends_at == pytest.approx(found["runs"].size * 3, rel=0.01)
    assert found["audit_log"].ends_at is None, "it is kept for ever"


def test_the_forecast_says_when_the_disk_is_full():
    gb = 10**9
    runs = retention.Size("runs", 3 * gb, 1, 0.1 * gb, 3 * gb)
    posts = retention.Size("posts", 1 * gb, 1, 0.1 * gb, 36 * gb)
    log = retention.Size("audit_log", 1 * gb, 1, 0.1 * gb, None)

    def days(*found, disk=0):
        return retention.forecast(found, KeepSettings(disk_gb=disk)).full_in_days

    assert days(runs, posts) is None, "nobody named a disk"
    assert days(runs, posts, disk=40) is None, "39 GB is where it ends"
    assert days(runs, posts, disk=5) == pytest.approx(10), "runs grow no more"
    assert days(runs, posts, log, disk=7) == pytest.approx(10)
    assert days(runs, posts, log, disk=76) == pytest.approx(350 + 10), "posts end, the log goes on"
    found = retention.forecast([runs, posts, log], KeepSettings())
    assert (found.ends_at, found.for_ever) == (40 * gb, 0.1 * gb)
    assert days(runs, posts, disk=2) == 0
