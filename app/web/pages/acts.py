"""The pages of actions: first the question, with the number it affects, then what came of it."""

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, Response

from app.actions import ACTIONS, Action, Who
from app.errors import ConfigError, NotFound, NotYet, Unreachable
from app.web.access import Form, guard, require
from app.web.forms import inputs, parse, plain
from app.web.site import Site


def add(app: FastAPI, site: Site) -> None:
    """Add a form and its POST for every action."""
    for action in ACTIONS:
        app.include_router(_router(site, action), include_in_schema=False)


def _router(site: Site, action: Action) -> APIRouter:
    router = APIRouter(dependencies=[guard(site, action.role)])
    path = f"/acts/{action.name}"

    @router.get(path)
    def ask(request: Request) -> HTMLResponse:
        query = request.query_params
        given = {name: query.getlist(name) for name in query}
        return _form(site, action, request, given, {})

    @router.post(path)
    def do(request: Request) -> Response:
        form: Form = request.state.form
        given, problems = parse(action.ask, {n: v for n, v in form.items() if n in action.ask.model_fields})
        if given is None:
            return _form(site, action, request, form, problems, status=422)
        assert isinstance(given, action.ask)
        require(site, request, request.state.person, action.role_for(site.desk, given))
        try:
            done = action.run(site.desk, given, Who(request.state.person.name, given.reason))
        except NotYet:  # done: asking again would do it twice
            return site.go(f"{action.back}?done={action.name}&late=1")
        except (ConfigError, NotFound, Unreachable) as error:
            looked_at_anew = {name: value for name, value in form.items() if name != "version"}
            return _form(site, action, request, looked_at_anew, {"": str(error)}, status=422)
        if done.shown:  # once: no address holds it, and going back asks anew
            return site.page("done.html", request, action=action, came=done)
        return site.go(f"{action.back}?done={action.name}&of={done.count}")

    return router


def _form(
    site: Site, action: Action, request: Request, given: Form, problems: dict[str, str], status: int = 200
) -> HTMLResponse:
    with site.engine.begin() as connection:
        now = action.present(site.desk, connection)
        values = {name: plain(value) for name, value in now.items()} | dict(given)
        affects = action.affects(site.desk, connection, given)
    return site.page(
        "act.html",
        request,
        status,
        action=action,
        affects=affects,
        is_empty=action.chosen is not None and not given.get(action.chosen),
        inputs=inputs(action.ask, values, problems, action.hidden),
        problem=problems.get("") or next((problems[n] for n in action.hidden if n in problems), ""),
    )
