"""Does K-FAC get better or worse as training goes on? Quality measured every k steps, per layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ... import fisher, plots
from ...backend import Array
from ...datasets import Dataset
from ...network import Network
from ...training.loop import History, Optimizer, train
from ..parts import Drawings, Figure, Section, percent
from .mean_gradient import concentration

if TYPE_CHECKING:
    from ..run import Run


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
    builders = approximations or {"K-FAC": fisher.kfac}
    x = dataset.x_train[:n_examples]

    def track(step: int, theta: Array) -> dict[str, Any]:
        signals = fisher.signals(net, theta, x)
        exact = fisher.block_diagonal(signals)
        record = {}
        for name, build in builders.items():
            for layer, block, near in zip(signals.names, exact.blocks, build(signals).blocks, strict=True):
                F, M = block.to_dense(), near.to_dense()
                norm_F, norm_M = float((F * F).sum()), float((M * M).sum())  # squared; 0 below dead units
                error = (float(((F - M) ** 2).sum()) / norm_F) ** 0.5 if norm_F > 0 else math.nan
                record[f"error/{name}/{layer}"] = error
                record[f"c_star/{name}/{layer}"] = float((M * F).sum()) / norm_M if norm_M > 0 else math.nan
        return record

    return train(net, theta, opt, dataset, steps, batch_size, seed, every, track, progress)


@dataclass(frozen=True)
class Along:
    """Errors of K-FAC's blocks while the net was trained.

    Attributes:
        steps: at which they were measured (m,).
        errors: by layer (m,), relative Frobenius errors.
        concentration: of the derivatives at the start and at the end, see :func:`.concentration`.
    """

    steps: Array
    errors: Mapping[str, Array]
    concentration: tuple[float, float]

    def figures(self) -> Drawings:
        """Errors against steps, per layer."""
        return {"along-training": lambda: plots.quality_along_training(self.steps, self.errors)}

    def sections(self) -> list[Section]:
        """Whether K-FAC got better or worse."""
        first, last = ({name: errors[place] for name, errors in self.errors.items()} for place in (0, -1))
        up, n = sum(last[name] > first[name] for name in first), len(first)
        verdict = {n: "it got worse in every layer", 0: "it got better in every layer"}.get(
            up, f"it got worse in {up} of {n} layers"
        )
        best, worst = min(last, key=lambda name: last[name]), max(last, key=lambda name: last[name])
        text = (
            f"Does K-FAC get better or worse as training goes on? In this run {verdict}. At the start its "
            f"blocks were wrong by {percent(min(first.values()))} to {percent(max(first.values()))}, at the "
            f"end by {percent(last[best])} ({best}) to {percent(last[worst])} ({worst})."
        )
        start, end = self.concentration
        text += (
            f" Meanwhile the derivatives of {'fewer' if end > start else 'no fewer'} examples came to count: "
            "the tenth of the examples with the largest ones held "
            f"{percent(start)} of all their squares at first, and {percent(end)} at last."
        )
        if end > start and up == n:
            text += (
                " These are the examples that the net is unsure of, and they have activations of their own: "
                "activations and derivatives are less independent than they were."
            )
        caption = "Relative error of K-FAC's block, layer by layer, while the net was trained."
        return [Section("along", "Along training", [text, Figure("along-training", caption)])]

    def record(self) -> dict[str, Any]:
        """The errors stand in the records of training."""
        return {}


def compute(run: Run) -> Along | None:
    """Read the errors off the history, if they were measured."""
    history = run.history
    if "error/K-FAC/" not in " ".join(history.records[0]) or len(history.records) < 2:
        return None
    return Along(
        history["step"],
        {name: history[f"error/K-FAC/{name}"] for name in run.net.names},
        (concentration(run.net, run.theta0, run.x), concentration(run.net, run.theta, run.x)),
    )
