"""Measures of an approximation by their definitions, in dense NumPy and SciPy."""

import functools

import numpy as np
import scipy.linalg
import scipy.sparse.linalg

from minikfac import fisher, quality
from oracles.fisher import Case, chain, cross_factors, factored, fisher_matrix, make_case, terms

LAM = 0.05

CASES = {
    "bernoulli": make_case((3, 4, 3), "tanh", "bernoulli", n=40),
    "categorical": make_case((4, 3, 4, 3), "tanh", "categorical", n=25),
}
METHODS = {"factored": "factored"}


def gradient(case: Case) -> np.ndarray:
    return case.net.gradient(case.theta, case.x, case.y)


def build(signals: fisher.Signals) -> dict[str, fisher.FisherMatrix]:
    kfac = fisher.kfac(signals)
    return {
        "exact": fisher.exact(signals),
        "block-diagonal": fisher.block_diagonal(signals),
        "diagonal": fisher.diagonal(signals),
        "K-FAC": kfac,
        "factored": kfac,
        "low rank": fisher.low_rank(signals, 5),
        "tridiagonal": fisher.block_tridiagonal(signals),
    }


def compare(case: Case, damping: float = LAM, **options: object) -> quality.Comparison:
    signals = case.signals()
    F = fisher.exact(signals)
    return quality.compare(F, build(signals), gradient(case), damping, methods=METHODS, **options)


@functools.cache
def oracle(output: str) -> tuple[np.ndarray, list, list]:
    """The exact matrix of a case, and the Kronecker factors of its layers and of neighbouring ones."""
    case = CASES[output]
    last = len(case.slices) - 1
    factors = [cross_factors(case, layer, layer) for layer in range(last + 1)]
    return (
        fisher_matrix(terms(case)),
        factors,
        [cross_factors(case, layer, layer + 1) for layer in range(last)],
    )


def dense(case: Case, name: str, lam: float) -> tuple[np.ndarray, np.ndarray]:
    """An approximation undamped (or, where that does not exist, less lambda I) and damped, by definition."""
    F, factors, cross = oracle(case.output)
    identity = np.eye(len(F))
    if name in ("factored", "tridiagonal"):
        damped = [factored(A, G, lam) for A, G in factors] if lam > 0 else factors
        if name == "factored":
            M = scipy.linalg.block_diag(*(np.kron(A, G) for A, G in damped))
        else:
            M = chain(damped, cross)[0]
            if case.output == "bernoulli":  # the chain exists undamped
                return chain(factors, cross)[0], M
        return M - lam * identity, M
    if name == "K-FAC":
        F = scipy.linalg.block_diag(*(np.kron(A, G) for A, G in factors))
    elif name == "block-diagonal":
        F = scipy.linalg.block_diag(*(F[part, part] for part in case.slices))
    elif name == "diagonal":
        F = np.diag(np.diag(F))
    elif name == "low rank":
        values, vectors = np.linalg.eigh(F)
        F = (vectors[:, -5:] * values[-5:]) @ vectors[:, -5:].T
    return F, F + lam * identity


def decrease(F: np.ndarray, grad: np.ndarray, step: np.ndarray) -> float:
    """The most that 1/2 d'Fd - g'd falls along d = alpha step."""
    alpha = (grad @ step) / (step @ F @ step)
    return -(0.5 * alpha**2 * step @ F @ step - alpha * grad @ step)


def pcg_iterations(F: np.ndarray, M: np.ndarray, b: np.ndarray) -> int:
    inverse = scipy.linalg.inv(M)
    iterates: list[np.ndarray] = []
    _, info = scipy.sparse.linalg.cg(F, b, rtol=1e-6, M=inverse, callback=iterates.append, maxiter=1000)
    assert info == 0
    return len(iterates)


def expected_row(case: Case, name: str, lam: float, part: slice) -> dict[str, float]:
    """All measures of one approximation, for all parameters or the errors and step of one layer."""
    F, (M, M_lam) = oracle(case.output)[0], dense(case, name, lam)
    F_lam, grad = F + lam * np.eye(len(F)), gradient(case)
    exact_inverse, inverse = scipy.linalg.inv(F_lam), scipy.linalg.inv(M_lam)
    step, exact_step = scipy.linalg.solve(M_lam, grad), scipy.linalg.solve(F_lam, grad)

    def frobenius(of: np.ndarray) -> float:
        return float(np.sqrt((of[part, part] ** 2).sum()))

    row = {
        "error": frobenius(F - M) / frobenius(F),
        "spectral_error": np.linalg.norm((F - M)[part, part], 2) / np.linalg.norm(F[part, part], 2),
        "c_star": (M * F)[part, part].sum() / frobenius(M) ** 2,
        "inverse_error": frobenius(exact_inverse - inverse) / frobenius(exact_inverse),
        "step_cosine": step[part]
        @ exact_step[part]
        / (np.linalg.norm(step[part]) * np.linalg.norm(exact_step[part])),
        "step_length": np.linalg.norm(step[part]) / np.linalg.norm(exact_step[part]),
    }
    if part == slice(None):
        values = scipy.linalg.eigh(F_lam, M_lam, eigvals_only=True)
        row |= {
            "share": decrease(F_lam, grad, step) / decrease(F_lam, grad, exact_step),
            "kl": 0.5
            * (
                np.trace(inverse @ F_lam) - len(F) + np.linalg.slogdet(M_lam)[1] - np.linalg.slogdet(F_lam)[1]
            ),
            "eigenvalue_min": values[0],
            "eigenvalue_max": values[-1],
            "condition": values[-1] / values[0],
            "cg_iterations": pcg_iterations(F_lam, M_lam, grad),
        }
    return row


APPROXIMATIONS = ["block-diagonal", "diagonal", "K-FAC", "factored", "low rank", "tridiagonal"]
