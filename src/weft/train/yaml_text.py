"""YAML as people write it: PyYAML reads by YAML 1.1, in which 5e-5 is a text and not a number."""

from __future__ import annotations

import functools
import re
from typing import Any

_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")


def parse_yaml(text: str) -> Any:
    """The content of a YAML text, of plain values alone. Raises yaml.YAMLError."""
    import yaml

    return yaml.load(text, _loader())


@functools.lru_cache(maxsize=1)
def _loader() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """A SafeLoader that also reads 5e-5 as a number."""

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))
    return Loader
