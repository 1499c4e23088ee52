"""Freeze Kronecker factors and exact matrices of other libraries, in their own conventions.

    python tests/data/make/freeze_factors.py curvlinops   # and nngeometry, under tests/parity/constraints.txt
    kfac-jax/bin/python tests/data/make/freeze_factors.py kfac-jax

writes tests/data/frozen_factors_LIBRARY.npz: per output distribution the factors of both layers as the
library holds them, and of one its exact Fisher matrix over its own parameters. The net has a convolution,
whose T = 6 locations and patches are where conventions differ, and a dense layer above flattened images.
kfac-jax wants the JAX of its day, in an environment of its own: see benchmarks/jax_steps.py.
"""

import importlib.metadata
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).parents[3] / "tests" / "data"
N = 5
Arrays = dict[str, np.ndarray]


def given() -> Arrays:
    """Images (N, H, W, C), targets, a kernel (kh, kw, c_in, c_out), a weight ((h, w, c), outputs)."""
    rng = np.random.default_rng(0)
    return {
        "x": rng.standard_normal((N, 4, 3, 2)),
        "categorical": rng.integers(0, 3, N),
        "bernoulli": rng.integers(0, 2, (N, 3)).astype(float),
        "gaussian": rng.standard_normal((N, 3)),
        "kernel": rng.standard_normal((2, 2, 2, 2)),
        "kernel_bias": rng.standard_normal(2),
        "weight": rng.standard_normal((12, 3)),
        "weight_bias": rng.standard_normal(3),
    }


