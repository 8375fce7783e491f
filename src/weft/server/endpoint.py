"""An endpoint: what is served under a path, and what goes in and comes out, for the API's description."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Endpoint:
    """`method` on `path` is answered by `handler`.

    body: what a request holds, where it holds any. answer: what the response holds, or its media type where
    nothing more is said. events: of which kinds a stream's events are, where it can be streamed.
    same_body: other statuses that come with what 200 comes with. refusals: statuses of its own, beside those
    that every endpoint has. is_open: needs no key.
    """

    method: str
    path: str
    handler: Handler
    answer: type[Struct] | str
    body: type[Struct] | None = None
    events: tuple[type[Struct], ...] = ()
    same_body: tuple[int, ...] = ()
    refusals: tuple[int, ...] = ()
    is_open: bool = False

    @property
    def route(self) -> Route:
        """For the application."""
        return Route(self.path, self.handler, methods=[self.method])

    @property
    def described_path(self) -> str:
        """The path as OpenAPI writes it, without the kinds of its parameters."""
        return re.sub(r"\{(\w+):\w+\}", r"{\1}", self.path)

    @property
    def parameters(self) -> list[str]:
        """Names of the path's parameters."""
        return re.findall(r"\{(\w+)", self.path)

    @property
    def summary(self) -> str:
        """The handler's first line."""
        return (inspect.getdoc(self.handler) or "").partition("\n")[0]
