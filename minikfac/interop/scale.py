"""What makes a matrix a factor off: the causes that the best scalar c* gives away.

    c* = <K, F> / <K, K>    of a matrix K that should be F, so K is 1 / c* times what it should be

Numbers that differ (N, T, M, C) leave different factors behind. Where several causes lead to the same factor,
all of the simplest are named: the numbers cannot tell which.
"""

from __future__ import annotations

import itertools
import math

from ..backend import real_number, whole_number

Cause = tuple[float, str]

ALWAYS: list[Cause] = [
    (2.0, "it is of the squared error without its 1/2, a Gaussian of variance 1/2"),
    (4.0, "gradients of the squared error without its 1/2 were squared, in an empirical Fisher matrix"),
    (0.5, "a 1/2 is in it that belongs to the quadratic model"),
    (-1.0, "the sign is turned"),
]
"""Factors, and what leads to them."""
OF_N = [
    (1, "it is a sum over the N examples"),
    (-1, "it is divided by N once more"),
    (-2, "derivatives are those of the mean loss, N times too small, and were squared"),
]
"""Powers of N, and what leads to a factor of that power; likewise of T, M and C."""
OF_T = [
    (1, "T is in it once more: both factors are sums over locations, or it is T times KFC"),
    (-1, "a T is missing: both factors are means over locations"),
    (-2, "T divides it twice more"),
]
OF_M = [
    (1, "it is a sum over the M samples"),
    (-1, "sampled derivatives are divided by M, and should be by sqrt(M)"),
]
OF_C = [
    (-1, "the loss is a mean over the C outputs, and should be their sum"),
    (-2, "gradients of a mean over the C outputs were squared, in an empirical Fisher matrix"),
    (1, "it is multiplied by C"),
]


def scale_causes(
    c_star: float,
    n: int | None = None,
    t: int | None = None,
    m: int | None = None,
    c: int | None = None,
    rtol: float = 1e-6,
) -> list[str]:
    """Name what leads to a factor, in words.

    Args:
        c_star: the best scalar of the foreign matrix for the right one, as in ``quality.compare``.
        n: examples.
        t: locations of the layer.
        m: sampled targets per example.
        c: outputs of the net.
        rtol: how far off a factor may be; larger for sampled matrices.

    Returns:
        Causes, each a part of a sentence; [] if no combination of the causes here leads to the factor.

    Raises:
        ValueError: on a c* that is 0 or not finite.
    """
    c_star, rtol = real_number(c_star, "c*"), real_number(rtol, "rtol")
    if not math.isfinite(c_star) or c_star == 0:
        raise ValueError(f"expected a finite c* other than 0, got {c_star}")
    if not 0 <= rtol < 1:
        raise ValueError(f"expected rtol from 0 to 1, got {rtol}")
    if math.isclose(c_star, 1, rel_tol=rtol):
        return ["the scale is right"]
    groups = _groups(n, t, m, c)
    for size in range(1, len(groups) + 1):
        causes = [
            " and ".join(said for _, said in chosen)
            for some in itertools.combinations(groups, size)
            for chosen in itertools.product(*some)
            if math.isclose(math.prod(factor for factor, _ in chosen) * c_star, 1, rel_tol=rtol)
        ]
        if causes:
            return causes
    return []


def _groups(n: int | None, t: int | None, m: int | None, c: int | None) -> list[list[Cause]]:
    """Causes by what they have to do with; of each group at most one is at work."""
    groups = [ALWAYS]
    for number, causes in ((n, OF_N), (t, OF_T), (m, OF_M), (c, OF_C)):
        if number is not None:
            count = float(whole_number(number, "each of n, t, m and c"))
            groups.append([(count**power, said) for power, said in causes])
    return [[cause for cause in group if cause[0] != 1] for group in groups]
