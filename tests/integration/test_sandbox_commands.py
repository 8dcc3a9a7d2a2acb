"""Faults of the running sandbox, from the command line."""

import pytest
from openai import APIStatusError, OpenAI
from typer.testing import CliRunner

from app.cli.main import app
from app.settings import get_settings


@pytest.fixture
def told(sandbox, tmp_path, monkeypatch):
    """Type a command beside a fleet that calls this sandbox; returns what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PACELINE_GATEWAY__BASE_URL", sandbox.url)

    def type_(*words, code=0):
        get_settings.cache_clear()  # each command is a process of its own
        ended = CliRunner().invoke(app, ["sandbox", *words])
        assert ended.exit_code == code, ended.output
        return ended.output

    return type_


@pytest.fixture
def status(sandbox):
    """Make a call; returns its status."""
    client = OpenAI(api_key="k", base_url=sandbox.url, max_retries=0)

    def call(model="google/gemini-2.5-flash"):
        try:
            client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}])
        except APIStatusError as error:
            return error.status_code, error.response.headers.get("retry-after")
        return 200, None

    yield call
    client.close()
    get_settings.cache_clear()


def test_a_status_is_answered_as_often_as_was_said(told, status):
    assert "the next 2 calls are answered 429" in told("fault", "429", "--count", "2", "--retry-after", "7")
    assert [status() for _ in range(3)] == [(429, "7"), (429, "7"), (200, None)]
    assert "the next call is answered 500" in told("fault", "500", "--model", "other/model")
    assert [status(), status("other/model")] == [(200, None), (500, None)]


def test_a_fault_ends_when_its_time_is_over_and_when_it_is_calmed(told, status, sandbox):
    assert "all calls of the next 60 s are answered 503" in told("fault", "503", "--for", "60")
    assert [status()[0] for _ in range(3)] == [503] * 3
    sandbox.state.faults[0].added_at -= 61
    assert status()[0] == 200
    told("fault", "503", "--for", "60")
    assert status()[0] == 503
    told("calm")
    assert status()[0] == 200


def test_credits_and_latency(told, status, sandbox):
    assert "$0 are left" in told("credits", "0")
    assert status()[0] == 402
    told("credits", "5")
    assert status()[0] == 200
    assert "answers after 0.01 s" in told("latency", "0.01")
    assert sandbox.state.rules.latency_s == 0.01


def test_what_is_wrong_is_said_in_a_line(told, monkeypatch):
    assert "a fault needs a kind out of" in str(told_error(told, "fault", "nonsense"))
    for words in (("fault", "429", "--for", "nan"), ("fault", "42"), ("latency", "inf"), ("credits", "nan")):
        assert isinstance(told_error(told, *words), SystemExit), words
    for url in ("nonsense", "http://[::1", "http://127.0.0.1:9"):
        assert "no sandbox answers" in str(told_error(told, "calm", "--url", url)), url
    monkeypatch.setenv("PACELINE_GATEWAY__BASE_URL", "http://127.0.0.1:9/v1")
    assert "no sandbox answers at http://127.0.0.1:9" in str(told_error(told, "calm"))


def told_error(told, *words):
    get_settings.cache_clear()
    ended = CliRunner().invoke(app, ["sandbox", *words])
    assert ended.exit_code != 0
    return ended.exception
