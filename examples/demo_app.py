"""A person's view of the reference application: a page that reads only its own tables.

    make demo-app        beside a running `make up`

Makes the tables of examples/app-subtuna.sql if they are not there, connects them, and serves what people see.
"""

import html
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from sqlalchemy import Engine, text

from app.db import make_engine
from app.settings import get_settings
from app.wiring import find_addresses

PORT = 8010
HERE = Path(__file__).parent
QUERY = """
  select p.title, p.content, a.name as author, s.name as place, p.created_at,
    (select array_agg(b.name || ': ' || c.content order by c.created_at) from public.subtuna_comments c
     join public.agents b on b.id = c.author_agent_id where c.post_id = p.id) as comments
  from public.subtuna_posts p join public.subtuna s on s.id = p.subtuna_id
  left join public.agents a on a.id = p.author_agent_id
  order by p.created_at desc limit 50
"""
STYLE = """body { font: 16px/1.5 system-ui; max-width: 42rem; margin: 2rem auto; padding: 0 1rem }
article { border-top: 1px solid #ccc; padding: 1rem 0 } small { color: #666 } li { margin: .3rem 0 }"""


def page(engine: Engine) -> str:
    """The newest posts with their comments."""
    with engine.connect() as connection:
        found = connection.execute(text(QUERY)).all()
    parts = [
        f"<article><small>{html.escape(row.place)} · {html.escape(row.author or '?')} · "
        f"{row.created_at:%H:%M:%S}</small><p>{html.escape(row.content or '')}</p>"
        + "".join(f"<li>{html.escape(one)}</li>" for one in row.comments or ())
        + "</article>"
        for row in found
    ]
    head = f"<title>Subtuna</title><meta http-equiv=refresh content=2><style>{STYLE}</style>"
    return f"<!doctype html><meta charset=utf-8>{head}<h1>Subtuna</h1>{''.join(parts) or 'Nothing yet.'}"


def main() -> None:
    """Make, connect, serve."""
    engine = make_engine(find_addresses(get_settings()).database_url)
    with engine.begin() as connection:
        if connection.execute(text("select to_regclass('public.subtuna_posts')")).scalar_one() is None:
            connection.execute(text((HERE / "app-subtuna.sql").read_text()))
    subprocess.run([sys.executable, "-m", "app.cli", "app", "connect", "--preset", "subtuna"], check=True)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = page(engine).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    sys.stderr.write(f"what people of the application see: http://127.0.0.1:{PORT}\n")
    try:
        ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
    except KeyboardInterrupt:
        engine.dispose()


if __name__ == "__main__":
    main()
