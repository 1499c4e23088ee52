"""A data set: training and test examples, their targets, and the checks that every reader shares.

| array              | shape                                                      | dtype            |
|--------------------|------------------------------------------------------------|------------------|
| `x_train, x_test`  | (N, features), images (N, H, W, C) or sequences (N, T, D)  | float64, float32 |
| `y_train, y_test`  | labels (N,), of sequences also (N, T), or targets (N, C)   | int64, or float  |

The image readers scale pixels to [0, 1]; in handwritten digits, 0 is background and 1 is ink. Images may be
flat: `as_vectors` and `as_images` convert between the two shapes. Every `Dataset` is validated when it is
created: shapes agree, inputs are finite, labels count from 0.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from ..backend import NUMBER_CLASSES, as_array, label_advice, to_host
from ..display import Display, Shown, in_words


@dataclass(frozen=True, eq=False, repr=False)
class Dataset(Shown):
    """Hold the examples of one data set.

    Attributes:
        x_train: Training inputs, (N, features), (N, H, W, C) or (N, T, D), floats.
        y_train: Labels (N,), of sequences also (N, T), whole numbers from 0, or targets (N, C), floats.
        x_test: Test inputs, shaped like `x_train`.
        y_test: Labels or targets of `x_test`.
        name: Name of the set in records and titles.
        image_shape: (H, W, C) of one image, even if inputs are flat; None if inputs are not images.
        n_classes: Number of classes, by default the largest label + 1; None for
            targets.
        class_names: One per class, in the order of the labels; None if the labels suffice.

    Lists, pandas tables, tensors and the like are converted by `minikfac.backend.as_array`.

    Raises:
        ValueError: If shapes or lengths disagree, a part is empty or missing, inputs are not finite floats,
            labels are out of range, or the class names do not match the classes.
        TypeError: If something is not an array of numbers.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    name: str
    image_shape: tuple[int, int, int] | None = None
    n_classes: int | None = None
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for part in ("x_train", "y_train", "x_test", "y_test"):
            if getattr(self, part) is None:
                raise ValueError(
                    f"{self.name}: expected training and test examples, got {part}=None; keep some back for "
                    "the test, such as x[9::10], and train on the others, np.delete(x, np.s_[9::10], 0)"
                )
            array = to_host(as_array(getattr(self, part), f"{part} of {self.name}", NUMBER_CLASSES))
            object.__setattr__(self, part, array)
        check_examples(self.x_train, self.y_train, f"{self.name}: x_train", f"{self.name}: y_train")
        check_examples(self.x_test, self.y_test, f"{self.name}: x_test", f"{self.name}: y_test")
        for kind, train, test in (("x", self.x_train, self.x_test), ("y", self.y_train, self.y_test)):
            if test.shape[1:] != train.shape[1:] or test.dtype != train.dtype:
                raise ValueError(
                    f"{self.name}: expected {kind}_test like {kind}_train {train.shape} {train.dtype}, "
                    f"got {test.shape} {test.dtype}"
                )
        self._fill_image_shape()
        self._fill_n_classes()
        if self.class_names is not None and len(self.class_names) != self.n_classes:
            raise ValueError(
                f"{self.name}: expected one class name for each of {self.n_classes or 'no'} classes, "
                f"got {len(self.class_names)}"
            )

    def _fill_image_shape(self) -> None:
        shape = self.x_train.shape[1:]
        if self.image_shape is None:
            if len(shape) == 3:
                object.__setattr__(self, "image_shape", shape)
        elif len(self.image_shape) != 3:
            raise ValueError(f"{self.name}: expected image_shape (H, W, C), got {self.image_shape}")
        elif shape not in (tuple(self.image_shape), (int(np.prod(self.image_shape)),)):
            hint = "; add the axis of channels: x[..., None]" if len(shape) == 2 else ""
            raise ValueError(
                f"{self.name}: expected inputs of image shape {self.image_shape}, "
                f"got {self.x_train.shape}{hint}"
            )

    def _fill_n_classes(self) -> None:
        if self.y_train.dtype.kind == "f":
            if self.n_classes is not None:
                raise ValueError(
                    f"{self.name}: expected labels (N,) with n_classes={self.n_classes}, "
                    f"got targets {self.y_train.shape}"
                )
        elif self.n_classes is None:
            labels = np.concatenate([self.y_train, self.y_test])
            low, high = int(labels.min()), int(labels.max())
            if low > 0:
                raise ValueError(
                    f"{self.name}: expected labels from 0, got {low}..{high}; subtract {low}, or give "
                    f"n_classes={high + 1} if no example is of a class before {low}"
                )
            object.__setattr__(self, "n_classes", high + 1)
        else:
            check_labels(self.y_train, self.n_classes, f"{self.name}: y_train")
            check_labels(self.y_test, self.n_classes, f"{self.name}: y_test")
        if self.n_classes == 1:
            raise ValueError(f"{self.name}: expected at least two classes, got one for all examples")

    def subset(self, n_train: int | None = None, n_test: int | None = None, seed: int = 0) -> Dataset:
        """Draw a random subset without replacement; None keeps a part unchanged.

        The files of some sets are ordered by writer, so the first rows would be a biased sample. The same
        seed gives nested subsets: a draw of 100 consists of the first 100 of a draw of 1,000.

        Raises:
            ValueError: If a number is not between 1 and the number of available examples, or the seed
                is not a nonnegative integer.
        """
        train = draw(n_train, len(self.x_train), "n_train", seed)
        test = draw(n_test, len(self.x_test), "n_test", seed)
        return replace(
            self,
            x_train=self.x_train[train],
            y_train=self.y_train[train],
            x_test=self.x_test[test],
            y_test=self.y_test[test],
        )

    def as_images(self) -> Dataset:
        """Return the same data with inputs (N, H, W, C), without a copy if possible.

        Raises:
            ValueError: If the inputs are not images, i.e. there is no `image_shape`.
        """
        if self.image_shape is None:
            raise ValueError(
                f"{self.name}: expected images, flat or not, with image_shape (H, W, C), "
                f"got inputs {self.x_train.shape} without one"
            )
        return self._reshaped(self.image_shape)

    def as_vectors(self) -> Dataset:
        """Return the same data with inputs (N, features); `image_shape` is kept, so `as_images` undoes it.

        Raises:
            ValueError: If there is a label for each position of a sequence.
        """
        if self.n_classes and self.y_train.ndim == 2:
            raise ValueError(f"{self.name}: expected one label for each vector, got {self.y_train.shape}")
        return self._reshaped((-1,))

    def _reshaped(self, shape: tuple[int, ...]) -> Dataset:
        return replace(
            self,
            x_train=self.x_train.reshape(len(self.x_train), *shape),
            x_test=self.x_test.reshape(len(self.x_test), *shape),
        )

    def _display(self) -> Display:
        parts = {"training": (self.x_train, self.y_train), "test": (self.x_test, self.y_test)}
        rows = [
            [name, f"{len(x):,}", in_words(x), f"{x.min():.3g} to {x.max():.3g}", in_words(y)]
            for name, (x, y) in parts.items()
        ]
        return Display(repr(self), ["part", "examples", "inputs", "range", "targets"], rows)

    def __repr__(self) -> str:
        inputs = "x".join(map(str, self.x_train.shape[1:]))
        targets = f"{self.n_classes} classes" if self.n_classes else f"{self.y_train.shape[1]} targets"
        return (
            f"Dataset({self.name}: {len(self.x_train)} train, {len(self.x_test)} test, "
            f"inputs {inputs} {self.x_train.dtype}, {targets})"
        )


