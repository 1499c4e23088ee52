"""What a run leaves on the disk: ``NAME.jsonl``, its records, and ``NAME.npz``, its last checkpoint."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..backend import Array
from . import checkpoint, records
from .checkpoint import Checkpoint


@dataclass(frozen=True)
class Keep:
    """Where to keep records and checkpoints, and how often.

    A checkpoint is written every ``every`` steps or ``seconds`` of wall-clock time, whichever comes first,
    and at the end. It holds the records so far, so that a file of records never disagrees with it.

    Attributes:
        folder: made if need be.
        name: of the two files.
        every: steps between checkpoints; None for no such limit.
        seconds: between checkpoints.
        existing: what to do where there is a checkpoint: "refuse", "resume" or "replace" it. "resume" begins
            at the start where there is none yet.
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
        if self.existing not in ("refuse", "resume", "replace"):
            raise ValueError(f"expected existing 'refuse', 'resume' or 'replace', got {self.existing!r}")

    @property
    def records(self) -> Path:
        """The file of records."""
        return Path(self.folder) / f"{self.name}.jsonl"

    @property
    def checkpoint(self) -> Path:
        """The checkpoint."""
        return Path(self.folder) / f"{self.name}.npz"


class Keeper:
    """Keeps one run; without a ``keep`` it does nothing.

    Attributes:
        start: the checkpoint to go on from, or None.
        last: the step of the last checkpoint on the disk, or None.
    """

    def __init__(self, keep: Keep | None, about: dict[str, Any], theta: Array) -> None:
        """Open the files.

        Raises:
            FileExistsError: where there is a checkpoint that shall not be replaced.
            ValueError: on a damaged checkpoint, or one of another run.
        """
        self.keep, self.about = keep, about
        self.start: Checkpoint | None = None
        self._saved = time.monotonic()
        if keep is not None:
            Path(keep.folder).mkdir(parents=True, exist_ok=True)
            self.start = self._stored(keep, theta)
            records.write(keep.records, about, self.start.records if self.start else [])
        self.last = self.start.step if self.start else None

    def _stored(self, keep: Keep, theta: Array) -> Checkpoint | None:
        if not keep.checkpoint.exists():
            return None
        if keep.existing == "refuse":
            raise FileExistsError(
                f"expected no checkpoint in {keep.checkpoint} yet, got one; resume it, replace it, or choose "
                "another folder or name"
            )
        if keep.existing == "replace":
            keep.checkpoint.unlink()
            return None
        stored = checkpoint.load(keep.checkpoint, theta)
        stored.refuse_another(self.about, keep.checkpoint)
        return stored

    def record(self, record: records.Record) -> None:
        """Add a measurement to the file of records."""
        if self.keep is not None:
            records.append(self.keep.records, record)

    def due(self, step: int) -> bool:
        """Whether a checkpoint shall be written after this many steps."""
        if self.keep is None or step == self.last:
            return False
        steps_are_over = self.keep.every is not None and step > 0 and step % self.keep.every == 0
        return steps_are_over or time.monotonic() - self._saved >= self.keep.seconds

    def save(self, at: Checkpoint) -> None:
        """Write a checkpoint, unless the one on the disk is of this step already."""
        if self.keep is not None and at.step != self.last:
            checkpoint.save(self.keep.checkpoint, at)
            self.last, self._saved = at.step, time.monotonic()
