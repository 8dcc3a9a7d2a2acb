"""A fleet with a past, so that pages have something to show: weeks of calls, runs, incidents, changes."""

from datetime import timedelta
from pathlib import Path

from sqlalchemy import insert, select, text

from app.agents import roster
from app.agents.roster_file import read_roster
from app.alerts.outbox import Message, post
from app.audit_log import note_change
from app.clock import utcnow
from app.integration import app_link, deliveries, webhooks
from app.integration.deliveries import APP
from app.integration.mapping import read_preset
from app.models import Agent, Incident, RunOrigin
from app.runs import jobs
from app.runs.execute import execute
from app.runs.services import Services
from app.usage import partitions
from tests.support.factories import make_run
from tests.support.ledger import sum_up_all

ROSTER = Path(__file__).parents[2] / "examples" / "roster.csv"
CALLS = text("""
  insert into paceline.ai_request_log (id, run_id, agent_id, step, attempt, request_type, model, status,
    error_code, http_status, tokens_reserved, tokens_input, tokens_output, tokens_used, cost_micros,
    latency_ms, created_at, finished_at)
  select gen_random_uuid(), r.id, r.agent_id, 'post', 1, (array['post', 'comment', 'cross_visit'])[1 + n % 3],
    (array['google/gemini-2.5-flash', 'google/gemini-2.5-flash-lite'])[1 + (n % 3 > 0)::int],
    case when n % 41 = 0 then 'error' else 'ok' end, case when n % 41 = 0 then 'rate_limited' end,
    case when n % 41 = 0 then 429 else 200 end, 1100, 400 + n % 90, 90, 490 + n % 90,
    case when n % 41 > 0 then 300 + 37 * (n % 13) + 400 * (r.place % 5) end,
    700 + n % 1500, at, at + interval '1 second'
  from (select n, cast(:start as timestamptz) + make_interval(secs => n * :step
    + 3000 * sin(n / 40.0)) as at from generate_series(0, :count - 1) n) times
  join (select id, agent_id, row_number() over (order by id) - 1 as place from paceline.runs) r
    on r.place = (n * 7 + n / 11) % :agents
  where at < now() - interval '3 minutes'
""")


def give_history(services: Services, *, agents: int = 12, days: int = 45, calls: int = 6_000) -> None:
    """Agents of the examples with that many calls over that many days, and what happens meanwhile."""
    now, zone = utcnow(), services.settings.zone
    entries = read_roster(ROSTER.read_bytes(), is_json=False).entries[:agents]
    with services.engine.begin() as connection:
        roster.add_agents(connection, entries)
        found = connection.execute(select(Agent.id, Agent.handle).order_by(Agent.handle)).all()
        runs = [
            make_run(
                connection,
                agent_id,
                due_at=now - timedelta(minutes=3 * n),
                origin=RunOrigin.CYCLE,
                cycle_at=now - timedelta(minutes=3 * n),
            )
            for n, (agent_id, _) in enumerate(found)
        ]
    partitions.keep(services.engine, now, zone, 0)
    with services.engine.begin() as connection:
        given = {"start": now - timedelta(days=days), "count": calls, "agents": agents}
        connection.execute(CALLS, {**given, "step": days * 86_400 / calls})
        sum_up_all(connection, zone)
    for run_id in runs[: agents - 2]:
        execute(services, run_id)
    with services.engine.begin() as connection:
        for name, said in (
            (jobs.OPEN_SLICE, "12 runs opened"),
            ("usage.roll_up", "since 2 h ago"),
            (jobs.CHECK_BOOKS, "0 differences"),
            ("alerts.watch", "incidents: 0 opened, 0 closed"),
        ):
            jobs.done(connection, name, said)
        began = now - timedelta(hours=5)
        connection.execute(
            insert(Incident).values(
                kind="rate_limited",
                opened_at=began,
                last_at=began + timedelta(minutes=4),
                calls=31,
                agents=9,
                closed_at=began + timedelta(minutes=4),
                peak_per_minute=12,
            )
        )
        note_change(
            connection,
            actor="ann",
            action="limits.set",
            subject="fleet",
            before={"rate": 4.0},
            after={"rate": 6.0},
            reason="the gateway gave us more",
        )
        post(connection, [Message("day.50", "info", "Paceline: half of today's budget", "$2.50 of $5.00")])
        app_link.connect(connection, read_preset("simple"), "simple", actor="admin", reason="shown")
        webhooks.add(connection, "https://example.org/hook", ["post.*"], actor="admin", reason="shown")
        lost = deliveries.add(connection, APP, "post.published", found[0].id, {"id": str(found[0].id)})
        deliveries.die(connection, lost, '23503: insert or update on table "posts" violates "fk_place"')
