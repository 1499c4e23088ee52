"""Equivalent nets, trained alike, and how far their functions diverge: what depends on the parameters.

Two nets compute the same function, in parameters theta = J theta' + const (:mod:`minikfac.reparam`). Both
take the same steps of a method, on the same batches, with targets drawn by the same random numbers. The gap
is the distance between their outputs z, over the distance that the first net's outputs have moved:

    gap = ||z(theta_k) - z'(theta'_k)|| / ||z(theta_k) - z(theta_0)||          on test inputs

A method is invariant if the gap is rounding; :mod:`.methods` has the table of what theory says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import fisher, optim, reparam
from ..display import ShownByFields
from ..network import Network
from ..parallel import one_thread
from ..reparam import Reparameterization
from ..training.progress import progress_bar
from .methods import (
    METHODS,
    Data,
    Matrix,
    Method,
    changes,
    digits_problem,
    images_problem,
    preconditioned,
    random_map,
)

TOLERANCE = 1e-6
"""Gaps below this are rounding, which a hundred undamped steps amplify."""
MARKS = (1, 2, 5, 10, 20, 50, 100)
"""Steps after which gaps are taken, and after the last."""


# runs and cells --------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Run(ShownByFields):
    """The results of training one net.

    Attributes:
        losses: on the training examples (k + 1,), from the start on.
        marks: steps after which outputs were taken (m,), the start first.
        z: outputs on test inputs (m, N, C).
        failure: why it ended early, or "".
    """

    losses: np.ndarray
    marks: np.ndarray
    z: np.ndarray
    failure: str = ""

    @property
    def counts(self) -> bool:
        """Whether it took all steps, the loss stayed finite, and fell."""
        finite = bool(np.isfinite(self.losses).all() and np.isfinite(self.z).all())
        return not self.failure and finite and bool(self.losses[-1] < self.losses[0])


@dataclass(frozen=True, repr=False)
class Cell(ShownByFields):
    """One method under one reparameterization.

    Attributes:
        method, change: their names.
        steps: after which gaps were taken (m,).
        gaps: (m,).
        expected: whether theory says that the method is invariant here.
        losses: of both nets (2, k + 1); shorter where one failed.
        failure: why the cell does not count, or "".
    """

    method: str
    change: str
    steps: np.ndarray
    gaps: np.ndarray
    expected: bool
    losses: tuple[np.ndarray, np.ndarray]
    failure: str = ""

    @property
    def gap(self) -> float:
        """After the last step; nan where the cell does not count."""
        return math.nan if self.failure else float(self.gaps[-1])

    @property
    def invariant(self) -> bool:
        """Whether the gap is rounding."""
        return self.gap < TOLERANCE

    @property
    def as_predicted(self) -> bool:
        """Whether the cell counts, and is what theory says."""
        return not self.failure and self.invariant == self.expected

    def record(self) -> dict[str, Any]:
        """Its numbers as plain data."""
        derived = {key: getattr(self, key) for key in ("gap", "invariant", "as_predicted")}
        arrays = {"steps": self.steps.tolist(), "gaps": self.gaps.tolist()}
        return vars(self) | derived | arrays | {"losses": [losses.tolist() for losses in self.losses]}


def follow(
    net: Network,
    theta: np.ndarray,
    make: Callable[[Network], Any],
    data: Data,
    steps: int,
    seed: int = 0,
) -> Run:
    """Take steps on all training examples; targets of step k are drawn by ``default_rng([seed, k])``.

    A run that meets a singular matrix or a loss that is not finite ends there, and says so.

    Args:
        net: the network.
        theta: (P,), the start.
        make: network to optimizer.
        data: examples.
        steps: how many.
        seed: of the targets that are drawn.
    """
    opt = make(net)
    state, losses, failure = opt.init(theta), [net.loss(theta, data.x, data.y)], ""
    marks, z = [0], [net.natural_parameters(theta, data.x_test)]
    for k in range(steps):
        try:
            theta, state, _ = opt.step(theta, state, (data.x, data.y), np.random.default_rng([seed, k]))
        except ValueError as error:  # no inverse
            failure = str(error)
            break
        try:
            losses.append(net.loss(theta, data.x, data.y))
        except (ValueError, FloatingPointError):  # parameters, or what is made of them
            failure = f"loss not finite after {k + 1} steps"
            break
        if k + 1 in MARKS or k + 1 == steps:
            marks.append(k + 1)
            z.append(net.natural_parameters(theta, data.x_test))
    return Run(np.array(losses), np.array(marks), np.array(z), failure)


def compared(method: str, change: str, expected: bool, ours: Run, theirs: Run) -> Cell:
    """The gaps between two runs that began as the same function."""
    failures = []
    for name, run in (("the net", ours), ("the other net", theirs)):
        if not run.counts:
            why = run.failure or f"loss rose from {run.losses[0]:.3g} to {run.losses[-1]:.3g}"
            failures.append(f"{name}: {why}")
    common = min(len(ours.marks), len(theirs.marks))
    z, other = ours.z[1:common], theirs.z[1:common]
    apart, moved = (((a - b) ** 2).sum((1, 2)) ** 0.5 for a, b in ((z, other), (z, ours.z[0])))
    return Cell(
        method,
        change,
        ours.marks[1:common],
        apart / moved,
        expected,
        (ours.losses, theirs.losses),
        "; ".join(failures),
    )


# the matrix --------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class GapMatrix(ShownByFields):
    """Methods down, reparameterizations across; ``cells`` row by row."""

    cells: list[Cell]

    @property
    def methods(self) -> list[str]:
        """Rows."""
        return list(dict.fromkeys(cell.method for cell in self.cells))

    @property
    def changes(self) -> list[str]:
        """Columns."""
        return list(dict.fromkeys(cell.change for cell in self.cells))

    def row(self, method: str) -> list[Cell]:
        """One method under each reparameterization."""
        return [cell for cell in self.cells if cell.method == method]

    def cell(self, method: str, change: str) -> Cell:
        """One method under one reparameterization; KeyError if there is none."""
        return {(cell.method, cell.change): cell for cell in self.cells}[method, change]


def invariance_matrix(
    methods: Sequence[Method] = METHODS, seed: int = 0, most: int | None = None, progress: bool = True
) -> GapMatrix:
    """Try each method under each reparameterization.

    Args:
        methods: rows.
        seed: of parameters, maps and drawn targets.
        most: steps of any method; each has a number of its own by default.
        progress: show a bar.
    """
    columns, cells = changes(seed), []
    _, _, data = digits_problem(seed=seed)
    with progress_bar("invariance", len(methods), progress) as bar, one_thread():
        for method in methods:
            bar.note(method.name)
            steps = method.steps if most is None else min(most, method.steps)
            ours: dict[int, Run] = {}  # by net: most columns begin at the same
            for column in columns:
                source = id(column.r.source)
                if source not in ours:
                    ours[source] = follow(column.r.source, column.theta, method.make, data, steps, seed)
                other = follow(column.r.net, column.r.push(column.theta), method.make, data, steps, seed)
                expected = column.kind in method.invariant
                cells.append(compared(method.name, column.name, expected, ours[source], other))
            bar.advance()
    return GapMatrix(cells)


# damping --------------------------------------------------------------

DAMPINGS = tuple(10.0**power for power in range(-12, 3))
DAMPED: dict[str, tuple[Matrix, str | None]] = {
    "exact natural gradient": (fisher.exact, None),
    "K-FAC, (A ⊗ G + λI)⁻¹": (fisher.kfac, "eigen"),
    "K-FAC, factored damping": (fisher.kfac, "factored"),
}


def gap_against_damping(
    dampings: Sequence[float] = DAMPINGS, seed: int = 0
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Gaps after one damped step in nets that a general affine map connects.

    They are proportional to lambda for small damping; factored damping adds its root to each factor, and the
    gap is proportional to the root.

    Returns:
        dampings (m,), gaps (m,) by method.
    """
    net, theta, data = digits_problem(seed=seed)
    r = random_map(net, seed)
    start = net.natural_parameters(theta, data.x_test)
    gaps = {name: np.zeros(len(dampings)) for name in DAMPED}
    with one_thread():
        pair = [
            (one, at, fisher.signals(one, at, data.x), one.gradient(at, data.x, data.y))
            for one, at in ((net, theta), (r.net, r.push(theta)))
        ]
        for name, (matrix, method) in DAMPED.items():
            built = [(one, at, matrix(signals), grad) for one, at, signals, grad in pair]
            for place, lam in enumerate(dampings):
                z, other = (
                    one.natural_parameters(at - 0.1 * F.solve(grad, lam, method), data.x_test)
                    for one, at, F, grad in built
                )
                gaps[name][place] = np.linalg.norm(z - other) / np.linalg.norm(z - start)
    return np.array(dampings, dtype=float), gaps


