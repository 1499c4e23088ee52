"""The dense layer: every input goes to every output.

s = abar W,    abar = [x, 1]

Along a sequence (N, T, D) the same weights act at each of T positions, as at the locations of a convolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ...backend import Array, array_module, check_array
from .base import (
    Derivatives,
    Differentials,
    ParameterLayer,
    Record,
    Shape,
    Weights,
    check_flag,
    check_positive,
)

SCHEMES = ("glorot", "he", "sparse")
"""How weights can be drawn."""


def initial_weights(rng: Any, scheme: str, shape: tuple[int, int], fan_in: int, fan_out: int) -> Array:
    """Draw weights (I, O) in float64, biases 0.

    Args:
        rng: a ``numpy.random.Generator``.
        scheme: among :data:`SCHEMES`.
        shape: (I, O); rows from ``fan_in`` on are biases.
        fan_in: how many weights enter a unit.
        fan_out: how many units a unit below enters.
    """
    xp = array_module()
    W = xp.zeros(shape)
    if scheme == "sparse":
        connections = min(15, fan_in)
        for o in range(shape[1]):
            chosen = rng.choice(fan_in, connections, replace=False)
            W[chosen, o] = rng.standard_normal(connections)
    else:
        variance = 2 / fan_in if scheme == "he" else 2 / (fan_in + fan_out)
        W[:fan_in] = rng.standard_normal((fan_in, shape[1]))
        W[:fan_in] *= math.sqrt(variance)
    return W


def check_weight_and_bias(weight: Array, bias: Array | None, axes: Sequence[str]) -> None:
    """Reject PyTorch's weight and bias unless they have these axes and belong together."""
    check_array(weight, "weight")
    if bias is not None:
        check_array(bias, "bias")
    if weight.ndim != len(axes) or (bias is not None and bias.shape != weight.shape[:1]):
        came = f"{weight.shape} and {None if bias is None else bias.shape}"
        raise ValueError(f"expected a weight ({', '.join(axes)}) and a bias ({axes[0]},), got {came}")


_FLATTEN = (
    "; put a Flatten() before it, which orders features (h, w, c); weights from PyTorch, behind a Flatten, "
    "take them in the order (c, h, w), x.transpose(0, 3, 1, 2).reshape(len(x), -1)"
)


