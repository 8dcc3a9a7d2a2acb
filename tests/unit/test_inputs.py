"""Every face has the same bounds, and says them in plain words."""

import pytest
from typer.testing import CliRunner

from app.actions import agents, fleet
from app.actions.inputs import given
from app.cli.main import app
from app.errors import ConfigError


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("limits set --rate 1e9", "Invalid value '1000000000.0' for calls per second: 0.001 to 100,000"),
        ("limits set --rate nan", "for calls per second: 0.001 to 100,000"),
        ("limits set --max-wait 5000", "for seconds a run waits on a worker: 0.1 to 60"),
        ("limits set --agent-daily-tokens 99999999999", "0 to 2,147,483,647"),
        ("limits set --budget-day -1", "for dollars per day: 0 to 1,000,000,000"),
        ("budget set --day 1e30", "for dollars per day: 0 to 1,000,000,000"),
        ("budget set --month inf", "for dollars per month: 0 to 1,000,000,000"),
        ("pause --for 1e30", "for minutes: more than 0 and at most 525,600"),
        ("agents quota ada 99999999999", "for LLM tokens per day: 0 to 2,147,483,647"),
    ],
)
def test_a_value_out_of_bounds_is_one_line_that_says_what_is_allowed(arguments, said):
    found = CliRunner().invoke(app, arguments.split())
    assert isinstance(found.exception, ConfigError), found.output
    assert said in str(found.exception)


def test_controls_name_the_field():
    with pytest.raises(ConfigError, match="posts of an agent per hour: 0 to 2,147,483,647"):
        given(fleet.SetControls, "", posts_per_hour=99_999_999_999)
    with pytest.raises(ConfigError, match="what waits for approval"):
        given(fleet.SetControls, "", review="everything")
    with pytest.raises(ConfigError, match="runs"):
        given(agents.CancelRuns, "", runs=["x"])
