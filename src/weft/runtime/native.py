"""The extension module, and what it says of the machine.

The only module that imports `weft._native`, at the first use, so that `import weft` stays quick.
"""

from __future__ import annotations

import importlib
from typing import Any

from weft.errors import UnsupportedError


def native() -> Any:
    """The extension module. Raises UnsupportedError when this installation lacks it."""
    try:
        return importlib.import_module("weft._native")
    except ImportError as error:
        raise UnsupportedError(
            f"Expected weft's native core, got {error}; install weft from a wheel, or build it with `make`."
        ) from error


def available_isas() -> list[str]:
    """Instruction sets whose kernels can run here, the slowest first."""
    return list(native().isa_available())


def selected_isa() -> str:
    """The instruction set in use. Raises ConfigError or UnsupportedError for what WEFT_ISA names."""
    return str(native().isa_selected())


def cache_bytes() -> dict[str, int]:
    """Data caches of the first processor: l1d_bytes, l2_bytes, l3_bytes; 0 where unknown."""
    return dict(native().cache_bytes())


def give_back_freed_memory() -> None:
    """Gives freed pages of the heap back to the system, in some milliseconds."""
    native().give_back_freed_memory()
