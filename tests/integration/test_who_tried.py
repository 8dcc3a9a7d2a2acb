"""Nobody gets in, nobody is locked out, one can see who tried: each test is an attack that once worked."""

import logging
import re
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import apprise
import httpx2
import pyotp
import pytest
from argon2 import PasswordHasher
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from app import log
from app.accounts import Visitor, invitations, passwords, people, second_factor, sessions, tokens
from app.accounts.passwords import check_new
from app.accounts.throttle import Throttled
from app.actions import Desk, Who, fleet
from app.alerts import rules
from app.alerts.outbox import Message, UnreadableChannel, apprise_channel, unreadable
from app.audit_log import Actor, ActorKind, acting
from app.cli import doctor, parts
from app.clock import utcnow
from app.errors import ConfigError
from app.models import AuditEntry, Role, Session, SignInFailure
from app.settings import LogSettings
from app.usage.table import harmless
from app.web import serving as web_serving
from app.web import shield
from app.web.access import COOKIE, DEVICE
from app.wiring import build
from tests.conftest import make_settings
from tests.support.factories import make_agents
from tests.support.web import PASSWORD, Browser, api_token, person, serving

ROOT = Path(__file__).parents[2]
APPRISE = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
HERE, ELSEWHERE = Visitor("192.0.2.1", browser="Firefox"), Visitor("198.51.100.7")


@pytest.fixture
def base(services):
    with serving(services) as address:
        yield address


def audit(services, action):
    with services.engine.connect() as connection:
        query = select(AuditEntry.__table__).where(AuditEntry.action == action)
        return connection.execute(query.order_by(AuditEntry.id)).all()


def post_login(base, name="admin", password="wrong", **cookies):
    data = {"name": name, "password": password}
    return httpx2.post(
        f"{base}/login", data=data, headers={"Origin": base}, trust_env=False, cookies=cookies, timeout=30
    )


def test_a_flood_of_sign_ins_stops_neither_pages_nor_readiness(services, base, monkeypatch):
    person(services)
    begun = threading.Semaphore(0)
    go_on = threading.Event()

    def verify(*_):
        begun.release()
        go_on.wait(30)
        raise passwords.VerificationError

    monkeypatch.setattr(type(passwords._hasher), "verify", verify)
    with ThreadPoolExecutor(60) as pool:
        flood = [pool.submit(post_login, base, f"nobody{n}") for n in range(60)]
        for _ in range(2):
            assert begun.acquire(timeout=20), "two are looked at"
        for path in ("/health/ready", "/health/live", "/login"):
            assert httpx2.get(base + path, trust_env=False, timeout=60).status_code == 200
        go_on.set()
        answers = [one.result() for one in flood]
    turned_away = [answer for answer in answers if answer.status_code == 503]
    assert len(turned_away) >= 60 - 2 - passwords.LINE_MAX - 40
    assert all(answer.headers["retry-after"] == "2" for answer in turned_away)
    assert {answer.status_code for answer in answers} <= {401, 503}


def test_strangers_cannot_lock_out_who_comes_by_a_known_browser(services, base):
    person(services)
    known = post_login(base, password=PASSWORD).cookies[DEVICE]
    with services.engine.begin() as connection:
        connection.execute(delete(SignInFailure))
        connection.execute(
            insert(SignInFailure).values(
                [
                    {"key": key, "failures": 200, "last_at": func.now()}
                    for key in ("name admin", "from 127.0.0.1", "both admin 127.0.0.1")
                ]
            )
        )
    assert post_login(base, password=PASSWORD).status_code == 429, "a stranger waits"
    assert post_login(base, password=PASSWORD, **{DEVICE: known}).status_code == 303
    tried = [post_login(base, **{DEVICE: known}).status_code for _ in range(12)]
    assert (tried.count(401), tried.count(429)) == (10, 2), "its own tries are counted, too"
    assert post_login(base, "viewer", **{DEVICE: known}).status_code == 429, "for its account only"


def test_no_shipped_file_believes_every_address_that_a_request_claims():
    for file in (ROOT / "deploy").rglob("*"):
        if file.is_file():
            assert 'FORWARDED_ALLOW_IPS, value: "*"' not in file.read_text(), file
    assert 'FORWARDED_ALLOW_IPS: "*"' not in (ROOT / "docker-compose.yml").read_text()


