"""A setting that means nothing is refused; the rest is what the design says."""

import pytest

from app.errors import ConfigError
from app.settings import LOVABLE_URL, load_settings


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no .env of this checkout


def test_defaults(monkeypatch):
    settings = load_settings()
    assert (settings.limits.rate, settings.cycle.period_s, settings.cycle.slice_length_s) == (4, 300, 30)
    assert settings.gateway_url is None


def test_secrets_come_from_files_after_the_environment(monkeypatch, tmp_path):
    """As systemd's LoadCredential and a container's secrets lay them down."""
    files = {
        "DATABASE_URL": "postgresql://h/d",
        "PACELINE_GATEWAY__API_KEY": "from a file",
        "LOVABLE_API_KEY": "lovable",
    }
    for name, value in files.items():
        (tmp_path / name).write_text(value + "\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    settings = load_settings()
    assert settings.database_url.get_secret_value() == "postgresql://h/d"
    assert settings.gateway_key == "from a file"
    assert settings.gateway_url == LOVABLE_URL
    monkeypatch.setenv("PACELINE_GATEWAY__API_KEY", "from the environment")
    assert load_settings().gateway_key == "from the environment"


def test_slices_follow_the_period(monkeypatch):
    monkeypatch.setenv("PACELINE_CYCLE__PERIOD_S", "50")
    assert load_settings().cycle.slice_length_s == 5


def test_a_period_that_slices_do_not_divide_is_refused(monkeypatch):
    monkeypatch.setenv("PACELINE_CYCLE__PERIOD_S", "300")
    monkeypatch.setenv("PACELINE_CYCLE__SLICE_S", "70")
    with pytest.raises(ConfigError, match=r"PACELINE_CYCLE.*whole number"):
        load_settings()


def test_misspelt_name_is_refused_with_a_suggestion(monkeypatch):
    monkeypatch.setenv("PACELINE_LIMIT__RATE", "4")
    with pytest.raises(ConfigError, match="did you mean PACELINE_LIMITS__RATE"):
        load_settings()


def test_misspelt_name_in_the_env_file_is_refused_too(tmp_path):
    (tmp_path / ".env").write_text("PACELINE_CYCEL__PERIOD_S=5\nPOSTGRES_PASSWORD=x\n")
    with pytest.raises(ConfigError, match="PACELINE_CYCLE__PERIOD_S"):
        load_settings()


@pytest.mark.parametrize("value", ["0", "-1", "fast"])
def test_impossible_rate_is_refused_by_name(monkeypatch, value):
    monkeypatch.setenv("PACELINE_LIMITS__RATE", value)
    with pytest.raises(ConfigError, match="PACELINE_LIMITS__RATE"):
        load_settings()


@pytest.mark.plan(1, 54)
def test_lovable_key_is_the_only_key_needed(monkeypatch):
    monkeypatch.setenv("LOVABLE_API_KEY", "secret-1")
    settings = load_settings()
    assert (settings.gateway_url, settings.gateway_key) == (LOVABLE_URL, "secret-1")
    assert settings.gateway_key_name == "LOVABLE_API_KEY"
    assert "secret-1" not in repr(settings)


def test_any_other_gateway_needs_no_code(monkeypatch):
    monkeypatch.setenv("PACELINE_GATEWAY__BASE_URL", "http://127.0.0.1:9/v1/")
    monkeypatch.setenv("PACELINE_GATEWAY__API_KEY", "k")
    settings = load_settings()
    assert (settings.gateway_url, settings.gateway_key) == ("http://127.0.0.1:9/v1", "k")


@pytest.mark.plan(1, 39)
def test_other_providers_keys_are_not_read(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "never")
    assert "never" not in repr(load_settings())
    assert load_settings().gateway_key is None


def test_list_that_is_no_json_is_named_with_what_it_wants(monkeypatch):
    monkeypatch.setenv("PACELINE_USAGE__PRICES", "{bad")
    with pytest.raises(ConfigError, match=r"PACELINE_USAGE__PRICES is no JSON.*a list"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LIMITS__RATE", "1e9"),
        ("LIMITS__RATE", "nan"),
        ("LIMITS__MAX_WAIT_S", "5000"),
        ("LIMITS__AGENT_DAILY_TOKENS", "99999999999"),
        ("LIMITS__BUDGET_DAY_USD", "1e30"),
        ("CONTROLS__POSTS_PER_HOUR", "99999999999"),
        ("CONTROLS__DUPLICATES_S", "99999999999"),
    ],
)
def test_the_environment_has_the_bounds_of_every_other_face(monkeypatch, name, value):
    monkeypatch.setenv(f"PACELINE_{name}", value)
    with pytest.raises(ConfigError, match=f"PACELINE_{name}"):
        load_settings()


def test_an_env_file_is_read_as_a_shell_reads_it(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WHERE", "there")
    lines = [
        "PACELINE_TIMEZONE='Europe/Berlin'",
        "export LOVABLE_API_KEY='a${WHERE}b$c'",
        'PACELINE_HOME="/x/${WHERE}"',
        "TWITTERAPI_IO_KEY=k${WHERE}",
        "# PACELINE_NOTHING=1",
        "",
    ]
    (tmp_path / ".env").write_text("\n".join(lines))
    found = load_settings({})
    assert found.timezone == "Europe/Berlin"
    assert found.lovable_api_key.get_secret_value() == "a${WHERE}b$c", "nothing is expanded there"
    assert str(found.home) == "/x/there"
    assert found.twitterapi_io_key.get_secret_value() == "kthere"
