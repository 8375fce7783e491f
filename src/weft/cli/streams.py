"""The three streams of a command, whatever state its caller left them in."""

from __future__ import annotations

import os
import sys


def open_closed_streams() -> None:
    """Opens the streams that the caller closed: input ends at once, what is said goes nowhere, and writing
    output fails as it does for a closed descriptor.

    Without it their numbers go to the next files opened, which would then get what the command writes.
    """
    for descriptor, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, flags)  # takes the lowest number that is free: this one
    sys.stdin = sys.stdin or os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)


def quiet_stdout() -> None:
    """Keeps the interpreter from complaining of a pipe that its reader has left, or a disk that is full."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
