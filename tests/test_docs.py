"""Documents that cannot go stale: generated pages, commands and links that exist, two languages in step."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

import weft
from tests.support.tiny_folder import write_tiny_folder
from weft.cli.main import COMMANDS
from weft.cli.main import weft as group

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("README*.md"), ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])


def code_blocks(page: Path) -> list[str]:
    return re.findall(r"^```(?:\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_generated_pages_are_what_the_code_says() -> None:
    check = [sys.executable, str(ROOT / "tools" / "make_docs.py"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        assert "://" in target or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_flags_exist(page: Path) -> None:
    for line in "\n".join(code_blocks(page)).replace("\\\n", " ").splitlines():
        for call in re.findall(r"(?:^|&& )weft ([a-z]+)([^&#|]*)", line):
            name, rest = call
            assert name in COMMANDS, line
            command = group.get_command(click.Context(group), name)
            assert command is not None
            known = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}
            assert set(re.findall(r"(?:^|\s)(--?[a-z][\w-]*)", rest)) <= known, line


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a small model in place of the one that it names."""
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    tiny, load = write_tiny_folder(tmp_path / "tiny"), weft.load
    monkeypatch.setenv("WEFT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(weft, "load", lambda name, **settings: load(tiny, **settings))
    names: dict[str, Any] = {}
    exec(code, names)
    assert [len(answer.token_ids) for answer in names["answers"]] and names["squares"][3] == 9
    names["model"].close()


def test_the_readmes_say_the_same() -> None:
    english, chinese = (ROOT / name for name in ("README.md", "README.zh.md"))

    def shape(page: Path) -> tuple[list[int], list[str]]:
        blocks = [re.sub(r"#.*", "", block).split() for block in code_blocks(page)]
        text = page.read_text(encoding="utf-8")
        return [text.count(mark) for mark in ("\n## ", "\n| ", "\n- ")], [word for b in blocks for word in b]

    assert shape(english) == shape(chinese)
    numbers = [re.findall(r"\d[\d,.]*\d", page.read_text(encoding="utf-8")) for page in (english, chinese)]
    dates = {"25", "2026", "11"}
    assert sorted(set(numbers[0]) - dates) == sorted(set(numbers[1]) - dates)


def test_exported_names_are_documented() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert all(f"## weft.{name}\n" in page for name in weft.__all__)