def test_who_comes_in_who_fails_who_is_locked_out_and_who_is_refused_is_noted(services, base):
    admin = person(services)
    with capture_logs() as events:
        sessions.sign_in(services.engine, "admin", PASSWORD, HERE)
        for _ in range(5):
            sessions.sign_in(services.engine, "Admin ", "wrong", ELSEWHERE)
        with pytest.raises(Throttled):
            sessions.sign_in(services.engine, "admin", PASSWORD, ELSEWHERE)
        viewer = Browser(services, base, Role.VIEWER)
        viewer.post("/acts/pause", reason="x")
        viewer.close()
    ours = [event for event in events if event["event"].startswith(("sign_in", "access"))]
    said = [(event["event"], event["name"], event["address"]) for event in ours]
    assert said == [
        ("sign_in.right", "admin", HERE.address),
        *[("sign_in.wrong", "admin", ELSEWHERE.address)] * 4,
        ("sign_in.locked", "admin", ELSEWHERE.address),
        ("sign_in.wrong", "admin", ELSEWHERE.address),
        ("sign_in.throttled", "admin", ELSEWHERE.address),
        ("access.refused", "viewer", "127.0.0.1"),
    ]
    assert next(e for e in events if e["event"] == "access.refused")["wanted"] == "POST /acts/pause"
    (came,) = audit(services, "accounts.sign_in")
    assert (came.actor, came.account_id, came.address) == ("admin", admin.id, HERE.address)
    assert came.after["browser"] == "Firefox"
    (locked,) = audit(services, "accounts.locked")
    assert (locked.subject, locked.address, locked.actor_kind) == ("admin", ELSEWHERE.address, "program")


def test_many_failures_a_new_administrator_and_a_new_token_are_alerts(services):
    admin = person(services)
    with services.engine.begin() as connection:
        people.add_account(connection, "olga", PASSWORD, Role.VIEWER)
        people.set_role(connection, "olga", Role.ADMIN, actor="admin", reason="x")
        tokens.add_token(connection, admin, "deploys", Role.OPERATOR)
        connection.execute(
            insert(SignInFailure).values(
                [
                    {"key": "name admin", "failures": 20, "last_at": func.now()},
                    {"key": "from 192.0.2.1", "failures": 19, "last_at": func.now()},
                ]
            )
        )
        titles = [message.title for message in rules.evaluate(connection, services.settings)]
        again = [message.key for message in rules.evaluate(connection, services.settings)]
    assert "Paceline: many wrong passwords for the name admin" in titles
    assert not any("192.0.2.1" in title for title in titles), "not yet"
    assert "Paceline: olga is an administrator now, by admin" in titles
    assert "Paceline: admin made the API token deploys" in titles
    assert len(again) == len(set(again)), "each has a key of its own, so it is told once"


def test_a_session_that_was_asked_for_with_the_old_password_is_not_opened(services, monkeypatch):
    admin = person(services)

    def changed_meanwhile(stored, password):
        with services.engine.begin() as connection:
            people.set_password(connection, admin, "another fine one")
        return True

    monkeypatch.setattr(sessions, "is_right", changed_meanwhile)
    assert sessions.sign_in(services.engine, "admin", PASSWORD, HERE) is None
    with services.engine.connect() as connection:
        assert connection.execute(select(Session.hash)).all() == []


@pytest.mark.parametrize(
    "guessable", ["qwertyuiop", "password12", "1234567890", "iloveyou123", "adminadmin", "Letmein2024"]
)
def test_passwords_that_people_guess_first_are_refused(guessable):
    with pytest.raises(ConfigError, match="easily guessed"):
        check_new(guessable, "admin")


def test_a_stored_password_costs_a_guesser_what_rfc_9106_says():
    given = PasswordHasher()
    assert (given.memory_cost, given.time_cost, given.parallelism) == (65_536, 3, 4)
    source = (ROOT / "app" / "accounts" / "passwords.py").read_text()
    assert "_hasher = PasswordHasher()" in source


def test_a_password_of_words_that_do_not_belong_together_is_taken():
    check_new("correct horse battery", "admin")
    check_new("x" * 20 + "Tr0ub4dor&3 zebra", "admin")


