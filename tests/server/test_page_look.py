"""What the page shows and to whom: hostile text, screens, colours, keyboards, and the threads at work."""

from __future__ import annotations

from typing import Any

from tests.server.page_visit import answer_with, ask, visit, wait_for_answer, wait_until
from tests.server.running_server import Server

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


def test_a_narrow_screen(browser: Any, server: Server) -> None:
    with visit(browser, server, viewport={"width": 320, "height": 640}, has_touch=True) as page:
        answer_with(page, "wide " * 9 + "w" * 300 + "\n\n```\n" + "code " * 90 + "\n```")
        ask(page, "x" * 300)
        wait_for_answer(page)
        assert page.evaluate("document.documentElement.scrollWidth") == 320
        assert page.evaluate("document.querySelector('#scroll').scrollWidth") <= 320
        assert not page.is_visible("#sidebar")
        page.click("#open-sidebar")
        page.wait_for_selector("#conversations .conversation-open", state="visible")
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


def points_at_an_operation(page: Any) -> bool:
    """Whether the page tells about an operation that is pointed at, somewhere on a lane.

    Pointing holds the picture, and a step that is over before a thread woke has an empty lane: then the
    pointer leaves, so that a later step is shown.
    """
    for _ in range(20):
        for lane in page.locator(".lane-canvas").all():
            box = lane.bounding_box()
            for across in range(0, 300, 15):
                page.mouse.move(box["x"] + 5 + across, box["y"] + 10)
                if "µs" in page.inner_text("#span-facts"):
                    return True
        page.mouse.move(0, 0)
        page.wait_for_timeout(300)
    return False


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
        wait_until(page, f"{painted}.every((count) => count > 100)")
        assert points_at_an_operation(page)
        page.click("#stop")
        page.click("[data-close=threads]")
        page.wait_for_timeout(600)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.wait_for_timeout(1200)
        assert asked == [], "a closed view asks nothing"