@dataclass(frozen=True)
class Dense(ParameterLayer):
    """s = abar W with abar = [x, 1]; W is (n_in + 1, n_out) with the bias in its last row.

    Inputs are (N, n_in), or sequences (N, T, n_in), whose positions share the weights. Without a bias,
    abar = x and W is (n_in, n_out). W is the transpose of the papers' matrix.
    """

    n_in: int
    n_out: int
    bias: bool = True
    kind: ClassVar[str] = "dense"

    def __post_init__(self) -> None:
        check_positive("Dense", n_in=self.n_in, n_out=self.n_out)
        check_flag("Dense", bias=self.bias)

    @property
    def weight_shape(self) -> tuple[int, int]:
        """(I, O), the bias row counted."""
        return (self.n_in + self.bias, self.n_out)

    def output_shape(self, shape: Shape | None) -> Shape | None:
        if shape is not None and (len(shape) > 2 or shape[-1] not in (None, self.n_in)):
            hint = _FLATTEN if len(shape) == 3 else ""
            came = shape if len(shape) > 2 else shape[-1]
            raise ValueError(f"expected {self.n_in} inputs to {self}, got {came}{hint}")
        return (*((None,) if shape is None else shape[:-1]), self.n_out)  # perhaps along a sequence

    def example_size(self, shape: Shape) -> int:
        return math.prod(extent or 1 for extent in shape[:-1]) * max(self.weight_shape)  # abar or s

    def example_work(self, shape: Shape) -> int:
        return math.prod(extent or 1 for extent in shape[:-1]) * math.prod(self.weight_shape)

    def initial_weights(self, rng: Any, scheme: str) -> Array:
        """Draw W (I, O) in float64; the schemes are those of :meth:`minikfac.Network.init`."""
        return initial_weights(rng, scheme, self.weight_shape, self.n_in, self.n_out)

    def forward(self, Ws: Weights, x: Array, stats: Weights | None = None) -> tuple[Array, Record]:
        if x.ndim not in (2, 3) or x.shape[-1] != self.n_in:
            hint = _FLATTEN if x.ndim == 4 else ""
            raise ValueError(f"expected inputs of shape (N, {self.n_in}) to {self}, got {x.shape}{hint}")
        abar = x
        if self.bias:
            abar = array_module(x).empty((*x.shape[:-1], self.n_in + 1), dtype=x.dtype)
            abar[..., :-1] = x
            abar[..., -1] = 1
        s = _times(abar, Ws[0])
        return s, (abar, s)

    def backward(self, Ws: Weights, record: Record, dy: Array, need_dx: bool = True) -> Derivatives:
        dx = _times(dy, Ws[0][: self.n_in].T) if need_dx else None
        return dx, [_with_positions(dy, record[1])]

    def jvp(self, Ws: Weights, Vs: Weights, record: Record, dx: Array | None) -> tuple[Array | None, Record]:
        ds = _times(record[0], Vs[0])
        return (ds if dx is None else ds + _times(dx, Ws[0][: self.n_in])), dx

    def backward_jvp(
        self, Ws: Weights, Vs: Weights, record: Record, tangent: Record, dy: Array, rdy: Array
    ) -> Differentials:
        xp = array_module(dy)
        abar, rabar = record[0], xp.zeros_like(record[0])
        if tangent is not None:
            rabar[..., : self.n_in] = tangent
        W, V = Ws[0][: self.n_in], Vs[0][: self.n_in]
        abar, rabar, g, rg = (_with_positions(array, abar) for array in (abar, rabar, dy, rdy))
        return _times(dy, W.T), _times(rdy, W.T) + _times(dy, V.T), [(abar, rabar, g, rg)]

    def signals(self, record: Record) -> list[tuple[Array, Array]]:
        abar, s = record
        return [(_with_positions(abar, abar), _with_positions(s, abar))]

    def grids(self, record: Record) -> list[tuple[int, int]]:
        return [(_with_positions(record[0], record[0]).shape[1], 1)]

    @staticmethod
    def join(weight: Array, bias: Array | None) -> Array:
        """Make W (I, O) of PyTorch's weight (n_out, n_in) and bias (n_out,), or None.

        Raises:
            ValueError: on shapes that do not belong together.
            TypeError: on lists, tensors and the like.
        """
        check_weight_and_bias(weight, bias, ("n_out", "n_in"))
        if bias is None:
            return weight.T.copy()
        return array_module(weight, bias).concatenate([weight.T, bias[None]])

    @staticmethod
    def split(W: Array, bias: bool = True) -> tuple[Array, Array | None]:
        """Take W apart into PyTorch's weight (n_out, n_in) and bias (n_out,).

        Args:
            W: (I, O).
            bias: whether the last row of W is one, which its shape alone cannot tell; without it the second
                result is None.

        Raises:
            ValueError: if W is not a matrix.
            TypeError: on lists, tensors and the like.
        """
        check_array(W, "W")
        if W.ndim != 2:
            raise ValueError(f"expected W (I, O), got shape {W.shape}")
        return (W[:-1].T.copy(), W[-1].copy()) if bias else (W.T.copy(), None)


def _times(x: Array, W: Array) -> Array:
    """X W for x (..., I) as one large product: NumPy would loop over the leading axes."""
    return (x.reshape(-1, len(W)) @ W).reshape(*x.shape[:-1], W.shape[1])


def _with_positions(array: Array, record: Array) -> Array:
    """(..., N, O) -> (..., N, 1, O), unless the record has an axis of positions, as the array then does."""
    return array if record.ndim == 3 else array[..., None, :]
