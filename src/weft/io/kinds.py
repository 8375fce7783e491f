"""The kinds of elements that tensors of model files have, and how they are grouped in blocks of bytes."""

from __future__ import annotations

# Kind -> (elements in a block, bytes of a block). Rows are whole numbers of blocks.
WEIGHT_KINDS: dict[str, tuple[int, int]] = {
    "F32": (1, 4),
    "F16": (1, 2),
    "BF16": (1, 2),
    "Q8_0": (32, 34),
    "Q4_0": (32, 18),
    "Q4_1": (32, 20),
    "Q5_0": (32, 22),
    "Q5_1": (32, 24),
    "Q4_K": (256, 144),
    "Q5_K": (256, 176),
    "Q6_K": (256, 210),
}
# Kinds that files may carry beside weights (position ids, masks): readable as bytes, never as weights.
PLAIN_KINDS: dict[str, tuple[int, int]] = {
    "F64": (1, 8),
    "I64": (1, 8),
    "I32": (1, 4),
    "I16": (1, 2),
    "I8": (1, 1),
    "U64": (1, 8),
    "U32": (1, 4),
    "U16": (1, 2),
    "U8": (1, 1),
    "BOOL": (1, 1),
}
