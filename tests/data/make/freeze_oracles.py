"""Freeze small results of curvlinops and nngeometry for tests that run where neither is installed.

    pip install -c tests/parity/constraints.txt -e ".[oracles]"
    python tests/data/make/freeze_oracles.py

writes tests/data/frozen_oracles.npz. Per case: inputs x, targets y, the weights as PyTorch stores them,
weight0 (O, I), bias0 (O,), ..., and the matrix over parameters in PyTorch's order and at its library's scale.
"""

import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import curvlinops
import numpy as np
import torch
from nngeometry.metrics import FIM
from nngeometry.object import PMatDense, PMatEKFAC, PMatKFAC
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

TARGET = Path(__file__).parents[3] / "tests" / "data" / "frozen_oracles.npz"
SIZES = [4, 5, 3]
N = 8
LOSSES = {"categorical": nn.CrossEntropyLoss, "bernoulli": nn.BCEWithLogitsLoss, "gaussian": nn.MSELoss}
TYPE_2 = dict(fisher_type="type-2", separate_weight_and_bias=False)


def linear_operator(kind: str, output: str, **arguments: Any) -> Callable[..., torch.Tensor]:
    def compute(module: nn.Module, X: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        parameters = list(module.parameters())
        make = getattr(curvlinops, kind + "LinearOperator")
        operator = make(module, LOSSES[output](), parameters, [(X, Y)], **arguments)
        return operator @ torch.eye(operator.shape[1])

    return compute


def nngeometry(representation: Any, variant: str) -> Callable[..., torch.Tensor]:
    def compute(module: nn.Module, X: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        loader = DataLoader(TensorDataset(X, Y), batch_size=N)
        matrix = FIM(module, loader, representation, variant)
        if representation is PMatEKFAC:
            matrix.update_diag(loader)
        return matrix.to_torch().detach()

    return compute


CASES: dict[str, tuple[str, str, str, Callable[..., torch.Tensor]]] = {
    # name: what it is here, library, output distribution, how
    "ggn_categorical": ("exact", "curvlinops", "categorical", linear_operator("GGN", "categorical")),
    "ggn_bernoulli": ("exact", "curvlinops", "bernoulli", linear_operator("GGN", "bernoulli")),
    "ggn_gaussian": ("exact", "curvlinops", "gaussian", linear_operator("GGN", "gaussian")),
    "ef_categorical": ("empirical", "curvlinops", "categorical", linear_operator("EF", "categorical")),
    "hessian_bernoulli": ("hessian", "curvlinops", "bernoulli", linear_operator("Hessian", "bernoulli")),
    "kfac_categorical": (
        "kfac",
        "curvlinops",
        "categorical",
        linear_operator("KFAC", "categorical", **TYPE_2),
    ),
    "ekfac_bernoulli": ("ekfac", "curvlinops", "bernoulli", linear_operator("EKFAC", "bernoulli", **TYPE_2)),
    "dense_categorical": ("exact", "nngeometry", "categorical", nngeometry(PMatDense, "classif_logits")),
    "kfac_gaussian": ("kfac", "nngeometry", "gaussian", nngeometry(PMatKFAC, "regression")),
    "ekfac_categorical": ("ekfac", "nngeometry", "categorical", nngeometry(PMatEKFAC, "classif_logits")),
}


def main() -> None:
    torch.set_default_dtype(torch.float64)
    arrays: dict[str, np.ndarray] = {}
    cases = {}
    for seed, (name, (kind, library, output, compute)) in enumerate(CASES.items()):
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        module = nn.Sequential(nn.Linear(SIZES[0], SIZES[1]), nn.Tanh(), nn.Linear(SIZES[1], SIZES[2]))
        x = rng.standard_normal((N, SIZES[0]))
        y = {
            "categorical": rng.integers(0, SIZES[-1], N),
            "bernoulli": rng.integers(0, 2, (N, SIZES[-1])).astype(float),
            "gaussian": rng.standard_normal((N, SIZES[-1])),
        }[output]
        matrix = compute(module, torch.from_numpy(x), torch.from_numpy(y))
        linears = [part for part in module if isinstance(part, nn.Linear)]
        for number, linear in enumerate(linears):
            arrays[f"{name}/weight{number}"] = linear.weight.detach().numpy()
            arrays[f"{name}/bias{number}"] = linear.bias.detach().numpy()
        arrays |= {f"{name}/x": x, f"{name}/y": y, f"{name}/matrix": matrix.numpy()}
        cases[name] = {"kind": kind, "library": library, "output": output}
    versions = {
        name: importlib.metadata.version(name) for name in ("torch", "curvlinops-for-pytorch", "nngeometry")
    }
    about = json.dumps({"cases": cases, "versions": versions})
    TARGET.parent.mkdir(exist_ok=True)
    np.savez_compressed(TARGET, about=np.array(about), **arrays)
    print(f"{TARGET}: {len(cases)} cases, {TARGET.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
