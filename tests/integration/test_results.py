"""Results of runs as Celery asks for them, over `paceline.runs`. A row's truth needs no worker."""

import threading
from datetime import timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
from celery import Celery
from celery.exceptions import TaskRevokedError
from celery.exceptions import TimeoutError as CeleryTimeout
from kombu.utils.json import dumps, loads
from sqlalchemy import event, select, update

from app.clock import sleep, utcnow
from app.errors import ConfigError, NotFound, RunFailed, Unreachable
from app.models import AuditEntry, Run
from app.refusals import EXPIRED_ADHOC
from app.runs import adhoc, groups, leases, rescue, stopping
from app.runs.report import RunReport
from tests.support.factories import make_agents, make_run
from workers import asking, results, revoking
from workers.asking import RunTask


def run_agent(agent, cycle=None):
    raise AssertionError("no worker is here")


@pytest.fixture
def celery(services, monkeypatch):
    """A Celery application over the test's database; what is published is a list."""
    for module in (results, asking, revoking):
        monkeypatch.setattr(module, "engine", lambda: services.engine)
    app = Celery("test", broker="memory://", set_as_current=False, backend="workers.results:RunsBackend")
    app.conf.update(result_backend_thread_safe=True, task_queues=None)
    published = []
    monkeypatch.setattr(RunTask, "_publish", lambda _, run_id: published.append(run_id))
    task = app.task(name="agents.run", base=RunTask)(run_agent)
    with services.engine.begin() as connection:
        agents = make_agents(connection, 3)
    yield SimpleNamespace(app=app, task=task, published=published, agents=agents, engine=services.engine)
    app.close()


def end(celery, run_id, state, reason=None, **more):
    with celery.engine.begin() as connection:
        values = {"state": state, "reason": reason, "finished_at": utcnow()} | more
        connection.execute(update(Run).where(Run.id == run_id).values(values))


def row(celery, run_id):
    with celery.engine.connect() as connection:
        return connection.execute(select(Run.__table__).where(Run.id == run_id)).one()


def test_states_are_those_that_celery_users_know(celery):
    result = celery.task.delay("a0")
    assert (result.state, result.ready()) == ("PENDING", False)
    with celery.engine.begin() as connection:
        held = leases.claim(connection, row(celery, result.id).id, timedelta(seconds=30))
    assert result.state == "STARTED"
    with celery.engine.begin() as connection:
        leases.snooze(connection, held, timedelta(seconds=30), None)
    assert (result.state, result.ready()) == ("RETRY", False)
    for state, told in (
        ("completed", "SUCCESS"),
        ("skipped", "SUCCESS"),
        ("failed", "FAILURE"),
        ("quarantined", "FAILURE"),
    ):
        one = celery.task.delay("a0")
        end(celery, one.id, state, "why")
        assert (one.state, one.ready(), one.successful()) == (told, True, told == "SUCCESS"), state
        assert one.date_done == row(celery, one.id).finished_at
        if told == "SUCCESS":
            run = one.get(timeout=5)
            assert isinstance(run, RunReport)
            assert (run.agent, run.state, run.reason) == ("a0", state, "why")
        else:
            with pytest.raises(RunFailed, match=f"of a0 {state}: why"):
                one.get(timeout=5)
            assert isinstance(one.info, RunFailed)
    unknown = celery.app.AsyncResult(str(uuid4()))
    assert (unknown.state, unknown.exists(), celery.app.AsyncResult("no id").state) == (
        "PENDING",
        False,
        "PENDING",
    )


def test_a_run_is_stored_before_anybody_is_told(celery):
    result = celery.task.delay("a1")
    assert [str(run_id) for run_id in celery.published] == [result.id]
    again = celery.task.apply_async(("a1",), task_id=result.id)
    assert again.id == result.id
    with celery.engine.connect() as connection:
        assert len(connection.execute(select(Run.id)).all()) == 1, "the same id is the same run"
    end(celery, result.id, "completed")
    celery.task.apply_async(("a1",), task_id=result.id)
    assert len(celery.published) == 2, "one that has ended is not sent again"


def test_mistakes_are_told_at_once_and_leave_nothing_behind(celery):
    with pytest.raises(NotFound, match="unknown agent 'a11': did you mean a1"):
        celery.task.delay("a11")
    for who in ("nob\x00dy", "\x00", "%", "_", "\\", "@a11", "A 1", "x" * 100_000, "é", str(uuid4())):
        with pytest.raises(NotFound, match="unknown agent") as caught:
            celery.task.delay(who)
        assert len(str(caught.value)) < 300
    for wrong, said in (
        ({"args": ()}, "which agent"),
        ({"args": (7,)}, "which agent"),
        ({"args": ("a0",), "task_id": "mine"}, "no UUID"),
        ({"args": ("a0",), "expires": 1, "countdown": 5}, "expire before it begins"),
        ({"args": ("a0",), "queue": "nope"}, "no queue 'nope'"),
    ):
        with pytest.raises(ConfigError, match=said):
            celery.task.apply_async(**wrong)
    with celery.engine.connect() as connection:
        assert connection.execute(select(Run.id)).all() == []
    assert celery.published == []


