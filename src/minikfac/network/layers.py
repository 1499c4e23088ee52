"""Layers: what each does forward, backward, and in the R-operator, by hand.

A layer is a description and holds no numbers. Its weights come as a list ``Ws`` with one array per
parameter layer inside it; what a pass leaves behind for the way back comes as a record.

    forward   x -> y                       y = phi(x), or s = abar W
    backward  dL/dy -> dL/dx               g = dL/ds is kept: with abar it makes every Fisher matrix
    jvp       (x', W') -> y'               derivatives along a direction [Pearlmutter94]

Shapes: x is (N, features). Derivatives that travel backward may carry leading axes, (K, N, features),
for K of them at once.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar

from ..backend import Array, array_module, check_array

Record = Any
"""What a layer keeps of a forward pass; each layer knows its own."""


class Layer(ABC):
    """One step of a network."""

    @property
    def weight_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the weights, one per parameter layer inside, depth first."""
        return ()

    @property
    def parameter_layers(self) -> tuple[Layer, ...]:
        """The parameter layers inside, depth first."""
        return ()

    def output_features(self, features: int | None) -> int | None:
        """Number of features that come out when ``features`` go in; None if it cannot be known yet.

        Raises:
            ValueError: if the layer takes another number.
        """
        return features

    @abstractmethod
    def forward(self, Ws: Sequence[Array], x: Array) -> tuple[Array, Record]:
        """Return y and the record of this pass."""

    @abstractmethod
    def backward(
        self, Ws: Sequence[Array], record: Record, dy: Array, need_dx: bool = True
    ) -> tuple[Array | None, list[Array]]:
        """Return dL/dx (None unless needed) and g = dL/ds of the parameter layers inside."""

    @abstractmethod
    def jvp(
        self, Ws: Sequence[Array], Vs: Sequence[Array], record: Record, dx: Array | None
    ) -> tuple[Array | None, Record]:
        """Return the derivative of y along (dx, Vs), None if zero, and what ``backward_jvp`` needs."""

    def backward_jvp(
        self, Ws: Sequence[Array], Vs: Sequence[Array], record: Record, tangent: Record, dy: Array, rdy: Array
    ) -> tuple[Array, Array, list[tuple[Array, Array, Array, Array]]]:
        """Differentiate the backward pass along a direction: the second half of a Hessian product.

        Args:
            Ws: weights.
            Vs: the direction, in the shapes of the weights.
            record: of the forward pass.
            tangent: the second result of ``jvp``.
            dy: dL/dy, (N, features).
            rdy: its derivative along the direction.

        Returns:
            dL/dx, its derivative, and per parameter layer (abar, R abar, g, R g).
        """
        raise ValueError(f"the Hessian is not implemented for {type(self).__name__} layers")

    def signals(self, record: Record) -> list[tuple[Array, Array]]:
        """Return (abar, s) of each parameter layer inside, from the record of a forward pass."""
        return []


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

    def forward(self, Ws: Sequence[Array], x: Array) -> tuple[Array, Record]:
        y = self.value(x)
        return y, (x, y)

    def backward(
        self, Ws: Sequence[Array], record: Record, dy: Array, need_dx: bool = True
    ) -> tuple[Array | None, list[Array]]:
        return (dy * self.slope(*record) if need_dx else None), []

    def jvp(
        self, Ws: Sequence[Array], Vs: Sequence[Array], record: Record, dx: Array | None
    ) -> tuple[Array | None, Record]:
        return (None if dx is None else dx * self.slope(*record)), dx

    def backward_jvp(
        self, Ws: Sequence[Array], Vs: Sequence[Array], record: Record, tangent: Record, dy: Array, rdy: Array
    ) -> tuple[Array, Array, list[tuple[Array, Array, Array, Array]]]:
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
    """phi(x) = 1 / (1 + exp(-x)), computed as (1 + tanh(x / 2)) / 2, which cannot overflow."""

    def value(self, x: Array) -> Array:
        return 0.5 * (1 + array_module(x).tanh(0.5 * x))

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
        return array_module(x).logaddexp(x, x.dtype.type(0))

    def slope(self, x: Array, y: Array) -> Array:
        return 0.5 * (1 + array_module(x).tanh(0.5 * x))

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


