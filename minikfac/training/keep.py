"""Files of a run: its records, ``NAME.jsonl``, and its last checkpoint, ``NAME.npz``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..backend import Array
from ..optim import checks
from ..writing import sole_writer
from . import checkpoint, records
from .checkpoint import Checkpoint


@dataclass(frozen=True)
class Keep:
    """Location and frequency of records and checkpoints.

    A checkpoint is written every ``every`` steps or ``seconds`` of wall-clock time, whichever comes first,
    and at the start and the end. It contains the records so far, so the file of records is always consistent
    with it. During the run, no other run may write files of this name in the folder.

    Attributes:
        folder: created if needed.
        name: name of both files, without suffix.
        every: steps between checkpoints; None to use only ``seconds``.
        seconds: time between checkpoints.
        existing: action if there is a checkpoint: "refuse", "resume" or "replace". Without one, "resume"
            starts from the beginning. Only "replace" overwrites records without a checkpoint.
    """

    folder: str | Path
    name: str = "run"
    every: int | None = None
    seconds: float = 60.0
    existing: str = "refuse"

    def __post_init__(self) -> None:
        if self.every is not None and self.every < 1:
            raise ValueError(f"expected every >= 1 steps between checkpoints, or None, got {self.every}")
        if not self.seconds >= 0:
            raise ValueError(f"expected seconds >= 0 between checkpoints, got {self.seconds}")
        checks.choice(("refuse", "resume", "replace"), existing=self.existing)

    @property
    def records(self) -> Path:
        """The file of records."""
        return Path(self.folder) / f"{self.name}.jsonl"

    @property
    def checkpoint(self) -> Path:
        """The checkpoint."""
        return Path(self.folder) / f"{self.name}.npz"


@contextmanager
def keeping(keep: Keep | None, about: dict[str, Any], theta: Array) -> Iterator[Keeper]:
    """Write the files of one run, and lock them against other runs while the block runs.

    Raises:
        FileExistsError: if another run is using the files, or they must not be replaced.
        ValueError: on a damaged checkpoint, or one of another run.
    """
    if keep is None:
        yield Keeper(None, about, theta)
        return
    with sole_writer(keep.folder, keep.name):
        yield Keeper(keep, about, theta)


class Keeper:
    """Writes the files of one run; does nothing without a ``keep``.

    Attributes:
        start: the checkpoint to continue from, or None.
        last: the step of the last checkpoint on disk, or None.
    """

    def __init__(self, keep: Keep | None, about: dict[str, Any], theta: Array) -> None:
        self.keep, self.about = keep, about
        self._saved = time.monotonic()
        self.start = None if keep is None else self._stored(keep, theta)
        self.last = self.start.step if self.start else None

    def _stored(self, keep: Keep, theta: Array) -> Checkpoint | None:
        if keep.existing == "replace":
            keep.checkpoint.unlink(missing_ok=True)
            keep.records.unlink(missing_ok=True)
            return None
        if keep.existing == "refuse" and keep.checkpoint.exists():
            raise FileExistsError(
                f"expected no checkpoint in {keep.checkpoint} yet, got one; resume it, replace it, or choose "
                "another folder or name"
            )
        if keep.checkpoint.exists():
            stored = checkpoint.load(keep.checkpoint, theta)
            stored.refuse_another(self.about, keep.checkpoint)
            return stored
        if keep.records.exists():
            raise FileExistsError(
                f"expected no records in {keep.records} without a checkpoint, got some; replace "
                "them, or choose another folder or name"
            )
        return None

    def begin(self, at: Checkpoint) -> None:
        """Write the first checkpoint, and then the records that it contains."""
        if self.keep is not None:
            if self.start is None:  # so that records never exist without one
                checkpoint.save(self.keep.checkpoint, at)
            records.write(self.keep.records, self.about, at.records)

    def record(self, record: records.Record) -> None:
        """Add a measurement to the file of records."""
        if self.keep is not None:
            records.append(self.keep.records, record)

    def due(self, step: int) -> bool:
        """Whether a checkpoint is due after this many steps."""
        if self.keep is None or step == self.last:
            return False
        steps_are_over = self.keep.every is not None and step > 0 and step % self.keep.every == 0
        return steps_are_over or time.monotonic() - self._saved >= self.keep.seconds

    def save(self, at: Checkpoint) -> None:
        """Write a checkpoint, unless the one on disk is already from this step."""
        if self.keep is not None and at.step != self.last:
            checkpoint.save(self.keep.checkpoint, at)
            self.last, self._saved = at.step, time.monotonic()
