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

from weft.server import shapes
from weft.server.chat_completions import ChatRequest, chat_completions
from weft.server.completions import CompletionRequest, completions
from weft.server.create_response import ResponseRequest, create_response
from weft.server.edge import Edge
from weft.server.endpoint import Endpoint
from weft.server.errors import ApiError
from weft.server.health import health, ready, version
from weft.server.metrics import metrics
from weft.server.models import model, models
from weft.server.openapi import JSON, describe, openapi
from weft.server.page import page_routes
from weft.server.response_shapes import RESPONSE_EVENTS, ResponseObject
from weft.server.service import Service
from weft.server.threads import Threads, threads
from weft.server.tokens import DetokenizeRequest, TokenizeRequest, detokenize, tokenize

PAGE = page_routes()
ENDPOINTS = [
    Endpoint(
        "POST",
        "/v1/chat/completions",
        chat_completions,
        shapes.ChatCompletion,
        body=ChatRequest,
        events=(shapes.ChatChunk, shapes.ErrorBody),
        refusals=(429, 503),
    ),
    Endpoint(
        "POST",
        "/v1/completions",
        completions,
        shapes.TextCompletion,
        body=CompletionRequest,
        events=(shapes.TextCompletion, shapes.ErrorBody),
        refusals=(429, 503),
    ),
    Endpoint(
        "POST",
        "/v1/responses",
        create_response,
        ResponseObject,
        body=ResponseRequest,
        events=RESPONSE_EVENTS,
        refusals=(429, 503),
    ),
    Endpoint("GET", "/v1/models", models, shapes.ModelList),
    Endpoint("GET", "/v1/models/{name:path}", model, shapes.ServedModel, refusals=(404,)),
    Endpoint("POST", "/tokenize", tokenize, shapes.TokenIds, body=TokenizeRequest),
    Endpoint("POST", "/detokenize", detokenize, shapes.DetokenizedText, body=DetokenizeRequest),
    Endpoint("GET", "/health", health, shapes.Health, same_body=(503,), is_open=True),
    Endpoint("GET", "/health/ready", ready, shapes.Health, same_body=(503,), is_open=True),
    Endpoint("GET", "/metrics", metrics, "text/plain"),
    Endpoint("GET", "/threads", threads, Threads),
    Endpoint("GET", "/version", version, shapes.Version, is_open=True),
    Endpoint("GET", "/openapi.json", openapi, JSON, is_open=True),
]


def make_app(service: Service) -> Starlette:
    """The ASGI application that serves `service`; its lifespan starts and ends the engine's thread."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        service.engine_thread.start()
        yield
        await service.engine_thread.close()

    open_paths = {endpoint.path for endpoint in ENDPOINTS if endpoint.is_open} | {file.path for file in PAGE}
    middleware = [Middleware(Edge, service=service, open_paths=frozenset(open_paths))]
    if service.config.cors_origin is not None:
        cors = Middleware(
            CORSMiddleware,
            allow_origins=[service.config.cors_origin],
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type"],
        )
        middleware.insert(0, cors)
    app = Starlette(
        routes=[*PAGE, *(endpoint.route for endpoint in ENDPOINTS)],
        middleware=middleware,
        lifespan=lifespan,
        exception_handlers={HTTPException: _no_route, ApiError: _api_error},
    )
    app.state.service = service
    app.state.description = describe(ENDPOINTS, needs_key=bool(service.keys))
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
