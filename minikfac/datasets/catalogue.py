"""The catalogue: all data sets, and functions that load, fetch and check them by name.

To add a data set, add an `Entry` and a module of the same name. The module needs a reader, again of the same
name, which accepts `images`, `dtype`, `n_train` and `n_test`, and a function `check`. If the set has files
outside the package, the module lists their names in `FILES` and has a function `fetch`, and both the reader
and `check` accept a `folder`.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from .cache import cache_folder, is_cached
from .dataset import Dataset, existing_folder
from .npz import from_npz


@dataclass(frozen=True)
class Entry:
    """Describe one data set.

    `images` counts training + test examples, and `size` is that of the files. If there is nothing to fetch,
    `without_files` gives the reason: "bundled" or "made here".
    """

    name: str
    what: str
    images: str
    size: str
    licence: str
    source: str
    without_files: str = ""

    @property
    def module(self) -> ModuleType:
        """The module that reads, fetches and checks the data."""
        return import_module(f".{self.name}", __package__)

    @property
    def reader(self) -> Callable[..., Dataset]:
        """The module's function that loads the data."""
        return getattr(self.module, self.name)

    @property
    def where(self) -> str:
        """Location of the files: "bundled", "made here", "cached" or "not fetched"."""
        return self.without_files or ("cached" if is_cached(self.name, self.module.FILES) else "not fetched")


ENTRIES = (
    Entry(
        name="digits",
        what="handwritten digits, 8x8 grey (UCI optical recognition, test part)",
        images="1500 + 297",
        size="46 kB",
        licence="CC BY 4.0, credit E. Alpaydin and C. Kaynak (1998)",
        source="https://archive.ics.uci.edu/dataset/80",
        without_files="bundled",
    ),
    Entry(
        name="mnist",
        what="handwritten digits, 28x28 grey (or smaller by size=)",
        images="60000 + 10000",
        size="11.6 MB",
        licence="no formal licence",
        source="Y. LeCun, C. Cortes, C. J. C. Burges",
    ),
    Entry(
        name="usps",
        what="handwritten digits from envelopes, 16x16 grey (zip code data)",
        images="7291 + 2007",
        size="2.2 MB",
        licence="no formal licence",
        source="https://hastie.su.domains/ElemStatLearn",
    ),
    Entry(
        name="cifar10",
        what="photographs of ten classes, 32x32 in colour",
        images="50000 + 10000",
        size="170 MB",
        licence="no formal licence; its authors ask to cite A. Krizhevsky (2009)",
        source="https://www.cs.toronto.edu/~kriz/cifar.html",
    ),
    Entry(
        name="svhn",
        what="house-number digits from street photographs, 32x32 in colour",
        images="73257 + 26032",
        size="246 MB",
        licence="for non-commercial use only",
        source="http://ufldl.stanford.edu/housenumbers",
    ),
    Entry(
        name="curves",
        what="curves through three random points, 28x28 grey (after the papers' CURVES, by our own recipe)",
        images="20000 + 10000",
        size="no file",
        licence="this package's",
        source="generated on demand in a few seconds",
        without_files="made here",
    ),
)


def load(name_or_path: str | Path, folder: str | Path | None = None, **options: Any) -> Dataset:
    """Load a data set by name, or your own from an .npz file.

    Args:
        name_or_path: "digits", "mnist", "usps", "cifar10", "svhn", "curves", or the path of a file that ends
            in .npz.
        folder: Folder with the set's files; None downloads them to the cache once.
        options: Further arguments of that set's reader: `images`, `dtype`, `n_train`, `n_test`, `components`
            (digits), `size` (mnist), `seed` (curves). By default photographs are images (N, H, W, C) and all
            other inputs are flat.

    Raises:
        ValueError: If there is no such set, or its reader has no such option.
    """
    npz = is_npz(name_or_path)
    reader = partial(from_npz, name_or_path) if npz else entry(name_or_path).reader
    if folder is not None:
        options = {"folder": folder, **options}
    accepted = inspect.signature(reader).parameters
    unknown = [key for key in options if key not in accepted]
    if unknown:
        label = "an .npz file" if npz else name_or_path
        raise ValueError(f"{label}: expected options among {', '.join(accepted)}, got {', '.join(unknown)}")
    return reader(**options)


def available() -> list[Entry]:
    """List the data sets."""
    return list(ENTRIES)


def fetch(name: str) -> Path:
    """Download the missing files of a data set to the cache, verify them and return their folder.

    Shows a progress bar. Sets that are bundled or made here need no download.

    Raises:
        ValueError: If there is no such set, or a download has the wrong checksum.
        ConnectionError: If a download failed.
    """
    item = entry(name)
    return Path(__file__).parent if item.without_files else item.module.fetch()


def check(name: str | Path, folder: str | Path | None = None) -> list[tuple[str, str]]:
    """Verify the structure and checksums of a data set's files without downloading anything.

    Args:
        name: As in `load`.
        folder: The folder to check; None for the cache.

    Returns:
        One pair (file, status) per file. A status begins with "ok", "altered" (readable, but not the official
        content), "broken" or "missing".

    Raises:
        ValueError: If there is no such set, or `folder` is given for a set without files.
        FileNotFoundError: If `folder` does not exist.
    """
    if folder is not None and (is_npz(name) or entry(name).without_files):
        raise ValueError(f"{name}: expected no folder (it needs none, or is one file), got folder={folder}")
    if is_npz(name):
        return [(Path(name).name, _npz_status(name))]
    item = entry(name)
    if item.without_files:
        return item.module.check()
    return item.module.check(cache_folder(item.name) if folder is None else existing_folder(folder))


def entry(name: str | Path) -> Entry:
    """Return the entry called `name`; otherwise raise a ValueError that lists the valid names."""
    names = [item.name for item in ENTRIES]
    if name in names:
        return ENTRIES[names.index(str(name))]
    nearest = difflib.get_close_matches(str(name).lower(), names, n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    raise ValueError(
        f"expected one of {', '.join(names)} or the path of an .npz file, got {str(name)!r}{hint}"
    )


def is_npz(name_or_path: str | Path) -> bool:
    """Return whether the argument is the path of an .npz file rather than a name."""
    return Path(name_or_path).suffix.lower() == ".npz"


def _npz_status(path: str | Path) -> str:
    try:
        return f"ok: {from_npz(path)!r}"
    except FileNotFoundError as error:
        return f"missing: {error}"
    except ValueError as error:
        return f"broken: {error}"
