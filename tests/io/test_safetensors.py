"""The safetensors reader and writer, against the format's own package and against lies."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weft.errors import ModelFileError, ModelNotFoundError
from weft.io.safetensors import open_safetensors, open_sharded, parse_safetensors, write_safetensors
from weft.io.tensor_source import TensorSource


def file_of(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded) if length is None else length) + encoded + data


def entry(kind: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": offsets}


def source(name: str, array: np.ndarray, kind: str) -> TensorSource:
    return TensorSource(name, kind, array.shape, memoryview(array.tobytes()))


def test_reads_what_the_package_writes(tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    rng = np.random.default_rng(0)
    arrays = {
        "a": rng.normal(size=(3, 5)).astype(np.float32),
        "b": rng.normal(size=7).astype(np.float16),
        "scalar": np.array(2, np.float32),
        "none": np.zeros((0, 4), np.float32),
        "ids": np.arange(3, dtype=np.int64),
    }
    numpy.save_file(arrays, tmp_path / "m.safetensors", metadata={"format": "np"})
    file = open_safetensors(tmp_path / "m.safetensors")
    assert file.metadata == {"format": "np"} and file.tensors.keys() == arrays.keys()
    for name, array in arrays.items():
        assert file.tensors[name].shape == array.shape
        assert file.tensors[name].data == array.tobytes()
    np.testing.assert_array_equal(file.tensors["b"].dequantize(), arrays["b"].astype(np.float32))


def test_the_package_reads_what_is_written(tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    rng = np.random.default_rng(0)
    wide, half = rng.normal(size=(3, 5)).astype(np.float32), rng.normal(size=3).astype(np.float16)
    path = tmp_path / "m.safetensors"
    write_safetensors(path, [source("half", half, "F16"), source("wide", wide, "F32")], {"step": "7"})
    read = numpy.load_file(path)
    np.testing.assert_array_equal(read["wide"], wide)
    np.testing.assert_array_equal(read["half"], half)
    file = open_safetensors(path)
    assert file.metadata == {"step": "7"} and file.header_bytes % 64 == 0
    assert list(tmp_path.iterdir()) == [path]


def test_bfloat16_is_read_as_its_float32(tmp_path: Path) -> None:
    values = np.array([1.0, -2.5, 3.1415927, 1e30], np.float32)
    stored = (values.view(np.uint32) >> 16).astype(np.uint16)
    write_safetensors(tmp_path / "m.safetensors", [source("x", stored, "BF16")])
    expected = (stored.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(
        open_safetensors(tmp_path / "m.safetensors").tensors["x"].dequantize(), expected
    )


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_safetensors(path, [source("x", np.ones(2, np.float32), "F32")])
    before = path.read_bytes()
    bad = TensorSource("y", "Q8_0", (1, 32), memoryview(bytes(34)))
    with pytest.raises(ModelFileError, match="dequantize it first"):
        write_safetensors(path, [bad])
    with pytest.raises(ModelFileError, match="twice"):
        write_safetensors(path, [source("x", np.ones(2, np.float32), "F32")] * 2)
    with pytest.raises(ModelFileError, match="does not have"):
        write_safetensors(path, [TensorSource("z", "F32", (3,), memoryview(bytes(8)))])
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "at least 10 bytes"),
        (file_of(b"{}", length=2**64 - 1), "it says 18446744073709551615"),
        (file_of(b"{}", length=3), "a header of up to"),
        (file_of(b"[]"), "a JSON object was expected"),
        (file_of(b"{nonsense"), "not valid JSON"),
        (file_of(b"\xff\xfe"), "not valid JSON"),
        (file_of(b'{"a":' * 100000), "nested too deeply"),
        (file_of(b'{"a":[' + b"1," * (1 << 20) + b"1]}"), "JSON values"),
        (file_of(b'{"a":1' + b"0" * 5000 + b"}"), "not valid JSON"),
        (file_of(b'{"a":{},"a":{}}'), "twice"),
        (file_of({"__metadata__": {"a": 1}}), "__metadata__"),
        (file_of({"__metadata__": []}), "__metadata__"),
        (file_of({"a": []}, bytes(8)), "exactly dtype, shape and data_offsets"),
        (file_of({"a": entry() | {"more": 1}}, bytes(8)), "exactly dtype"),
        (file_of({"a": entry("F8_E4M3", offsets=[0, 2])}, bytes(2)), "'F8_E4M3', weft reads"),
        (file_of({"a": entry(3)}, bytes(8)), "weft reads"),
        (file_of({"a": entry(shape=[-2])}, bytes(8)), "a shape"),
        (file_of({"a": entry(shape=[2.0])}, bytes(8)), "a shape"),
        (file_of({"a": entry(shape=[True, 2])}, bytes(8)), "a shape"),
        (file_of({"a": entry(shape=[1] * 9)}, bytes(8)), "a shape"),
        (file_of({"a": entry(shape=[2**62, 2**62])}, bytes(8)), "a shape of less than"),
        (file_of({"a": entry(shape=[3, 2**62, 0], offsets=[0, 0])}), "a shape of less than"),
        (file_of({"a": entry(offsets=[8, 0])}, bytes(8)), "begin, end"),
        (file_of({"a": entry(offsets=[0, 8, 8])}, bytes(8)), "begin, end"),
        (file_of({"a": entry(shape=[2**20, 2**20])}, bytes(8)), "takes"),
        (file_of({"a": entry(shape=[3])}, bytes(8)), "takes 12 bytes, not 8"),
        (file_of({"a": entry()}, bytes(7)), "reaches to byte 8"),
        (file_of({"a": entry()}, bytes(9)), "end at byte 8"),
        (file_of({"a": entry(offsets=[1, 9])}, bytes(9)), "leaves a gap"),
        (file_of({"a": entry(), "b": entry(offsets=[4, 12])}, bytes(12)), "overlaps"),
    ],
)  # fmt: skip
def test_lies_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ModelFileError, match=message) as caught:
        parse_safetensors(memoryview(data), "test.safetensors")
    assert len(str(caught.value)) < 1000


def shard(folder: Path, name: str, *tensors: str) -> None:
    write_safetensors(folder / name, [source(t, np.full(2, len(t), np.float32), "F32") for t in tensors])


def write_index(folder: Path, weight_map: Any) -> Path:
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return path


def test_shards_are_read_through_their_index(tmp_path: Path) -> None:
    shard(tmp_path, "a.safetensors", "one", "three")
    shard(tmp_path, "b.safetensors", "two")
    index = write_index(tmp_path, {"one": "a.safetensors", "three": "a.safetensors", "two": "b.safetensors"})
    tensors, release = open_sharded(index)
    assert {name: tensor.dequantize().tolist() for name, tensor in tensors.items()} == {
        "one": [3, 3], "three": [5, 5], "two": [3, 3],
    }  # fmt: skip
    release()


@pytest.mark.parametrize(
    "file", ["../a.safetensors", "/etc/passwd", "sub/a.safetensors", "..", "", "a\0b", "a\\b", 3]
)
def test_shards_outside_of_the_folder_are_refused(tmp_path: Path, file: Any) -> None:
    (tmp_path / "in").mkdir()
    shard(tmp_path, "a.safetensors", "one")
    with pytest.raises(ModelFileError, match="refused"):
        open_sharded(write_index(tmp_path / "in", {"one": file}))


def test_a_lying_index_is_refused(tmp_path: Path) -> None:
    shard(tmp_path, "a.safetensors", "one")
    with pytest.raises(ModelNotFoundError, match=r"names the shard b\.safetensors, which is missing"):
        open_sharded(write_index(tmp_path, {"one": "b.safetensors"}))
    with pytest.raises(ModelFileError, match="has no such tensor"):
        open_sharded(write_index(tmp_path, {"two": "a.safetensors"}))
    for nonsense in ({}, [], "text", None):
        with pytest.raises(ModelFileError, match="weight_map"):
            open_sharded(write_index(tmp_path, nonsense))