# the applications of the talk --------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Application(ShownByFields):
    """One reparameterization, under gradient descent and under K-FAC.

    Attributes:
        key: as on the command line.
        title: what is compared.
        nets: what the two are called.
        cells: SGD, K-FAC.
    """

    key: str
    title: str
    nets: tuple[str, str]
    cells: tuple[Cell, Cell]

    @property
    def gaps(self) -> dict[str, float]:
        """By method."""
        return {cell.method: cell.gap for cell in self.cells}

    def record(self) -> dict[str, Any]:
        """Its numbers as plain data."""
        return vars(self) | {"nets": list(self.nets), "cells": [cell.record() for cell in self.cells]}


def _train_pair(
    r: Reparameterization, theta: np.ndarray, data: Data, key: str, steps: int, seed: int, lr: float = 0.1
) -> tuple[Cell, Cell]:
    """Both nets under SGD with a step size of 0.1, and under K-FAC with one of ``lr``."""
    if steps < 1:
        raise ValueError(f"expected at least one step, got {steps}")

    def cell(method: str, make: Callable[[Network], Any]) -> Cell:
        ours = follow(r.source, theta, make, data, steps, seed)
        theirs = follow(r.net, r.push(theta), make, data, steps, seed)
        return compared(method, key, method == "K-FAC", ours, theirs)

    with one_thread():
        sgd = cell("SGD", lambda net: optim.SGD(net, 0.1))
        return sgd, cell("K-FAC", preconditioned(fisher.kfac, lr, targets="sampled"))


