"""The command that studies a net of one's own: ``minikfac fisher``."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from ..backend import use_device
from ..datasets import Dataset
from ..network.layers import ACTIVATIONS
from ..quality import MEASURES
from ..training.example import N_EXAMPLES
from . import common
from .common import make_folder, say
from .nets import load, parse_channels, parse_names, parse_sizes
from .tables import Wide, print_tour

if TYPE_CHECKING:
    from ..tour import Settings

HIDDEN = (20, 20, 20, 20, 20)
"""Units of the hidden layers where no net is given: those of the paper's small net [MG15, sec. 3.1]."""
APPROXIMATIONS_HELP = (
    "Which to build, all by default; with commas between them: block-diagonal, K-FAC, "
    "K-FAC (factored damping), block-tridiagonal (chains of dense layers only), EKFAC, nearest Kronecker, "
    "diagonal, KFAC-reduce and T x KFC (convolutions), low rank, no curvature (the plain gradient)."
)
MEASURES_HELP = (
    "Groups of columns, with commas between them: matrix, spectral, inverse, step, kl, spectrum, cg; or all. "
    "By default the fast ones: all but spectrum above 5,000 parameters."
)

Net = Annotated[
    str | None,
    Option(
        help="Units per layer, as in 64-20-20-10; five hidden layers of 20 by default, of 16 for the digits. "
        "Or conv, a small convolutional net for images; conv-4-8 sets the number of maps of its convolutions."
    ),
]
Activation = Annotated[str, Option(help=f"Of hidden units: {', '.join(ACTIVATIONS)}.")]
Data = Annotated[
    str,
    Option(help="digits, mnist, usps, cifar10, svhn, curves, or your own FILE.npz with x_train and y_train."),
]
Folder = Annotated[Path | None, Option(help="Folder with the data files, if not the cache.")]
Components = Annotated[int | None, Option(help="Principal components of the digits as inputs.")]
Output = Annotated[str, Option(help="Distribution of the target: categorical, bernoulli or gaussian.")]
Examples = Annotated[
    int | None,
    Option(help="Examples N of the mean; 500 by default, or all if there are fewer."),
]
Targets = Annotated[
    str,
    Option(
        help="Where the approximations' targets come from: model (exact expectation), sampled from the "
        "model, or data (the labels: empirical Fisher)."
    ),
]
Layers = Annotated[str, Option(help="Restrict the study: all, middle, a range as 1-4 or a list as 0,2.")]
Save = Annotated[Path | None, Option(help="Folder for report, figures, results.json and quality.csv.")]

EXAMPLE = "minikfac fisher --net 64-20-20-10 --activation relu --steps 100 --save my-net"


def fisher(
    net: Net = None,
    pool: Annotated[str | None, Option(help="Pooling with --net conv: max, the default, or avg.")] = None,
    activation: Activation = "tanh",
    data: Data = "digits",
    folder: Folder = None,
    components: Components = None,
    output: Output = "categorical",
    steps: Annotated[int, Option(help="Training steps before the study; 0: none.")] = 200,
    lr: Annotated[float, Option(help="Learning rate of that training (SGD, momentum 0.9).")] = 0.05,
    examples: Examples = None,
    approximations: Annotated[str | None, Option(help=APPROXIMATIONS_HELP)] = None,
    targets: Targets = "model",
    samples: Annotated[int, Option(help="Targets per example, if they are sampled.")] = 1,
    damping: Annotated[float, Option(help="lambda > 0, added to the diagonal.")] = 1e-2,
    layers: Layers = "all",
    measures: Annotated[str | None, Option(help=MEASURES_HELP)] = None,
    seeds: Annotated[int, Option(help="Seeds over which to repeat, for error bars.", min=1)] = 1,
    seed: common.Seed = 0,
    dtype: Annotated[str, Option(help="float64 or float32 (half the memory, twice as fast).")] = "float64",
    device: common.Device = "cpu",
    save: Save = None,
    wide: Wide = False,
) -> None:
    """Build the Fisher matrix of a net of your own and measure every approximation against it.

    The exact Fisher matrix has a row and a column per parameter, so nets of up
    to some 10,000 parameters can be studied whole; --layers picks a part of
    larger ones, and minikfac quality measures any without that matrix.
    """
    from .. import tour as tours  # matplotlib takes a second

    started = time.perf_counter()
    if save is not None:
        make_folder(save)
    use_device(device)
    dataset = load(data, folder, components, net, dtype)
    training = {"activation": activation, "output": output, "steps": steps, "lr": lr, "seed": seed}
    n_examples = min(N_EXAMPLES, len(dataset.x_train)) if examples is None else examples
    study = {"n_examples": n_examples, "damping": damping, "targets": targets, "n_samples": samples}
    more: dict[str, Any] = {"seeds": seeds, "dtype": dtype, "device": device}
    more["chapters"] = () if save is None else None
    settings = settings_for(dataset, net, pool, layers, approximations, measures, **training, **study, **more)
    made = tours.tour(dataset, settings)
    print_tour(made, wide)
    seconds = f"{time.perf_counter() - started:.0f} s"
    if save is None:
        say(f"{seconds}; --save FOLDER writes figures and a report")
    else:
        say(f"Report: {tours.write_report(made, save).page}  ({seconds})")


