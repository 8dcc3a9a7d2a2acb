"""Importing a roster twice changes nothing; changing it changes what changed."""

from dataclasses import replace
from uuid import uuid4

from app.agents import roster
from app.agents.roster_file import Entry
from app.runs import adhoc
from tests.support.factories import NOON, make_agents

ENTRIES = [Entry(n, f"h{n}", f"Name {n}", "Bread", "Bakes.") for n in range(2_500)]


def test_import_is_repeatable_and_reports_what_it_did(connection):
    assert roster.add_agents(connection, ENTRIES) == roster.Imported(2_500, 0, 0)
    assert roster.add_agents(connection, ENTRIES) == roster.Imported(0, 0, 2_500)
    edited = [replace(ENTRIES[0], persona="Sings."), *ENTRIES[1:10]]
    assert roster.add_agents(connection, edited) == roster.Imported(0, 1, 9)
    assert roster.count_agents(connection) == 2_500


def test_agents_are_found_by_handle_and_by_id(connection):
    (agent_id,) = make_agents(connection, 1)
    for who in ("a0", "@A0", " a0 ", str(agent_id)):
        assert roster.find_agent(connection, who) == agent_id
    assert roster.find_agent(connection, "nobody") is None
    assert roster.find_agent(connection, str(uuid4())) is None


def test_list_pages_and_searches(connection):
    make_agents(connection, 12)
    first = roster.list_agents(connection, limit=5)
    rest = roster.list_agents(connection, after=first[-1].handle)
    assert len(first) + len(rest) == 12
    assert [agent.handle for agent in roster.list_agents(connection, search="a1")] == ["a1", "a10", "a11"]
    assert roster.list_agents(connection, search="%") == []


def test_unknown_agent_gets_a_failed_run_that_can_be_seen(connection):
    run_id = uuid4()
    assert not adhoc.request_run(connection, run_id, "nob\x00dy", NOON)
    assert not adhoc.request_run(connection, run_id, "nob\x00dy", NOON)  # delivered twice