def labelled_images(
    name: str,
    read: Callable[[str], tuple[np.ndarray, np.ndarray]],
    scale: Callable[[np.ndarray], np.ndarray],
    image_shape: tuple[int, int, int],
    images: bool,
    n_train: int | None,
    n_test: int | None,
    class_names: tuple[str, ...] | None = None,
) -> Dataset:
    """Make a data set with ten classes from the files of its two parts, scaling only the drawn rows.

    Args:
        name: The set's name.
        read: Maps "train" or "test" to stored pixels (N, ...) and labels (N,).
        scale: Maps stored pixels to floats in [0, 1].
        image_shape: (H, W, C) of one image.
        images: Whether inputs are (N, H, W, C) rather than flat.
        n_train, n_test: Numbers of examples to draw, as `Dataset.subset` does; None for all.
        class_names: One per class.
    """
    arrays: list[np.ndarray] = []
    for part, count in (("train", n_train), ("test", n_test)):
        pixels, labels = read(part)
        rows = draw(count, len(labels), f"n_{part}")
        x = scale(pixels[rows])
        arrays += [x.reshape(len(x), *(image_shape if images else (-1,))), labels[rows].astype(np.int64)]
    x_train, y_train, x_test, y_test = arrays
    return Dataset(x_train, y_train, x_test, y_test, name, image_shape, 10, class_names)


def from_bytes(pixels: np.ndarray, dtype: DTypeLike) -> np.ndarray:
    """Return pixels 0..255 as floats in [0, 1]."""
    return np.divide(np.ascontiguousarray(pixels), 255, dtype=dtype)


