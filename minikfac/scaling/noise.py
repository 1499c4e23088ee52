"""The critical batch, predicted from curvature and noise at one point of training [MKAOD18, sec. 2.2].

A step -eps P^{-1} g_m, with g_m the mean gradient of m examples, changes the loss in expectation by

    -eps g' P^{-1} g + eps^2 / 2 ( u' H u + tr(P^{-1} H P^{-1} S) / m ),    u = P^{-1} g

with S the covariance of the gradients of single examples. With the best eps the progress is that of the whole
data divided by 1 + B / m, which for a whole run gives the steps of :mod:`.sweep`, S (1 + B / m):

    B = tr(P^{-1} H P^{-1} S) / u' H u,        the simple noise scale for H = P = I: tr S / g' g

It is the prediction of a single step of the best size along a quadratic model, without momentum.
"""

from __future__ import annotations

from collections.abc import Callable

from ..backend import Array

Product = Callable[[Array], Array]


def noise_scale(
    gradients: Array, gradient: Array, product: Product | None = None, precondition: Product | None = None
) -> float:
    """Predict the batch at which twice the examples no longer save half the steps, in examples.

    Computed as E[ U' H U ] / u' H u - 1, over examples with U the preconditioned gradient of one.

    Args:
        gradients: of single examples at one theta, with their labels, (N, P); a sample of them will do.
        gradient: g, their mean over all of the data, (P,).
        product: v -> H v for v (P, N), as ``fisher.product(net, theta, x).__matmul__``; H = I by default.
        precondition: v -> P^{-1} v, likewise; P = I by default.

    Raises:
        ValueError: on shapes that do not fit, and where g is 0.
    """
    if gradients.ndim != 2 or gradients.shape[1:] != gradient.shape:
        raise ValueError(
            f"expected gradients of shape (N, P) and a mean of shape (P,), got {gradients.shape} and "
            f"{gradient.shape}"
        )
    U, u = gradients.T, gradient[:, None]
    if precondition is not None:
        U, u = precondition(U), precondition(u)
    HU, Hu = (U, u) if product is None else (product(U), product(u))
    of_mean = float((u * Hu).sum())
    if not of_mean > 0:
        raise ValueError(f"expected a gradient along which the curvature is positive, got {of_mean:.3g}")
    return float((U * HU).sum()) / len(gradients) / of_mean - 1
