"""GET /health: alive; GET /health/ready: willing to answer; GET /version."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from weft import __version__
from weft.server.errors import json_response
from weft.server.service import Service


async def health(request: Request) -> Response:
    """200 while the engine can run."""
    service: Service = request.app.state.service
    failed = service.engine_thread.failure is not None
    return json_response({"status": "failed" if failed else "ok"}, 503 if failed else 200)


async def ready(request: Request) -> Response:
    """200 while requests are taken, 503 once the server shuts down."""
    service: Service = request.app.state.service
    willing = not service.draining and service.engine_thread.failure is None
    return json_response({"status": "ready" if willing else "not ready"}, 200 if willing else 503)


async def version(request: Request) -> Response:
    """weft's version."""
    return json_response({"version": __version__})
