"""Why not simply use F? Memory of the full Fisher matrix and of K-FAC's factors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ... import plots
from ...network import mlp, presets
from ...plots.memory import human_bytes
from ..parts import Chapter, Section, count
from ..studied import Run
from ..words import words

PERCEPTRONS = {
    "the paper's small net": (256, 20, 20, 20, 20, 20, 10),
    "MNIST, 784-300-100-10": (784, 300, 100, 10),
    "MNIST autoencoder": (784, 1000, 500, 250, 30, 250, 500, 1000, 784),
}
"""Units of other nets; with the last one second-order optimizers are compared [MG15, sec. 13]."""
_BYTES = 4
"""Per number."""


def compute(run: Run) -> Chapter:
    """How the two grow, and why blocks are not enough: this net beside those of the papers."""
    settings = run.settings
    nets: dict[str, Sequence[tuple[int, ...]]] = {"this net": run.net.shapes}
    if settings.channels is None:
        nets |= {name: mlp(sizes).shapes for name, sizes in PERCEPTRONS.items() if sizes != settings.sizes}
    else:
        nets["KFC's net for CIFAR-10"] = presets.cifar10_kfc().shapes
    if run.convolutional is not None:
        nets["KFC's net for SVHN"] = presets.svhn_kfc().shapes
    rows = memory_rows(nets)
    widest = max(rows, key=lambda row: row["largest_layer"])
    text = words(
        "memory",
        weights=count(widest["largest_layer"]),
        net=widest["name"],
        bytes=human_bytes(_BYTES * widest["largest_layer"] ** 2),
        bits=8 * _BYTES,
    )
    counts = {row["name"]: (row["parameters"], row["factor_bytes"] // _BYTES) for row in rows}
    return Chapter(
        [Section("memory", "Why not simply use F?", text)],
        {"memory": lambda: plots.memory(counts, bytes_per_float=_BYTES)},
        {"memory": rows},
    )


def memory_rows(nets: Mapping[str, Sequence[tuple[int, ...]]]) -> list[dict[str, Any]]:
    """Bytes that the full Fisher matrix and K-FAC's factors take, for nets given by the shapes of weights.

    >>> memory_rows({"a": [(65, 20), (21, 10)]})[0]["parameters"]
    1510
    """
    rows: list[dict[str, Any]] = []
    for name, shapes in nets.items():
        sizes = [i * o for i, o in shapes]
        rows.append(
            {
                "name": name,
                "parameters": sum(sizes),
                "largest_layer": max(sizes),
                "bytes_per_number": _BYTES,
                "fisher_bytes": _BYTES * sum(sizes) ** 2,
                "factor_bytes": _BYTES * sum(i * i + o * o for i, o in shapes),
            }
        )
    return rows
