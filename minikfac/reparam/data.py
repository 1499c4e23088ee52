"""Maps made from data: activations of mean 0, of variance 1, uncorrelated; derivatives uncorrelated.

The mean m and the covariance S of what enters a layer, or of a channel over all pixels of the images that
enter a convolution, are taken at one theta over given examples. They are fixed numbers from then on.
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
"""Least variance, of a feature or a direction, as a share of the largest."""


def center(
    net: Network,
    theta: Array,
    x: Array,
    stats: Sequence[Array] | None = None,
    layers: Sequence[int | str] | None = None,
) -> Reparameterization:
    """Give what enters each layer mean 0 over x: d = -m.

    Args:
        net: the network.
        theta: (P,).
        x: inputs, the training set's.
        stats: running statistics of batch normalization.
        layers: which, by index or name; all but the normalizations by default, which have no input map and
            center by themselves.

    Raises:
        ValueError: on a layer without a bias to take d up.
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
    """Give each unit or channel that enters a layer mean 0 and variance 1 over x: V = diag(S)^-1/2, d = -m V.

    Arguments are those of :func:`center`.

    Raises:
        ValueError: on a unit that does not vary, and without a bias.
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
    """Give what enters each layer mean 0 and covariance I over x: V = S^-1/2, d = -m V.

    A dense layer then has A = I, the constant 1 included. A convolution's channels are uncorrelated at each
    pixel; neighbouring pixels are not, and A = I only without them, as for a 1 x 1 kernel on 1 x 1 images.
    Arguments are those of :func:`center`.

    Raises:
        ValueError: where the inputs of a layer do not vary in all directions, and without a bias.
    """

    def inverse_root(S: Array, name: str) -> Array:
        return _inverse_root(S, f"the covariance of what enters {name}")

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

    After :func:`whiten`, the K-FAC matrix of a dense net is the identity: K-FAC is gradient descent there
    [MG15, sec. 10].

    Args:
        net, theta, x, stats, layers: as for :func:`center`.
        targets: of G, "model" or "sampled", as in :func:`minikfac.fisher.signals`.
        n_samples: targets per example, if sampled.
        rng: a ``numpy.random.Generator``, if sampled.

    Raises:
        ValueError: where G is singular, as that of a softmax is.
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
    """Give the colours that enter the first convolution mean 0 and covariance I over all pixels.

    One map, the same at every pixel: :func:`minikfac.datasets.color_whitening` inside of the net. A padded
    convolution then pads with the image of what it padded with: black, for 0.

    Args:
        net: a network that begins with a convolution.
        images: (N, H, W, C), the training set's.

    Raises:
        ValueError: if it begins otherwise, or the colours do not vary in all directions.
    """
    first = net.layers[0]
    if not isinstance(first, Conv2d):
        raise ValueError(f"expected a net that begins with a convolution, got {first}")
    colors = color_whitening(to_host(as_array(images, "images")).astype(float))
    return wrap(net, {0: Wrap(V=colors.V, d=colors.d)})


class _Watched(Identity):
    """What enters a layer, as if it were a parameter layer's signal."""

    def signals(self, record: Record) -> list[tuple[Array, Array]]:
        return [record]


def _inputs(net: Network, theta: Array, x: Array, stats: Sequence[Array] | None) -> Iterator[list[Array]]:
    """Chunk by chunk, per parameter layer, what enters it: (rows, C)."""

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
    """Per layer the sum of ``total`` over the rows that enter it, divided by their number; on the host."""
    sums: dict[int, Any] = {}
    counts: dict[int, int] = {}
    for entered in chunks:
        for l, rows in enumerate(entered):
            sums[l] = sums.get(l, 0) + total(l, rows)
            counts[l] = counts.get(l, 0) + len(rows)
    return [to_host(sums[l]) / counts[l] for l in sums]


def _means(net: Network, theta: Array, x: Array, stats: Sequence[Array] | None) -> list[Array]:
    """Per layer m (C,), on the host in float64."""
    return _averages(_inputs(net, theta, x, stats), lambda l, rows: rows.sum(0))


def _standardized(
    net: Network,
    theta: Array,
    x: Array,
    stats: Sequence[Array] | None,
    layers: Sequence[int | str] | None,
    root: Callable[[Array, str], Array],
) -> Reparameterization:
    """Map what enters layers to mean 0 by V = root(S, name) and d = -m V, S (C, C) the covariance."""
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
        SingularMatrixError: naming the matrix and its rank.
    """
    values, vectors = eigh(M)
    rank = int((values > SMALLEST_SHARE * values[-1]).sum())
    if rank < len(M):
        raise SingularMatrixError(
            f"expected a positive definite matrix, but {name} ({len(M)} x {len(M)}) has numerical rank "
            f"{rank}: no map makes it I"
        )
    return vectors * values**-0.5 @ vectors.T
