"""A net's Fisher matrix, its approximations, and how good they are: the study behind all reports.

    fisher_study     net, theta, examples  -> Study: signals, matrices, the table, the ledger of assumptions

How good is K-FAC on your own net? One line answers:

    mk.explore(net, data, theta)      # a Network and its parameters
    mk.explore(module, (x, y))        # a torch.nn.Module, inputs as it takes them

It builds the exact Fisher matrix over some examples and every approximation that exists for the net, and
shows how good they are: a table, the progress of each step against the numbers stored, and a layer's block, A
and G. For a large net only products with the exact matrix are computed, and the table has estimates.
"""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import fisher, quality
from .backend import Array, array_module, check_array, check_memory, whole_number
from .datasets import Dataset
from .display import Display, ShownByFields, in_words
from .fisher.matrix import check_damping
from .interop import from_torch, stats_from_torch
from .network import Network
from .network.layers import Conv2d, Flatten, OnSequences
from .network.outputs import Output
from .parallel import one_thread
from .quality.measures import BRIEF
from .training.progress import Bar, progress_bar

MOST_PARAMETERS = 10_000
"""Of the layers whose exact matrix is formed; it has the square of that many entries."""
WORK = 5 * 10**8
"""Multiplications of a pass through a larger net; they limit the examples, from 32 to 500."""
VECTORS, TOLERANCE = 10, 3e-4
"""Random vectors and tolerance for the table of a larger net."""
QUICK = 5000
"""Up to this many parameters all measures are quick."""
MEASURES = ("step", "matrix", "cg")
"""Of an exploration."""
_SLOW = ("spectrum",)
"""Measures that are left out for more parameters."""
ELSEWHERE = {
    "block-tridiagonal": "it exists for chains of dense layers only",
    "low rank": "it takes long for shared weights, and has to be named",
}
"""Approximations that may be left out, and why."""
DRAWN = 1200
"""Parameters of the largest block that is drawn."""
_COPIES = 6
"""F, F + lambda I and its factor; an approximation, its inverse, and what building them takes."""


@dataclass(frozen=True, eq=False, repr=False)
class Study(ShownByFields):
    """A net's Fisher matrix, its approximations, and how good they are.

    Attributes:
        net, theta, x, y: the net and its parameters; expectations are over x.
        signals: for this batch, in the layers that were studied.
        F: the exact Fisher matrix, a ``DenseMatrix``; for a net too large for it a ``MatrixFree``.
        matrices: the approximations by name.
        gradient: of the loss on the batch with respect to the parameters of these layers (P,).
        table: how good each approximation is.
        ledger: rows of the assumption ledger; empty unless requested.
        left_out: measures that were not computed, as they take long and were not requested.
        not_built: by name, why an approximation could not be built.
        stats: running statistics of batch normalization.
    """

    net: Network
    theta: Array
    x: Array
    y: Array
    signals: fisher.Signals
    F: Any
    matrices: Mapping[str, fisher.FisherMatrix]
    gradient: Array
    table: quality.Comparison
    ledger: list[dict[str, Any]]
    left_out: tuple[str, ...] = ()
    not_built: Mapping[str, str] = field(default_factory=dict)
    stats: Sequence[Array] = ()

    @property
    def damping(self) -> float:
        """lambda."""
        return self.table.damping


