"""Operations: what a model is written with. Each function records one operation and gives its result."""

from weft.ops.adapted_linear import LayerAdapter, adapted_linear
from weft.ops.add import add
from weft.ops.attention import attention
from weft.ops.concat import concat
from weft.ops.cross_entropy import cross_entropy
from weft.ops.cross_entropy_grad import cross_entropy_grad
from weft.ops.dropout import dropout
from weft.ops.embedding import embedding
from weft.ops.gather_rows import gather_rows
from weft.ops.gelu import gelu
from weft.ops.kv_write import kv_write
from weft.ops.layer_norm import layer_norm
from weft.ops.linear import linear
from weft.ops.log_probs import log_probs
from weft.ops.low_rank import low_rank
from weft.ops.lstm import lstm
from weft.ops.operation import Matrix, Operation
from weft.ops.rms_norm import rms_norm
from weft.ops.rotary import rotary
from weft.ops.sample import sample
from weft.ops.scale import scale
from weft.ops.sequence_attention import sequence_attention
from weft.ops.shift_rows import shift_rows
from weft.ops.silu_gate import silu_gate
from weft.ops.squared_error import squared_error
from weft.ops.stateful_lstm import stateful_lstm
from weft.ops.tanh import tanh

__all__ = [
    "LayerAdapter",
    "Matrix",
    "Operation",
    "adapted_linear",
    "add",
    "attention",
    "concat",
    "cross_entropy",
    "cross_entropy_grad",
    "dropout",
    "embedding",
    "gather_rows",
    "gelu",
    "kv_write",
    "layer_norm",
    "linear",
    "log_probs",
    "low_rank",
    "lstm",
    "rms_norm",
    "rotary",
    "sample",
    "scale",
    "sequence_attention",
    "shift_rows",
    "silu_gate",
    "squared_error",
    "stateful_lstm",
    "tanh",
]
