"""Who sees the net and who its parameters: equivalent nets, trained alike, and how far their functions part.

Two nets compute the same function, in parameters theta = J theta' + const (:mod:`minikfac.reparam`). Both
take the same steps of a method, on the same batches, with targets drawn by the same random numbers. The gap
is the distance between their outputs z, over the distance that the first net's outputs have moved:

    gap = ||z(theta_k) - z'(theta'_k)|| / ||z(theta_k) - z(theta_0)||          on test inputs

A method is invariant if the gap is rounding. Which are depends on J [MG15, sec. 10; GM16, sec. 4.1]:

    J                                            orthogonal   diagonal   any
    exact, block-exact, K-FAC, tridiagonal       yes          yes        yes
    diagonal Fisher matrix                       no           yes        no
    EKFAC, nearest Kronecker product             yes          no         no
    gradient descent; any of these with damping  yes          no         no
    Adam, diagonally preconditioned CG           no           no         no

Undamped steps need positive definite factors: digits on 16 principal components, Bernoulli outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import datasets, fisher, optim, reparam
from ..network import Network, mlp, outputs
from ..network.layers import AvgPool2d, Conv2d, Dense, Flatten, Layer, Tanh
from ..parallel import one_thread
from ..reparam import Reparameterization
from ..training.progress import progress_bar

TOLERANCE = 1e-6
"""Gaps below this are rounding, which a hundred undamped steps amplify."""
DAMPING = 1e-3
"""lambda, where a method is tried with damping."""
HIDDEN, N_EXAMPLES = 12, 500
MARKS = (1, 2, 5, 10, 20, 50, 100)
"""Steps after which gaps are taken, and after the last."""

ORTHOGONAL, DIAGONAL, ANY = "orthogonal", "diagonal", "any"
"""What a Jacobian J is."""
Matrix = Callable[[fisher.Signals], fisher.FisherMatrix]


@dataclass(frozen=True)
class Preconditioned:
    """Steps theta <- theta - lr (F + damping)^-1 grad, with any matrix for F; in the form of an optimizer.

    Attributes:
        net: the network.
        matrix: signals to F.
        lr: step size.
        targets: of F, "model" or "sampled".
        damping: lambda; 0 for none.
        method: of damping, where there is a choice.
    """

    net: Network
    matrix: Matrix
    lr: float
    targets: str = "model"
    damping: float = 0.0
    method: str | None = None

    def init(self, theta: Any) -> dict[str, Any]:
        """Return the state before the first step: none."""
        return {}

    def step(self, theta: Any, state: dict[str, Any], batch: tuple[Any, Any], rng: Any) -> tuple:
        """Return theta, state and info (``loss``)."""
        loss, grad = self.net.loss_and_gradient(theta, *batch)
        drawn = {"rng": rng} if self.targets == "sampled" else {}
        F = self.matrix(fisher.signals(self.net, theta, batch[0], targets=self.targets, **drawn))
        return theta - self.lr * F.solve(grad, self.damping, self.method), state, {"loss": loss}


@dataclass(frozen=True)
class Method:
    """A row of the matrix.

    Attributes:
        name: of the method.
        make: network to optimizer.
        steps: how many it takes; as many as it is stable for, and quick.
        invariant: kinds of Jacobians under which theory says that it is.
        group: "undamped", "damped" or "whole".
    """

    name: str
    make: Callable[[Network], Any]
    steps: int
    invariant: tuple[str, ...]
    group: str = "undamped"


def _by(matrix: Matrix, lr: float, **options: Any) -> Callable[[Network], Preconditioned]:
    return lambda net: Preconditioned(net, matrix, lr, **options)


ALL, TURNS, SCALES, NONE = (ORTHOGONAL, DIAGONAL, ANY), (ORTHOGONAL,), (DIAGONAL,), ()
METHODS = (
    Method("exact natural gradient", _by(fisher.exact, 0.02), 10, ALL),
    Method("block-exact", _by(fisher.block_diagonal, 0.05), 20, ALL),
    Method("K-FAC", _by(fisher.kfac, 0.1, targets="sampled"), 100, ALL),
    Method("block-tridiagonal", _by(fisher.block_tridiagonal, 0.005), 1, ALL),
    Method("EKFAC", _by(fisher.ekfac, 0.05), 10, TURNS),
    Method("nearest Kronecker", _by(fisher.nearest_kronecker, 0.05), 10, TURNS),
    Method("diagonal Fisher", _by(fisher.diagonal, 0.02), 30, SCALES),
    Method("SGD", lambda net: optim.SGD(net, 0.1), 100, TURNS),
    Method("SGD, momentum", lambda net: optim.SGD(net, 0.03, 0.9), 100, TURNS),
    Method("Adam", lambda net: optim.Adam(net, 0.01), 100, NONE),
    # Krylov spaces turn with the axes; a diagonal preconditioner does not
    Method(
        "truncated CG",
        lambda net: optim.HessianFree(net, lam=0, exponent=0, max_iterations=5),
        10,
        TURNS,
    ),
    Method(
        "Hessian-free (diag. prec.)", lambda net: optim.HessianFree(net, lam=0, max_iterations=5), 10, NONE
    ),
    Method(
        "Krylov subspace",
        lambda net: optim.KrylovSubspace(net, damping=0, exponent=0, K=5, search="model"),
        10,
        TURNS,
    ),
    Method("exact, damped", _by(fisher.exact, 0.1, damping=DAMPING), 10, TURNS, "damped"),
    Method("block-exact, damped", _by(fisher.block_diagonal, 0.1, damping=DAMPING), 10, TURNS, "damped"),
    Method(
        "K-FAC, damped",
        _by(fisher.kfac, 0.1, targets="sampled", damping=DAMPING, method="factored"),
        100,
        TURNS,
        "damped",
    ),
    # pi compares traces and lambda follows the loss: neither sees a rotation
    Method("K-FAC, whole algorithm", lambda net: optim.KFAC(net, lam=1.0), 20, TURNS, "whole"),
)
"""Rows, in order."""


@dataclass(frozen=True)
class Change:
    """A column of the matrix: another net, and the parameters that make it compute the same.

    Attributes:
        name: of the reparameterization.
        kind: what its Jacobian is.
        r: the reparameterization.
        theta: (P,) of ``r.source``.
    """

    name: str
    kind: str
    r: Reparameterization
    theta: np.ndarray


@dataclass(frozen=True)
class Data:
    """Examples of both nets: x and targets y for training, x_test for the gap."""

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray


@dataclass(frozen=True)
class Run:
    """What came of training one net.

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