@dataclass(frozen=True, eq=False, repr=False)
class Exploration(Study):
    """The result of :func:`explore`: a study that displays itself in a notebook.

    Attributes:
        image_shape: (H, W) if inputs are flat images of one channel.
    """

    image_shape: tuple[int, int] | None = None

    @property
    def sentence(self) -> str:
        """K-FAC's error, the cosine and progress of its step, and its number of floats."""
        row = self.table["K-FAC"]
        return (
            f"K-FAC has a relative error of {row['error']:.2f} (Frobenius norm); its damped step has cosine "
            f"{row['step_cosine']:.2f} with the exact step and makes {row['share']:.0%} of its progress, "
            f"with {row['floats']:,} numbers in place of {self.F.shape[0] ** 2:,}."
        )

    def _display(self) -> Display:
        setting = f"Damping {self.table.damping:g}; {len(self.x):,} examples."
        missing = [f"{name} was left out: {reason}." for name, reason in self.not_built.items()]
        notes = " ".join([setting, *self.table.notes, *missing])
        return Display(self.sentence, *self.table.table(columns=BRIEF), notes)

    def _repr_html_(self) -> str:
        import matplotlib.pyplot as plt

        pictures = []
        for figure in dict.fromkeys(ax.figure.get_figure(root=True) for ax in self.plot()):
            png = io.BytesIO()
            figure.savefig(png, format="png")
            plt.close(figure)  # else the notebook shows it once more
            data = base64.b64encode(png.getvalue()).decode("ascii")
            pictures.append(f'<img alt="figure" style="max-width: 100%" src="data:image/png;base64,{data}">')
        return super()._repr_html_() + "".join(pictures)

    def plot(self, layer: int | str | None = None) -> list[Any]:
        """Draw progress against numbers stored, and the block, A and G of a layer.

        Args:
            layer: index or name; by default the largest with at most 1,200 parameters, if there is one.

        Returns:
            The axes of both figures.
        """
        axes = self.table.plot()
        sizes = {
            name: block.shape[0]
            for name, block, other in zip(
                self.signals.names, self.F.blocks, self.signals.scale_and_shift, strict=True
            )
            if block.shape[0] <= DRAWN and not other
        }
        if layer is None and sizes:
            layer = max(sizes, key=lambda name: sizes[name])
        return axes if layer is None else [*axes, *self.signals.plot(layer)]

    def save(self, path: str | Path = "explorer.html") -> Path:
        """Write the explorer's page for this net; see :func:`minikfac.explorer.write`.

        Raises:
            ValueError: for batch normalization, which the page does not support, or a net too large.
        """
        from . import explorer

        if self.stats:
            raise ValueError("expected a net without batch normalization for the explorer's page, got one")
        moment, shape = {"these parameters": self.theta}, self.image_shape
        return explorer.write(path, self.net, moment, self.x, self.y, self.signals.names, image_shape=shape)


