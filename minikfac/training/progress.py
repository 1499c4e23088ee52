"""Progress: tqdm's bars in terminals and Jupyter, plain lines elsewhere, nothing without tqdm."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

LENGTH = 12
"""Width of the bar in characters, regardless of the note's length."""
FORMAT = f"{{desc}} |{{bar:{LENGTH}}}| {{n_fmt}}/{{total_fmt}}, {{elapsed}}{{postfix}}"


def in_jupyter() -> bool:
    """Whether this is a Jupyter kernel with ipywidgets."""
    kernel = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "IPKernelApp" in getattr(kernel, "config", {}) and find_spec("ipywidgets") is not None


class Bar:
    """A progress bar with a note."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def advance(self, note: str | None = None) -> None:
        """Advance by one."""
        if self._bar is not None:
            if note is not None:
                self._bar.set_postfix_str(note)
            self._bar.update()

    def note(self, text: str) -> None:
        """Show a text after the bar."""
        if self._bar is not None:
            self._bar.set_postfix_str(text)


@contextmanager
def progress_bar(what: str, total: int | None, show: bool = True) -> Iterator[Bar]:
    """Show progress on standard error while the block runs.

    In a terminal this is a bar of :data:`LENGTH` characters, in Jupyter a widget; in a file or a pipe, where
    a bar would leave control codes, it is a final line with the elapsed time.
    """
    bar = None
    terminal = sys.stderr is not None and sys.stderr.isatty()
    if show and (terminal or in_jupyter()):
        try:
            from tqdm.auto import tqdm
        except ImportError:  # the bar is optional
            pass
        else:
            look = {"bar_format": FORMAT, "dynamic_ncols": True} if terminal else {}
            bar = tqdm(total=total, desc=what, **look)
    started = time.perf_counter()
    try:
        yield Bar(bar)
        if show and bar is None and not terminal and sys.stderr is not None:
            print(f"{what}: {time.perf_counter() - started:.1f} s", file=sys.stderr, flush=True)
    finally:
        if bar is not None:
            bar.close()
