"""Model files that are damaged, lie, or are hostile: each made from a good one by one change."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.tiny_gguf import tiny_gguf

EMBEDDING = "model.embed_tokens.weight"
NORM = "model.norm.weight"
NAN = struct.pack("<f", float("nan"))


class Damaged:
    """Makes damaged models below `place`, out of the good folder `good`."""

    def __init__(self, place: Path, good: Path) -> None:
        self.place = place
        self.good = good
        self._count = 0

    def folder(self) -> Path:
        """A copy of the good folder, to be damaged."""
        self._count += 1
        return Path(shutil.copytree(self.good, self.place / f"model-{self._count}"))

    def json(self, name: str, change: Callable[[dict[str, Any]], object]) -> Path:
        """A folder whose file `name` is what `change` makes of its object, in place."""
        folder = self.folder()
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))
        return folder

    def config(self, **settings: Any) -> Path:
        """A folder with `settings` in config.json."""
        return self.json("config.json", lambda content: content.update(settings))

    def file(self, name: str, content: bytes | None) -> Path:
        """A folder whose file `name` holds `content`, or is missing."""
        folder = self.folder()
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(content)
        return folder

    def tensors(self, change: Callable[[dict[str, Any], bytearray], object]) -> Path:
        """A folder whose safetensors file has its header and its data changed in place."""
        raw = (self.good / "model.safetensors").read_bytes()
        (size,) = struct.unpack_from("<Q", raw)
        header, data = json.loads(raw[8 : 8 + size]), bytearray(raw[8 + size :])
        change(header, data)
        encoded = json.dumps(header).encode()
        return self.file("model.safetensors", struct.pack("<Q", len(encoded)) + encoded + data)

    def huge(self) -> Path:
        """A folder whose weights are as the configuration says, well-formed, and 8 TiB: a file of holes."""
        width, vocabulary = 1 << 20, 1 << 21
        folder = self.config(hidden_size=width, vocab_size=vocabulary, num_hidden_layers=1, head_dim=32)
        tensors, offset = {}, 0
        shapes = {EMBEDDING: [vocabulary, width], NORM: [width]}
        for layer in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"model.layers.0.{layer}.weight"] = [width]
        for part, shape in _layer_shapes(width).items():
            shapes[f"model.layers.0.{part}.weight"] = shape
        for name, shape in shapes.items():
            end = offset + 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
            tensors[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, end]}
            offset = end
        encoded = json.dumps(tensors).encode()
        path = folder / "model.safetensors"
        path.write_bytes(struct.pack("<Q", len(encoded)) + encoded)
        os.truncate(path, 8 + len(encoded) + offset)
        return folder

    def gguf(self, change: Callable[[bytes], bytes] = bytes, **tokenizer: Any) -> Path:
        """A GGUF file: what `change` makes of a good one's bytes; `tokenizer`: other metadata of it."""
        return self._gguf_file(change(tiny_gguf(**tokenizer).build()))

    def gguf_tensor(
        self, kind: int | None = None, shape: tuple[int, ...] | None = None, fill: bytes = b""
    ) -> Path:
        """A GGUF file whose first tensor says another type or shape (as in the file), or holds `fill`."""
        builder = tiny_gguf()
        name, true_shape, true_kind, data = builder.tensors[0]
        data = fill * (len(data) // len(fill)) if fill else data
        builder.tensors[0] = (name, shape or true_shape, true_kind if kind is None else kind, data)
        return self._gguf_file(builder.build())

    def gguf_twice(self) -> Path:
        """A GGUF file that has a tensor twice."""
        builder = tiny_gguf()
        builder.tensors.append(builder.tensors[1])
        return self._gguf_file(builder.build())

    def _gguf_file(self, content: bytes) -> Path:
        self._count += 1
        path = self.place / f"model-{self._count}.gguf"
        path.write_bytes(content)
        return path


def _layer_shapes(width: int) -> dict[str, list[int]]:
    attention = {f"self_attn.{part}_proj": [64, width] for part in "qkv"}
    hidden = {f"mlp.{part}_proj": [48, width] for part in ("gate", "up")}
    return attention | {"self_attn.o_proj": [width, 64], "mlp.down_proj": [width, 48]} | hidden