def logistic_for_tanh(steps: int = 100, seed: int = 0) -> Application:
    """Train a net of logistic units, and the net of tanh units that begins as the same function.

    Args:
        steps: of SGD and of undamped K-FAC.
        seed: of parameters and drawn targets.
    """
    net, theta, data = digits_problem("logistic", seed)
    key, title = "logistic-to-tanh", "Logistic units against tanh units"
    cells = _train_pair(reparam.logistic_to_tanh(net), theta, data, key, steps, seed)
    return Application(key, title, ("logistic", "tanh"), cells)


def centred(steps: int = 100, seed: int = 0) -> Application:
    """Train a net, and one in which what enters each layer has mean 0 and variance 1 at the start.

    Args:
        steps: of SGD and of undamped K-FAC.
        seed: of parameters and drawn targets.
    """
    net, theta, data = digits_problem(seed=seed)
    key, title = "center", "Raw against activations of mean 0 and variance 1"
    cells = _train_pair(reparam.normalize(net, theta, data.x), theta, data, key, steps, seed)
    return Application(key, title, ("raw", "centred"), cells)


def colour_whitened(steps: int = 30, seed: int = 0, folder: str | Path | None = None) -> Application:
    """Train a convolutional net on images, and one that sees their colours whitened, 3 x 3 at each pixel.

    Args:
        steps: of SGD and of undamped KFC.
        seed: of images, parameters and drawn targets.
        folder: of CIFAR-10's files, for photographs instead of generated images.

    Raises:
        OSError, ValueError: where the folder does not hold CIFAR-10.
    """
    net, theta, data = images_problem(seed, folder)
    key, source = "whiten-colors", "generated" if folder is None else "CIFAR-10"
    cells = _train_pair(reparam.whiten_colors(net, data.x), theta, data, key, steps, seed, lr=0.02)
    return Application(key, f"Raw against colour-whitened images ({source})", ("raw", "whitened"), cells)


def centred_maps(steps: int = 30, seed: int = 0, folder: str | Path | None = None) -> Application:
    """Train a convolutional net, and one in which what enters each layer has mean 0 per channel at the start.

    Arguments are those of :func:`colour_whitened`.
    """
    net, theta, data = images_problem(seed, folder)
    key, source = "center-maps", "generated images" if folder is None else "CIFAR-10"
    cells = _train_pair(reparam.center(net, theta, data.x), theta, data, key, steps, seed, lr=0.02)
    return Application(key, f"Raw against centred maps ({source})", ("raw", "centred"), cells)


APPLICATIONS: dict[str, Callable[..., Application]] = {
    "logistic-to-tanh": logistic_for_tanh,
    "center": centred,
    "whiten-colors": colour_whitened,
    "center-maps": centred_maps,
}
"""By name on the command line."""


# the whole study --------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Invariance(ShownByFields):
    """The matrix, and the studies beside it.

    Attributes:
        matrix: each method under each reparameterization.
        dampings: (m,).
        damped: gaps after one step against damping, (m,) by method.
        applications: single reparameterizations, under SGD and K-FAC.
    """

    matrix: GapMatrix
    dampings: np.ndarray
    damped: dict[str, np.ndarray]
    applications: list[Application]

    @property
    def all_cells(self) -> list[Cell]:
        """Of the matrix and the applications."""
        return [*self.matrix.cells, *(cell for one in self.applications for cell in one.cells)]

    def record(self) -> dict[str, Any]:
        """All numbers as plain data."""
        gaps = {name: gaps.tolist() for name, gaps in self.damped.items()}
        return {
            "tolerance": TOLERANCE,
            "cells": [cell.record() for cell in self.matrix.cells],
            "damping": {"values": self.dampings.tolist(), "gaps": gaps},
            "applications": [one.record() for one in self.applications],
        }


def full_study(seed: int = 0, most: int | None = None) -> Invariance:
    """Fill the matrix, follow gaps against damping, and try all applications.

    Args:
        seed: of parameters, maps and drawn targets.
        most: steps of any method; each has a number of its own by default.
    """
    matrix, applications = invariance_matrix(seed=seed, most=most), []
    with progress_bar("damping and applications", 1 + len(APPLICATIONS)) as bar:
        dampings, damped = gap_against_damping(seed=seed)
        bar.advance()
        for train in APPLICATIONS.values():
            applications.append(train(seed=seed) if most is None else train(min(most, 30), seed))
            bar.advance()
    return Invariance(matrix, dampings, damped, applications)


def brief_study(seed: int = 0) -> Invariance:
    """Fill the matrix with runs of ten steps; a hundred for logistic and tanh units alone. Some 5 seconds."""
    matrix = invariance_matrix(seed=seed, most=10, progress=False)
    return Invariance(matrix, *gap_against_damping(seed=seed), [logistic_for_tanh(seed=seed)])
