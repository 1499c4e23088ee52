"""Approximations of F as Gaussian models N(0, F~ + lambda I) of the sampled gradient.

    log p(D) = -1/2 ( D^T (F~ + lambda I)^{-1} D + log det (F~ + lambda I) + P log 2 pi )    nats

F is the covariance of gradients D whose targets are drawn from the net's predictions [MG15, sec. 2.2]. An
approximation can therefore be judged as a statistical model: it is fitted to some gradients, and evaluated by
the density of others. Gradients are not Gaussian, but all models are, so only their covariances are compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..backend import Array, array_module
from ..fisher import FisherMatrix, Signals
from .measures import Row


def gradients_of(signals: Signals) -> Array:
    """Return the gradients D of signals with one target per example, (N, P).

    Raises:
        ValueError: on several targets per example, whose gradients are weighted terms in an expectation.
    """
    chunks = list(signals)
    terms = len(chunks[0][0].g)
    if terms != 1:
        raise ValueError(f"expected one target per example, got {terms} terms; use targets='sampled'")
    xp = array_module(chunks[0][0].g)
    return xp.concatenate([xp.concatenate([l.gradients()[0] for l in chunk], axis=1) for chunk in chunks])


def log_density(
    matrix: FisherMatrix, gradients: Array, damping: float = 0.0, method: str | None = None
) -> Array:
    """Log density of each gradient under N(0, F~ + lambda I), in nats, (N,).

    Args:
        matrix: F~.
        gradients: (N, P).
        damping: lambda, a variance in every direction.
        method: damping method, see :meth:`minikfac.fisher.FisherMatrix.solve`.

    Raises:
        ValueError: on gradients of the wrong shape.
    """
    size = matrix.shape[0]
    if gradients.ndim != 2 or gradients.shape[1] != size:
        raise ValueError(f"expected gradients of shape (N, {size}), got {gradients.shape}")
    squares = (gradients.T * matrix.solve(gradients.T, damping, method)).sum(0)
    return -0.5 * (squares + matrix.logdet(damping, method) + size * math.log(2 * math.pi))


def held_out(
    models: Mapping[str, FisherMatrix],
    validation: Array,
    test: Array,
    dampings: Sequence[float],
    methods: Mapping[str, str] | None = None,
) -> list[Row]:
    """Evaluate models of the gradient by the log density of held-out gradients.

    Args:
        models: by name, fitted to other gradients.
        validation: gradients (N, P) for choosing each model's lambda, by the highest mean log density.
        test: gradients (M, P) for the evaluation.
        dampings: candidates for lambda.
        methods: damping methods by name, if not the default.

    Returns:
        A row per model: ``approximation``, ``floats``, ``damping``, ``nats`` (mean log density per example),
        ``behind`` (the difference from the best model's nats); and their standard errors ``nats_se`` and
        ``behind_se``, the latter from paired differences over examples.

    Raises:
        ValueError: on gradients of the wrong shape, fewer than two in ``test``, no models or no dampings.
    """
    if not (models and len(dampings) and len(test) > 1):
        counts = f"{len(models)}, {len(dampings)} and {len(test)}"
        raise ValueError(f"expected models, dampings and at least two test gradients, got {counts}")
    chosen, densities = {}, {}
    for name, matrix in models.items():
        method = (methods or {}).get(name)
        means = {lam: float(log_density(matrix, validation, lam, method).mean()) for lam in dampings}
        chosen[name] = max(means, key=means.__getitem__)
        densities[name] = log_density(matrix, test, chosen[name], method)
    best = max(densities.values(), key=lambda density: float(density.mean()))
    rows: list[Row] = []
    for name, density in densities.items():
        row: Row = {"approximation": name, "floats": models[name].floats, "damping": chosen[name]}
        for column, values in (("nats", density), ("behind", best - density)):
            deviations = values - values.mean()
            error = float(deviations @ deviations / (len(test) * (len(test) - 1))) ** 0.5
            row |= {column: float(values.mean()), f"{column}_se": error}
        rows.append(row)
    return rows
