"""The program that people write first: Celery, an ORM, a sum before each call, a counter polled for the rate.

A comparison for bench.pipeline, as a fleet of its own: `celery -A bench.naive worker`. One task per agent,
which asks the gateway once and stores a post.
"""

import os
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from celery import Celery
from openai import OpenAI
from redis import Redis
from sqlalchemy import ForeignKey, create_engine, func, make_url, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

SCHEMA = "naive"
QUOTA = 10**9
RATE = int(os.environ.get("NAIVE_RATE", "100000"))

app = Celery("naive", broker=os.environ.get("REDIS_URL", "redis://127.0.0.1:1"))
app.conf.update(task_ignore_result=True, worker_send_task_events=True)
_url = make_url(os.environ.get("DATABASE_URL", "postgresql://")).set(drivername="postgresql+psycopg")
engine = create_engine(_url, pool_size=20)
session = sessionmaker(engine)
redis = Redis.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:1"))
client = OpenAI(
    base_url=os.environ.get("GATEWAY_URL", "http://127.0.0.1:1/v1"), api_key="none", max_retries=0
)


class Base(DeclarativeBase):
    """Tables of a schema of their own."""

    __table_args__ = {"schema": SCHEMA}  # noqa: RUF012


class Agent(Base):
    """Who posts."""

    __tablename__ = "agents"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    handle: Mapped[str] = mapped_column(unique=True)
    persona: Mapped[str]


class Post(Base):
    """Return what it wrote."""

    __tablename__ = "posts"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    agent_id: Mapped[UUID] = mapped_column(ForeignKey(Agent.id), index=True)
    body: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Call(Base):
    """Return what it used."""

    __tablename__ = "calls"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    agent_id: Mapped[UUID] = mapped_column(ForeignKey(Agent.id), index=True)
    tokens: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


def wait_for_permit() -> None:
    """A counter for this second, looked at again in 50 ms."""
    while True:
        key = f"rate:{int(time.time())}"
        if redis.incr(key) <= RATE:
            redis.expire(key, 5)
            return
        time.sleep(0.05)


@app.task(name="naive.run")
def run(handle: str) -> None:
    """One agent's turn."""
    with session() as db:
        agent = db.scalars(select(Agent).where(Agent.handle == handle)).one()
        recent = db.scalars(
            select(Post).where(Post.agent_id == agent.id).order_by(Post.created_at.desc()).limit(5)
        ).all()
        if tokens_today(db, agent) > QUOTA:
            return
        wait_for_permit()
        answer = client.chat.completions.create(
            model="google/gemini-2.5-flash",
            messages=[
                {"role": "system", "content": agent.persona},
                {"role": "user", "content": "Write a post, unlike: " + "; ".join(p.body for p in recent)},
            ],
            max_tokens=1024,
        )
        assert answer.usage
        db.add(Post(agent_id=agent.id, body=answer.choices[0].message.content or ""))
        db.add(Call(agent_id=agent.id, tokens=answer.usage.total_tokens))
        db.commit()


def tokens_today(db: Session, agent: Agent) -> int:
    """The sum over the log that most quotas are."""
    since = datetime.now(UTC) - timedelta(days=1)
    query = select(func.coalesce(func.sum(Call.tokens), 0)).where(
        Call.agent_id == agent.id, Call.created_at > since
    )
    return int(db.execute(query).scalar_one())
