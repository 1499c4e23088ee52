"""Normalization: subtract a mean, divide by a standard deviation, then scale and shift each channel.

    xhat = (x - mean) / sqrt(var + eps)          s = xhat * scale + shift          W (2, C) = [scale; shift]

The layers differ only in what mean and var are taken over:

    LayerNorm   the channels of one example at one location, or all of one example [BKH16]
    GroupNorm   a group of channels of one example, at all locations [WH18]
    BatchNorm   one channel of all examples at all locations [IS15]
    RMSNorm     as LayerNorm, but nothing is subtracted or shifted: var is the mean of x^2 [ZS19]

The statistics move with x. Along dx, and just so on the way back (the map is its own adjoint),

    dxhat = (dx - mean(dx) - xhat mean(dx xhat)) / sqrt(var + eps)

Batch normalization with running statistics holds them constant, so that only the division is left.
As a parameter layer, abar (N, T, 2, C) is [xhat; 1] and a gradient sum_t abar[n, t] g[n, t] for each channel.
Without a shift W is (1, C); ``Unscaled`` has neither scale nor shift.

LocalResponseNorm divides by a power of the neighbouring channels' squares, and has no parameters [KSH12].
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from ...backend import Array, array_module
from .base import (
    Derivatives,
    Differentials,
    Layer,
    ParameterLayer,
    Record,
    Shape,
    Weights,
    check_flag,
    check_positive,
)


class _Pass(NamedTuple):
    """What a normalization keeps of a pass.

    Attributes:
        xhat: (N, T, C).
        inverse: 1 / sqrt(var + eps), to be broadcast against xhat; mean, variance: likewise.
        s: (N, T, C), what came out.
        shape: of one example.
        constant: whether mean and variance were handed in, so that they do not move with x.
    """

    xhat: Array
    inverse: Array
    s: Array
    shape: tuple[int, ...]
    mean: Array
    variance: Array
    constant: bool


class Normalization(ParameterLayer):
    """Scale and shift of a normalized input; a subclass says over what the mean is taken."""

    features: int | tuple[int, ...]
    eps: float
    bias = True  # whether there is a shift
    centres = True  # whether the mean is subtracted

    @property
    def axes(self) -> tuple[int, ...]:
        """(C,), or the shape of an example, (H, W, C) or (T, C), whose values all are features."""
        return self.features if isinstance(self.features, tuple) else (self.features,)

    @property
    def weight_shape(self) -> tuple[int, int]:
        """(2, C), (1, C) without a shift; H W C in place of C where all values of an example are features."""
        return (1 + self.bias, math.prod(self.axes))

    @abstractmethod
    def mean(self, x: Array) -> Array:
        """Mean of x (..., N, T, C) over the values that are normalized together, to be broadcast."""

    def output_shape(self, shape: Shape | None) -> Shape | None:
        if shape is None:
            return None
        axes, n = self.axes, len(self.axes)
        fits = all(a in (None, b) for a, b in zip(shape[-n:], axes, strict=False))
        if not fits or len(shape) not in ((1, 2, 3) if n == 1 else (n,)):
            shown = ", ".join("?" if extent is None else str(extent) for extent in shape)
            expected = ", ".join(map(str, ("...", *axes) if n == 1 else axes))
            raise ValueError(f"expected inputs (N, {expected}) to {self}, got (N, {shown})")
        return (*shape[:-n], *axes)

    def example_size(self, shape: Shape) -> int:
        return 2 * super().example_size(shape)  # abar: a constant 1 beside each xhat

    def initial_weights(self, rng: Any, scheme: str) -> Array:
        """Return scales of 1 and shifts of 0, (2, C) in float64; nothing is drawn."""
        W = array_module().zeros(self.weight_shape)
        W[0] = 1
        return W

    def forward(self, Ws: Weights, x: Array, stats: Weights | None = None) -> tuple[Array, Record]:
        self.output_shape(x.shape[1:])
        wide = x.reshape(len(x), -1, self.weight_shape[1])
        running = stats[0] if self.statistics_shapes and stats is not None else None
        mean = running[0] if running is not None else self.mean(wide) if self.centres else 0 * wide[:, :, :1]
        centred = wide - mean
        variance = self.mean(centred * centred) if running is None else running[1]
        inverse = 1 / array_module(x).sqrt(variance + self.eps)
        xhat = centred * inverse
        s = self._scaled(xhat, Ws[0])
        record = _Pass(xhat, inverse, s, x.shape[1:], mean, variance, running is not None)
        return s.reshape(x.shape), record

    def _scaled(self, xhat: Array, W: Array) -> Array:
        return xhat * W[0] + W[1] if self.bias else xhat * W[0]

    def _differential(self, record: _Pass, d: Array) -> Array:
        """Apply the derivative of xhat by x, its own adjoint, to d (..., N, T, C)."""
        if record.constant:
            return d * record.inverse
        moved = d - self.mean(d) if self.centres else d
        return (moved - record.xhat * self.mean(d * record.xhat)) * record.inverse

    def backward(self, Ws: Weights, record: Record, dy: Array, need_dx: bool = True) -> Derivatives:
        g = dy.reshape(*dy.shape[: -len(record.shape)], *record.xhat.shape[1:])
        dx = self._differential(record, g * Ws[0][0]).reshape(dy.shape) if need_dx else None
        return dx, [g]

    def jvp(self, Ws: Weights, Vs: Weights, record: Record, dx: Array | None) -> tuple[Array | None, Record]:
        ds = self._scaled(record.xhat, Vs[0])
        if dx is not None:
            dx = dx.reshape(record.xhat.shape)
            ds += Ws[0][0] * self._differential(record, dx)
        return ds.reshape(len(ds), *record.shape), dx

    def backward_jvp(
        self, Ws: Weights, Vs: Weights, record: Record, tangent: Record, dy: Array, rdy: Array
    ) -> Differentials:
        """With u = g scale: R dx is that of R u, less what the movement of xhat and of 1 / sqrt(var) adds."""
        xp, xhat = array_module(dy), record.xhat
        g, rg = dy.reshape(xhat.shape), rdy.reshape(xhat.shape)
        u, ru = g * Ws[0][0], rg * Ws[0][0] + g * Vs[0][0]
        dx, rdx, rxhat = self._differential(record, u), self._differential(record, ru), xp.zeros_like(xhat)
        if tangent is not None:
            rxhat = self._differential(record, tangent)
        if tangent is not None and not record.constant:
            rdx -= (rxhat * self.mean(u * xhat) + xhat * self.mean(u * rxhat)) * record.inverse
            rdx -= dx * record.inverse * self.mean(xhat * tangent)
        ones, rows = xp.ones_like(xhat), slice(1 + self.bias)
        abar, rabar = (xp.stack(parts, axis=2)[:, :, rows] for parts in ((xhat, ones), (rxhat, 0 * ones)))
        return dx.reshape(dy.shape), rdx.reshape(dy.shape), [(abar, rabar, g, rg)]

    def weight_gradient(self, record: Record, g: Array, out: Array) -> None:
        out[0], out[1:] = (record.xhat * g).sum((0, 1)), g.sum((0, 1))

    def signals(self, record: Record) -> list[tuple[Array, Array]]:
        xp, ones = array_module(record.xhat), [array_module(record.xhat).ones_like(record.xhat)]
        return [(xp.stack([record.xhat, *ones[: self.bias]], axis=2), record.s)]

    def grids(self, record: Record) -> list[tuple[int, int]]:
        grid = tuple(record.shape[: -len(self.axes)]) + (1, 1)
        return [(grid[0], grid[1])]


@dataclass(frozen=True)
class LayerNorm(Normalization):
    """Normalize over the last axis, each example, at each location, alone; or over all of an example.

    Attributes:
        features: C; or the shape of an example, (H, W, C) or (T, C), to normalize all of it, with a scale
            and a shift for each of its values.
        eps: added to the variance.
        bias: whether there is a shift.
    """

    features: int | tuple[int, ...]
    eps: float = 1e-5
    bias: bool = True
    kind: ClassVar[str] = "layernorm"

    def __post_init__(self) -> None:
        for extent in self.axes or ((),):
            check_positive("LayerNorm", features=extent)
        check_flag("LayerNorm", bias=self.bias)
        _check_eps(self)

    def mean(self, x: Array) -> Array:
        """Mean of x (..., N, T, C) over features."""
        return x.mean(-1, keepdims=True)


@dataclass(frozen=True)
class RMSNorm(Normalization):
    """Divide by the root of the mean square over the last axis, and scale: W is (1, C) [ZS19].

    Attributes:
        features: as of ``LayerNorm``.
        eps: added to the mean square.
    """

    features: int | tuple[int, ...]
    eps: float = 1e-5
    kind: ClassVar[str] = "rmsnorm"
    bias, centres = False, False
    mean = LayerNorm.mean

    def __post_init__(self) -> None:
        for extent in self.axes or ((),):
            check_positive("RMSNorm", features=extent)
        _check_eps(self)


@dataclass(frozen=True)
class GroupNorm(Normalization):
    """Normalize each example alone, over all locations and the channels of a group.

    Attributes:
        groups: how many; a group has C / groups neighbouring channels.
        channels: C.
        eps: added to the variance.
    """

    groups: int
    channels: int
    eps: float = 1e-5
    kind: ClassVar[str] = "groupnorm"

    def __post_init__(self) -> None:
        check_positive("GroupNorm", groups=self.groups, channels=self.channels)
        if self.channels % self.groups:
            raise ValueError(f"expected groups that divide the {self.channels} channels, got {self.groups}")
        _check_eps(self)

    @property
    def axes(self) -> tuple[int, ...]:
        """(C,)."""
        return (self.channels,)

    def mean(self, x: Array) -> Array:
        """Mean of x (..., N, T, C) over locations and the channels of a group."""
        size = self.channels // self.groups
        grouped = x.mean(-2, keepdims=True).reshape(*x.shape[:-2], 1, self.groups, size)
        return grouped.mean(-1).repeat(size, axis=-1)


@dataclass(frozen=True)
class BatchNorm(Normalization):
    """Normalize each channel over all examples and locations.

    Handed statistics [mean; variance] (2, C), it uses them as constants. Without, in training, it takes
    those of the batch; their derivatives then couple all examples of the batch.

    Attributes:
        features: C.
        decay: of running statistics, new = decay * old + (1 - decay) * batch's; PyTorch's momentum is
            1 - decay. The variance is biased, a mean over values, in running statistics too (PyTorch's
            running variance is not).
        eps: added to the variance.
    """

    features: int
    decay: float = 0.9
    eps: float = 1e-5
    kind: ClassVar[str] = "batchnorm"

    def __post_init__(self) -> None:
        check_positive("BatchNorm", features=self.features)
        if not 0 <= self.decay < 1:
            raise ValueError(f"expected BatchNorm decay of at least 0 and below 1, got {self.decay}")
        _check_eps(self)

    @property
    def statistics_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((2, self.features),)

    def mean(self, x: Array) -> Array:
        """Mean of x (..., N, T, C) over examples and locations."""
        return x.mean(-2, keepdims=True).mean(-3, keepdims=True)  # short sums round less than one long one

    def forward(self, Ws: Weights, x: Array, stats: Weights | None = None) -> tuple[Array, Record]:
        if stats is None and x.size == self.features:
            raise ValueError(f"expected several values per channel in a batch for {self}, got {x.shape}")
        return super().forward(Ws, x, stats)

    def statistics(self, record: Record) -> list[Array]:
        return [array_module(record.mean).stack([record.mean.reshape(-1), record.variance.reshape(-1)])]


@dataclass(frozen=True)
class Unscaled(Layer):
    """A normalization with a scale of 1 and a shift of 0 that are not parameters.

    Attributes:
        norm: ``LayerNorm``, ``GroupNorm``, ``BatchNorm`` or ``RMSNorm``.
    """

    norm: Normalization

    def __post_init__(self) -> None:
        if not isinstance(self.norm, Normalization):
            raise TypeError(f"expected a normalization with a scale into Unscaled, got {self.norm!r}")

    @property
    def statistics_shapes(self) -> tuple[tuple[int, ...], ...]:
        return self.norm.statistics_shapes

    def output_shape(self, shape: Shape | None) -> Shape | None:
        return self.norm.output_shape(shape)

    def _weights(self, like: Array) -> tuple[list[Array], list[Array]]:
        """The scale and the shift, and their derivative."""
        W = array_module(like).asarray(self.norm.initial_weights(None, ""), dtype=like.dtype)
        return [W], [0 * W]

    def forward(self, Ws: Weights, x: Array, stats: Weights | None = None) -> tuple[Array, Record]:
        return self.norm.forward(self._weights(x)[0], x, stats)

    def backward(self, Ws: Weights, record: Record, dy: Array, need_dx: bool = True) -> Derivatives:
        return self.norm.backward(self._weights(dy)[0], record, dy, need_dx)[0], []

    def jvp(self, Ws: Weights, Vs: Weights, record: Record, dx: Array | None) -> tuple[Array | None, Record]:
        return (None, None) if dx is None else self.norm.jvp(*self._weights(dx), record, dx)

    def backward_jvp(
        self, Ws: Weights, Vs: Weights, record: Record, tangent: Record, dy: Array, rdy: Array
    ) -> Differentials:
        return *self.norm.backward_jvp(*self._weights(dy), record, tangent, dy, rdy)[:2], []

    def statistics(self, record: Record) -> list[Array]:
        return self.norm.statistics(record)


@dataclass(frozen=True)
class LocalResponseNorm(Layer):
    """y = x / D^beta with D = k + alpha / size * (sum of x^2 over neighbouring channels) [KSH12, sec. 3.3].

    The window around a channel holds size // 2 channels before it and (size - 1) // 2 after it, zeros
    beyond the first and the last, as in PyTorch. The paper's alpha is our alpha / size.

    Attributes:
        size: channels in a window.
        alpha, beta, k: as above.
    """

    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0

    def __post_init__(self) -> None:
        check_positive("LocalResponseNorm", size=self.size)
        if not (0 <= self.alpha < math.inf and 0 < self.k < math.inf and math.isfinite(self.beta)):
            raise ValueError(f"expected alpha >= 0, k > 0 and a finite beta, got {self}")

    def _window_sum(self, x: Array, before: int) -> Array:
        """Sum x (..., C) over windows that begin ``before`` channels ahead of each channel."""
        c = x.shape[-1]
        wide = array_module(x).zeros((*x.shape[:-1], c + self.size - 1), dtype=x.dtype)
        wide[..., before : before + c] = x
        total = wide[..., :c].copy()
        for start in range(1, self.size):
            total += wide[..., start : start + c]
        return total

    def forward(self, Ws: Weights, x: Array, stats: Weights | None = None) -> tuple[Array, Record]:
        D = self.k + self.alpha / self.size * self._window_sum(x * x, self.size // 2)
        power = D**-self.beta
        return x * power, (x, D, power)

    def backward(self, Ws: Weights, record: Record, dy: Array, need_dx: bool = True) -> Derivatives:
        if not need_dx:
            return None, []
        x, D, power = record
        # the adjoint sums over the mirrored window
        inner = self._window_sum(dy * x * power / D, (self.size - 1) // 2)
        return dy * power - 2 * self.beta * self.alpha / self.size * x * inner, []

    def jvp(self, Ws: Weights, Vs: Weights, record: Record, dx: Array | None) -> tuple[Array | None, Record]:
        if dx is None:
            return None, None
        x, D, power = record
        inner = self._window_sum(x * dx, self.size // 2)
        return dx * power - 2 * self.beta * self.alpha / self.size * x * power / D * inner, dx

    def backward_jvp(
        self, Ws: Weights, Vs: Weights, record: Record, tangent: Record, dy: Array, rdy: Array
    ) -> Differentials:
        x, D, power = record
        dx, rdx = self.backward(Ws, record, dy)[0], self.backward(Ws, record, rdy)[0]
        assert dx is not None and rdx is not None
        if tangent is None:
            return dx, rdx, []
        # dx = dy power - c x S(q), q = dy x power / D, with the mirrored window sum S: each factor moves
        c, mirrored = 2 * self.beta * self.alpha / self.size, (self.size - 1) // 2
        rD = 2 * self.alpha / self.size * self._window_sum(x * tangent, self.size // 2)
        rpower = -self.beta * power / D * rD
        q = dy * x * power / D
        rq = dy / D * (tangent * power + x * rpower) - q / D * rD
        moved = tangent * self._window_sum(q, mirrored) + x * self._window_sum(rq, mirrored)
        return dx, rdx + dy * rpower - c * moved, []


def _check_eps(layer: Normalization) -> None:
    if not 0 < layer.eps < math.inf:
        raise ValueError(f"expected {type(layer).__name__} eps > 0, got {layer.eps}")
