"""Batch normalization's statistics as constants: where that is wrong, where it is not, and for how long."""

from __future__ import annotations

import numpy as np
import pytest

from minikfac import datasets
from minikfac.tour.chapters.batchnorm import Coupling, coupling

SIZES = (4, 8, 16)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return datasets.digits(images=True).x_train


@pytest.fixture(scope="module")
def batch(images: np.ndarray) -> Coupling:
    return coupling(images, SIZES, repeats=2)


def test_only_what_lies_below_the_normalization_is_wrong(batch: Coupling) -> None:
    """Its own scale and shift, and what comes after, never meet the statistics."""
    assert batch.names == ("conv0", "batchnorm1", "dense2")
    below, *others = batch.layer_errors
    assert (below > 0.05).all()
    assert np.max(others) < 1e-12
    assert batch.errors.shape == batch.scales.shape == (3, 2) and (batch.errors > 0.05).all()


def test_the_error_does_not_go_away_in_larger_batches(batch: Coupling) -> None:
    medians = np.median(batch.errors, axis=1)
    assert medians[-1] > 0.5 * medians[0]


def test_group_normalization_couples_nothing(batch: Coupling) -> None:
    assert batch.control < 1e-12


def test_longer_weights_change_nothing_in_the_joint_batch(batch: Coupling) -> None:
    assert batch.flat.max() < 1e-3  # the normalization's epsilon


def test_float32_images_will_do(images: np.ndarray) -> None:
    single = coupling(images[:8].astype(np.float32), (4,), repeats=1)
    assert single.errors[0] == pytest.approx(coupling(images[:8], (4,), repeats=1).errors[0], rel=1e-5)


@pytest.mark.parametrize("sizes", [(1, 4), (4, 9), ()])
def test_refusals(images: np.ndarray, sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected batch sizes from 2 to 8, got \["):
        coupling(images[:8], sizes)
