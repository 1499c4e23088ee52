"""Ctrl-C while the command line is still being imported: it ends in a line, as it does afterwards.

The first import of the package, so that those that take their time come after it. In other programs it does
nothing.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any


def _exit(*_: Any) -> None:
    os.write(2, b"minikfac: interrupted\n")
    os._exit(130)


def end() -> None:
    """Let an interrupt be an exception again."""
    if signal.getsignal(signal.SIGINT) is _exit:
        signal.signal(signal.SIGINT, signal.default_int_handler)


_program = os.path.basename(sys.argv[0] if sys.argv else "")
if _program in ("-m", "minikfac") and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _exit)
