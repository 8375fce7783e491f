"""The GGUF reader: what it reads, and each lie that it refuses."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import pytest

from tests.io.gguf_builder import (
    ARRAY,
    BOOL,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    STRING,
    U8,
    U16,
    U32,
    U64,
    ArrayOf,
    GgufBuilder,
    string,
)
from weft.errors import ModelFileError, ModelNotFoundError
from weft.io.gguf.metadata import StringArray
from weft.io.gguf.reader import GgufFile, open_gguf, parse_gguf


def parse(data: bytes) -> GgufFile:
    return parse_gguf(memoryview(data), "test.gguf")


def with_tensor(**changes: object) -> bytes:
    """A file of one tensor, whose described parts can be changed without changing its data."""
    fields = {
        "name": b"t",
        "extents": (32, 2),
        "kind": 8,
        "offset": 0,
        "dimensions": None,
        "data": 2 * 34,
    } | changes
    extents = fields["extents"]
    count = len(extents) if fields["dimensions"] is None else fields["dimensions"]
    info = string(fields["name"]) + struct.pack(f"<I{len(extents)}Q", count, *extents)
    header = (
        b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + info + struct.pack("<IQ", fields["kind"], fields["offset"])
    )
    return header + bytes(-len(header) % 32) + bytes(fields["data"])


@pytest.mark.parametrize("version", [2, 3])
def test_metadata_of_every_type_is_read(version: int) -> None:
    builder = GgufBuilder(version=version)
    scalars = {U8: 200, I8: -3, U16: 60000, I16: -300, U32: 4_000_000_000, I32: -5, F32: 0.5, BOOL: True,
               U64: 2**64 - 1, I64: -(2**63), F64: 1e300, STRING: "naïve 漢"}  # fmt: skip
    for kind, content in scalars.items():
        builder.add(f"key.{kind}", kind, content)
    file = parse(builder.build())
    assert file.version == version
    assert {key: file.metadata[key] for key in file.metadata} == {f"key.{k}": v for k, v in scalars.items()}
    assert file.metadata[f"key.{BOOL}"] is True


def test_arrays_are_read_on_demand() -> None:
    builder = GgufBuilder()
    builder.add("numbers", ARRAY, ArrayOf(I16, [1, -2, 3]))
    builder.add("texts", ARRAY, ArrayOf(STRING, ["a", "", "漢"]))
    builder.add("nested", ARRAY, ArrayOf(ARRAY, [ArrayOf(U8, [1]), ArrayOf(STRING, ["x"])]))
    builder.add("after", U8, 1)
    file = parse(builder.build())
    assert file.numbers("numbers").tolist() == [1, -2, 3]
    texts = file.metadata["texts"]
    assert isinstance(texts, StringArray) and len(texts) == 3 and list(texts) == ["a", "", "漢"]
    inner, more = file.metadata["nested"]
    assert inner.tolist() == [1] and more.decode() == ["x"]
    assert file.integer("after") == 1


def test_tensors_are_views_with_rows_first() -> None:
    data = bytes(range(68))
    builder = GgufBuilder(alignment=64).add("general.alignment", U32, 64)
    builder.tensor("a", "Q8_0", (2, 32), data).tensor("b", "F32", (3,), struct.pack("<3f", 1, 2, 3))
    file = parse(builder.build())
    assert file.tensors["a"].shape == (2, 32) and file.tensors["a"].data == data
    assert file.tensors["b"].dequantize().tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a GGUF file"),
        (b"GGUX" + bytes(20), "not a GGUF file"),
        (b"GGUF\x03", "the file ends"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "this is version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian file of version 3"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0), "at most"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**40), "at most"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**64 - 1), "metadata key"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("k") + struct.pack("<IQ", 8, 2**60), "value of 'k'"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("k") + struct.pack("<I", 13), "type 13"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string(b"\xff"), "not UTF-8"),
        (GgufBuilder().add("k", U8, 1).add("k", U8, 1).build(), "twice"),
        (GgufBuilder().add("general.alignment", U32, 33).build(), "power of two"),
        (GgufBuilder().add("general.alignment", U32, 0).build(), "power of two"),
        (GgufBuilder().add("general.alignment", STRING, "32").build(), "power of two"),
        (with_tensor(dimensions=0), "has 0 dimensions"),
        (with_tensor(dimensions=2**31), "dimensions"),
        (with_tensor(extents=(0, 2)), "extents of at least 1"),
        (with_tensor(extents=(33, 2)), "whole Q8_0 blocks"),
        (with_tensor(extents=(2**62, 2**62)), "takes"),
        (with_tensor(extents=(32, 3)), "takes|reaches"),
        (with_tensor(offset=1), "not at a multiple of 32"),
        (with_tensor(offset=2**63), "reaches"),
        (with_tensor(offset=32), "reaches"),
        (with_tensor(name=b"n" * 1000), "tensor name"),
        (with_tensor(kind=17), "IQ2_XS, weft reads F32"),
        (with_tensor(kind=4), "type 4"),
        (GgufBuilder().tensor("a", "F32", (1,), bytes(4)).tensor("a", "F16", (1,), b"12").build(), "twice"),
    ],
)  # fmt: skip
def test_lies_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ModelFileError, match=message) as caught:
        parse(data)
    assert "\n" not in str(caught.value)


def test_overlapping_tensors_are_refused() -> None:
    data = bytearray(
        GgufBuilder().tensor("a", "F32", (16,), bytes(64)).tensor("b", "F32", (16,), bytes(64)).build()
    )
    at = data.index(struct.pack("<IQ", 0, 64))
    data[at : at + 12] = struct.pack("<IQ", 0, 32)
    with pytest.raises(ModelFileError, match="'a' and 'b' overlap"):
        parse(bytes(data))


def test_every_truncation_is_refused() -> None:
    builder = (
        GgufBuilder().add("texts", ARRAY, ArrayOf(STRING, ["a", "bb"])).add("n", ARRAY, ArrayOf(U32, [1, 2]))
    )
    data = builder.tensor("t", "Q4_1", (1, 32), bytes(20)).build()
    for size in range(len(data) - 12):
        with pytest.raises(ModelFileError):
            parse(data[:size])


@pytest.mark.parametrize("count", [2**64 - 1, 2**40, 2**22 + 1, 10])
def test_lying_array_lengths_cost_nothing(count: int) -> None:
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("k") + struct.pack("<I", ARRAY)
    for kind in (U8, F64, STRING, ARRAY):
        start = time.process_time()
        with pytest.raises(ModelFileError):
            parse(head + struct.pack("<IQ", kind, count) + bytes(9))
        assert time.process_time() - start < 0.5


def test_deep_and_wide_nesting_is_refused() -> None:
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("k") + struct.pack("<I", ARRAY)
    with pytest.raises(ModelFileError, match="nests arrays"):
        parse(head + struct.pack("<IQ", ARRAY, 1) * 100000)
    with pytest.raises(ModelFileError, match="nests arrays"):
        parse(head + struct.pack("<IQ", ARRAY, 100000) + struct.pack("<IQ", U8, 0) * 100000)


def test_typed_access_says_what_is_wrong() -> None:
    file = parse(GgufBuilder().add("text", STRING, "x").add("flag", BOOL, True).build())
    for call in (
        lambda: file.integer("text"),
        lambda: file.integer("flag"),
        lambda: file.integer("none"),
        lambda: file.number("text"),
        lambda: file.text("flag"),
        lambda: file.strings("text"),
        lambda: file.numbers("text"),
    ):
        with pytest.raises(ModelFileError, match="must be"):
            call()
    assert file.integer("none", 3) == 3 and file.numbers("none") is None


def test_files_are_named_in_errors(tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"nonsense")
    with pytest.raises(ModelFileError, match=r"bad\.gguf is not a GGUF file"):
        open_gguf(path)
    with pytest.raises(ModelNotFoundError):
        open_gguf(tmp_path / "none.gguf")


def test_a_real_file_opens_quickly(smollm2_file: Path) -> None:
    times = []
    for _ in range(5):
        start = time.process_time()
        file = open_gguf(smollm2_file)
        times.append(time.process_time() - start)
    assert len(file.tensors) == 272 and len(file.strings("tokenizer.ggml.tokens")) == 49152
    # 15 ms on an idle core of the machine this was written on; a shared machine gets ten times that.
    assert min(times) < 0.15
