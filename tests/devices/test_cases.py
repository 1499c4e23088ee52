"""Every public function on the stand-in for CuPy, and none is forgotten; test_gpu.py runs it on a GPU."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

import minikfac as mk
from oracles import close, device_cases, standin
from oracles.device_cases import CASES, HOST, SMALL, Case, check

LOOSE = 1e-8
"""Iterations that may stop a step earlier or later, or solves by other routines, in float64."""


@pytest.fixture(autouse=True)
def cupy() -> Iterator[Any]:
    with standin.installed() as module:
        yield module


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_public_function_stays_on_the_device(case: Case) -> None:
    traffic = standin.Traffic()
    compare = partial(close, tolerance=LOOSE) if case.loose else close
    check(case, standin.ndarray, float, compare, standin.counted(traffic))
    assert max(traffic.to_host, default=0) <= case.most
    assert bool(case.why) == (case.most > SMALL)


def test_no_public_function_is_forgotten() -> None:
    names = list(device_cases.public_names())
    covered = [name for case in CASES for name in case.names]
    assert len(names) > 200 and len(set(covered)) == len(covered)
    assert sorted(set(names) - set(covered) - set(HOST)) == []
    assert sorted({*covered, *HOST} - set(names)) == []  # no such name any more
    assert sorted(set(covered) & set(HOST)) == []
    assert all(HOST.values())


def test_a_detour_over_the_host_is_noticed() -> None:
    traffic = standin.Traffic()
    detour = Case(
        ("f",), lambda a: [a.theta + 0 if isinstance(a.theta, np.ndarray) else mk.to_device(a.theta.get())]
    )
    check(detour, standin.ndarray, float, close, standin.counted(traffic))
    size = device_cases.NET.n_params
    assert traffic.to_host == [size] and traffic.to_device == [size]
    with pytest.raises(AssertionError):
        check(Case(("f",), lambda a: [mk.to_host(a.theta)]), standin.ndarray, float, close)
