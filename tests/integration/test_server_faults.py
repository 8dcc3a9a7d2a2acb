"""Servers that answer with errors: what passes, what is lost, what a person reads."""

from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from redis.exceptions import ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import SQLAlchemyError

from app import redis_faults, sql_faults
from app.admission.circuit import StoreAway
from app.cli import proofs
from app.clock import utcnow
from app.db import check_database, make_engine
from app.errors import Unreachable
from app.models import Run
from app.redis_client import make_redis
from app.runs import leases
from app.runs.rescue import rescue
from app.urls import parse_redis
from tests.support.factories import make_agents, make_run
from tests.support.program import as_role
from workers import jobs_queue, revoking


@pytest.mark.parametrize(
    ("begin", "end", "said"),
    [
        (
            ("CONFIG", "SET", "maxmemory", "500kb"),
            ("CONFIG", "SET", "maxmemory", "0"),
            "OOM: it is out of memory",
        ),
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"), "READONLY: it is a replica"),
        (
            ("CONFIG", "SET", "min-replicas-to-write", "3"),
            ("CONFIG", "SET", "min-replicas-to-write", "0"),
            "NOREPLICAS: too few replicas",
        ),
    ],
)
def test_admission_waits_while_redis_answers_with_an_error(services, redis, begin, end, said):
    services.admission.state()
    redis.execute_command(*begin)
    try:
        with pytest.raises(StoreAway, match=said):
            services.admission._circuit.call(lambda: redis.set("x", "y" * 1_000_000))
    finally:
        redis.execute_command(*end)


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (ResponseError("MISCONF Redis is configured to save"), True),
        (ResponseError("UNBLOCKED force unblock from blocking operation"), True),
        (ResponseError("LOADING Redis is loading"), True),
        (ResponseError("NOAUTH Authentication required."), True),
        (ResponseError("NOPERM User has no permissions"), True),
        (ReadOnlyError("You can't write against a read only replica.", status_code="READONLY"), True),
        (RedisTimeoutError("slow"), True),
        (OSError("no route"), True),
        (ResponseError("ERR Error compiling script"), False),
        (ResponseError("WRONGTYPE Operation against a key"), False),
        (ValueError("a bug"), False),
    ],
)
def test_one_list_says_which_errors_of_redis_pass(error, passes):
    assert redis_faults.is_passing(error) == passes


def error_of(url, statement="select 1"):
    engine = make_engine(url)
    try:
        with engine.begin() as connection:
            connection.execute(text(statement))
    except SQLAlchemyError as error:
        return error
    finally:
        engine.dispose()
    raise AssertionError("no error")


@pytest.fixture
def poor_role(migrated, embedded):
    """A role that may do nothing and has two connections."""
    with migrated.begin() as connection:
        connection.execute(text("create role poor login connection limit 2 password 'word'"))
    yield as_role(embedded.database_url, "poor", "word")
    with migrated.begin() as connection:
        connection.execute(text("drop role poor"))


def test_what_postgresql_says_is_one_line_that_says_what_to_do(embedded, poor_role):
    url = embedded.database_url
    for error, words, is_later in (
        (error_of(poor_role, "select * from paceline.agents"), "lacks a right", False),
        (error_of(url, "set transaction read only; create table public.x()"), "takes no writes", True),
        (error_of(url, "select * from paceline.nothing"), "run `paceline db upgrade`", False),
        (error_of(url, "set statement_timeout = 1; select pg_sleep(1)"), "statement_timeout", True),
        (error_of(url.replace("/postgres?", "/nowhere?")), "no such database", False),
        (error_of("postgresql://127.0.0.1:1/x"), "start it, or correct DATABASE_URL", True),
    ):
        said, later = sql_faults.explain(error)
        assert words in said
        assert later == is_later
        assert "\n" not in said


def test_no_connection_left_is_said_so(embedded, poor_role):
    first, second = make_engine(poor_role), make_engine(poor_role)
    held = [first.connect(), second.connect()]
    third = make_engine(poor_role)
    with pytest.raises(Unreachable, match="no connection is left, of the server or of this role"):
        check_database(third)
    for connection in held:
        connection.close()
    for engine in (first, second, third):
        engine.dispose()


def test_a_server_that_takes_no_writes_costs_every_connection_of_the_pool(embedded):
    """After a failover the old primary may stay up: nothing breaks, and nothing can be written."""
    engine = make_engine(embedded.database_url, pool_size=3)
    poisoned = [engine.connect() for _ in range(3)]
    for connection in poisoned:
        connection.execute(text("set session characteristics as transaction read only"))
        connection.commit()
    for connection in poisoned:
        connection.close()
    errors = 0
    for _ in range(6):
        try:
            with engine.begin() as connection:
                connection.execute(text("create temporary table x() on commit drop"))
                connection.execute(text("create table public.y()"))
                connection.execute(text("drop table public.y"))
        except SQLAlchemyError:
            errors += 1
    engine.dispose()
    assert errors == 1, "one finds out for all"


