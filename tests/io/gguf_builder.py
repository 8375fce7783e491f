"""Writes GGUF files for tests: well-formed ones, and ones that lie."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
_CODES = {
    U8: "B",
    I8: "b",
    U16: "H",
    I16: "h",
    U32: "I",
    I32: "i",
    F32: "f",
    BOOL: "?",
    U64: "Q",
    I64: "q",
    F64: "d",
}
KINDS = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q4_K": 12, "Q5_K": 13,
         "Q6_K": 14, "BF16": 30}  # fmt: skip


def string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


@dataclass(frozen=True)
class ArrayOf:
    """An array value: `kind` of its items, and the items (ArrayOf again for nested arrays)."""

    kind: int
    items: Sequence[Any]


def value(kind: int, content: Any) -> bytes:
    """The bytes of one value, without its type."""
    if kind == STRING:
        return string(content)
    if kind == ARRAY:
        head = struct.pack("<IQ", content.kind, len(content.items))
        if content.kind in _CODES:
            return head + struct.pack(f"<{len(content.items)}{_CODES[content.kind]}", *content.items)
        return head + b"".join(value(content.kind, item) for item in content.items)
    return struct.pack("<" + _CODES[kind], content)


@dataclass
class GgufBuilder:
    """Collects metadata and tensors; `build()` gives the file's bytes."""

    version: int = 3
    alignment: int = 32
    metadata: list[tuple[str, int, Any]] = field(default_factory=list)
    tensors: list[tuple[str, tuple[int, ...], int, bytes]] = field(default_factory=list)

    def add(self, key: str, kind: int, content: Any) -> GgufBuilder:
        self.metadata.append((key, kind, content))
        return self

    def tensor(self, name: str, kind: str | int, shape: tuple[int, ...], data: bytes) -> GgufBuilder:
        """`shape` is rows first, as weft shows it; the file lists the extents the other way round."""
        self.tensors.append((name, shape[::-1], KINDS[kind] if isinstance(kind, str) else kind, data))
        return self

    def build(self) -> bytes:
        parts = [b"GGUF", struct.pack("<IQQ", self.version, len(self.tensors), len(self.metadata))]
        parts += [
            string(key) + struct.pack("<I", kind) + value(kind, content)
            for key, kind, content in self.metadata
        ]
        offset, body = 0, b""
        for name, extents, kind, data in self.tensors:
            dimensions = struct.pack(f"<I{len(extents)}Q", len(extents), *extents)
            parts.append(string(name) + dimensions + struct.pack("<IQ", kind, offset))
            body += data + b"\0" * (-len(data) % self.alignment)
            offset = len(body)
        header = b"".join(parts)
        return header + b"\0" * (-len(header) % self.alignment) + body


def tiny_model(
    extra: Sequence[tuple[str, int, Any]] = (), *, width: int = 64, vocab: int = 320, layers: int = 2
) -> GgufBuilder:
    """A Llama of two query heads a key/value head that is complete but for its numbers, which are zero."""
    builder = GgufBuilder()
    for key, kind, content in (
        ("general.architecture", STRING, "llama"),
        ("llama.embedding_length", U32, width),
        ("llama.feed_forward_length", U32, 96),
        ("llama.block_count", U32, layers),
        ("llama.context_length", U32, 128),
        ("llama.attention.head_count", U32, 4),
        ("llama.attention.head_count_kv", U32, 2),
        ("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
        *extra,
    ):
        builder.add(key, kind, content)
    builder.tensor("token_embd.weight", "Q8_0", (vocab, width), bytes(vocab * width // 32 * 34))
    for layer in range(layers):
        for name, rows in (
            ("attn_q", width),
            ("attn_k", width // 2),
            ("attn_v", width // 2),
            ("attn_output", width),
        ):
            builder.tensor(
                f"blk.{layer}.{name}.weight", "Q4_1", (rows, width), bytes(rows * width // 32 * 20)
            )
        for name in ("attn_norm", "ffn_norm"):
            builder.tensor(f"blk.{layer}.{name}.weight", "F32", (width,), bytes(4 * width))
        for name, shape in (("ffn_gate", (96, width)), ("ffn_up", (96, width)), ("ffn_down", (width, 96))):
            builder.tensor(f"blk.{layer}.{name}.weight", "F16", shape, bytes(96 * width * 2))
    return builder.tensor("output_norm.weight", "F32", (width,), bytes(4 * width))
