"""What a layer does: forward, backward and the R-operator, by hand.

A layer is a description and holds no numbers. Its weights come as a list ``Ws`` with one array per
parameter layer inside it; what a pass leaves behind for the way back comes as a record.

    forward   x -> y                       y = phi(x), or s = abar W
    backward  dL/dy -> dL/dx               g = dL/ds is kept: with abar it makes every Fisher matrix
    jvp       (x', W') -> y'               derivatives along a direction [Pearlmutter94]

Shapes: x is (N, features) or, for images, (N, H, W, C). Derivatives that travel backward may carry
leading axes, (K, N, features), for K of them at once. Every parameter layer has T locations, one unless
its weights are shared:

    abar (N, T, I)   what goes into the weights      s, g (N, T, O)   what comes out, and dL/ds

Only batch normalization knows statistics: running ones are handed in like weights, and where none are
(``stats=None``, training) it takes those of the batch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar

from ...backend import Array, array_module

Record = Any
"""What a layer keeps of a forward pass; each layer knows its own."""

Weights = Sequence[Array]
"""One array per parameter layer inside: weights, or a direction; likewise statistics of normalizations."""

Derivatives = tuple[Array | None, list[Array]]
"""dL/dx, None unless needed, and g = dL/ds of each parameter layer inside.

g is (..., N, T, O), or (..., N, H, W, O) with T = H W.
"""

Differentials = tuple[Array, Array, list[tuple[Array, Array, Array, Array]]]
"""dL/dx, its derivative along a direction, and (abar, R abar, g, R g) of each parameter layer inside."""

Shape = tuple[int | None, ...]
"""Of one example, (features,) or (H, W, C); None for an extent that is not known yet."""


class Layer(ABC):
    """One step of a network."""

    @property
    def weight_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the weights, one per parameter layer inside, depth first."""
        return ()

    @property
    def parameter_layers(self) -> tuple[ParameterLayer, ...]:
        """The parameter layers inside, depth first."""
        return ()

    @property
    def statistics_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the running statistics, one per batch normalization inside, depth first."""
        return ()

    def output_shape(self, shape: Shape | None) -> Shape | None:
        """Shape of one example that comes out; None where nothing is known.

        Raises:
            ValueError: if the layer takes another shape.
        """
        return shape

    def example_size(self, shape: Shape) -> int:
        """How many numbers the largest array of a pass holds for one example of this shape."""
        return max(_size(shape), _size(self.output_shape(shape)))

    def example_work(self, shape: Shape) -> int:
        """Multiplications by weights in a forward pass of one example of this shape."""
        return 0

    @abstractmethod
    def forward(self, Ws: Weights, x: Array, stats: Weights | None = None) -> tuple[Array, Record]:
        """Return y and the record of this pass; with ``stats`` None, a pass of training."""

    @abstractmethod
    def backward(self, Ws: Weights, record: Record, dy: Array, need_dx: bool = True) -> Derivatives:
        """Return dL/dx (None unless needed) and g = dL/ds of the parameter layers inside."""

    @abstractmethod
    def jvp(self, Ws: Weights, Vs: Weights, record: Record, dx: Array | None) -> tuple[Array | None, Record]:
        """Return the derivative of y along (dx, Vs), None if zero, and what ``backward_jvp`` needs."""

    def backward_jvp(
        self, Ws: Weights, Vs: Weights, record: Record, tangent: Record, dy: Array, rdy: Array
    ) -> Differentials:
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

    def records(self, record: Record) -> list[Record]:
        """Return the record of each parameter layer inside."""
        return []

    def signals(self, record: Record) -> list[tuple[Array, Array]]:
        """Return (abar, s) of each parameter layer inside, from the record of a forward pass."""
        return []

    def grids(self, record: Record) -> list[tuple[int, int]]:
        """Return (H, W) of each parameter layer inside: its T = H W locations lie row by row."""
        return []

    def statistics(self, record: Record) -> list[Array]:
        """Return the statistics that each batch normalization inside used in this pass."""
        return []


class ParameterLayer(Layer):
    """A layer with one array of weights."""

    kind: ClassVar[str]
    """What such layers are called in the names of a network's layers."""

    @property
    @abstractmethod
    def weight_shape(self) -> tuple[int, int]:
        """(I, O), a row of biases counted; (2, C) for scale and shift."""

    @abstractmethod
    def initial_weights(self, rng: Any, scheme: str) -> Array:
        """Draw weights in float64; the schemes are those of :meth:`minikfac.Network.init`."""

    def weight_gradient(self, record: Record, g: Array, out: Array) -> None:
        """Write sum_n sum_t abar g^T (I, O) into ``out`` for g (N, T, O), or as ``backward`` returns it."""
        ((abar, _),) = self.signals(record)
        sum_of_products(abar, g, out)

    def records(self, record: Record) -> list[Record]:
        return [record]

    @property
    def weight_shapes(self) -> tuple[tuple[int, ...], ...]:
        return (self.weight_shape,)

    @property
    def parameter_layers(self) -> tuple[ParameterLayer, ...]:
        return (self,)