def test_a_database_that_is_away_is_said_instead_of_publishing_blindly(celery, monkeypatch):
    from app.db import make_engine  # noqa: PLC0415

    away = make_engine("postgresql://nobody@127.0.0.1:9/none")
    for module in (results, asking):
        monkeypatch.setattr(module, "engine", lambda: away)
    with pytest.raises(Unreachable, match="the run was not stored: PostgreSQL does not answer"):
        celery.task.delay("a0")
    with pytest.raises(Unreachable, match="the run cannot be looked up"):
        _ = celery.app.AsyncResult(str(uuid4())).state
    assert celery.published == []
    away.dispose()


def test_a_later_time_is_kept_in_postgres_and_no_change_of_limits_ends_the_wait(celery):
    later = celery.task.apply_async(("a0",), countdown=7200)
    assert (later.state, celery.published) == ("PENDING", [])
    found = row(celery, later.id)
    assert found.state == "snoozed"
    assert abs(found.due_at - utcnow() - timedelta(hours=2)) < timedelta(seconds=60)
    with celery.engine.begin() as connection:
        assert leases.wake_all(connection) == 0
        assert leases.wake(connection) == []
        past = utcnow() - timedelta(seconds=1)
        connection.execute(update(Run).values(due_at=past, wake_at=past))
        assert [str(run_id) for run_id in leases.wake(connection)] == [later.id]


def test_a_run_that_did_not_begin_in_time_is_skipped_and_says_so(celery):
    result = celery.task.apply_async(("a0",), expires=60)
    with celery.engine.begin() as connection:
        connection.execute(update(Run).values(expires_at=utcnow() - timedelta(seconds=1)))
        rescue.rescue(connection, patience=timedelta(0), call_deadline=timedelta(hours=1))
    assert (result.get(timeout=5).state, result.info.reason) == ("skipped", EXPIRED_ADHOC)


def test_who_revoked_is_kept_and_a_skip_by_a_limit_is_no_revocation(celery):
    revoked, skipped = celery.task.delay("a0"), celery.task.delay("a1")
    assert [str(run_id) for run_id in revoking.cancel([revoked.id, "no id"], "olga")] == [revoked.id]
    end(celery, skipped.id, "skipped", "quota: used up")
    assert (revoked.state, skipped.state) == ("REVOKED", "SUCCESS")
    with pytest.raises(TaskRevokedError, match="revoked by celery control"):
        revoked.get(timeout=5)
    with celery.engine.connect() as connection:
        assert connection.execute(select(AuditEntry.actor, AuditEntry.action)).all() == [
            ("olga", "runs.cancel")
        ]


