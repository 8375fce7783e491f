"""Errors as OpenAI's API gives them: a status, and an object that says what was wrong with which field."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any

import msgspec
from starlette.responses import Response

from weft.errors import ConfigError, OutOfMemoryError, PromptError, ThreadError, TokenizerError, WeftError

RETRY_AFTER_S = 1  # what is refused when the queue is full may come again after this


class ApiError(Exception):
    """A request that is answered with an error. `param` names the field, `code` the kind of fault."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s

    @property
    def content(self) -> dict[str, Any]:
        """The body of the answer."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        """The whole answer."""
        headers = {} if self.retry_after_s is None else {"retry-after": str(self.retry_after_s)}
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        if self.status in (408, 413):
            headers["connection"] = "close"  # the rest of the body is not read
        return json_response(self.content, self.status, headers)


def json_response(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """`content` as JSON."""
    return Response(msgspec.json.encode(content), status, headers, media_type="application/json")


def overloaded(what: str, code: str = "queue_full") -> ApiError:
    """There is too much to do."""
    return ApiError(
        429,
        f"Expected room for a request, got {what}; try again later.",
        kind="rate_limit_error",
        code=code,
        retry_after_s=RETRY_AFTER_S,
    )


def unavailable(message: str, code: str) -> ApiError:
    """The server cannot answer now."""
    return ApiError(503, message, kind="server_error", code=code, retry_after_s=RETRY_AFTER_S)


def of_weft(error: BaseException, fields: Container[str] = ()) -> ApiError:
    """What an error of weft is to a client; `fields` are the names that its message may be about."""
    message = str(error)
    match error:
        case PromptError() if "context of" in message:
            return ApiError(400, message, code="context_length_exceeded", param="messages")
        case ConfigError() | PromptError() | TokenizerError():
            words = re.findall(r"\w+", message)
            named = next((word for word in words if word in fields), None)
            return ApiError(400, message, param=named, code="invalid_value")
        case ThreadError():
            return unavailable(message, "shutting_down")
        case OutOfMemoryError():
            return unavailable(message, "out_of_memory")
        case WeftError():
            return ApiError(500, message, kind="server_error", code="engine_error")
    return ApiError(
        500,
        "Expected the engine to run, got a fault of weft; the server's log has it under this request's id.",
        kind="server_error",
        code="internal_error",
    )


def of_validation(error: Exception) -> ApiError:
    """What msgspec found wrong with a body, with the field by name."""
    message = str(error)
    path = re.search(r"`\$([^`]*)`", message)
    place = path[1].lstrip(".") if path else ""
    unknown = re.search(r"unknown field `([^`]*)`", message)
    missing = re.search(r"missing required field `([^`]*)`", message)
    if unknown:
        name = f"{place}.{unknown[1]}" if place else unknown[1]
        text = (
            f"Expected fields that weft knows, got `{name}`, which is unknown or unsupported; leave it out."
        )
        return ApiError(400, text, code="unknown_parameter", param=name)
    if missing:
        name = f"{place}.{missing[1]}" if place else missing[1]
        text = f"Expected a field `{name}`, got none; add it."
        return ApiError(400, text, code="missing_required_parameter", param=name)
    if isinstance(error, msgspec.ValidationError):
        return ApiError(400, f"{message}; correct the value.", code="invalid_type", param=place or None)
    return ApiError(
        400, f"Expected a body of valid JSON, got another: {message}; correct it.", code="bad_json"
    )
