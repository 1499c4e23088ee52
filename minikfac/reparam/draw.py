"""Random maps around all layers."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from ..backend import Array, check_generator
from ..linalg import eigh, symmetrize
from ..network import Network
from ..network.layers import Conv2d, Dense
from .reparameterization import Reparameterization
from .wrap import Wrap, wrap

KINDS = ("affine", "orthogonal", "diagonal")
"""The kinds of random maps."""


def random(net: Network, rng: Any, condition: float = 10.0, kind: str = "affine") -> Reparameterization:
    """Draw random maps around every parameter layer, as in :func:`affine`.

    Args:
        net: the network.
        rng: a ``numpy.random.Generator``.
        condition: largest condition number of U and V; singular values lie between its root and the inverse.
        kind: "affine", general U, V and, for layers with a bias, c, d of length about 1; "orthogonal", U and
            V orthogonal, c = d = 0; "diagonal", U and V diagonal with random signs, c = d = 0. Scale and
            shift of a normalization have a diagonal U (signs, for "orthogonal") and no V.

    Raises:
        ValueError: on an unknown kind, or a condition number below 1.
        TypeError: if rng is not a generator.
    """
    check_generator(rng)
    if kind not in KINDS:
        raise ValueError(f"expected kind {' or '.join(map(repr, KINDS))}, got {kind!r}")
    if isinstance(condition, bool) or not isinstance(condition, Real) or not 1 <= condition <= 1e12:
        raise ValueError(f"expected a condition number from 1 to 1e12, got {condition!r}")
    condition, wraps = float(condition), {}
    for l, layer in enumerate(net.parameter_layers):
        n_out = layer.weight_shape[1]
        if isinstance(layer, Dense | Conv2d):
            n_in = layer.n_in if isinstance(layer, Dense) else layer.c_in
            U, V = (_linear(rng, n, condition, kind) for n in (n_out, n_in))
            shifted = kind == "affine" and layer.bias
            c, d = (rng.standard_normal(n) / math.sqrt(n) if shifted else None for n in (n_out, n_in))
            wraps[l] = Wrap(U, c, V, d)
        else:
            U = _scales(rng, n_out, 1.0 if kind == "orthogonal" else condition, signs=True)
            c = rng.standard_normal(n_out) / math.sqrt(n_out) if kind == "affine" else None
            wraps[l] = Wrap(U, c)
    return wrap(net, wraps)


def _linear(rng: Any, n: int, condition: float, kind: str) -> Array:
    if kind == "diagonal":
        return _scales(rng, n, condition, signs=True)
    Q = _rotation(rng, n)
    return Q if kind == "orthogonal" else Q * _scales(rng, n, condition) @ _rotation(rng, n)


def _rotation(rng: Any, n: int) -> Array:
    return eigh(symmetrize(rng.standard_normal((n, n))))[1]


def _scales(rng: Any, n: int, condition: float, signs: bool = False) -> Array:
    """Numbers (n,) between 1 / sqrt(condition) and its inverse, log-uniform."""
    scales = condition ** rng.uniform(-0.5, 0.5, n)
    return scales * rng.choice([-1.0, 1.0], n) if signs else scales
