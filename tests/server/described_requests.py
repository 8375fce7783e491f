"""Requests made of the server's own description: such as fit it, and such as do not."""

from __future__ import annotations

from typing import Any

import hypothesis
import schemathesis
from hypothesis import HealthCheck, Phase, given
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.server.running_server import Server

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
UNHURT = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


def send(server: Server, num_requests: int, seed: int) -> int:
    """Sends about `num_requests`, spread over endpoints, and holds each answer against the description.

    How many were sent. Those that do not fit the description must be refused; those that fit may be, since no
    description says all.
    """
    schema = schemathesis.openapi.from_dict(server.ok("/openapi.json"))
    operations = [found.ok() for found in schema.get_all_operations()]
    with_body = [operation for operation in operations if operation.method == "post"]
    each = num_requests // (2 * len(with_body))
    sent = 0
    for operation in operations:
        sent += _send(server, operation, GenerationMode.POSITIVE, each if operation in with_body else 2, seed)
        if operation in with_body:
            sent += _send(server, operation, GenerationMode.NEGATIVE, each, seed)
    return sent


def _send(server: Server, operation: Any, mode: GenerationMode, num_requests: int, seed: int) -> int:
    sent = 0
    checks = [*CHECKS, negative_data_rejection] if mode is GenerationMode.NEGATIVE else CHECKS

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=num_requests,
        deadline=None,
        database=None,
        suppress_health_check=UNHURT,
        phases=[Phase.generate],
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Case) -> None:
        nonlocal sent
        sent += 1
        if mode is GenerationMode.POSITIVE and isinstance(case.body, dict):
            case.body.pop("model", None)  # a random name would end all further checks
        case.call_and_validate(base_url=server.url, checks=checks)

    check()
    return sent