def test_a_new_password_ends_all_that_acted_for_the_account(services, base):
    token = api_token(services)
    device = post_login(base, password=PASSWORD).cookies[DEVICE]
    browser = Browser(services, base)
    browser.post("/account/password", old=PASSWORD, new="another fine one")
    headers = {"Authorization": f"Bearer {token}"}
    assert httpx2.get(f"{base}/api/v1/me", headers=headers, trust_env=False).status_code == 401
    with services.engine.begin() as connection:
        connection.execute(insert(SignInFailure).values(key="name admin", failures=99, last_at=func.now()))
    assert post_login(base, password="another fine one", **{DEVICE: device}).status_code == 429
    browser.close()


def test_tokens_end_and_the_list_says_when(services, base):
    browser = Browser(services, base)
    assert (
        "good for 7, 30, 90, 365 days"
        in browser.post("/account/tokens", label="x", role="viewer", days="9999").text
    )
    page = browser.post("/account/tokens", label="for a week", role="viewer", days="7").text
    token = page.partition("shown this once")[2].partition("pl_")[2].partition("<")[0]
    headers = {"Authorization": f"Bearer pl_{token}"}
    assert httpx2.get(f"{base}/api/v1/me", headers=headers, trust_env=False).status_code == 200
    with services.engine.begin() as connection:
        connection.execute(text("update paceline.api_tokens set expires_at = now() - interval '1 s'"))
    assert httpx2.get(f"{base}/api/v1/me", headers=headers, trust_env=False).status_code == 401
    browser.close()


def test_one_sees_where_one_is_signed_in_and_ends_one_of_them(services, base):
    here, there = Browser(services, base), Browser(services, base)
    with services.engine.begin() as connection:
        one = sessions.list_sessions(connection, person(services), here.secret)
        connection.execute(update(Session).values(address="192.0.2.9", browser="Lynx"))
    assert [found.is_this for found in one] == [True, False]
    page = here.get("/account").text
    assert page.count("Lynx") == 2
    assert page.count("192.0.2.9") == 2
    here.post("/account/sessions/end", id=one[1].id)
    assert there.get("/").status_code == 303
    assert here.get("/").status_code == 200
    here.close()
    there.close()


def test_a_stolen_session_makes_no_administrator_and_no_token_of_one(services, base):
    thief = Browser(services, base)
    with services.engine.begin() as connection:
        people.add_account(connection, "mallory", PASSWORD, Role.VIEWER)
    for path, fields in (
        ("/account/tokens", {"label": "x", "role": "admin"}),
        ("/accounts/invite", {"role": "admin", "reason": "x"}),
        ("/accounts/change", {"name": "mallory", "what": "admin", "reason": "x"}),
        ("/accounts/change", {"name": "mallory", "what": "reset", "reason": "x"}),
    ):
        answer = thief.post(path, **fields, password="a guess that is wrong")
        assert "The present password is another one" in answer.text, path
        assert "invitation#" not in answer.text
        assert "pl_" not in answer.text.partition("shown this once")[2]
    assert "shown this once" in thief.post("/account/tokens", label="x", role="admin", password=PASSWORD).text
    thief.close()


def test_an_operator_does_not_undo_what_only_an_administrator_sets(services, base):
    with services.engine.begin() as connection:
        make_agents(connection, 1)
    admin, operator = Browser(services, base), Browser(services, base, Role.OPERATOR)
    admin.post("/acts/limits", agent_daily_tokens="5000", reason="x")
    token = {"Authorization": f"Bearer {api_token(services, Role.OPERATOR)}"}
    for name, fields, status in (
        ("controls", {"over_budget": "cheaper_model"}, 403),
        ("controls", {"posts_per_hour": 3}, 303),
        *(
            ("agents-quota", {"agents": ["a0"], "tokens": limit}, status)
            for limit, status in ((0, 403), (5001, 403), (4000, 303))
        ),
    ):
        assert operator.post(f"/acts/{name}", reason="x", **fields).status_code == status, (name, fields)
        body = {"reason": "x"} | fields
        answer = httpx2.post(f"{base}/api/v1/acts/{name}", json=body, headers=token, trust_env=False)
        assert answer.status_code == (403 if status == 403 else 200), answer.text
    assert admin.post("/acts/controls", over_budget="cheaper_model", reason="x").status_code == 303
    admin.close()
    operator.close()