def check_examples(x: np.ndarray, y: np.ndarray, x_name: str, y_name: str) -> None:
    """Raise ValueError unless `x` has finite floats and `y` one label or row of targets per example."""
    if x.ndim not in (2, 3, 4):
        raise ValueError(
            f"{x_name}: expected (N, features), images (N, H, W, C) or sequences (N, T, D), got {x.shape}"
        )
    if 0 in x.shape:
        raise ValueError(f"{x_name}: expected at least one example with one feature, got {x.shape}")
    if x.dtype.kind != "f":
        hint = "; divide images by 255 first: x.astype(float) / 255" if x.dtype.kind in "ui" else ""
        raise ValueError(f"{x_name}: expected floats, got {x.dtype}{hint}")
    check_finite(x, x_name)
    sequences = x.ndim == 3
    if y.ndim not in (1, 2) or len(y) != len(x):
        positions = ", labels of positions (N, T)" if sequences else ""
        raise ValueError(
            f"{y_name}: expected {len(x)} labels (N,){positions} or targets (N, C) for {x_name} {x.shape}, "
            f"got {y.shape}"
        )
    if y.ndim == 1 or (sequences and y.dtype.kind in "iu"):
        if y.dtype.kind not in "iu":
            raise ValueError(
                f"{y_name}: expected labels (N,) of an integer type or targets (N, C) of floats, "
                f"got {y.shape} {y.dtype}; use y.astype(int) for labels, y[:, None] for targets"
            )
        check_labels(y, None, y_name)
    else:
        if y.dtype.kind != "f" or y.shape[1] == 0:
            labels = "y[:, 0]" if y.shape[1] == 1 else "y.astype(int)" if sequences else "y.argmax(1)"
            raise ValueError(
                f"{y_name}: expected targets (N, C) of floats, got {y.shape} {y.dtype}; use y.astype(float) "
                f"for targets, {labels} for labels"
            )
        check_finite(y, y_name)


def check_images(x: np.ndarray, name: str) -> None:
    """Raise ValueError unless `x` has finite floats of shape (N, H, W, C), with N at least 1."""
    if x.ndim != 4 or 0 in x.shape:
        raise ValueError(f"{name}: expected images (N, H, W, C), got {x.shape}")
    if x.dtype.kind != "f":
        raise ValueError(f"{name}: expected floats, got {x.dtype}; divide bytes by 255 first")
    check_finite(x, name)


def check_finite(x: np.ndarray, name: str) -> None:
    """Raise ValueError, naming the first offending row, unless all of `x` (N, ...) is finite."""
    finite = np.isfinite(x)
    if not finite.all():
        rows = (~finite).reshape(len(x), -1).any(axis=1)
        raise ValueError(
            f"{name}: expected finite numbers, got NaN or infinity in {int(rows.sum())} of {len(x)} "
            f"examples, first in example {int(rows.argmax())}"
        )


def check_labels(y: np.ndarray, n_classes: int | None, name: str) -> None:
    """Raise ValueError, naming the first offending example, unless 0 <= y < n_classes (None: any y >= 0)."""
    wrong = y < 0 if n_classes is None else (y < 0) | (y >= n_classes)
    if wrong.any():
        first = tuple(np.argwhere(wrong)[0])
        where = ", position ".join(map(str, first))
        what = "labels from 0" if n_classes is None else f"labels 0..{n_classes - 1}"
        low, high = int(y.min()), int(y.max())
        hint = label_advice(low, high, high + 1 if n_classes is None else n_classes)
        raise ValueError(f"{name}: expected {what}, got {y[first]} in example {where}{hint}")


def float_dtype(dtype: DTypeLike) -> np.dtype:
    """Return `dtype` as a NumPy dtype; raise ValueError unless it is float32 or float64."""
    wanted = np.dtype(dtype)
    if wanted not in (np.float32, np.float64):
        raise ValueError(f"expected dtype float32 or float64, got {wanted}")
    return wanted


def whole_number(value: object, low: int, high: int, name: str) -> int:
    """Return `value` as an int; raise ValueError unless it is a whole number in low..high."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = low - 1
    if isinstance(value, bool) or not low <= number <= high:
        raise ValueError(f"expected {name} to be a whole number from {low} to {high}, got {value!r}")
    return number


def existing_folder(folder: str | Path) -> Path:
    """Return `folder` as a Path; raise FileNotFoundError unless it exists and is a folder."""
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise FileNotFoundError(f"expected folder= to name an existing folder, got {path}")
    return path


def split(n: int, test_share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of a random split of n >= 2 examples into training and test, neither empty."""
    order = np.random.default_rng(whole_number(seed, 0, 2**64, "seed")).permutation(n)
    n_test = min(max(1, round(test_share * n)), n - 1)
    return order[n_test:], order[:n_test]


def draw(n: int | None, available: int, name: str, seed: int = 0) -> np.ndarray | slice:
    """Return the indices of n random examples, as used by `Dataset.subset`; None stands for all of them."""
    if n is None:
        return slice(None)
    count = whole_number(n, 1, available, name)
    return np.random.default_rng(whole_number(seed, 0, 2**64, "seed")).permutation(available)[:count]
