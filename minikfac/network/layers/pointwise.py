"""Activation functions: y = phi(x), for each unit alone."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from ...backend import Array, array_module
from .base import Derivatives, Differentials, Layer, Record, Weights


def logistic(x: Array) -> Array:
    """1 / (1 + exp(-x)), computed as (1 + tanh(x / 2)) / 2, which cannot overflow."""
    y = array_module(x).tanh(0.5 * x)
    y *= 0.5
    y += 0.5
    return y


def softplus(x: Array) -> Array:
    """log(1 + exp(x)) = max(x, 0) + log(1 + e) with e = exp(-|x|), which cannot overflow.

    Where e is small, the rounding of u = 1 + e is made good, as in ``log1p``, which takes longer.
    """
    xp = array_module(x)
    e = xp.exp(-abs(x))
    u = 1 + e
    return xp.maximum(x, 0) + (xp.log(u) - ((u - 1) - e) / u)


class Pointwise(Layer):
    """y = phi(x), for each unit alone; the record is (x, y)."""

    @abstractmethod
    def value(self, x: Array) -> Array:
        """phi(x)."""

    @abstractmethod
    def slope(self, x: Array, y: Array) -> Array:
        """phi'(x), from x or y = phi(x), whichever is cheaper."""

    @abstractmethod
    def bend(self, x: Array, y: Array) -> Array:
        """phi''(x)."""

    def forward(self, Ws: Weights, x: Array, stats: Weights | None = None) -> tuple[Array, Record]:
        y = self.value(x)
        return y, (x, y)

    def backward(self, Ws: Weights, record: Record, dy: Array, need_dx: bool = True) -> Derivatives:
        return (dy * self.slope(*record) if need_dx else None), []

    def jvp(self, Ws: Weights, Vs: Weights, record: Record, dx: Array | None) -> tuple[Array | None, Record]:
        return (None if dx is None else dx * self.slope(*record)), dx

    def backward_jvp(
        self, Ws: Weights, Vs: Weights, record: Record, tangent: Record, dy: Array, rdy: Array
    ) -> Differentials:
        slope = self.slope(*record)
        rdx = rdy * slope if tangent is None else rdy * slope + dy * self.bend(*record) * tangent
        return dy * slope, rdx, []


@dataclass(frozen=True)
class Identity(Pointwise):
    """phi(x) = x."""

    def value(self, x: Array) -> Array:
        return x

    def slope(self, x: Array, y: Array) -> Array:
        return array_module(x).ones_like(x)

    def bend(self, x: Array, y: Array) -> Array:
        return array_module(x).zeros_like(x)


@dataclass(frozen=True)
class Tanh(Pointwise):
    """phi(x) = tanh(x)."""

    def value(self, x: Array) -> Array:
        return array_module(x).tanh(x)

    def slope(self, x: Array, y: Array) -> Array:
        return 1 - y * y

    def bend(self, x: Array, y: Array) -> Array:
        return -2 * y * (1 - y * y)


@dataclass(frozen=True)
class Logistic(Pointwise):
    """phi(x) = 1 / (1 + exp(-x))."""

    def value(self, x: Array) -> Array:
        return logistic(x)

    def slope(self, x: Array, y: Array) -> Array:
        return y * (1 - y)

    def bend(self, x: Array, y: Array) -> Array:
        return y * (1 - y) * (1 - 2 * y)


@dataclass(frozen=True)
class ReLU(Pointwise):
    """phi(x) = max(x, 0), with slope 0 at 0."""

    def value(self, x: Array) -> Array:
        return array_module(x).maximum(x, 0)

    def slope(self, x: Array, y: Array) -> Array:
        return (x > 0).astype(x.dtype)

    def bend(self, x: Array, y: Array) -> Array:
        return array_module(x).zeros_like(x)


@dataclass(frozen=True)
class Softplus(Pointwise):
    """phi(x) = log(1 + exp(x))."""

    def value(self, x: Array) -> Array:
        return softplus(x)

    def slope(self, x: Array, y: Array) -> Array:
        return logistic(x)

    def bend(self, x: Array, y: Array) -> Array:
        slope = self.slope(x, y)
        return slope * (1 - slope)


ACTIVATIONS: dict[str, type[Pointwise]] = {
    "identity": Identity,
    "logistic": Logistic,
    "relu": ReLU,
    "softplus": Softplus,
    "tanh": Tanh,
}
"""Hidden activations by name."""
