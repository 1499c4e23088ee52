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
from typing import Any, NamedTuple

import numpy as np

from ... import fisher, plots
from ...backend import Array, to_host
from ...exploration import Study
from ...fisher.kronecker import factors
from ...linalg import relative_error
from ...quality import APPROXIMATIONS
from ..parts import Chapter, Drawings, Finding, Part, Section, count, listing, percent, two_digits
from ..studied import LARGEST, Run
from ..words import finding, words


class Pictured(NamedTuple):
    """The layers that are drawn, with the exact expectation over targets.

    Attributes:
        signals, F: of these layers.
        matrices: block-diagonal, K-FAC, EKFAC, diagonal, and block-tridiagonal where they are a chain.
    """

    signals: fisher.Signals
    F: fisher.DenseMatrix
    matrices: dict[str, fisher.FisherMatrix]


def exact_part(run: Run) -> fisher.DenseMatrix:
    """The exact Fisher matrix of the layers that are drawn: a part of the study's."""
    F = run.study.F
    if run.drawn == run.layers:
        return F
    signals = run.study.signals.select([run.layers.index(layer) for layer in run.drawn])
    rows = np.concatenate([np.r_[F.slices[F.names.index(name)]] for name in signals.names])
    return fisher.DenseMatrix(F.array[np.ix_(rows, rows)], signals.names, signals.slices, F.name)


def pictured(run: Run) -> Pictured:
    """Take the matrices of the layers that are drawn from the study; what it lacks is built."""
    study, places = run.study, [run.layers.index(layer) for layer in run.drawn]
    signals = study.signals.select(places)
    matrices: dict[str, fisher.FisherMatrix] = {}
    for name in ("block-diagonal", "K-FAC", "EKFAC", "diagonal"):
        if name in study.matrices and run.settings.targets == "model":
            matrices[name] = fisher.BlockDiagonal([study.matrices[name].blocks[place] for place in places])
        else:
            matrices[name] = APPROXIMATIONS[name][0](signals)
    if signals.dense_chain and len(signals) > 1:  # a part of a chain is another chain
        matrices["block-tridiagonal"] = fisher.block_tridiagonal(signals)
    return Pictured(signals, exact_part(run), matrices)


@dataclass(frozen=True)
class Matrices:
    """Dense matrices of some layers, and what is read off them.

    Attributes:
        names, sizes: of the layers, in parameters.
        whole: exact, of all layers where these are few and small enough, else of those that are drawn.
        factors: A and G by layer of it.
        damped: by name "kronecker", "kfac", "tridiagonal", as in the module's text; the last is absent where
            the layers are not a chain.
        inverses: of the damped matrices, by the same names.
        errors: relative Frobenius errors by name of the pair, and shares of the sum of |M| in blocks.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    whole: Array
    factors: dict[str, tuple[Array, Array]]
    damped: dict[str, Array]
    inverses: dict[str, Array]
    errors: dict[str, float]

    def _kfac(self) -> Any:
        names, factors = list(self.factors), list(self.factors.values())
        return plots.kfac_picture(self.whole, factors, names, len(names) - 1)

    def _matrices(self) -> Any:
        chosen = {"kronecker": "", "kfac": "block-diagonal (K-FAC)", "tridiagonal": "block-tridiagonal"}
        rows = {
            what: {name or what: matrices[key] for key, name in chosen.items()}
            for what, matrices in (("F̃", self.damped), ("inverse of F̃", self.inverses))
        }
        return plots.matrix_rows(rows, self.names, self.sizes)

    def chapter(self, study: Study) -> Chapter:
        """F, its Kronecker products, block-diagonal and chain, and the inverses."""
        parts: list[Part] = words("matrices")
        drawings: Drawings = {"kfac": self._kfac}
        if len(self.sizes) > 1:
            parts += self._between_layers()
        if "tridiagonal" in self.damped:
            parts += words("matrices-chain")
            drawings["matrices-chain"] = self._matrices
        section = Section("matrices", "The matrices", parts)
        record = {"layers": list(self.names), "sizes": list(self.sizes), "errors": self.errors}
        findings = [_finding(study)] if "K-FAC" in study.matrices else []
        return Chapter([section], drawings, {"middle_layers": record}, findings, results=self)

    def _between_layers(self) -> list[Part]:
        outside, in_inverse = (self.errors[f"{what}outside the diagonal"] for what in ("", "inverse "))
        return words(
            "matrices-between",
            layers=listing(self.names),
            weights=count(sum(self.sizes)),
            error=two_digits(self.errors["kronecker"]),
            diagonal=two_digits(self.errors["diagonal blocks"]),
            outside=percent(outside),
            inverse=percent(in_inverse),
        )


def _finding(study: Study) -> Finding:
    """K-FAC's size and its error."""
    row = study.table["K-FAC"]
    floats = {"stored": count(row["floats"]), "exact": count(study.F.floats)}
    return finding("kfac", two_digits(row["error"]), **floats)


