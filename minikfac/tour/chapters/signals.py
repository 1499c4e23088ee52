"""One example forward and back: what abar and g are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import plots
from ...backend import Array, to_host
from ...network import Network, outputs
from ..parts import Chapter, Drawings, Section, percent
from ..studied import Run
from ..words import words


@dataclass(frozen=True)
class Passage:
    """One example on its way through the net and back.

    Attributes:
        index: of the example in the batch it was chosen from.
        x: the input (features,).
        label: its target.
        mean: what the model predicts, probabilities or means (C,).
        target: drawn from the model, an index for a class and (C,) otherwise.
        activations: per parameter layer, what goes into the weights, without the constant 1.
        derivatives: per parameter layer g (O,), for the drawn target.
    """

    index: int
    x: Array
    label: Array
    mean: Array
    target: Array
    activations: list[Array]
    derivatives: list[Array]


def passage(net: Network, theta: Array, x: Array, y: Array, seed: int = 0) -> Passage:
    """Send one example forward and back: the one whose prediction is the least certain but still right.

    For outputs other than classes, the first example.
    """
    z = net.forward(theta, x).z
    mean = net.output.mean(z)
    classes, index = isinstance(net.output, outputs.Categorical), 0
    if classes:
        p = to_host(mean)
        right = p.argmax(1) == to_host(y)
        # one that leaves room for another target to be drawn, but is not a coin toss
        distance = np.abs(p.max(1) - 0.7) + ~right
        index = int(distance.argmin())
    one = slice(index, index + 1)
    rng = np.random.default_rng([seed, index])
    target = net.output.sample(z[one], rng)
    if classes:  # a target other than the likeliest shows more
        for _ in range(100):
            if int(target[0]) != int(mean[index].argmax()):
                break
            target = net.output.sample(z[one], rng)
    tape = net.forward(theta, x[one])
    g = net.backward(theta, tape, net.output.gradient(tape.z, target))
    return Passage(
        index,
        to_host(x[index]),
        to_host(y[index]),
        to_host(mean[index]),
        to_host(target)[0],
        [to_host(abar[0, 0, :-1]) for abar in tape.abar],
        [to_host(layer[0, 0]) for layer in g],
    )


def compute(run: Run) -> Chapter | None:
    """What backpropagation leaves behind in every layer of dense layers, for one test example."""
    if run.settings.channels is not None:
        return None
    data, classes = run.dataset, isinstance(run.net.output, outputs.Categorical)
    one = passage(run.net, run.theta, data.x_test, data.y_test, run.settings.seed)
    parts = words("signals")
    if classes:
        likely, drawn = int(one.mean.argmax()), int(one.target)
        parts += words(
            "signals-target",
            label=int(one.label),
            likely=likely,
            likeliest=percent(float(one.mean[likely])),
            drawn=drawn,
            probability=percent(float(one.mean[drawn])),
        )
    parts += words("signals-figure")
    section = Section("signals", "Forward and back: where the numbers come from", parts)
    figures: Drawings = {}
    if classes and len(one.activations) > 1:
        figures["forward-backward"] = lambda: _draw(one, data.image_shape)
    return Chapter([section], figures, {"passage": vars(one)})


def _draw(one: Passage, shape: tuple[int, ...] | None) -> Any:
    pixels = one.x.reshape(shape[:2]) if shape is not None and shape[2] == 1 else one.x[None]
    return plots.forward_backward(
        pixels, one.activations[1:], one.mean, int(one.target), int(one.label), one.derivatives
    )
