"""Progress: tqdm's bars on a terminal, plain lines elsewhere, silence where tqdm is not installed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Bar:
    """A bar that advances and carries a note."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def advance(self, note: str | None = None) -> None:
        """Move on by one."""
        if self._bar is not None:
            if note is not None:
                self._bar.set_postfix_str(note)
            self._bar.update()

    def note(self, text: str) -> None:
        """Show a text behind the bar."""
        if self._bar is not None:
            self._bar.set_postfix_str(text)


@contextmanager
def progress_bar(what: str, total: int | None, show: bool = True) -> Iterator[Bar]:
    """Show progress on standard error while the block runs.

    On a terminal this is a bar; in a file or a pipe, where a bar would leave control codes, a line at the
    end with the time it took.
    """
    bar = None
    terminal = sys.stderr is not None and sys.stderr.isatty()
    if show and terminal:
        try:
            from tqdm import tqdm
        except ImportError:  # a bar is a comfort, not a need
            pass
        else:
            bar = tqdm(total=total, desc=what, dynamic_ncols=True)
    started = time.perf_counter()
    try:
        yield Bar(bar)
        if show and not terminal and sys.stderr is not None:
            print(f"{what}: {time.perf_counter() - started:.1f} s", file=sys.stderr, flush=True)
    finally:
        if bar is not None:
            bar.close()
