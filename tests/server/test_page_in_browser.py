"""The page as people use it: the real server process, a real model, and headless Chromium."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.running_server import Server, running
from tests.support.browser import browser_environment, find_browser

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
PROGRAM = find_browser()
if PROGRAM is None:
    pytest.skip("no Chromium: CHROME_BIN can name one", allow_module_level=True)

MODEL = "smollm2-135m-instruct"
MODELS = "document.querySelector('#model').options.length"
LAST = "document.querySelector('.assistant:last-child')"
PATIENCE_S = 30
REFUSED = "the server responded with a status of 4"
MARKDOWN = """# Head
Plain *it* **bo*l*d** `co**de`

1. one
   more
2. two
   - in

> said

---
```py
x = 1

y
```
end"""
HOSTILE = (
    '<img src=x onerror="window.harmed=1"><script>window.harmed=2</script> **<svg onload=harmed=3>** '
    "`<iframe src=javascript:parent.harmed=4>` [x](javascript:harmed=5)\n\n"
    "```html\n</code></pre><script>window.harmed=6</script>\n```\n- <details open ontoggle=harmed=7>"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(
            executable_path=PROGRAM, args=["--no-sandbox"], env=browser_environment(PROGRAM)
        )
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def real() -> Iterator[Server]:
    """A server of the real model, with the user's own cache."""
    from weft.errors import WeftError
    from weft.io.cache_paths import cache_root
    from weft.io.sources import pull

    try:
        pull(MODEL)
    except WeftError as error:
        pytest.skip(f"{MODEL} is not at hand: {error}")
    with running(MODEL, Path(cache_root())) as started:
        yield started


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
    page.on(
        "console", lambda m: faults.append(m.text) if m.type == "error" and REFUSED not in m.text else None
    )
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
    page.route(
        "**/v1/chat/completions", lambda route: route.fulfill(body=body, content_type="text/event-stream")
    )


def test_an_answer_streams_and_survives_a_reload(browser: Any, real: Server) -> None:
    question = "What is a loom, in one sentence?"
    with visit(browser, real) as page:
        set_numbers(page, temperature=0, max_tokens=24)
        page.evaluate(
            "window.lengths = new Set(); new MutationObserver(() => lengths.add("
            "document.querySelector('.assistant .message-text')?.textContent.length ?? 0))"
            ".observe(document.querySelector('#messages'),"
            " { childList: true, subtree: true, characterData: true })"
        )
        ask(page, question)
        shown = wait_for_answer(page)
        assert page.evaluate("lengths.size") > 5, "it comes piece by piece"
        messages = [{"role": "user", "content": question}]
        body = {"messages": messages, "temperature": 0, "max_tokens": 24}
        told = real.ok("/v1/chat/completions", body)
        assert shown.split() == told["choices"][0]["message"]["content"].split()
        facts = page.inner_text(".assistant .message-facts")
        assert facts.startswith(f"{told['usage']['completion_tokens']} tokens · ") and "tokens/s" in facts
        page.reload()
        assert page.locator(".assistant .message-text").inner_text() == shown
        assert page.input_value("[name=max_tokens]") == "24"
        with page.expect_request("**/v1/chat/completions") as request:
            ask(page, "Who uses it?")
        sent = request.value.post_data_json
        assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]
        assert (sent["temperature"], sent["max_tokens"]) == (0, 24) and "top_p" not in sent
        assert wait_for_answer(page) and page.locator(".message").count() == 4


def test_escape_stops_and_keeps_what_came(browser: Any, real: Server) -> None:
    with visit(browser, real) as page:
        ask(page, "Write a very long story about the sea.")
        wait_until(page, f"{LAST}?.querySelector('.message-text').textContent.length > 40")
        page.keyboard.press("Escape")
        text = wait_for_answer(page)
        real.wait_for_metric("weft_requests_running", 0)
        assert len(text) > 40 and "stopped" in page.inner_text(".message-facts >> nth=-1")
        page.reload()
        assert page.locator(".assistant .message-text").inner_text() == text
        page.click(".assistant .message-again")
        wait_until(page, f"{LAST}?.querySelector('.message-text').textContent.length > 40")
        page.reload()  # leaving in mid-answer, too
        assert page.locator(".message").count() == 2
        assert len(page.locator(".assistant .message-text").inner_text()) > 40
        real.wait_for_metric("weft_requests_running", 0)


