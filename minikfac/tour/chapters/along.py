"""Does K-FAC get better or worse as training goes on? Quality measured every k steps, per layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from ... import fisher
from ...backend import Array
from ...datasets import Dataset
from ...network import Network
from ...training.loop import History, Optimizer, train


def quality_along_training(
    net: Network,
    theta: Array,
    opt: Optimizer,
    dataset: Dataset,
    steps: int,
    every: int,
    approximations: Mapping[str, Callable[[fisher.Signals], fisher.FisherMatrix]] | None = None,
    n_examples: int = 500,
    batch_size: int = 100,
    seed: int = 0,
    progress: bool = True,
) -> History:
    """Train, and every k steps compare approximations with the exact blocks of the Fisher matrix.

    Args:
        net: the network.
        theta: (P,), where training starts.
        opt: the optimizer.
        dataset: what is trained on; expectations are over its first ``n_examples`` training inputs.
        steps: of training.
        every: k, steps between two comparisons.
        approximations: block-diagonal ones by name; K-FAC alone by default.
        n_examples: N of the Fisher matrices.
        batch_size: of training.
        seed: of training.
        progress: show a bar.

    Returns:
        A history whose records hold ``error/NAME/LAYER``, the relative Frobenius error of a layer's block,
        and ``c_star/NAME/LAYER``, the best scalar.

    Raises:
        ValueError: on n_examples < 1, or what :func:`train` refuses.
    """
    if n_examples < 1:
        raise ValueError(f"expected n_examples >= 1, got {n_examples}")
    built = approximations or {"K-FAC": fisher.kfac}
    x = dataset.x_train[:n_examples]

    def track(step: int, theta: Array) -> dict[str, Any]:
        signals = fisher.signals(net, theta, x)
        exact = fisher.block_diagonal(signals)
        record = {}
        for name, build in built.items():
            for layer, block, near in zip(signals.names, exact.blocks, build(signals).blocks, strict=True):
                F, M = block.to_dense(), near.to_dense()
                norm_F, norm_M = float((F * F).sum()), float((M * M).sum())  # squared; 0 below dead units
                error = (float(((F - M) ** 2).sum()) / norm_F) ** 0.5 if norm_F > 0 else math.nan
                record[f"error/{name}/{layer}"] = error
                record[f"c_star/{name}/{layer}"] = float((M * F).sum()) / norm_M if norm_M > 0 else math.nan
        return record

    return train(net, theta, opt, dataset, steps, batch_size, seed, every, track, progress)
