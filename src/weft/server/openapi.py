"""GET /openapi.json: the API's description, made of the structs that requests are decoded into."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from weft import __version__
from weft.server.endpoint import Endpoint
from weft.server.errors import json_response
from weft.server.shapes import ErrorBody

JSON = "application/json"
_EVENTS = "text/event-stream"
_EVERYWHERE = (403,)
_WITH_BODY = (400, 404, 408, 413, 415)
_AGAIN_LATER = (429, 503)  # with Retry-After


async def openapi(request: Request) -> Response:
    """This description."""
    return json_response(request.app.state.description)


def describe(endpoints: Sequence[Endpoint], *, needs_key: bool) -> dict[str, Any]:
    """The OpenAPI description of `endpoints`. needs_key: whether those that are not open ask for a key."""
    schemas, components = msgspec.json.schema_components(
        _kinds(endpoints), ref_template="#/components/schemas/{name}"
    )
    references = dict(zip(_kinds(endpoints), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        guarded = needs_key and not endpoint.is_open
        operation = _operation(endpoint, references, guarded)
        paths.setdefault(endpoint.described_path, {})[endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "weft", "version": __version__, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _kinds(endpoints: Iterable[Endpoint]) -> list[type[Struct]]:
    """All structs that the endpoints take or give, each once."""
    kinds: dict[type[Struct], None] = {ErrorBody: None}
    for endpoint in endpoints:
        for kind in (endpoint.body, endpoint.answer, *endpoint.events):
            if isinstance(kind, type):
                kinds[kind] = None
    return list(kinds)


def _operation(endpoint: Endpoint, schemas: dict[type[Struct], Any], guarded: bool) -> dict[str, Any]:
    refusals = {*_EVERYWHERE, *endpoint.refusals, *(_WITH_BODY if endpoint.body else ())}
    if guarded:
        refusals.add(401)
    operation: dict[str, Any] = {
        "operationId": endpoint.handler.__name__,
        "summary": endpoint.summary,
        "security": [{"key": []}] if guarded else [],
        "responses": {
            **{str(status): _answer(endpoint, schemas) for status in (200, *endpoint.same_body)},
            **{str(status): _refusal(status, schemas[ErrorBody]) for status in sorted(refusals)},
        },
    }
    if endpoint.parameters:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in endpoint.parameters
        ]
    if endpoint.body:
        content = {JSON: {"schema": schemas[endpoint.body]}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _answer(endpoint: Endpoint, schemas: dict[type[Struct], Any]) -> dict[str, Any]:
    if isinstance(endpoint.answer, str):
        schema = {"type": "object" if endpoint.answer == JSON else "string"}
        content: dict[str, Any] = {endpoint.answer: {"schema": schema}}
    else:
        content = {JSON: {"schema": schemas[endpoint.answer]}}
    if endpoint.events:
        content[_EVENTS] = {"schema": _event([schemas[kind] for kind in endpoint.events])}
    return {"description": "The answer.", "content": content}


def _event(kinds: list[Any]) -> dict[str, Any]:
    """One event of a stream: an object of one of `kinds`, or the word that ends it."""
    data = {
        "type": "string",
        "anyOf": [
            {"const": "[DONE]"},
            {"contentMediaType": JSON, "contentSchema": {"anyOf": kinds}},
        ],
    }
    return {
        "description": "Each of the stream's events.",
        "type": "object",
        "properties": {"data": data},
        "required": ["data"],
    }


def _refusal(status: int, schema: Any) -> dict[str, Any]:
    refusal: dict[str, Any] = {
        "description": f"{HTTPStatus(status).phrase}.",
        "content": {JSON: {"schema": schema}},
    }
    if status in _AGAIN_LATER:
        seconds = {"type": "integer", "minimum": 1}
        refusal["headers"] = {"Retry-After": {"description": "Seconds.", "required": True, "schema": seconds}}
    return refusal