def settings_for(
    dataset: Dataset,
    net: str | None = None,
    pool: str | None = None,
    layers: str = "all",
    approximations: str | None = None,
    measures: str | None = None,
    **more: Any,
) -> Settings:
    """Read the options that depend on the net and its data."""
    from ..network.presets import default_channels
    from ..tour import APPROXIMATIONS, Settings
    from ..tour.settings import TOUR_SIZES

    channels = parse_channels(net)
    if pool is not None and channels is None:
        raise ValueError(f"expected --pool only with --net conv, got --net {net}")
    if pool not in (None, "max", "avg"):
        raise ValueError(f"expected --pool max or avg, got {pool!r}")
    if channels is not None:
        if dataset.image_shape is None:
            shape = dataset.x_train.shape
            raise ValueError(f"expected images for --net conv, got inputs {shape} of {dataset.name}")
        channels = channels or default_channels(dataset.image_shape)
        more |= {"sizes": (), "channels": channels, "pool": pool or "max"}
        n_layers = len(channels) + 1
    else:
        outputs = dataset.n_classes or dataset.y_train.shape[1]
        usual = (dataset.x_train.shape[1], *HIDDEN, outputs)
        if dataset.name == "digits" and usual[0] == TOUR_SIZES[0]:
            usual = TOUR_SIZES
        sizes = usual if net is None else parse_sizes(net)
        more["sizes"] = sizes
        n_layers = len(sizes) - 1
    if approximations == "all":  # those that the net has
        approximations = None
    return Settings(
        layers=parse_layers(layers, n_layers),
        approximations=parse_names(approximations, list(APPROXIMATIONS), "--approximations"),
        measures=parse_names(measures, list(MEASURES), "--measures"),
        **more,
    )


def parse_layers(text: str, n_layers: int) -> tuple[int, ...] | None:
    """Read a choice of layers; None means all of them.

    >>> parse_layers("1-3", 6), parse_layers("0,5", 6), parse_layers("middle", 4), parse_layers("all", 4)
    ((1, 2, 3), (0, 5), (1, 2), None)
    """
    if text == "all":
        return None
    if text == "middle":
        if n_layers < 3:
            raise ValueError(f"expected a net of three layers or more for --layers middle, got {n_layers}")
        return tuple(range(1, n_layers - 1))
    chosen: set[int] = set()
    for part in text.split(","):
        ends = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        first, last = (int(ends[1]), int(ends[2] or ends[1])) if ends else (1, 0)
        if first > last or last >= n_layers:
            raise ValueError(
                f"expected --layers as all, middle, a range as 1-4 or a list as 0,2, of layers 0 to "
                f"{n_layers - 1}; got {text!r}"
            )
        chosen.update(range(first, last + 1))
    return tuple(sorted(chosen))
