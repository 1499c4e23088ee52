"""Your own data: a FILE.npz with the NumPy arrays `x_train, y_train, x_test, y_test`.

With only `x_train, y_train` or `x, y`, one sixth of the examples, drawn with a fixed seed, become
the test part. Inputs must be finite floats and are not scaled. Pickled objects are never loaded.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from ..reading import npz_names, one_line, read_npz
from .dataset import Dataset, check_examples, float_dtype, split

TEST_SHARE = 1 / 6
SEED = 0
WANTED = "x_train and y_train (and x_test and y_test), or x and y"


def from_npz(
    path: str | Path,
    images: bool = False,
    dtype: DTypeLike = np.float64,
    n_train: int | None = None,
    n_test: int | None = None,
) -> Dataset:
    """Load arrays from an .npz file as made by `np.savez`.

    Args:
        path: The file. Inputs are floats: (N, features), grey images (N, H, W) or images (N, H, W, C);
            targets are labels (N,), whole numbers from 0, or floats (N, C).
        images: Whether inputs stay images (N, H, W, C) rather than flat (N, H * W * C).
        dtype: float64 or float32, for inputs and targets.
        n_train: Number of training examples, drawn as `Dataset.subset` does; None for all.
        n_test: Number of test examples.

    Returns:
        The data set, named after the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not an .npz, arrays are missing, empty or of objects, lengths or shapes
            disagree, inputs are integers (images must be scaled first) or not finite, labels are not whole
            numbers from 0, or there are fewer examples than requested.
    """
    dtype = float_dtype(dtype)
    path = Path(path).expanduser()
    parts = _parts(_arrays(path), path)
    image_shape = None
    arrays = []
    for x, y in parts:
        if x.ndim == 4:
            image_shape = x.shape[1:]
        elif images:
            raise ValueError(
                f"{path}: expected images (N, H, W) or (N, H, W, C) with images=True, got inputs {x.shape}"
            )
        arrays.append(np.asarray(x if images else x.reshape(len(x), -1), dtype=dtype))
        arrays.append(np.asarray(y, dtype=np.int64 if y.ndim == 1 else dtype))
    x_train, y_train, x_test, y_test = arrays
    name = path.stem.encode(errors="surrogateescape").decode(errors="replace")  # may not be UTF-8
    try:
        data = Dataset(x_train, y_train, x_test, y_test, name, image_shape)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
    return data.subset(n_train, n_test)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.exists():
        raise FileNotFoundError(f"expected an .npz file, got no file {path}")
    names = npz_names(path)
    wanted = [name for name in names if name in ("x", "y", "x_train", "y_train", "x_test", "y_test")]
    for have in ({"x_train", "y_train", "x_test", "y_test"}, {"x_train", "y_train"}, {"x", "y"}):
        if set(wanted) == have:
            return read_npz(path, wanted)
    raise ValueError(
        f"{path}: expected the arrays {WANTED}, got {one_line(', '.join(sorted(names))) or 'none'}"
    )


def _parts(arrays: dict[str, np.ndarray], path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the checked (x, y) of the training and test parts."""
    parts = []
    for x_key, y_key in (("x_train", "y_train"), ("x_test", "y_test"), ("x", "y")):
        if x_key in arrays:
            x, y = arrays[x_key], arrays[y_key]
            if x.ndim == 3:
                x = x[..., None]  # (N, H, W, 1)
            check_examples(x, y, f"{path}: {x_key}", f"{path}: {y_key}")
            parts.append((x, y))
    if len(parts) == 1:
        x, y = parts[0]
        if len(x) < 2:
            raise ValueError(
                f"{path}: expected at least 2 examples to split into training and test, got {len(x)}"
            )
        return [(x[rows], y[rows]) for rows in split(len(x), TEST_SHARE, SEED)]
    return parts
