"""Bad files, settings and machines through the real command: one line that says what to do, and no more.

A line names what was expected, what came and what to do; the tests look for a part of each. What the
readers refuse is tested case by case in tests/io and tests/models; here, one process each, what a user
would see.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.damaged_models import EMBEDDING, NAN, NORM, Damaged
from tests.cli.run_weft import Weft, command
from tests.io.gguf_builder import STRING

ENDLESS_LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
DOUBLING = {"type": "Replace", "pattern": {"String": "x"}, "content": "x" * 10}


@pytest.fixture
def damaged(tmp_path: Path, tiny: Path) -> Damaged:
    return Damaged(tmp_path, tiny)


def put(target: dict[str, Any], **values: Any) -> None:
    target.update(values)


FILES: dict[str, tuple[Callable[[Damaged], Path], tuple[str, ...]]] = {
    "gguf cut short": (lambda d: d.gguf(lambda c: c[:-1]), ("reaches to byte", "copy it again")),
    "gguf cut in its header": (lambda d: d.gguf(lambda c: c[:100]), ("ends at byte 100", "copy it again")),
    "gguf of a later version": (
        lambda d: d.gguf(lambda c: c[:4] + b"\x09" + c[5:]),
        ("versions 2 and 3", "version 9", "convert"),
    ),
    "gguf with 2^63 tensors": (
        lambda d: d.gguf(lambda c: c[:8] + bytes(7) + b"\x80" + c[16:]),
        ("at most 65536", "copy it again"),
    ),
    "gguf of an unknown architecture": (
        lambda d: d.gguf(lambda c: c.replace(b"llama", b"mamba")),
        ("'mamba'", "weft runs llama", "another model"),
    ),
    "gguf of an unread quantization": (
        lambda d: d.gguf_tensor(kind=17),
        ("IQ2_XS", "weft reads", "llama-quantize"),
    ),
    "gguf of an unknown type": (lambda d: d.gguf_tensor(kind=99), ("type 99", "take another file")),
    "gguf shape that overflows": (
        lambda d: d.gguf_tensor(shape=(64, 2**60)),
        ("the file has", "copy it again"),
    ),
    "gguf with a tensor twice": (lambda d: d.gguf_twice(), ("is there twice", "copy it again")),
    "gguf with a scale that is no number": (
        lambda d: d.gguf_tensor(fill=b"\0\x7e"),
        ("finite", "nan", EMBEDDING, "damaged"),
    ),
    "gguf without a tokenizer": (lambda d: d.gguf(model=None), ("no tokenizer", "use a file that does")),
    "gguf of an unknown tokenizer": (lambda d: d.gguf(model=(STRING, "rwkv")), ("'rwkv'", "tokenizer.json")),
    "safetensors cut short": (
        lambda d: d.tensors(lambda h, data: data.__delitem__(slice(-9, None))),
        (NORM, "there are", "copy it again"),
    ),
    "safetensors with overlapping tensors": (
        lambda d: d.tensors(lambda h, data: put(h[NORM], data_offsets=[0, 128])),
        ("overlaps", "copy it again"),
    ),
    "safetensors shape that overflows": (
        lambda d: d.tensors(lambda h, data: put(h[EMBEDDING], shape=[2**62, 4])),
        (EMBEDDING, "shape of less than", "copy it again"),
    ),
    "safetensors of another shape": (
        lambda d: d.tensors(lambda h, data: put(h[EMBEDDING], shape=[32, 258])),
        (EMBEDDING, "(258, 32)", "(32, 258)", "belong together"),
    ),
    "safetensors of an unread type": (
        lambda d: d.tensors(lambda h, data: put(h[EMBEDDING], dtype="F8_E4M3")),
        ("F8_E4M3", "weft reads F32", "take the model in"),
    ),
    "safetensors without a tensor": (
        lambda d: d.tensors(lambda h, data: put(h, other=h.pop(NORM))),
        (NORM, "take the whole model"),
    ),
    "weights that are not numbers": (
        lambda d: d.tensors(lambda h, data: data.__setitem__(slice(400, 404), NAN)),
        (EMBEDDING, "finite", "nan", "damaged"),
    ),
    "norms that are not numbers": (
        lambda d: d.tensors(lambda h, data: data.__setitem__(slice(-4, None), NAN)),
        (NORM, "finite", "copy"),
    ),
    "a shard outside the folder": (
        lambda d: d.file("model.safetensors.index.json", b'{"weight_map": {"a": "../../etc/passwd"}}'),
        ("beside the index", "../../etc/passwd", "another source"),
    ),
    "a billion layers": (
        lambda d: d.config(num_hidden_layers=10**9),
        ("1 to 4096", "1000000000", "own configuration"),
    ),
    "sizes of a wrong type": (
        lambda d: d.config(hidden_size=[32]),
        ("whole number", "'[32]'", "own configuration"),
    ),
    "a feed-forward of another size": (
        lambda d: d.config(intermediate_size=64),
        ("(64, 32)", "(48, 32)", "belong together"),
    ),
    "rotary settings of a wrong type": (
        lambda d: d.config(rope_scaling=[1]),
        ("rope_scaling", "dict", "'[1]'", "own config.json"),
    ),
    "an unknown architecture": (
        lambda d: d.config(architectures=["MambaForCausalLM"]),
        ("MambaForCausalLM", "choose another model"),
    ),
    "a configuration without end": (
        lambda d: d.file("config.json", b"[" * 100_000),
        ("nested too deeply", "damaged"),
    ),
    "recommended settings that cannot be": (
        lambda d: d.file("generation_config.json", b'{"temperature": "hot"}'),
        ("generation_config.json", "temperature", "'hot'"),
    ),
    "no tokenizer": (
        lambda d: d.file("tokenizer.json", None),
        ("no tokenizer", "tokenizer.json", "fetch the whole model"),
    ),
    "a tokenizer of huge ids": (
        lambda d: d.json("tokenizer.json", lambda t: put(t["model"]["vocab"], zz=2**31)),
        ("ids below", "2147483648", "fetch it again"),
    ),
    "a tokenizer with other ids than the model": (
        lambda d: d.json("tokenizer.json", lambda t: put(t["model"]["vocab"], x=100_000)),
        ("0 to 257", "100000", "this model's tokenizer"),
    ),
    "a normalizer that multiplies texts": (
        lambda d: d.json(
            "tokenizer.json", lambda t: put(t, normalizer={"type": "Sequence", "normalizers": [DOUBLING] * 9})
        ),
        ("lengthens texts", "another source"),
    ),
    "a device": (lambda d: Path("/dev/zero"), ("neither a file nor a folder", "copy the model")),
    "a model of 8 TiB": (lambda d: d.huge(), ("GiB of memory that are left", "8.0 TiB", "smaller model")),
}


@pytest.mark.parametrize("name", FILES)
def test_bad_models_are_refused(weft: Weft, damaged: Damaged, name: str) -> None:
    make, expected = FILES[name]
    line = weft.fails(1, "generate", "-m", make(damaged), "-p", "x", "-n", "2", "-q")
    assert all(part in line for part in expected), line
    assert "fault of weft" not in line and len(line) < 1500


@pytest.mark.parametrize(
    ("code", "arguments", "environment", "expected"),
    [
        (1, ["--kv-memory", "1TiB"], {}, ("GiB of memory that are left", "1.0 TiB", "lower")),
        (2, ["--kv-memory", "9" * 400 + "TiB"], {}, ("less than 4 EiB", "lower it")),
        (2, ["-t", "9" * 20], {}, ("threads of at most 1024", "lower it")),
        (2, ["--max-rows", "9" * 20], {}, ("max_rows of at most", "lower it")),
        (2, ["--seed", "1e5"], {}, ("--seed", "'1e5'", "--help")),
        (2, ["--frobnicate"], {}, ("--frobnicate", "--help")),
        (2, [], {"WEFT_TOP_P": "7"}, ("top_p", "1e-06 to 1,", "got 7")),
        (2, [], {"WEFT_ISA": "sse9"}, ("'sse9'", "set WEFT_ISA to one of")),
        (1, ["-p", "x" * 70_000], {}, ("context of 65536 tokens", "70000", "shorten it")),
    ],
)
def test_bad_settings_are_refused(
    weft: Weft,
    tiny: Path,
    code: int,
    arguments: list[str],
    environment: dict[str, str],
    expected: tuple[str, ...],
) -> None:
    line = weft.fails(code, "generate", "-m", tiny, "-p", "x", "-q", *arguments, env=environment)
    assert all(part in line for part in expected), line


def test_an_instruction_set_that_is_not_here_is_refused(weft: Weft, tiny: Path) -> None:
    from weft.runtime import available_isas

    missing = sorted({"avx2", "avx512"} - set(available_isas()))
    if not missing:
        pytest.skip("this machine runs every instruction set")
    line = weft.fails(1, "generate", "-m", tiny, "-p", "x", env={"WEFT_ISA": missing[0]})
    assert repr(missing[0]) in line and "of this machine" in line and "portable" in line


def test_hostile_templates_are_bounded(weft: Weft, damaged: Damaged) -> None:
    model = damaged.json("tokenizer_config.json", lambda content: put(content, chat_template=ENDLESS_LOOP))
    line = weft.fails(1, "chat", model, "--prompt", "hi", "-n", "1")
    assert "steps or 5 s" in line and "give another template" in line


def test_a_cache_that_cannot_be_written_is_a_warning(weft: Weft, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "home").write_bytes(b"a file where a folder should be")
    done = weft("generate", "-m", tiny, "-p", "x", "-n", "1", "-q", env={"WEFT_HOME": str(tmp_path / "home")})
    assert done.returncode == 0 and done.stdout
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("weft: packed weights cannot be kept")
    assert "set WEFT_HOME" in done.stderr


def test_a_full_disk_leaves_nothing_half_written(weft: Weft, tiny: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for a disk with 64 KiB left."""
    home = tmp_path / "home"
    done = _limited(
        weft, home, resource.RLIMIT_FSIZE, 1 << 16, "generate", "-m", tiny, "-p", "x", "-n", "1", "-q"
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1 and "packed weights cannot be kept" in done.stderr
    assert [path for path in home.rglob("*") if path.is_file()] == []


def test_output_to_a_full_disk_is_said(weft: Weft, tiny: Path) -> None:
    with open("/dev/full", "w") as full:
        arguments = command("generate", "-m", tiny, "-p", "x", "-n", "4", "-q", "--ignore-eos")
        done = subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            env=weft.environment,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr == "weft: the output: No space left on device; make room, or write elsewhere\n"


def test_a_limit_of_memory_is_respected(weft: Weft, tiny: Path, tmp_path: Path) -> None:
    limit = 1 << 30
    done = _limited(
        weft,
        tmp_path,
        resource.RLIMIT_AS,
        limit,
        "generate",
        "-m",
        tiny,
        "-p",
        "x",
        "--kv-memory",
        "1GiB",
        "-q",
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert "MiB of memory that are left" in done.stderr and "1.0 GiB" in done.stderr


def _limited(
    weft: Weft, home: Path, kind: int, limit: int, *arguments: str | Path
) -> subprocess.CompletedProcess[str]:
    """Runs the command under a limit of the system."""
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit({kind}, ({limit}, {limit}))\n"
        "from weft.cli.main import main\n"
        f"sys.argv = {['weft', *map(str, arguments)]!r}\n"
        "main()\n"
    )
    environment = {**weft.environment, "WEFT_HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        env=environment,
        text=True,
        stdin=subprocess.DEVNULL,
    )
