"""Write the eigenvalues of EKFAC.

K-FAC's factors have eigenvectors, A = U_A diag(a) U_A^T and G = U_G diag(g) U_G^T, and in their basis K-FAC
is diagonal with entries a_i g_o. EKFAC keeps the basis and puts in the best diagonal,

    s[i, o] = E[ (U_A^T DW U_G)[i, o]^2 ],    DW = abar g^T the gradient of one example.

Write a function that takes

    U_A   (I, I)     eigenvectors of A, in columns
    U_G   (O, O)     eigenvectors of G, in columns
    abar  (N, I)     inputs of the weights
    g     (K, N, O)  derivatives, with the root weights of the K target terms folded in

and returns s (I, O): a mean over examples, and a sum over terms.
"""

from __future__ import annotations

import numpy as np

from .. import fisher
from ..backend import Array
from ..linalg import eigh
from ..network import mlp
from .exercise import Answer, Exercise
from .judging import Part, call, causes_of_mean, drawn, in_order

HINTS = (
    "Turn the signals and not the gradient: U_A^T abar g^T U_G is the outer product of abar U_A and g U_G.",
    "With rows for examples, abar @ U_A and g @ U_G are the turned signals.",
    "The square of a product of two numbers is the product of their squares, example by example.",
    "s = ((abar @ U_A) ** 2).T @ ((g @ U_G) ** 2).sum(0) / N.",
)


def my_ekfac_scales(U_A: Array, U_G: Array, abar: Array, g: Array) -> Array:
    """Return s (I, O), the second moments of the gradient in the eigenbasis."""
    raise NotImplementedError("write the eigenvalues of EKFAC")


def solution(U_A: Array, U_G: Array, abar: Array, g: Array) -> Array:
    """Multiply the squares of the rotated signals example by example [GLBBV18, sec. 3.1]."""
    return ((abar @ U_A) ** 2).T @ ((g @ U_G) ** 2).sum(0) / len(abar)


CASES = {"the first layer of a net": (0,), "the next": (1,)}
CORRECT = (
    "s holds the second moments of the gradient in K-FAC's eigenbasis, and no other diagonal there is nearer "
    "to the Fisher block; fisher.ekfac does no more."
)


def judge(answer: Answer, layer: int) -> None:
    """Raise Wrong unless s is right for a layer of a net of 4-3-5 units, nine examples."""
    net, rng = mlp([4, 3, 5]), np.random.default_rng(0)
    theta = net.init(rng) + 0.3 * rng.standard_normal(net.n_params)
    signals = fisher.signals(net, theta, 0.5 + rng.standard_normal((9, 4)))[layer]
    abar, g = signals.abar[:, 0], signals.g[:, :, 0]
    A, G = fisher.kronecker.factors(signals, len(abar))
    given = dict(U_A=eigh(A)[1], U_G=eigh(G)[1], abar=abar, g=g)
    (k, n, o), i = g.shape, abar.shape[1]
    shapes = {
        (i * o,): "it is flat",
        (n, i, o): "the examples are not averaged",
        (k, i, o): "the target terms are not summed over",
        (k, n, i, o): "neither target terms nor examples are averaged over",
        (i * o, i * o): "it is the whole matrix, and its diagonal in the eigenbasis is asked for",
    }
    slip = "it is a mean over the K target terms, but g holds their root weights already, so sum"
    causes = causes_of_mean(n) | {slip: 1 / k}
    in_order(
        {"s": call(answer, **given)},
        Part("s", solution(**given), causes, lambda s: slips(**given, s=s), shapes),
    )


def slips(U_A: Array, U_G: Array, abar: Array, g: Array, s: Array) -> dict[str, Array]:
    """Matrices that are not s, and their causes; the last depends on the answer."""
    n = len(abar)

    def squares(left: Array, right: Array) -> Array:
        return ((abar @ left) ** 2).T @ ((g @ right) ** 2).sum(0) / n

    a, d = abar @ U_A, g @ U_G  # the turned signals
    mean = np.einsum("ni,kno->kio", a, d) / n
    product = np.outer((a**2).mean(0), (d**2).sum((0, 1)) / n)
    summed = np.einsum("ni,no->nio", a, d.sum(0))
    return {
        "it is a_i g_o, K-FAC's own eigenvalues: a product of means, and not a mean of products": product,
        "U_A and U_G are transposed: eigenvectors are in columns": squares(U_A.T, U_G.T),
        "U_A is transposed: eigenvectors are in columns": squares(U_A.T, U_G),
        "U_G is transposed: eigenvectors are in columns": squares(U_A, U_G.T),
        "the basis is missing, it is the diagonal of the Fisher block": (abar**2).T @ (g**2).sum(0) / n,
        "the gradient was averaged over examples before the square, and not after": (mean**2).sum(0),
        "the gradient was summed over the K target terms before the square": (summed**2).mean(0),
        "the square is missing": mean.sum(0),
        "it holds absolute values, and squares are asked for": abs(a).T @ abs(d).sum(0) / n,
        **drawn(s, n * s.sum(), (a**2).sum(1) * (d**2).sum(2)),
    }


ekfac_scales = Exercise("ekfac-scales", my_ekfac_scales, HINTS, solution, judge, CASES, CORRECT)