@pytest.mark.parametrize(
    "statement",
    [
        "update paceline.audit_log set actor = 'somebody else'",
        "delete from paceline.audit_log",
        "truncate paceline.audit_log",
    ],
)
def test_the_change_log_takes_no_change(services, statement):
    person(services)
    with pytest.raises(DBAPIError, match="the change log takes no"), services.engine.begin() as connection:
        connection.execute(text(statement))


def test_nobody_acts_under_the_name_of_the_program_or_of_somebody_who_left(services):
    person(services)
    with services.engine.begin() as connection:
        for name in ("root", "environment", "celery", "Paceline"):
            with pytest.raises(ConfigError, match="of the program's own"):
                people.add_account(connection, name, PASSWORD, Role.VIEWER)
        people.add_account(connection, "olga", PASSWORD, Role.VIEWER)
        people.remove_account(connection, "olga", actor="admin", reason="left")
        with pytest.raises(ConfigError, match="was somebody else's"):
            people.add_account(connection, "olga", PASSWORD, Role.VIEWER)


def test_each_change_says_of_what_kind_its_actor_was_and_from_where(services, base):
    with services.engine.begin() as connection:
        make_agents(connection, 1)
    browser = Browser(services, base)
    browser.post("/acts/agents-pause", agents=["a0"], reason="x")
    token = {"Authorization": f"Bearer {api_token(services)}"}
    body = {"agents": ["a0"], "reason": "x"}
    httpx2.post(f"{base}/api/v1/acts/agents-resume", json=body, headers=token, trust_env=False)
    with acting(Actor(ActorKind.COMMAND)):
        fleet.pause(
            Desk(services.settings, services.engine, services.admission),
            fleet.Pause(minutes=1, reason="x"),
            Who("admin", "x"),
        )
    admin = person(services)
    kinds = [
        (row.actor, row.actor_kind, row.account_id, row.address)
        for action in ("agents.pause", "agents.resume", "limits.set")
        for row in audit(services, action)
    ]
    assert kinds == [
        ("admin", "person", admin.id, "127.0.0.1"),
        ("admin", "token", admin.id, "127.0.0.1"),
        ("admin", "command", None, None),
    ]
    page = browser.get("/audit").text
    assert '<td class="text">token <small>127.0.0.1</small></td>' in page
    assert '<td class="text">command</td>' in page
    browser.close()


def half_a_form(base):
    """A form of this site whose body never comes whole."""
    host = urlsplit(base).netloc
    kind = "application/x-www-form-urlencoded"
    return (
        f"POST /login HTTP/1.1\r\nhost: {host}\r\norigin: {base}\r\ncontent-type: {kind}\r\n"
        "content-length: 100\r\n\r\nname="
    ).encode()


def connect(base):
    address = urlsplit(base)
    return socket.create_connection((address.hostname, address.port), timeout=20)


def test_a_form_that_is_given_up_half_way_writes_no_traceback(services, base, caplog):
    with capture_logs() as events:
        for _ in range(3):
            with connect(base) as half:
                half.sendall(half_a_form(base))
        assert httpx2.get(f"{base}/health/live", trust_env=False).status_code == 200
    assert not [e for e in events if e.get("log_level") == "error"]
    assert "Traceback" not in caplog.text