def explore(
    model: Any,
    data: Dataset | tuple[Any, Any],
    theta: Array | None = None,
    *,
    output: str | Output = "categorical",
    damping: float = 1e-2,
    n_examples: int | None = None,
    layers: Sequence[int | str] | None = None,
    progress: bool = True,
) -> Exploration:
    """Measure K-FAC and other approximations against the exact Fisher matrix of a net.

    Args:
        model: a :class:`minikfac.Network`, or a ``torch.nn.Module`` that :func:`minikfac.from_torch` takes.
        data: a data set, whose training part is used, or inputs and targets (x, y), arrays or tensors; images
            as the model takes them, (N, H, W, C) or PyTorch's (N, C, H, W).
        theta: (P,), of a Network; a torch module brings its weights.
        output: what the loss of a torch module stands for: "categorical" (cross-entropy), "bernoulli" or
            "gaussian".
        damping: lambda > 0 on both sides.
        n_examples: number of examples, the first ones, for the means; 500 by default, or fewer if a pass
            through a large net takes long.
        layers: indices or names of the layers to study; all by default.
        progress: show a bar.

    Nets of more than 10,000 parameters are compared by products, see
    :func:`minikfac.quality.compare_by_products`: no exact matrix is formed, and errors are estimates.

    Raises:
        ValueError: if arguments do not fit together, or chosen layers have more than 10,000 parameters.
        TypeError: if the model or the data are of another kind.
        MemoryError: before any work, if the matrices do not fit in memory.
    """
    net, theta, stats = _net(model, theta, output, data)
    if not check_damping(damping, theta) > 0:
        raise ValueError(f"expected damping > 0, got {damping}")
    x, y = _examples(data, net, not isinstance(model, Network))
    large = layers is None and net.n_params > MOST_PARAMETERS
    if n_examples is None:
        n_examples = min(500, max(32, WORK // net.work(x[:1]))) if large else 500
    n_examples = whole_number(n_examples, "n_examples")
    x, y = x[:n_examples], y[:n_examples]
    chosen = positions(net, layers)
    if large:
        study = _study_by_products(net, theta, x, y, damping, stats, progress)
    else:
        _check_size(net, chosen)
        study = fisher_study(
            *(net, theta, x, y),
            damping=damping, layers=chosen, measures=MEASURES, ledger=False, stats=stats, progress=progress,
        )  # fmt: skip
    shape = getattr(data, "image_shape", None)
    flat = (shape[0], shape[1]) if shape is not None and shape[2] == 1 and x.ndim == 2 else None
    return Exploration(**vars(study), image_shape=flat)


def fisher_study(
    net: Network,
    theta: Array,
    x: Array,
    y: Array,
    approximations: Sequence[str] | None = None,
    damping: float = 1e-2,
    targets: str = "model",
    n_samples: int = 1,
    seed: int = 0,
    progress: bool = True,
    layers: Sequence[int | str] | None = None,
    measures: Sequence[str] | None = None,
    ledger: bool = True,
    stats: Sequence[Array] | None = None,
) -> Study:
    """Build the exact Fisher matrix and approximations of it, and measure how good each one is.

    Args:
        net: the network.
        theta: (P,).
        x: inputs (N, features) or images (N, H, W, C); all means are over them.
        y: targets, for the gradient of the loss, from which steps are made.
        approximations: names among :data:`minikfac.quality.APPROXIMATIONS`; all that exist by default.
        damping: lambda > 0 on both sides.
        targets: "model", "sampled" or "data", for the approximations; the exact matrix always has the exact
            expectation.
        n_samples: per example, for "sampled".
        seed: of the sampled targets.
        progress: show a bar.
        layers: restrict the study to these parameter layers, by index or name; all by default.
        measures: names among :data:`minikfac.quality.MEASURES`; by default all that are quick at this size.
        ledger: whether to compute the ledger of assumptions.
        stats: running statistics of batch normalization.

    Raises:
        ValueError: if names are unknown or settings out of range.
    """
    chosen = positions(net, layers)
    exact_signals = signals = fisher.signals(net, theta, x, stats=stats).select(chosen)
    if targets != "model":
        rng = np.random.default_rng(seed) if targets == "sampled" else None
        labels = y if targets == "data" else None
        signals = fisher.signals(net, theta, x, labels, targets, n_samples, rng, stats=stats).select(chosen)
    names = quality.applicable(exact_signals) if approximations is None else _checked(approximations)
    with progress_bar("Fisher matrices", 2 * len(names) + 2, progress) as bar:
        F = fisher.exact(exact_signals)
        with one_thread(F.shape[0] <= QUICK):  # which is faster for products of small matrices
            matrices, seconds, not_built = _build(signals, names, bar, approximations is None)
            reference = _reference(net, theta, x, y, F, chosen, damping, stats)
            gradient, (columns, left_out) = reference.gradient, _measures(measures, F.shape[0])
            methods = {name: method for name in matrices if (method := quality.APPROXIMATIONS[name][1])}
            terms = (columns, reference, seconds, bar.advance)
            table = quality.compare(F, matrices, gradient, damping, methods, *terms)
            bar.advance("ledger")
            built = matrices if targets == "model" else None
            rows = quality.ledger(exact_signals, gradient, damping, F, reference, built) if ledger else []
        bar.advance()
    results = (exact_signals, F, matrices, gradient, table, rows, left_out, not_built)
    return Study(net, theta, x, y, *results, stats or ())


def _study_by_products(
    net: Network, theta: Array, x: Array, y: Array, damping: float, stats: Sequence[Array], progress: bool
) -> Study:
    """Study a net that is too large for its exact matrix."""
    signals = fisher.signals(net, theta, x, stats=stats)
    names = quality.applicable(signals, large=True)
    F, gradient = fisher.product(net, theta, x, stats), net.gradient(theta, x, y, stats)
    with progress_bar("explore", len(names) + 1, progress) as bar:
        matrices, _, not_built = _build(signals, names, bar, True)
        methods = {name: method for name in matrices if (method := quality.APPROXIMATIONS[name][1])}
        *_, table = quality.compare_by_products(
            *(F, matrices, gradient, damping, methods),
            on_progress=bar.note, vectors=VECTORS, tolerance=TOLERANCE,
        )  # fmt: skip
        bar.advance()
    return Study(net, theta, x, y, signals, F, matrices, gradient, table, [], (), not_built, stats)


def _reference(
    net: Network,
    theta: Array,
    x: Array,
    y: Array,
    F: fisher.DenseMatrix,
    layers: list[int],
    damping: float,
    stats: Sequence[Array] | None,
) -> quality.Reference:
    """The exact side of the comparison, on the gradient in the parameters of these layers."""
    whole = net.gradient(theta, x, y, stats)
    gradient = array_module(whole).concatenate([whole[net.slices[layer]] for layer in layers])
    # where F is large and of all layers, a pass forward and back is quicker than a product with it
    quick = QUICK < F.shape[0] == net.n_params
    product = fisher.product(net, theta, x, stats).__matmul__ if quick else None
    return quality.Reference.of(F, gradient, damping, product)


def _build(
    signals: fisher.Signals, names: Sequence[str], bar: Bar, suppress: bool
) -> tuple[dict[str, fisher.FisherMatrix], dict[str, float], dict[str, str]]:
    """Build and time approximations; names that differ in their damping alone share one matrix.

    With ``suppress``, an approximation that raises an error, for example because an iteration does not
    converge, is left out.
    """
    built: dict[Any, tuple[fisher.FisherMatrix, float]] = {}
    not_built = {name: why for name, why in ELSEWHERE.items() if suppress and name not in names}
    for name in names:
        bar.advance(f"building {name}")
        build, started = quality.APPROXIMATIONS[name][0], time.perf_counter()
        try:
            if build not in built:
                built[build] = build(signals), time.perf_counter() - started
        except ValueError as error:
            if not suppress:
                raise
            not_built[name] = str(error)
    each = {name: built[quality.APPROXIMATIONS[name][0]] for name in names if name not in not_built}
    seconds = {name: s for name, (_, s) in each.items()}
    return {name: matrix for name, (matrix, _) in each.items()}, seconds, not_built


def _measures(measures: Sequence[str] | None, size: int) -> tuple[list[str], tuple[str, ...]]:
    """Measures to compute for this many parameters, and those left out by default."""
    left_out = () if measures or size <= QUICK else _SLOW
    chosen = measures or [name for name in quality.MEASURES if name not in left_out]
    return list(dict.fromkeys(["matrix", "step", *chosen])), left_out  # the report needs these two


def _checked(names: Sequence[str]) -> Sequence[str]:
    unknown = [name for name in names if name not in quality.APPROXIMATIONS]
    if unknown or not names:
        raise ValueError(
            f"expected approximations among {', '.join(quality.APPROXIMATIONS)}; got {unknown or 'none'}"
        )
    return names


def positions(net: Network, layers: Sequence[int | str] | None) -> list[int]:
    """Indices of layers given by index or name, in the order of the net; all by default."""
    names = ", ".join(net.names)
    chosen = set(range(len(net.names))) if layers is None else set[int]()
    for layer in layers or ():
        if isinstance(layer, str) and layer in net.names:
            chosen.add(net.names.index(layer))
        elif not isinstance(layer, str) and 0 <= layer < len(net.names):
            chosen.add(layer)
        else:
            raise ValueError(f"expected layers among {names}, or 0 to {len(net.names) - 1}, got {layer!r}")
    if not chosen:
        raise ValueError(f"expected at least one layer among {names}, got none")
    return sorted(chosen)


def _net(model: Any, theta: Array | None, output: Any, data: Any) -> tuple[Network, Array, list[Array]]:
    """The net, theta in float64, and running statistics of batch normalization."""
    if isinstance(model, Network):
        if theta is None:
            raise ValueError("expected theta (P,) with a Network, got none: explore(net, data, theta)")
        check_array(theta, "theta")
        return model, theta.astype("float64"), model.init_stats()
    if not hasattr(model, "named_parameters"):
        raise TypeError(f"expected a minikfac.Network or a torch.nn.Module, got {type(model).__name__}")
    if theta is not None:
        raise ValueError("expected no theta with a torch module, which brings its weights, got one")
    shape = tuple(getattr(data[0], "shape", ())[1:]) if isinstance(data, tuple | list) and data else ()
    net, theta = from_torch(model, output, shape if len(shape) == 2 else None)  # of a sequence
    return net, theta.astype("float64"), stats_from_torch(model)


def _examples(data: Any, net: Network, torch: bool) -> tuple[Array, Array]:
    """Inputs as the net takes them, in float64, and targets."""
    every = (*net.layers, *net.parameter_layers)
    images, windows = (
        any(isinstance(layer, Conv2d | kind) for layer in every) for kind in (Flatten, OnSequences)
    )
    if isinstance(data, Dataset):
        data = data.as_images() if images and data.image_shape is not None else data
        x, y = data.x_train, data.y_train
        if torch and x.ndim == 4:
            x = x.transpose(0, 3, 1, 2)
    elif isinstance(data, tuple | list) and len(data) == 2:
        x, y = (part.detach().cpu().numpy() if hasattr(part, "detach") else part for part in data)
    else:
        raise TypeError(f"expected a Dataset or (x, y), got {in_words(data)}")
    check_array(x, "x")
    check_array(y, "y")
    if x.ndim == 4 and not images:
        x = x.reshape(len(x), -1)
    elif torch and (windows if x.ndim == 3 else images and x.ndim > 2):
        x = array_module(x).moveaxis(x, 1, -1)  # of sequences for windows: else they are (N, T, C) there, too
    return (x.astype("float64") if x.dtype.kind == "f" else x), y


def _check_size(net: Network, chosen: Sequence[int]) -> None:
    """Reject layers whose exact matrix is too large."""
    sizes = {net.names[layer]: net.slices[layer].stop - net.slices[layer].start for layer in chosen}
    total = sum(sizes.values())
    fewer = "fewer layers, as in layers=[...]"
    if total > MOST_PARAMETERS:
        listed = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
        raise ValueError(
            f"expected at most {MOST_PARAMETERS:,} parameters, whose exact Fisher matrix is built, got "
            f"{total:,} ({listed}); explore {fewer}"
        )
    what = f"the exact Fisher matrix of {total:,} parameters with {_COPIES - 1} more of its size"
    check_memory((_COPIES, total, total), float, what, fewer)