def compute(run: Run) -> Chapter | None:
    """Build and measure the matrices of the layers that are drawn; a few thousand parameters at most."""
    if not run.drawn or run.settings.channels is not None:
        return None
    part, damping = pictured(run), run.settings.damping
    F, kfac, slices = part.F.array, part.matrices["K-FAC"], part.signals.slices
    kronecker = fisher.khatri_rao(part.signals).array
    damped_kfac = kfac.damped(damping, "factored")
    damped = {"kronecker": kronecker.copy(), "kfac": damped_kfac.to_dense()}
    for rows, block in zip(slices, damped_kfac.blocks, strict=True):  # F~ with the same diagonal blocks
        damped["kronecker"][rows, rows] = block.to_dense()
    inverses = {
        "kronecker": fisher.DenseMatrix(damped["kronecker"], name="F~").inverse(explicit=True).to_dense(),
        "kfac": kfac.inverse(damping, "factored").to_dense(),
    }
    chain = part.matrices.get("block-tridiagonal")
    if chain is not None:
        damped["tridiagonal"] = chain.damped(damping).to_dense()
        inverses["tridiagonal"] = chain.inverse(damping).to_dense()
    errors = {
        "kronecker": relative_error(kronecker, F),
        "kfac": relative_error(kfac.to_dense(), F),
        "diagonal blocks": _block_error(F, kronecker, slices),
    }
    for prefix, matrices, exact in (("", damped, kronecker), ("inverse ", inverses, inverses["kronecker"])):
        for name in list(matrices)[1:]:
            errors[f"{prefix}{name} to kronecker"] = relative_error(matrices[name], matrices["kronecker"])
        errors[f"{prefix}outside the diagonal"] = _share_outside(exact, slices)
    whole, signals = (part.F, part.signals)
    if run.study.F.shape[0] <= LARGEST:
        whole, signals = run.study.F, run.study.signals
    pairs = zip(whole.names, signals.total(factors), strict=True)
    made = Matrices(
        part.signals.names,
        tuple(rows.stop - rows.start for rows in slices),
        to_host(whole.array),
        {name: (to_host(A), to_host(G)) for name, (A, G) in pairs},
        {name: to_host(matrix) for name, matrix in damped.items()},
        {name: to_host(matrix) for name, matrix in inverses.items()},
        errors,
    )
    return made.chapter(run.study)


def _block_error(M: Array, near: Array, slices: Sequence[slice]) -> float:
    """Relative Frobenius error of the diagonal blocks together."""
    squares = sum(float(((M - near)[rows, rows] ** 2).sum()) for rows in slices)
    return (squares / sum(float((M[rows, rows] ** 2).sum()) for rows in slices)) ** 0.5


def _share_outside(M: Array, slices: Sequence[slice]) -> float:
    """Share of the sum of |M| in blocks between layers."""
    inside = sum(float(abs(M[rows, rows]).sum()) for rows in slices)
    return 1 - inside / float(abs(M).sum())
