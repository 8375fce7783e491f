"""weft pull, list and rm, against a server on loopback; weft info."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.run_weft import Terminal, Weft
from tests.io.http_server import FileServer

REPOSITORY = "me/tiny"


@pytest.fixture
def hub(tiny: Path) -> Iterator[FileServer]:
    """A model hub that has the tiny model."""
    with FileServer() as server:
        siblings = []
        for path in tiny.iterdir():
            data = path.read_bytes()
            server.files[f"/{REPOSITORY}/resolve/main/{path.name}"] = data
            digest = hashlib.sha256(data).hexdigest()
            siblings.append({"rfilename": path.name, "size": len(data), "lfs": {"sha256": digest}})
        server.add_json(f"/api/models/{REPOSITORY}/revision/main?blobs=true", {"siblings": siblings})
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_from_pull_to_rm(lone_weft: Weft, hub: FileServer) -> None:
    weft, at_hub = lone_weft, {"HF_ENDPOINT": hub.url}
    assert "weft pull me/tiny" in weft.fails(1, "generate", "-m", REPOSITORY, "-p", "x")
    done = weft("pull", REPOSITORY, env=at_hub)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{REPOSITORY}  ") and "fetching model.safetensors" in done.stderr
    asked = len(hub.requests)
    again = weft("pull", REPOSITORY, "--json", "-q", env=at_hub)
    assert json.loads(again.stdout)[0]["name"] == REPOSITORY and again.stderr == ""
    assert len(hub.requests) == asked, "what is at hand is not fetched again"

    weft.ok("generate", "-m", REPOSITORY, "-p", "x", "-n", "1")
    (entry,) = json.loads(weft.ok("list", "--json"))["models"]
    assert entry["name"] == REPOSITORY and entry["packed_bytes"] > 0 and entry["source"] == f"hf:{REPOSITORY}"
    table = weft.ok("list")
    assert REPOSITORY in table and "weft pull smollm2-135m-instruct" in table and "\x1b" not in table

    assert f"did you mean {REPOSITORY}?" in weft.fails(1, "rm", "me/tinny")
    assert weft.ok("rm", REPOSITORY).startswith(f"removed {REPOSITORY}, ")
    assert json.loads(weft.ok("list", "--json"))["models"] == []
    weft.fails(1, "rm", REPOSITORY)


def test_a_fetch_that_breaks_off_leaves_no_model(lone_weft: Weft, hub: FileServer) -> None:
    hub.statuses = [404]
    assert lone_weft("pull", REPOSITORY, "-q", env={"HF_ENDPOINT": hub.url}).returncode == 1
    assert json.loads(lone_weft.ok("list", "--json"))["models"] == []
    lone_weft.ok("pull", REPOSITORY, "-q", env={"HF_ENDPOINT": hub.url})


def wrong_content(hub: FileServer) -> None:
    path = f"/{REPOSITORY}/resolve/main/model.safetensors"
    hub.files[path] = hub.files[path][:-4] + b"\0\0\0\1"


def wrong_length(hub: FileServer) -> None:
    hub.lie_about_length = 7


def circle(hub: FileServer) -> None:
    path = f"/{REPOSITORY}/resolve/main/model.safetensors"
    del hub.files[path]
    hub.redirects[path] = hub.url + path


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (wrong_content, "other content than it promised"),
        (wrong_length, "were promised"),
        (circle, "answers 302"),
    ],
)
def test_broken_downloads_are_one_line_and_no_model(
    lone_weft: Weft, hub: FileServer, spoil: Callable[[FileServer], None], expected: str
) -> None:
    lone_weft.environment["HF_ENDPOINT"] = hub.url
    spoil(hub)
    assert expected in lone_weft.fails(1, "pull", REPOSITORY, "-q")
    home = Path(lone_weft.environment["WEFT_HOME"])
    assert [path.name for path in (home / "models").iterdir() if path.name != ".partial"] == []
    assert list(home.rglob("*.safetensors")) == [], "nothing under the final name of a file"


def test_progress_in_a_terminal(lone_weft: Weft, hub: FileServer) -> None:
    lone_weft.environment["HF_ENDPOINT"] = hub.url
    shown = Terminal(lone_weft, "pull", REPOSITORY)
    assert shown.finish() == 0
    assert "100 % of" in shown.shown


def test_names_that_cannot_be(lone_weft: Weft) -> None:
    assert "did you mean stories15m?" in lone_weft.fails(1, "pull", "stories15")
    assert "does not exist" in lone_weft.fails(1, "pull", "./nothing")
    lone_weft.fails(1, "rm", "../models")


def test_info(lone_weft: Weft) -> None:
    told = json.loads(lone_weft.ok("info", "--json"))
    assert 1 <= told["threads"] <= told["affinity"]
    assert told["isa"] in told["isa_available"]
    assert told["models_folder"].startswith(lone_weft.environment["WEFT_HOME"])
    text = lone_weft.ok("info", env={"WEFT_ISA": "portable", "WEFT_CACHE": "0"})
    assert "portable (forced by WEFT_ISA)" in text and "WEFT_CACHE=0" in text and "\x1b" not in text


def test_colour_in_a_terminal_unless_forbidden(lone_weft: Weft) -> None:
    shown = Terminal(lone_weft, "list")
    assert shown.finish() == 0 and "\x1b[" in shown.shown
    lone_weft.environment["NO_COLOR"] = "1"
    shown = Terminal(lone_weft, "list")
    assert shown.finish() == 0 and "\x1b[3" not in shown.shown and "stories15m" in shown.shown
