"""How good is K-FAC on a net of one's own? The question of a researcher, in one line.

    mk.explore(net, data, theta)      # a Network and its parameters
    mk.explore(module, (x, y))        # a torch.nn.Sequential, inputs as it takes them

builds the exact Fisher matrix over some examples and every approximation that exists for the net, and shows
how good they are: a table, the progress of each step against the numbers stored, and a layer's block, A
and G. Of a large net the exact matrix is known by its products, and the table has estimates.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import fisher, quality
from .backend import Array, array_module, check_array, check_memory, whole_number
from .datasets import Dataset
from .display import Display, Shown, in_words
from .fisher.matrix import check_damping
from .interop import from_torch, stats_from_torch
from .network import Network
from .network.layers import Conv2d, Flatten
from .network.network import layer_index
from .quality.measures import BRIEF
from .training.progress import progress_bar

MOST_PARAMETERS = 10_000
"""Of the layers whose exact matrix is formed, which has the square of that."""
WORK = 10**9
"""Multiplications of a pass through a larger net: as many examples are taken, from 32 to 500."""
FEW = {"vectors": 10, "tolerance": 1e-4}
"""How precise the table of a larger net is."""
MEASURES = ("matrix", "step", "cg")
DRAWN = 1200
"""Parameters of the largest block that is drawn."""
_COPIES = 6
"""F, F + lambda I and its factor; an approximation, its inverse, and what building them takes."""


@dataclass(frozen=True, eq=False, repr=False)
class Exploration(Shown):
    """What :func:`explore` found; shows itself in a notebook.

    Attributes:
        net, theta: the network and its parameters (P,).
        x, y: the examples over which everything is a mean.
        signals: of the layers that were explored.
        F: their exact Fisher matrix, or the products with it.
        table: how good each approximation is.
        left_out: approximations that could not be built, by name, and why.
        stats: running statistics of batch normalization.
        image_shape: (H, W) where inputs are flat images of one channel.
    """

    net: Network
    theta: Array
    x: Array
    y: Array
    signals: fisher.Signals
    F: fisher.DenseMatrix | fisher.MatrixFree
    table: quality.Comparison
    left_out: dict[str, str]
    stats: Sequence[Array] = ()
    image_shape: tuple[int, int] | None = None

    @property
    def sentence(self) -> str:
        """K-FAC's error, the cosine and progress of its step, and the numbers that it stores."""
        row = self.table["K-FAC"]
        return (
            f"K-FAC has a relative error of {row['error']:.2f} (Frobenius norm); its damped step has cosine "
            f"{row['step_cosine']:.2f} with the exact step and makes {row['share']:.0%} of its progress, "
            f"with {row['floats']:,} numbers in place of {self.F.shape[0] ** 2:,}."
        )

    def _display(self) -> Display:
        setting = f"Damping {self.table.damping:g}; {len(self.x):,} examples."
        missing = [f"{name} was left out: {reason}." for name, reason in self.left_out.items()]
        notes = " ".join([setting, *self.table.notes, *missing])
        return Display(self.sentence, *self.table.table(columns=BRIEF), notes)

    def __repr__(self) -> str:
        return str(self)

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
            layer: by index or name; by default the largest with at most 1,200 parameters, if there is one.

        Returns:
            The axes of both figures.
        """
        from . import plots

        axes = plots.progress_against_storage(self.table.whole(), self.F.shape[0] ** 2)
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
            ValueError: on batch normalization, whose statistics the page does not know, or a net too large.
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
    output: str = "categorical",
    damping: float = 1e-2,
    n_examples: int | None = None,
    layers: Sequence[int | str] | None = None,
    progress: bool = True,
) -> Exploration:
    """Measure K-FAC and other approximations against the exact Fisher matrix of a net.

    Args:
        model: a :class:`minikfac.Network`, or a ``torch.nn.Sequential``.
        data: a data set, whose training part is used, or inputs and targets (x, y), arrays or tensors; images
            as the model takes them, (N, H, W, C) or PyTorch's (N, C, H, W).
        theta: (P,), of a Network; a torch module brings its weights.
        output: what the loss of a torch module stands for: "categorical" (cross-entropy), "bernoulli" or
            "gaussian".
        damping: lambda > 0 on both sides.
        n_examples: over how many examples, the first ones, the matrices are means; 500 by default, or fewer
            where a pass through a large net takes long.
        layers: by index or name, to which it is restricted; all by default.
        progress: show a bar.

    Nets of more than 10,000 parameters are compared by products, see
    :func:`minikfac.quality.compare_by_products`: no exact matrix is formed, and errors are estimates.

    Raises:
        ValueError: on what does not go together, or some layers of more than 10,000 parameters.
        TypeError: on another kind of model or data.
        MemoryError: before any work, with the size, where the matrices do not fit.
    """
    net, theta, stats = _net(model, theta, output)
    if not check_damping(damping, theta) > 0:
        raise ValueError(f"expected damping > 0, got {damping}")
    x, y = _examples(data, net, not isinstance(model, Network))
    large = layers is None and net.n_params > MOST_PARAMETERS
    if n_examples is None:
        n_examples = min(500, max(32, WORK // net.work(x[:1]))) if large else 500
    n_examples = whole_number(n_examples, "n_examples")
    x, y = x[:n_examples], y[:n_examples]
    chosen = [layer_index(net.names, layer) for layer in (net.names if layers is None else layers)]
    if not large:
        _check_size(net, chosen)
    signals = fisher.signals(net, theta, x, stats=stats).select(chosen)
    gradient = net.gradient(theta, x, y, stats)
    gradient = array_module(theta).concatenate([gradient[net.slices[layer]] for layer in chosen])
    matrices, left_out = {}, {}
    names = quality.applicable(signals, large)
    with progress_bar("explore", 2 * len(names) + 1, progress) as bar:
        F = fisher.product(net, theta, x, stats) if large else fisher.exact(signals)
        bar.advance()
        for name in names:
            try:
                matrices[name] = quality.APPROXIMATIONS[name][0](signals)
            except ValueError as error:  # as an iteration that does not converge
                left_out[name] = str(error)
            bar.advance(name)
        methods = {name: method for name in matrices if (method := quality.APPROXIMATIONS[name][1])}
        task = matrices, gradient, damping, methods
        if isinstance(F, fisher.MatrixFree):
            *_, table = quality.compare_by_products(F, *task, on_progress=bar.note, **FEW)
        else:
            table = quality.compare(F, *task, measures=MEASURES, on_progress=bar.advance)
    shape = getattr(data, "image_shape", None)
    flat = (shape[0], shape[1]) if shape is not None and shape[2] == 1 and x.ndim == 2 else None
    return Exploration(net, theta, x, y, signals, F, table, left_out, stats, flat)


def _net(model: Any, theta: Array | None, output: str) -> tuple[Network, Array, list[Array]]:
    """The net, theta in float64, and running statistics of batch normalization."""
    if isinstance(model, Network):
        if theta is None:
            raise ValueError("expected theta (P,) with a Network, got none: explore(net, data, theta)")
        check_array(theta, "theta")
        return model, theta.astype("float64"), model.init_stats()
    if not hasattr(model, "named_parameters"):
        raise TypeError(f"expected a minikfac.Network or a torch.nn.Sequential, got {type(model).__name__}")
    if theta is not None:
        raise ValueError("expected no theta with a torch module, which brings its weights, got one")
    net, theta = from_torch(model, output)
    return net, theta.astype("float64"), stats_from_torch(model)


def _examples(data: Any, net: Network, torch: bool) -> tuple[Array, Array]:
    """Inputs as the net takes them, in float64, and targets."""
    images = any(isinstance(layer, Conv2d | Flatten) for layer in (*net.layers, *net.parameter_layers))
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
    elif x.ndim == 4 and torch:
        x = x.transpose(0, 2, 3, 1)
    return (x.astype("float64") if x.dtype.kind == "f" else x), y


def _check_size(net: Network, chosen: Sequence[int]) -> None:
    """Refuse layers whose exact matrix is too large, with their sizes."""
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
