"""The command that measures approximations on a net of any size: ``minikfac quality``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from typer import Option

from .. import fisher, races
from ..backend import Array, to_device, use_device
from ..quality import APPROXIMATIONS, Comparison, applicable, compare_by_products, ledger
from ..races import Problem
from ..training import checkpoint
from ..training.progress import progress_bar
from . import common, runs
from .common import check_file, say
from .nets import parse_names, problem_of
from .tables import Wide, print_comparison, print_ledger

MANY_OUTPUTS = 32
"""Outputs above which approximations take drawn targets in place of all: so many derivatives per example."""
DRAWN = 10
"""Targets per example then."""

Net = Annotated[
    str | None, Option(help="A net of your own on --data instead: units per layer, as in 64-500-10, or conv.")
]
Data = Annotated[str, Option(help="With --net: digits, mnist, usps, cifar10, svhn, curves or FILE.npz.")]
Run = Annotated[
    Path | None,
    Option("--run", help="Folder of minikfac train; without, parameters as initialized."),
]
Approximations = Annotated[
    str | None,
    Option(
        help="Which to build, with commas between them, as K-FAC,EKFAC,diagonal; all that need no dense "
        "blocks by default."
    ),
]
Samples = Annotated[
    int | None,
    Option(
        help=f"Targets per example from which the approximations are built; all of the model's by default up "
        f"to {MANY_OUTPUTS} outputs, else {DRAWN}.",
        min=1,
    ),
]
Save = Annotated[Path | None, Option(help="A .csv file for the table, with standard errors.")]

EXAMPLE = "minikfac quality --problem digits-autoencoder --damping 0.1"


def quality(
    name: common.ProblemName = "digits-autoencoder",
    net: Net = None,
    data: Data = "digits",
    activation: Annotated[str, Option(help="With --net: of hidden units.")] = "tanh",
    output: Annotated[str, Option(help="With --net: categorical, bernoulli or gaussian.")] = "categorical",
    folder: common.Folder = None,
    run: Run = None,
    examples: Annotated[int, Option(help="N, the first ones, over which matrices are means.", min=1)] = 500,
    damping: Annotated[float, Option(help="lambda > 0, added to the diagonal.")] = 1e-2,
    approximations: Approximations = None,
    samples: Samples = None,
    vectors: Annotated[int, Option(help="Random ones; more make errors more precise.", min=2)] = 20,
    tolerance: Annotated[float, Option(help="Relative residual of the exact step.")] = 1e-6,
    limit: Annotated[int, Option(help="Most iterations of conjugate gradients.", min=1)] = 500,
    assumptions: Annotated[bool, Option("--ledger", help="Print the ledger of assumptions too.")] = False,
    width: common.Width = 1.0,
    dtype: common.Dtype = None,
    device: common.Device = "cpu",
    seed: common.Seed = 0,
    save: Save = None,
    wide: Wide = False,
) -> None:
    """Measure K-FAC and others against the exact Fisher matrix of a net of any size.

    No matrix is formed: the exact step comes from conjugate gradients, and norms
    from products with random vectors, with standard errors. Each line of the
    output is sharper than the one before.
    """
    started = time.perf_counter()
    if save is not None:
        check_file(save, (".csv",), "--save")
    use_device(device)
    if net is None:
        problem = races.problem(name, folder, width=width, dtype=dtype, device=device)
    else:
        problem = problem_of(net, width, data, folder, activation, output, None, dtype, device)
    theta, stats = _parameters(problem, run, seed)
    batch = problem.dataset.x_train[:examples], problem.dataset.y_train[:examples]
    x, y = (to_device(part, device) for part in batch)
    say(f"{runs.described(problem)}; {len(x):,} examples, damping {damping:g}")
    signals = _signals(problem, theta, x, stats, samples, seed)
    usual = applicable(signals, large=True)
    names = parse_names(approximations, list(APPROXIMATIONS), "--approximations") or usual
    methods = {name: method for name in names if (method := APPROXIMATIONS[name][1])}
    with progress_bar("quality", None) as bar:
        matrices: dict[str, fisher.FisherMatrix] = {}
        for name in names:
            bar.advance(f"building {name}")
            matrices[name] = APPROXIMATIONS[name][0](signals)
        F = fisher.product(problem.net, theta, x, stats)
        gradient = problem.net.gradient(theta, x, y, stats)
        task = (F, matrices, gradient, damping, methods)
        options: dict[str, Any] = {
            "vectors": vectors,
            "tolerance": tolerance,
            "cg_limit": limit,
            "seed": seed,
        }
        for comparison in compare_by_products(*task, **options):
            say(f"{time.perf_counter() - started:6.1f} s  {_line(comparison)}")
    print_comparison(comparison, wide)
    if assumptions:
        print_ledger("The ledger of assumptions", ledger(signals, gradient, damping, F, built=matrices))
    if save is not None:
        comparison.to_csv(save)
        say(f"Table: {save}")
    say(f"{time.perf_counter() - started:.0f} s")


def _parameters(problem: Problem, run: Path | None, seed: int) -> tuple[Array, list[Array] | None]:
    """Parameters and statistics of batch normalization: of a run, or as initialized."""
    if run is None:
        return problem.theta(seed), None
    path = run / "run.npz"
    saved = checkpoint.load(path, problem.theta(seed)[:1])
    if saved.theta.shape != (problem.net.n_params,):
        raise ValueError(
            f"expected {problem.net.n_params:,} parameters of {problem.name} in {path}, got "
            f"{len(saved.theta):,}; --problem or --net as of that run"
        )
    say(f"Parameters after {saved.step:,} steps, of {path}")
    return saved.theta.astype(problem.dataset.x_train.dtype), saved.state.get("stats") or None


def _signals(
    problem: Problem, theta: Array, x: Array, stats: list[Array] | None, samples: int | None, seed: int
) -> fisher.Signals:
    outputs = problem.net.n_outputs(x)
    if samples is None and outputs > MANY_OUTPUTS:
        samples = DRAWN
        say(f"Approximations from {samples} drawn targets per example, as there are {outputs} outputs")
    if samples is None:
        return fisher.signals(problem.net, theta, x, stats=stats)
    rng = np.random.default_rng(seed)
    drawn: dict[str, Any] = {"targets": "sampled", "n_samples": samples, "rng": rng}
    return fisher.signals(problem.net, theta, x, stats=stats, **drawn)


def _line(comparison: Comparison) -> str:
    """K-FAC's numbers so far, or those of the first approximation."""
    names = [row["approximation"] for row in comparison.whole()]
    name = "K-FAC" if "K-FAC" in names else names[0]
    row = comparison[name]
    shown = [f"cosine {row['step_cosine']:.3f}", f"share {row['share']:.3f}"]
    if "error" in row and comparison.spread is not None:
        errors = [
            r for r in comparison.spread if (r["approximation"], r["layer"]) == (row["approximation"], "all")
        ]
        shown.insert(0, f"error {row['error']:.4f} ± {errors[0]['error']:.2g}")
    return f"{name}: {', '.join(shown)}"
