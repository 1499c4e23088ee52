"""On a GPU: every public function gives NumPy's numbers, and runs move between host and device.

The cases are those of devices/test_cases.py, where a stand-in takes CuPy's place.
"""

import math
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minikfac as mk
from minikfac import linalg, optim
from minikfac.training import Keep
from oracles import random_net, random_psd
from oracles.device_cases import CASES, RESUMED, Case, check, trained

pytestmark = pytest.mark.gpu

within = partial(partial, np.testing.assert_allclose)
DOUBLE = within(rtol=1e-10, atol=1e-10)
"""The same sums in another order, by other routines, in float64."""
ITERATED = within(rtol=1e-7, atol=1e-8)
"""The same where iterations may stop a step earlier or later, in float64."""
SINGLE = within(rtol=1e-3, atol=1e-4)
"""In float32; TF32 is off unless CUPY_TF32 turns it on."""
SINGLE_ITERATED = within(rtol=2e-2, atol=2e-3)


def cupy_array() -> type:
    import cupy

    return cupy.ndarray


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_public_function_gives_the_numbers_of_the_host(case: Case) -> None:
    check(case, cupy_array(), np.float64, ITERATED if case.loose else DOUBLE)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_same_in_single_precision(case: Case) -> None:
    check(case, cupy_array(), np.float32, SINGLE_ITERATED if case.loose else SINGLE)


@pytest.mark.parametrize("name", RESUMED)
@pytest.mark.parametrize("first, then", [("cuda", "cpu"), ("cpu", "cuda"), ("cuda", "cuda")])
def test_a_checkpoint_moves_between_devices(tmp_path: Path, name: str, first: str, then: str) -> None:
    keep = Keep(tmp_path, existing="resume")
    trained(name, first, 4, keep=keep)
    history = trained(name, then, 8, keep=keep)
    assert isinstance(history.theta, np.ndarray) == (then == "cpu")
    ITERATED(mk.to_host(history.theta), trained(name, "cpu").theta)


def test_wrong_labels_make_the_loss_nan() -> None:
    net, theta, x, _ = random_net(np.random.default_rng(0))
    theta, x, y = (mk.to_device(array) for array in (theta, x, np.array([0, 1, 2, 3, 0, 1])))
    opt = optim.SGD(net, 0.1)
    assert math.isnan(opt.step(theta, opt.init(theta), (x, y))[2]["loss"])
    with pytest.raises(ValueError, match="got values from 0 to 3"):
        net.loss(theta, x, y)


@pytest.mark.parametrize("n", [3, 40, 300])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_factorization_that_breaks_down_is_noticed(n: int, dtype: Any) -> None:
    M = random_psd(np.random.default_rng(0), n).astype(dtype)
    good = mk.to_device(M + np.eye(n, dtype=dtype))
    factor = linalg.damped_choleskys([(good, "A", 1.0)])[0]
    SINGLE(mk.to_host(factor), np.linalg.cholesky(mk.to_host(good)))
    broken = M - 3 * np.outer(M[0], M[0]) / M[0, 0]
    with pytest.raises(linalg.SingularMatrixError, match="a positive definite matrix, but G"):
        linalg.damped_choleskys([(good, "A", 1.0), (mk.to_device(broken), "G", 1.0)])


def test_mixed_arrays_are_refused_with_what_is_where() -> None:
    net, theta, x, y = random_net(np.random.default_rng(0))
    with pytest.raises(TypeError, match="got theta on cuda:0, x on the host"):
        net.loss(mk.to_device(theta), x, y)


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"expected a device that is here, 'cuda:0'.*; got 'cuda:99'"):
        mk.to_device(np.ones(3), "cuda:99")
    assert "cupy" in sys.modules