@dataclass(frozen=True)
class Cell:
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


@dataclass
class Invariance:
    """The matrix, and what belongs to it.

    Attributes:
        cells: row by row.
        dampings: (m,).
        damped: gaps after one step against damping, (m,) by method.
        applications: single reparameterizations, under SGD and K-FAC.
    """

    cells: list[Cell]
    dampings: np.ndarray = field(default_factory=lambda: np.zeros(0))
    damped: dict[str, np.ndarray] = field(default_factory=dict)
    applications: list[Application] = field(default_factory=list)

    @property
    def methods(self) -> list[str]:
        """Rows."""
        return list(dict.fromkeys(cell.method for cell in self.cells))

    @property
    def changes(self) -> list[str]:
        """Columns."""
        return list(dict.fromkeys(cell.change for cell in self.cells))

    @property
    def as_predicted(self) -> bool:
        """Whether all cells, and those on images, are what theory says."""
        return all(cell.as_predicted for cell in self.all_cells)

    @property
    def all_cells(self) -> list[Cell]:
        """Of the matrix and the applications."""
        return [*self.cells, *(cell for own in self.applications for cell in own.cells)]

    def cell(self, method: str, change: str) -> Cell:
        """Find one.

        Raises:
            KeyError: if there is none.
        """
        for cell in self.cells:
            if (cell.method, cell.change) == (method, change):
                return cell
        raise KeyError(
            f"expected one of {', '.join(self.methods)} and of {', '.join(self.changes)}, "
            f"got {method!r}, {change!r}"
        )


