"""Causes of a wrong scale of a matrix, inferred from the best scalar c*.

c* = <K, F> / <K, K>    of a matrix K that should be F, so K is 1 / c* times what it should be

Causes can be told apart if N, T, M and C differ. If several explain the same factor, all of the simplest are
named.
"""

from __future__ import annotations

import itertools
import math

from ..backend import real_number, whole_number

Cause = tuple[float, str]

ALWAYS: list[Cause] = [
    (2.0, "it is of the squared error without its 1/2, a Gaussian of variance 1/2"),
    (4.0, "gradients of the squared error without its 1/2 were squared, in an empirical Fisher matrix"),
    (0.5, "it contains a 1/2 that belongs to the quadratic model"),
    (-1.0, "the sign is turned"),
]
"""Factors and their causes."""
OF_N = [
    (1, "it is a sum over the N examples"),
    (-1, "it is divided by N once too often"),
    (-2, "derivatives are those of the mean loss, N times too small, and were squared"),
]
"""Powers of N and causes of such a factor; likewise for T, M and C."""
OF_T = [
    (1, "it has a factor T too many: both factors are sums over locations, or it is T times KFC"),
    (-1, "a factor T is missing: both factors are means over locations"),
    (-2, "it is divided by T twice too often"),
]
OF_M = [
    (1, "it is a sum over the M samples"),
    (-1, "sampled derivatives are divided by M instead of sqrt(M)"),
]
OF_C = [
    (-1, "the loss is a mean over the C outputs instead of a sum"),
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
    """Describe the possible causes of a factor in words.

    Args:
        c_star: the best scalar c* for the foreign matrix against the correct one, as in
            ``quality.compare``.
        n: number of examples.
        t: locations of the layer.
        m: sampled targets per example.
        c: outputs of the net.
        rtol: relative tolerance for the factor; use a larger one for sampled matrices.

    Returns:
        Causes as clauses; [] if no combination of known causes explains the factor.

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
    """Causes in groups, from each of which at most one is considered at a time."""
    groups = [ALWAYS]
    for number, causes in ((n, OF_N), (t, OF_T), (m, OF_M), (c, OF_C)):
        if number is not None:
            count = float(whole_number(number, "each of n, t, m and c"))
            groups.append([(count**power, said) for power, said in causes])
    return [[cause for cause in group if cause[0] != 1] for group in groups]
