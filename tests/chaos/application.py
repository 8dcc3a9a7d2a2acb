"""The user's application in the storm: a database of its own behind a proxy, whose trigger refuses a tenth of
all rows, and a receiver of webhooks that is in trouble now and then.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, make_url, select, text, update

from app.clock import sleep
from app.community.review import decide
from app.db import make_engine
from app.integration import app_link, checking, webhooks
from app.integration.mapping import read_preset
from app.models import Comment, ContentState, Delivery, DeliveryState, OutboxEvent, Post, Webhook
from tests.chaos.proxy import Proxy
from tests.support.receiver import receiving

EXAMPLE = Path(__file__).parents[2] / "examples" / "app-simple.sql"
REFUSES = """
create function public.refuse() returns trigger language plpgsql as $$
begin
  if random() < 0.1 then raise exception 'the application is out of sorts'; end if;
  return new;
end $$;
create trigger refuse before insert on public.posts for each row execute function public.refuse();
create trigger refuse before insert on public.comments for each row execute function public.refuse();
"""


@dataclass(frozen=True)
class WayOut:
    """What arrived, in numbers. Rows there and events here; all but `rows` and `events` must be zero."""

    rows: int
    not_there: int
    still_there: int
    waiting: int
    dead: int
    events: int
    events_lost: int
    """Events for the webhook that it never got."""
    out_of_order: int
    """See `out_of_order`."""
    forged: int
    """Requests whose signature the public library refused."""

    @property
    def is_good(self) -> bool:
        """Nothing is lost, hidden things are gone, order is kept."""
        return not (
            self.not_there
            + self.still_there
            + self.waiting
            + self.dead
            + self.events_lost
            + self.out_of_order
            + self.forged
        )


def out_of_order(told: Sequence[Row[Any]], first: Mapping[int, int]) -> int:
    """Events that came too early or too late: those of one post, comment or vote in another order than they
    were written, and any of a thread before its post. Two answers to a post that were written at the same
    moment have no order. `first`: event -> the place of its first request.
    """
    arrived = [event for event in told if event.id in first]
    of_one, posts = defaultdict(list), {}
    for event in arrived:
        of_one[event.about].append(first[event.id])
        if event.kind == "post.published":
            posts.setdefault(event.thread, first[event.id])
    late = sum(later < earlier for one in of_one.values() for earlier, later in pairwise(one))
    return late + sum(first[event.id] < posts.get(event.thread, -1) for event in arrived)


class Application:
    """Connected to the fleet's database `here` (as its superuser), on the same server."""

    def __init__(self, here: Engine, socket: str) -> None:
        self.here = here
        with here.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("create database application"))
        self.there: Engine = make_engine(
            here.url.set(database="application").render_as_string(hide_password=False), pool_size=2
        )
        with self.there.begin() as connection:
            connection.execute(text(EXAMPLE.read_text()))
            connection.execute(text(REFUSES))
        self.proxy = Proxy(lambda: asyncio.open_unix_connection(socket))
        self._stack = ExitStack()
        self.receiver = self._stack.enter_context(receiving())
        self.mapping = read_preset("simple")
        with here.begin() as connection:
            app_link.connect(connection, self.mapping, "simple", actor="t", reason="")
            self.hook, secret = webhooks.add(connection, self.receiver.url, ["*"], actor="t", reason="")
        self.receiver.secrets.append(secret)

    def env(self) -> dict[str, str]:
        """The settings of the fleet's processes."""
        url = make_url(str(self.here.url)).set(
            password=self.here.url.password,
            host="127.0.0.1",
            port=self.proxy.port,
            database="application",
            query={},
        )
        return {
            "PACELINE_APP__DATABASE_URL": url.render_as_string(hide_password=False),
            "PACELINE_APP__PRIVATE_NETWORKS": "true",
        }

    def hide_or_show(self, rng: Random) -> str:
        """What a moderator does."""
        is_hiding = rng.random() < 0.7
        state = ContentState.PUBLISHED if is_hiding else ContentState.HIDDEN
        with self.here.begin() as connection:
            query = select(Post.id).where(Post.state == state).order_by(func.random()).limit(1)
            post = connection.execute(query).scalar_one_or_none()
            if post is None:
                return "hide: nothing is there"
            verb = "hide" if is_hiding else "approve"
            decide(connection, verb, [post], actor="t", reason="")
        return f"{verb} a post"

    def trouble_of_the_receiver(self, rng: Random) -> str:
        """It answers with errors for a while."""
        status, count = rng.choice([500, 503, 429, 404]), rng.randint(1, 4)
        headers = {"retry-after": "1"} if status == 429 else {}
        self.receiver.answers += [(status, headers)] * count
        return f"receiver: {count} x {status}"

    def hang_up(self, seconds: float) -> str:
        """It takes long for its next answers."""
        self.receiver.before = lambda: sleep(seconds)
        return f"receiver: {seconds:.1f} s for each answer"

    def heal(self) -> None:
        """No trouble any more; what rests is due, as `paceline app replay` makes it."""
        self.proxy.heal()
        self.receiver.answers.clear()
        self.receiver.before = lambda: None
        with self.here.begin() as connection:
            connection.execute(update(Webhook).values(rests_until=None))
            waits = update(Delivery).where(Delivery.state == DeliveryState.PENDING, Delivery.tries > 0)
            connection.execute(waits.values(next_at=func.now()))

    def is_quiet(self) -> bool:
        """Whether nothing waits."""
        return self._count(DeliveryState.PENDING) == 0

    def _count(self, state: DeliveryState) -> int:
        with self.here.connect() as connection:
            query = select(func.count()).where(Delivery.state == state)
            return connection.execute(query).scalar_one()

    def judge(self) -> WayOut:
        """Compare both sides, and what the receiver got with what there was."""
        with self.here.connect() as ours, self.there.connect() as theirs:
            found = checking.compare(ours, theirs, self.mapping)
            published = self._never_delivered(ours)
            rows = theirs.execute(
                text("select (select count(*) from public.posts) + (select count(*) from public.comments)")
            ).scalar_one()
            told = ours.execute(
                select(
                    OutboxEvent.id,
                    OutboxEvent.thread,
                    OutboxEvent.kind,
                    OutboxEvent.payload["id"].astext.label("about"),
                )
                .join(Delivery, Delivery.event_id == OutboxEvent.id)
                .where(Delivery.receiver == str(self.hook))
                .order_by(OutboxEvent.id)
            ).all()
        first = {}
        for place, name in enumerate(list(self.receiver.ids)):
            first.setdefault(int(name.removeprefix("evt_")), place)
        return WayOut(
            rows=rows,
            not_there=sum(n for what, n in found.items() if what.endswith("not_there")) + published,
            still_there=sum(n for what, n in found.items() if what.endswith("still_there")),
            waiting=self._count(DeliveryState.PENDING),
            dead=self._count(DeliveryState.DEAD),
            events=len(told),
            events_lost=sum(event.id not in first for event in told),
            out_of_order=out_of_order(told, first),
            forged=self.receiver.forged,
        )

    def _never_delivered(self, ours: Connection) -> int:
        """What is shown here and was never delivered."""
        shown = ContentState.PUBLISHED
        posts = select(func.count()).where(Post.state == shown, Post.external_id.is_(None))
        comments = (
            select(func.count())
            .select_from(Comment)
            .join(Post, Post.id == Comment.post_id)
            .where(Comment.state == shown, Post.state == shown, Comment.external_id.is_(None))
        )
        return sum(ours.execute(query).scalar_one() for query in (posts, comments))

    def close(self) -> None:
        """End what was started here."""
        self._stack.close()
        self.proxy.close()
        self.there.dispose()
        with self.here.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("drop database application with (force)"))
