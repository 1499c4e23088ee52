"""The second tab: a small net that fits a curve, and the maps that make an equivalent net of it.

At strength kappa, linear maps of condition number kappa stand around each layer, [Affine(V, d), layer,
Affine(U, 0)], with V = Q diag(kappa^u) Q^T, U = R diag(kappa^v) R^T and d = log10(kappa) delta: at kappa = 1
both nets are the same, and the second one's weights always make up for the maps (:mod:`minikfac.reparam`).
The page takes the steps by itself, in the parameters of either net.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..network import Network, mlp

RATES = {"SGD": 0.1, "Adam": 0.1, "K-FAC": 0.5, "natural gradient": 0.5}
"""Step sizes, by method."""


def problem() -> tuple[Network, np.ndarray, np.ndarray, np.ndarray]:
    """Make the net 1-3-1 with tanh units that bend at -1.5, 0 and 1.5, theta, and data: noise on a sine.

    Its Fisher matrix is well conditioned, so that undamped steps exist.
    """
    net = mlp([1, 3, 1], "tanh", "gaussian")
    signs = np.array([1.0, -1.0, 1.0])
    W = np.stack([1.6 * signs, -1.6 * signs * np.array([-1.5, 0.0, 1.5])])
    theta = net.pack([W, np.array([[0.7], [0.7], [-0.7], [0.2]])])
    x = np.linspace(-2, 2, 41)[:, None]
    return net, theta, x, np.sin(2.2 * x) + 0.15 * np.random.default_rng(0).standard_normal(x.shape)


def constants() -> list[dict[str, np.ndarray]]:
    """Q, u, delta, R and v of each layer."""
    rng = np.random.default_rng(0)
    maps = []
    for n_inputs, n_units in ((1, 3), (3, 1)):
        Q, R = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in (n_inputs, n_units))
        u, v = (np.linspace(0.5, -0.5, n) if n > 1 else np.array([0.5]) for n in (n_inputs, n_units))
        maps.append({"Q": Q, "u": u, "delta": 0.3 * rng.standard_normal(n_inputs), "R": R, "v": v})
    return maps


def numbers() -> dict[str, Any]:
    """What the page needs, as plain data."""
    _, theta, x, y = problem()
    maps = [{key: array.tolist() for key, array in one.items()} for one in constants()]
    flat = {"theta": theta, "x": x[:, 0], "y": y[:, 0]}
    return {"maps": maps, "rates": RATES} | {key: array.tolist() for key, array in flat.items()}
