"""Who may look and who may act: closed by default, by role, token and origin, in whichever process."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from fastapi.routing import APIRoute
from sqlalchemy import delete, func, insert, select, update

from app.accounts import invitations, people
from app.actions import ACTIONS
from app.errors import ConfigError, NotFound, Unreachable
from app.models import Account, Agent, AuditEntry, Invitation, Role, Run, Session, SignInFailure
from app.settings import WebSettings
from app.web.access import COOKIE, form_token
from app.web.main import create_app
from app.wiring import build
from tests.conftest import make_settings
from tests.support.factories import make_agents
from tests.support.web import PASSWORD, Browser, api_token, person, serving

OPEN = {
    "/login",
    "/login/company",
    "/login/company/done",
    "/invitation",
    "/invitation/{secret}",
    "/health/live",
    "/health/ready",
}


@pytest.fixture
def base(services):
    with services.engine.begin() as connection:
        make_agents(connection, 2)
    with serving(services) as address:
        yield address


@pytest.fixture
def anybody(base):
    with httpx2.Client(base_url=base, trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture
def signed_in(services, base):
    """Makes browsers that are signed in with a role."""
    opened = []

    def open_one(role=Role.ADMIN):
        opened.append(Browser(services, base, role))
        return opened[-1]

    yield open_one
    for browser in opened:
        browser.close()


def routes_of(services):
    """All routes with their whole paths, however they were put together."""
    found = []

    def walk(items, prefix=""):
        for item in items:
            if isinstance(item, APIRoute):
                found.append((prefix + item.path, item.methods))
            elif router := getattr(item, "original_router", None):
                walk(router.routes, prefix + item.include_context.prefix)

    walk(create_app(services).routes)
    return found


def test_every_route_but_the_open_ones_needs_a_person(services, anybody):
    checked = 0
    for template, methods in routes_of(services):
        path = re.sub(r"\{(\w+)\}", "00000000-0000-0000-0000-000000000000", template)
        for method in sorted(methods):
            answer = anybody.request(method, path, headers={"Origin": str(anybody.base_url)})
            if template in OPEN:
                continue
            checked += 1
            if path.startswith(("/api/v1", "/metrics")):
                assert answer.status_code == 401, (method, path)
                assert answer.headers["www-authenticate"] == "Bearer"
            else:
                assert answer.status_code == 303, (method, path)
                assert answer.headers["location"].startswith("/login")
    assert checked > 60


def test_every_change_refuses_without_role_token_or_origin(services, base, signed_in):
    """By enumerating the routes: nobody has to remember to add a new one here."""
    viewer, admin = signed_in(Role.VIEWER), signed_in()
    weak = api_token(services, Role.VIEWER)
    own = {
        "/logout",
        "/account/sessions",
        "/account/sessions/end",
        "/account/second-factor",
        "/account/second-factor/confirm",
        "/account/second-factor/remove",
        "/account/password",
        "/account/company",
        "/account/company/remove",
        "/account/tokens",
        "/account/tokens/remove",
    }
    checked = 0
    for path, methods in routes_of(services):
        if methods <= {"GET", "HEAD"} or path in OPEN:
            continue
        checked += 1
        here = {"Origin": base}
        if path.startswith("/api/v1"):
            by_cookie = admin.client.post(path, json={"reason": "x"}, headers=here)
            assert by_cookie.status_code == 401, f"{path}: a browser must not act by the API"
            answer = httpx2.post(
                base + path,
                json={"reason": "x"},
                trust_env=False,
                headers={"Authorization": f"Bearer {weak}"},
            )
            assert answer.status_code in (403, 422), path
            continue
        token = {"csrf": form_token(admin.secret)}
        for data, headers in (
            ({}, here),
            ({"csrf": "wrong"}, here),
            (token, {}),
            (token, {"Origin": "https://evil.example"}),
            (token, {"Origin": "null"}),
            (token, {**here, "Sec-Fetch-Site": "cross-site"}),
        ):
            answer = admin.client.post(path, data={"reason": "x", **data}, headers=headers)
            assert answer.status_code == 403, (path, data, headers)
        answer = admin.client.post(path, json=token, headers=here)
        assert answer.status_code == 403, "only a form is a form"
        if path not in own:
            assert viewer.post(path, reason="x").status_code == 403, path
    assert checked > 30
    with services.engine.connect() as connection:
        changes = connection.execute(select(AuditEntry.action)).scalars().all()
    assert set(changes) <= {"accounts.add", "tokens.add"}, "nothing was done"


def test_acts_of_pages_and_api_are_audited_and_limited_by_role(services, base, signed_in):
    operator = signed_in(Role.OPERATOR)
    answer = operator.post("/acts/agents-pause", agents=["a0", "a1"], reason="looking at them")
    assert answer.headers["location"] == "/agents?done=agents-pause&of=2"
    assert operator.post("/acts/limits", rate="9", reason="x").status_code == 403
    admin = api_token(services, Role.ADMIN)
    headers = {"Authorization": f"Bearer {admin}"}

    def act(name, **body):
        return httpx2.post(f"{base}/api/v1/acts/{name}", json=body, headers=headers, trust_env=False)

    assert act("limits", rate=9, reason="more credits").json() == {"done": 1}
    assert act("limits", rate=-1, reason="more").status_code == 422
    assert act("limits", rate=3).status_code == 422, "no reason"
    assert act("limits", reason="nothing to change").status_code == 422
    assert act("agents-quota", agents=["a0", "nobody"], tokens=5, reason="x").status_code == 404
    assert act("budget", day_usd=2.5, reason="small").json() == {"done": 1}
    assert act("controls", banned_words=["casino"], reason="no ads").json() == {"done": 1}
    with services.engine.connect() as connection:
        query = select(AuditEntry.actor, AuditEntry.action, AuditEntry.reason)
        found = [tuple(row) for row in connection.execute(query.order_by(AuditEntry.at))]
        states = connection.execute(select(Agent.state, Agent.daily_tokens)).all()
    assert ("operator", "agents.pause", "looking at them") in found
    assert ("admin", "limits.set", "more credits") in found
    assert ("admin", "controls.set", "no ads") in found
    assert [tuple(row) for row in states] == [("paused", None)] * 2, "all or none got the quota"
    assert services.admission.state().rate == 9


def test_form_says_what_is_wrong_and_keeps_what_was_typed(services, base, signed_in):
    admin = signed_in()
    answer = admin.post("/acts/limits", rate="fast", burst="3", reason="")
    assert answer.status_code == 422
    assert 'value="fast"' in answer.text
    assert 'value="3"' in answer.text
    assert "Invalid value" in answer.text
    stale = admin.post("/acts/limits", rate="5", version="99", reason="x")
    assert "somebody changed this meanwhile" in stale.text
    (version,) = re.findall(r'name="version" value="(\d+)"', stale.text)
    again = admin.post("/acts/limits", rate="5", version=version, reason="x")
    assert again.status_code == 303, "looked at anew, it can be sent"


def test_pause_lasts_until_the_moment_that_was_given(services, base, signed_in):
    admin = signed_in(Role.OPERATOR)
    over = admin.post("/acts/pause", until="2020-01-01 10:00", reason="a drill")
    assert "is over" in over.text
    both = admin.post("/acts/pause", until="2099-01-01 10:00", minutes="5", reason="a drill")
    assert "not both" in both.text
    assert admin.post("/acts/pause", until="2099-01-01 10:00", reason="a drill").status_code == 303
    assert services.admission.state().paused_until == datetime(2099, 1, 1, 10, tzinfo=UTC)


def test_what_is_done_is_said_so_though_redis_does_not_answer_and_not_done_twice(
    services, base, signed_in, monkeypatch
):
    operator = signed_in(Role.OPERATOR)
    with services.engine.begin() as connection:
        make_agents(connection, 1)

    def away(_):
        raise Unreachable("Redis did not take the message")

    monkeypatch.setattr("app.actions.agents.publish", away)
    first = operator.post("/acts/agents-run", agents=["a0"], reason="a look")
    assert first.status_code == 303
    assert "in force when Redis answers again" in operator.get(first.headers["location"]).text
    token = api_token(services, Role.OPERATOR)
    body = {"agents": ["a0"], "reason": "another look"}
    headers = {"Authorization": f"Bearer {token}"}
    second = httpx2.post(f"{base}/api/v1/acts/agents-run", json=body, headers=headers, trust_env=False)
    assert (second.status_code, second.json()["done"]) == (200, 1)
    assert "begins when Redis answers again" in second.json()["note"]
    with services.engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(Run)).scalar_one() == 1


def test_controls_form_sets_and_clears_lists(services, base, signed_in):
    admin = signed_in()
    admin.post(
        "/acts/controls", paused_activities=["", "post"], banned_words="casino\n\nlottery ", reason="x"
    )
    text = admin.get("/limits").text
    assert "<dd>post</dd>" in text
    form = admin.get("/acts/controls").text
    assert re.search(r'value="post" checked', form)
    assert "casino\nlottery</textarea>" in form
    admin.post("/acts/controls", paused_activities="", banned_words="", reason="enough")
    assert "<dd>nothing</dd>" in admin.get("/limits").text


def test_first_admin_comes_by_a_link_that_works_once(services, base, anybody):
    with services.engine.begin() as connection:
        old = invitations.invite_first_admin(connection)
        secret = invitations.invite_first_admin(connection)
        stored = connection.execute(select(Invitation.hash)).scalars().all()
    assert secret not in stored
    assert len(stored) == 1
    here = {"Origin": base}
    code = {"code": secret}
    assert anybody.post("/invitation", data={"code": old}, headers=here).status_code == 404
    assert "admin" in anybody.post("/invitation", data=code, headers=here).text
    for name, password in (("ann", "short"), ("ann", "annannannann"), ("no spaces", PASSWORD)):
        data = code | {"name": name, "password": password}
        assert anybody.post("/invitation", data=data, headers=here).status_code == 422
    data = code | {"name": "Ann", "password": PASSWORD}
    assert anybody.post("/invitation", data=data).status_code == 403, "no origin"
    answer = anybody.post("/invitation", data=data, headers=here)
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "ann" in anybody.get("/account").text
    again = anybody.post("/invitation", data={**data, "name": "bob"}, headers=here)
    assert again.status_code == 404


def test_link_used_by_two_at_once_makes_one_account(services):
    with services.engine.begin() as connection:
        secret = invitations.invite(connection, Role.VIEWER, actor="t", reason="")

    def accept(name):
        try:
            with services.engine.begin() as connection:
                invitations.accept(connection, secret, name, PASSWORD)
        except NotFound:
            return 0
        return 1

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(accept, ("a", "b", "c", "d"))) == 1


def test_session_works_in_every_process_survives_a_restart_and_ends(
    services, base, engine, redis, embedded, sandbox, home, signed_in
):
    admin = signed_in()
    other = build(make_settings(embedded, sandbox.url, home))
    with serving(other) as second, httpx2.Client(base_url=second, trust_env=False) as client:
        client.cookies = {COOKIE: admin.secret}
        assert client.get("/").status_code == 200
        with services.engine.begin() as connection:
            connection.execute(update(Session).values(seen_at=func.now() - timedelta(hours=13)))
        assert client.get("/").status_code == 303, "idle for too long"
        with services.engine.begin() as connection:
            connection.execute(update(Session).values(seen_at=func.now() - timedelta(minutes=5)))
        assert client.get("/").status_code == 200
        assert admin.post("/logout").headers["location"] == "/login"
        assert client.get("/").status_code == 303, "signed out everywhere at once"
    with services.engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(Session)).scalar_one() == 0


def test_signing_in_goes_back_to_where_one_was_and_nowhere_else(services, base, anybody):
    person(services, Role.VIEWER)
    away = anybody.get("/usage?by=model")
    assert away.headers["location"] == "/login?next=%2Fusage%3Fby%3Dmodel"
    for given, went in (
        ("/usage?by=model", "/usage?by=model"),
        ("//evil.example", "/"),
        ("https://evil.example", "/"),
        ("/\\evil.example", "/"),
    ):
        data = {"name": "viewer", "password": PASSWORD, "next": given}
        answer = anybody.post("/login", data=data, headers={"Origin": base})
        assert (answer.status_code, answer.headers["location"]) == (303, went)
    assert anybody.post("/login", data=data, headers={"Origin": "http://evil.example"}).status_code == 403


def test_wrong_passwords_are_slowed_down_by_name_and_by_address(services, base, anybody):
    person(services, Role.VIEWER)
    here = {"Origin": base}

    def sign_in(name, password="wrong password"):
        data = {"name": name, "password": password}
        return anybody.post("/login", data=data, headers=here).status_code

    with ThreadPoolExecutor(8) as pool:  # at once, too
        found = list(pool.map(lambda _: sign_in("viewer"), range(12)))
    assert (found.count(401), found.count(429)) == (5, 7)
    assert sign_in("viewer", PASSWORD) == 429, "the right one has to wait, too"
    later = update(SignInFailure).values(last_at=func.now() - timedelta(minutes=61))
    with services.engine.begin() as connection:
        connection.execute(later)
    assert sign_in("viewer", PASSWORD) == 303
    assert sign_in("viewer") == 401, "counted anew"
    with services.engine.begin() as connection:
        of_address = SignInFailure.key.startswith("from ")
        known = connection.execute(select(SignInFailure.failures).where(of_address)).scalar_one()
        assert known == 5, "signing in forgives the name, not what else came from there"
    anybody.cookies.clear()  # a stranger again
    with services.engine.begin() as connection:
        connection.execute(update(SignInFailure).where(of_address).values(failures=99))
    assert [sign_in(f"nobody{n}") for n in range(3)] == [401, 429, 429], "an address that tries names"
    with services.engine.begin() as connection:
        connection.execute(later)
        by_name = insert(SignInFailure).values(key="name viewer", failures=50, last_at=func.now())
        connection.execute(delete(SignInFailure).where(SignInFailure.key == "name viewer"))
        connection.execute(by_name)
    assert sign_in("viewer", PASSWORD) == 429, "a name that is tried from everywhere"


def test_present_password_cannot_be_guessed_by_who_has_the_session(signed_in):
    viewer = signed_in(Role.VIEWER)
    said = [viewer.post("/account/password", old=f"guess {n}", new="another fine one").text for n in range(7)]
    assert ["too many" in text.lower() for text in said] == [False] * 5 + [True] * 2


def test_password_can_be_changed_and_reset(services, base, anybody, signed_in):
    viewer = signed_in(Role.VIEWER)
    other = signed_in(Role.VIEWER)
    assert viewer.post("/account/password", old="wrong one!", new="another fine one").status_code == 422
    answer = viewer.post("/account/password", old=PASSWORD, new="another fine one")
    assert "Changed" in answer.text
    assert other.get("/").status_code == 303
    with services.engine.begin() as connection:
        secret = invitations.invite(connection, Role.ADMIN, actor="t", reason="lost", name="viewer")
    here, data = {"Origin": base}, {"code": secret}
    shown = anybody.post("/invitation", data=data, headers=here).text
    assert "A new password for viewer" in shown
    data["password"] = "a third fine one"
    assert anybody.post("/invitation", data=data, headers=here).status_code == 303
    assert ">viewer</span>" in anybody.get("/account").text, "a reset does not raise the role"


def test_change_of_an_account_is_asked_about_first_with_what_it_affects(services, base, signed_in):
    admin = signed_in()
    signed_in(Role.VIEWER)
    asked = admin.get("/accounts/change?name=viewer&what=remove")
    assert "Affects viewer, viewer: 1 browsers that are signed in, 0 API tokens." in asked.text
    assert "paceline accounts remove viewer --reason WHY" in asked.text
    assert "Make viewer admin" in admin.get("/accounts/change?name=viewer&what=admin").text
    assert admin.get("/accounts/change?name=nobody&what=remove").status_code == 404
    assert admin.get("/accounts/change?name=viewer&what=king").status_code == 422
    assert signed_in(Role.OPERATOR).get("/accounts/change?name=viewer&what=remove").status_code == 403


def test_admin_invites_changes_and_removes_but_never_the_last_admin(services, base, signed_in):
    admin, viewer = signed_in(), signed_in(Role.VIEWER)
    assert "/invitation#" in admin.post("/accounts/invite", role="operator", reason="new colleague").text
    admin.post("/accounts/change", password=PASSWORD, name="viewer", what="operator", reason="may act")
    assert "acts/pause" in viewer.get("/").text, "from the next page on"
    refused = admin.post("/accounts/change", password=PASSWORD, name="admin", what="viewer", reason="x")
    assert "last administrator" in refused.text
    assert (
        "last administrator"
        in admin.post("/accounts/change", password=PASSWORD, name="admin", what="remove", reason="x").text
    )
    admin.post("/accounts/change", password=PASSWORD, name="viewer", what="remove", reason="left us")
    assert viewer.get("/").status_code == 303
    with services.engine.begin() as connection:
        with pytest.raises(ConfigError, match="last administrator"):
            people.remove_account(connection, "admin", actor="t", reason="")
        assert connection.execute(select(func.count()).select_from(Account)).scalar_one() == 1


def test_token_is_stored_as_its_hash_and_gone_when_removed(services, base, signed_in):
    admin = signed_in()
    text = admin.post("/account/tokens", label="ci", role="viewer").text
    token = re.search(r"pl_[\w-]{43}", text).group(0)
    headers = {"Authorization": f"Bearer {token}"}
    me = httpx2.get(f"{base}/api/v1/me", headers=headers, trust_env=False)
    assert me.json() == {"name": "admin", "role": "viewer"}, "no more than the token's role"
    assert token not in admin.get("/account").text
    token_id = re.search(r'name="id" value="([0-9a-f-]+)"', admin.get("/account").text).group(1)
    admin.post("/account/tokens/remove", id=token_id)
    assert httpx2.get(f"{base}/api/v1/me", headers=headers, trust_env=False).status_code == 401


def test_behind_a_proxy_under_a_path(engine, redis, embedded, sandbox, home):
    """With and without the prefix taken away; links, cookies and redirects stay under it."""
    settings = make_settings(embedded, sandbox.url, home, web={"public_url": "https://ops.example.org/pace"})
    built = build(settings)
    with serving(built) as base:
        person(built, Role.ADMIN)
        for path in ("/login", "/pace/login"):
            answer = httpx2.post(
                base + path,
                trust_env=False,
                data={"name": "admin", "password": PASSWORD},
                headers={"Origin": "https://ops.example.org", "Host": "127.0.0.1"},
            )
            assert answer.headers["location"] == "/pace/"
            assert "Path=/pace" in answer.headers["set-cookie"]
            assert f"__Secure-{COOKIE}=" in answer.headers["set-cookie"]
            assert "; Secure" in answer.headers["set-cookie"]
            assert "strict-transport-security" in answer.headers
        browser = Browser(built, base)
        browser.client.cookies = {f"__Secure-{COOKIE}": browser.secret}
        for path in ("/pace/", "/pace/agents", "/agents", "/pace/acts/pause"):
            answer = browser.get(path)
            assert answer.status_code == 200
            assert not re.search(r'(href|src|action)="/', answer.text), "links are relative"
        assert browser.get("/pace/static/style.css").status_code == 200
        browser.close()


@pytest.mark.parametrize(
    ("url", "prefix"),
    [(None, ""), ("http://a:1", ""), ("http://a:1/", ""), ("https://a/b", "/b"), ("https://a/b/c/", "/b/c")],
)
def test_prefix_is_the_path_of_the_public_url(url, prefix):
    assert WebSettings(public_url=url).prefix == prefix


def test_large_and_endless_bodies_are_refused(anybody, base):
    answer = anybody.post("/login", content=b"x" * 300_000, headers={"Origin": base})
    assert answer.status_code == 413
    endless = iter([b"x" * 1_000] * 400)
    form = {"Origin": base, "Content-Type": "application/x-www-form-urlencoded"}
    assert anybody.post("/login", content=endless, headers=form).status_code == 413


def test_health_is_open_and_says_nothing(anybody):
    assert anybody.get("/health/ready").json() == {"status": "ok"}
    assert anybody.get("/health/live").text == "ok"


LEAST = {
    "pause": "operator",
    "resume": "operator",
    "limits": "admin",
    "budget": "admin",
    "controls": "operator",
    "agents-pause": "operator",
    "agents-resume": "operator",
    "agents-quota": "operator",
    "agents-run": "operator",
    "runs-cancel": "operator",
    "content-approve": "operator",
    "content-reject": "operator",
    "content-hide": "operator",
    "alerts-test": "operator",
    "receivers-pause": "operator",
    "receivers-resume": "operator",
    "receivers-replay": "operator",
    "webhooks-add": "admin",
    "webhooks-test": "operator",
    "webhooks-rotate": "admin",
    "webhooks-remove": "admin",
    "app-sync": "operator",
    "app-disconnect": "admin",
}
"""Who may do what, said once more: a role that changes by mistake is seen."""


def test_each_action_takes_the_role_that_is_meant_and_no_lower_one(services, base, signed_in):
    assert {one.name: str(one.role) for one in ACTIONS} == LEAST
    below = {"operator": signed_in(Role.VIEWER), "admin": signed_in(Role.OPERATOR)}
    token = {name: api_token(services, Role(name)) for name in ("viewer", "operator")}
    for name, least in LEAST.items():
        form = below[least].post(f"/acts/{name}", reason="x", day_usd="5", rate="5")
        assert form.status_code == 403, name
        lower = token["viewer" if least == "operator" else "operator"]
        path = f"{base}/api/v1/acts/{name}"
        answer = httpx2.post(
            path, json={"reason": "x"}, headers={"Authorization": f"Bearer {lower}"}, trust_env=False
        )
        assert answer.status_code == 403, (path, answer.status_code)


def test_a_link_is_good_for_a_day(services, anybody, base):
    with services.engine.begin() as connection:
        secret = invitations.invite(connection, Role.ADMIN, actor="root", reason="new")
        ends = connection.execute(select(Invitation.expires_at - Invitation.created_at)).scalar_one()
        assert ends == timedelta(days=1)
        connection.execute(update(Invitation).values(expires_at=func.now() - timedelta(seconds=1)))
    data = {"code": secret, "name": "late", "password": PASSWORD}
    late = anybody.post("/invitation", data=data, headers={"Origin": base})
    assert late.status_code in (404, 422)
    with services.engine.connect() as connection:
        assert people.list_accounts(connection) == []


def test_a_session_ends_after_seven_days_however_much_it_is_used(services, signed_in):
    browser = signed_in()
    assert browser.get("/usage").status_code == 200
    with services.engine.begin() as connection:
        lasts = connection.execute(select(Session.expires_at - Session.created_at)).scalar_one()
        assert lasts == timedelta(days=7)
        connection.execute(update(Session).values(expires_at=func.now() - timedelta(seconds=1)))
    assert browser.get("/usage").headers["location"].startswith("/login")


def test_links_are_good_for_no_longer_than_who_gave_them(services, base, anybody, signed_in):
    """A removed or demoted administrator does not come back by a link, nor does a thief by an old reset."""
    admin = signed_in()
    with services.engine.begin() as connection:
        for name in ("mallory", "trudy"):
            people.add_account(connection, name, PASSWORD, Role.ADMIN)
        by = {name: people.find_account(connection, name) for name in ("mallory", "trudy")}
        links = {
            name: invitations.invite(connection, Role.ADMIN, actor=name, reason="x", by=who.id)
            for name, who in by.items()
        }
        reset = invitations.invite(connection, Role.VIEWER, actor="t", reason="x", name="admin")
    admin.post("/accounts/change", password=PASSWORD, name="mallory", what="remove", reason="left")
    admin.post("/accounts/change", password=PASSWORD, name="trudy", what="viewer", reason="moved")
    admin.post("/account/password", old=PASSWORD, new="another fine one")
    for link in (*links.values(), reset):
        asked = anybody.post("/invitation", data={"code": link}, headers={"Origin": base})
        assert asked.status_code == 404
    token = api_token(services, Role.ADMIN)
    headers = {"Authorization": f"Bearer {token}"}
    assert httpx2.get(f"{base}/api/v1/me", headers=headers, trust_env=False).status_code == 200
    other = signed_in()
    other.post(
        "/accounts/change", password="another fine one", name="admin", what="sign_out", reason="stolen"
    )
    assert other.get("/").status_code == 303
    assert httpx2.get(f"{base}/api/v1/me", headers=headers, trust_env=False).status_code == 401


def test_open_page_is_no_use_of_a_session(services, signed_in):
    viewer = signed_in(Role.VIEWER)
    old = update(Session).values(seen_at=func.now() - timedelta(hours=11))
    seen = select(func.now() - Session.seen_at)
    for headers, hours in (({"X-Paceline-Live": "1"}, 10), ({}, 0)):
        with services.engine.begin() as connection:
            connection.execute(old)
        assert viewer.get("/", headers=headers).status_code == 200
        with services.engine.connect() as connection:
            ago = connection.execute(seen).scalar_one()
        assert hours <= ago.total_seconds() / 3600 < hours + 2


def test_acts_at_the_same_time_and_on_the_same_agent(services, base, signed_in, monkeypatch):
    """One of several that saw the same version wins; an agent that is named six times runs once."""
    headers = {"Authorization": f"Bearer {api_token(services)}"}
    version = services.admission.state().version
    body = {"version": version, "reason": "x"}

    def change(rate):
        url = f"{base}/api/v1/acts/limits"
        return httpx2.post(url, json={**body, "rate": rate}, headers=headers, trust_env=False).status_code

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(change, range(2, 8)))
    assert sorted(found) == [200] + [422] * 5
    started = []
    monkeypatch.setattr("app.actions.agents.publish", started.extend)
    with services.engine.connect() as connection:
        agent_id = connection.execute(select(Agent.id).where(Agent.handle == "a1")).scalar_one()
    who = {"agents": ["a1", "@A1", str(agent_id), "a1"], "reason": "once"}
    answer = httpx2.post(f"{base}/api/v1/acts/agents-run", json=who, headers=headers, trust_env=False)
    assert answer.json() == {"done": 1}
    assert len(started) == 1
    asked = "&".join(f"agents={name}" for name in who["agents"][:3]).replace("@", "%40")
    assert "Affects 1 agent: a1." in signed_in().get(f"/acts/agents-pause?{asked}").text


def test_odd_requests_get_a_page_and_tell_strangers_nothing(anybody, signed_in):
    assert "done" not in anybody.get("/login?done=pause&of=3").text
    admin = signed_in()
    for of in ("%C2%B2", "x", "9" * 30, "-1"):
        answer = admin.get(f"/?done=pause&of={of}")
        assert answer.status_code == 200
        assert "Pause the fleet: done." in answer.text
    for origin in ("http://[", "null", "x"):
        answer = anybody.post("/login", data={"name": "x"}, headers={"Origin": origin})
        assert answer.status_code == 403
        assert "default-src" in answer.headers["content-security-policy"]
    assert anybody.get("/static/nothing.js").headers["cache-control"] == "no-store"
    assert anybody.get("/api/v1/agents/static/explanation").headers["cache-control"] == "no-store"
    assert anybody.get("/agents/").status_code == 404, "no redirect that leaves a prefix"
    assert anybody.head("/health/ready").status_code == 200
    assert anybody.get("/metrics").status_code == 401
