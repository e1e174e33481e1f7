"""The studio's addresses, and what answers them (Starlette)."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from synthaug.pipeline.core.errors import SynthaugError, one_line
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.studio.server.guard import ALWAYS, PARAMETER, WITHOUT, Guard
from synthaug.pipeline.studio.session import Session

MOST_BYTES = 8 << 20  # of a request
STATIC = {
    "studio.js": "text/javascript; charset=utf-8",
    "boxes.js": "text/javascript; charset=utf-8",
    "studio.css": "text/css; charset=utf-8",
}
PAGE = "studio.html"

Answer = Callable[[Request], Awaitable[Response]]
Work = Callable[[Json], Any]  # body of a request -> JSON


class RequestError(ValueError):
    """A request that is not understood."""


def application(session: Session, guard: Guard) -> Starlette:
    """Return the application that lets the guard's token holder work with a session."""

    def edit(body: Json) -> Any:
        draft = body.get("draft") is True
        return session.edit(body.get("edit"), _text(body, "gesture", ""), draft)

    def open_photo(body: Json) -> Any:
        return session.open_photo(_text(body, "split"), _whole(body, "index"))

    def load(body: Json) -> Any:
        return session.load(body.get("layout"), _text(body, "name", "a file"))

    def interpolation(body: Json) -> Any:
        number = _whole(body, "object") if "object" in body else None
        return session.interpolation(number)

    def thumbnails(body: Json) -> Any:
        return session.thumbnails(_text(body, "split"), _whole(body, "start"))

    works: dict[str, Work] = {
        "about": lambda _: session.about(),
        "state": lambda _: session.state(),
        "edit": edit,
        "undo": lambda _: session.undo(),
        "redo": lambda _: session.redo(),
        "open": open_photo,
        "clear": lambda _: session.clear(),
        "thumbnails": thumbnails,
        "samples": lambda _: session.samples(),
        "interpolation": interpolation,
        "verdicts": lambda _: session.verdicts(),
        "load": load,
        "load_saved": lambda body: session.load_saved(_text(body, "name")),
        "save": lambda body: session.save(_text(body, "name")),
        "saved": lambda _: session.saved(),
        "plan": lambda body: session.send_to_plan(_whole(body, "copies")),
    }
    routes = [Route("/", _page, methods=["GET"])]
    for name, kind in STATIC.items():
        routes.append(Route(f"/{name}", _file(name, kind), methods=["GET"]))
    for name, work in works.items():
        routes.append(Route(f"/api/{name}", _json(work), methods=["POST"]))
    routes.append(Route("/layout.json", _layout(session), methods=["GET"]))
    routes.append(Route("/image.png", _image(session), methods=["GET"]))
    return Starlette(routes=routes, middleware=[Middleware(Door, guard=guard)])


class Door(BaseHTTPMiddleware):
    """Refuses what the guard refuses, before anything is read or done."""

    def __init__(self, app: Any, guard: Guard) -> None:
        super().__init__(app)
        self._guard = guard

    async def dispatch(self, request: Request, call_next: Any) -> Response:
        """Answer a request, or refuse it in one sentence."""
        response = await self._answer(request, call_next)
        for name, value in ALWAYS.items():
            response.headers[name] = value
        return response

    async def _answer(self, request: Request, call_next: Any) -> Response:
        guard = self._guard
        foreign = guard.foreign(request.headers)
        if foreign:
            return _error(foreign, 403)
        if not guard.has_token(request.headers, request.query_params):
            return _error(WITHOUT, 401)
        if request.url.path == "/" and PARAMETER in request.query_params:
            # so that the token stands in no history and in no address that is copied
            onwards = RedirectResponse("/", 303)
            onwards.set_cookie(guard.cookie, guard.token, httponly=True, samesite="strict")
            return onwards
        answer: Response = await call_next(request)
        return answer


def _error(sentence: str, status: int) -> Response:
    return JSONResponse({"error": sentence}, status)


def _static(name: str) -> bytes:
    return files("synthaug.pipeline.studio.server").joinpath("static", name).read_bytes()


async def _page(_: Request) -> Response:
    return Response(_static(PAGE), media_type="text/html; charset=utf-8")


def _file(name: str, kind: str) -> Answer:
    async def answer(_: Request) -> Response:
        return Response(_static(name), media_type=kind)

    return answer


def _layout(session: Session) -> Answer:
    async def answer(_: Request) -> Response:
        document = await run_in_threadpool(session.document)
        text = json.dumps(document, indent=1) + "\n"
        return _download(text.encode(), "application/json", "layout.json")

    return answer


def _image(session: Session) -> Answer:
    async def answer(_: Request) -> Response:
        data = await run_in_threadpool(session.image)
        return _download(data, "image/png", "image.png")

    return answer


def _download(data: bytes, kind: str, name: str) -> Response:
    shown = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(data, media_type=kind, headers=shown)


def _json(work: Work) -> Answer:
    """Return what answers a request with a JSON body by other JSON, or by a sentence."""

    async def answer(request: Request) -> Response:
        try:
            body = await _body(request)
            result = await run_in_threadpool(work, body)
        except (ValueError, SynthaugError) as err:
            return _error(one_line(err), 400)
        return JSONResponse(result)

    return answer


async def _body(request: Request) -> Json:
    """Return the JSON object of a request; RequestError for what is none or too large."""
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip() != "application/json":
        raise RequestError("requests are JSON; set the content type to application/json")
    data = b""
    async for piece in request.stream():
        data += piece
        if len(data) > MOST_BYTES:
            raise RequestError(f"the request has over {MOST_BYTES >> 20} MiB")
    try:
        body = json.loads(data or b"{}")
    except (ValueError, RecursionError) as err:
        raise RequestError("the request is no valid JSON") from err
    if not isinstance(body, dict):
        raise RequestError("the request is no JSON object")
    return body


def _text(body: Json, key: str, default: str | None = None) -> str:
    value = body.get(key, default)
    if not isinstance(value, str):
        raise RequestError(f"'{key}' must be a text")
    return value


def _whole(body: Json, key: str) -> int:
    value = body.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise RequestError(f"'{key}' must be a whole number")
    return value
