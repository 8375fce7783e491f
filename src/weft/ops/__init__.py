"""Operations: what a model is written with. Each function records one operation and gives its result."""

from weft.ops.add import add
from weft.ops.attention import attention
from weft.ops.embedding import embedding
from weft.ops.gather_rows import gather_rows
from weft.ops.gelu import gelu
from weft.ops.kv_write import kv_write
from weft.ops.layer_norm import layer_norm
from weft.ops.linear import linear
from weft.ops.log_probs import log_probs
from weft.ops.operation import Matrix, Operation
from weft.ops.rms_norm import rms_norm
from weft.ops.rotary import rotary
from weft.ops.sample import sample
from weft.ops.silu_gate import silu_gate

__all__ = [
    "Matrix",
    "Operation",
    "add",
    "attention",
    "embedding",
    "gather_rows",
    "gelu",
    "kv_write",
    "layer_norm",
    "linear",
    "log_probs",
    "rms_norm",
    "rotary",
    "sample",
    "silu_gate",
]
