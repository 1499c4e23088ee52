"""The quadratic model of the objective with the exact Fisher matrix, along a few directions [MG15, sec. 6.4].

    M(delta) = 1/2 delta^T (F + damping I) delta + gradient^T delta

For delta = sum_i c_i d_i it needs only J d_i, one forward pass each: d_i^T F d_j = (J d_i)^T F_R (J d_j) with
the output's Fisher matrix F_R. Proposals are re-scaled by the c that minimizes M; using the last update as a
second direction gives momentum [MG15, sec. 7].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..backend import Array, array_module, fetch
from ..fisher import BlockDiagonal
from ..network import Network


@dataclass(frozen=True)
class QuadraticModel:
    """M as a function of c.

    Attributes:
        curvature: d_i^T (F + damping I) d_j, one row per direction.
        slope: gradient^T d_i.
    """

    curvature: tuple[tuple[float, ...], ...]
    slope: tuple[float, ...]

    @classmethod
    def along(
        cls,
        net: Network,
        theta: Array,
        x: Array,
        gradient: Array,
        directions: Sequence[Array],
        damping: float,
    ) -> QuadraticModel:
        """Build the model along directions (P,).

        Args:
            net: the network.
            theta: (P,).
            x: inputs for the expectation in F.
            gradient: gradient of the objective, (P,).
            directions: one or two.
            damping: lambda + eta.
        """
        return cls.of(*fetch(*curvature_and_slope(net, theta, x, gradient, directions, damping)))

    @classmethod
    def of(cls, curvature: Array, slope: Array) -> QuadraticModel:
        """Make a model from arrays (m, m) and (m,) on the host."""
        return cls(tuple(map(tuple, curvature.tolist())), tuple(slope.tolist()))

    def minimum(self) -> tuple[float, ...]:
        """Return the minimizing c; of parallel directions only one is used."""
        (a, *_), b = self.curvature[0], self.slope
        alone = -b[0] / a if a > 0 else 0.0
        if len(b) == 1:
            return (alone,)
        c, d = self.curvature[0][1], self.curvature[1][1]
        determinant = a * d - c * c
        if not determinant > 1e-10 * a * d:
            return alone, 0.0
        return (c * b[1] - d * b[0]) / determinant, (c * b[0] - a * b[1]) / determinant

    def value(self, c: Sequence[float]) -> float:
        """M at sum_i c_i d_i; M(0) = 0."""
        square = sum(
            c[i] * c[j] * entry for i, row in enumerate(self.curvature) for j, entry in enumerate(row)
        )
        return 0.5 * square + sum(share * slope for share, slope in zip(c, self.slope, strict=True))


def is_rounding(gain: float, h: float, like: Array) -> bool:
    """Whether a predicted change of the objective h is below h's rounding error, so that ratios fail."""
    return not abs(gain) > 10 * float(array_module(like).finfo(like.dtype).eps) * abs(h)


def within(bound: float, nu: Any, like: Array) -> Any:
    """Return the factor min(1, sqrt(bound / nu)) on a step v, which reduces nu = v^T F v to the bound."""
    return (bound / array_module(like).maximum(nu, bound)) ** 0.5


def curvature_and_slope(
    net: Network,
    theta: Array,
    x: Array,
    gradient: Array,
    directions: Sequence[Array],
    damping: float,
    stats: Sequence[Array] | None = None,
) -> tuple[Array, Array]:
    """Return d_i^T (F + damping I) d_j, (m, m), and gradient^T d_i, (m,), on the device of theta.

    The arguments are those of :meth:`QuadraticModel.along` and statistics of batch normalization.
    """
    d = array_module(theta).stack(list(directions))
    return net.fisher_gram(theta, x, d, stats) + damping * (d @ d.T), d @ gradient


def curvature_ratios(
    net: Network, theta: Array, x: Array, v: Array, near: BlockDiagonal, stats: Sequence[Array] | None = None
) -> dict[str, Array]:
    """Return ratios of the exact to an approximate curvature along a step.

    Takes one R-operator pass per layer. On a device the numbers stay there.

    Args:
        net: the network.
        theta: (P,).
        x: inputs for the expectation in the exact Fisher matrix F.
        v: a step (P,), of any length.
        near: the approximation F~, one block per parameter layer.
        stats: statistics of batch normalization.

    Returns:
        v_l^T F v_l / v_l^T F~ v_l as ``curvature/LAYER``, where v_l is v in that layer and 0 elsewhere, and
        v^T F v / v^T F~ v as ``curvature``; nan if the approximate curvature is 0.
    """
    xp, of_layers = array_module(theta), list(zip(near.blocks, near.slices, strict=True))
    parts = xp.zeros((len(of_layers), len(v)), dtype=v.dtype)
    for row, (_, part) in zip(parts, of_layers, strict=True):
        row[part] = v[part]
    gram = net.fisher_gram(theta, x, parts, stats)
    terms = [v[part] @ (block @ v[part]) for block, part in of_layers]
    exact, approximate = xp.stack([*gram.diagonal(), gram.sum()]), xp.stack([*terms, sum(terms)])
    ratios = xp.where(approximate > 0, exact / xp.where(approximate > 0, approximate, 1), xp.nan)
    return dict(zip([*(f"curvature/{name}" for name in net.names), "curvature"], ratios, strict=True))
