"""Draw every figure of minikfac.plots from a small trained network, to be looked at.

    python docs/preview_figures.py FOLDER [NAME ...]

The network is that of ``training.example()``, after 200 steps of SGD.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import minikfac as mk
from minikfac import fisher, optim, plots, quality, tour, training
from minikfac.tour.chapters import progress

SIZES = [64, 16, 16, 16, 16, 16, 10]
MIDDLE = [1, 2, 3, 4]
LAM = 1e-2
LAM_INVERSE = 1e-4


class Study:
    """A trained network and the arrays that the figures share."""

    def __init__(self) -> None:
        one = training.example()
        self.data, self.net, self.theta, self.x, self.y = one.data, one.net, one.theta, one.x, one.y
        self.snapshots = {steps: training.example(steps).theta for steps in (0, 20, 50, 100, 200, 400, 2000)}
        opt = optim.SGD(one.net, lr=0.05, momentum=0.9)
        self.records = training.train(one.net, one.theta0, opt, one.data, 200, 100, progress=False).records

    @cached_property
    def signals(self) -> fisher.Signals:
        return fisher.signals(self.net, self.theta, self.x)

    @cached_property
    def middle(self) -> fisher.Signals:
        return self.signals.select(MIDDLE)

    @cached_property
    def middle_sizes(self) -> list[int]:
        return [rows.stop - rows.start for rows in self.middle.slices]

    @cached_property
    def gradient(self) -> np.ndarray:
        return self.net.gradient(self.theta, self.x, self.y)[
            self.signals.slices[MIDDLE[0]].start : self.signals.slices[MIDDLE[-1]].stop
        ]

    @cached_property
    def F(self) -> np.ndarray:
        return fisher.exact(self.middle).to_dense()

    @cached_property
    def approximations(self) -> dict[str, np.ndarray]:
        s = self.middle
        return {
            "K-FAC": fisher.kfac(s).to_dense(),
            "K-FAC, all blocks": fisher.khatri_rao(s).to_dense(),
            "block-diagonal": fisher.block_diagonal(s).to_dense(),
            "block-tridiagonal": fisher.block_tridiagonal(s).damped(1e-6).to_dense(),
            "diagonal": np.diag(fisher.diagonal(s).diagonal()),
            "EKFAC": fisher.ekfac(s).to_dense(),
        }


def error(F: np.ndarray, M: np.ndarray) -> float:
    return float(np.linalg.norm(F - M) / np.linalg.norm(F))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def step(M: np.ndarray, grad: np.ndarray, lam: float) -> np.ndarray:
    return np.linalg.solve(M + lam * np.eye(len(M)), grad)


def kfac_picture(study: Study) -> Any:
    s = study.signals
    factors = [(block.A, block.G) for block in fisher.kfac(s).blocks]  # type: ignore[attr-defined]
    return plots.kfac_picture(fisher.exact(s).to_dense(), factors, s.names, 5)


def matrices_one(study: Study) -> Any:
    approximations = {"K-FAC": study.approximations["K-FAC, all blocks"]}
    return plots.matrices(study.F, approximations, study.middle.names, study.middle_sizes)


def matrices_whole(study: Study) -> Any:
    s = study.signals
    sizes = [rows.stop - rows.start for rows in s.slices]
    return plots.matrices(
        fisher.exact(s).to_dense(), {"K-FAC": fisher.kfac(s).to_dense()}, s.names, sizes, pool="max"
    )


def matrices_three(study: Study) -> Any:
    chosen = {name: study.approximations[name] for name in ("K-FAC, all blocks", "K-FAC", "diagonal")}
    return plots.matrices(study.F, chosen, study.middle.names, study.middle_sizes)


def damped_inverse(study: Study) -> np.ndarray:
    """Inverse of K-FAC with all its blocks, the diagonal ones damped as the approximations are."""
    kfac = fisher.kfac(study.middle)
    added = kfac.damped(LAM_INVERSE, "factored").to_dense() - kfac.to_dense()
    return np.linalg.inv(study.approximations["K-FAC, all blocks"] + added)


def matrices_inverse(study: Study) -> Any:
    chosen = {
        "block-diagonal": fisher.kfac(study.middle).inverse(LAM_INVERSE, "factored").to_dense(),
        "block-tridiagonal": fisher.block_tridiagonal(study.middle).inverse(LAM_INVERSE).to_dense(),
    }
    return plots.matrices(
        damped_inverse(study), chosen, study.middle.names, study.middle_sizes,
        reference="inverse of K-FAC", unit="squared weight per nat", percentile=95,
    )  # fmt: skip


def block_means(study: Study) -> Any:
    return plots.block_means(
        study.approximations["K-FAC, all blocks"], study.middle_sizes, study.middle.names
    )


def block_means_inverse(study: Study) -> Any:
    inverse = damped_inverse(study)
    return plots.block_means(inverse, study.middle_sizes, study.middle.names, unit="squared weight per nat")


def ledger(study: Study) -> Any:
    return plots.ledger(quality.ledger(study.middle, study.gradient, LAM))


def quality_bars(study: Study) -> Any:
    s = study.middle
    built = {
        "block-diagonal": fisher.block_diagonal(s),
        "K-FAC": fisher.kfac(s),
        "EKFAC": fisher.ekfac(s),
        "diagonal": fisher.diagonal(s),
        "low rank": fisher.low_rank(s, rank=100),
    }
    return plots.quality_bars(quality.compare(fisher.exact(s), built, study.gradient, LAM).whole())


def spectra(study: Study) -> Any:
    chosen = {"exact": study.F} | study.approximations
    chosen = {name: chosen[name] for name in ("exact", "K-FAC", "EKFAC", "block-diagonal", "diagonal")}
    return plots.spectra({name: np.linalg.eigvalsh(M) for name, M in chosen.items()}, damping=LAM)


def preconditioned_spectra(study: Study) -> Any:
    import scipy.linalg

    identity = np.eye(len(study.F))
    chosen = {"none": np.zeros_like(study.F)} | study.approximations
    chosen = {name: chosen[name] for name in ("none", "diagonal", "K-FAC", "EKFAC", "block-diagonal")}
    eigenvalues = {
        name: scipy.linalg.eigh(study.F + LAM * identity, M + LAM * identity, eigvals_only=True)
        for name, M in chosen.items()
    }
    return plots.preconditioned_spectra(eigenvalues)


def cosine_against_damping(study: Study) -> Any:
    dampings = 10.0 ** np.arange(-6, 2)
    exact = [step(study.F, study.gradient, lam) for lam in dampings]
    curves = {
        name: [
            cosine(d, step(study.approximations[name], study.gradient, lam))
            for lam, d in zip(dampings, exact, strict=True)
        ]
        for name in ("block-diagonal", "EKFAC", "K-FAC", "diagonal")
    }
    return plots.cosine_against_damping(dampings, curves)


def gradient_scatter(study: Study) -> Any:
    theta, rng = study.snapshots[20], np.random.default_rng(1)
    drawn = fisher.signals(study.net, theta, study.x, targets="sampled", rng=rng)[5]
    F = fisher.exact(fisher.signals(study.net, theta, study.x).select([5])).to_dense()
    pair = [3 * 10 + 3, 7 * 10 + 3]
    samples, F = drawn.gradients()[0][:, pair], F[np.ix_(pair, pair)]
    return plots.gradient_scatter(samples, F, names=("$W_{3,3}$", "$W_{7,3}$"))


def kl_against_quadratic(study: Study) -> Any:
    rng = np.random.default_rng(2)
    d = rng.normal(size=study.theta.shape)
    d /= np.linalg.norm(d)
    lengths = np.logspace(-6, 0.5, 40)
    product = fisher.product(study.net, study.theta, study.x) @ d
    differences = [
        abs(study.net.kl(study.theta, study.theta + t * d, study.x) - 0.5 * t**2 * (d @ product))
        for t in lengths
    ]
    return plots.kl_against_quadratic(lengths, differences, floor=1e-16)


def monte_carlo_error(study: Study) -> Any:
    counts, seeds = [1, 2, 4, 8, 16, 32], 5
    x, y, net, theta = study.x, study.y, study.net, study.theta
    F, K = study.F, study.approximations["K-FAC"]
    whole, kfac = np.zeros((len(counts), seeds)), np.zeros((len(counts), seeds))
    for row, count in enumerate(counts):
        for seed in range(seeds):
            rng = np.random.default_rng([seed, count])
            drawn = fisher.signals(net, theta, x, targets="sampled", n_samples=count, rng=rng).select(MIDDLE)
            whole[row, seed] = error(F, fisher.exact(drawn).to_dense())
            kfac[row, seed] = error(K, fisher.kfac(drawn).to_dense())
    data = fisher.exact(fisher.signals(net, theta, x, y, targets="data").select(MIDDLE)).to_dense()
    errors = {
        "sampled Fisher": whole,
        "sampled K-FAC, against exact K-FAC": kfac,
        "empirical Fisher (labels)": error(F, data),
    }
    return plots.monte_carlo_error(counts, errors, xlabel="sampled targets per example")


def mean_derivatives(study: Study) -> Any:
    net, theta, x, y = study.net, study.snapshots[0], study.data.x_train, study.data.y_train
    count = 20
    rng = np.random.default_rng(3)
    g = fisher.signals(net, theta, x, targets="sampled", n_samples=count, rng=rng)[5].g[:, :, 0] * count**0.5
    labels = fisher.signals(net, theta, x, y, targets="data")[5].g[0, :, 0]
    error = g.std((0, 1)) / np.sqrt(g.shape[0] * g.shape[1])
    return plots.mean_derivatives(g.mean((0, 1)), labels.mean(0), error, xlabel="output unit (digit)")


def forward_backward(study: Study) -> Any:
    net, theta = study.net, study.snapshots[50]
    probabilities = net.predict(theta, study.data.x_test)
    row = int(np.abs(probabilities.max(1) - 0.72).argmin())
    x, p = study.data.x_test[row : row + 1], probabilities[row]
    target = int(p.argsort()[-2])
    tape = net.forward(theta, x)
    g = net.backward(theta, tape, (p - np.eye(10)[target])[None])
    return plots.forward_backward(
        x.reshape(8, 8), [abar[0, 0, :-1] for abar in tape.abar[1:]], p, target,
        int(study.data.y_test[row]), [layer[0, 0] for layer in g],
    )  # fmt: skip


def graphical_models(study: Study) -> Any:
    return plots.graphical_models(4)


def memory(study: Study) -> Any:
    sizes = {
        "digits net": SIZES,
        "net of MG15": [256, 20, 20, 20, 20, 20, 10],
        "MNIST autoencoder": [784, 1000, 500, 250, 30, 250, 500, 1000, 784],
    }
    nets = {name: mk.mlp(units) for name, units in sizes.items()}
    counts = {name: (net.n_params, sum(i**2 + o**2 for i, o in net.shapes)) for name, net in nets.items()}
    return plots.memory(counts, budgets={"80 GB, a large GPU": 80e9})


def quality_along_training(study: Study) -> Any:
    steps = sorted(study.snapshots)
    errors: dict[str, list[float]] = {name: [] for name in study.net.names}
    for when in steps:
        signals = fisher.signals(study.net, study.snapshots[when], study.x[:200])
        exact, kfac = fisher.block_diagonal(signals), fisher.kfac(signals)
        for name, F, M in zip(study.net.names, exact.blocks, kfac.blocks, strict=True):
            errors[name].append(error(F.to_dense(), M.to_dense()))
    return plots.quality_along_training(steps, errors, title="Error of K-FAC's blocks along training")


def conditioning(study: Study) -> Any:
    run = tour.conditioning()
    return plots.conditioning(
        run.hessian, run.minimum, run.paths, run.losses, run.condition_numbers, run.steps
    )


def improvement_against_damping(study: Study) -> Any:
    at = progress.improvement()
    return plots.improvement_against_damping(at.study.gammas, at.study.improvements, chosen=at.gamma)


def training_curve(study: Study) -> Any:
    return plots.training_curve({"SGD": study.records})


def test_error_curve(study: Study) -> Any:
    return plots.training_curve(study.records, "test_error")


FIGURES: dict[str, Callable[[Study], Any]] = {
    draw.__name__: draw
    for draw in (
        kfac_picture, matrices_one, matrices_whole, matrices_three, matrices_inverse,
        block_means, block_means_inverse, ledger, spectra,
        preconditioned_spectra, cosine_against_damping, gradient_scatter, kl_against_quadratic,
        monte_carlo_error, mean_derivatives, quality_bars, forward_backward, graphical_models, memory,
        quality_along_training, conditioning, improvement_against_damping,
        training_curve, test_error_curve,
    )
}  # fmt: skip


def main() -> None:
    """Draw the figures asked for, all of them by default."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FIGURES)}")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    study = Study()
    print(f"test error {study.records[-1]['test_error']:.1%} after 200 steps")
    for name in given.names or FIGURES:
        start = time.perf_counter()
        made = FIGURES[name](study)
        fig = (made[0] if isinstance(made, list) else made).figure
        fig.savefig(given.folder / f"{name}.png")
        plt.close(fig)
        print(f"{name}: {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
