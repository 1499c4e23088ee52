"""Results of curvlinops and nngeometry, frozen by freeze_oracles.py: no other library is needed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minikfac as mk
from minikfac import fisher, layers
from oracles import close
from oracles.torch_layout import torch_order, torch_scale

FILE = Path(__file__).parents[1] / "data" / "frozen_oracles.npz"

with np.load(FILE) as stored:
    FROZEN = {name: stored[name] for name in stored.files}
CASES: dict[str, dict[str, str]] = json.loads(str(FROZEN["about"]))["cases"]


def matrix(kind: str, net: mk.Network, theta: np.ndarray, x: np.ndarray, y: np.ndarray) -> Any:
    if kind == "hessian":
        return fisher.hessian(net, theta, x, y)
    if kind == "empirical":
        return fisher.exact(fisher.signals(net, theta, x, y, targets="data"))
    return {"exact": fisher.exact, "kfac": fisher.kfac, "ekfac": fisher.ekfac}[kind](
        fisher.signals(net, theta, x)
    )


@pytest.mark.parametrize("name", CASES)
def test_the_matrix_is_that_of_another_library(name: str) -> None:
    case = CASES[name]
    data = {key.partition("/")[2]: value for key, value in FROZEN.items() if key.startswith(f"{name}/")}
    weights, biases = ([data[f"{part}{layer}"] for layer in (0, 1)] for part in ("weight", "bias"))
    sizes = [weights[0].shape[1], *(len(weight) for weight in weights)]
    net = mk.mlp(sizes, activation="tanh", output=case["output"])
    theta = net.pack([layers.Dense.join(W, b) for W, b in zip(weights, biases, strict=True)])

    ours = matrix(case["kind"], net, theta, data["x"], data["y"]).to_dense()
    order = torch_order([weight.shape for weight in weights])
    expected = data["matrix"][np.ix_(order, order)]
    if case["library"] == "curvlinops":  # nngeometry sums over outputs, with a Gaussian of unit variance
        expected = expected / torch_scale(case["output"], len(data["x"]), sizes[-1])
    close(ours, expected)


def test_both_libraries_are_there() -> None:
    assert {case["library"] for case in CASES.values()} == {"curvlinops", "nngeometry"}
    assert {case["output"] for case in CASES.values()} == {"categorical", "bernoulli", "gaussian"}
