"""Models by the names of comparisons: a path, with `@KIND` where weft requantizes it at load."""

from typing import Any

import weft


def open_model(name: str, **settings: Any) -> weft.Model:
    """Return the model, loaded with `settings`."""
    path, _, quant = name.partition("@")
    return weft.load(path, quant=quant or None, **settings)
