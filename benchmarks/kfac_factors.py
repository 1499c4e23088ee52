"""K-FAC: factors and one preconditioned gradient, minikfac against curvlinops and nngeometry.

From the inputs to (F + lambda I)^{-1} v with the exact expectation over targets, the bias as one more
input, and exact damping of the Kronecker blocks. nngeometry knows only factored damping, which is what
minikfac is compared with there. Prints a table and writes benchmarks/results/kfac_factors.json.
"""

import argparse
import statistics
from typing import Any

import common
import nets
import torch
from curvlinops import KFACInverseLinearOperator, KFACLinearOperator
from nngeometry.metrics import FIM
from nngeometry.object import PMatKFAC
from nngeometry.object.vector import PVector
from torch.utils.data import DataLoader, TensorDataset

from minikfac import fisher

DAMPING = 1e-2
TOLERANCE = 1e-3
"""Largest difference of two preconditioned vectors, relative to the largest entry, in float32."""


def curvlinops_step(module: torch.nn.Module, X: torch.Tensor, y: torch.Tensor, v: torch.Tensor) -> Any:
    K = KFACLinearOperator(
        module,
        torch.nn.CrossEntropyLoss(),
        list(module.parameters()),
        [(X, y)],
        fisher_type="type-2",
        separate_weight_and_bias=False,
        check_deterministic=False,
    )
    return KFACInverseLinearOperator(K, damping=DAMPING, use_exact_damping=True) @ v


def nngeometry_step(module: torch.nn.Module, X: torch.Tensor, y: torch.Tensor, v: torch.Tensor) -> Any:
    loader = DataLoader(TensorDataset(X, y), batch_size=len(X))
    K = FIM(model=module, loader=loader, representation=PMatKFAC, variant="classif_logits")
    vector = PVector(K.generator.layer_collection, vector_repr=v)
    return K.inverse(regul=DAMPING, use_pi=True).mv(vector).to_torch()


def run(name: str, n: int, repeats: int) -> dict[str, Any]:
    net, theta, x, y, module = nets.make(name, n)
    X, labels, order = torch.from_numpy(x), torch.from_numpy(y), nets.torch_order(module)
    v = net.gradient(theta, x, y)
    v_torch = torch.empty(len(v))
    v_torch[torch.from_numpy(order)] = torch.from_numpy(v)

    def ours(method: str) -> Any:
        return fisher.kfac(fisher.signals(net, theta, x)).solve(v, damping=DAMPING, method=method)

    contenders = {
        "minikfac, exact damping": lambda: ours("eigen"),
        "curvlinops, exact damping": lambda: curvlinops_step(module, X, labels, v_torch),
        "minikfac, factored damping": lambda: ours("factored"),
        "nngeometry, factored damping": lambda: nngeometry_step(module, X, labels, v_torch),
    }
    expected = {"exact": ours("eigen"), "factored": ours("factored")}
    differences = {}

    def check(who: str, factor: Any) -> None:
        if isinstance(factor, torch.Tensor):
            factor = factor.detach().numpy()[order]
        wanted = expected["exact" if "exact" in who else "factored"]
        differences[who] = float(abs(factor - wanted).max() / abs(wanted).max())
        if not differences[who] < TOLERANCE:
            raise SystemExit(f"{name}: {who} differs from minikfac by {differences[who]:.1e}")

    print(f"{name}: P = {net.n_params:,}, N = {n:,}, float32")
    seconds = common.alternate(contenders, repeats, check)
    medians = {who: statistics.median(times) for who, times in seconds.items()}
    for who, median in medians.items():
        print(f"  {who:<32}{1e3 * median:9.1f} ms   difference {differences[who]:.0e}")
    ratios = {
        kind: medians[f"{peer}, {kind} damping"] / medians[f"minikfac, {kind} damping"]
        for kind, peer in (("exact", "curvlinops"), ("factored", "nngeometry"))
    }
    print(f"  peer / minikfac: exact {ratios['exact']:.1f}, factored {ratios['factored']:.1f}\n")
    return {
        "net": name,
        "parameters": net.n_params,
        "examples": n,
        "dtype": "float32",
        "seconds": seconds,
        "medians": medians,
        "relative_differences": differences,
        "ratios": ratios,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--examples", type=int, default=1000)
    arguments = parser.parse_args()
    facts = common.machine()
    common.use_threads(arguments.threads)
    runs = [run(name, arguments.examples, arguments.repeats) for name in nets.SIZES]
    common.write("kfac_factors", {"machine": facts, "threads": arguments.threads, "runs": runs})


if __name__ == "__main__":
    main()
