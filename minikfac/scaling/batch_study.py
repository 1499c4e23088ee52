"""Does a larger batch help? Steps and examples to one level of the loss, by size of the batch.

A larger batch makes the gradient, and the curvature, less noisy. Where noise limits a method, twice the batch
halves the steps and the examples stay the same; where curvature limits it, the steps stay the same and the
examples double. After Figure 9 of [MG15], where K-FAC with momentum gained from larger batches and gradient
descent hardly did; [MMYGKM19] find no such difference for classifiers.

kfac = [optim.KFAC(net)]
sgd = [optim.SGD(net, lr, momentum=0.9, nesterov=True) for lr in (0.03, 0.1, 0.3)]
found = batch_study(net, theta, dataset, {"K-FAC": kfac, "SGD": sgd}, [50, 150, 500, 1500], level=20)

Every size may need its own constants: of several candidates, the one that gets to the level first counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..backend import Array
from ..datasets import Dataset
from ..network import Network
from ..parallel import one_thread
from ..races.race import reached
from ..training.loop import Optimizer, train
from ..training.records import History, PerOctave, Record


@dataclass(frozen=True)
class BatchStudy:
    """What :func:`batch_study` found.

    Attributes:
        batch_sizes: (m,).
        level: of the training loss.
        histories: of the candidate that was best, by method, one for each batch size.
        chosen: number of that candidate, (m,) by method.
        diverged: how many candidates ended in a loss that is no number, (m,) by method; where all did, the
            history is that of the first one, up to there.
    """

    batch_sizes: np.ndarray
    level: float
    histories: Mapping[str, Sequence[History]]
    chosen: Mapping[str, np.ndarray]
    diverged: Mapping[str, np.ndarray]

    def to_level(self, along: str = "step") -> dict[str, np.ndarray]:
        """Return where each run reached the level, (m,) by method; nan where it did not.

        Args:
            along: "step", "examples" or "seconds".
        """
        return {
            name: np.array([reached(history, "loss", self.level, along) for history in own])
            for name, own in self.histories.items()
        }

    def curves(self, along: str = "step") -> dict[str, list[np.ndarray]]:
        """Return (2, k) each: a column, and the loss, one for each batch size by method."""
        return {
            name: [np.stack([history[along], history["loss"]]) for history in own]
            for name, own in self.histories.items()
        }


def batch_study(
    net: Network,
    theta: Array,
    dataset: Dataset,
    methods: Mapping[str, Sequence[Optimizer]],
    batch_sizes: Sequence[int],
    level: float,
    steps: int = 1000,
    examples: int | None = None,
    seed: int = 0,
    per_octave: int = 16,
    progress: bool = True,
) -> BatchStudy:
    """Train with each method at each size of the batch until the training loss is down to a level.

    Args:
        net: the network.
        theta: where all start, (P,).
        dataset: the data.
        methods: candidates by name of the method, such as one optimizer with several step sizes.
        batch_sizes: examples per step.
        level: of the loss over the whole training set.
        steps: of a run at most.
        examples: of a run at most, if there is a limit.
        seed: of order and sampled targets.
        per_octave: measurements while the number of steps doubles, see :class:`.PerOctave`.
        progress: show bars.

    Raises:
        ValueError: on no methods, candidates or sizes, or what :func:`.train` refuses.
    """
    if not methods or not len(batch_sizes) or not all(len(own) for own in methods.values()):
        raise ValueError("expected at least one method with a candidate, and one batch size, got none")
    histories: dict[str, list[History]] = {name: [] for name in methods}
    chosen, diverged = ({name: np.zeros(len(batch_sizes), int) for name in methods} for _ in range(2))
    for name, candidates in methods.items():
        for number, m in enumerate(batch_sizes):
            most = steps if examples is None else max(1, min(steps, examples // m))
            runs, ranks = [], []
            for opt in candidates:
                seen: list[Record] = []
                try:
                    with one_thread():  # nets of this size are quicker with one
                        run = train(
                            net,
                            theta,
                            opt,
                            dataset,
                            most,
                            m,
                            seed,
                            PerOctave(per_octave),
                            progress=f"{name}, {m} examples a step" if progress else False,
                            target={"loss": level},
                            on_record=seen.append,
                        )
                    ranks.append(_rank(run, level))
                except FloatingPointError:
                    run = History(seen)
                    diverged[name][number] += 1
                    ranks.append((np.inf, np.inf))
                runs.append(run)
            chosen[name][number] = best = ranks.index(min(ranks))
            histories[name].append(runs[best])
    return BatchStudy(np.array(batch_sizes), level, histories, chosen, diverged)


def _rank(run: History, level: float) -> tuple[float, float]:
    """Smaller is better: steps to the level; where it was not reached, the lowest loss."""
    at = reached(run, "loss", level, "step")
    return (at, 0.0) if np.isfinite(at) else (np.inf, float(run["loss"].min()))
