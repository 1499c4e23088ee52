"""Make minikfac/datasets/digits.npz from scikit-learn's `load_digits` (run once).

uint8 pixels 0..16, uint8 labels, and a fixed split of 1,500 and 297: test examples are drawn class by class
in proportion (largest remainder), then both parts are shuffled.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

N_TEST = 297
SEED = 1998
TARGET = Path(__file__).parents[3] / "minikfac" / "datasets" / "digits.npz"


def counts_for_test(labels: np.ndarray) -> np.ndarray:
    """Return the number of test examples of each class, (10,)."""
    quota = np.bincount(labels, minlength=10) * N_TEST / len(labels)
    counts = np.floor(quota).astype(int)
    largest = np.argsort(counts - quota, kind="stable")[: N_TEST - counts.sum()]
    counts[largest] += 1
    return counts


def main() -> None:
    """Write the file and print what is in it."""
    source = load_digits()
    images, labels = source.images.astype(np.uint8), source.target.astype(np.uint8)
    assert (images == source.images).all() and images.shape == (1797, 8, 8) and images.max() == 16
    rng = np.random.default_rng(SEED)
    in_test = np.zeros(len(labels), dtype=bool)
    for label, count in enumerate(counts_for_test(labels)):
        in_test[rng.choice(np.flatnonzero(labels == label), size=count, replace=False)] = True
    train, test = rng.permutation(np.flatnonzero(~in_test)), rng.permutation(np.flatnonzero(in_test))
    np.savez_compressed(
        TARGET, x_train=images[train], y_train=labels[train], x_test=images[test], y_test=labels[test]
    )
    print(f"{TARGET.name}: {len(train)} + {len(test)} images, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