def test_times_from_the_future_do_not_hold_runs_back(services):
    """PostgreSQL's clock went back an hour."""
    with services.engine.begin() as connection:
        agents = make_agents(connection, 4)
        later = utcnow() + timedelta(hours=1)
        dead = make_run(connection, agents[0], state="running", lease_until=later, attempt=1)
        snoozed = make_run(connection, agents[1], state="snoozed", wake_at=later)
        queued = make_run(connection, agents[2], published_at=later)
        assert leases.wake(connection) == [snoozed]
        lease = timedelta(seconds=30)
        patience = timedelta(seconds=60)
        done = rescue(connection, patience=patience, call_deadline=patience, lease=lease)
        assert queued in done.unheard
        assert done.resumed == []
        query = select(Run.lease_until - func.now()).where(Run.id == dead)
        assert connection.execute(query).scalar_one() <= lease
        connection.execute(
            update(Run).where(Run.id == dead).values(lease_until=func.now() - timedelta(seconds=1))
        )
        assert rescue(connection, patience=patience, call_deadline=patience).resumed == [dead]


def test_a_job_is_not_sent_while_the_one_before_it_waits(services, redis, monkeypatch):
    monkeypatch.setattr(jobs_queue, "services", lambda: services)
    assert not jobs_queue.is_waiting("runs.wake")
    jobs_queue.note_sent("runs.wake")
    assert not jobs_queue.is_waiting("runs.wake"), "nothing is in the queue, so it was taken"
    redis.rpush(jobs_queue.QUEUE, "a message")
    assert jobs_queue.is_waiting("runs.wake")
    assert not jobs_queue.is_waiting("runs.rescue")
    assert 0 < redis.ttl(jobs_queue.SENT + "runs.wake") <= jobs_queue.FORGOTTEN_S
    jobs_queue._note_begun(task=type("Task", (), {"name": "runs.wake"}))
    assert not jobs_queue.is_waiting("runs.wake")


def test_a_revoked_run_is_ended_and_audited(services, monkeypatch):
    monkeypatch.setattr(revoking, "engine", lambda: services.engine)
    with services.engine.begin() as connection:
        (agent,) = make_agents(connection, 1)
        run_id = make_run(connection, agent)
    assert revoking.cancel([str(run_id), str(uuid4()), "no id"], "olga") == [run_id]
    assert revoking.cancel([str(run_id)], "olga") == []
    with services.engine.connect() as connection:
        state, reason = connection.execute(select(Run.state, Run.reason)).one()
    assert (state, reason) == ("skipped", revoking.REASON)


@pytest.fixture
def limited(redis, embedded):
    """A user of Redis with the rights that docs/operations.md names."""

    def make(rules=proofs.ACL):
        redis.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">word", *rules.split())
        return make_redis(
            embedded.redis_url.replace("://:", "://limited:").replace(
                parse_redis(embedded.redis_url).password, "word"
            )
        )

    yield make
    redis.execute_command("ACL", "DELUSER", "limited")


def test_the_rights_that_the_docs_name_are_enough(limited, redis):
    client = limited()
    assert proofs.prove_redis(client) == ["a queue", "a channel", "admission's scripts"]
    client.close()
    assert redis.keys("*doctor*") == []
    assert proofs.ACL in (Path(__file__).parents[2] / "docs" / "operations.md").read_text()


@pytest.mark.parametrize(
    ("taken", "said"),
    [
        ("-subscribe", "a channel is refused"),
        ("-brpop", "a queue is refused"),
        ("-evalsha -eval", "admission's scripts is refused"),
        ("resetchannels", "a channel is refused"),
        ("resetkeys", "a queue is refused"),
    ],
)
def test_doctor_names_what_redis_refuses(limited, taken, said):
    client = limited(f"{proofs.ACL} {taken}")
    with pytest.raises(proofs.Refused, match=said) as caught:
        proofs.prove_redis(client)
    assert "NOPERM" in str(caught.value)
    client.close()


def test_doctor_writes_a_row_and_takes_it_back(migrated):
    proofs.prove_postgres(migrated)
    with migrated.connect() as connection:
        query = text("select count(*) from paceline.jobs where name like 'doctor.%'")
        assert connection.execute(query).scalar_one() == 0
