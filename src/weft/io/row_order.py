"""The row order that turns rotary pairs of neighbours into rotary pairs of halves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def halves_from_pairs(heads: int, head_dim: int) -> NDArray[np.int32]:
    """int32 [heads * head_dim]: where each row of a q or k projection lies in a file that pairs neighbours.

    llama.cpp's converter and llama2.c store row 2i beside row 2i + 1 of a head, as rotation of neighbours
    wants it; Hugging Face's rotation wants row i and row i + head_dim / 2. Row (h, half, i) of the model is
    row (h, i, half) of the file.
    """
    import numpy as np

    stored = np.arange(heads * head_dim, dtype=np.int32).reshape(heads, head_dim // 2, 2)
    return np.ascontiguousarray(stored.transpose(0, 2, 1)).reshape(-1)
