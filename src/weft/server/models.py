"""GET /v1/models: what is served."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from weft.server.errors import json_response
from weft.server.service import Service


async def models(request: Request) -> Response:
    """All models: the one that is served, and its adapters."""
    service: Service = request.app.state.service
    data = [_model(service, name) for name in service.served.names]
    return json_response({"object": "list", "data": data})


async def model(request: Request) -> Response:
    """One model by its name."""
    service: Service = request.app.state.service
    name = request.path_params["name"]
    service.served.adapter(name)
    return json_response(_model(service, name))


def _model(service: Service, name: str) -> dict[str, Any]:
    parent = {} if name == service.served.name else {"parent": service.served.name}
    return {
        "id": name,
        "object": "model",
        "created": service.started_at,
        "owned_by": "weft",
        **parent,
        "max_model_len": service.model.max_context,
    }
