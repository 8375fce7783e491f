"""TensorBoard's event files, written without its package: records of protocol buffers with CRC-32C.

Format: TensorFlow's `record_writer.cc`, and its messages Event and Summary, of which a few fields are used.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from weft.train.report import Callback, StepReport, TrainingResult

_POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), bits reversed
_MASK = 0xA282EAD8
_LENGTH_DELIMITED, _FIXED64, _FIXED32, _VARINT = 2, 1, 5, 0


def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """CRC-32C of a few bytes (a table look-up for each)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


class TensorBoardWriter(Callback):
    """Writes the numbers of each step to an event file in `folder`, for `tensorboard --logdir`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns() // 10**9}.{socket.gethostname()}.{os.getpid()}.weft"
        self._file = open(folder / name, "ab")  # noqa: SIM115 - open until the run ends
        self._write(_field(3, _LENGTH_DELIMITED, b"brain.Event:2"))

    def on_step(self, report: StepReport) -> None:
        scalars: dict[str, float | None] = {
            "train/loss": report.loss,
            "train/accuracy": report.accuracy,
            "train/learning_rate": report.learning_rate,
            "train/gradient_norm": report.gradient_norm,
            "train/tokens_per_second": report.tokens_per_second,
        }
        if report.validation is not None:
            scalars["valid/loss"] = report.validation.loss
            scalars["valid/perplexity"] = report.validation.perplexity
        known = {name: value for name, value in scalars.items() if value is not None}
        self._write(_field(2, _VARINT, report.step) + _field(5, _LENGTH_DELIMITED, _summary(known)))
        self._file.flush()

    def on_end(self, result: TrainingResult) -> None:
        self._file.close()

    def _write(self, event: bytes) -> None:
        self._file.write(record(_field(1, _FIXED64, time.time()) + event))


def record(data: bytes) -> bytes:
    """`data` between its length and checksums."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", _masked(length)) + data + struct.pack("<I", _masked(data))


def _masked(data: bytes) -> int:
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF


def _summary(scalars: Mapping[str, float]) -> bytes:
    return b"".join(
        _field(
            1,
            _LENGTH_DELIMITED,
            _field(1, _LENGTH_DELIMITED, tag.encode()) + _field(2, _FIXED32, value),
        )
        for tag, value in scalars.items()
    )


def _field(number: int, kind: int, value: bytes | float | int) -> bytes:
    key = _varint(number << 3 | kind)
    if isinstance(value, bytes):
        return key + _varint(len(value)) + value
    if kind == _VARINT:
        return key + _varint(int(value))
    return key + struct.pack("<d" if kind == _FIXED64 else "<f", value)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
