"""F is the second derivative of the KL divergence: a walk in one direction, beside its quadratic form."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ... import fisher, plots
from ...backend import Array, to_host
from ...network import Network
from ..parts import Chapter, Section, number, percent
from ..studied import Run
from ..words import words

_LENGTHS = 33


def compute(run: Run) -> Chapter:
    """Walk away from the trained net: the order of the error, and its size for one step."""
    walk = divergence(run.net, run.theta, run.x, run.settings.seed)
    record = {"divergence": walk}
    lengths, kl, slope = walk["lengths"], walk["kl"], walk["slope"]
    if not np.isfinite(slope):
        return Chapter([], record=record)
    differences = np.abs(kl - walk["quadratic"])
    near = int(np.abs(np.log(lengths / 0.1)).argmin())
    relative = differences[near] / max(kl[near], 1e-300)
    text = words(
        "divergence",
        slope=f"{slope:.2f}",
        length=number(float(lengths[near])),
        kl=number(float(kl[near])),
        error=percent(float(relative)),
    )
    section = Section("kl", "F measures how predictions change", text)
    options: dict[str, Any] = {"floor": walk["floor"], "fit": walk["fit"]}
    draw = partial(plots.kl_against_quadratic, lengths, differences, **options)
    return Chapter([section], {"kl-divergence": draw}, record)


def divergence(net: Network, theta: Array, x: Array, seed: int = 0) -> dict[str, Any]:
    """Walk along one random direction and compare KL with 1/2 d^T F d; in float64 whatever theta is.

    Returns:
        ``lengths``: |d|, (m,); ``kl``: KL(theta || theta + d), mean over examples in nats, (m,);
        ``quadratic``: 1/2 d^T F d, (m,); ``slope`` of |kl - quadratic| against |d| on log axes, where
        rounding does not show, NaN where it shows everywhere; ``floor``: what rounding leaves of a
        difference, in nats; ``fit``: lengths between which the slope was fitted.
    """
    rng = np.random.default_rng([seed, 3])
    theta, x = to_host(theta).astype(float), to_host(x).astype(float)
    d = rng.normal(size=theta.shape)
    d /= np.linalg.norm(d)
    curvature = float(d @ (fisher.product(net, theta, x) @ d))
    lengths = np.logspace(-6, 0.5, _LENGTHS)
    kl = np.array([net.kl(theta, theta + t * d, x) for t in lengths])
    quadratic = 0.5 * lengths**2 * curvature
    differences = np.abs(kl - quadratic)
    # steps of 1e-6: KL is 1e-12 or so, the rest is rounding
    floor = max(float(np.median(differences[:4])), 1e-17)
    clean = lengths[differences > 100 * floor]
    fit = (float(clean.min()), float(clean.min()) * 10**1.5) if len(clean) else (0.1, 1.0)
    chosen = (lengths >= fit[0]) & (lengths <= fit[1] * (1 + 1e-9)) & (differences > 0)
    slope = np.nan
    if chosen.sum() > 1:
        slope = float(np.polyfit(np.log(lengths[chosen]), np.log(differences[chosen]), 1)[0])
    numbers = {"lengths": lengths, "kl": kl, "quadratic": quadratic}
    return numbers | {"slope": slope, "floor": floor, "fit": fit}