class Rearrangement(Layer):
    """A layer without parameters, linear in x given what its record says: pooling, flattening.

        y = A x,        dL/dx = A^T dL/dy

    A subclass has ``output_shape``, which checks the inputs, ``apply`` and ``adjoint``.
    """

    def record(self, x: Array) -> Record:
        """What A depends on: the shape of an example, unless a subclass says more."""
        return x.shape[1:]

    @abstractmethod
    def apply(self, record: Record, x: Array, /) -> Array:
        """A x."""

    @abstractmethod
    def adjoint(self, record: Record, dy: Array, /) -> Array:
        """A^T dy; leading axes are free."""

    def forward(self, Ws: Weights, x: Array, stats: Weights | None = None) -> tuple[Array, Record]:
        self.output_shape(x.shape[1:])
        record = self.record(x)
        return self.apply(record, x), record

    def backward(self, Ws: Weights, record: Record, dy: Array, need_dx: bool = True) -> Derivatives:
        return (self.adjoint(record, dy) if need_dx else None), []

    def jvp(self, Ws: Weights, Vs: Weights, record: Record, dx: Array | None) -> tuple[Array | None, Record]:
        return (None if dx is None else self.apply(record, dx)), None

    def backward_jvp(
        self, Ws: Weights, Vs: Weights, record: Record, tangent: Record, dy: Array, rdy: Array
    ) -> Differentials:
        return self.adjoint(record, dy), self.adjoint(record, rdy), []


def sum_of_products(a: Array, g: Array, out: Array) -> None:
    """Write the sum over all leading axes of a g^T (I, O), for a (..., I) and g (..., O), into ``out``."""
    a, g = a.reshape(-1, a.shape[-1]), g.reshape(-1, g.shape[-1])
    if a.shape[1] > 8 * g.shape[1]:  # BLAS is up to twice as fast with the long side last
        out[...] = (g.T @ a).T
    else:
        array_module(a).matmul(a.T, g, out=out)


def check_positive(layer: str, **values: Any) -> None:
    """Reject anything but a positive whole number, naming it."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ValueError(f"expected {layer} {name} to be a positive whole number, got {value!r}")


def check_flag(layer: str, **values: Any) -> None:
    """Reject what is neither True nor False, naming it: a bias of 2 would count as two rows of W."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise ValueError(f"expected {layer} {name} to be True or False, got {value!r}")


def check_images(layer: Layer, shape: Shape | None, channels: int | None = None, n: int | str = "N") -> None:
    """Reject a shape of one of n examples that is known and not (H, W, channels)."""
    if shape is None:
        return
    wanted = "C" if channels is None else channels
    if len(shape) != 3 or (channels is not None and shape[2] not in (None, channels)):
        shown = ", ".join("?" if extent is None else str(extent) for extent in shape)
        hint = "; grey images are x[..., None]" if len(shape) == 2 and n != "N" else ""
        raise ValueError(f"expected images (N, H, W, {wanted}) into {layer}, got ({n}, {shown}){hint}")


def _size(shape: Shape | None) -> int:
    return 0 if shape is None else math.prod(extent or 1 for extent in shape)