def test_who_sends_half_a_head_or_half_a_body_is_let_go(services, monkeypatch):
    monkeypatch.setattr(web_serving, "HEAD_S", 0.3)
    monkeypatch.setattr(shield, "BODY_S", 0.3)
    with serving(services) as base:
        head, second, body = connect(base), connect(base), connect(base)
        head.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n")
        second.sendall(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"200 OK" in second.recv(4096)
        second.sendall(b"GET /health/live HTTP/1.1\r\n")
        body.sendall(half_a_form(base))
        for slow in (head, second):
            while slow.recv(4096):
                pass  # what is left of the answer, then the end
        assert b"400" in body.recv(4096).split(b"\r\n")[0]
        for slow in (head, second, body):
            slow.close()


def test_addresses_of_requests_are_in_no_log_whatever_the_server_was_told(capsys):
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        log.configure(LogSettings())
        access = logging.getLogger("uvicorn.access")
        access.info("GET /invitation/secret")
        assert not access.isEnabledFor(logging.INFO) or access.disabled
        assert "secret" not in capsys.readouterr().err
    finally:
        logging.getLogger().handlers[:], logging.getLogger().level = before


@pytest.fixture
def by_https(engine, redis, embedded, sandbox, home):
    """The dashboard behind a proxy that speaks TLS."""
    settings = make_settings(embedded, sandbox.url, home, web={"public_url": "https://ops.example.org"})
    built = build(settings)
    with serving(built) as address:
        yield built, address
    built.close()


def test_cookies_of_an_https_site_are_bound_to_it_and_only_https_forms_are_taken(by_https):
    services, base = by_https
    person(services)
    data = {"name": "admin", "password": PASSWORD}

    def sign_in(origin):
        headers = {"Origin": origin, "Host": "ops.example.org"}
        return httpx2.post(f"{base}/login", data=data, headers=headers, trust_env=False)

    assert sign_in("http://ops.example.org").status_code == 403
    answer = sign_in("https://ops.example.org")
    cookies = answer.headers.get_list("set-cookie")
    assert {cookie.partition("=")[0] for cookie in cookies} == {
        "__Host-paceline_session",
        "__Host-paceline_device",
    }
    assert all("Secure" in cookie and "Path=/;" in cookie for cookie in cookies)
    headers = {"Host": "ops.example.org", "Cookie": "; ".join(c.partition(";")[0] for c in cookies)}
    assert httpx2.get(f"{base}/account", headers=headers, trust_env=False).status_code == 200
    stolen = cookies[0].removeprefix("__Host-").partition(";")[0]
    unbound = {"Host": "ops.example.org", "Cookie": stolen}
    assert httpx2.get(f"{base}/account", headers=unbound, trust_env=False).status_code == 303


def test_a_name_that_somebody_else_points_here_opens_nothing(services, base):
    for host, status in (
        ("evil.example", 421),
        ("127.0.0.1.evil.example:80", 421),
        ("", 421),
        ("localhost:1", 303),
        (urlsplit(base).netloc, 303),
        ("[::1]:8000", 303),
    ):
        answer = httpx2.get(base, headers={"Host": host}, trust_env=False)
        assert answer.status_code == status, host
        health = httpx2.get(f"{base}/health/live", headers={"Host": host or "x"}, trust_env=False)
        assert health.status_code == 200, "asked for by address"
    answer = httpx2.get(base, trust_env=False)
    assert "server" not in answer.headers


def test_a_web_page_adds_no_fault_to_the_sandbox(sandbox):
    url = sandbox.url.removesuffix("/v1") + "/sandbox/faults"
    for headers in (
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "evil.example"},
        {"Origin": "null", "Content-Type": "text/plain"},
    ):
        answer = httpx2.post(url, content='{"kind": "empty"}', headers=headers, trust_env=False)
        assert answer.status_code == 403, headers
    assert not sandbox.state.faults
    assert httpx2.post(url, json={"kind": "empty"}, trust_env=False).status_code == 200


@pytest.mark.parametrize("begin", list("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"))
def test_no_cell_of_a_table_is_a_formula(begin):
    assert harmless(f"{begin}1+1") == f"'{begin}1+1"


@APPRISE
def test_a_channel_that_is_misspelt_is_told_and_its_secret_is_not(caplog, monkeypatch):
    url = "slakc://hook-token-of-ours/secret"
    with caplog.at_level(logging.DEBUG), pytest.raises(UnreadableChannel) as caught:
        apprise_channel([url])(Message("k", "info", "t", "b"))
    assert "none of 1 URLs names a service" in str(caught.value)
    assert "token-of-ours" not in str(caught.value)
    monkeypatch.setattr(apprise.Apprise, "notify", lambda _, **__: True)
    with capture_logs() as events:
        assert apprise_channel(["json://127.0.0.1:9", url])(Message("k", "info", "t", "b")), (
            "once, to the other"
        )
    assert [(event["which"], event["of"]) for event in events] == [([2], 2)]
    assert unreadable([url, "json://127.0.0.1:9", "nonsense", ""]) == [1, 3, 4]