def test_several_conversations(browser: Any, server: Server) -> None:
    with visit(browser, server) as page:
        answer_with(page, "one")
        for text in ("first thing", "second thing"):
            page.click("#new-chat")
            ask(page, text)
            assert wait_for_answer(page) == "one"
        titles = page.locator(".conversation-open")
        assert titles.all_inner_texts() == ["second thing", "first thing"]
        titles.nth(1).click()
        assert page.inner_text(".user .message-text") == "first thing"
        page.reload()
        assert page.inner_text(".user .message-text") == "first thing"
        assert page.get_attribute(".conversation-open >> nth=1", "aria-current") == "true"
        page.hover(".conversation >> nth=1")
        page.click(".conversation-delete >> nth=1")
        assert titles.all_inner_texts() == ["second thing"]
        assert page.locator(".message").count() == 0, "a new one is open"
        page.on("dialog", lambda dialog: dialog.accept())
        page.click("#open-settings")
        page.click("#delete-all")
        assert titles.count() == 0
        assert page.evaluate("Object.keys(localStorage).filter((name) => name.startsWith('weft.chat'))") == []


def test_chinese(browser: Any, real: Server) -> None:
    with visit(browser, real, locale="zh-CN") as page:
        assert page.inner_text("#new-chat") == "新对话"
        assert page.get_attribute("#prompt", "placeholder") == "输入消息"
        set_numbers(page, max_tokens=8)
        page.fill("#prompt", "你好,织布机")
        composing = "new KeyboardEvent('keydown', { key: 'Enter', isComposing: true, bubbles: true })"
        page.evaluate(f"document.querySelector('#prompt').dispatchEvent({composing})")
        assert page.input_value("#prompt") == "你好,织布机", "Enter chose characters"
        page.press("#prompt", "Enter")
        wait_for_answer(page)
        assert page.inner_text(".user .message-text") == "你好,织布机"
        for language in ("zh-CN", "en"):
            assert page.get_attribute("html", "lang") == language
            words = page.locator("[data-text]").all_text_contents()
            labels = page.evaluate("[...document.querySelectorAll('[data-label]')].map((e) => e.ariaLabel)")
            assert all(words) and all(labels) and "undefined" not in [*words, *labels]
            page.click("#language")
        page.click("#language")
        page.reload()
        assert page.inner_text("#new-chat") == "New chat", "the choice is kept"


def test_a_narrow_screen(browser: Any, server: Server) -> None:
    with visit(browser, server, viewport={"width": 320, "height": 640}, has_touch=True) as page:
        answer_with(page, "wide " * 9 + "w" * 300 + "\n\n```\n" + "code " * 90 + "\n```")
        ask(page, "x" * 300)
        wait_for_answer(page)
        assert page.evaluate("document.documentElement.scrollWidth") == 320
        assert page.evaluate("document.querySelector('#scroll').scrollWidth") <= 320
        assert not page.is_visible("#sidebar")
        page.click("#open-sidebar")
        assert page.is_visible("#conversations .conversation-open")
        page.keyboard.press("Escape")
        page.wait_for_selector("#sidebar", state="hidden")
        for panel in ("threads", "settings"):
            page.click(f"#open-{panel}")
            assert page.locator(f"#{panel}").bounding_box()["width"] == 320
            page.click(f"[data-close={panel}]")
        assert page.locator("#prompt").bounding_box()["width"] > 150


def test_hostile_text_stays_text(browser: Any, server: Server) -> None:
    with visit(browser, server, expected="requires 'TrustedHTML'") as page:
        answer_with(page, HOSTILE)
        ask(page, HOSTILE)
        wait_for_answer(page)
        page.reload()
        shown = page.locator("#messages")
        assert page.inner_text(".user .message-text") == HOSTILE
        assert "<img src=x onerror=" in page.inner_text(".assistant .message-text")
        assert page.inner_text(".assistant pre") == "</code></pre><script>window.harmed=6</script>"
        assert shown.locator("img, script, iframe, details, a, .message-text svg").count() == 0
        assert page.evaluate("window.harmed") is None
        # And were there a fault, the browser would not let it harm.
        assert (
            page.evaluate(
                "(() => { try { document.body.innerHTML = '<b>x</b>' } catch (e) { return e.name } })()"
            )
            == "TypeError"
        )


def test_hostile_text_does_not_hang_the_page(browser: Any, server: Server) -> None:
    with visit(browser, server) as page:
        for text in (
            "**a " * 50_000,
            "`" * 100_000,
            "# " + " " * 100_000,
            "- " * 50_000,
            ("  " * 200 + "- x\n") * 500,
        ):
            answer_with(page, text)
            ask(page, "x")
            wait_for_answer(page)
            page.unroute("**/v1/chat/completions")


