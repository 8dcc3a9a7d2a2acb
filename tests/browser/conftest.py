"""A Chromium that reports what a page must not do, and a dashboard with a past to look at."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import BrowserContext, Page, sync_playwright

from app.models import Role
from app.runs.services import Services
from app.web.access import COOKIE
from app.wiring import build
from tests.conftest import make_settings
from tests.support.history import give_history
from tests.support.web import Browser, serving

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
)
WATCH = """document.addEventListener("securitypolicyviolation", (event) =>
  console.error("CSP " + event.violatedDirective + " " + event.blockedURI));"""


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium: `make tools` installs Debian's, as root")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield started
        started.close()


@dataclass
class Look:
    """A signed-in browser, and what went wrong in it."""

    base: str
    context: BrowserContext
    page: Page
    services: Services
    problems: list[str] = field(default_factory=list)

    def at(self, path: str) -> Page:
        """Go to a page."""
        self.page.goto(self.base + path)
        return self.page


def watch(look: Look) -> None:
    """Note what a page must not do: errors and warnings, and requests to anybody else."""

    def on_console(message):
        if message.type in ("error", "warning"):
            look.problems.append(message.text)

    def on_request(request):
        if not request.url.startswith((look.base, "data:")):
            look.problems.append(request.url)

    look.page.on("console", on_console)
    look.page.on("pageerror", lambda error: look.problems.append(str(error)))
    look.page.on("request", on_request)


@pytest.fixture(scope="session")
def shots() -> Path:
    """Where screenshots are kept, for whoever looks at a CI run."""
    folder = Path(os.environ.get("SCREENSHOTS", Path(__file__).parents[2] / ".screenshots"))
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def look(request, chromium, engine, redis, embedded, sandbox, home):
    """Opens browsers: `look(role, width=380, color_scheme="dark")`. Its parameter: settings of usage."""
    usage = getattr(request, "param", {"credits_usd": 40})
    services = build(make_settings(embedded, sandbox.url, home, usage=usage, limits={"rate": 6}))
    give_history(services)
    opened: list[Look] = []
    with serving(services) as base:

        def open_one(role: Role | None = Role.ADMIN, *, width: int = 1280, **options: object) -> Look:
            context = chromium.new_context(
                viewport={"width": width, "height": 900}, locale="en-GB", **options
            )
            context.set_default_timeout(10_000)
            if role is not None:
                browser = Browser(services, base, role)
                browser.close()
                context.add_cookies([{"name": COOKIE, "value": browser.secret, "url": base}])
            if options.get("java_script_enabled", True):
                context.add_init_script(WATCH)
            found = Look(base, context, context.new_page(), services)
            watch(found)
            opened.append(found)
            return found

        yield open_one
        for found in opened:
            found.context.close()
