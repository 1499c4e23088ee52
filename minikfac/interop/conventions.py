"""Other libraries' conventions: order of parameters, Kronecker factors, scale of the loss.

With l the ratio of their loss to ours and ``order`` the index of each of their parameters in our vector,

    theirs = l F[order][:, order].

Their Kronecker block is ``scale`` times the product of two factors; it distributes the number of locations T
differently and orders inputs differently. A and G are those of :func:`minikfac.fisher.kfac`, and K is the
number of columns of nngeometry's root: C outputs, one less for a softmax.

============  ================  ================  =====  ==========  ============================  =======
library       A                 G                 scale  product     inputs                        flat
============  ================  ================  =====  ==========  ============================  =======
pytorch       A                 G                 l      G (x) A     (c, kh, kw), then the bias    W, b
curvlinops    A / T             l T G             1      G (x) A     (c, kh, kw), then the bias    W, b
nngeometry    A sqrt(K)         G / sqrt(K)       1      G (x) A     (c, kh, kw), then the bias    W, b
kfac-jax      A / T             l G               T      A (x) G     (kh, kw, c), then the bias    b, W
============  ================  ================  =====  ==========  ============================  =======

Here, it is A (x) G with inputs (kh, kw, c), then the bias, in the factors and in the flat vector. See
``docs/conventions.md`` for the reasons. For curvlinops, ``separate_weight_and_bias=False`` is assumed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ..backend import Array, array_module, whole_number
from ..display import ShownByFields
from ..fisher.block_diagonal import BlockDiagonal
from ..fisher.dense import DenseMatrix
from ..fisher.kronecker_block import Kronecker, KroneckerBlock
from ..fisher.matrix import FisherMatrix, symmetric
from ..fisher.targets import TARGETS
from ..network import Network, layers, outputs
from ..network.layers.composite import in_a_row

LIBRARIES = ("pytorch", "curvlinops", "nngeometry", "kfac-jax")


@dataclass(frozen=True, eq=False, repr=False)
class ForeignBlock(ShownByFields):
    """The block of one layer in another library's convention.

    Attributes:
        name: the layer's name.
        factors: their (A, G), or (block,) for a layer without Kronecker factors.
        scale: the number that multiplies the product of the factors.
    """

    name: str
    factors: tuple[Array, ...]
    scale: float = 1.0


def convert(
    F: FisherMatrix | Array,
    net: Network | None = None,
    x: Array | None = None,
    to: str = "pytorch",
    reduction: str = "mean",
    targets: str = "model",
) -> list[ForeignBlock] | Array:
    """Convert a matrix to another library's convention.

    Args:
        F: a Fisher matrix of ``net``, or an array (P, P).
        net: the network. Without it, Kronecker factors are assumed to belong to a chain of dense layers
            with biases and categorical outputs.
        x: inputs; only their shape is used, and for ``reduction="sum"`` their number. Optional if the first
            layer is dense and the reduction is "mean".
        to: one of :data:`LIBRARIES`.
        reduction: reduction of PyTorch's loss, "mean" or "sum", for "pytorch" and "curvlinops".
        targets: targets of F's signals, as in :func:`minikfac.fisher.signals`; "data" for an empirical
            matrix, in which the scale of the loss is squared (:func:`loss_scale`).

    Returns:
        K-FAC's matrices as a list of blocks; any other matrix as an array (P, P) over their flat parameters.

    Raises:
        ValueError: on an unknown library or reduction, a matrix of the wrong shape, or outputs or layers that
            the library lacks.
    """
    F = F if isinstance(F, FisherMatrix) else symmetric(F, "the matrix")
    net = _dense_net([(b.A, b.G) for b in _kronecker_blocks(F)]) if net is None else net
    xp = array_module(F.like if isinstance(F, FisherMatrix) else F)
    convention = _Convention.of(to, net, x, reduction, targets, xp)
    if F.shape != (net.n_params, net.n_params):
        raise ValueError(f"expected a matrix of shape {(net.n_params,) * 2} for {net!r}, got {F.shape}")
    if isinstance(F, BlockDiagonal) and any(isinstance(block, KroneckerBlock) for block in F.blocks):
        named = zip(convention.layouts, F.blocks, net.names, strict=True)
        return [convention.write(layout, block, name) for layout, block, name in named]
    dense = F.to_dense() if isinstance(F, FisherMatrix) else F
    return convention.loss * dense[convention.order][:, convention.order]


def convert_from(
    theirs: list[Any] | tuple[Any, ...] | Array,
    net: Network | None = None,
    x: Array | None = None,
    source: str = "pytorch",
    reduction: str = "mean",
    targets: str = "model",
) -> BlockDiagonal | DenseMatrix:
    """Convert a matrix from another library's convention; the inverse of :func:`convert`.

    Args:
        theirs: one :class:`ForeignBlock` or pair (A, G) per layer, or an array (P, P) over their parameters.
        net, x, reduction, targets: as in :func:`convert`.
        source: one of :data:`LIBRARIES`.

    Raises:
        ValueError: as :func:`convert`, and on factors of wrong shapes.
    """
    pairs = theirs if isinstance(theirs, list | tuple) else []
    factors = [pair.factors if isinstance(pair, ForeignBlock) else pair for pair in pairs]
    net = _dense_net(factors) if net is None else net
    xp = array_module(factors[0][0] if factors else theirs)
    convention = _Convention.of(source, net, x, reduction, targets, xp)
    if isinstance(theirs, list | tuple):
        if len(theirs) != len(net.names):
            raise ValueError(f"expected {len(net.names)} blocks, one per parameter layer, got {len(theirs)}")
        named = zip(convention.layouts, theirs, net.names, strict=True)
        return Kronecker([convention.read(layout, block, name) for layout, block, name in named], net.names)
    if theirs.shape != (net.n_params, net.n_params):
        raise ValueError(f"expected an array of shape {(net.n_params,) * 2} for {net!r}, got {theirs.shape}")
    back = xp.argsort(convention.order)
    ours = theirs[back][:, back] / convention.loss
    return DenseMatrix(ours, net.names, net.slices, f"the matrix of {source}")


def _kronecker_blocks(F: FisherMatrix | Array) -> list[KroneckerBlock]:
    """The blocks of a matrix if all of them are Kronecker products, otherwise []."""
    blocks = F.blocks if isinstance(F, BlockDiagonal) else ()
    products = [block for block in blocks if isinstance(block, KroneckerBlock)]
    return products if len(products) == len(blocks) else []


def _dense_net(factors: Sequence[tuple[Array, ...]]) -> Network:
    """A net of dense layers with biases and categorical outputs that fits the factors (A, G)."""
    if not factors or any(len(pair) != 2 for pair in factors):
        raise ValueError("expected net= unless all blocks are Kronecker products, got none")
    return Network([layers.Dense(len(A) - 1, len(G)) for A, G in factors], outputs.Categorical())


def flat_order(net: Network, x: Array, library: str) -> Array:
    """Index of each of their parameters in our flat vector, (P,): theirs = theta[order]."""
    return _Convention.of(library, net, x, "mean", "model", array_module(x)).order


def loss_scale(
    library: str, output: outputs.Output, n: int, c: int, reduction: str = "mean", targets: str = "model"
) -> float:
    """Ratio of a library's curvature to ours, which is that of the mean negative log-likelihood.

    PyTorch's mean also runs over outputs, for cross-entropy over positions, and its squared error has no
    1/2; neither has that of kfac-jax, while nngeometry uses the distributions themselves.

    An empirical matrix squares the gradients of each example's loss, so factors of that loss enter squared:
    the 2 of the squared error, and 1/C in PyTorch. In the other libraries 1/C enters once, as 1/N does.

    Args:
        library: one of :data:`LIBRARIES`.
        output: the output distribution.
        n: examples.
        c: outputs.
        reduction: reduction of PyTorch's loss, "mean" or "sum".
        targets: "data" for the empirical matrix, "model" or "sampled" for the Fisher matrix.

    Raises:
        ValueError: on an unknown library, reduction or targets, or an output that the library lacks.
    """
    if targets not in TARGETS:
        raise ValueError(f"expected targets {', '.join(map(repr, TARGETS))}, got {targets!r}")
    if not isinstance(library, str) or library not in LIBRARIES:
        raise ValueError(f"expected a library among {', '.join(LIBRARIES)}, got {library!r}")
    n, c = whole_number(n, "n"), whole_number(c, "c")
    gaussian, categorical = isinstance(output, outputs.Gaussian), isinstance(output, outputs.Categorical)
    squares = (4.0 if targets == "data" else 2.0) if gaussian else 1.0
    if library in ("nngeometry", "kfac-jax"):
        if reduction != "mean":
            raise ValueError(f"expected reduction 'mean', the only one of {library}, got {reduction!r}")
        if library == "nngeometry" and not (gaussian or categorical):
            raise ValueError(f"expected categorical or Gaussian outputs for nngeometry, got {output}")
        return squares if library == "kfac-jax" else 1.0
    if reduction not in ("mean", "sum"):
        raise ValueError(f"expected reduction 'mean' or 'sum', got {reduction!r}")
    if reduction == "sum":
        return squares * n
    squared = library == "pytorch" and targets == "data"
    return squares / output.n_terms(c) ** (2 if squared else 1)


@dataclass(frozen=True, eq=False)
class _Layout:
    """Layout of one layer's weights (I, O) in a library.

    Attributes:
        rows: our index of each of their inputs, (I,), the bias last; for scale and shift, of each entry.
        order: our index of each of their flat parameters, counted from the layer's first.
        t: number of locations.
        shape: shape of our weights; None for scale and shift.
    """

    rows: Array
    order: Array
    t: int
    shape: tuple[int, int] | None


@dataclass(frozen=True, eq=False)
class _Convention:
    """A library's convention for one net.

    Attributes:
        library: its name.
        loss: ratio of their loss to ours.
        columns: number of columns K of nngeometry's root.
        layouts: one per parameter layer.
        order: our index of each of their flat parameters, (P,).
    """

    library: str
    loss: float
    columns: int
    layouts: tuple[_Layout, ...]
    order: Array

    @classmethod
    def of(
        cls, library: str, net: Network, x: Array | None, reduction: str, targets: str, xp: ModuleType
    ) -> _Convention:
        """Determine the convention, with indices for arrays of xp; x may be on another device."""
        x = _inputs(net, reduction) if x is None else x
        tape = net.forward(array_module(x).zeros(net.n_params, dtype=x.dtype), x[:1])
        c = tape.z.shape[1]
        loss = loss_scale(library, net.output, len(x), c, reduction, targets)
        flattened = _flattened_channels(net, x.shape[1:])
        layouts = tuple(
            _layout(library, layer, channels, math.prod(grid), xp)
            for layer, channels, grid in zip(net.parameter_layers, flattened, tape.grids, strict=True)
        )
        pairs = zip(net.slices, layouts, strict=True)
        order = xp.concatenate([part.start + layout.order for part, layout in pairs])
        columns = c - isinstance(net.output, outputs.Categorical)
        return cls(library, loss, columns, layouts, order)

    def shares(self, t: int) -> tuple[float, float, float]:
        """Factors by which their A, G and scale differ from ours."""
        if self.library == "curvlinops":
            return 1 / t, t * self.loss, 1.0
        if self.library == "nngeometry":
            return self.columns**0.5, self.columns**-0.5, 1.0
        if self.library == "kfac-jax":
            return 1 / t, self.loss, float(t)
        return 1.0, 1.0, self.loss

    def write(self, layout: _Layout, block: FisherMatrix, name: str) -> ForeignBlock:
        """Convert one block to their convention."""
        if not isinstance(block, KroneckerBlock):
            F = block.to_dense()[layout.order][:, layout.order]
            return ForeignBlock(name, (self.loss * F,))
        of_A, of_G, scale = self.shares(layout.t)
        A = block.A[layout.rows][:, layout.rows]
        return ForeignBlock(name, (of_A * A, of_G * block.G), scale)

    def read(self, layout: _Layout, theirs: Any, name: str) -> tuple[Array, ...]:
        """Convert one of their blocks to our (A, G), or to our full block."""
        of_A, of_G, scale = self.shares(layout.t)
        factors, given = (
            (theirs.factors, theirs.scale) if isinstance(theirs, ForeignBlock) else (theirs, None)
        )
        xp = array_module(*factors)
        if len(factors) == 1:
            back = xp.argsort(layout.order)
            _check(factors[0], len(back), "block", name)
            return ((1.0 if given is None else given) * factors[0][back][:, back] / self.loss,)
        if layout.shape is None:
            raise ValueError(
                f"expected one block (F,) for {name}, scale and shift, got {len(factors)} factors"
            )
        A, G = factors
        for letter, M, size in (("A", A, layout.shape[0]), ("G", G, layout.shape[1])):
            _check(M, size, letter, name)
        back = xp.argsort(layout.rows)
        rest = 1.0 if given is None else given / scale
        return A[back][:, back] / of_A, G * (rest / of_G)


def _inputs(net: Network, reduction: str) -> Array:
    """An input for a net whose first layer determines its shape."""
    first = net.layers[0]
    along = any(isinstance(layer, layers.Flatten | layers.GlobalAvgPool) for layer in net.layers)
    if not isinstance(first, layers.Dense) or along or reduction == "sum":  # perhaps along a sequence
        what = "the number of examples" if reduction == "sum" else f"the shape of inputs to {first}"
        raise ValueError(f"expected inputs x, which determine {what}, got none")
    return array_module().zeros((1, first.n_in))


def _check(M: Array, size: int, letter: str, name: str) -> None:
    if M.shape != (size, size):
        hint = "; weight and bias belong in one block" if M.shape == (size - 1, size - 1) else ""
        raise ValueError(f"expected {letter} of {name} of shape {(size, size)}, got {M.shape}{hint}")


def _layout(library: str, layer: layers.ParameterLayer, channels: int, t: int, xp: ModuleType) -> _Layout:
    """Layout of one layer's weights; ``channels`` is that of flattened input images, 0 for other inputs."""
    i, o = layer.weight_shape
    theirs_first = library != "kfac-jax"  # channels before pixels, outputs before inputs
    if not isinstance(layer, layers.Dense | layers.Conv2d):  # scale, then shift, over features
        features = xp.arange(o)
        if channels:
            features = features.reshape(-1, channels).T.reshape(-1)
        if not theirs_first:
            raise ValueError(f"expected dense layers and convolutions for {library}, got {layer}")
        entries = xp.concatenate([row * o + features for row in range(i)])
        return _Layout(entries, entries, t, None)
    n_in = i - bool(layer.bias)
    inputs = xp.arange(n_in)
    if theirs_first and isinstance(layer, layers.Conv2d):
        inputs = inputs.reshape(-1, layer.c_in).T.reshape(-1)
    elif theirs_first and channels:
        inputs = inputs.reshape(-1, channels).T.reshape(-1)
    rows = xp.concatenate([inputs, xp.arange(n_in, i)])
    places = xp.arange(i * o).reshape(i, o)
    weight, bias = places[inputs], places[n_in:].reshape(-1)
    parts = [weight.T.reshape(-1), bias] if theirs_first else [bias, weight.reshape(-1)]
    return _Layout(rows, xp.concatenate(parts), t, (i, o))


def _flattened_channels(net: Network, shape: tuple[int, ...]) -> list[int]:
    """Channels of flattened input images, (h, w, c) here, (c, h, w) elsewhere; 0 for other inputs."""
    channels: list[int] = []
    flattened = 0
    for layer in in_a_row(net.layers):
        if isinstance(layer, layers.Composite):
            if any(isinstance(part, layers.Flatten) for part in _inside(layer)):
                raise ValueError(f"expected Flatten outside of branches, got {layer}")
            channels += [0] * len(layer.weight_shapes)
        elif isinstance(layer, layers.ParameterLayer):
            channels.append(flattened)
            flattened = 0 if isinstance(layer, layers.Dense) else flattened
        elif isinstance(layer, layers.Flatten) and len(shape) == 3 and shape[2] > 1:
            flattened = shape[2]
        shape = layer.output_shape(shape)  # type: ignore[assignment]
    return channels


def _inside(layer: layers.Composite) -> Iterator[layers.Layer]:
    """All layers inside one."""
    for part in layer.parts:
        yield from _inside(part) if isinstance(part, layers.Composite) else (part,)
