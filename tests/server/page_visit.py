"""The page in tests: opened in a browser, and used as people do."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

from tests.server.running_server import Server

MODELS = "document.querySelector('#model').options.length"
LAST = "document.querySelector('.assistant:last-child')"
PATIENCE_S = 120  # a busy machine decides no test
REFUSED = "the server responded with a status of 4"


@contextlib.contextmanager
def visit(browser: Any, server: Server, expected: str = REFUSED, **options: Any) -> Iterator[Any]:
    """A page of `server` in a browser that knows nothing of it.

    It asks that server alone, and without faults but `expected` ones.
    """
    context = browser.new_context(**{"locale": "en-US"} | options)
    context.set_default_timeout(1000 * PATIENCE_S)
    asked: list[str] = []
    faults: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    page = context.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.goto(server.url)
    wait_until(page, f"{MODELS} > 0 || document.querySelector('dialog[open]')")
    try:
        yield page
    finally:
        context.close()
    assert {url for url in asked if not url.startswith(server.url + "/")} == set()
    assert [fault for fault in faults if expected not in fault] == []


def wait_until(page: Any, condition: str) -> None:
    """Waits for an expression. playwright's own way evaluates text in the page, which its policy forbids."""
    end = time.monotonic() + PATIENCE_S
    while not page.evaluate(f"Boolean({condition})"):
        assert time.monotonic() < end, f"expected {condition}"
        page.wait_for_timeout(20)


def set_numbers(page: Any, **settings: float) -> None:
    page.click("#open-settings")
    for name, value in settings.items():
        page.fill(f"[name={name}]", str(value))
    page.click("[data-close=settings]")


def ask(page: Any, text: str) -> None:
    page.fill("#prompt", text)
    page.press("#prompt", "Enter")


def wait_for_answer(page: Any) -> str:
    """The last answer's text, once it is whole."""
    wait_until(
        page,
        f"document.querySelector('#stop').hidden && {LAST} && !{LAST}.matches('.writing')",
    )
    return str(page.locator(".assistant .message-text").last.inner_text())


def answer_with(page: Any, text: str) -> None:
    """Has the server's answers say `text`."""
    chunk = {"choices": [{"delta": {"content": text}, "finish_reason": "stop"}]}
    body = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n"
    kind = "text/event-stream"
    page.route("**/v1/chat/completions", lambda route: route.fulfill(body=body, content_type=kind))
