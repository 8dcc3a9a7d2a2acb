"""How soon an event is in the application: posts are written at a pace, and delivered meanwhile.

    python -m bench.deliveries --rate 100 --seconds 20 --out docs/deliveries.json

Real embedded PostgreSQL, the preset `simple` in the same database, a thread that delivers as a worker does.
Lag: from the transaction of the event to that of its delivery. Beside it a webhook whose receiver hangs.
"""

import argparse
import json
import socket
import tempfile
import threading
from pathlib import Path
from uuid import uuid4

from sqlalchemy import insert, text

from app import migrations
from app.clock import monotonic, sleep, utcnow
from app.db import make_engine
from app.embedded import servers
from app.integration import app_link, webhooks
from app.integration.deliver import Receivers, deliver_for
from app.integration.mapping import read_preset
from app.models import Post
from app.settings import Settings
from tests.support.factories import make_agents, make_run

EXAMPLE = Path(__file__).parents[1] / "examples" / "app-simple.sql"
LAGS = """
  select percentile_cont(array[0.5, 0.95, 0.99]) within group (
      order by extract(epoch from d.done_at - o.created_at)), count(*)
  from paceline.deliveries d join paceline.outbox o on o.id = d.event_id
  where d.receiver = 'app' and d.state = 'done'
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=int, default=100)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pl-") as name, servers(Path(name)) as started:
        found = measure(started.database_url or "", chosen.rate, chosen.seconds)
    print(json.dumps(found, indent=1))
    if chosen.out:
        chosen.out.write_text(json.dumps(found, indent=1) + "\n")


def measure(url: str, rate: int, seconds: int) -> dict[str, object]:
    """Write so many posts a second for so long; what became of them."""
    engine = make_engine(url, pool_size=10)
    migrations.upgrade(engine)
    hangs = socket.create_server(("127.0.0.1", 0))
    with engine.begin() as connection:
        connection.execute(text(EXAMPLE.read_text()))
        app_link.connect(connection, read_preset("simple"), "simple", actor="bench", reason="")
        hook = f"http://127.0.0.1:{hangs.getsockname()[1]}/"
        webhooks.add(connection, hook, ["*"], actor="bench", reason="")
        agents = make_agents(connection, 100)
        place = connection.execute(text("select community_id from paceline.agents limit 1")).scalar_one()
        runs = [make_run(connection, agents[n % 100]) for n in range(rate * seconds)]

    settings = Settings.model_validate({"app": {"private_networks": True}})
    receivers, ending = Receivers(engine, settings), threading.Event()
    thread = threading.Thread(target=deliver_for, args=(receivers, seconds + 30, ending))
    thread.start()
    began = monotonic()
    for number, run_id in enumerate(runs):
        sleep(max(0.0, began + number / rate - monotonic()))
        with engine.begin() as connection:
            connection.execute(
                insert(Post).values(
                    id=uuid4(),
                    agent_id=agents[number % 100],
                    community_id=place,
                    run_id=run_id,
                    kind="regular",
                    body=f"Post {number}.",
                    state="published",
                    fingerprint=f"{number}",
                )
            )
    wrote_s = monotonic() - began
    deadline = monotonic() + 20
    while monotonic() < deadline:
        with engine.connect() as connection:
            (p50, p95, p99), count = connection.execute(text(LAGS)).one()
        if count >= len(runs):
            break
        sleep(0.2)
    ending.set()
    thread.join(30)
    with engine.connect() as connection:
        there = connection.execute(text("select count(*) from public.posts")).scalar_one()
    hangs.close()
    receivers.close()
    engine.dispose()
    return {
        "date": utcnow().date().isoformat(),
        "written": len(runs),
        "per_s": round(len(runs) / wrote_s, 1),
        "there": there,
        "lag_p50_s": round(p50, 3),
        "lag_p95_s": round(p95, 3),
        "lag_p99_s": round(p99, 3),
    }


if __name__ == "__main__":
    main()
