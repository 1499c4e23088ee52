"""Maps computed from data: centred, normalized or uncorrelated activations, and uncorrelated derivatives.

The mean m and covariance S of a layer's inputs, or of a convolution's input channels over all pixels, are
computed at one theta over given examples, and remain constant from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..backend import Array, array_module, as_array, to_host
from ..datasets import color_whitening
from ..distributed import SERIAL
from ..fisher import signals
from ..fisher.kronecker import factors
from ..linalg import SingularMatrixError, eigh
from ..network import Network
from ..network.layers import Conv2d, Dense, Identity, Layer, ParameterLayer, Record
from ..network.network import as_batch, layer_index
from .reparameterization import Reparameterization
from .wrap import Wrap, rebuilt, wrap

SMALLEST_SHARE = 1e-10
"""Least variance of a feature or direction relative to the largest."""


def center(
    net: Network,
    theta: Array,
    x: Array,
    stats: Sequence[Array] | None = None,
    layers: Sequence[int | str] | None = None,
) -> Reparameterization:
    """Give the inputs of each layer mean 0 over x: d = -m.

    Args:
        net: the network.
        theta: (P,).
        x: inputs of the training set.
        stats: running statistics of batch normalization.
        layers: layers by index or name; by default all but normalizations, which have no input map and
            center their inputs themselves.

    Raises:
        ValueError: on a layer without a bias to absorb d.
    """
    means = _means(net, theta, x, stats)
    return wrap(net, {l: Wrap(d=-means[l]) for l in _chosen(net, layers)})


def normalize(
    net: Network,
    theta: Array,
    x: Array,
    stats: Sequence[Array] | None = None,
    layers: Sequence[int | str] | None = None,
) -> Reparameterization:
    """Give each input unit or channel of a layer mean 0 and variance 1 over x: V = diag(S)^-1/2, d = -m V.

    See :func:`center` for the arguments.

    Raises:
        ValueError: on a constant unit, or a layer without a bias.
    """

    def inverse_deviations(S: Array, name: str) -> Array:
        variances = S.diagonal()
        constant = int((variances <= SMALLEST_SHARE * variances.max()).sum())
        if constant:
            raise ValueError(
                f"expected inputs of {name} that vary, but {constant} of {len(variances)} do not: no factor "
                "gives them variance 1. Use center, or other layers"
            )
        return variances**-0.5

    return _standardized(net, theta, x, stats, layers, inverse_deviations)


def whiten(
    net: Network,
    theta: Array,
    x: Array,
    stats: Sequence[Array] | None = None,
    layers: Sequence[int | str] | None = None,
) -> Reparameterization:
    """Give the inputs of each layer mean 0 and covariance I over x: V = S^-1/2, d = -m V.

    A dense layer then has A = I, including the constant 1. A convolution's channels are uncorrelated at each
    pixel, but neighbouring pixels remain correlated, so A = I only for 1 x 1 kernels on 1 x 1 images.
    See :func:`center` for the arguments.

    Raises:
        ValueError: if a layer's inputs do not vary in all directions, or it has no bias.
    """

    def inverse_root(S: Array, name: str) -> Array:
        return _inverse_root(S, f"the covariance of the inputs of {name}")

    return _standardized(net, theta, x, stats, layers, inverse_root)


def whiten_derivatives(
    net: Network,
    theta: Array,
    x: Array,
    targets: str = "model",
    n_samples: int = 1,
    rng: Any = None,
    stats: Sequence[Array] | None = None,
    layers: Sequence[int | str] | None = None,
) -> Reparameterization:
    """Give each layer the derivative factor G = I over x: U = G^-1/2.

    After :func:`whiten`, the K-FAC matrix of a dense net is the identity, and K-FAC is gradient descent
    [MG15, sec. 10].

    Args:
        net, theta, x, stats, layers: as for :func:`center`.
        targets: targets for G, "model" or "sampled", as in :func:`minikfac.fisher.signals`.
        n_samples: targets per example, if sampled.
        rng: a ``numpy.random.Generator``, if sampled.

    Raises:
        ValueError: if G is singular, as for a softmax.
    """
    options = dict(n_samples=n_samples, rng=rng) if targets == "sampled" else {}
    AGs = signals(net, theta, x, targets=targets, stats=stats, **options).total(factors)
    wraps = {}
    for l in _chosen(net, layers):
        if len(AGs[l]) != 2:
            raise ValueError(
                f"expected a dense layer or a convolution, got {net.names[l]}: it has one block, no factor G"
            )
        wraps[l] = Wrap(U=_inverse_root(to_host(AGs[l][1]).astype(float), f"G of {net.names[l]}"))
    return wrap(net, wraps)


def whiten_colors(net: Network, images: Array) -> Reparameterization:
    """Give the input colours of the first convolution mean 0 and covariance I over all pixels.

    Applies :func:`minikfac.datasets.color_whitening`, the same map at every pixel, inside the net. A padded
    convolution then pads with the image of its former padding: of black, if that was 0.

    Args:
        net: a network that starts with a convolution.
        images: (N, H, W, C), from the training set.

    Raises:
        ValueError: if the first layer is not a convolution, or colours do not vary in all directions.
    """
    first = net.layers[0]
    if not isinstance(first, Conv2d):
        raise ValueError(f"expected a net that starts with a convolution, got {first}")
    colors = color_whitening(to_host(as_array(images, "images")).astype(float))
    return wrap(net, {0: Wrap(V=colors.V, d=colors.d)})


class _Watched(Identity):
    """Reports a layer's input as if it were a parameter layer's signal."""

    def signals(self, record: Record) -> list[tuple[Array, Array]]:
        return [record]


def _inputs(net: Network, theta: Array, x: Array, stats: Sequence[Array] | None) -> Iterator[list[Array]]:
    """Yield, for each chunk, the inputs (rows, C) of every parameter layer."""

    def watch(items: list[Layer], number: int) -> list[Layer]:
        return [
            layer
            for item in items
            for layer in ([_Watched(), item] if isinstance(item, ParameterLayer) else [item])
        ]

    watched, x = Network(rebuilt(net.layers, watch), net.output), as_batch(x)
    for rows in net.on(SERIAL).chunks(theta, x):
        entered = watched.forward(theta, x[rows], stats).abar[::2]
        yield [inputs.reshape(-1, inputs.shape[-1]).astype(float) for inputs in entered]


def _averages(chunks: Iterator[list[Array]], total: Callable[[int, Array], Array]) -> list[Array]:
    """For each layer, the sum of ``total`` over its input rows divided by their number, on the host."""
    sums: dict[int, Any] = {}
    counts: dict[int, int] = {}
    for entered in chunks:
        for l, rows in enumerate(entered):
            sums[l] = sums.get(l, 0) + total(l, rows)
            counts[l] = counts.get(l, 0) + len(rows)
    return [to_host(sums[l]) / counts[l] for l in sums]


def _means(net: Network, theta: Array, x: Array, stats: Sequence[Array] | None) -> list[Array]:
    """The mean m (C,) for each layer, on the host in float64."""
    return _averages(_inputs(net, theta, x, stats), lambda l, rows: rows.sum(0))


def _standardized(
    net: Network,
    theta: Array,
    x: Array,
    stats: Sequence[Array] | None,
    layers: Sequence[int | str] | None,
    root: Callable[[Array, str], Array],
) -> Reparameterization:
    """Standardize layers' inputs with V = root(S, name) and d = -m V, where S (C, C) is the covariance."""
    means = _means(net, theta, x, stats)

    def squares(l: int, rows: Array) -> Array:
        centred = rows - array_module(rows).asarray(means[l])
        return centred.T @ centred

    covariances = _averages(_inputs(net, theta, x, stats), squares)
    wraps = {}
    for l in _chosen(net, layers):
        V = root(covariances[l], net.names[l])
        wraps[l] = Wrap(V=V, d=-means[l] @ V if V.ndim == 2 else -means[l] * V)
    return wrap(net, wraps)


def _chosen(net: Network, layers: Sequence[int | str] | None) -> list[int]:
    if layers is not None:
        return [layer_index(net.names, layer) for layer in layers]
    return [l for l, layer in enumerate(net.parameter_layers) if isinstance(layer, Dense | Conv2d)]


def _inverse_root(M: Array, name: str) -> Array:
    """M^-1/2, the symmetric root, for a positive definite (n, n) matrix.

    Raises:
        SingularMatrixError: with the matrix's name and rank.
    """
    values, vectors = eigh(M)
    rank = int((values > SMALLEST_SHARE * values[-1]).sum())
    if rank < len(M):
        raise SingularMatrixError(
            f"expected a positive definite matrix, but {name} ({len(M)} x {len(M)}) has numerical rank "
            f"{rank}: it cannot be whitened"
        )
    return vectors * values**-0.5 @ vectors.T
