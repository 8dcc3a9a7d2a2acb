"""What a person may do to the fleet: the same verbs for the command line, the pages and the JSON API.

Each is audited with who and why, in the transaction that makes the change.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine
from uuid_utils.compat import uuid7

from app import controls
from app.admission.circuit import StoreAway
from app.admission.controller import Admission
from app.admission.limits import Limits, change_limits
from app.agents import roster
from app.alerts import incidents
from app.alerts.outbox import Message, UnreadableChannel, apprise_channel
from app.audit_log import note_change
from app.clock import utcnow
from app.community.budgets import set_budget
from app.community.review import decide
from app.controls import Controls
from app.errors import ConfigError, NotFound, NotYet, Unreachable
from app.integration import app_link, deliveries, webhooks
from app.integration.deliveries import APP
from app.models import AgentState, LinkState, WebhookState
from app.runs import adhoc, leases, stopping
from app.runs.stops import look
from app.settings import Settings
from app.text import storable
from app.wiring import publish

FOR_EVER = timedelta(days=365 * 50)


@dataclass(frozen=True, slots=True)
class Desk:
    """What acts work with."""

    settings: Settings
    engine: Engine
    admission: Admission


@dataclass(frozen=True, slots=True)
class Who:
    """Who acts, and why: a line each, whatever was pasted."""

    name: str
    reason: str

    def __post_init__(self) -> None:
        for field in ("name", "reason"):
            object.__setattr__(self, field, storable(getattr(self, field), 500).strip())


def set_limits(
    desk: Desk,
    changes: dict[str, Any],
    who: Who,
    *,
    close_breaker: bool = False,
    version: int | None = None,
) -> Limits:
    """Change the fleet's limits and copy them to where every call sees them; raises NotYet when Redis is
    away, and ConfigError when they are no longer of the `version` that was looked at.
    """
    _refuse_budget_without_prices(desk, changes)
    with desk.engine.begin() as connection:
        limits = change_limits(
            connection, desk.settings.limits, changes, actor=who.name, reason=who.reason,
            version=version,
        )  # fmt: skip
        leases.wake_all(connection)  # what they wait for may have changed
        if close_breaker:
            incidents.end_all(connection)
    try:
        desk.admission.put_in_force(limits, close_breaker=close_breaker)
    except StoreAway:
        raise NotYet(
            "the change is stored and will be in force when Redis answers again: start Redis"
        ) from None
    return limits


def _refuse_budget_without_prices(desk: Desk, changes: dict[str, Any]) -> None:
    """A budget that cannot hold is not set: raises ConfigError that names the setting."""
    sets_one = any(value for name, value in changes.items() if name.startswith("budget_"))
    if not sets_one:
        return
    asked = look(desk.admission, desk.settings, desk.engine).asked
    if asked.price_problem and not asked.is_free:
        raise ConfigError(f"the budget was not set: {asked.price_problem}")


def pause(desk: Desk, minutes: float | None, who: Who, *, until: datetime | None = None) -> Limits:
    """Stop all gateway calls and all new runs: for so long, until that moment, or until somebody resumes.
    Raises ConfigError when both are given, or the moment is over.
    """
    if until is None:
        until = utcnow() + (FOR_EVER if minutes is None else timedelta(minutes=minutes))
    elif minutes is not None:
        raise ConfigError("minutes or a moment, not both")
    elif until.tzinfo is None:
        until = until.replace(tzinfo=desk.settings.zone)
    if until <= utcnow():
        raise ConfigError(f"{until.isoformat()} is over: give a moment to come, or none")
    return set_limits(desk, {"paused_until": until.replace(microsecond=0)}, who)


def resume(desk: Desk, who: Who) -> Limits:
    """End a pause, a stop by the gateway (credits, key, quota) and the wait after a 429."""
    return set_limits(desk, {"paused_until": None}, who, close_breaker=True)


def set_budgets(desk: Desk, community: str | None, changes: dict[str, int], who: Who) -> None:
    """Set budgets in micro-dollars, of a community or (None) of the fleet; raises NotFound."""
    if community is None:
        set_limits(desk, changes, who)
        return
    _refuse_budget_without_prices(desk, changes)
    with desk.engine.begin() as connection:
        leases.wake_all(connection)
        if not set_budget(connection, community, changes, actor=who.name, reason=who.reason):
            raise NotFound(
                f"no community {community!r}: `paceline usage --by community` shows them"
            )


def set_controls(
    desk: Desk, changes: dict[str, Any], who: Who, *, version: int | None = None
) -> Controls:
    """Change what agents may do and publish; `version` as with limits."""
    with desk.engine.begin() as connection:
        return controls.change_controls(
            connection, desk.settings.controls, changes, actor=who.name, reason=who.reason,
            version=version,
        )  # fmt: skip


def pause_agents(desk: Desk, handles: Sequence[str], who: Who) -> int:
    """Let agents sit out; returns how many there were."""
    return _change_agents(desk, handles, {"state": AgentState.PAUSED}, "agents.pause", who)


def resume_agents(desk: Desk, handles: Sequence[str], who: Who) -> int:
    """Let agents take part again; returns how many there were."""
    return _change_agents(desk, handles, {"state": AgentState.ACTIVE}, "agents.resume", who)


def set_quota(desk: Desk, handles: Sequence[str], tokens: int | None, who: Who) -> int:
    """Give agents a daily quota of their own in LLM tokens; None: the fleet's, 0: no limit."""
    return _change_agents(desk, handles, {"daily_tokens": tokens}, "agents.quota", who)


