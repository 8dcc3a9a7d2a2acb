"""The changes. A change that no test notices is a promise that nothing holds.

Each names a promise, the file, what stands there, what is put in its place, and the tests that look. A house
test sees to it that what is named stands there once.
"""

from dataclasses import dataclass

ADMISSION = ("tests/property", "tests/integration/test_admission.py")
RUNS = ("tests/integration/test_execute.py", "tests/integration/test_leases.py")
ANSWERS = ("tests/integration/test_every_answer.py", "tests/integration/test_what_is_told.py")
CYCLES = ("tests/integration/test_cycles.py",)
MONEY = ("tests/integration/test_usage.py", "tests/integration/test_money.py")
PAGES = ("tests/unit/test_small_pure_things.py", "tests/integration/test_web.py")
PEOPLE = ("tests/integration/test_access.py", "tests/integration/test_who_tried.py")
CONTENT = ("tests/integration/test_content.py",)
WAY_OUT = ("tests/integration/test_way_out.py", "tests/integration/test_webhooks.py")
COMPANY = ("tests/integration/test_company_login.py",)
CHAIN = ("tests/integration/test_whole_chain.py",)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change."""

    promise: str
    path: str
    before: str
    after: str
    tests: tuple[str, ...]


LUA, RULES = "app/admission/lua/", "app/alerts/rules.py"
EXPLORED = ("tests/integration/test_explore.py",)

MUTANTS = (
    Mutant(
        "a late sleeper starts no more than the cap allows",
        LUA + "admit.lua",
        "if valid and tokens_ready(0) <= now and num('ran') - spare() <= now then",
        "if valid and tokens_ready(0) <= now then",
        ADMISSION,
    ),
    Mutant(
        "probes become rarer",
        LUA + "settle.lua",
        "60000000 * 2 ^ (num('trips') - 1)",
        "60000000",
        (*ADMISSION, *ANSWERS),
    ),
    Mutant(
        "after a good probe the next stop begins with short waits",
        LUA + "_shared.lua",
        "{'open', 'opened', 'trips', 'resets'}",
        "{'open', 'opened', 'resets'}",
        (*ADMISSION, *ANSWERS),
    ),
    Mutant(
        "the fleet's budget of the month holds",
        LUA + "admit.lua",
        "{M, num('month_budget'), '', month_left",
        "{M, 0, '', month_left",
        (*ADMISSION, *MONEY),
    ),
    Mutant(
        "tokens per minute hold",
        LUA + "admit.lua",
        "local T, tpm = step(), num('tpm')",
        "local T, tpm = step(), 0",
        ADMISSION,
    ),
    Mutant(
        "a quota counts what is held",
        LUA + "admit.lua",
        "(tonumber(had[1]) or 0) + (tonumber(had[2]) or 0) + est > limit",
        "(tonumber(had[1]) or 0) + est > limit",
        ADMISSION,
    ),
    Mutant(
        "no call without an answer of Redis",
        "app/admission/controller.py",
        'return Refusal("store_away", 5.0)',
        "return Permit(request, window)",
        ADMISSION,
    ),
    Mutant("a 429 cuts the rate", LUA + "settle.lua", "put('rate0', cut)", "", ADMISSION),
    Mutant("a settlement counts once", LUA + "_shared.lua", "redis.call('HDEL', R, rid)", "", ADMISSION),
    Mutant("a counter moves only while nothing is held", LUA + "repair.lua", "held ~= 0 or ", "", ADMISSION),
    Mutant(
        "a counter that moved is left alone",
        LUA + "repair.lua",
        " or used ~= tonumber(ARGV[3])",
        "",
        ADMISSION,
    ),
    Mutant(
        "a pause stops calls",
        LUA + "admit.lua",
        "if num('paused') > now then return no(num('paused') - now, 'paused') end",
        "",
        ADMISSION,
    ),
    Mutant(
        "a dropped model is not asked",
        LUA + "admit.lua",
        "if gone > now then return no(gone - now, 'model_gone') end",
        "",
        (*ADMISSION, *ANSWERS),
    ),
    Mutant(
        "the dead give their reservations back",
        LUA + "_shared.lua",
        "release(rid, rec, rec.started * rec.est, rec.started * rec.cost, day, Q, D, M)",
        "",
        ADMISSION,
    ),
    Mutant(
        "402 stops the fleet",
        "app/kinds.py",
        '"Add credits, then run `paceline resume`.",\n    effect=Effect.STOP,\n    is_denial=True,',
        '"Add credits, then run `paceline resume`.",\n    is_denial=True,',
        (*CHAIN, *ANSWERS),
    ),
    Mutant(
        "429 pauses the fleet",
        "app/kinds.py",
        "effect=Effect.PAUSE,\n    attempts=4,\n    is_denial=True,",
        "attempts=4,\n    is_denial=True,",
        CHAIN,
    ),
    Mutant(
        "the scheduler obeys a stop",
        "app/runs/scheduling.py",
        "if is_of_gateway or stop.standing is Standing.PAUSED:",
        "if stop.standing is Standing.PAUSED:",
        (*CHAIN, *ADMISSION),
    ),
    Mutant(
        "the scheduler obeys a pause",
        "app/runs/scheduling.py",
        "if is_of_gateway or stop.standing is Standing.PAUSED:",
        "if is_of_gateway:",
        (*CHAIN, *ADMISSION),
    ),
    Mutant(
        "the scheduler opens what the present rate serves",
        "app/runs/scheduling.py",
        "runs_per_slice(state.effective_rate,",
        "runs_per_slice(settings.limits.rate,",
        (*CHAIN, *CYCLES),
    ),
    Mutant(
        "one run probes",
        "app/runs/scheduling.py",
        "state.is_probe_due and not state.paused_until",
        "False",
        (*CHAIN, *ADMISSION),
    ),
    Mutant(
        "a 429 is asked again after 1, 2 and 4 s",
        "app/runs/attempt.py",
        "return min(BACKOFF_MAX_S, 2.0**failures)",
        "return 1.0",
        RUNS,
    ),
    Mutant(
        "a worker renews only what is still its own",
        "app/runs/leases.py",
        '            Run.attempt == bindparam("held_attempt"),\n'
        "            Run.state == RunState.RUNNING,\n        )\n        .values(lease_until=func.now() + lease),",  # noqa: E501
        "            Run.state == RunState.RUNNING,\n        )\n        .values(lease_until=func.now() + lease),",  # noqa: E501
        RUNS,
    ),
    Mutant(
        "a worker snoozes only what is still its own",
        "app/runs/leases.py",
        ".where(Run.id == held.run_id, Run.attempt == held.attempt, Run.state == RunState.RUNNING)\n"
        "        .values(state=RunState.SNOOZED",
        ".where(Run.id == held.run_id, Run.state == RunState.RUNNING)\n"
        "        .values(state=RunState.SNOOZED",
        RUNS,
    ),
    Mutant(
        "a worker ends only what is still its own",
        "app/runs/leases.py",
        'Run.id == bindparam("run_id"), Run.attempt == bindparam("held_attempt"), Run.state',
        'Run.id == bindparam("run_id"), Run.state',
        RUNS,
    ),
    Mutant(
        "a resumed run counts its attempts on",
        "app/runs/actor.py",
        "    if held.attempt == 1:\n        return {}\n",
        "    return {}\n",
        RUNS,
    ),
    Mutant(
        "a failed call is settled",
        "app/runs/attempt.py",
        "_settle(services, permit, _verdict(fault, failures), result)\n        raise",
        "raise",
        (*RUNS, *ADMISSION),
    ),
    Mutant(
        "runs that people ask for do not fill the cycle's queue",
        "app/runs/cycles.py",
        "Run.state.in_(WAITING), Run.origin == RunOrigin.CYCLE",
        "Run.state.in_(WAITING)",
        CYCLES,
    ),
    Mutant(
        "the least recently served come first",
        "app/runs/cycles.py",
        "Agent.last_run_at.asc().nulls_first()",
        "Agent.last_run_at.desc().nulls_last()",
        CYCLES,
    ),
    Mutant(
        "a lost run is quarantined the third time",
        "app/runs/rescue.py",
        "LOSSES_MAX = 3",
        "LOSSES_MAX = 30",
        RUNS,
    ),
    Mutant(
        "a hung beat is replaced",
        "app/cli/up.py",
        "                    beat.replace()\n",
        "",
        ("tests/acceptance/test_operators.py",),
    ),
    Mutant(
        "the visit's timer is kept on failure",
        "app/runs/execute.py",
        "publish.note_visit(connection, actor.claim.agent_id)",
        "pass",
        RUNS,
    ),
    Mutant(
        "a visit goes to another community",
        "app/community/feed.py",
        "is_elsewhere = Post.community_id != bindparam",
        "is_elsewhere = Post.community_id == bindparam",
        RUNS,
    ),
    Mutant(
        "a quiet community is left in peace",
        "app/runs/actor.py",
        "quiet=quiet if activity.post_quiet_s else None",
        "quiet=None",
        RUNS,
    ),
    Mutant(
        "alerts of a budget go by what is spent of it",
        "app/runs/budgets.py",
        "return 100 * self.spent / self.limit if self.limit else None",
        "return 100.0 if self.limit else None",
        MONEY,
    ),
    Mutant(
        "money of a budget is money, not calls",
        "app/usage/reports.py",
        "sum(cost_micros + cost_unknown_micros) as cost from",
        "count(*) as cost from",
        MONEY,
    ),
    Mutant(
        "a long 429 is told",
        RULES,
        "if is_pause and row.lasted < timedelta(minutes=settings.alerts.long_incident_min):",
        "if is_pause:",
        (*MONEY, *CHAIN),
    ),
    Mutant(
        "a short 429 is not",
        RULES,
        "if is_pause and row.lasted < timedelta(minutes=settings.alerts.long_incident_min):",
        "if False:",
        (*MONEY, *CHAIN),
    ),
    Mutant("a quarantine is told", RULES, "_quarantine),", "lambda *_: []),", CHAIN),
    Mutant("books that differ are told", RULES, "_books),", "lambda *_: []),", MONEY),
    Mutant(
        "a day is frozen only when it equals the ledger",
        "app/usage/rollups.py",
        "        if rollups_of_day(connection, day, began, end) != [tuple(ledger)] * 3:\n"
        "            break  # shown by `paceline audit`\n",
        "",
        MONEY,
    ),
    Mutant(
        "what nobody knows counts as reserved",
        "app/usage/calls.py",
        "may_cost = (CallStatus.IN_FLIGHT, CallStatus.UNKNOWN, CallStatus.OK)",
        "may_cost = (CallStatus.IN_FLIGHT, CallStatus.OK)",
        (*ADMISSION, *RUNS, *MONEY),
    ),
    Mutant(
        "sums of quotas count what nobody knows as reserved, too",
        "app/usage/rollups.py",
        "then tokens_reserved else 0 end",
        "then 0 else 0 end",
        MONEY,
    ),
    Mutant(
        "calls that may still end are read from the ledger, not from sums",
        "app/usage/rollups.py",
        "where status = 'in_flight' and created_at > now() - cast(:back as interval)",
        "where status = 'nothing' and created_at > now() - cast(:back as interval)",
        MONEY,
    ),
    Mutant(
        "a call of a dead worker is given up",
        "app/runs/rescue.py",
        "calls_unknown=calls.give_up(connection, call_deadline),",
        "calls_unknown=0,",
        RUNS,
    ),
    Mutant(
        "the month is seeded from its first day",
        "app/wiring.py",
        "starts = (window.day_start, window.month_start)",
        "starts = (window.day_start, window.day_start)",
        (*ADMISSION, *MONEY),
    ),
    Mutant(
        "dollars are dollars",
        "app/money.py",
        'return f"${micros / 1e6:,.2f}" if micros >= 1_000_000',
        'return f"${micros / 1e5:,.2f}" if micros >= 1_000_000',
        (*PAGES, *MONEY),
    ),
    Mutant(
        "and so are their parts",
        "app/money.py",
        'shown = f"${micros / 1e6:,.4f}"',
        'shown = f"${micros / 1e5:,.4f}"',
        (*PAGES, *MONEY),
    ),
    Mutant(
        "an invitation ends",
        "app/accounts/invitations.py",
        ".where(Invitation.hash == hash_secret(secret), Invitation.expires_at > func.now())",
        ".where(Invitation.hash == hash_secret(secret))",
        PEOPLE,
    ),
    Mutant(
        "a session ends after seven days",
        "app/accounts/people.py",
        "return Session.expires_at > func.now(), ",
        "return Session.expires_at > Session.created_at, ",
        PEOPLE,
    ),
    Mutant(
        "a session ends after twelve hours without use",
        "app/accounts/people.py",
        "Session.seen_at >= func.now() - IDLE",
        "Session.seen_at >= func.now() - 100 * IDLE",
        PEOPLE,
    ),
    Mutant(
        "an operator sets no budget",
        "app/actions/fleet.py",
        '"Set a budget",\n        Role.ADMIN',
        '"Set a budget",\n        Role.OPERATOR',
        PEOPLE,
    ),
    Mutant(
        "review of all is of comments, too",
        "app/community/publish.py",
        "controls.review == Review.ALL or (controls.review",
        "(controls.review == Review.ALL and is_post) or (controls.review",
        CONTENT,
    ),
    Mutant(
        "no cell is a formula",
        "app/usage/table.py",
        "is_formula = isinstance(cell, str) and cell.startswith(FORMULAS)",
        "is_formula = False",
        PEOPLE,
    ),
    Mutant(
        "the dashboard watches alerts",
        "app/web/watcher.py",
        "        thread.start()\n",
        "",
        (*CHAIN, *PEOPLE),
    ),
    Mutant(
        "a form carries the session's token",
        "app/web/access.py",
        'raise Forbidden("this form is from another session: go back, reload, try again")',
        "pass",
        PEOPLE,
    ),
    Mutant(
        "a stolen session links nobody with a company's sign-in",
        "app/web/pages/company.py",
        "if person is None or not sessions.is_proved(connection, secret):",
        "if person is None:",
        COMPANY,
    ),
    Mutant(
        "a provider speaks for itself only",
        "app/accounts/oidc.py",
        "raise NotBelieved(f\"{self._issuer} calls itself {found.get('issuer')}\")",
        "pass",
        COMPANY,
    ),
    Mutant(
        "an answer is good only in the browser that asked",
        "app/accounts/oidc.py",
        'raise NotBelieved("this sign-in was begun in another browser, or too long ago")',
        "pass",
        COMPANY,
    ),
    Mutant(
        "an address of e-mail opens no account",
        "app/accounts/identities.py",
        "    if connection.execute(taken).first():",
        "    if False:",
        COMPANY,
    ),
    Mutant(
        "a second factor that is required is asked for",
        "app/web/access.py",
        "if is_asked_for and not SET_UP.fullmatch(route_path(request)):",
        "if False:",
        PEOPLE,
    ),
    Mutant(
        "a row is written there before it is marked here",
        "app/integration/app_link.py",
        "with here.begin() as ours, there.begin() as theirs:",
        "with there.begin() as theirs, here.begin() as ours:",
        WAY_OUT,
    ),
    Mutant(
        "a comment never comes before its post",
        "app/integration/deliveries.py",
        "            is_first,\n",
        "",
        WAY_OUT,
    ),
    Mutant(
        "a hide that overtakes its publish wins",
        "app/integration/app_link.py",
        "if not _is_still_shown(here, due):",
        "if False:",
        WAY_OUT,
    ),
    Mutant(
        "comments of a hidden post go before it",
        "app/integration/app_link.py",
        'if due.kind == "post.hidden" and is_deleted:',
        "if False:",
        WAY_OUT,
    ),
    Mutant(
        "comments of a post come back with it",
        "app/integration/app_link.py",
        'if due.kind in ("post.published", "post.restored"):',
        "if False:",
        WAY_OUT,
    ),
    Mutant(
        "what a person hid is kept",
        "app/retention.py",
        "(Comment.state != ContentState.HIDDEN,)",
        "()",
        ("tests/integration/test_retention.py",),
    ),
    Mutant(
        "an open run is never let go, nor one that something follows",
        "app/retention.py",
        "(func.coalesce(Run.is_continued, True),)",
        "()",
        ("tests/integration/test_retention.py",),
    ),
    Mutant(
        "what follows a run is found by its index",
        "app/runs/groups.py",
        "~Run.is_continued,  # as",
        "Run.is_continued.is_(False),  # as",
        ("tests/integration/test_a_year_of_history.py",),
    ),
    Mutant(
        "no webhook goes into a private network",
        "app/bounded_http.py",
        "return found.is_global and not found.is_multicast",
        "return True",
        WAY_OUT,
    ),
    Mutant(
        "both secrets sign while one rotates",
        "app/integration/sending.py",
        "keys = [row.secret, row.old_secret] if is_rotating else [row.secret]",
        "keys = [row.secret]",
        WAY_OUT,
    ),
    Mutant(
        "usage of chosen names has the newest calls in it",
        "app/usage/explore.py",
        '"open_from": max(start, watermark),',
        '"open_from": until,',
        EXPLORED,
    ),
    Mutant(
        "what is chosen is all that counts",
        "app/usage/explore.py",
        'return f"{joins} where {chosen}" if chosen else joins',
        "return joins",
        EXPLORED,
    ),
    Mutant(
        "no day is frozen whose calls are not all before the watermark",
        "app/usage/rollups.py",
        "min(now - SETTLED, max(start, watermark))",
        "now - SETTLED",
        EXPLORED,
    ),
    Mutant(
        "a counter that is there is not set again",
        "app/admission/lua/seed.lua",
        "redis.call('HSETNX', KEYS[1], ARGV[at], ARGV[at + 1])",
        "redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])",
        ADMISSION,
    ),
)
