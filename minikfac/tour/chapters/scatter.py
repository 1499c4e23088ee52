"""F is the covariance of gradients for drawn targets: those of two weights as a cloud, and their ellipse."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from ... import fisher, plots
from ...backend import Array, to_host
from ...network import Network
from ..parts import Chapter, Section, number
from ..studied import Run
from ..words import words
from .maps import conv_layers

_DRAWS = 4
"""Targets drawn per example."""


@dataclass(frozen=True)
class Scatter:
    """Sampled gradients of two weights.

    Attributes:
        layer: name of their layer.
        names: of the weights.
        samples: (N draws, 2) gradients of single examples.
        F: their block of the exact Fisher matrix (2, 2).
        covariance: of the samples (2, 2).
    """

    layer: str
    names: tuple[str, str]
    samples: Array
    F: Array
    covariance: Array


def compute(run: Run) -> Chapter:
    """F and sampled gradients of the last convolution or, without one, of the last layer that is drawn."""
    convolutions = [layer for layer in conv_layers(run.net) if layer in run.layers]
    layer = max(convolutions, default=(run.drawn or run.layers)[-1])
    x = run.x if run.settings.channels is None else run.x[:200]
    cloud = gradient_scatter(run.net, run.theta, x, layer, run.settings.seed)
    record = {"scatter": {key: value for key, value in vars(cloud).items() if key != "samples"}}
    shorter, longer = np.sqrt(np.linalg.eigvalsh(cloud.F).clip(0))
    if not shorter > 0:
        return Chapter([], record=record, results=cloud)
    first, second = cloud.names
    text = words("scatter", layer=cloud.layer, first=first, second=second, ratio=number(longer / shorter))
    section = Section("scatter", "F is the covariance of sampled gradients", text)
    draw = partial(plots.gradient_scatter, cloud.samples, cloud.F, names=cloud.names)
    return Chapter([section], {"gradient-scatter": draw}, record, results=cloud)


def gradient_scatter(net: Network, theta: Array, x: Array, layer: int, seed: int = 0) -> Scatter:
    """Sample gradients of the two weights of a layer with the largest covariance and a correlation below 0.9.

    Candidates are the 60 weights of the largest variance.
    """
    rng = np.random.default_rng([seed, 2])
    exact = fisher.signals(net, theta, x).select([layer])
    variance = to_host(fisher.diagonal(exact).diagonal())
    units = net.shapes[layer][1]
    strong = np.sort(np.argsort(variance)[-60:])

    def gradients(signals: fisher.Signals, chosen: Array) -> Array:  # (K, N, chosen), weights folded in
        parts = [to_host(piece.gradients()[..., chosen]) for piece in signals[0].pieces()]
        return np.concatenate(parts, axis=1).astype(float)

    D = gradients(exact, strong)
    F = np.einsum("kni,knj->ij", D, D) / len(x)
    sd = np.sqrt(np.maximum(F.diagonal(), np.finfo(float).tiny))
    correlation = np.abs(F / np.outer(sd, sd))
    score = np.where(correlation < 0.9, correlation, 0) * np.outer(sd, sd)
    score[np.diag_indices_from(score)] = 0
    pair = np.sort(np.array(np.unravel_index(score.argmax(), score.shape)))
    drawn = fisher.signals(net, theta, x, targets="sampled", n_samples=_DRAWS, rng=rng).select([layer])
    samples = _DRAWS**0.5 * gradients(drawn, strong[pair]).reshape(-1, 2)
    first, second = (weight_name(net, layer, *divmod(int(place), units)) for place in strong[pair])
    covariance = samples.T @ samples / len(samples)
    return Scatter(net.names[layer], (first, second), samples, F[np.ix_(pair, pair)], covariance)


def weight_name(net: Network, layer: int, i: int, o: int) -> str:
    """Name the entry (i, o) of a layer's weights."""
    conv = conv_layers(net).get(layer)
    if conv is None:
        return f"bias of unit {o}" if i == net.shapes[layer][0] - 1 else f"weight {i} → {o}"
    if i == conv.patch_size:
        return f"bias of map {o}"
    place, channel = divmod(i, conv.c_in)
    row, column = divmod(place, conv.windows.kernel[1])
    return f"weight ({row}, {column}) of map {channel} → {o}"
