"""An asyncio script with the same limiter and a ledger, and no queue, leases or agents. For bench.pipeline.

    DATABASE_URL=... REDIS_URL=... GATEWAY_URL=... python -m bench.plain_asyncio --calls 400 --tasks 4

Each call: Paceline's admission script, a row before the call, one statement that closes it and stores the
post after it, Paceline's settlement. AsyncOpenAI as its documentation has it.
"""

import argparse
import asyncio
import json
import os
import time
from uuid import uuid4

import psycopg
from openai import AsyncOpenAI
from redis.asyncio import Redis

from app.admission.scripts import FLEET, source, windows
from app.clock import utcnow
from app.settings import Settings
from bench.bare_client import MESSAGES
from bench.figures import each_of

TABLES = """
create schema if not exists plain;
create table if not exists plain.calls (id uuid primary key, created_at timestamptz default now(),
  status text, tokens int);
create table if not exists plain.posts (id uuid primary key, call_id uuid, body text);
"""
STORE = """
with closed as (update plain.calls set status = 'ok', tokens = %s where id = %s returning id)
insert into plain.posts select %s, id, %s from closed
"""


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--tasks", type=int, default=4)
    parser.add_argument("--pace", type=float, default=10_000, help="calls per second")
    chosen = parser.parse_args()
    redis: Redis = Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
    admit, settle = (redis.register_script(source(name)) for name in ("admit", "settle"))
    window = windows(utcnow(), Settings().zone)
    keys = [*FLEET, *window.keys]
    configure = redis.register_script(source("configure"))
    await configure(keys=FLEET, args=[1, int(1000 * chosen.pace), 1, 60_000_000, 0, 10**12, 0, 0, 0, ""])
    for key in window.keys:
        await redis.hset(key, "seeded", 1)
    client = AsyncOpenAI(base_url=os.environ["GATEWAY_URL"], api_key="none", max_retries=0)

    async def call(database: psycopg.AsyncConnection) -> None:
        request_id, agent = uuid4(), "a1"
        while True:
            code, wait_us, *_ = await admit(
                keys=keys,
                args=[
                    str(request_id),
                    agent,
                    1,
                    1200,
                    3000,
                    0,
                    -1,
                    window.day,
                    window.day_left_us,
                    window.month_left_us,
                    70_000_000,
                    "bench",
                    "model",
                    "-",
                    0,
                    0,
                    1,
                ],
            )
            await asyncio.sleep(int(wait_us) / 1e6)
            if code == "go":
                break
        insert = "insert into plain.calls (id, status) values (%s, 'in_flight')"
        await database.execute(insert, [request_id])
        answer = await client.chat.completions.create(
            model="google/gemini-2.5-flash",
            messages=MESSAGES,  # type: ignore[arg-type]
            max_tokens=1024,
            temperature=0.9,
            extra_headers={"X-Request-Id": str(request_id)},
        )
        assert answer.usage
        used, text = answer.usage.total_tokens, answer.choices[0].message.content
        await database.execute(STORE, [used, request_id, uuid4(), text])
        arguments = [str(request_id), "ok", used, 300, window.day, 0, "bench", "model", "", 0, 1, "run"]
        await settle(keys=keys, args=arguments)

    async def work(databases: list[psycopg.AsyncConnection], calls: int) -> None:
        left = iter(range(calls))

        async def one(database: psycopg.AsyncConnection) -> None:
            for _ in left:
                await call(database)

        await asyncio.gather(*(one(database) for database in databases))

    url = os.environ["DATABASE_URL"]
    databases = [await psycopg.AsyncConnection.connect(url, autocommit=True) for _ in range(chosen.tasks)]
    await databases[0].execute(TABLES)
    await work(databases, chosen.calls // 4)
    cpu, began = time.process_time(), time.monotonic()
    await work(databases, chosen.calls)
    took = time.monotonic() - began
    print(json.dumps(each_of(chosen.calls, time.process_time() - cpu, took)))


if __name__ == "__main__":
    asyncio.run(main())
