"""The application: which path leads to which endpoint."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from weft.server.chat_completions import chat_completions
from weft.server.completions import completions
from weft.server.edge import Edge
from weft.server.errors import ApiError
from weft.server.health import health, ready, version
from weft.server.metrics import metrics
from weft.server.models import model, models
from weft.server.page import page_routes
from weft.server.service import Service
from weft.server.threads import threads
from weft.server.tokens import detokenize, tokenize

PAGE = page_routes()
ROUTES = [
    *PAGE,
    Route("/v1/chat/completions", chat_completions, methods=["POST"]),
    Route("/v1/completions", completions, methods=["POST"]),
    Route("/v1/models", models, methods=["GET"]),
    Route("/v1/models/{name:path}", model, methods=["GET"]),
    Route("/tokenize", tokenize, methods=["POST"]),
    Route("/detokenize", detokenize, methods=["POST"]),
    Route("/health", health, methods=["GET"]),
    Route("/health/ready", ready, methods=["GET"]),
    Route("/metrics", metrics, methods=["GET"]),
    Route("/threads", threads, methods=["GET"]),
    Route("/version", version, methods=["GET"]),
]
OPEN_PATHS = frozenset({"/health", "/health/ready", "/version", *(route.path for route in PAGE)})


def make_app(service: Service) -> Starlette:
    """The ASGI application that serves `service`; its lifespan starts and ends the engine's thread."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        service.engine_thread.start()
        yield
        await service.engine_thread.close()

    middleware = [Middleware(Edge, service=service, open_paths=OPEN_PATHS)]
    if service.config.cors_origin is not None:
        cors = Middleware(
            CORSMiddleware,
            allow_origins=[service.config.cors_origin],
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type"],
        )
        middleware.insert(0, cors)
    app = Starlette(
        routes=ROUTES,
        middleware=middleware,
        lifespan=lifespan,
        exception_handlers={HTTPException: _no_route, ApiError: _api_error},
    )
    app.state.service = service
    return app


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path[:200]}"
    told = ApiError(
        error.status_code,
        f"Expected an endpoint and its method, got {what}; see docs/server.md.",
        code="unknown_url" if error.status_code == 404 else None,
    )
    response = told.response()
    response.headers.update(error.headers or {})
    return response


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error.response()
