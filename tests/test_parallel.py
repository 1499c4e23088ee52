"""Tiles of the exact Fisher matrix on several threads."""

import sys

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import minikfac as mk
from minikfac import fisher
from minikfac.parallel import for_each


def blas_threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def squares(n: int) -> list[int]:
    squares = [0] * n

    def task(k: int) -> None:
        squares[k] = k * k

    for_each([lambda k=k: task(k) for k in range(n)], np.zeros(1))
    return squares


def test_every_task_runs() -> None:
    assert squares(50) == [k * k for k in range(50)]
    assert squares(0) == []


def test_one_after_the_other_without_threadpoolctl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    assert squares(50) == [k * k for k in range(50)]


def test_an_error_comes_out_and_blas_keeps_its_threads() -> None:
    before = blas_threads()

    def fail() -> None:
        raise ValueError("in a task")

    with pytest.raises(ValueError, match="in a task"):
        for_each([fail] * 3, np.zeros(1))
    assert blas_threads() == before


@pytest.mark.parametrize("sizes", [[5, 4, 3], [40, 19, 30, 4]])
def test_threads_and_chunks_change_rounding_at_most(sizes: list[int]) -> None:
    rng = np.random.default_rng(0)
    net = mk.mlp(sizes)
    theta, x = net.init(rng), rng.standard_normal((2500, sizes[0]))
    with threadpool_limits(1):
        serial = fisher.exact(fisher.signals(net, theta, x)).to_dense()
    with threadpool_limits(3):
        threaded = fisher.exact(fisher.signals(net, theta, x, batch_size=700)).to_dense()
    assert abs(serial - threaded).max() < 1e-14 * abs(serial).max()
    assert (threaded == threaded.T).all()
