"""Where KFC and its relatives are exact, and how their errors grow away from these cases.

Three approximations of a convolution's Fisher block read the same signals,

    KFC        E[sum_t abar_t abar_t^T] (x) (1/T) E[sum_t g_t g_t^T]       derivatives uncorrelated in space
    T x KFC    T times the same                                            derivatives equal everywhere
    reduce     E[a a^T] (x) E[g g^T],  a = sum_t abar_t,  g = mean_t g_t   derivatives equal everywhere

and each is exact somewhere [GM16, sec. 3; EIST23, sec. 3]:

    a loss on every location, nothing but linear maps above      KFC, for any images
    a mean over locations, linear 1 x 1 layers between           reduce, for any images
    constant images, no padding, a mean over locations above     T x KFC and reduce, for one distinct image;
                                                                 for any number if what is above is linear

A walk varies one parameter away from such a case and leaves everything else as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ... import fisher, plots
from ...backend import Array
from ...linalg import best_scalar, relative_error
from ...network import Network, outputs
from ...network.layers import Conv2d, Dense, Flatten, GlobalAvgPool, Identity, Layer, Tanh
from ..parts import Chapter, Section, number
from ..studied import Run
from ..words import words

NAMES = KFC, FULL, REDUCE = ("KFC", "T × KFC", "KFAC-reduce")
STRENGTHS = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
CORRELATIONS = (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0)
COUNTS = (1, 2, 4, 8, 16, 32, 64)
_IMAGES, _DRAWS = 96, 15
"""Noisy images; draws of constant ones."""


@dataclass(frozen=True)
class Walk:
    """Errors of a convolution's block along one knob.

    Attributes:
        key: a short name.
        knob: what is turned.
        title: what the net is.
        values: of the knob, (m,).
        errors: relative Frobenius errors (m,) by name of the approximation; medians where a walk draws its
            images several times.
        scales: the best scalars c* (m,) by the same names.
        exact: names and indices of values where theory says that the error is zero.
        locations: T.
    """

    key: str
    knob: str
    title: str
    values: Array
    errors: dict[str, Array]
    scales: dict[str, Array]
    exact: tuple[tuple[str, int], ...]
    locations: int


def compute(run: Run) -> Chapter:
    """Errors where theory says that there are none, and what each walk shows."""
    walks = exactness(run.settings.seed)
    errors = [walk.errors[name][place] for walk in walks for name, place in walk.exact]
    text = words("exactness", points=len(errors), error=number(max(errors)))
    text += [f"<b>{walk.title}.</b> {words(f'exactness-{walk.key}')[0]}" for walk in walks]
    section = Section("convexact", "When is it exact?", text, 3)
    rows = [vars(walk) for walk in walks]
    draw = partial(plots.exactness, rows)
    return Chapter([section], {"conv-exact": draw}, {"convolutions": {"walks": rows}}, results=walks)


def exactness(seed: int = 0) -> list[Walk]:
    """Take all walks, with images and weights drawn from a seed."""
    return [
        spatial_correlation(seed),
        distinct_inputs(seed),
        nonlinearity(seed, per_location=True),
        nonlinearity(seed, per_location=False),
    ]


def spatial_correlation(seed: int = 0) -> Walk:
    """Turn white noise into constant images, below a mean over locations and a linear output.

    Images are sqrt(1 - rho) noise + sqrt(rho) colour: rho is the correlation between any two pixels. The
    noise is made exactly white over these images, and patches do not overlap, so KFC is exact at rho = 0;
    T x KFC is at rho = 1; reduce always is, as derivatives are the same everywhere.
    """
    rng = np.random.default_rng([seed, 10])
    side, channels = 6, 2
    layers: list[Layer] = [Conv2d(channels, 3, 3, stride=3, bias=False), GlobalAvgPool(), Dense(3, 2)]
    net = Network(layers, outputs.Gaussian())
    theta = net.init(rng)
    white = np.linalg.qr(rng.standard_normal((_IMAGES, side * side * channels)))[0] * _IMAGES**0.5
    white = white.reshape(_IMAGES, side, side, channels)
    colour = rng.standard_normal((_IMAGES, 1, 1, channels))
    images = [(1 - rho) ** 0.5 * white + rho**0.5 * colour for rho in CORRELATIONS]
    last = len(images) - 1
    return _walk(
        "correlation",
        "correlation between pixels",
        "conv (stride = kernel) – mean – dense, squared error",
        CORRELATIONS,
        [[(net, theta, x)] for x in images],
        [*((REDUCE, place) for place in range(last + 1)), (KFC, 0), (FULL, last)],
    )


def distinct_inputs(seed: int = 0) -> Walk:
    """Begin with one constant image and add others, below tanh, a mean over locations and a softmax.

    For one distinct image neither activations nor derivatives vary, in space or between examples: T x KFC
    and reduce are exact whatever the net is. With more, derivatives depend on the image, as activations
    do: they are not independent any more. Medians over several draws of the images.
    """
    rng = np.random.default_rng([seed, 11])
    net = Network([Conv2d(2, 3, 3), Tanh(), GlobalAvgPool(), Dense(3, 4)], outputs.Categorical())
    theta = 2 * net.init(rng)
    colours = rng.standard_normal((_DRAWS, max(COUNTS), 1, 1, 2))
    return _walk(
        "inputs",
        "distinct images (constant ones)",
        "conv – tanh – mean – dense, softmax",
        COUNTS,
        [
            [(net, theta, np.broadcast_to(some[:count], (count, 5, 5, 2)).copy()) for some in colours]
            for count in COUNTS
        ],
        [(FULL, 0), (REDUCE, 0)],
    )


def nonlinearity(seed: int = 0, per_location: bool = True) -> Walk:
    """Bend a linear net, from the identity to tanh(beta s) / beta, with noise as images.

    With a squared error at every location KFC is exact in the linear net; with a mean over locations
    below the squared error, reduce is.
    """
    rng = np.random.default_rng([seed, 12])
    nets = []
    for phi in (Identity, Tanh):
        below: list[Layer] = [Conv2d(2, 3, 3, padding=0 if per_location else 1), phi()]
        above: list[Layer] = [Conv2d(3, 2, 1), Flatten()] if per_location else [GlobalAvgPool(), Dense(3, 2)]
        nets.append(Network([*below, *above], outputs.Gaussian()))
    straight, bent = nets
    theta = straight.init(rng)
    images = rng.standard_normal((_IMAGES, 5, 5, 2))
    first, second = straight.unpack(theta)
    cases = [[(straight, theta, images)]]
    for beta in STRENGTHS[1:]:
        scaled = second.copy()
        scaled[:-1] /= beta  # the bias is not behind the nonlinearity
        cases.append([(bent, bent.pack([beta * first, scaled]), images)])
    end = "1×1 conv, squared error at every location" if per_location else "mean – dense, squared error"
    return _walk(
        "nonlinearity" if per_location else "pooled",
        "strength β of the nonlinearity tanh(βs)/β",
        f"conv – tanh – {end}",
        STRENGTHS,
        cases,
        [(KFC if per_location else REDUCE, 0)],
    )


Case = tuple[Network, Array, Array]
"""A net, its parameters, and images."""


def _walk(
    key: str,
    knob: str,
    title: str,
    values: Sequence[float],
    cases: Sequence[Sequence[Case]],
    exact: Sequence[tuple[str, int]],
) -> Walk:
    """Measure the first layer's block in every case, one or several for each value of the knob."""
    measured = np.array([[_measure(*case) for case in draws] for draws in cases])  # (m, draws, 2, names)
    errors, scales = np.median(measured, axis=1).transpose(1, 2, 0)
    net, theta, x = cases[0][0]
    return Walk(
        key,
        knob,
        title,
        np.array(values, dtype=float),
        dict(zip(NAMES, errors, strict=True)),
        dict(zip(NAMES, scales, strict=True)),
        tuple(exact),
        net.forward(theta, x).abar[0].shape[1],
    )


def _measure(net: Network, theta: Array, x: Array) -> tuple[list[float], list[float]]:
    """Relative errors and best scalars of the approximations of the first layer's block."""
    signals = fisher.signals(net, theta, x).select([0])
    F = fisher.block_diagonal(signals).to_dense()
    near = (fisher.kfac(signals), fisher.fully_correlated(signals), fisher.kfac(signals, reduce=True))
    blocks = [matrix.to_dense() for matrix in near]
    return (
        [relative_error(M, F) for M in blocks],
        [best_scalar(M, F) for M in blocks],
    )