def start_runs(desk: Desk, handles: Sequence[str], who: Who) -> list[UUID]:
    """Start agents now, each once, ahead of the cycle's backlog; returns the runs. All are known, or none
    starts. Who asks again while a run waits for its worker gets that run. Raises NotYet when the runs are
    stored, but Redis does not answer.
    """
    now = utcnow()
    run_ids: list[UUID] = []
    with desk.engine.begin() as connection:
        found = {roster.find_known(connection, handle): handle for handle in handles}
        waiting = adhoc.waiting_runs(connection, found)
        run_ids += waiting.values()
        for agent_id, handle in found.items():
            if agent_id in waiting:
                continue
            run_id = uuid7()
            adhoc.request_run(connection, run_id, handle, now)
            note_change(
                connection, actor=who.name, action="agents.dispatch", subject=handle, before={},
                after={"run": str(run_id)}, reason=who.reason,
            )  # fmt: skip
            run_ids.append(run_id)
    try:
        publish(run_ids)
    except Unreachable as why:
        said = f"stored, and begins when Redis answers again: {why}"
        raise NotYet(said, len(run_ids)) from why
    return run_ids


def cancel_runs(desk: Desk, run_ids: Sequence[UUID], who: Who) -> int:
    """Cancel open runs; returns how many there were. One that is going on stops before its next call. Raises
    NotFound when none of them is open.
    """
    said = f"cancelled by {who.name}" + (f": {who.reason}" if who.reason else "")
    with desk.engine.begin() as connection:
        done = stopping.cancel(connection, run_ids, who.name, said, who.reason)
    if not done:
        raise NotFound("no such run is open: `paceline runs list --open` shows those that are")
    return len(done)


def decide_content(desk: Desk, decision: str, ids: Sequence[UUID], who: Who) -> int:
    """Approve, reject or hide posts and comments; all of them, or none and NotFound."""
    with desk.engine.begin() as connection:
        done = decide(connection, decision, ids, actor=who.name, reason=who.reason)
        missing = [str(content_id) for content_id in ids if content_id not in done]
        if missing:
            raise NotFound(
                f"nothing to {decision} with id {', '.join(missing)}, so nothing was done: "
                "`paceline content list` shows ids and states"
            )
    return len(done)


def _hook(connection: Connection, receiver: str) -> webhooks.Hook | None:
    """The webhook; None for the application."""
    return None if receiver == APP else webhooks.find(connection, receiver)


def set_receivers(desk: Desk, receivers: Sequence[str], *, is_active: bool, who: Who) -> int:
    """Pause receivers of events, or let them go on; all of them, or none and NotFound."""
    with desk.engine.begin() as connection:
        for receiver in receivers:
            hook = _hook(connection, receiver)
            if hook is None:
                link = LinkState.ACTIVE if is_active else LinkState.PAUSED
                app_link.set_state(connection, link, actor=who.name, reason=who.reason)
            else:
                state = WebhookState.ACTIVE if is_active else WebhookState.PAUSED
                webhooks.set_state(connection, hook, state, actor=who.name, reason=who.reason)
    return len(receivers)


def replay_receivers(desk: Desk, receivers: Sequence[str], who: Who) -> int:
    """Send again what is dead; returns how many events. All of them, or none and NotFound."""
    with desk.engine.begin() as connection:
        count = 0
        for receiver in receivers:
            hook = _hook(connection, receiver)
            count += deliveries.revive(connection, str(hook.id) if hook else APP)
            if hook:
                webhooks.wake(connection, hook)
        note_change(
            connection, actor=who.name, action="receivers.replay", subject=", ".join(receivers)[:200],
            before={}, after={"events": count}, reason=who.reason,
        )  # fmt: skip
    return count


def test_alerts(desk: Desk, who: Who) -> int:
    """Send a test message to every channel; returns how many took it. Raises ConfigError when there is none,
    Unreachable when one does not take it.
    """
    urls = [url.get_secret_value() for url in desk.settings.alerts.urls]
    if not urls:
        raise ConfigError(
            'no channel: set PACELINE_ALERTS__URLS=\'["mailto://...", "slack://..."]\' (apprise URLs)'
        )
    with desk.engine.begin() as connection:
        note_change(
            connection, actor=who.name, action="alerts.test", subject="fleet", before={},
            after={"channels": len(urls)}, reason=who.reason,
        )  # fmt: skip
    message = Message("test", "info", "Paceline: a test", "If you read this, alerts arrive.")
    failed = [n for n, url in enumerate(urls, 1) if not _takes(url, message)]
    if failed:
        raise Unreachable(
            f"channel {', '.join(map(str, failed))} of {len(urls)} did not take it: check its URL"
        )
    return len(urls)


def _takes(url: str, message: Message) -> bool:
    try:
        return apprise_channel([url])(message)
    except UnreadableChannel:
        return False


def _change_agents(
    desk: Desk, handles: Sequence[str], changes: dict[str, Any], action: str, who: Who
) -> int:
    with desk.engine.begin() as connection:
        found = {roster.find_known(connection, handle) for handle in handles}
        for agent_id in sorted(found):  # in one order, so that two people do not block each other
            roster.change_agent(
                connection, agent_id, changes, actor=who.name, action=action, reason=who.reason
            )
    return len(found)
