"""Tables only: columns, constraints, indexes. Importing this package gives Alembic all of them."""

from app.models.accounts import (
    Account,
    ApiToken,
    Device,
    Invitation,
    RecoveryCode,
    Role,
    Session,
    SignInFailure,
)
from app.models.agents import Agent, AgentState, Community
from app.models.alerts import Alert, Incident
from app.models.calls import Call, CallStatus
from app.models.content import VISIT_SLOT, Comment, ContentState, Post, PostKind, Vote
from app.models.integration import (
    AppLink,
    Delivery,
    DeliveryState,
    LinkState,
    OutboxEvent,
    Webhook,
    WebhookState,
)
from app.models.jobs import Job
from app.models.limits import AuditEntry, Controls, Limits, Links, OverBudget, Review
from app.models.runs import Run, RunOrigin, RunState
from app.models.sources import Mention, MentionScan, SourceState, StyleProfile, StyleState
from app.models.usage import (
    AgentDailyUsage,
    DailyUsage,
    Denial,
    FleetHourlyUsage,
    HourlyUsage,
    LatencyHourly,
    Ranking,
    UsageDay,
    UsageState,
)

__all__ = [
    "VISIT_SLOT",
    "Account",
    "Agent",
    "AgentDailyUsage",
    "AgentState",
    "Alert",
    "ApiToken",
    "AppLink",
    "AuditEntry",
    "Call",
    "CallStatus",
    "Comment",
    "Community",
    "ContentState",
    "Controls",
    "DailyUsage",
    "Delivery",
    "DeliveryState",
    "Denial",
    "Device",
    "FleetHourlyUsage",
    "HourlyUsage",
    "Incident",
    "Invitation",
    "Job",
    "LatencyHourly",
    "Limits",
    "LinkState",
    "Links",
    "Mention",
    "MentionScan",
    "OutboxEvent",
    "OverBudget",
    "Post",
    "PostKind",
    "Ranking",
    "RecoveryCode",
    "Review",
    "Role",
    "Run",
    "RunOrigin",
    "RunState",
    "Session",
    "SignInFailure",
    "SourceState",
    "StyleProfile",
    "StyleState",
    "UsageDay",
    "UsageState",
    "Vote",
    "Webhook",
    "WebhookState",
]
