"""Signing in at a company's provider with a real browser, under the dashboard's strict policy."""

from tests.browser.conftest import Look, watch
from tests.support.company import dashboard, provider_process


def test_a_click_leads_to_the_provider_and_back_and_both_pages_fit(
    chromium, engine, redis, embedded, sandbox, home, shots
):
    with (
        provider_process() as provider,
        dashboard(embedded, sandbox, home, provider, new_role="viewer") as (services, base),
    ):
        context = chromium.new_context(viewport={"width": 380, "height": 800})
        page = context.new_page()
        look = Look(base, context, page, services)
        page.goto(f"{base}/usage")
        page.screenshot(path=shots / "sign-in-phone.png")
        page.get_by_role("link", name="Sign in with Example Inc.").click()
        page.get_by_role("button", name="u-17").click()
        page.wait_for_url(f"{base}/usage")
        watch(look)
        look.at("/account")
        page.get_by_text("You have no password").wait_for()
        page.get_by_role("link", name="show again who you are").wait_for()
        page.screenshot(path=shots / "account-phone.png", full_page=True)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 380
        assert look.problems == []
        context.close()
