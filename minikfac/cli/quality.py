"""The command that measures approximations on a net of any size: ``minikfac quality``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from typer import Option

from .. import fisher
from ..backend import Array, to_device, use_device
from ..quality import APPROXIMATIONS, Comparison, applicable, compare_by_products, ledger
from ..races import Problem
from ..training import checkpoint
from ..training.progress import progress_bar
from . import common, nets, runs
from .common import say
from .nets import parse_names
from .tables import Wide, print_comparison, print_ledger

Run = Annotated[Path | None, Option(help="Folder of minikfac train; without, parameters as initialized.")]
Approximations = Annotated[
    str | None, Option(help="As K-FAC,EKFAC,diagonal; all that need no dense blocks by default.")
]
Samples = Annotated[int, Option(help="Drawn targets per example for approximations; 0 takes all.", min=0)]
Ledger = Annotated[bool, Option("--ledger", help="Print the ledger of assumptions too.")]

EXAMPLE = "minikfac quality --problem digits-autoencoder --damping 0.1"


def quality(
    name: common.ProblemName = "digits-autoencoder",
    net: nets.Net = None,
    data: nets.Data = None,
    activation: nets.Activation = None,
    output: nets.Output = None,
    folder: common.Folder = None,
    run: Run = None,
    examples: Annotated[int, Option(help="N, the first ones, over which matrices are means.", min=1)] = 500,
    damping: Annotated[float, Option(help="lambda > 0, added to the diagonal.")] = 1e-2,
    approximations: Approximations = None,
    samples: Samples = 10,
    vectors: Annotated[int, Option(help="Random ones; more make errors more precise.", min=2)] = 20,
    limit: Annotated[int, Option(help="Most iterations of conjugate gradients.", min=1)] = 500,
    assumptions: Ledger = False,
    width: common.Width = 1.0,
    dtype: common.Dtype = None,
    device: common.Device = "cpu",
    seed: common.Seed = 0,
    wide: Wide = False,
) -> None:
    """Measure K-FAC and others against the exact Fisher matrix of a net of any size.

    No matrix is formed: the exact step comes from conjugate gradients, and norms
    from products with random vectors, with standard errors. Each line of the
    output is sharper than the one before.
    """
    started = time.perf_counter()
    use_device(device)
    problem = nets.problem_of(name, net, data, activation, output, folder, width, dtype, device)
    theta, stats = _parameters(problem, run, seed)
    x, y = (to_device(part[:examples], device) for part in (problem.dataset.x_train, problem.dataset.y_train))
    say(f"{runs.described(problem)}; {len(x):,} examples, damping {damping:g}")
    targets: dict[str, Any] = {}
    if samples:
        targets = {"targets": "sampled", "n_samples": samples, "rng": np.random.default_rng(seed)}
    signals = fisher.signals(problem.net, theta, x, stats=stats, **targets)
    chosen = parse_names(approximations, list(APPROXIMATIONS), "--approximations")
    names = chosen or applicable(signals, large=True)
    methods = {name: method for name in names if (method := APPROXIMATIONS[name][1])}
    F, gradient = fisher.product(problem.net, theta, x, stats), problem.net.gradient(theta, x, y, stats)
    with progress_bar("quality", None) as bar:
        matrices = {}
        for name in names:
            bar.advance(f"building {name}")
            matrices[name] = APPROXIMATIONS[name][0](signals)
        terms: dict[str, Any] = {
            "cg_limit": limit,
            "vectors": vectors,
            "seed": seed,
            "on_progress": bar.advance,
        }
        for comparison in compare_by_products(F, matrices, gradient, damping, methods, **terms):
            say(f"{time.perf_counter() - started:6.1f} s  {_line(comparison)}")
    print_comparison(comparison, wide)
    if assumptions:
        print_ledger("The ledger of assumptions", ledger(signals, gradient, damping, F, built=matrices))


def _parameters(problem: Problem, run: Path | None, seed: int) -> tuple[Array, list[Array] | None]:
    """Parameters and statistics of batch normalization: of a run, or as initialized."""
    theta = problem.theta(seed)
    if run is None:
        return theta, None
    saved = checkpoint.load(run / "run.npz", theta)
    problem.net.unpack(saved.theta)  # refuses those of another net
    say(f"Parameters after {saved.step:,} steps of {run}")
    return saved.theta.astype(theta.dtype), saved.state.get("stats") or None


def _line(comparison: Comparison) -> str:
    """K-FAC's numbers so far, or those of the first approximation."""
    names = [row["approximation"] for row in comparison.whole()]
    row = comparison["K-FAC" if "K-FAC" in names else names[0]]
    error = ""
    if "error" in row and comparison.spread is not None:
        standard_error = comparison.spread[comparison.rows.index(row)]["error"]
        error = f"error {row['error']:.4f} ± {standard_error:.1g}, "
    return f"{row['approximation']}: {error}cosine {row['step_cosine']:.3f}, share {row['share']:.3f}"