@dataclass(frozen=True)
class Application:
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


# the problem --------------------------------------------------------------


def digits_problem(activation: str = "tanh", seed: int = 0) -> tuple[Network, np.ndarray, Data]:
    """Make a net 16-12-10 with Bernoulli outputs for digits on 16 principal components.

    Args:
        activation: of the hidden units; a logistic net begins as the same function as the tanh net.
        seed: of the parameters.

    Returns:
        The net, initial theta (P,), and 500 training examples with one target per digit.
    """
    found = datasets.digits(components=16)
    net = mlp([16, HIDDEN, 10], activation, "bernoulli")
    theta = net.init(np.random.default_rng([seed, 1]))
    if activation == "logistic":  # Glorot's scale is for tanh; here it leaves logistic units almost constant
        theta = reparam.logistic_to_tanh(net).pull(theta)
    y = np.eye(10)[found.y_train[:N_EXAMPLES]]
    return net, theta, Data(found.x_train[:N_EXAMPLES], y, found.x_test)


def changes(seed: int = 0) -> list[Change]:
    """Make the columns of the matrix: random maps of condition number up to 10, and those of the talk."""
    net, theta, data = digits_problem("tanh", seed)
    logistic, theta2, _ = digits_problem("logistic", seed)

    def drawn(kind: str) -> Reparameterization:
        return reparam.random(net, np.random.default_rng([seed, 2]), 10.0, kind)

    made = [
        ("orthogonal", ORTHOGONAL, drawn("orthogonal"), theta),
        ("diagonal", DIAGONAL, drawn("diagonal"), theta),
        ("general affine", ANY, drawn("affine"), theta),
        ("logistic to tanh", ANY, reparam.logistic_to_tanh(logistic), theta2),
        ("center", ANY, reparam.center(net, theta, data.x), theta),
        ("normalize", ANY, reparam.normalize(net, theta, data.x), theta),
        ("whiten", ANY, reparam.whiten(net, theta, data.x), theta),
    ]
    return [Change(*own) for own in made]


# runs and cells --------------------------------------------------------------


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
        losses.append(net.loss(theta, data.x, data.y))
        if not math.isfinite(losses[-1]):
            failure = f"loss not finite after {k + 1} steps"
            break
        if k + 1 in MARKS or k + 1 == steps:
            marks.append(k + 1)
            z.append(net.natural_parameters(theta, data.x_test))
    return Run(np.array(losses), np.array(marks), np.array(z), failure)


def compared(method: str, change: str, expected: bool, ours: Run, theirs: Run) -> Cell:
    """The gaps between two runs that began as the same function."""
    failures = []
    for name, own in (("the net", ours), ("the other net", theirs)):
        if not own.counts:
            why = own.failure or f"loss rose from {own.losses[0]:.3g} to {own.losses[-1]:.3g}"
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


