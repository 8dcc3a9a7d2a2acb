"""The pages of acts: first the question, with the number it affects, then the deed."""

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, Response

from app.acts import Who
from app.errors import ConfigError, NotFound, NotYet, Unreachable
from app.web.access import Form, guard, require
from app.web.acts import DEEDS, Deed
from app.web.forms import inputs, parse
from app.web.site import Act, Site


def add(app: FastAPI, site: Site) -> None:
    """Add a form and its POST for every act."""
    for deed in DEEDS:
        site.acts[deed.name] = Act(deed.name, deed.title, deed.role)
        app.include_router(_router(site, deed), include_in_schema=False)


def _router(site: Site, deed: Deed) -> APIRouter:
    router = APIRouter(dependencies=[guard(site, deed.role)])
    path = f"/acts/{deed.name}"

    @router.get(path)
    def ask(request: Request) -> HTMLResponse:
        query = request.query_params
        given = {name: query.getlist(name) for name in query}
        return _form(site, deed, request, given, {})

    @router.post(path)
    def do(request: Request) -> Response:
        form: Form = request.state.form
        given, problems = parse(
            deed.ask, {n: v for n, v in form.items() if n in deed.ask.model_fields}
        )
        if given is None:
            return _form(site, deed, request, form, problems, status=422)
        assert isinstance(given, deed.ask)
        require(site, request, request.state.person, deed.role_for(site.desk, given))
        try:
            count = deed.do(site.desk, given, Who(request.state.person.name, given.reason))
        except NotYet:  # done: asking again would do it twice
            return site.go(f"{deed.back}?done={deed.name}&late=1")
        except (ConfigError, NotFound, Unreachable) as error:
            looked_at_anew = {name: value for name, value in form.items() if name != "version"}
            return _form(site, deed, request, looked_at_anew, {"": str(error)}, status=422)
        return site.go(f"{deed.back}?done={deed.name}&of={count}")

    return router


def _form(
    site: Site,
    deed: Deed,
    request: Request,
    given: Form,
    problems: dict[str, str],
    status: int = 200,
) -> HTMLResponse:
    with site.engine.begin() as connection:
        values = {**deed.present(site.desk, connection), **given}
        affects = deed.affects(site.desk, connection, given)
    chosen = [name for name in deed.hidden if name != "version"]
    return site.page(
        "act.html", request, status, deed=deed, affects=affects,
        is_empty=bool(chosen) and not any(given.get(name) for name in chosen),
        inputs=inputs(deed.ask, values, problems, deed.hidden),
        problem=problems.get("") or next((problems[n] for n in deed.hidden if n in problems), ""),
    )  # fmt: skip
