"""Addresses of the live page, on any aiohttp server: ours or the host's.

    Routes(stage_of, links).add(router)

Who has a stage's token may perform; who has its watching token may only see. Pages of other sites
are refused by their origin, even where a browser knows the address.
"""

import io
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from .peer import offered
from .sockets import Watchers, limits, perform, watch
from .stage import Stage

ROOT = "/rtr/live"
PAGE = Path(__file__).parent / "page"
TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
HEADERS = {
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",  # the link has the token in it
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob: mediastream:; style-src 'self' 'unsafe-inline'; connect-src 'self' "
    "ws: wss:; base-uri 'none'; form-action 'none'",
}


class Routes:
    """`stage_of` finds a stage by the name in a link; `links` tells where others find this server,
    as addresses without path; `transport` is one of `peer.TRANSPORTS`, for frames."""

    def __init__(
        self,
        stage_of: Callable[[str], Stage | None],
        links: Callable[[web.Request], list[str]],
        transport: str = "auto",
    ):
        self.stage_of, self.links, self.transport = stage_of, links, transport
        self.watchers: dict[Stage, Watchers] = {}

    def add(self, routes: web.RouteTableDef) -> None:
        routes.get(ROOT)(self.index)
        routes.get(f"{ROOT}/page/{{file}}")(self.file)
        routes.get(f"{ROOT}/view")(self.view)
        routes.get(f"{ROOT}/qr.svg")(self.code)
        routes.get(f"{ROOT}/wire")(self.wire)
        routes.get(f"{ROOT}/watch")(self.watch)

    async def index(self, request: web.Request) -> web.StreamResponse:
        self._admitted(request, may_perform=True)
        return _page("index.html")

    async def view(self, request: web.Request) -> web.StreamResponse:
        self._admitted(request, may_perform=False)
        return _page("view.html")

    async def file(self, request: web.Request) -> web.StreamResponse:
        return _page(request.match_info["file"])

    async def code(self, request: web.Request) -> web.StreamResponse:
        """The first link for other devices, as a picture that their cameras read."""
        stage = self._admitted(request, may_perform=True)
        try:
            import segno
        except ImportError:
            raise web.HTTPNotFound(text="For a QR code: pip install segno") from None
        drawn = io.BytesIO()
        link = self._links(request, stage, stage.tokens.perform)[0]
        segno.make(link, error="m").save(drawn, kind="svg", scale=8, border=2)
        return web.Response(body=drawn.getvalue(), content_type="image/svg+xml", headers=HEADERS)

    async def wire(self, request: web.Request) -> web.StreamResponse:
        stage = self._admitted(request, may_perform=True)
        _check_origin(request)
        return await perform(request, stage, self._watchers(stage), self._hello(request, stage))

    async def watch(self, request: web.Request) -> web.StreamResponse:
        stage = self._admitted(request, may_perform=False)
        _check_origin(request)
        return await watch(request, self._watchers(stage))

    def _hello(self, request: web.Request, stage: Stage) -> dict[str, Any]:
        chips = [{"name": chip.name, "prompt": chip.style.prompt} for chip in stage.setup.chips]
        view = self._links(request, stage, stage.tokens.watch, f"{ROOT}/view")[-1]
        return {
            "is": "hello",
            "model": stage.name,
            "side": stage.setup.side,
            "chips": chips,
            "links": self._links(request, stage, stage.tokens.perform),
            "view": view,
            "rtc": offered(self.transport, request.remote),
            "records": stage.setup.takes is not None,
            "limits": limits(),
        }

    def _links(self, request: web.Request, stage: Stage, token: str, path: str = ROOT) -> list[str]:
        """Whole links, the ones for other devices first, the one in use last."""
        name = request.query.get("stage")
        more = f"&stage={name}" if name else ""
        here = f"{request.scheme}://{request.host}"
        places = dict.fromkeys([*self.links(request), here])
        return [f"{place}{path}?token={token}{more}" for place in places]

    def _watchers(self, stage: Stage) -> Watchers:
        for gone in [known for known in self.watchers if not known.is_open]:
            del self.watchers[gone]
        return self.watchers.setdefault(stage, set())

    def _admitted(self, request: web.Request, may_perform: bool) -> Stage:
        stage = self.stage_of(request.query.get("stage", ""))
        given = request.query.get("token", "").encode()
        tokens = [] if stage is None else [stage.tokens.perform]
        if stage is not None and not may_perform:
            tokens.append(stage.tokens.watch)
        if stage is None or not any(secrets.compare_digest(given, t.encode()) for t in tokens):
            raise web.HTTPForbidden(
                text="This link is not valid any more: open the one that the server, or the RTR "
                "Live node, shows now."
            )
        return stage


def _page(name: str) -> web.StreamResponse:
    """A file of the page: one of those that are there, whatever the name says."""
    path = next((p for p in PAGE.glob("*") if p.name == name and p.suffix in TYPES), None)
    if path is None:
        raise web.HTTPNotFound(text=f"The live page has no file {name!r}.")
    return web.Response(
        body=path.read_bytes(), content_type=TYPES[path.suffix], charset="utf-8", headers=HEADERS
    )


def _check_origin(request: web.Request) -> None:
    """A browser says which page opens a socket; it must be ours."""
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.host:
        raise web.HTTPForbidden(text="A page of another site may not open this socket.")
