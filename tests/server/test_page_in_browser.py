"""Chats on the page: the real server process, a real model, and headless Chromium."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.server.page_visit import (
    LAST,
    MODELS,
    answer_with,
    ask,
    set_numbers,
    visit,
    wait_for_answer,
    wait_until,
)
from tests.server.running_server import Server, running


def test_an_answer_streams_and_survives_a_reload(browser: Any, real: Server) -> None:
    question = "Write a long story about a loom."
    with visit(browser, real) as page:
        set_numbers(page, temperature=0, max_tokens=96)
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
        body = {"messages": messages, "temperature": 0, "max_tokens": 96}
        told = real.ok("/v1/chat/completions", body)
        assert shown.split() == told["choices"][0]["message"]["content"].split()
        facts = page.inner_text(".assistant .message-facts")
        assert facts.startswith(f"{told['usage']['completion_tokens']} tokens · ") and "tokens/s" in facts
        page.reload()
        assert page.locator(".assistant .message-text").inner_text() == shown
        assert page.input_value("[name=max_tokens]") == "96"
        with page.expect_request("**/v1/chat/completions") as request:
            ask(page, "Who uses it?")
        sent = request.value.post_data_json
        assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]
        assert (sent["temperature"], sent["max_tokens"]) == (0, 96) and "top_p" not in sent
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


def test_a_question_is_changed(browser: Any, server: Server) -> None:
    with visit(browser, server) as page:
        answer_with(page, "yes")
        for text in ("first", "second", "third"):
            ask(page, text)
            wait_for_answer(page)
        page.hover(".user >> nth=1")
        page.click(".message-edit >> nth=1")
        assert page.input_value("#prompt") == "second" and page.locator(".message").count() == 2
        with page.expect_request("**/v1/chat/completions") as request:
            ask(page, "another")
        assert [m["content"] for m in request.value.post_data_json["messages"]] == ["first", "yes", "another"]
        wait_for_answer(page)
        assert page.locator(".message").count() == 4


def test_a_copy_is_made(browser: Any, server: Server) -> None:
    with visit(browser, server, permissions=["clipboard-read", "clipboard-write"]) as page:
        answer_with(page, "said\n```\nx = 1\n```")
        ask(page, "a")
        wait_for_answer(page)
        page.click(".assistant .message-copy")
        wait_until(page, "document.querySelector('.assistant .message-copy').matches('.copied')")
        assert page.evaluate("navigator.clipboard.readText()") == "said\n```\nx = 1\n```"
        page.click(".code-copy")
        wait_until(page, "document.querySelector('.code-copy').matches('.copied')")
        assert page.evaluate("navigator.clipboard.readText()") == "x = 1"
