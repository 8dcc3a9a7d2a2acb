"""Signing in at a company's provider, which is a process of its own, and attacks on the way back."""

import re
from base64 import urlsafe_b64encode
from datetime import timedelta
from hashlib import sha256
from time import time
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from pydantic import ValidationError
from sqlalchemy import func, select, update

from app.accounts import oidc, people
from app.accounts.oidc import NotBelieved, Provider
from app.cli.parts import free_port
from app.errors import Unreachable
from app.models import Account, AuditEntry, Role, Session
from app.settings import OidcSettings
from app.web.access import COOKIE, TRIP
from tests.support.company import MARA, dashboard, provider_process
from tests.support.web import PASSWORD, Browser


@pytest.fixture(scope="module")
def provider():
    with provider_process() as url:
        yield url


@pytest.fixture
def welcoming(engine, redis, embedded, sandbox, home, provider):
    with dashboard(
        embedded, sandbox, home, provider, new_role="viewer", email_domains=["example.org"]
    ) as found:
        yield found


@pytest.fixture
def closed(engine, redis, embedded, sandbox, home, provider):
    with dashboard(embedded, sandbox, home, provider) as found:
        yield found


def at_provider(client, path, subject, **form):
    """Go to the provider as `subject`; returns the way back, not yet gone."""
    ask = client.get(path)
    assert ask.status_code == 303, ask.text
    answer = httpx2.post(ask.headers["location"], data={"sub": subject, **form})
    assert answer.status_code == 302, answer.text
    return answer.headers["location"]


_CLIENTS = []


@pytest.fixture(autouse=True)
def nobody_stays():
    yield
    while _CLIENTS:
        _CLIENTS.pop().close()


def keep(client):
    _CLIENTS.append(client)
    return client


def stranger(base):
    return keep(httpx2.Client(base_url=base, trust_env=False, timeout=60))


def come_in(base, subject, path="/login/company?next=/usage"):
    client = stranger(base)
    return client, client.get(at_provider(client, path, subject))


def accounts(services):
    with services.engine.connect() as connection:
        return {a.name: a.role for a in people.list_accounts(connection)}


def test_somebody_of_the_company_comes_in_and_has_an_account_with_the_role_of_the_setting(welcoming):
    services, base = welcoming
    client, back = come_in(base, "u-17")
    assert (back.status_code, back.headers["location"]) == (303, "/usage")
    assert client.get("/usage").status_code == 200
    assert accounts(services) == {"mara@example.org": "viewer"}
    come_in(base, "u-17")
    assert accounts(services) == {"mara@example.org": "viewer"}
    with services.engine.connect() as connection:
        query = select(AuditEntry.action, AuditEntry.subject).order_by(AuditEntry.id)
        told = [tuple(row) for row in connection.execute(query)]
    assert ("accounts.company_login", "mara@example.org") in told
    assert told.count(("accounts.sign_in", "mara@example.org")) == 2


@pytest.mark.parametrize(
    ("subject", "said"),
    [
        ("u-18", "accounts are for people of example.org"),
        ("u-19", "no verified e-mail address"),
        ("somebody", "no verified e-mail address"),
    ],
)
def test_another_domain_and_an_address_that_is_not_verified_make_no_account(welcoming, subject, said):
    services, base = welcoming
    client, back = come_in(base, subject)
    assert back.status_code == 403
    assert said in back.text.lower()
    assert accounts(services) == {}
    assert COOKIE not in client.cookies


def test_an_account_is_never_opened_because_an_address_is_the_same(welcoming):
    services, base = welcoming
    with services.engine.begin() as connection:
        people.add_account(connection, "mara@example.org", PASSWORD, Role.ADMIN)
    _, back = come_in(base, "u-17")
    assert back.status_code == 403
    assert "sign in with its password, then link it" in back.text


def test_without_a_role_in_the_settings_only_linked_accounts_come_in(closed):
    services, base = closed
    _, back = come_in(base, "u-17")
    assert "no account is linked with you" in back.text.lower()
    assert accounts(services) == {}


def test_an_account_is_linked_after_its_password_and_then_opened_by_the_company(closed):
    services, base = closed
    browser = keep(Browser(services, base))
    assert "Not linked" in browser.get("/account").text
    wrong = browser.post("/account/company", password="another one")
    assert wrong.status_code == 422
    assert "purpose=link" in browser.post("/account/company", password=PASSWORD).text
    back = browser.get(at_provider(browser.client, "/login/company?purpose=link", "u-17"))
    assert back.headers["location"] == "/account"
    assert "Linked with http://127.0.0.1" in browser.get("/account").text
    client, back = come_in(base, "u-17")
    assert back.headers["location"] == "/usage"
    assert "admin" in client.get("/account").text
    browser.post("/account/company/remove", password=PASSWORD)
    assert come_in(base, "u-17")[1].status_code == 403


def test_a_stolen_session_links_nobody(closed):
    services, base = closed
    browser = keep(Browser(services, base))
    back = browser.get(at_provider(browser.client, "/login/company?purpose=link", "u-17"))
    assert back.status_code == 403
    assert "password first" in back.text
    with services.engine.begin() as connection:  # an hour-old proof is none
        long_ago = func.now() - timedelta(hours=1)
        connection.execute(update(Session).values(proved_at=long_ago))
    back = browser.get(at_provider(browser.client, "/login/company?purpose=link", "u-17"))
    assert back.status_code == 403


