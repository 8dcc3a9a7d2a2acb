"""What a person meets: every page in a real browser, by mouse and keyboard, in the dark, on a phone, and
without JavaScript. Nothing it must not do: no other host, no CSP violation, no error on the console.
"""

import re

import pytest
from playwright.sync_api import expect
from sqlalchemy import insert, select, update

from app.accounts import invitations
from app.models import Agent, Alert, AuditEntry, Call, Community, Post, Role, Run

PLACES = (
    "/",
    "/usage",
    "/usage?metric=tokens&by=model&period=30d",
    "/usage?by=type&period=week&community=Tests",
    "/agents",
    "/agents/ada",
    "/runs",
    "/feed",
    "/limits",
    "/incidents",
    "/application",
    "/alerts",
    "/audit",
    "/health",
    "/account",
    "/api",
    "/acts/pause",
    "/acts/limits",
    "/acts/controls",
    "/acts/agents-quota?agents=ada",
)
HOSTILE = """<script>alert(1)</script>"'><img src=x onerror=alert(1)>{{ 7*7 }}<svg onload=alert(1)>"""


def name_of(path):
    return re.sub(r"\W+", "-", path.strip("/")) or "overview"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.plan(51)
def test_every_page_is_clean_in_light_and_dark(look, shots, scheme):
    seen = look(color_scheme=scheme)
    for path in PLACES:
        page = seen.at(path)
        assert page.locator("h1").count() == 1, path
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        page.screenshot(path=shots / f"{name_of(path)}-{scheme}.png", full_page=True)
    assert contrast(seen.page) >= 4.5
    assert not seen.problems


def contrast(page):
    """Of the dimmest text against the page, as WCAG counts it."""
    return page.evaluate("""() => {
      const probe = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
      const light = (colour) => {
        probe.fillStyle = colour; probe.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...probe.getImageData(0, 0, 1, 1).data].map((c) => c / 255)
          .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const back = light(getComputedStyle(document.body).backgroundColor);
      return Math.min(...[...document.querySelectorAll(".dim, .note, a, .state, h1")].map((node) => {
        const text = light(getComputedStyle(node).color);
        return (Math.max(text, back) + 0.05) / (Math.min(text, back) + 0.05);
      }));
    }""")


@pytest.mark.parametrize("look", [{}], indirect=True, ids=["credits unknown"])
def test_every_page_fits_a_phone(look, shots):
    seen = look(width=380)
    for path in PLACES:
        page = seen.at(path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        page.screenshot(path=shots / f"{name_of(path)}-phone.png", full_page=True)
    seen.page.set_viewport_size({"width": 1100, "height": 800})
    for path in PLACES:
        assert seen.at(path).evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    assert not seen.problems


def test_everything_works_without_javascript(look):
    seen = look(java_script_enabled=False)
    for path in PLACES:
        assert seen.at(path).locator("h1").count() == 1, path
    page = seen.at("/")
    page.get_by_role("link", name="Pause the fleet…").click()
    page.get_by_label("reason").fill("a drill")
    page.get_by_role("button", name="Pause the fleet").click()
    expect(page.get_by_role("status").first).to_contain_text("Pause the fleet: done")
    expect(page.get_by_role("alert").first).to_contain_text(
        "The fleet is paused until somebody resumes it, by admin: a drill"
    )


def test_operator_finds_the_answers_in_two_clicks(look):
    """Who spent most this week, why the fleet is paused and how to resume it, why one agent has not run."""
    seen = look(Role.OPERATOR)
    page = seen.at("/")
    page.get_by_role("link", name="Who spent most this week").click()
    first = page.locator("tbody tr").filter(has=page.locator("th a")).first
    expect(first.locator("td").first).to_contain_text("$")
    page = seen.at("/")
    page.get_by_label("Why has an agent not run?").fill("ada")
    page.get_by_role("button", name="Look").click()
    expect(page).to_have_url(re.compile("/agents/ada$"))
    expect(page.locator(".answer")).not_to_be_empty()
    page = seen.at("/acts/pause")
    page.get_by_label("minutes").fill("30")
    page.get_by_label("reason").fill("the gateway is being moved")
    page.get_by_role("button", name="Pause the fleet").click()
    page = seen.at("/")
    expect(page.get_by_role("alert").first).to_contain_text("by operator: the gateway is being moved")
    page.get_by_role("link", name="Resume…").first.click()
    expect(page.locator(".answer")).to_contain_text("12 active agents")
    page.get_by_label("reason").fill("it is back")
    page.get_by_role("button", name="Resume the fleet").click()
    expect(page.get_by_text("Paused")).to_have_count(0)
    assert not seen.problems


def test_by_keyboard_alone(look):
    seen = look(None)
    page = seen.at("/")
    expect(page.get_by_label("Name")).to_be_focused()
    look(Role.OPERATOR)  # makes the account
    for key in ("operator", "Tab", "correct horse battery", "Enter"):
        page.keyboard.press(key) if key in ("Tab", "Enter") else page.keyboard.type(key)
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the page")).to_be_focused()
    reach(page, "Agents")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Agents")).to_be_visible()
    box = page.get_by_role("checkbox", name="ada")
    box.focus()
    page.keyboard.press("Space")
    page.get_by_role("button", name="Pause…").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".answer")).to_contain_text("1 agent: ada.")
    page.get_by_label("reason").focus()
    page.keyboard.type("looking at it")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").first).to_contain_text("Pause agents: done, 1.")
    reach(page, "Runs")
    assert not seen.problems