def invariance_matrix(
    methods: Sequence[Method] = METHODS, seed: int = 0, most: int | None = None, progress: bool = True
) -> list[Cell]:
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
    return cells


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

    They are proportional to little damping, lambda; factored damping adds its root to each factor, and the
    gap is proportional to the root.

    Returns:
        dampings (m,), gaps (m,) by method.
    """
    net, theta, data = digits_problem(seed=seed)
    r = reparam.random(net, np.random.default_rng([seed, 2]), 10.0)
    other, theta2 = r.net, r.push(theta)
    found = {}
    start = net.natural_parameters(theta, data.x_test)
    with one_thread():
        parts = [
            (own, at, fisher.signals(own, at, data.x), own.gradient(at, data.x, data.y))
            for own, at in ((net, theta), (other, theta2))
        ]
        for name, (matrix, method) in DAMPED.items():
            built = [(own, at, matrix(signals), grad) for own, at, signals, grad in parts]
            gaps = []
            for lam in dampings:
                z, z2 = (
                    own.natural_parameters(at - 0.1 * F.solve(grad, lam, method), data.x_test)
                    for own, at, F, grad in built
                )
                gaps.append(np.linalg.norm(z - z2) / np.linalg.norm(z - start))
            found[name] = np.array(gaps)
    return np.array(dampings, dtype=float), found


# the applications of the talk --------------------------------------------------------------


def _application(
    key: str,
    title: str,
    nets: tuple[str, str],
    r: Reparameterization,
    theta: np.ndarray,
    data: Data,
    rates: tuple[float, float],
    steps: int,
    seed: int,
) -> Application:
    if steps < 1:
        raise ValueError(f"expected at least one step, got {steps}")
    makes = {
        "SGD": lambda net: optim.SGD(net, rates[0]),
        "K-FAC": _by(fisher.kfac, rates[1], targets="sampled"),
    }
    cells = []
    with one_thread():
        for name, make in makes.items():
            ours = follow(r.source, theta, make, data, steps, seed)
            theirs = follow(r.net, r.push(theta), make, data, steps, seed)
            cells.append(compared(name, key, name == "K-FAC", ours, theirs))
    return Application(key, title, nets, (cells[0], cells[1]))


def logistic_for_tanh(steps: int = 100, seed: int = 0) -> Application:
    """Train a net of logistic units, and the net of tanh units that begins as the same function.

    Args:
        steps: of SGD and of undamped K-FAC.
        seed: of parameters and drawn targets.
    """
    net, theta, data = digits_problem("logistic", seed)
    r = reparam.logistic_to_tanh(net)
    title = "Logistic units against tanh units"
    return _application(
        "logistic-to-tanh", title, ("logistic", "tanh"), r, theta, data, (0.1, 0.1), steps, seed
    )


def centred(steps: int = 100, seed: int = 0, unit_variance: bool = True) -> Application:
    """Train a net, and one in which what enters each layer has mean 0 and variance 1 at the start.

    Args:
        steps: of SGD and of undamped K-FAC.
        seed: of parameters and drawn targets.
        unit_variance: whether variances are 1, too.
    """
    net, theta, data = digits_problem(seed=seed)
    r = (reparam.normalize if unit_variance else reparam.center)(net, theta, data.x)
    what = "activations of mean 0 and variance 1" if unit_variance else "centred activations"
    title = f"Raw against {what}"
    return _application("center", title, ("raw", "centred"), r, theta, data, (0.1, 0.1), steps, seed)


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
    r = reparam.whiten_colors(net, data.x)
    title = f"Raw against colour-whitened images ({'CIFAR-10' if folder is not None else 'generated'})"
    nets = ("raw", "whitened")
    return _application("whiten-colors", title, nets, r, theta, data, (0.1, 0.02), steps, seed)


def centred_maps(steps: int = 30, seed: int = 0, folder: str | Path | None = None) -> Application:
    """Train a convolutional net, and one in which what enters each layer has mean 0 per channel at the start.

    Arguments are those of :func:`colour_whitened`.
    """
    net, theta, data = images_problem(seed, folder)
    r = reparam.center(net, theta, data.x)
    title = f"Raw against centred maps ({'CIFAR-10' if folder is not None else 'generated images'})"
    return _application("center-maps", title, ("raw", "centred"), r, theta, data, (0.1, 0.02), steps, seed)


APPLICATIONS: dict[str, Callable[..., Application]] = {
    "logistic-to-tanh": logistic_for_tanh,
    "center": centred,
    "whiten-colors": colour_whitened,
    "center-maps": centred_maps,
}
"""By name on the command line."""


def images_problem(seed: int = 0, folder: str | Path | None = None) -> tuple[Network, np.ndarray, Data]:
    """Make a small convolutional net with Bernoulli outputs, and images in which every pixel varies.

    Generated ones are noise with correlated neighbours and colours, 6 x 6, and targets are those of another
    net; photographs are averaged to 8 x 8.

    Args:
        seed: of images and parameters.
        folder: of CIFAR-10's files; None for generated images.
    """
    rng = np.random.default_rng([seed, 3])
    if folder is None:
        x, x_test = (_coloured(rng, n, 6) for n in (200, 50))
        net = _small_convnet(6, 3)
        teacher = 3 * net.init(rng)
        y = (net.predict(teacher, x) > 0.5).astype(float)
    else:
        found = datasets.load("cifar10", folder, n_train=400, n_test=100, images=True, dtype="float64")
        x, x_test = (
            own.reshape(len(own), 8, 4, 8, 4, 3).mean((2, 4)) for own in (found.x_train, found.x_test)
        )
        net, y = _small_convnet(8, 10), np.eye(10)[found.y_train]
    return net, net.init(np.random.default_rng([seed, 1])), Data(x, y, x_test)


def _coloured(rng: np.random.Generator, n: int, side: int) -> np.ndarray:
    """Images (n, side, side, 3)."""
    x = rng.standard_normal((n, side, side, 3))
    return x + 0.7 * np.roll(x, 1, 1) + 0.5 * np.roll(x, 1, 2) + 0.4 * np.roll(x, 1, 3) + 0.3


def _small_convnet(side: int, n_outputs: int) -> Network:
    pooled = (side - 2) // 2
    layers: list[Layer] = [Conv2d(3, 4, 3, padding="same"), Tanh(), Conv2d(4, 5, 3), Tanh(), AvgPool2d(2)]
    return Network([*layers, Flatten(), Dense(5 * pooled**2, n_outputs)], outputs.Bernoulli())


def invariance(seed: int = 0, most: int | None = None, progress: bool = True) -> Invariance:
    """Fill the matrix, follow gaps against damping, and try the applications on images.

    Args:
        seed: of parameters, maps and drawn targets.
        most: steps of any method; each has a number of its own by default.
        progress: show a bar.
    """
    found = Invariance(invariance_matrix(seed=seed, most=most, progress=progress))
    with progress_bar("damping and images", 3, progress) as bar:
        found.dampings, found.damped = gap_against_damping(seed=seed)
        bar.advance()
        for make in (colour_whitened, centred_maps):
            found.applications.append(make(30 if most is None else min(most, 30), seed))
            bar.advance()
    return found


def brief(seed: int = 0, most: int = 10) -> Invariance:
    """Fill the matrix with runs of a few steps; a hundred for logistic and tanh units alone. Some 5 seconds.

    Args:
        seed: of parameters, maps and drawn targets.
        most: steps of any method.
    """
    found = Invariance(invariance_matrix(seed=seed, most=most, progress=False))
    found.dampings, found.damped = gap_against_damping(seed=seed)
    found.applications.append(logistic_for_tanh(seed=seed))
    return found


def record(found: Invariance) -> dict[str, Any]:
    """All numbers as plain data."""
    return {
        "tolerance": TOLERANCE,
        "cells": [_cell_record(cell) for cell in found.cells],
        "damping": {
            "values": found.dampings.tolist(),
            "gaps": {name: own.tolist() for name, own in found.damped.items()},
        },
        "applications": [application_record(own) for own in found.applications],
    }


def application_record(own: Application) -> dict[str, Any]:
    """The numbers of one application as plain data."""
    cells = [_cell_record(cell) for cell in own.cells]
    return {"key": own.key, "title": own.title, "nets": list(own.nets), "cells": cells}


def _cell_record(cell: Cell) -> dict[str, Any]:
    kept = ("method", "change", "expected", "failure", "gap", "invariant", "as_predicted")
    return {key: getattr(cell, key) for key in kept} | {
        "steps": cell.steps.tolist(),
        "gaps": cell.gaps.tolist(),
        "losses": [own.tolist() for own in cell.losses],
    }