@APPRISE
def test_names_that_people_chose_are_no_markup_of_an_e_mail(monkeypatch):
    sent = []
    monkeypatch.setattr(apprise.Apprise, "notify", lambda _, **given: sent.append(given) or True)
    apprise_channel(["json://127.0.0.1:9"])(Message("k", "info", "t", "<img src=x>"))
    assert sent[0]["body_format"] == apprise.NotifyFormat.TEXT


def test_values_of_a_failed_statement_are_in_no_message(services):
    with pytest.raises(DBAPIError) as caught, services.engine.begin() as connection:
        connection.execute(text("select cast(:word as integer)"), {"word": "a secret word"})
    assert "[SQL parameters hidden" in str(caught.value)


def test_doctor_names_what_others_can_read(services, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    env = tmp_path / ".env"
    env.write_text("LOVABLE_API_KEY=x")
    env.chmod(0o644)
    web = services.settings.web.model_copy(update={"host": "0.0.0.0"})
    open_one = services.settings.model_copy(update={"web": web})
    assert {(f.check, f.level) for f in doctor._exposed(open_one)} == {
        ("web", "warning"),
        ("files", "warning"),
    }
    env.chmod(0o600)
    behind = web.model_copy(update={"public_url": "https://ops.example.org"})
    assert doctor._exposed(services.settings.model_copy(update={"web": behind})) == []
    assert doctor._exposed(services.settings) == []


@pytest.mark.parametrize(
    "answer",
    ["", "not json", '{"dependencies": []}', '{"dependencies": [{"name": "a", "skip_reason": "away"}]}'],
)
def test_advisories_that_nobody_could_look_up_are_no_good_news(tmp_path, answer):
    file = tmp_path / "found.json"
    file.write_text(answer)
    done = subprocess.run(
        [sys.executable, "-m", "tests.house.advisories", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "could not be checked" in done.stdout


def set_up_second_factor(browser):
    """Returns the app, and the recovery codes."""
    page = browser.post("/account/second-factor", password=PASSWORD).text
    secret = re.search(r'class="secret">([A-Z2-7]{32})<', page)[1]
    assert "<svg" in page
    assert "not the code" in browser.post("/account/second-factor/confirm", code="000000").text
    app = pyotp.TOTP(secret)
    page = browser.post("/account/second-factor/confirm", code=app.now()).text
    codes = re.findall(r"<li><code>([0-9a-f]{28})</code>", page)
    assert len(set(codes)) == second_factor.RECOVERY_CODES
    return app, codes


def test_a_password_alone_opens_nothing_where_a_second_factor_is_asked_for(services, base):
    browser = Browser(services, base)
    assert "another one" in browser.post("/account/second-factor", password="a guess").text
    app, codes = set_up_second_factor(browser)

    def sign_in(code=""):
        return sessions.sign_in(services.engine, "admin", PASSWORD, HERE, code)

    def at(steps):
        return app.at(utcnow() + timedelta(seconds=30 * steps))

    assert sign_in() is None
    assert sign_in("000000") is None
    assert sign_in(at(-5)) is None, "too old"
    with services.engine.begin() as connection:
        connection.execute(delete(SignInFailure))
        connection.execute(text("update paceline.accounts set totp_used = 0"))
    code = at(0)
    assert sign_in(f"{code[:3]} {code[3:]}") is not None
    assert sign_in(code) is None, "a code is good once"
    assert sign_in(at(1)) is not None, "a phone may be half a minute ahead"
    assert sign_in(codes[0].upper()) is not None
    assert sign_in(codes[0]) is None, "a recovery code is good once"
    assert post_login(base, password=PASSWORD).status_code == 401
    data = {"name": "admin", "password": PASSWORD, "code": codes[1]}
    assert (
        httpx2.post(f"{base}/login", data=data, headers={"Origin": base}, trust_env=False).status_code == 303
    )
    assert "password alone" in browser.post("/account/second-factor/remove", password=PASSWORD).text
    assert sign_in() is not None
    assert {row.after["state"] for row in audit(services, "accounts.second_factor")} == {"on", "off"}
    browser.close()


def test_where_a_second_factor_is_required_a_password_alone_opens_only_the_way_to_one(
    services, embedded, sandbox, home
):
    web = {"second_factor": "required"}
    strict = build(make_settings(embedded, sandbox.url, home, web=web))
    with serving(strict) as base:
        browser = Browser(strict, base)
        for path in ("/", "/usage", "/accounts/change?name=admin&what=disable"):
            assert browser.get(path).headers["location"] == "/account", path
        assert browser.get("/api/v1/overview").status_code == 403
        made = browser.post("/account/tokens", label="x", role="viewer")
        assert made.headers["location"] == "/account"
        assert "shows you nothing else" in browser.get("/account").text
        set_up_second_factor(browser)
        assert browser.get("/usage").status_code == 200
        browser.close()
    strict.close()


def test_signing_in_again_ends_the_session_that_the_browser_had(services, base):
    browser = Browser(services, base)
    data = {"name": "admin", "password": PASSWORD}
    again = browser.client.post("/login", data=data, headers={"Origin": base})
    assert again.status_code == 303
    old = httpx2.Client(base_url=base, trust_env=False, cookies={COOKIE: browser.secret})
    assert old.get("/usage").headers["location"].startswith("/login")
    browser.secret = again.cookies[COOKIE]
    browser.client.cookies = {COOKIE: browser.secret}
    left = browser.post("/logout")
    assert left.headers["clear-site-data"] == '"cache", "storage"'
    assert browser.get("/usage").headers["location"].startswith("/login")
    old.close()
    browser.close()


def test_a_reset_link_is_no_way_round_the_second_factor(services, base):
    browser = Browser(services, base)
    app, _ = set_up_second_factor(browser)
    with services.engine.begin() as connection:
        secret = invitations.invite(connection, Role.VIEWER, actor="t", reason="x", name="admin")
        connection.execute(text("update paceline.accounts set totp_used = 0"))
    data, here = {"code": secret, "password": "another fine one"}, {"Origin": base}
    answer = httpx2.post(f"{base}/invitation", data=data, headers=here, trust_env=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert "set-cookie" not in answer.headers
    assert sessions.sign_in(services.engine, "admin", "another fine one", HERE, app.now()) is not None
    browser.close()


def test_two_with_the_same_code_at_once_come_in_once(services, base):
    browser = Browser(services, base)
    app, codes = set_up_second_factor(browser)
    with services.engine.begin() as connection:
        connection.execute(text("update paceline.accounts set totp_used = 0"))
    for code in (app.now(), codes[0]):
        with services.engine.begin() as connection:  # three of four are wrong, and would count together
            connection.execute(delete(SignInFailure))

        def sign_in(_, code=code):
            return sessions.sign_in(services.engine, "admin", PASSWORD, HERE, code)

        with ThreadPoolExecutor(4) as pool:
            assert sum(found is not None for found in pool.map(sign_in, range(4))) == 1
    browser.close()


def test_a_disabled_account_acts_no_more_until_it_is_enabled(services, base):
    admin = Browser(services, base)
    operator = Browser(services, base, Role.OPERATOR)
    token = {"Authorization": f"Bearer {api_token(services, Role.OPERATOR)}"}
    given = {"name": "operator", "reason": "leave", "password": PASSWORD}
    admin.post("/accounts/change", what="disable", **given)
    assert operator.get("/").status_code == 303
    assert httpx2.get(f"{base}/api/v1/me", headers=token, trust_env=False).status_code == 401
    assert sessions.sign_in(services.engine, "operator", PASSWORD, HERE) is None
    assert "disabled" in admin.get("/account").text
    with pytest.raises(ConfigError, match="last administrator"), services.engine.begin() as connection:
        people.disable(connection, "admin", actor="t", reason="x")
    admin.post("/accounts/change", what="enable", **given)
    assert sessions.sign_in(services.engine, "operator", PASSWORD, HERE) is not None
    admin.close()
    operator.close()


def test_a_log_that_grows_is_cut_while_its_process_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "LOG_MAX", 1_000)
    code = "import sys, time\nfor n in range(400): print(n, 'x' * 20, flush=True); time.sleep(0.005)"
    part = parts.Part("writer", [sys.executable, "-c", code], {}, tmp_path)
    sizes = []
    while part._process.poll() is None:
        part._cut_log()
        sizes.append((tmp_path / "writer.log").stat().st_size)
    assert max(sizes) < 5_000
    kept = (tmp_path / "writer.old.log").read_text() + (tmp_path / "writer.log").read_text()
    assert kept.splitlines()[-1].startswith("399 "), "what comes after the cut is at the new beginning"
    assert "\0" not in kept
