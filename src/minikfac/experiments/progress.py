"""Progress bars: tqdm's on standard error where it is installed, silence where it is not."""

from __future__ import annotations

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
def progress_bar(what: str, total: int, show: bool = True) -> Iterator[Bar]:
    """Show a progress bar on standard error while the block runs."""
    bar = None
    if show:
        try:
            from tqdm import tqdm
        except ImportError:  # a bar is a comfort, not a need
            pass
        else:
            bar = tqdm(total=total, desc=what, dynamic_ncols=True)
    try:
        yield Bar(bar)
    finally:
        if bar is not None:
            bar.close()
