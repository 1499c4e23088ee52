"""The methods that are tried, and the equivalent nets under which each is: rows and columns of the matrix.

Which methods are invariant depends on the Jacobian J of the map between the parameters of the two nets
[MG15, sec. 10; GM16, sec. 4.1]:

    J                                            orthogonal   diagonal   any
    exact, block-exact, K-FAC, tridiagonal       yes          yes        yes
    diagonal Fisher matrix                       no           yes        no
    EKFAC, nearest Kronecker product             yes          no         no
    gradient descent; any of these with damping  yes          no         no
    Adam, diagonally preconditioned CG           no           no         no

Undamped steps need positive definite factors: digits on 16 principal components, Bernoulli outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import datasets, fisher, optim, reparam
from ..display import ShownByFields
from ..network import Network, mlp, outputs
from ..network.layers import AvgPool2d, Conv2d, Dense, Flatten, Layer, Tanh
from ..reparam import Reparameterization

DAMPING = 1e-3
"""lambda, where a method is tried with damping."""
HIDDEN, N_EXAMPLES = 12, 500
CONDITION = 10.0
"""Condition number of the random maps."""

ORTHOGONAL, DIAGONAL, ANY = "orthogonal", "diagonal", "any"
"""What a Jacobian J is."""
Matrix = Callable[[fisher.Signals], fisher.FisherMatrix]


# rows --------------------------------------------------------------


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


@dataclass(frozen=True, repr=False)
class Method(ShownByFields):
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


def preconditioned(matrix: Matrix, lr: float, **options: Any) -> Callable[[Network], Preconditioned]:
    """Name a :class:`Preconditioned` method before its net is there."""
    return lambda net: Preconditioned(net, matrix, lr, **options)


ALL, TURNS, SCALES, NONE = (ORTHOGONAL, DIAGONAL, ANY), (ORTHOGONAL,), (DIAGONAL,), ()
_SAMPLED: dict[str, Any] = {"targets": "sampled"}
_DAMPED: dict[str, Any] = {"damping": DAMPING}
_FACTORED: dict[str, Any] = _SAMPLED | _DAMPED | {"method": "factored"}
_FREE: dict[str, Any] = {"lam": 0, "max_iterations": 5}
_KRYLOV: dict[str, Any] = {"damping": 0, "exponent": 0, "K": 5, "search": "model"}
METHODS = (
    Method("exact natural gradient", preconditioned(fisher.exact, 0.02), 10, ALL),
    Method("block-exact", preconditioned(fisher.block_diagonal, 0.05), 20, ALL),
    Method("K-FAC", preconditioned(fisher.kfac, 0.1, **_SAMPLED), 100, ALL),
    Method("block-tridiagonal", preconditioned(fisher.block_tridiagonal, 0.005), 1, ALL),
    Method("EKFAC", preconditioned(fisher.ekfac, 0.05), 10, TURNS),
    Method("nearest Kronecker", preconditioned(fisher.nearest_kronecker, 0.05), 10, TURNS),
    Method("diagonal Fisher", preconditioned(fisher.diagonal, 0.02), 30, SCALES),
    Method("SGD", lambda net: optim.SGD(net, 0.1), 100, TURNS),
    Method("SGD, momentum", lambda net: optim.SGD(net, 0.03, 0.9), 100, TURNS),
    Method("Adam", lambda net: optim.Adam(net, 0.01), 100, NONE),
    # Krylov spaces turn with the axes; a diagonal preconditioner does not
    Method("truncated CG", lambda net: optim.HessianFree(net, exponent=0, **_FREE), 10, TURNS),
    Method("Hessian-free (diag. prec.)", lambda net: optim.HessianFree(net, **_FREE), 10, NONE),
    Method("Krylov subspace", lambda net: optim.KrylovSubspace(net, **_KRYLOV), 10, TURNS),
    Method("exact, damped", preconditioned(fisher.exact, 0.1, **_DAMPED), 10, TURNS, "damped"),
    Method("block-exact, damped", preconditioned(fisher.block_diagonal, 0.1, **_DAMPED), 10, TURNS, "damped"),
    Method("K-FAC, damped", preconditioned(fisher.kfac, 0.1, **_FACTORED), 100, TURNS, "damped"),
    # pi compares traces and lambda follows the loss: a rotation changes neither
    Method("K-FAC, whole algorithm", lambda net: optim.KFAC(net, lam=1.0), 20, TURNS, "whole"),
)
"""Rows, in order."""


# columns --------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Data(ShownByFields):
    """Examples of both nets: x and targets y for training, x_test for the gap."""

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray


@dataclass(frozen=True, repr=False)
class Change(ShownByFields):
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


def digits_problem(activation: str = "tanh", seed: int = 0) -> tuple[Network, np.ndarray, Data]:
    """Make a net 16-12-10 with Bernoulli outputs for digits on 16 principal components.

    Args:
        activation: of the hidden units; a logistic net begins as the same function as the tanh net.
        seed: of the parameters.

    Returns:
        The net, initial theta (P,), and 500 training examples with one target per digit.
    """
    digits = datasets.digits(components=16)
    net = mlp([16, HIDDEN, 10], activation, "bernoulli")
    theta = net.init(np.random.default_rng([seed, 1]))
    if activation == "logistic":  # Glorot's scale is for tanh; here it leaves logistic units almost constant
        theta = reparam.logistic_to_tanh(net).pull(theta)
    y = np.eye(10)[digits.y_train[:N_EXAMPLES]]
    return net, theta, Data(digits.x_train[:N_EXAMPLES], y, digits.x_test)


def random_map(net: Network, seed: int, kind: str = "affine") -> Reparameterization:
    """Draw the random map of a column: around every layer, of condition number up to 10."""
    return reparam.random(net, np.random.default_rng([seed, 2]), CONDITION, kind)


def changes(seed: int = 0) -> list[Change]:
    """Make the columns of the matrix: random maps of condition number up to 10, and those of the talk."""
    net, theta, data = digits_problem("tanh", seed)
    logistic, logistic_theta, _ = digits_problem("logistic", seed)
    return [
        Change("orthogonal", ORTHOGONAL, random_map(net, seed, "orthogonal"), theta),
        Change("diagonal", DIAGONAL, random_map(net, seed, "diagonal"), theta),
        Change("general affine", ANY, random_map(net, seed), theta),
        Change("logistic to tanh", ANY, reparam.logistic_to_tanh(logistic), logistic_theta),
        Change("center", ANY, reparam.center(net, theta, data.x), theta),
        Change("normalize", ANY, reparam.normalize(net, theta, data.x), theta),
        Change("whiten", ANY, reparam.whiten(net, theta, data.x), theta),
    ]


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
        photographs = datasets.load("cifar10", folder, n_train=400, n_test=100, images=True, dtype="float64")
        x, x_test = (
            images.reshape(-1, 8, 4, 8, 4, 3).mean((2, 4))
            for images in (photographs.x_train, photographs.x_test)
        )
        net, y = _small_convnet(8, 10), np.eye(10)[photographs.y_train]
    return net, net.init(np.random.default_rng([seed, 1])), Data(x, y, x_test)


def _coloured(rng: np.random.Generator, n: int, side: int) -> np.ndarray:
    """Images (n, side, side, 3)."""
    x = rng.standard_normal((n, side, side, 3))
    return x + 0.7 * np.roll(x, 1, 1) + 0.5 * np.roll(x, 1, 2) + 0.4 * np.roll(x, 1, 3) + 0.3


def _small_convnet(side: int, n_outputs: int) -> Network:
    pooled = (side - 2) // 2
    layers: list[Layer] = [Conv2d(3, 4, 3, padding="same"), Tanh(), Conv2d(4, 5, 3), Tanh(), AvgPool2d(2)]
    return Network([*layers, Flatten(), Dense(5 * pooled**2, n_outputs)], outputs.Bernoulli())
