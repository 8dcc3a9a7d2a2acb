"""An action is declared once: the command line, the form and the API are made from it."""

import re
from itertools import takewhile

import pytest
from pydantic import BaseModel
from typer.main import get_command
from typer.testing import CliRunner

from app.actions import ACTIONS, find
from app.actions.inputs import plain_type
from app.cli.main import app
from app.errors import NotFound
from app.web.forms import inputs


def command_of(words):
    """The command behind `paceline agents pause`."""
    found = get_command(app)
    for word in words:
        found = found.commands[word]
    return found


def words_of(action):
    """The words before the first argument or option, of each command that it names."""
    for line in action.command.split("; "):
        yield list(takewhile(lambda word: re.fullmatch("[a-z-]+", word) and word[0] != "-", line.split()[1:]))


@pytest.mark.parametrize("action", ACTIONS, ids=lambda one: one.name)
def test_every_action_has_a_command_a_form_and_a_sentence(action):
    assert action.about.endswith(".")
    names = [field.name for field in inputs(action.ask, {}, {}, action.hidden)]
    assert names[-1] == "reason"
    assert set(names) == set(action.ask.model_fields)
    for words in words_of(action):
        options = {option for one in command_of(words).params for option in one.opts}
        assert "--reason" in options or action.name == "agents-run", words


@pytest.mark.parametrize("name", ["pause", "budget", "webhooks-add", "receivers-replay", "content-hide"])
def test_the_options_of_a_command_are_the_fields_of_its_action(name):
    action = find(name)
    (words, *_) = reversed(list(words_of(action)))
    known = {one.name for one in command_of(words).params} - {"reason", "as_json", "help"}
    assert known == set(action.ask.model_fields) - {"reason", "version"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pause", "--for", "0"], "Invalid value '0.0' for minutes: more than 0 and at most 525,600"),
        (["pause", "--for", "nan"], "for minutes: more than 0"),
        (["budget", "set", "--day", "-1"], "for dollars per day: 0 to 1,000,000,000"),
        (["agents", "pause", ""], "agents"),
        (["runs", "cancel", "x"], "Invalid value"),
    ],
)
def test_a_bound_is_refused_in_the_same_words_before_anything_is_asked(arguments, said):
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code != 0
    assert said in ended.output + str(ended.exception)


def test_an_unknown_action_is_told_with_those_that_there_are():
    with pytest.raises(NotFound, match="agents-pause"):
        find("agents-pauze")


def test_what_is_behind_none_and_bounds_is_found():
    assert [plain_type(field.annotation) for field in find("budget").ask.model_fields.values()] == [
        str,
        str,
        float,
        float,
    ]
    assert plain_type(find("agents-pause").ask.model_fields["agents"].annotation) == list[str]
    assert issubclass(find("pause").ask, BaseModel)
