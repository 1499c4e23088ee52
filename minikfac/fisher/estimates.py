"""Trace and diagonal of a matrix given by products with vectors, with standard errors.

    tr F = E[ z^T F z ],    diag F = E[ z * F z ],    z (P,) random signs    [Hutchinson90; BKS07]

A few large eigenvalues make these estimates noisy. We therefore split off an orthonormal basis Q of a Krylov
subspace, which quickly approximates their eigenvectors. Its contribution is computed exactly, and random
vectors estimate the rest: this is Hutch++ [MMMW21], with a Krylov subspace in place of its sketch F S.

    tr F = tr Q^T F Q + E[ z^T F z ],    z = (I - Q Q^T) signs

If all eigenvalues are similar, as for a well-preconditioned matrix, the subspace does not help, and
``leading=0`` spends all products on random vectors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from ..backend import Array, array_module, fetch, whole_number
from ..linalg import krylov_subspace
from .matrix import Operator
from .matrix_free import Product


class Estimate(NamedTuple):
    """A mean over random vectors and its standard error: numbers, or arrays of the same shape."""

    value: Any
    standard_error: Any


class Leading(NamedTuple):
    """An orthonormal basis near the leading eigenvectors of F."""

    Q: Array
    """(k, P), basis vectors in rows, or zero rows."""
    FQ: Array
    """F times each basis vector, (k, P)."""

    def without(self, v: Array) -> Array:
        """The component of v (P,) orthogonal to the basis."""
        return v - (self.Q @ v) @ self.Q


def estimate_trace(F: Operator, products: int = 30, leading: int | None = None, seed: int = 0) -> Estimate:
    """Estimate tr F from products with F.

    Args:
        F: any curvature matrix, such as :func:`.product` or :func:`.hessian`.
        products: total number of products with F.
        leading: dimension of the subspace that is treated exactly; a third of the products by default.
        seed: seed of the random vectors.

    Returns:
        The estimate and its standard error.

    Raises:
        ValueError: if fewer than two products, the least for a standard error, remain for random vectors.

    >>> import numpy as np
    >>> from minikfac import fisher
    >>> F = fisher.DenseMatrix(np.diag([100.0, 4.0, 3.0, 2.0, 1.0]) + 0.1)
    >>> value, standard_error = fisher.estimate_trace(F, products=6, leading=0)
    >>> round(F.trace(), 1), abs(value - F.trace()) < 3 * standard_error
    (110.5, True)
    """
    k, m = _shares(products, leading)
    subspace = leading_subspace(F, k, seed)
    whole = fetch((subspace.Q * subspace.FQ).sum())[0]
    vectors = (subspace.without(signs) for signs in islice(random_signs(F, seed), m))
    mean, standard_error = mean_of(fetch(z @ (F @ z))[0] for z in vectors)
    return Estimate(whole + mean, standard_error)


def estimate_diagonal(F: Operator, products: int = 30, leading: int | None = None, seed: int = 0) -> Estimate:
    """Estimate the diagonal of F from products with F.

    See :func:`estimate_trace` for arguments and errors.

    Returns:
        The estimate and its standard errors, both (P,), on the device of F.
    """
    k, m = _shares(products, leading)
    subspace = leading_subspace(F, k, seed)
    Q, FQ = subspace
    # diagonal of Q Q^T F + F Q Q^T - Q Q^T F Q Q^T; the remainder is (I - Q Q^T) F (I - Q Q^T)
    whole = ((2 * FQ - (FQ @ Q.T) @ Q) * Q).sum(0)
    signs = islice(random_signs(F, seed), m)
    mean, standard_error = mean_of(s * subspace.without(F @ subspace.without(s)) for s in signs)
    return Estimate(whole + mean, standard_error)


def _shares(products: int, leading: int | None) -> tuple[int, int]:
    """Dimension k of the leading subspace, which costs k + 1 products, and number of random vectors."""
    products = whole_number(products, "products")
    k = products // 3 if leading is None else whole_number(leading, "leading", least=0)
    m = products - k - (k > 0)
    if m < 2:
        raise ValueError(
            f"expected at least 2 products beyond the {k + (k > 0)} of a leading subspace of dimension {k}, "
            f"got {products} in all"
        )
    return k, m


def leading_subspace(F: Operator, k: int, seed: int = 0, others: Sequence[Product] = ()) -> Leading:
    """Return the Krylov subspace of a random vector, using k + 1 products with F, and Ritz vectors of others.

    It also contains k leading Ritz vectors of each other matrix, given by its product, which costs k further
    products with F: F - M depends on the leading eigenvectors of both. Rows of smaller spaces are 0.
    """
    xp, dtype = array_module(F.like), F.like.dtype
    shape = (k * (1 + len(others)), F.shape[0])
    space = Leading(xp.zeros(shape, dtype=dtype), xp.zeros(shape, dtype=dtype))
    if k == 0:
        return space
    start = next(random_signs(F, seed, stream=1))
    V, T = krylov_subspace(F.__matmul__, start, k)
    space.Q[: len(V)], space.FQ[: len(V)] = V, T @ V
    space.FQ[len(V) - 1] = F @ V[-1]  # F maps the last vector out of the space
    for number, product in enumerate(others, start=1):
        V, T = krylov_subspace(product, start, 2 * k)
        U = xp.linalg.eigh(T)[1][:, -k:]
        for row, v in enumerate(U.T @ V, start=k * number):
            rest = space.without(space.without(v))
            norm = float((rest @ rest) ** 0.5)
            if norm > float(xp.finfo(dtype).eps) ** 0.5:
                space.Q[row] = rest / norm
                space.FQ[row] = F @ space.Q[row]
    return space


def random_signs(F: Operator, seed: int, stream: int = 0) -> Iterator[Array]:
    """Yield vectors (P,) of random signs, drawn on the host, with the dtype and device of F."""
    rng, xp = array_module().random.default_rng([seed, stream]), array_module(F.like)
    while True:
        yield xp.asarray(2 * rng.integers(0, 2, F.shape[0]) - 1, dtype=F.like.dtype)


def mean_of(samples: Iterable[Any]) -> Estimate:
    """Mean and standard error of two or more numbers or arrays, in one pass."""
    mean: Any = 0.0
    squares: Any = 0.0
    n = 0
    for n, sample in enumerate(samples, start=1):
        before, mean = sample - mean, mean + (sample - mean) / n
        squares = squares + before * (sample - mean)
    return Estimate(mean, (squares / (n - 1) / n) ** 0.5)