def test_markdown_becomes_elements(browser: Any, server: Server) -> None:
    with visit(browser, server) as page:
        answer_with(page, MARKDOWN)
        ask(page, "x")
        wait_for_answer(page)
        names = page.evaluate(
            "[...document.querySelector('.assistant .message-text').children].map((e) => e.tagName)"
        )
        assert names == ["H3", "P", "OL", "BLOCKQUOTE", "HR", "FIGURE", "P"]
        part = page.locator(".assistant .message-text")
        assert part.locator("p em").first.inner_text() == "it"
        assert (
            part.locator("strong").inner_text() == "bold" and part.locator("p code").inner_text() == "co**de"
        )
        assert part.locator("ol > li").count() == 2 and part.locator("ol ul > li").inner_text() == "in"
        assert part.locator("pre").inner_text() == "x = 1\n\ny"


def test_dark_and_light(browser: Any, server: Server) -> None:
    def background(page: Any) -> int:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in colour[4:-1].split(","))

    with visit(browser, server, color_scheme="dark") as page:
        assert background(page) < 150, "as the system is"
        page.click("#theme")
        assert page.inner_text("#theme-name") == "Light" and background(page) > 600
        page.reload()
        assert background(page) > 600, "the choice is kept"
        page.click("#theme")
        assert page.inner_text("#theme-name") == "Dark" and background(page) < 150


def test_keyboard_and_names(browser: Any, server: Server) -> None:
    with visit(browser, server) as page:
        answer_with(page, "yes")
        assert page.evaluate("document.activeElement.id") == "prompt"
        page.keyboard.type("a")
        page.keyboard.press("Shift+Enter")
        page.keyboard.type("b")
        assert page.input_value("#prompt") == "a\nb"
        page.keyboard.press("Enter")
        wait_for_answer(page)
        assert page.inner_text(".user .message-text") == "a\nb"
        page.focus(".skip")
        order = []
        for _ in range(9):
            page.keyboard.press("Tab")
            order.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
        assert order[0] == "new-chat" and order[1] == "conversation-open"
        assert order.index("language") < order.index("open-threads") < len(order)
        page.click("#open-settings")
        unnamed = page.evaluate(
            "[...document.querySelectorAll('button, input, select, textarea')]"
            ".filter((e) => e.checkVisibility())"
            ".filter((e) => !(e.ariaLabel || e.textContent.trim() || e.labels?.length))"
            ".map((e) => e.outerHTML)"
        )
        assert unnamed == []
        page.keyboard.press("Escape")
        assert page.is_hidden("#settings") and page.evaluate("document.activeElement.id") == "open-settings"


def test_a_key_is_asked_for_and_kept_for_the_tab(
    browser: Any, tiny: Path, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text("the-key\n")
    with running(tiny, home, "--api-key-file", tmp_path / "keys") as server, visit(browser, server) as page:
        page.fill("#key", "the-key")
        page.press("#key", "Enter")
        wait_until(page, f"{MODELS} === 1")
        set_numbers(page, max_tokens=3)
        ask(page, "a")
        wait_for_answer(page)
        assert page.locator(".message-error:visible").count() == 0
        assert "the-key" not in page.evaluate("JSON.stringify(localStorage)")
        page.reload()
        wait_until(page, f"{MODELS} === 1")
        assert page.is_hidden("dialog")
        assert "the-key" not in server.log.read_text()


def test_the_servers_refusal_is_shown(browser: Any, server: Server) -> None:
    with visit(browser, server) as page:
        ask(page, "long " * 20_000)
        page.wait_for_selector(".message-error:visible")
        assert "context" in page.inner_text(".message-error:visible")


def test_the_threads_are_shown_while_they_work(browser: Any, real: Server) -> None:
    with visit(browser, real) as page:
        page.click("#open-threads")
        assert page.locator(".lane").count() == 2 or page.wait_for_selector(".lane >> nth=1")
        ask(page, "Write a very long story about the sea.")
        wait_until(page, "document.querySelector('#t-running').textContent === '1'")
        page.wait_for_selector(".legend li >> nth=3")
        assert any("linear" in name for name in page.locator(".legend span").all_inner_texts())
        painted = (
            "[...document.querySelectorAll('.lane-canvas')].map((c) => c.getContext('2d')"
            ".getImageData(0, 0, c.width, c.height).data.filter((v, i) => i % 4 === 3 && v > 0).length)"
        )
        assert all(count > 100 for count in page.evaluate(painted))
        box = page.locator(".lane-canvas").first.bounding_box()
        for step in range(20):  # somewhere on the lane an operation is found
            page.mouse.move(box["x"] + 5 + 15 * step, box["y"] + 10)
        assert "µs" in page.inner_text("#span-facts")
        page.click("#stop")
        page.click("[data-close=threads]")
        page.wait_for_timeout(600)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.wait_for_timeout(1200)
        assert asked == [], "a closed view asks nothing"
