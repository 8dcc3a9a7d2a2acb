"""Every problem of a roster is named with its line; nothing a file holds can crash the reader."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.agents.roster_file import COLUMNS, read_roster

HEADER = b"handle,display_name,community,persona\n"


def reasons(content: bytes, *, is_json: bool = False) -> list[tuple[int, str]]:
    roster = read_roster(content, is_json=is_json)
    return [(problem.line, problem.reason) for problem in roster.problems]


def test_good_lines_are_read_with_their_line_numbers() -> None:
    roster = read_roster(HEADER + b"ada,Ada,Bread,You bake.\n\n@Bob,Bob,Bread,You too.\n", is_json=False)
    assert roster.problems == ()
    assert [(entry.line, entry.handle) for entry in roster.entries] == [(2, "ada"), (4, "bob")]


def test_byte_order_mark_is_no_problem() -> None:
    roster = read_roster(b"\xef\xbb\xbf" + HEADER + b"ada,Ada,Bread,You bake.\n", is_json=False)
    assert (len(roster.entries), roster.problems) == (1, ())


def test_more_columns_are_optional() -> None:
    roster = read_roster(b"handle,display_name,community,persona,mood\na,A,C,P,x\n", is_json=False)
    assert (len(roster.entries), roster.ignored_columns) == (1, ("mood",))


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (b"handle,display_name,persona\nada,Ada,x\n", 1, "missing column community"),
        (HEADER + b"ada,Ada,C,P\nbob,Bob,C,P\nADA,Ada,C,P\n", 4, "handle ada is already on line 2"),
        (HEADER + b"ada,Ada,C," + b"x" * 10_000_000 + b"\n", 2, "persona has 10,000,000 characters"),
        (HEADER.decode().encode("utf-16")[:-1], 1, "not utf-16"),
        (HEADER + b"ada,Ada,C,caf\xe9\n", 2, "not UTF-8 (byte 0xe9)"),
        (HEADER + b"ada,Ada,C\n", 2, "3 fields where the first line names 4"),
        (HEADER + b"ad a,Ada,C,P\n", 2, "handle 'ad a' may hold only"),
        (HEADER + b"ada,,C,P\n", 2, "display_name is empty"),
        (HEADER + b"ada,A\x00b,C,P\n", 2, "display_name holds a control character"),
        (HEADER, 1, "no agents in the file"),
        (b"", 1, "missing column handle"),
    ],
)
def test_problem_is_named_with_its_line(content: bytes, line: int, reason: str) -> None:
    found = reasons(content)
    assert found[0][0] == line
    assert found[0][1].startswith(reason)


def test_one_bad_line_does_not_hide_the_next() -> None:
    found = reasons(HEADER + b"a!,A,C,P\nok,A,C,P\n,B,,P\n")
    assert [line for line, _ in found] == [2, 4, 4]


def test_quoted_record_is_named_by_its_first_line() -> None:
    found = reasons(HEADER + b'ada,Ada,C,"one\ntwo"\nbad handle,B,C,P\n')
    assert [line for line, _ in found] == [4]


def test_json_lists_and_objects_with_agents_are_read() -> None:
    agent = dict.fromkeys(COLUMNS, "x")
    assert len(read_roster(json.dumps([agent]).encode(), is_json=True).entries) == 1
    assert len(read_roster(json.dumps({"agents": [agent]}).encode(), is_json=True).entries) == 1
    assert reasons(b"[1]", is_json=True) == [(1, "not an object")]
    assert reasons(b"{}", is_json=True)[0][1].startswith("expected a list")
    assert reasons(b"[{", is_json=True)[0][1].startswith("not JSON")


@given(st.binary(max_size=500), st.booleans())
def test_no_file_crashes_the_reader(content: bytes, is_json: bool) -> None:
    read_roster(content, is_json=is_json)
    read_roster(HEADER + content, is_json=is_json)
    roster = read_roster(b'[{"handle":' + content, is_json=True)
    assert roster.entries or roster.problems


ROWS = "handle,display_name,community,persona\nada,Adä,Maths,You like proofs.\n"


@pytest.mark.parametrize(
    "content",
    [
        ROWS.encode(),
        ROWS.encode("utf-8-sig"),
        ROWS.encode("utf-16"),
        ROWS.encode("utf-16-le"),
        ROWS.encode("utf-16-be"),
        ROWS.replace(",", ";").encode(),
        ROWS.replace(",", "\t").encode("utf-16"),
        ("sep=;\r\n" + ROWS.replace(",", ";")).encode(),
        ROWS.replace("\n", "\r\n").encode(),
        ROWS.replace("handle", '"handle"').replace(",", ";").encode(),
    ],
)
def test_what_spreadsheets_write_is_read(content):
    found = read_roster(content, is_json=False)
    assert found.problems == ()
    (entry,) = found.entries
    assert (entry.handle, entry.display_name, entry.persona) == ("ada", "Adä", "You like proofs.")


def test_what_is_ambiguous_is_asked_for_by_name():
    windows = ROWS.encode("cp1252")
    (problem,) = read_roster(windows, is_json=False).problems
    assert (problem.line, "--encoding cp1252" in problem.reason) == (2, True)
    assert read_roster(windows, is_json=False, encoding="cp1252").entries[0].display_name == "Adä"
    odd = b"handle;display_name;community\nada;Ada;Maths\n"
    (problem,) = read_roster(odd, is_json=False).problems
    assert "separated by semicolons" in problem.reason
    assert read_roster(ROWS.replace(",", "#").encode(), is_json=False, delimiter="#").entries
    assert read_roster(b"x", is_json=False, encoding="klingon").problems
    late = ("sep=;\n" + ROWS.replace(",", ";") + "B B;x;y;z\n").encode()
    assert [problem.line for problem in read_roster(late, is_json=False).problems] == [4]
