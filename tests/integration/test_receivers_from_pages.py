"""Webhooks from pages and the API: added, tried, given another secret, removed; a secret is shown once."""

import re

import httpx2
import pytest
from sqlalchemy import select

from app.integration import webhooks
from app.models import AuditEntry, Role
from app.wiring import build
from tests.conftest import make_settings
from tests.support.receiver import receiving
from tests.support.web import Browser, api_token, serving


@pytest.fixture
def fleet(engine, redis, embedded, sandbox, home):
    built = build(make_settings(embedded, sandbox.url, home, app={"private_networks": True}))
    yield built
    built.close()


@pytest.fixture
def base(fleet):
    with serving(fleet) as address:
        yield address


@pytest.fixture
def admin(fleet, base):
    browser = Browser(fleet, base)
    yield browser
    browser.close()


@pytest.fixture
def receiver():
    with receiving() as mine:
        yield mine


def hooks(fleet):
    with fleet.engine.connect() as connection:
        return webhooks.list_webhooks(connection)


def secret_on(page):
    return re.findall(r"whsec_[A-Za-z0-9+/=]+", page.text)


def test_a_webhook_is_added_tried_given_another_secret_and_removed(fleet, admin, receiver):
    shown = admin.post(
        "/acts/webhooks-add", url=receiver.url, events="post.*\ncomment.published", reason="the app listens"
    )
    (first,) = secret_on(shown)
    (hook,) = hooks(fleet)
    assert [one.replace("%", "*") for one in hook.events] == ["post.*", "comment.published"]
    assert secret_on(admin.get("/application")) == [], "it is shown once"
    receiver.secrets.append(first)
    tried = admin.post("/acts/webhooks-test", receivers=[str(hook.id)], reason="x")
    assert "HTTP 200" in tried.text
    assert [event["type"] for event in receiver.events] == ["webhook.test"], "and its signature fits"
    (second,) = secret_on(admin.post("/acts/webhooks-rotate", receivers=[str(hook.id)], reason="x"))
    assert second != first
    admin.post("/acts/webhooks-remove", receivers=[str(hook.id)], reason="x")
    assert hooks(fleet) == []
    with fleet.engine.connect() as connection:
        noted = connection.execute(select(AuditEntry.action, AuditEntry.after)).all()
    assert {"webhooks.add", "webhooks.test", "webhooks.rotate", "webhooks.remove"} <= {
        entry.action for entry in noted
    }
    assert not any(secret in str(noted) for secret in (first, second))


def test_two_webhooks_of_one_address_each_get_their_secret(fleet, base, receiver):
    token = {"Authorization": f"Bearer {api_token(fleet)}"}
    with fleet.engine.begin() as connection:
        for events in ("post.*", "comment.*"):
            webhooks.add(connection, receiver.url, [events], actor="t", reason="")
    ids = [str(hook.id) for hook in hooks(fleet)]
    for name, begins in (("webhooks-rotate", "whsec_"), ("webhooks-test", "HTTP 200")):
        done = httpx2.post(
            f"{base}/api/v1/acts/{name}",
            json={"reason": "x", "receivers": ids},
            headers=token,
            trust_env=False,
        ).json()
        assert sorted(done["shown"]) == sorted(ids)
        assert all(value.startswith(begins) for value in done["shown"].values())


def test_the_api_gives_the_secret_once_and_says_what_is_wrong(fleet, base, receiver):
    token = {"Authorization": f"Bearer {api_token(fleet)}"}

    def do(name, **fields):
        return httpx2.post(
            f"{base}/api/v1/acts/{name}", json={"reason": "x"} | fields, headers=token, trust_env=False
        )

    added = do("webhooks-add", url=receiver.url)
    assert added.json()["shown"]["secret"].startswith("whsec_")
    assert do("webhooks-add", url="ftp://x").status_code == 422
    assert do("webhooks-add", url=receiver.url, events=["no.such"]).status_code == 422
    assert do("webhooks-rotate", receivers=["app"]).status_code == 422
    assert do("webhooks-remove", receivers=["none"]).status_code == 404
    assert do("receivers-pause", receivers=["none"]).status_code == 404
    receiver.answers.append((500, {}))
    refused = do("webhooks-test", receivers=[receiver.url])
    assert refused.status_code == 503
    assert "HTTP 500" in refused.json()["detail"]


def test_who_operates_tries_and_pauses_but_adds_and_removes_none(fleet, base, receiver):
    with fleet.engine.begin() as connection:
        hook_id, _ = webhooks.add(connection, receiver.url, ["*"], actor="t", reason="")
    operator = Browser(fleet, base, Role.OPERATOR)
    page = operator.get("/application").text
    assert "receivers-pause" in page
    assert "webhooks-add" not in page
    assert "webhooks-remove" not in page
    answer = operator.post("/acts/webhooks-remove", receivers=[str(hook_id)], reason="x")
    assert answer.status_code == 403
    assert len(hooks(fleet)) == 1
    operator.close()
