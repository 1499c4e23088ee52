"""The bundled digits: 1,797 handwritten digits of 8x8 pixels, included in the package.

They are the test part of "Optical Recognition of Handwritten Digits" [AH98] of the UCI Machine Learning
Repository, the same images as in scikit-learn's `load_digits`. Licence: CC BY 4.0, credit E. Alpaydin and
C. Kaynak (1998). Each pixel counts the ink in a 4x4 cell of a 32x32 bitmap, 0..16, here divided by 16.

`digits.npz` has a fixed split, 1,500 for training and 297 for testing, stratified by class. It was drawn at
random, so both parts contain digits by the same writers, and test errors are lower than they would be for new
writers.

Principal components: `x = (pixels - m) @ V`, with the mean m and the directions V (64, components) of the
training set alone. They are not whitened. Some raw pixels never change, which makes the input factor of a
Fisher block singular; principal components avoid this.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from ..reading import read_npz
from .dataset import Dataset, float_dtype, whole_number

FILE = Path(__file__).with_name("digits.npz")
SHA256 = "d4da056ec4ae53451b4da417eafb6d202b001549afc8315e585df013ae0817d8"


def digits(
    components: int | None = None,
    images: bool = False,
    dtype: DTypeLike = np.float64,
    n_train: int | None = None,
    n_test: int | None = None,
) -> Dataset:
    """Load the bundled 8x8 digits [AH98].

    Args:
        components: Number of principal components of the training set to use as inputs, centred but not
            whitened, by decreasing variance; None for the 64 pixels in [0, 1].
        images: Whether inputs are (N, 8, 8, 1) rather than (N, 64).
        dtype: float64 or float32.
        n_train: Number of training examples, drawn as `Dataset.subset` does; None for all. The components
            are always those of all 1,500.
        n_test: Number of test examples.

    Returns:
        At most 1,500 training and 297 test examples, labels 0..9.

    Raises:
        ValueError: If `components` is not a whole number from 1 to the rank of the training set, or is
            combined with `images=True`; if there are fewer examples than requested.

    >>> digits(components=16)
    Dataset(digits: 1500 train, 297 test, inputs 16 float64, 10 classes)
    """
    dtype = float_dtype(dtype)
    arrays = _arrays()
    x_train, x_test = (arrays[key].astype(np.float64).reshape(-1, 64) / 16 for key in ("x_train", "x_test"))
    image_shape: tuple[int, int, int] | None = (8, 8, 1)
    if components is not None:
        if images:
            raise ValueError(
                f"expected images=False with components, got images=True with components={components}"
            )
        mean, directions = principal_directions(x_train)
        count = whole_number(components, 1, directions.shape[1], "components")
        x_train, x_test = ((x - mean) @ directions[:, :count] for x in (x_train, x_test))
        image_shape = None
    elif images:
        x_train, x_test = x_train.reshape(-1, 8, 8, 1), x_test.reshape(-1, 8, 8, 1)
    return Dataset(
        x_train.astype(dtype, copy=False),
        arrays["y_train"].astype(np.int64),
        x_test.astype(dtype, copy=False),
        arrays["y_test"].astype(np.int64),
        "digits",
        image_shape,
        n_classes=10,
    ).subset(n_train, n_test)


def principal_directions(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of the rows of x (N, features) and their principal directions V (features, rank).

    Directions are orthonormal and sorted by decreasing variance. Their signs are arbitrary; here the entry
    of largest magnitude is positive.
    """
    mean = x.mean(axis=0)
    _, singular_values, rows = np.linalg.svd(x - mean, full_matrices=False)
    rank = int((singular_values > singular_values[0] * max(x.shape) * np.finfo(x.dtype).eps).sum())
    directions = rows[:rank].T  # (features, rank)
    largest = directions[np.abs(directions).argmax(axis=0), np.arange(rank)]
    return mean, directions * np.sign(largest)


def digest(arrays: dict[str, np.ndarray]) -> str:
    """Return the sha256 of pixels and labels, in this order, regardless of the file's compression."""
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays.values())).hexdigest()


def check() -> list[tuple[str, str]]:
    """Return one pair (file, status) for the bundled file."""
    try:
        sha256 = digest(_arrays())
    except ValueError as error:
        return [(FILE.name, f"broken: {error}; reinstall the package")]
    if sha256 == SHA256:
        return [(FILE.name, "ok: 1500 training and 297 test images of 8x8, the bundled content")]
    problem = f"altered: expected sha256 {SHA256} of its arrays, got {sha256}; reinstall the package"
    return [(FILE.name, problem)]


def _arrays() -> dict[str, np.ndarray]:
    return read_npz(FILE, ("x_train", "y_train", "x_test", "y_test"))
