"""Text from files inside error messages."""

from __future__ import annotations


def shown(text: object) -> str:
    """`text`, which a file made up, as a message may hold it: quoted, short, control characters escaped."""
    return repr(str(text)[:80])
