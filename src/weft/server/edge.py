"""What happens to every request: an id, who may pass, errors in the API's form, a line in the log."""

from __future__ import annotations

import logging
import re
import secrets
import time
from typing import Any

import msgspec
from h11 import LocalProtocolError
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from weft.errors import WeftError
from weft.server.access import check_key, check_origin
from weft.server.errors import ApiError, of_weft
from weft.server.service import Service

_LOG = logging.getLogger("weft.server")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECURITY = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
_UNLOGGED = ("/threads", 200)  # each open page asks twice a second


class Edge:
    """Stands around the application."""

    def __init__(self, app: ASGIApp, service: Service, open_paths: frozenset[str]) -> None:
        self._app = app
        self._service = service
        self._open_paths = open_paths  # need no key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await _Passage(self._service, scope).through(self._app, self._open_paths, receive, send)


class _Passage:
    """One request."""

    def __init__(self, service: Service, scope: Scope) -> None:
        self._service = service
        self._scope = scope
        self._headers = Headers(scope=scope)
        given = self._headers.get("x-request-id", "")
        self._id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        self._began = time.perf_counter()
        self._status: int | None = None

    async def through(self, app: ASGIApp, open_paths: frozenset[str], receive: Receive, send: Send) -> None:
        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._status = message["status"]
                MutableHeaders(scope=message).update({**_SECURITY, "x-request-id": self._id})
            try:
                await send(message)
            except LocalProtocolError as error:
                # What followed the request's head was no HTTP: that has been answered, the connection cut.
                raise ClientDisconnect from error

        try:
            self._check(open_paths)
            await app(self._scope, receive, send_noted)
        except ClientDisconnect:
            self._service.statistics.disconnects += 1
        except Exception as error:
            if not isinstance(error, ApiError | WeftError):
                _LOG.exception("request %s failed", self._id)
            if self._status is not None:
                raise  # too late for another status: the connection is cut
            told = error if isinstance(error, ApiError) else of_weft(error)
            await told.response()(self._scope, receive, send_noted)
        finally:
            self._note()

    def _check(self, open_paths: frozenset[str]) -> None:
        check_origin(self._headers, self._service.config.cors_origin)
        if self._service.keys and self._scope["path"] not in open_paths:
            check_key(self._headers, self._service.keys)

    def _note(self) -> None:
        route = self._scope.get("route")
        endpoint = getattr(route, "path", "other")
        self._service.statistics.responses[endpoint, self._status or 499] += 1
        if (endpoint, self._status) == _UNLOGGED:
            return
        facts: dict[str, Any] = {
            "time": time.time(),
            "request": self._id,
            "method": self._scope["method"],
            "path": self._scope["path"],
            "status": self._status or 499,
            "ms": round((time.perf_counter() - self._began) * 1e3, 3),
        }
        _LOG.info(msgspec.json.encode(facts).decode())
