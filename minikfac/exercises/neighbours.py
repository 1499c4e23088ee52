"""Write the regression of one layer's gradient on that of the layer above.

Let the gradients of two neighbouring layers be jointly Gaussian with the covariances of K-FAC,

    F11 = A11 (x) G11    F12 = A12 (x) G12    F22 = A22 (x) G22        layer 2 is the upper one.

Then the gradient of layer 1, given that of layer 2, is Psi times it, plus noise of covariance Sigma:

    Psi = F12 F22^-1    Sigma = F11 - F12 F22^-1 F12^T

Write a function that takes A11 (I1, I1), A12 (I1, I2), A22 (I2, I2), G11 (O1, O1), G12 (O1, O2) and
G22 (O2, O2), and returns (PsiA, PsiG, Sigma): Psi = PsiA (x) PsiG, with PsiA (I1, I2) and PsiG (O1, O2), and
Sigma as a whole (I1 O1, I1 O1).
"""

from __future__ import annotations

import numpy as np

from .. import fisher
from ..backend import Array
from ..network import mlp
from .exercise import Answer, Exercise
from .judging import Part, call, in_order, parts

HINTS = (
    "Kronecker products multiply factor by factor: (A (x) G) (B (x) H) = AB (x) GH, and so do inverses.",
    "PsiA is the cross factor times the inverse of the upper layer's; np.linalg.solve does without the "
    "inverse, and wants a transpose.",
    "Sigma is a difference of two Kronecker products, and no Kronecker product itself.",
    "What layer 2 explains is (PsiA A22 PsiA^T) (x) (PsiG G22 PsiG^T), and PsiA A22 is A12.",
)


def my_regression(
    A11: Array, A12: Array, A22: Array, G11: Array, G12: Array, G22: Array
) -> tuple[Array, Array, Array]:
    """Return PsiA (I1, I2), PsiG (O1, O2) and Sigma (I1 O1, I1 O1)."""
    raise NotImplementedError("write the regression of one layer on the next")


def solution(
    A11: Array, A12: Array, A22: Array, G11: Array, G12: Array, G22: Array
) -> tuple[Array, Array, Array]:
    """Regress the lower layer on the upper one; Sigma is the residual covariance [MG15, sec. 4.3]."""
    PsiA, PsiG = np.linalg.solve(A22, A12.T).T, np.linalg.solve(G22, G12.T).T
    return PsiA, PsiG, np.kron(A11, G11) - np.kron(PsiA @ A12.T, PsiG @ G12.T)


CASES = {"a net of 4-3-2 units": ([4, 3, 2],), "one of 3-4-2": ([3, 4, 2],)}
CORRECT = (
    "Psi is cross times inverse, and Sigma the conditional covariance; with the two of every "
    "layer, fisher.block_tridiagonal has its inverse."
)


def judge(answer: Answer, sizes: list[int]) -> None:
    """Raise Wrong unless Psi and Sigma are right between the two layers of one net."""
    net, rng = mlp(sizes, "tanh", "bernoulli"), np.random.default_rng(1)
    signals = fisher.signals(net, rng.standard_normal(net.n_params), rng.standard_normal((40, sizes[0])))
    F = fisher.block_tridiagonal(signals)
    ((A11, G11), (A22, G22)), ((A12, G12),) = F.factors, F.cross
    given = dict(A11=A11, A12=A12, A22=A22, G11=G11, G12=G12, G22=G22)
    returned = parts(call(answer, **given), "PsiA", "PsiG", "Sigma")
    PsiA, PsiG, Sigma = solution(**given)
    upper = len(A22) * len(G22)
    shapes = {
        A11.shape: "it is the unexplained part of A11 alone",
        (upper, upper): "it is of the size of the upper layer, and that of the lower is asked for",
    }
    slips = slips_sigma(PsiA, PsiG, A11, A12, G11, G12)
    in_order(
        returned,
        Part("PsiA", PsiA, slips=slips_psi(A12, A22)),
        Part("PsiG", PsiG, slips=slips_psi(G12, G22)),
        Part("Sigma", Sigma, {}, slips, shapes),
    )


def slips_psi(cross: Array, upper: Array) -> dict[str, Array]:
    """Matrices that are not PsiA or PsiG, from the cross factor and that of the upper layer."""
    return {
        "it is the cross factor itself, and the inverse is missing": cross,
        "it is the cross factor times that of the upper layer, and its inverse is meant": cross @ upper,
        "the inverse went in twice": np.linalg.solve(upper, np.linalg.solve(upper, cross.T)).T,
        "it is divided entry by entry, and a matrix inverse is meant": cross / upper.diagonal(),
    }


def slips_sigma(PsiA: Array, PsiG: Array, A11: Array, A12: Array, G11: Array, G12: Array) -> dict[str, Array]:
    """Matrices that are not Sigma."""
    A, G = PsiA @ A12.T, PsiG @ G12.T
    kron = np.kron
    F11, swapped, explained, explained_swapped = kron(A11, G11), kron(G11, A11), kron(A, G), kron(G, A)
    return {
        "what the upper layer explains was not subtracted, it is F11": F11,
        "it is what the upper layer explains, and what it does not is meant": explained,
        "what the upper layer explains was added, and is to be subtracted": F11 + explained,
        "the factors were subtracted before the Kronecker product": kron(A11 - A, G11 - G),
        "A22 and G22 are missing between Psi and its transpose": F11 - kron(PsiA @ PsiA.T, PsiG @ PsiG.T),
        "the inverses are missing: F12 F12^T was subtracted": F11 - kron(A12 @ A12.T, G12 @ G12.T),
        "the order of the Kronecker products is swapped: A comes first": swapped - explained_swapped,
        "the order of the second Kronecker product is swapped: A comes first": F11 - explained_swapped,
        "the order of the first Kronecker product is swapped: A comes first": swapped - explained,
    }


tridiagonal = Exercise("tridiagonal", my_regression, HINTS, solution, judge, CASES, CORRECT)
