"""Everything that every page needs: the services, the templates, and who is looking."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy import Engine

from app.accounts import Person
from app.accounts.oidc import Provider
from app.actions import ACTIONS, Desk
from app.clock import utcnow
from app.money import short_dollars
from app.retention import say_bytes
from app.runs.services import Services
from app.runs.stops import Look, find_stops, look, standing
from app.settings import Settings
from app.usage.calls import say_cost

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Site:
    """The dashboard of one process."""

    services: Services
    oidc: Provider | None = None
    """The company's sign-in, when one is set."""

    @property
    def settings(self) -> Settings:
        """The settings of the process."""
        return self.services.settings

    @property
    def engine(self) -> Engine:
        """The database of the process."""
        return self.services.engine

    @property
    def desk(self) -> Desk:
        """Everything that actions work with."""
        return Desk(self.services.settings, self.services.engine, self.services.admission)

    def look(self) -> Look:
        """Return what holds calls back now."""
        return look(self.services.admission, self.settings, self.engine)

    def page(self, template: str, request: Request, status: int = 200, **facts: Any) -> HTMLResponse:
        """Render a template for who is looking."""
        path = route_path(request)
        person: Person | None = getattr(request.state, "person", None)
        seen = facts.pop("seen", None) or (self.look() if person else None)
        stops = find_stops(seen) if seen else []
        html = (
            _templates()
            .get_template(template)
            .render(
                root="../" * (path.count("/") - 1) or "./",
                path=path,
                now=utcnow(),
                zone=self.settings.timezone,
                me=person,
                csrf=getattr(request.state, "csrf", ""),
                allowed={one.name for one in ACTIONS if person and person.may(one.role)},
                done=self._done(request),
                **{"stops": stops, "state": seen and seen.state} | facts,
                standing=standing(facts.get("stops", stops)) if seen else "",
            )
        )
        return HTMLResponse(html, status)

    def go(self, path: str) -> RedirectResponse:
        """Send the browser to another page, under whatever path the dashboard is."""
        return RedirectResponse(self.settings.web.prefix + path, 303)

    def leave(self, address: str) -> RedirectResponse:
        """Send the browser to another site."""
        return RedirectResponse(address, 303)

    def _done(self, request: Request) -> str | None:
        """Return what was just done, to say on the page that one comes back to."""
        name = request.query_params.get("done", "")
        act = next((one for one in ACTIONS if one.name == name), None)
        if act is None or getattr(request.state, "person", None) is None:
            return None
        count = request.query_params.get("of", "")
        said = f", {int(count):,}" if re.fullmatch("[0-9]{1,8}", count) else ""
        if "late" in request.query_params:
            return f"{act.title}: stored, and in force when Redis answers again."
        return f"{act.title}: done{said}."


def route_path(request: Request) -> str:
    """The path within the dashboard, whether or not the proxy before it took the prefix away."""
    path, prefix = str(request.scope["path"]), str(request.scope.get("root_path", ""))
    return path.removeprefix(prefix) if prefix and path.startswith(prefix + "/") else path


@cache
def _templates() -> Environment:
    found = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined
    )
    found.filters |= {
        "moment": moment,
        "money": short_dollars,
        "age": age,
        "number": number,
        "size": say_bytes,
        "words": words,
        "cost": say_cost,
    }
    found.globals["asset"] = asset
    return found


@cache
def asset(name: str) -> str:
    """The address of a static file; another one when it changes, so that browsers may keep it."""
    digest = sha256((HERE / "static" / name).read_bytes()).hexdigest()[:12]
    return f"static/{name}?v={digest}"


def moment(at: datetime | None) -> str:
    """A moment in UTC, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if at else "never"


def age(seconds: float) -> str:
    """How long ago, in the unit that fits."""
    for size, unit in ((172_800, "d"), (7_200, "h"), (120, "min")):
        if seconds >= size:
            per = {"d": 86_400, "h": 3_600, "min": 60}[unit]
            return f"{seconds / per:.0f} {unit}"
    return f"{seconds:.0f} s"


def number(value: float | None) -> str:
    """With a comma at the thousands."""
    return "unknown" if value is None else f"{value:,.6g}" if value % 1 else f"{int(value):,}"


def words(name: str) -> str:
    """A name of the code in words."""
    return name.replace("_", " ")
