from __future__ import annotations

import struct

import pytest
from support.tiny_run import tiny_trainer

from weft.train.tensorboard import TensorBoardWriter, crc32c, record


@pytest.mark.parametrize(
    ("data", "expected"),
    # RFC 3720, appendix B.4
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (b"123456789", 0xE3069283),
    ],
)
def test_checksums_are_those_of_the_standard(data, expected):
    assert crc32c(data) == expected


def test_a_record_is_length_checksum_data_checksum():
    packed = record(b"abc")
    assert struct.unpack("<Q", packed[:8]) == (3,) and packed[12:15] == b"abc" and len(packed) == 19


def fields(data):
    """(number, value) of a message whose fields are all of the kinds that are written."""
    place = 0

    def varint():
        nonlocal place
        value, shift = 0, 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while place < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 5: 4}.get(key & 7) or varint()
        yield key >> 3, data[place : place + size]
        place += size


def test_a_run_leaves_its_numbers(tmp_path):
    with tiny_trainer(tmp_path / "run", [TensorBoardWriter(tmp_path / "board")], eval_every=6) as trainer:
        losses = [step.loss for step in trainer]
        trainer.finish()
    (path,) = (tmp_path / "board").iterdir()
    content, place, events = path.read_bytes(), 0, []
    while place < len(content):
        (size,) = struct.unpack_from("<Q", content, place)
        data = content[place + 12 : place + 12 + size]
        assert content[place : place + 16 + size] == record(data)
        events.append(dict(fields(data)))
        place += 16 + size
    assert events[0][3] == b"brain.Event:2" and [event[2] for event in events[1:]] == list(range(1, 13))
    found = []
    for event in events[1:]:
        values = [dict(fields(value)) for _, value in fields(event[5])]
        tags = {value[1].decode(): struct.unpack("<f", value[2])[0] for value in values}
        found.append(tags["train/loss"])
        assert ("valid/loss" in tags) == (event[2] in (6, 12))
    assert found == pytest.approx(losses, rel=1e-6)
