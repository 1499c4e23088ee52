"""Progress: tqdm's bars on a terminal and in Jupyter, plain lines elsewhere, nothing without tqdm."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

LENGTH = 12
"""Letters of a bar, however long the note beside it."""
FORMAT = f"{{desc}} |{{bar:{LENGTH}}}| {{n_fmt}}/{{total_fmt}}, {{elapsed}}{{postfix}}"


def in_jupyter() -> bool:
    """Whether this is a kernel that shows widgets: Jupyter's, with ipywidgets."""
    kernel = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "IPKernelApp" in getattr(kernel, "config", {}) and find_spec("ipywidgets") is not None


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

    On a terminal this is a bar of :data:`LENGTH` letters, in Jupyter one of its own; in a file or a pipe,
    where a bar would leave control codes, a line at the end with the time it took.
    """
    bar = None
    terminal = sys.stderr is not None and sys.stderr.isatty()
    if show and (terminal or in_jupyter()):
        try:
            from tqdm.auto import tqdm
        except ImportError:  # a bar is a comfort, not a need
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