def torch_module(arrays: Arrays) -> Any:
    import torch
    from torch import nn

    module = nn.Sequential(nn.Conv2d(2, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(12, 3)).double()
    weight = arrays["weight"].reshape(6, 2, 3).transpose(2, 1, 0).reshape(3, 12)  # inputs (c, h, w)
    kernel = arrays["kernel"].transpose(3, 2, 0, 1)
    for part, array, bias in ((0, kernel, "kernel_bias"), (3, weight, "weight_bias")):
        module[part].weight.data = torch.from_numpy(array.copy())
        module[part].bias.data = torch.from_numpy(arrays[bias])
    return module


def tensors(arrays: Arrays, output: str) -> tuple[Any, Any]:
    import torch

    return torch.from_numpy(arrays["x"].transpose(0, 3, 1, 2).copy()), torch.from_numpy(arrays[output])


def curvlinops(arrays: Arrays) -> Iterator[tuple[str, list[Any], Any]]:
    import torch
    from curvlinops import GGNLinearOperator, KFACLinearOperator
    from torch import nn

    torch.set_default_dtype(torch.float64)
    losses = {"categorical": nn.CrossEntropyLoss, "bernoulli": nn.BCEWithLogitsLoss, "gaussian": nn.MSELoss}
    module = torch_module(arrays)
    parameters = list(module.parameters())
    for output, loss in losses.items():
        for reduction in ("mean", "sum"):
            about = (module, loss(reduction=reduction), parameters, [tensors(arrays, output)])
            whole = output == "bernoulli" and reduction == "mean"
            F = GGNLinearOperator(*about) @ torch.eye(57) if whole else None
            K = KFACLinearOperator(*about, fisher_type="type-2", separate_weight_and_bias=False)
            K @ torch.zeros(57)
            factors = [
                (K._input_covariances[part], K._gradient_covariances[part], 1.0) for part in ("0", "3")
            ]
            yield f"{output}/{reduction}", factors, F


def nngeometry(arrays: Arrays) -> Iterator[tuple[str, list[Any], Any]]:
    import torch
    from nngeometry.metrics import FIM
    from nngeometry.object import PMatDense, PMatKFAC
    from torch.utils.data import DataLoader, TensorDataset

    torch.set_default_dtype(torch.float64)
    module = torch_module(arrays)
    for output, variant in (("categorical", "classif_logits"), ("gaussian", "regression")):
        loader = DataLoader(TensorDataset(*tensors(arrays, output)), batch_size=N)
        F = FIM(module, loader, PMatDense, variant).to_torch() if output == "categorical" else None
        K = FIM(module, loader, PMatKFAC, variant).data.values()
        yield f"{output}/mean", [(A, G, 1.0) for A, G in K], F


def kfac_jax(arrays: Arrays) -> Iterator[tuple[str, list[Any], Any]]:
    import jax
    import jax.numpy as jnp
    import kfac_jax as library

    jax.config.update("jax_enable_x64", True)
    names = (("kernel", "kernel_bias"), ("weight", "weight_bias"))
    parameters = [{"w": jnp.asarray(arrays[w]), "b": jnp.asarray(arrays[b])} for w, b in names]

    def net(parameters: Any, x: Any) -> Any:
        shapes = ("NHWC", "HWIO", "NHWC")
        s = jax.lax.conv_general_dilated(x, parameters[0]["w"], (1, 1), "VALID", dimension_numbers=shapes)
        a = jnp.tanh(s + parameters[0]["b"]).reshape(len(x), -1)
        return a @ parameters[1]["w"] + parameters[1]["b"]

    def loss_of(register: Callable[[Any, Any], None]) -> Callable[[Any, Any], Any]:
        def loss(parameters: Any, batch: Any) -> Any:
            z = net(parameters, batch[0])
            register(z, batch[1])
            return jnp.mean(z)  # its value does not matter here, and it must depend on z

        return loss

    def estimated(estimator: Any, batch: Any) -> Any:
        arguments = (parameters, batch)
        if hasattr(estimator, "finalize"):
            estimator.finalize(arguments)
        key = jax.random.PRNGKey(0)
        state = estimator.init(key, arguments, exact_powers_to_cache=None, approx_powers_to_cache=None)
        return estimator.update_curvature_matrix_estimate(
            state,
            ema_old=0.0,
            ema_new=1.0,
            identity_weight=0.0,
            batch_size=N,
            rng=key,
            func_args=arguments,
            estimation_mode="fisher_exact",
        )

    registers = {
        "categorical": library.register_softmax_cross_entropy_loss,
        "bernoulli": library.register_sigmoid_cross_entropy_loss,
        "gaussian": library.register_squared_error_loss,
    }
    for output, register in registers.items():
        batch = (jnp.asarray(arrays["x"]), jnp.asarray(arrays[output]))
        blocks = library.BlockDiagonalCurvature(loss_of(register))
        state = estimated(blocks, batch)
        factors = [
            (*(factor.value for factor in state.factors), float(block.scale(state, use_cache=False)))
            for block, state in zip(blocks.blocks, state.blocks_states, strict=True)
        ]
        exact = library.ExplicitExactCurvature(loss_of(register))
        whole = output == "gaussian"
        yield f"{output}/mean", factors, exact.to_dense_matrix(estimated(exact, batch)) if whole else None


LIBRARIES = {
    "curvlinops": (curvlinops, ("torch", "curvlinops-for-pytorch")),
    "nngeometry": (nngeometry, ("torch", "nngeometry")),
    "kfac-jax": (kfac_jax, ("jax", "kfac-jax")),
}


def main(name: str) -> None:
    compute, packages = LIBRARIES[name]
    arrays = given()
    results: Arrays = {}
    for case, factors, F in compute(arrays):
        if F is not None:
            results[f"{case}/F"] = host(F)
        for layer, (A, G, scale) in enumerate(factors):
            results |= {f"{case}/A{layer}": host(A), f"{case}/G{layer}": host(G)}
            results[f"{case}/scale{layer}"] = np.array(scale)
    about = json.dumps({package: importlib.metadata.version(package) for package in packages})
    target = DATA / f"frozen_factors_{name}.npz"
    np.savez_compressed(target, about=np.array(about), **arrays, **results)
    print(f"{target}: {len(results)} arrays, {target.stat().st_size / 1024:.0f} KiB, {about}")


def host(array: Any) -> np.ndarray:
    return np.asarray(array.detach() if hasattr(array, "detach") else array)


if __name__ == "__main__":
    main(sys.argv[1])
