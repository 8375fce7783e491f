"""GET / and /static/…: the page to chat in, plain files that come with the package."""

from __future__ import annotations

import hashlib
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_FOLDER = Path(__file__).parent / "static"
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# The page asks this server alone, runs its own files alone, and makes no markup of text: what a model writes
# cannot become script even where the page has a fault.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-cache",  # kept by the browser, asked for anew: a new weft brings a new page
}


def page_routes() -> list[Route]:
    """A route for each file of the page."""
    files = sorted(path for path in _FOLDER.iterdir() if path.suffix in _MEDIA_TYPES)
    return [_File(path).route() for path in files]


class _File:
    """One file, read at its first request."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content: bytes | None = None
        self._headers: dict[str, str] = {}

    def route(self) -> Route:
        """Where it is: the page itself at the root."""
        place = "/" if self._path.name == "index.html" else f"/static/{self._path.name}"
        return Route(place, self._answer, methods=["GET"])

    async def _answer(self, request: Request) -> Response:
        if self._content is None:
            self._content = self._path.read_bytes()
            digest = hashlib.sha256(self._content).hexdigest()[:32]
            kind = _MEDIA_TYPES[self._path.suffix]
            self._headers = {**_HEADERS, "content-type": kind, "etag": f'"{digest}"'}
        known = {tag.strip() for tag in request.headers.get("if-none-match", "").split(",")}
        if self._headers["etag"] in known:
            return Response(status_code=304, headers=self._headers)
        return Response(self._content, headers=self._headers)
