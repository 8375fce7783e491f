"""What holds for all tests."""

from __future__ import annotations

import signal

# A suite in the background of a script is started with Ctrl-C ignored, which its children would inherit, and
# tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
