"""Exact Fisher matrix of the whole net: minikfac against torch.func, nngeometry and curvlinops.

Same net, inputs, precision and number of threads, in one run, in alternating order; every time starts at
the inputs and ends with the (P, P) matrix, and all matrices are checked to agree. Prints a table and
writes benchmarks/results/exact_fisher.json.
"""

import argparse
import math
import statistics
from collections.abc import Callable
from typing import Any

import common
import nets
import numpy as np
import torch
from curvlinops import GGNLinearOperator
from nngeometry.metrics import FIM
from nngeometry.object import PMatDense
from torch.func import functional_call, jacrev, vmap
from torch.utils.data import DataLoader, TensorDataset

from minikfac import fisher

TOLERANCE = 1e-4
"""Largest difference between two of the matrices, relative to the largest entry, in float32."""


def jacobian(module: torch.nn.Module, X: torch.Tensor) -> torch.Tensor:
    """dz / dtheta of every example, (N, C, P): one vectorized backward pass per example and output."""

    def logits(parameters: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return functional_call(module, parameters, (x,))

    parameters = {name: p.detach() for name, p in module.named_parameters()}
    parts = vmap(jacrev(logits), in_dims=(None, 0))(parameters, X)
    return torch.cat([part.flatten(2) for part in parts.values()], dim=2)


def torch_gauss_newton(module: torch.nn.Module, X: torch.Tensor) -> torch.Tensor:
    """J^T (H J) / N with H = diag(p) - p p^T."""
    J = jacobian(module, X)
    with torch.no_grad():
        p = module(X).softmax(1)
        HJ = (torch.diag_embed(p) - p[:, :, None] * p[:, None, :]) @ J
        return J.flatten(0, 1).T @ HJ.flatten(0, 1) / len(X)


def torch_root(module: torch.nn.Module, X: torch.Tensor) -> torch.Tensor:
    """S^T S / N with S = R^T J and H = R R^T, R (C, C - 1): a tenth less work, as H is singular.

    Columns of R: sqrt(p_k / (q_k q_{k+1})) (q_{k+1} e_k - sum_{c > k} p_c e_c), q_k = sum_{c >= k} p_c.
    """
    J = jacobian(module, X)
    with torch.no_grad():
        p = module(X).softmax(1)
        q = p.flip(1).cumsum(1).flip(1)
        R = torch.diag_embed(q[:, 1:])
        R = torch.cat([R, torch.zeros_like(R[:, :1])], dim=1)  # (N, C, C - 1)
        R = R - torch.tril(p[:, :, None].expand(-1, -1, R.shape[2]), diagonal=-1)
        R = R * (p[:, :-1] / (q[:, :-1] * q[:, 1:])).sqrt()[:, None, :]
        S = (R.mT @ J).flatten(0, 1)
        return S.T @ S / len(X)


def nngeometry_dense(module: torch.nn.Module, X: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    loader = DataLoader(TensorDataset(X, y), batch_size=len(X))
    return FIM(model=module, loader=loader, representation=PMatDense, variant="classif_logits").to_torch()


def curvlinops_identity(module: torch.nn.Module, X: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """GGN times the identity, some columns at a time: all at once would not fit into memory."""
    operator = GGNLinearOperator(
        module, torch.nn.CrossEntropyLoss(), list(module.parameters()), [(X, y)], check_deterministic=False
    )
    eye = torch.eye(operator.shape[1], dtype=X.dtype)
    return torch.cat([operator @ columns for columns in eye.split(256, dim=1)], dim=1)


def operations(shapes: tuple[tuple[int, ...], ...], n: int) -> float:
    """Multiplications and additions that an exact Fisher matrix of dense layers needs.

    2 N for each pair of layers and each entry of its block, those that symmetry repeats left out.
    """
    total = sum(math.comb(i + 1, 2) * math.comb(o + 1, 2) for i, o in shapes)
    sizes = [i * o for i, o in shapes]
    total += sum(a * b for k, a in enumerate(sizes) for b in sizes[:k])
    return 2.0 * n * total


def run(name: str, n: int, repeats: int, rates: dict[str, float]) -> dict[str, Any]:
    net, theta, x, y, module = nets.make(name, n)
    X, labels, order = torch.from_numpy(x), torch.from_numpy(y), nets.torch_order(module)
    P = net.n_params
    contenders: dict[str, Callable[[], Any]] = {
        "minikfac": lambda: fisher.exact(fisher.signals(net, theta, x)).array,
        "torch.func, J^T (H J)": lambda: torch_gauss_newton(module, X),
        "torch.func, S^T S": lambda: torch_root(module, X),
        "nngeometry PMatDense": lambda: nngeometry_dense(module, X, labels),
        "curvlinops GGN @ identity": lambda: curvlinops_identity(module, X, labels),
    }
    ours = contenders["minikfac"]()
    differences = {}

    def check(who: str, F: Any) -> None:
        if isinstance(F, torch.Tensor):
            F = F.detach().numpy()[np.ix_(order, order)]
        differences[who] = float(abs(F - ours).max() / abs(ours).max())
        if not differences[who] < TOLERANCE:
            raise SystemExit(f"{name}: {who} differs from minikfac by {differences[who]:.1e}")

    print(f"{name}: P = {P:,}, N = {n:,}, float32")
    seconds = common.alternate(contenders, repeats, check)
    medians = {who: statistics.median(times) for who, times in seconds.items()}
    best_peer = min((who for who in medians if who != "minikfac"), key=medians.__getitem__)
    ratio = medians[best_peer] / medians["minikfac"]
    needed = operations(net.shapes, n) / 1e9
    for who, median in medians.items():
        low, high = min(seconds[who]), max(seconds[who])
        print(
            f"  {who:<28}{median:9.3f} s  ({low:.3f} to {high:.3f}){median / medians['minikfac']:8.1f} x"
            f"   difference {differences[who]:.0e}"
        )
    print(
        f"  best peer / minikfac: {ratio:.1f}.  Floor of minikfac: {needed:.1f} GFLOP at "
        f"{rates['numpy']:.0f} GFLOP/s = {needed / rates['numpy']:.3f} s.\n"
    )
    return {
        "net": name,
        "parameters": P,
        "examples": n,
        "dtype": "float32",
        "seconds": seconds,
        "medians": medians,
        "relative_differences": differences,
        "best_peer": best_peer,
        "ratio": ratio,
        "gflop_needed": needed,
        "gflop_of_the_peers": 2e-9 * n * net.shapes[-1][-1] * P**2,
        "floor_seconds": needed / rates["numpy"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--net", choices=list(nets.SIZES), action="append", help="default: the first two")
    arguments = parser.parse_args()
    facts = common.machine()
    common.use_threads(arguments.threads)
    a, b = common.operands(np.float32)
    rates = {
        "numpy": common.product_rate(np.matmul, a, b),
        "torch": common.product_rate(torch.matmul, torch.from_numpy(a), torch.from_numpy(b)),
    }
    print(f"{facts['cpu']}, {arguments.threads} threads; matrix products in float32: ", end="")
    print(", ".join(f"{who} {rate:.0f} GFLOP/s" for who, rate in rates.items()))
    runs = [
        run(name, arguments.examples, arguments.repeats, rates)
        for name in arguments.net or list(nets.SIZES)[:2]
    ]
    common.write(
        "exact_fisher",
        {"machine": facts, "threads": arguments.threads, "gflop_per_second": rates, "runs": runs},
    )


if __name__ == "__main__":
    main()
