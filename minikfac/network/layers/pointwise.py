"""Activation functions: y = phi(x), for each unit alone."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from numbers import Real

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


def erf(x: Array) -> Array:
    """2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x, to 1e-15.

    A square wave, -1 from -12 to 0 and 1 from 0 to 12, smoothed by exp(-t^2) / sqrt(pi), is erf(x) where the
    next steps are far away: for |x| < 6. Smoothing multiplies the wave's Fourier series, 4 / pi times the sum
    of sin(n h x) / n over odd n with h = pi / 12, by exp(-(n h / 2)^2), which leaves 24 terms.
    """
    xp, h = array_module(x), math.pi / 12
    angle = h * xp.clip(x, -6, 6)
    sine, before, factor, y = xp.sin(angle), -xp.sin(angle), 2 * xp.cos(2 * angle), xp.zeros_like(angle)
    for n in range(1, 48, 2):
        y += 4 / (math.pi * n) * math.exp(-((n * h / 2) ** 2)) * sine
        sine, before = factor * sine - before, sine  # sin((n + 2) a) = 2 cos(2 a) sin(n a) - sin((n - 2) a)
    return xp.where(abs(x) < 6, y, xp.sign(x))


class Pointwise(Layer):
    """y = phi(x), for each unit alone; the record is (x, y).

    Raises:
        ValueError: on a setting of a dataclass that is infinite or NaN.
    """

    def __post_init__(self) -> None:
        if any(isinstance(setting, Real) and not math.isfinite(setting) for setting in vars(self).values()):
            raise ValueError(f"expected finite settings of an activation, got {self}")

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


@dataclass(frozen=True)
class LogSigmoid(Pointwise):
    """phi(x) = log(1 / (1 + exp(-x))) = -softplus(-x)."""

    def value(self, x: Array) -> Array:
        return -softplus(-x)

    def slope(self, x: Array, y: Array) -> Array:
        return logistic(-x)

    def bend(self, x: Array, y: Array) -> Array:
        return -logistic(x) * logistic(-x)


@dataclass(frozen=True)
class LeakyReLU(Pointwise):
    """phi(x) = x above 0, and a multiple of it below; at 0 the slope is that from below [MHN13]."""

    negative_slope: float = 0.01

    def value(self, x: Array) -> Array:
        return array_module(x).where(x > 0, x, self.negative_slope * x)

    def slope(self, x: Array, y: Array) -> Array:
        return array_module(x).where(x > 0, array_module(x).ones_like(x), self.negative_slope)

    def bend(self, x: Array, y: Array) -> Array:
        return array_module(x).zeros_like(x)


@dataclass(frozen=True)
class ELU(Pointwise):
    """phi(x) = scale x above 0, and scale alpha (exp(x) - 1) below [CUH16]."""

    alpha: float = 1.0
    scale: float = 1.0

    def value(self, x: Array) -> Array:
        xp = array_module(x)
        return self.scale * (xp.maximum(x, 0) + self.alpha * xp.expm1(xp.minimum(x, 0)))

    def slope(self, x: Array, y: Array) -> Array:
        return array_module(x).where(x > 0, self.scale, y + self.scale * self.alpha)

    def bend(self, x: Array, y: Array) -> Array:
        return array_module(x).where(x < 0, y + self.scale * self.alpha, 0)


@dataclass(frozen=True)
class SELU(ELU):
    """An ELU that keeps mean 0 and variance 1 of Gaussian inputs [KUMH17]."""

    alpha: float = 1.6732632423543772
    scale: float = 1.0507009873554805


class _Gated(Pointwise):
    """phi(x) = x p(x), where p rises from 0 to 1: an input, times how far its gate is open."""

    @abstractmethod
    def gate(self, x: Array) -> tuple[Array, Array, Array]:
        """p(x), p'(x), p''(x)."""

    def value(self, x: Array) -> Array:
        return x * self.gate(x)[0]

    def slope(self, x: Array, y: Array) -> Array:
        p, dp, _ = self.gate(x)
        return p + x * dp

    def bend(self, x: Array, y: Array) -> Array:
        _, dp, ddp = self.gate(x)
        return 2 * dp + x * ddp


@dataclass(frozen=True)
class SiLU(_Gated):
    """phi(x) = x / (1 + exp(-x)), also called swish [HG16]."""

    def gate(self, x: Array) -> tuple[Array, Array, Array]:
        p = logistic(x)
        return p, p * (1 - p), p * (1 - p) * (1 - 2 * p)


@dataclass(frozen=True)
class GELU(_Gated):
    """phi(x) = x Phi(x) with the distribution function Phi of a standard Gaussian [HG16]."""

    def gate(self, x: Array) -> tuple[Array, Array, Array]:
        density = array_module(x).exp(-x * x / 2) / math.sqrt(2 * math.pi)
        return (1 + erf(x / math.sqrt(2))) / 2, density, -x * density


@dataclass(frozen=True)
class TanhGELU(_Gated):
    """phi(x) = x logistic(v) with v = sqrt(8 / pi) (x + 0.044715 x^3): a GELU to 5e-4 [HG16]."""

    def gate(self, x: Array) -> tuple[Array, Array, Array]:
        c, cubic = math.sqrt(8 / math.pi), 0.044715
        p, dv, ddv = logistic(c * (x + cubic * x**3)), c * (1 + 3 * cubic * x * x), 6 * c * cubic * x
        dp = p * (1 - p)
        return p, dp * dv, dp * ((1 - 2 * p) * dv * dv + ddv)


ACTIVATIONS: dict[str, type[Pointwise]] = {
    "elu": ELU,
    "gelu": GELU,
    "gelu_tanh": TanhGELU,
    "identity": Identity,
    "leaky_relu": LeakyReLU,
    "log_sigmoid": LogSigmoid,
    "logistic": Logistic,
    "relu": ReLU,
    "selu": SELU,
    "silu": SiLU,
    "softplus": Softplus,
    "tanh": Tanh,
}
"""Hidden activations by name."""
