"""From an activity to the question that is put to the gateway: its prompt, its models, its effect."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from app.agents import profiles, prompts, style
from app.agents.activities import Activity, ActivityKind, choose_post, choose_theme, rng_for
from app.community import feed, mentions, publish
from app.community.feed import FeedPost
from app.community.text import Tidied, tidy
from app.db import borrowed
from app.log import get_logger
from app.models import PostKind
from app.runs import writing
from app.runs.actor import Actor
from app.runs.attempt import Question
from app.runs.services import Services
from app.settings.groups import GatewaySettings
from app.sources import SourceDown, SourceFault, SourceRateLimited

log = get_logger(__name__)

STYLE_LATER = timedelta(minutes=15)
STYLE_AGAIN = timedelta(days=1)
"""After what will not be different soon: a private account, a source without credits, a bad answer."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A question, and whom to ask it in turn."""

    models: Sequence[str]
    question: Question


def plan(services: Services, actor: Actor, activity: Activity) -> Planned | str | None:
    """The prompt and its activity; a text says why there is nothing to ask, None that there is nobody to talk
    to.
    """
    match activity.kind:
        case ActivityKind.STYLE:
            return _plan_style(services, actor)
        case ActivityKind.COMMENT | ActivityKind.CROSS_VISIT:
            return _plan_comment(services, actor, activity)
        case ActivityKind.WELCOME | ActivityKind.POST:
            return _plan_post(services, actor, activity)


def models_for(kind: ActivityKind, gateway: GatewaySettings) -> tuple[str, ...]:
    """The model of a kind of request, and what to ask in its place when it is gone."""
    first = {
        ActivityKind.STYLE: gateway.style_model or gateway.post_model,
        ActivityKind.COMMENT: gateway.comment_model,
        ActivityKind.CROSS_VISIT: gateway.visit_model or gateway.comment_model,
    }.get(kind, gateway.post_model)
    return gateway.models(first)


def _voice(services: Services, actor: Actor) -> prompts.Author:
    """The author with the style it takes on, which an earlier step of this run may have learned."""
    if actor.style_source is None:
        return actor.author
    with services.engine.connect() as connection:
        known = profiles.profile_of(connection, actor.style_source)
    return replace(actor.author, style=style.describe(known))


def _heard(services: Services, actor: Actor) -> list[tuple[UUID, str, str]]:
    """Mentions that a post may take up, as (id, author, text)."""
    if not actor.x_handle:
        return []
    with services.engine.connect() as connection:
        return mentions.open_mentions(connection, actor.x_handle, actor.claim.opened_at)


def _plan_post(services: Services, actor: Actor, activity: Activity) -> Planned:
    held = actor.claim
    is_welcome = activity.kind is ActivityKind.WELCOME
    theme, heard = None, []
    if not is_welcome:
        heard = _heard(services, actor)
        rng = rng_for(held.agent_id, f"{held.moment}:theme")
        theme = choose_theme(rng, services.settings.activity.themes)

    def values(body: Tidied) -> dict[str, Any]:
        return {
            "community_id": actor.place.id,
            "kind": str(PostKind.WELCOME if is_welcome else PostKind.REGULAR),
            "theme": theme,
            "heard": [mention_id for mention_id, _, _ in heard],
            **publish.values_of(body, actor.controls, is_post=True),
        }

    said = [f"@{who}: {text}" for _, who, text in heard]
    messages = prompts.write_post(_voice(services, actor), activity.kind, actor.own_posts, theme, said)
    return Planned(
        models_for(activity.kind, services.settings.gateway),
        Question(messages, _fit, writing.STORE_POST, values),
    )


def _plan_comment(services: Services, actor: Actor, activity: Activity) -> Planned | None:
    held = actor.claim
    posts: Sequence[FeedPost] = actor.to_comment
    if activity.kind is ActivityKind.CROSS_VISIT:
        with borrowed(services.autocommit) as connection:
            posts = feed.posts_elsewhere(connection, held.agent_id, actor.place.id)
    posts = [post for post in posts if post.id not in actor.commented]
    rng = rng_for(held.agent_id, f"{held.moment}:{activity.step}")
    chosen = choose_post(rng, [post.id for post in posts])
    if chosen is None:
        return None
    post = next(post for post in posts if post.id == chosen)
    actor.commented.add(post.id)

    def values(body: Tidied) -> dict[str, Any]:
        judged = publish.values_of(body, actor.controls, is_post=False)
        return {"post_id": post.id, "slot": activity.slot, **judged}

    messages = prompts.write_comment(_voice(services, actor), post.author, post.body)
    return Planned(
        models_for(activity.kind, services.settings.gateway),
        Question(messages, _fit, writing.STORE_COMMENT, values),
    )


def _fit(answer: str) -> Tidied:
    body = tidy(answer)
    if not body.text:
        raise ValueError("nothing left to publish")
    return body


def _plan_style(services: Services, actor: Actor) -> Planned | str | None:
    """Read the user's posts, and ask what they have in common. The posts are not kept."""
    username, source = actor.style_source, services.sources.twitterapi
    if username is None or source is None:
        return None
    with services.engine.begin() as connection:
        if not profiles.begin(connection, username):
            return None
    try:
        texts = style.usable([tweet.text for tweet in source.last_tweets(username)])
    except SourceFault as fault:
        log.warning("style.not_learned", username=username, error=str(fault))
        again = STYLE_AGAIN
        if isinstance(fault, SourceRateLimited | SourceDown):  # it passes, and cost nothing
            again = max(STYLE_LATER, timedelta(seconds=fault.retry_after_s))
        return _give_up_style(services, username, str(fault), again)
    if len(texts) < style.TWEETS_MIN:
        return _give_up_style(services, username, f"only {len(texts)} posts to learn from")

    def values(profile: dict[str, Any]) -> dict[str, Any]:
        return {"username": username, "profile": Jsonb(profile), "tweets": len(texts)}

    messages = style.ask_for_style(texts)
    question = Question(messages, style.read_profile, writing.STORE_PROFILE, values, is_json=True)
    return Planned(models_for(ActivityKind.STYLE, services.settings.gateway), question)


def _give_up_style(services: Services, username: str, problem: str, again: timedelta = STYLE_AGAIN) -> str:
    with services.engine.begin() as connection:
        profiles.failed(connection, username, problem, again)
    return f"style of {username} not learned: {problem}"
