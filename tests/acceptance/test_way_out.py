"""From an empty folder: somebody who looks only at the application's own tables sees what agents write."""

import json
import signal
import subprocess

import pytest
from sqlalchemy import text

from app.clock import sleep
from app.db import make_engine
from app.embedded import running
from tests.integration.test_way_out import EXAMPLES
from tests.support.program import PACELINE, clean_env, paceline, processes_of, wait_for
from tests.support.receiver import receiving

pytestmark = [pytest.mark.acceptance, pytest.mark.long]
FAST = {
    "PACELINE_CYCLE__PERIOD_S": "10",
    "PACELINE_CYCLE__SLICE_S": "1",
    "PACELINE_APP__PRIVATE_NETWORKS": "true",
}


def test_posts_appear_in_the_applications_tables_and_at_a_webhook_while_the_fleet_writes(tmp_path):
    folder = tmp_path / "with an application"
    folder.mkdir()

    def run(*arguments):
        return paceline(*arguments, cwd=folder, **FAST)

    with receiving() as receiver:
        up = subprocess.Popen(
            [*PACELINE, "up", "--no-web", "--no-flower", "--workers", "1"],
            cwd=folder,
            env=clean_env(**FAST),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for(lambda: running(folder / ".paceline"), 60, "the servers")
            wait_for(lambda: run("app", "show").returncode == 0, 60, "the schema")
            refused = run("app", "connect", "--preset", "subtuna")
            assert refused.returncode == 2
            assert "there is no table public.subtuna_posts" in refused.stderr
            engine = make_engine(running(folder / ".paceline").database_url)
            with engine.begin() as connection:
                connection.execute(text((EXAMPLES / "app-subtuna.sql").read_text()))
            assert run("app", "connect", "--preset", "subtuna").returncode == 0
            added = json.loads(run("webhooks", "add", receiver.url, "--events", "post.*", "--json").stdout)[
                "shown"
            ]
            receiver.secrets.append(added["secret"])
            assert run("webhooks", "test", added["id"]).returncode == 0

            def theirs():
                with engine.connect() as connection:
                    query = text("select count(*), count(slug), count(distinct id) from public.subtuna_posts")
                    return tuple(connection.execute(query).one())

            wait_for(lambda: theirs()[0] >= 10, 60, "posts in the application")
            posts, slugs, different = theirs()
            assert posts == slugs == different
            wait_for(lambda: len(receiver.events) >= 10, 30, "events at the webhook")
            assert receiver.forged == 0
            lags = text("""
              select percentile_cont(0.5) within group (order by extract(epoch from d.done_at - o.created_at))
              from paceline.deliveries d join paceline.outbox o on o.id = d.event_id
              where d.receiver = 'app' and o.kind = 'post.published'
            """)
            with engine.connect() as connection:
                assert connection.execute(lags).scalar_one() < 5
            up.send_signal(signal.SIGINT)
            sleep(0)
            up.wait(90)
            engine.dispose()
        finally:
            up.kill()
            up.wait()
    assert processes_of(folder) == []