def test_hundreds_of_waiting_gets_cost_few_queries(celery):
    with celery.engine.begin() as connection:
        runs = [make_run(connection, celery.agents[0]) for _ in range(300)]
    statements, found = [], []
    event.listen(celery.engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    threads = [
        threading.Thread(
            target=lambda one=run_id: found.append(celery.app.AsyncResult(str(one)).get(timeout=30).id)
        )
        for run_id in runs
    ]
    for thread in threads:
        thread.start()
    sleep(1)
    with celery.engine.begin() as connection:
        connection.execute(update(Run).values(state="completed", finished_at=utcnow()))
    for thread in threads:
        thread.join(30)
    assert sorted(found) == sorted(runs)
    assert len(statements) < 60, len(statements)


def test_results_come_as_soon_as_they_are_there_and_late_ones_say_where_they_stand(celery):
    first, second = celery.task.delay("a0"), celery.task.delay("a1")
    end(celery, second.id, "completed")
    arriving = celery.app.backend.get_many([first.id, second.id], timeout=1)
    assert next(arriving)[0] == second.id
    with pytest.raises(CeleryTimeout, match=r"not ended after 1 s: run \S+ of a0 is queued; it goes on"):
        next(arriving)


def test_a_group_is_found_again_by_its_id(celery):
    group_id = str(uuid4())
    ids = {celery.task.apply_async((f"a{n}",), group_id=group_id).id for n in range(3)}
    assert {result.id for result in celery.app.GroupResult.restore(group_id, app=celery.app)} == ids
    for run_id in ids:
        end(celery, run_id, "completed")
    assert len(celery.app.GroupResult.restore(group_id, app=celery.app).get(timeout=5)) == 3


def body_of(celery, group_id, size):
    body = celery.task.si("a2")
    body.freeze()
    return dict(body) | {"chord_size": size, "options": body.options}


def request_of(celery, run_id):
    """What the worker has before it: the message's options."""
    options = row(celery, run_id).options
    return SimpleNamespace(id=run_id, group=options["group_id"], chord=options["chord"], chain=None)


def test_a_chord_begins_its_body_once_and_only_when_all_have_ended_well(celery):
    group_id = str(uuid4())
    body = body_of(celery, group_id, 2)
    parts = [celery.task.apply_async((h,), group_id=group_id, chord=body).id for h in ("a0", "a1")]
    celery.published.clear()
    end(celery, parts[0], "completed")
    celery.app.backend.on_chord_part_return(request_of(celery, parts[0]), "SUCCESS", None)
    assert celery.published == []
    end(celery, parts[1], "skipped", "quota: used up")
    for run_id in (*parts, parts[0]):
        celery.app.backend.on_chord_part_return(request_of(celery, run_id), "SUCCESS", None)
    assert {str(run_id) for run_id in celery.published} == {body["options"]["task_id"]}
    assert row(celery, body["options"]["task_id"]).state == "queued"


@pytest.mark.parametrize("how", ["failed", "revoked"])
def test_a_chord_whose_header_fails_never_begins_its_body_and_its_get_says_why(celery, how):
    group_id = str(uuid4())
    body = body_of(celery, group_id, 2)
    parts = [celery.task.apply_async((h,), group_id=group_id, chord=body).id for h in ("a0", "a1")]
    end(celery, parts[0], "completed")
    if how == "failed":
        end(celery, parts[1], "failed", "post: bad_answer")
    else:
        revoking.cancel([parts[1]], "olga")
    for run_id in parts:
        celery.app.backend.on_chord_part_return(request_of(celery, run_id), "FAILURE", None)
    result = celery.app.AsyncResult(body["options"]["task_id"])
    with pytest.raises(RunFailed, match=r"of a2 failed: not begun: .*run \S+ of a1"):
        result.get(timeout=5)


def test_what_follows_is_not_forgotten_when_the_worker_dies_just_then(celery):
    chain = [dict(celery.task.si("a1"))]
    result, plain = celery.task.apply_async(("a0",), chain=chain), celery.task.delay("a1")
    long_ago = utcnow() - timedelta(minutes=1)
    for one in (result, plain):
        end(celery, one.id, "completed", finished_at=long_ago, published_at=long_ago)
    with celery.engine.begin() as connection:
        assert [str(run_id) for run_id in groups.to_continue(connection)] == [result.id]
        assert groups.to_continue(connection) == [], "not again at once"
        groups.note_continued(connection, [row(celery, result.id).id])
        connection.execute(update(Run).values(published_at=long_ago))
        assert groups.to_continue(connection) == []


def test_links_are_one_run_however_often_they_are_begun(celery):
    result = celery.task.apply_async(("a0",), link=celery.task.si("a1"))
    (link,) = row(celery, result.id).options["link"]
    for _ in range(2):
        celery.app.signature(link).apply_async()
    with celery.engine.connect() as connection:
        assert len(connection.execute(select(Run.id)).all()) == 2


def test_a_message_of_a_run_carries_its_canvas_each_time(celery, services):
    moment = utcnow() + timedelta(hours=1)
    chain = [dict(celery.task.si(celery.agents[1]).set(eta=moment))]
    result = celery.task.apply_async(("a0",), chain=chain, queue="celery")
    from app.runs.cycles import queued_runs  # noqa: PLC0415

    with celery.engine.connect() as connection:
        (queued,) = queued_runs(connection, [row(celery, result.id).id])
    assert queued.options["queue"] == "celery"
    (second,) = loads(dumps(queued.options["chain"]))  # as it comes out of the message
    assert second["args"] == [celery.agents[1]]
    later = celery.app.signature(second).apply_async()
    assert row(celery, later.id).due_at == moment


def test_a_foreign_message_for_an_unknown_agent_is_a_failed_run(celery):
    run_id = uuid4()
    with celery.engine.begin() as connection:
        assert not adhoc.request_run(connection, run_id, "nobody", utcnow())
    with pytest.raises(RunFailed, match="of nobody failed: unknown agent"):
        celery.app.AsyncResult(str(run_id)).get(timeout=5)


def test_cancelled_runs_are_found_by_who_did_it(celery):
    result = celery.task.delay("a0")
    with celery.engine.begin() as connection:
        stopping.cancel(connection, [row(celery, result.id).id], "olga", "cancelled by olga", "no need")
    assert row(celery, result.id).cancelled_by == "olga"
    assert result.state == "REVOKED"
