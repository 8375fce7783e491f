"""GET /v1/models: what is served."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from weft.server.errors import json_response
from weft.server.service import Service


async def models(request: Request) -> Response:
    """All models."""
    return json_response({"object": "list", "data": [_model(request.app.state.service)]})


async def model(request: Request) -> Response:
    """One model by its name."""
    service: Service = request.app.state.service
    service.check_model(request.path_params["name"])
    return json_response(_model(service))


def _model(service: Service) -> dict[str, Any]:
    return {
        "id": service.name,
        "object": "model",
        "created": service.started_at,
        "owned_by": "weft",
        "max_model_len": service.model.max_context,
    }
