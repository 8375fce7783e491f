"""The native core for the rest of weft: threads, packed weights, caches, and compiled plans."""

from weft.runtime.executable import Executable, compile, new_trace
from weft.runtime.kv_cache import KvCache
from weft.runtime.native import (
    available_isas,
    cache_bytes,
    give_back_freed_memory,
    native,
    selected_isa,
)
from weft.runtime.pool import Pool, measure_limits
from weft.runtime.weights import Bound, Tensor, Weight, WeightPart

__all__ = [
    "Bound",
    "Executable",
    "KvCache",
    "Pool",
    "Tensor",
    "Weight",
    "WeightPart",
    "available_isas",
    "cache_bytes",
    "compile",
    "give_back_freed_memory",
    "measure_limits",
    "native",
    "new_trace",
    "selected_isa",
]
