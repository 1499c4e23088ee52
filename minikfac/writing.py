"""What is written: files that are there whole or not at all, in folders where one run at a time writes.

A file is written under a name that no other process has, flushed to the disk, and renamed: whoever reads
meanwhile gets the old one or the new one. A run locks what it writes. The operating system holds the lock,
and releases it however the process ends, so a run that was killed does not block the folder.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import IO


@contextmanager
def replaced_at_once(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of another when the block ends.

    Whenever the process is killed or the machine dies, the old one or the new one is there, whole.
    """
    path = Path(path)
    beside = path.with_name(f"{path.name}.{token_hex(8)}.tmp")
    try:
        with open(beside, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the new name itself, too
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with replaced_at_once(path) as file:
        file.write(text.encode())


def check_writable(folder: Path) -> None:
    """Reject a folder in which no file can be made, by making one without a name.

    Raises:
        OSError: that says so.
    """
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        reason = error.strerror or "no file can be made there"
        raise type(error)(f"expected to write in {folder}, got: {reason}; choose another folder") from error


@contextmanager
def sole_writer(folder: str | Path, name: str = "minikfac") -> Iterator[None]:
    """Make a folder, and keep all others from writing there under this name while the block runs.

    A block inside the block may do so again, in the same thread. What processes that were killed had begun to
    write in the place of ``name`` or ``name.*`` is removed.

    Raises:
        FileExistsError: where another run is at work, or a file is in the place of the folder.
        OSError: where nothing can be written.
    """
    from filelock import FileLock, Timeout

    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    check_writable(folder)
    file = folder / f".{name}.lock"
    lock = FileLock(file, timeout=0, is_singleton=True)  # a second one of the same file is this one
    is_first = not lock.is_locked
    try:
        lock.acquire()
    except Timeout:
        raise FileExistsError(
            f"expected no other run that writes in {folder}, got one at work; wait for its end or choose "
            "another folder"
        ) from None
    try:
        if is_first:
            _remove_unfinished(folder, name)
        yield
    finally:
        if is_first:
            file.unlink(missing_ok=True)
        lock.release()


def _remove_unfinished(folder: Path, name: str) -> None:
    for path in folder.iterdir():
        if path.name.startswith(f"{name}.") and re.search(r"\.[0-9a-f]{16}\.tmp$", path.name):
            path.unlink(missing_ok=True)