@dataclass(frozen=True)
class Dense(Layer):
    """s = abar W with abar = [x, 1]; W is (n_in + 1, n_out) with the bias in its last row.

    Without a bias, abar = x and W is (n_in, n_out). W is the transpose of the papers' matrix.
    """

    n_in: int
    n_out: int
    bias: bool = True
    kind: ClassVar[str] = "dense"

    def __post_init__(self) -> None:
        for name in ("n_in", "n_out"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
                raise ValueError(f"expected Dense {name} to be a positive whole number, got {value!r}")
        if self.bias not in (False, True):
            raise ValueError(f"expected Dense bias to be True or False, got {self.bias!r}")

    @property
    def weight_shape(self) -> tuple[int, int]:
        """(I, O), the bias row counted."""
        return (self.n_in + self.bias, self.n_out)

    @property
    def weight_shapes(self) -> tuple[tuple[int, ...], ...]:
        return (self.weight_shape,)

    @property
    def parameter_layers(self) -> tuple[Layer, ...]:
        return (self,)

    def output_features(self, features: int | None) -> int | None:
        if features is not None and features != self.n_in:
            raise ValueError(f"expected {self.n_in} inputs to {self}, got {features}")
        return self.n_out

    def initial_weights(self, rng: Any, scheme: str) -> Array:
        """Draw W (I, O) in float64; the schemes are those of :meth:`minikfac.Network.init`."""
        xp = array_module()
        W = xp.zeros(self.weight_shape)
        if scheme == "glorot":
            W[: self.n_in] = rng.standard_normal((self.n_in, self.n_out))
            W[: self.n_in] *= math.sqrt(2 / (self.n_in + self.n_out))
        else:
            connections = min(15, self.n_in)
            for o in range(self.n_out):
                chosen = rng.choice(self.n_in, connections, replace=False)
                W[chosen, o] = rng.standard_normal(connections)
        return W

    def forward(self, Ws: Sequence[Array], x: Array) -> tuple[Array, Record]:
        if x.ndim != 2 or x.shape[1] != self.n_in:
            raise ValueError(f"expected inputs of shape (N, {self.n_in}) to {self}, got {x.shape}")
        abar = x
        if self.bias:
            abar = array_module(x).empty((len(x), self.n_in + 1), dtype=x.dtype)
            abar[:, :-1] = x
            abar[:, -1] = 1
        s = abar @ Ws[0]
        return s, (abar, s)

    def backward(
        self, Ws: Sequence[Array], record: Record, dy: Array, need_dx: bool = True
    ) -> tuple[Array | None, list[Array]]:
        dx = None
        if need_dx:  # one large product: NumPy would loop over the leading axes
            dx = (dy.reshape(-1, self.n_out) @ Ws[0][: self.n_in].T).reshape(*dy.shape[:-1], self.n_in)
        return dx, [dy[..., None, :]]

    def jvp(
        self, Ws: Sequence[Array], Vs: Sequence[Array], record: Record, dx: Array | None
    ) -> tuple[Array | None, Record]:
        ds = record[0] @ Vs[0]
        return (ds if dx is None else ds + dx @ Ws[0][: self.n_in]), dx

    def backward_jvp(
        self, Ws: Sequence[Array], Vs: Sequence[Array], record: Record, tangent: Record, dy: Array, rdy: Array
    ) -> tuple[Array, Array, list[tuple[Array, Array, Array, Array]]]:
        xp = array_module(dy)
        abar, rabar = record[0], xp.zeros_like(record[0])
        if tangent is not None:
            rabar[:, : self.n_in] = tangent
        W, V = Ws[0][: self.n_in], Vs[0][: self.n_in]
        return dy @ W.T, rdy @ W.T + dy @ V.T, [(abar, rabar, dy, rdy)]

    def signals(self, record: Record) -> list[tuple[Array, Array]]:
        abar, s = record
        return [(abar[:, None, :], s[:, None, :])]

    @staticmethod
    def join(weight: Array, bias: Array | None) -> Array:
        """Make W (I, O) of PyTorch's weight (n_out, n_in) and bias (n_out,), or None.

        Raises:
            ValueError: on shapes that do not belong together.
            TypeError: on lists, tensors and the like.
        """
        check_array(weight, "weight")
        if bias is not None:
            check_array(bias, "bias")
        if weight.ndim != 2 or (bias is not None and bias.shape != weight.shape[:1]):
            came = f"{weight.shape} and {None if bias is None else bias.shape}"
            raise ValueError(f"expected a weight (n_out, n_in) and a bias (n_out,), got {came}")
        if bias is None:
            return weight.T.copy()
        return array_module(weight, bias).concatenate([weight.T, bias[None]])

    @staticmethod
    def split(W: Array, bias: bool = True) -> tuple[Array, Array | None]:
        """Take W apart into PyTorch's weight (n_out, n_in) and bias (n_out,).

        Args:
            W: (I, O).
            bias: whether the last row of W is one; without it the second result is None.
        """
        return (W[:-1].T.copy(), W[-1].copy()) if bias else (W.T.copy(), None)


@dataclass(frozen=True)
class Sequential(Layer):
    """One layer after the other."""

    layers: tuple[Layer, ...]

    @property
    def weight_shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(shape for layer in self.layers for shape in layer.weight_shapes)

    @property
    def parameter_layers(self) -> tuple[Layer, ...]:
        return tuple(inner for layer in self.layers for inner in layer.parameter_layers)

    def output_features(self, features: int | None) -> int | None:
        for layer in self.layers:
            features = layer.output_features(features)
        return features

    def _share(self, Ws: Sequence[Array]) -> list[Sequence[Array]]:
        """Deal the weights out to the layers."""
        shares, start = [], 0
        for layer in self.layers:
            stop = start + len(layer.weight_shapes)
            shares.append(Ws[start:stop])
            start = stop
        return shares

    def forward(self, Ws: Sequence[Array], x: Array) -> tuple[Array, Record]:
        records = []
        for layer, own in zip(self.layers, self._share(Ws), strict=True):
            x, record = layer.forward(own, x)
            records.append(record)
        return x, records

    def backward(
        self, Ws: Sequence[Array], record: Record, dy: Array, need_dx: bool = True
    ) -> tuple[Array | None, list[Array]]:
        # below the first parameter layer nobody asks for derivatives
        first = 0 if need_dx else next((n for n, layer in enumerate(self.layers) if layer.weight_shapes), 0)
        shares = self._share(Ws)
        gs: list[Array] = []
        dx: Array | None = dy
        for n in reversed(range(first, len(self.layers))):
            assert dx is not None
            dx, inner = self.layers[n].backward(shares[n], record[n], dx, need_dx or n > first)
            gs = inner + gs
        return dx, gs

    def jvp(
        self, Ws: Sequence[Array], Vs: Sequence[Array], record: Record, dx: Array | None
    ) -> tuple[Array | None, Record]:
        tangents = []
        for layer, own, directions, memo in zip(
            self.layers, self._share(Ws), self._share(Vs), record, strict=True
        ):
            dx, tangent = layer.jvp(own, directions, memo, dx)
            tangents.append(tangent)
        return dx, tangents

    def backward_jvp(
        self, Ws: Sequence[Array], Vs: Sequence[Array], record: Record, tangent: Record, dy: Array, rdy: Array
    ) -> tuple[Array, Array, list[tuple[Array, Array, Array, Array]]]:
        shares, directions = self._share(Ws), self._share(Vs)
        found: list[tuple[Array, Array, Array, Array]] = []
        for n in reversed(range(len(self.layers))):
            layer = self.layers[n]
            dy, rdy, inner = layer.backward_jvp(shares[n], directions[n], record[n], tangent[n], dy, rdy)
            found = inner + found
        return dy, rdy, found

    def signals(self, record: Record) -> list[tuple[Array, Array]]:
        return [pair for layer, memo in zip(self.layers, record, strict=True) for pair in layer.signals(memo)]