def test_who_has_no_password_shows_anew_who_they_are_before_dangerous_things(welcoming, provider):
    services, base = welcoming
    client, _ = come_in(base, "u-17")
    with services.engine.begin() as connection:
        connection.execute(update(Account).values(role=Role.ADMIN))
    page = client.get("/account").text
    assert "show again who you are" in page
    form = {
        "csrf": re.search(r'name="csrf" value="(\w+)"', page)[1],
        "role": "admin",
        "label": "x",
        "reason": "y",
        "password": "",
    }
    origin = {"Origin": base}
    for path in ("/accounts/invite", "/account/tokens"):
        refused = client.post(path, data=form, headers=origin)
        assert (refused.status_code, "show first who you are" in refused.text.lower()) == (422, True)
    anew = "/login/company?purpose=anew&next=/account"

    def typed_password(sub, seconds_ago):
        claims = {k: v for k, v in MARA.items() if k != "sub"}
        claims["auth_time"] = int(time()) - seconds_ago
        httpx2.put(f"{provider}/users/{sub}", json=claims)

    typed_password("u-17", 3_600)
    assert "did not ask for a password again" in client.get(at_provider(client, anew, "u-17")).text
    typed_password("u-17", 0)
    typed_password("u-99", 0)
    assert "not the person" in client.get(at_provider(client, anew, "u-99")).text
    asked = parse_qs(urlsplit(client.get(anew).headers["location"]).query)
    assert (asked["prompt"], asked["max_age"]) == (["login"], ["0"])
    assert client.get(at_provider(client, anew, "u-17")).headers["location"] == "/account"
    assert client.post("/account/tokens", data=form, headers=origin).status_code == 200


def test_an_answer_is_good_only_in_the_browser_that_asked_and_only_once(welcoming):
    services, base = welcoming
    victim, attacker = stranger(base), stranger(base)
    theirs = at_provider(attacker, "/login/company", "u-17")
    victim.get("/login/company")
    assert victim.get(theirs).status_code == 403  # another state
    bare = stranger(base)
    assert bare.get(theirs).status_code == 403  # no trip was begun
    assert attacker.get(theirs).status_code == 303
    assert attacker.get(theirs).status_code == 403
    assert TRIP not in attacker.cookies
    mine = parse_qs(urlsplit(at_provider(victim, "/login/company", "u-18")).query)
    code = parse_qs(urlsplit(at_provider(stranger(base), "/login/company", "u-17")).query)["code"]
    swapped = victim.get(oidc.CALLBACK, params={"state": mine["state"], "code": code})
    assert swapped.status_code == 403  # a code of another question: its nonce is another
    assert COOKIE not in victim.cookies
    assert accounts(services) == {"mara@example.org": "viewer"}


def test_denied_disabled_and_a_way_on_to_another_site(welcoming):
    services, base = welcoming
    client = stranger(base)
    back = client.get(at_provider(client, "/login/company", "u-17", action="deny"))
    assert "let nobody in" in back.text
    _, back = come_in(base, "u-17", "/login/company?next=//evil.example/")
    assert back.headers["location"] == "/"
    with services.engine.begin() as connection:
        people.disable(connection, "mara@example.org", actor="root", reason="left")
    assert "disabled" in come_in(base, "u-17")[1].text
    assert (
        client.post(
            "/login", data={"name": "mara@example.org", "password": ""}, headers={"Origin": base}
        ).status_code
        == 401
    )


def test_a_provider_that_is_away_or_another_one_lets_nobody_in(closed, provider):
    nowhere = OidcSettings(issuer=f"http://127.0.0.1:{free_port()}", client_id="x")
    with pytest.raises(Unreachable, match="use a password"):
        Provider(nowhere, "http://here").ask(oidc.begin(), anew=False)
    other = OidcSettings(issuer=provider.replace("127.0.0.1", "localhost"), client_id="x")
    found = Provider(other, "http://here")
    found._check_metadata({"issuer": other.issuer})
    with pytest.raises(NotBelieved, match="calls itself"):
        found._check_metadata({"issuer": provider})
    weak = {"issuer": other.issuer, "id_token_signing_alg_values_supported": ["none", "HS256", "RS256"]}
    found._check_metadata(weak)
    assert weak["id_token_signing_alg_values_supported"] == ["RS256"]


def test_the_question_holds_a_challenge_whose_answer_never_leaves_the_two_of_us(closed, provider):
    client = stranger(closed[1])
    asked = parse_qs(urlsplit(client.get("/login/company").headers["location"]).query)
    secret = client.cookies[TRIP].strip('"').split(" ")[0]
    verifier = oidc._from(secret, "verifier")
    digest = urlsafe_b64encode(sha256(verifier.encode()).digest()).decode().rstrip("=")
    assert asked["code_challenge"] == [digest]
    assert asked["code_challenge_method"] == ["S256"]
    assert secret not in str(asked)
    assert verifier not in str(asked)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"issuer": "https://login.example.org"}, "client_id"),
        ({"issuer": "http://login.example.org", "client_id": "x"}, "pattern"),
        ({"issuer": "https://accounts.google.com", "client_id": "x", "new_role": "viewer"}, "email_domains"),
        ({"new_role": "admin"}, "viewer"),
    ],
)
def test_settings_that_would_let_everybody_in_are_refused(given, said):
    with pytest.raises(ValidationError, match=said):
        OidcSettings.model_validate(given)
