"""Matrices small enough to be drawn: those of the middle layers, as in the paper [MG15, sec. 3.1, 4.4].

    F        exact
    F~       Kronecker products for all pairs of layers (Khatri-Rao)
    K-FAC    its diagonal blocks                     inverse: block-diagonal
    Fhat     its chain                               inverse: block-tridiagonal

Inverses are of damped matrices. So that all three share their diagonal blocks, F~ and its two followers
take factored damping there, as in the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ... import fisher, quality
from ...backend import Array, to_host

_LARGEST = 3000
"""Most parameters that pictures and full spectra are made of."""


def picture_layers(n_params: Sequence[int], largest: int = _LARGEST) -> list[int]:
    """Choose the layers to draw: all but the first and last, if these are two or more and small enough.

    Otherwise all of them, or as many of the last as are small enough.

    >>> picture_layers([1300, 420, 420, 420, 420, 210]), picture_layers([1300, 420, 210])
    ([1, 2, 3, 4], [0, 1, 2])
    """
    layers = list(range(len(n_params)))
    if len(layers) >= 4 and sum(n_params[1:-1]) <= largest:
        return layers[1:-1]
    while layers and sum(n_params[layer] for layer in layers) > largest:
        layers.pop(0)
    return layers


@dataclass(frozen=True)
class MiddleLayers:
    """Dense matrices of some layers, and what is read off them.

    Attributes:
        names, sizes: of the layers, in parameters.
        damping: lambda of the inverses.
        F, kronecker, kfac, tridiagonal: exact, F~, K-FAC, Fhat; the last three as in the module's text,
            the last damped where it exists only so.
        inverses: of the damped matrices, by name "kronecker", "kfac", "tridiagonal"; absent where a chain
            does not exist.
        eigenvalues: all, by name of the matrix.
        preconditioned: eigenvalues of (F~ + lambda I)^{-1} (F + lambda I), by name.
        errors: relative Frobenius errors by name of the pair.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    damping: float
    F: Array
    kronecker: Array
    kfac: Array
    tridiagonal: Array | None
    damped: dict[str, Array]
    inverses: dict[str, Array]
    eigenvalues: dict[str, Array]
    preconditioned: dict[str, Array]
    errors: dict[str, float]


def middle_layers(signals: fisher.Signals, damping: float) -> MiddleLayers:
    """Build and measure the matrices of the layers in ``signals``; a few thousand parameters at most."""
    exact = fisher.exact(signals)
    kfac = fisher.kfac(signals)
    ekfac = fisher.ekfac(signals)
    blocks = fisher.block_diagonal(signals)
    diagonal = fisher.diagonal(signals)
    F = exact.array
    kronecker = fisher.khatri_rao(signals).array
    damped_kfac = kfac.damped(damping, "factored")
    # F~ with the same damped diagonal blocks
    damped = {"kronecker": kronecker.copy(), "kfac": damped_kfac.to_dense()}
    for own, block in zip(signals.slices, damped_kfac.blocks, strict=True):
        damped["kronecker"][own, own] = block.to_dense()
    inverses = {
        "kronecker": fisher.DenseMatrix(damped["kronecker"], name="F~").inverse(explicit=True).to_dense(),
        "kfac": kfac.inverse(damping, "factored").to_dense(),
    }
    chain = fisher.block_tridiagonal(signals) if signals.dense_chain and len(signals) > 1 else None
    if chain is not None:
        damped["tridiagonal"] = chain.damped(damping).to_dense()
        inverses["tridiagonal"] = chain.inverse(damping).to_dense()

    eigenvalues = {
        "exact": _eigenvalues(F),
        "block-diagonal": np.concatenate([_eigenvalues(block.to_dense()) for block in blocks.blocks]),
        "K-FAC": np.concatenate([_eigenvalues(block.to_dense()) for block in kfac.blocks]),
        "EKFAC": np.concatenate([_eigenvalues(block.to_dense()) for block in ekfac.blocks]),
        "diagonal": to_host(diagonal.diagonal()),
    }
    preconditioned = {"none": (eigenvalues["exact"].clip(0) + damping) / damping}
    for name, matrix in (("diagonal", diagonal), ("K-FAC", kfac), ("block-tridiagonal", chain)):
        if matrix is not None:
            preconditioned[name] = to_host(quality.preconditioned_spectrum(exact, matrix, damping))

    errors = {
        "kronecker": _error(F, kronecker),
        "kfac": _error(F, kfac.to_dense()),
        "kfac to kronecker": _error(damped["kronecker"], damped["kfac"]),
        "inverse kfac to kronecker": _error(inverses["kronecker"], inverses["kfac"]),
        "diagonal blocks": _block_error(F, kronecker, signals.slices),
        "inverse kfac to kronecker, diagonal blocks": _block_error(
            inverses["kronecker"], inverses["kfac"], signals.slices
        ),
        "outside the diagonal": _share_outside(kronecker, signals.slices, 0),
        "outside the tridiagonal": _share_outside(kronecker, signals.slices, 1),
        "inverse outside the diagonal": _share_outside(inverses["kronecker"], signals.slices, 0),
        "inverse outside the tridiagonal": _share_outside(inverses["kronecker"], signals.slices, 1),
    }
    if chain is not None:
        errors |= {
            "tridiagonal to kronecker": _error(damped["kronecker"], damped["tridiagonal"]),
            "inverse tridiagonal to kronecker": _error(inverses["kronecker"], inverses["tridiagonal"]),
            "inverse tridiagonal to kronecker, diagonal blocks": _block_error(
                inverses["kronecker"], inverses["tridiagonal"], signals.slices
            ),
        }
    return MiddleLayers(
        signals.names,
        tuple(own.stop - own.start for own in signals.slices),
        damping,
        to_host(F),
        to_host(kronecker),
        to_host(kfac.to_dense()),
        to_host(damped["tridiagonal"]) if chain is not None else None,
        damped,
        inverses,
        eigenvalues,
        preconditioned,
        errors,
    )


def _eigenvalues(M: Array) -> Array:
    return np.linalg.eigvalsh(to_host(M))


def _error(M: Array, near: Array) -> float:
    return float(np.linalg.norm(to_host(M - near)) / np.linalg.norm(to_host(M)))


def _block_error(M: Array, near: Array, slices: Sequence[slice]) -> float:
    """Relative Frobenius error of the diagonal blocks together."""
    wrong = sum(float(((M - near)[own, own] ** 2).sum()) for own in slices)
    return (wrong / sum(float((M[own, own] ** 2).sum()) for own in slices)) ** 0.5


def _share_outside(M: Array, slices: Sequence[slice], distance: int) -> float:
    """Share of the sum of |M| in blocks further from the diagonal than ``distance``."""
    total = outside = 0.0
    for a, rows in enumerate(slices):
        for b, columns in enumerate(slices):
            found = float(abs(M[rows, columns]).sum())
            total += found
            outside += found if abs(a - b) > distance else 0.0
    return outside / total
