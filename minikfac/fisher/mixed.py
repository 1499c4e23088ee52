"""A separate approximation for each layer: exact blocks for some, K-FAC for others, for example."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .block_diagonal import BlockDiagonal
from .diagonal import diagonal
from .ekfac import ekfac
from .exact import block_diagonal
from .kronecker import kfac
from .nearest_kronecker import nearest_kronecker
from .signals import Signals

KINDS: dict[str, Callable[[Signals], BlockDiagonal]] = {
    "exact": block_diagonal,
    "diagonal": diagonal,
    "kfac": kfac,
    "ekfac": ekfac,
    "nearest_kronecker": nearest_kronecker,
}
"""The kinds of block that a layer can have."""


def mixed(signals: Signals, kinds: Mapping[int | str, str], default: str = "kfac") -> BlockDiagonal:
    """Block-diagonal Fisher matrix with a separate kind of block for each layer.

    Args:
        signals: from :func:`minikfac.fisher.signals`.
        kinds: maps a layer, by index or name, to "exact", "diagonal", "kfac", "ekfac" or "nearest_kronecker".
        default: kind of all other layers.

    Raises:
        ValueError: on an unknown kind.
        KeyError, IndexError: on an unknown layer.
    """
    if not isinstance(kinds, Mapping):
        raise TypeError(f"expected kinds by layer, as in {{0: 'exact'}}, got {kinds!r}")
    chosen = [default] * len(signals)
    for layer, kind in kinds.items():
        chosen[signals.index(layer)] = kind
    for kind in chosen:
        if not isinstance(kind, str) or kind not in KINDS:
            raise ValueError(f"expected a kind among {', '.join(KINDS)}, got {kind!r}")
    return BlockDiagonal(
        [KINDS[kind](signals.select([layer])).blocks[0] for layer, kind in enumerate(chosen)]
    )
