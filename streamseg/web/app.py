"""What the server answers: the page's own files, the WebSocket, health and figures; nothing else exists."""

from __future__ import annotations

import time
from importlib import resources

from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp

from streamseg.web.access import Access, Guard
from streamseg.web.hub import Hub
from streamseg.web.status import Metrics

FILES = {
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "link.js": "text/javascript; charset=utf-8",
    "clock.js": "text/javascript; charset=utf-8",
    "figures.js": "text/javascript; charset=utf-8",
    "picture.js": "text/javascript; charset=utf-8",
    "states.js": "text/javascript; charset=utf-8",
    "chart.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""Every file that is served, with its type."""


def build(hub: Hub, access: Access) -> ASGIApp:
    """The application, guarded. The page's files are read here, once."""
    metrics = Metrics(hub.status)

    async def health(_: Request) -> Response:
        answer = hub.status.health(time.monotonic_ns())
        return JSONResponse(answer, 200 if answer["ok"] else 503)

    async def figures(_: Request) -> Response:
        text = metrics.text(hub.ages(), time.monotonic_ns())
        return Response(text, headers={"content-type": CONTENT_TYPE_LATEST})

    routes: list[BaseRoute] = [_file(name, kind) for name, kind in FILES.items()]
    routes += [
        Route("/healthz", health),
        Route("/metrics", figures),
        WebSocketRoute("/ws", hub.serve),
    ]
    return Guard(Starlette(routes=routes), access)


def _file(name: str, kind: str) -> Route:
    content = resources.files("streamseg.web").joinpath("page", name).read_bytes()

    async def answer(_: Request) -> Response:
        return Response(content, headers={"content-type": kind})

    return Route("/" if name == "index.html" else f"/{name}", answer)
