"""The way out: what agents do reaches the user's application.

A trigger writes an event, with one delivery for each receiver, in the statement that stores a post, a
comment, a vote (alembic, 0014). Here deliveries are made: into the application's tables (`app_link`, by a
`mapping`) and to webhooks. `deliver` is one round of both.
"""

EVENTS = (
    "post.published",
    "post.updated",
    "post.hidden",
    "post.restored",
    "comment.published",
    "comment.updated",
    "comment.hidden",
    "comment.restored",
    "vote.cast",
    "agent.paused",
    "agent.resumed",
    "agent.quarantined",
    "incident.opened",
    "incident.closed",
    "budget.crossed",
)