def reach(page, name):
    """Tab until the link with this name has the focus."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == name:
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
            return
    raise AssertionError(f"{name} cannot be reached by Tab")


def test_pages_keep_fresh_and_leave_the_reader_alone(look):
    seen = look()
    page = seen.at("/agents")
    page.get_by_role("checkbox", name="bruno").check()
    other = look()
    fast = other.at("/agents/ada")
    fast.locator("details summary").click()
    with seen.services.engine.begin() as connection:
        connection.execute(update(Agent).where(Agent.handle == "ada").values(state="paused"))
    expect(fast.locator("#why .answer")).to_contain_text("is paused", timeout=15_000)
    expect(fast.locator("details")).to_have_attribute("open", "")
    expect(page.get_by_role("checkbox", name="bruno")).to_be_checked()
    other.context.set_offline(True)
    expect(fast.locator("#stale")).to_contain_text("stale", timeout=15_000)
    other.context.set_offline(False)
    expect(fast.locator("#stale")).to_be_empty(timeout=30_000)
    assert not seen.problems


def test_alert_that_stays_is_left_alone_while_numbers_move(look):
    seen = look()
    page = seen.at("/acts/pause")
    page.get_by_label("reason").fill("a drill")
    page.get_by_role("button", name="Pause the fleet").click()
    page = seen.at("/")
    page.evaluate("document.querySelector('#stops [role=alert]').isTheSame = true")
    with seen.services.engine.begin() as connection:
        connection.execute(update(Agent).where(Agent.handle == "ada").values(state="paused"))
    expect(page.locator("#now")).to_contain_text("of 11 agents", timeout=15_000)
    assert page.evaluate("document.querySelector('#stops [role=alert]').isTheSame")
    page.get_by_role("link", name="Resume…").first.click()
    page.get_by_label("reason").fill("it is over")
    page.get_by_role("button", name="Resume the fleet").click()
    other = seen.at("/")
    expect(other.locator("#stops [role=alert]")).to_have_count(0)
    assert not seen.problems


def test_hostile_content_does_nothing(look):
    seen = look()
    with seen.services.engine.begin() as connection:
        connection.execute(update(Agent).values(display_name=HOSTILE, persona=HOSTILE))
        connection.execute(update(Post).values(body=HOSTILE))
        connection.execute(update(Community).values(name=Community.name + HOSTILE))
        connection.execute(update(Run).values(reason=HOSTILE, worker=HOSTILE))
        connection.execute(update(Call).values(model=HOSTILE, error_code=HOSTILE))
        names = ("key", "severity", "title", "body", "last_error")
        connection.execute(insert(Alert).values(dict.fromkeys(names, HOSTILE)))
        texts = dict.fromkeys(("actor", "action", "subject", "reason"), HOSTILE)
        connection.execute(insert(AuditEntry).values(before={HOSTILE: HOSTILE}, after={}, **texts))
        run_id = connection.execute(select(Run.id).limit(1)).scalar_one()
    dialogs = []
    seen.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    shows = ("/", "/agents", "/agents/ada", "/runs", f"/runs/{run_id}", "/feed", "/alerts", "/audit")
    for path in shows:
        page = seen.at(path)
        assert HOSTILE in page.locator("body").inner_text(), path
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    for path in PLACES:
        seen.at(path)
    assert not dialogs
    assert not seen.problems


def test_charts_have_a_name_and_a_table(look):
    page = look().at("/usage?period=30d")
    chart = page.get_by_role("img").first
    assert "dollars, at most" in chart.get_attribute("aria-label")
    page.locator("details summary").first.click()
    assert page.locator("details table tbody tr").count() == 30


@pytest.mark.parametrize("has_script", [True, False])
def test_an_invitations_secret_is_in_no_address_that_is_sent(look, has_script):
    seen = look(None, java_script_enabled=has_script)
    with seen.services.engine.begin() as connection:
        secret = invitations.invite(connection, Role.OPERATOR, actor="t", reason="x")
    asked: list[str] = []
    seen.page.on("request", lambda request: asked.append(request.url))
    page = seen.at(f"/invitation#{secret}")
    if not has_script:
        page.get_by_label("Code").fill(secret)
        page.get_by_role("button", name="Go on").click()
    page.get_by_label("Name").fill("olga")
    page.get_by_label("Password").fill("correct horse battery")
    page.get_by_role("button", name="Make the account").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    assert len(asked) > 3
    assert not [url for url in asked if secret in url.partition("#")[0]]
    assert secret not in page.evaluate("location.href")
    assert not seen.problems
