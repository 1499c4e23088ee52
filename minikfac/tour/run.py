"""The tour: one net, one data set, and every number behind the report's tables and figures.

    prepare  settings, data     -> net, theta (trained by SGD with momentum, measured on the way)
    tour     net, theta, data   -> Findings: study, matrices of the middle layers, pictures

The tour itself is this for the bundled digits, with a second, convolutional net for the chapter on
convolutions; ``minikfac fisher`` is it for a net and data of one's own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from .. import fisher, optim, quality
from ..backend import Array, check_memory, to_device, use_device
from ..datasets import Dataset
from ..invariance.study import Invariance, brief
from ..linalg import SingularMatrixError
from ..network import Network, mlp, outputs, presets
from ..parallel import one_thread, workers
from ..training.loop import History, train
from ..training.progress import progress_bar
from .chapters.along import quality_along_training
from .chapters.convolutions import Convolutions, convnet, default_channels, stages
from .chapters.descent import Descent
from .chapters.descent import stages as descent_stages
from .chapters.maps import conv_layers
from .chapters.middle import MiddleLayers, middle_layers, picture_layers
from .chapters.opening import Opening
from .chapters.opening import stages as opening_stages
from .chapters.pictures import (
    Divergence,
    MeanDerivatives,
    Passage,
    Sampling,
    Scatter,
    divergence,
    gradient_scatter,
    mean_derivatives,
    memory_rows,
    passage,
    sampling,
)
from .study import APPROXIMATIONS, Study, fisher_study

TOUR_SIZES = (64, 20, 20, 20, 20, 20, 10)
AUTOENCODER = (784, 1000, 500, 250, 30, 250, 500, 1000, 784)
"""The autoencoder of MNIST, with which second-order optimizers are compared [MG15, sec. 13]."""


@dataclass(frozen=True)
class Settings:
    """What to study.

    Attributes:
        sizes: units per layer; of no meaning where ``channels`` are given.
        channels: of the convolutions of :func:`minikfac.tour.convnet`; None for a perceptron.
        pool: "max" or "avg", its pooling.
        activation, output: of :func:`minikfac.mlp`.
        steps: of training before the study; 0 studies the net as it was initialized.
        batch_size, lr, momentum: of that training.
        n_examples: N, the batch over which the Fisher matrices are means.
        damping: lambda > 0.
        approximations: names among :data:`minikfac.tour.APPROXIMATIONS`; None for all that exist for
            the net.
        targets, n_samples: from where the approximations take their targets.
        layers: to which the study is restricted, by index; None for all.
        seed: of initialization, order, and everything drawn.
        seeds: how many, for error bars of the table; each draws its own targets, or its own net.
        along: measure K-FAC's error along training.
        measures: names among :data:`minikfac.quality.MEASURES`; None for what is quick at this size.
        dtype: "float64" or "float32".
        device: where the matrices are built and measured; training and pictures stay on the host.
        convolutions: study a small convolutional net too, on the same data as images.
        descent: show what curvature is good for, on problems of their own.
        opening: show why gradients are not enough: maps of a globe, a Gaussian in three charts.
        invariance: try which methods see the net and which its parameters, on nets of their own, in brief.
    """

    sizes: tuple[int, ...] = TOUR_SIZES
    channels: tuple[int, ...] | None = None
    pool: str = "max"
    activation: str = "tanh"
    output: str = "categorical"
    steps: int = 200
    batch_size: int = 100
    lr: float = 0.05
    momentum: float = 0.9
    n_examples: int = 1000
    damping: float = 1e-2
    approximations: tuple[str, ...] | None = None
    targets: str = "model"
    n_samples: int = 1
    layers: tuple[int, ...] | None = None
    seed: int = 0
    seeds: int = 1
    along: bool = True
    measures: tuple[str, ...] | None = None
    dtype: str = "float64"
    device: str = "cpu"
    convolutions: bool = False
    descent: bool = False
    opening: bool = False
    invariance: bool = False


@dataclass
class Findings:
    """Everything the report shows; parts that were not asked for are None.

    Attributes:
        settings: what was asked for.
        net, theta0, theta: the net before and after training.
        dataset: what it was trained on; ``x, y`` are the N examples of the study.
        history: of the training.
        study: matrices, quality table and ledger.
        middle: matrices of the middle layers.
        cosines: ``dampings`` and ``curves`` by name of the approximation, and ``where`` they were taken.
        passage, means, means_start, scatter, divergence, sampling: see :mod:`.pictures`.
        memory: rows of :func:`.pictures.memory_rows`.
        convnet: the findings of the convolutional net that was studied too.
        convolutions: what the pictures of that net's convolutions show, or of this one's.
        descent: what curvature is good for, on problems of their own.
        opening: maps of a globe, and a Gaussian in three charts.
        invariance: gaps between equivalent nets.
        seconds: wall time by stage.
    """

    settings: Settings
    net: Network
    theta0: Array
    theta: Array
    dataset: Dataset
    x: Array
    y: Array
    history: History
    study: Study
    middle: MiddleLayers | None = None
    cosines: dict[str, Any] | None = None
    passage: Passage | None = None
    means: MeanDerivatives | None = None
    means_start: MeanDerivatives | None = None
    scatter: Scatter | None = None
    divergence: Divergence | None = None
    sampling: Sampling | None = None
    memory: list[dict[str, Any]] = field(default_factory=list)
    convnet: Findings | None = None
    convolutions: Convolutions | None = None
    descent: Descent | None = None
    opening: Opening | None = None
    invariance: Invariance | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def net_name(settings: Settings) -> str:
    """The net in a few letters.

    >>> net_name(Settings()), net_name(Settings(channels=(4, 8)))
    ('64-20-20-20-20-20-10', 'conv 4-8, max-pooling')
    """
    if settings.channels is None:
        return "-".join(map(str, settings.sizes))
    return f"conv {'-'.join(map(str, settings.channels))}, {settings.pool}-pooling"


def with_targets(dataset: Dataset, net: Network) -> Dataset:
    """Fit the targets of a data set to the outputs of a net.

    Labels stay labels for categorical outputs. For others they become rows of 0 and 1, unless the net has
    as many outputs as inputs: then it is an autoencoder and the inputs are its targets.

    Raises:
        ValueError: if inputs or targets do not fit, with what the data has.
    """
    n_in, n_out = net.shapes[0][0] - 1, net.shapes[-1][1]
    images = dataset.x_train.ndim == 4
    features = math.prod(dataset.x_train.shape[1:])
    classes = dataset.n_classes
    if images:
        n_out = net.n_outputs(dataset.x_train[:1])
    elif features != n_in:
        raise ValueError(
            f"expected a net with {features} inputs, as {dataset.name} has, got one with {n_in}; "
            f"begin it with {features}-"
        )
    if isinstance(net.output, outputs.Categorical):
        if classes is None:
            raise ValueError(
                f"expected labels for a categorical output, got targets {dataset.y_train.shape} in "
                f"{dataset.name}; use the output gaussian or bernoulli"
            )
        if n_out < classes:
            raise ValueError(
                f"expected a net with {classes} outputs, one per class of {dataset.name}, got {n_out}; "
                f"end it with -{classes}"
            )
        return dataset
    if n_out == features and n_out != classes and not images:
        return replace(dataset, y_train=dataset.x_train, y_test=dataset.x_test, n_classes=None)
    if classes is None:
        if dataset.y_train.shape[1] != n_out:
            raise ValueError(
                f"expected a net with {dataset.y_train.shape[1]} outputs, as {dataset.name} has targets, "
                f"got {n_out}"
            )
        return dataset
    if n_out != classes:
        raise ValueError(
            f"expected a net with {classes} outputs, one per class of {dataset.name}, or {features}, "
            f"its inputs again (an autoencoder); got {n_out}"
        )
    y_train, y_test = (
        (y[:, None] == np.arange(classes)).astype(dataset.x_train.dtype)
        for y in (dataset.y_train, dataset.y_test)
    )
    return replace(dataset, y_train=y_train, y_test=y_test, n_classes=None)


def make_net(settings: Settings, dataset: Dataset) -> Network:
    """Make the net, and refuse what cannot be studied before any work is spent on it.

    Raises:
        ValueError: on a net that does not fit the data, or settings out of range.
        MemoryError: where the exact Fisher matrix and what it is compared with do not fit, with the size.
    """
    if settings.channels is None:
        net = mlp(settings.sizes, settings.activation, settings.output)
    else:
        net = _make_convnet(settings, dataset)
    with_targets(dataset, net)
    n_train = len(dataset.x_train)
    if settings.steps < 0:
        raise ValueError(f"expected steps >= 0, got {settings.steps}")
    if not 0 < settings.damping < math.inf:
        raise ValueError(f"expected damping > 0, got {settings.damping}")
    if not 1 <= settings.n_examples <= n_train:
        raise ValueError(
            f"expected examples from 1 to {n_train}, the training part of {dataset.name}, "
            f"got {settings.n_examples}"
        )
    if settings.targets not in ("model", "sampled", "data"):
        raise ValueError(f"expected targets 'model', 'sampled' or 'data', got {settings.targets!r}")
    if settings.n_samples < 1 or (settings.targets != "sampled" and settings.n_samples != 1):
        raise ValueError(
            f"expected samples >= 1, and other than 1 only with targets 'sampled', got {settings.n_samples} "
            f"with targets {settings.targets!r}"
        )
    n_params = _studied_parameters(settings, net)
    check_memory(
        (_COPIES, n_params, n_params),
        settings.dtype,
        f"the study of {n_params:,} parameters, with {_COPIES} matrices of that size at a time,",
        "fewer parameters (a part of the layers, a smaller net), or fisher.kfac and fisher.product, which "
        "need no such matrix",
    )
    return net


def _make_convnet(settings: Settings, dataset: Dataset) -> Network:
    if dataset.x_train.ndim != 4:
        raise ValueError(
            f"expected images (N, H, W, C) for a convolutional net, got inputs {dataset.x_train.shape} of "
            f"{dataset.name}"
        )
    if settings.approximations is not None and "block-tridiagonal" in settings.approximations:
        raise ValueError(
            "expected approximations of a convolutional net, got block-tridiagonal, which exists for chains "
            "of dense layers only"
        )
    n_outputs = dataset.n_classes or dataset.y_train.shape[1]
    return convnet(
        dataset.x_train.shape[1:],
        n_outputs,
        settings.channels,
        settings.activation,
        settings.output,
        settings.pool,
    )


_COPIES = 8
"""F, F + lambda I, its factor and inverse; an approximation and its inverse, on two threads."""


def _studied_parameters(settings: Settings, net: Network) -> int:
    sizes = [i * o for i, o in net.shapes]
    if settings.layers is None:
        return sum(sizes)
    wrong = [layer for layer in settings.layers if not 0 <= layer < len(sizes)]
    if wrong or not settings.layers:
        raise ValueError(f"expected layers from 0 to {len(sizes) - 1}, got {list(settings.layers)}")
    return sum(sizes[layer] for layer in set(settings.layers))


def prepare(
    settings: Settings, dataset: Dataset, progress: bool = True
) -> tuple[Network, Array, Dataset, History]:
    """Make the net and train it.

    Returns:
        The net, its parameters before training, the data set with targets that fit, and the history, which
        ends in the parameters after training.

    Raises:
        ValueError, MemoryError: of :func:`make_net`.
    """
    net = make_net(settings, dataset)
    dataset = with_targets(dataset, net)
    n_train = len(dataset.x_train)
    theta0 = net.init(np.random.default_rng(settings.seed), dtype=settings.dtype)
    opt = optim.SGD(net, lr=settings.lr, momentum=settings.momentum)
    batch_size = min(settings.batch_size, n_train)
    if settings.along and settings.steps:
        history = quality_along_training(
            net,
            theta0,
            opt,
            dataset,
            settings.steps,
            max(1, settings.steps // 10),
            n_examples=min(500, settings.n_examples),
            batch_size=batch_size,
            seed=settings.seed,
            progress=progress,
        )
    else:
        history = train(
            net, theta0, opt, dataset, settings.steps, batch_size, settings.seed, progress=progress
        )
    first, last = (history.records[place]["loss"] for place in (0, -1))
    if not last < 10 * (1 + first):
        raise ValueError(
            f"expected training to lower the loss, got {first:.3g} before and {last:.3g} after "
            f"{settings.steps} steps with lr={settings.lr:g}; use a smaller lr"
        )
    return net, theta0, dataset, history


def tour(
    dataset: Dataset,
    settings: Settings | None = None,
    pictures: bool = True,
    progress: bool = True,
) -> Findings:
    """Train a net and lay its Fisher matrix and every approximation of it open.

    Args:
        dataset: inputs (N, features) or images; a net with convolutions takes them as images.
        settings: what to study; the defaults are those of ``minikfac tour`` less the convolutions.
        pictures: whether to compute what only figures need.
        progress: show bars.

    Raises:
        ValueError: on settings that do not fit each other or the data.
        MemoryError: where the Fisher matrix does not fit, before any work is spent on it.
    """
    settings = settings or Settings()
    if settings.channels is not None and dataset.image_shape is not None:
        dataset = dataset.as_images()
    clock = Clock()
    with one_thread():
        net, theta0, dataset, history = prepare(settings, dataset, progress)
    clock.stop("training")
    theta, n = history.theta, settings.n_examples
    x, y = dataset.x_train[:n], dataset.y_train[:n]
    study = fisher_study(
        net,
        to_device(theta, settings.device),
        to_device(x, settings.device),
        to_device(y, settings.device),
        settings.approximations,
        settings.damping,
        settings.targets,
        settings.n_samples,
        settings.seed,
        progress,
        settings.layers,
        settings.measures,
    )
    clock.stop("Fisher matrices")
    found = Findings(settings, net, theta0, theta, dataset, x, y, history, study)
    if settings.seeds > 1:
        found.study = replace(study, comparison=_over_seeds(found, dataset, progress))
        clock.stop("seeds")
    if settings.convolutions and settings.channels is None:
        found.convnet = _convnet_findings(found, progress)
        clock.stop("convolutional net")
    if pictures:
        _add_pictures(found, clock, progress)
    found.seconds = clock.seconds
    return found


def _convnet_findings(found: Findings, progress: bool) -> Findings:
    """Study a small convolutional net on the same data, as long as it is images."""
    dataset = found.dataset
    if dataset.image_shape is None:
        raise ValueError(f"expected images for the study of a convolutional net, got {dataset!r}")
    settings = replace(
        found.settings,
        sizes=(),
        channels=default_channels(dataset.image_shape),
        approximations=None,
        layers=None,
        seeds=1,
        along=False,
        convolutions=False,
        descent=False,
        opening=False,
        invariance=False,
    )
    return tour(dataset, settings, False, progress)


class Clock:
    """Wall time by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def stop(self, stage: str) -> None:
        """Book what passed since the last stop to a stage."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now


def _over_seeds(found: Findings, dataset: Dataset, progress: bool) -> quality.Comparison:
    """Repeat the study with other seeds: other drawn targets or, where none are drawn, other nets."""
    settings = found.settings
    with progress_bar("seeds", settings.seeds, progress) as bar:

        def again(number: int) -> quality.Comparison:
            seed = settings.seed + number
            if number == 0:
                comparison = found.study.comparison
            else:
                theta = found.theta
                if settings.targets != "sampled":
                    own = replace(settings, seed=seed, along=False)
                    theta = prepare(own, dataset, progress=False)[3].theta
                comparison = fisher_study(
                    found.net,
                    to_device(theta, settings.device),
                    found.study.x,
                    found.study.y,
                    settings.approximations,
                    settings.damping,
                    settings.targets,
                    settings.n_samples,
                    seed,
                    False,
                    settings.layers,
                    settings.measures,
                ).comparison
            bar.advance()
            return comparison

        return quality.over_seeds(again, range(settings.seeds))


def _add_pictures(found: Findings, clock: Clock, progress: bool) -> None:
    settings, net, theta, x, y = found.settings, found.net, found.theta, found.x, found.y
    seed, study = settings.seed, found.study
    n_params = [math.prod(shape) for shape in net.shapes]
    own = list(settings.layers) if settings.layers is not None else list(range(len(n_params)))
    chosen = [own[place] for place in picture_layers([n_params[layer] for layer in own])]
    convolutional = settings.channels is not None
    few = slice(0, 200 if convolutional else 500)

    def all_middle() -> None:
        if not chosen or convolutional:
            return
        signals = fisher.signals(net, theta, x).select(chosen)
        found.middle = middle_layers(signals, settings.damping)

    def cosines() -> None:
        found.cosines = cosines_against_damping(study, chosen)

    def single_example() -> None:
        if not convolutional:
            found.passage = passage(net, theta, found.dataset.x_test, found.dataset.y_test, seed)

    def means() -> None:
        found.means_start = mean_derivatives(net, found.theta0, x, y, seed)
        found.means = mean_derivatives(net, theta, x, y, seed)

    def scatter() -> None:
        layer = chosen[-1] if chosen else own[-1]
        layer = max((conv for conv in conv_layers(net) if conv in own), default=layer)
        found.scatter = gradient_scatter(net, theta, x[few] if convolutional else x, layer, seed)

    def kl() -> None:
        found.divergence = divergence(net, theta, x, seed)

    def sampled() -> None:
        if chosen:
            found.sampling = sampling(net, theta, x[few], y[few], chosen, seed=seed)

    def memory() -> None:
        found.memory = memory_rows(memory_nets(settings, net))

    def equivalent_nets() -> None:
        found.invariance = brief(seed)

    todo: dict[str, Callable[[], None]] = {
        "middle layers": all_middle,
        "damping": cosines,
        "sampled targets": sampled,
        "one example": single_example,
        "mean gradients": means,
        "sampled gradients": scatter,
        "divergence": kl,
        "memory": memory,
    }
    todo |= _convolution_stages(found)
    if settings.descent:
        found.descent = Descent()
        todo = descent_stages(found.descent, seed) | todo
    if settings.opening:
        found.opening = Opening()
        todo |= opening_stages(found.opening)
    if settings.invariance:
        todo = {"invariance": equivalent_nets} | todo
    with progress_bar("pictures", len(todo), progress) as bar, one_thread():

        def run(name: str) -> None:
            started = time.perf_counter()
            todo[name]()
            clock.seconds[name] = time.perf_counter() - started
            bar.advance(name)

        # a GPU is chosen for each thread
        with ThreadPoolExecutor(workers(4), initializer=use_device, initargs=(settings.device,)) as pool:
            list(pool.map(run, todo))


def _convolution_stages(found: Findings) -> dict[str, Callable[[], None]]:
    """The pictures of convolutions, of this net or of the one that was studied beside it."""
    run = found if found.settings.channels is not None else found.convnet
    if run is None:
        return {}
    found.convolutions = Convolutions()

    def train_other(pool: str) -> tuple[Network, Array, dict[str, Any]]:
        settings = replace(run.settings, pool=pool, along=False)
        net, _, _, history = prepare(settings, run.dataset, progress=False)
        return net, to_device(history.theta, settings.device), history.records[-1]

    record = run.history.records[-1]
    settings, images = run.settings, run.dataset.x_train
    return stages(found.convolutions, run.study, images, settings.pool, train_other, record, settings.seed)


def memory_nets(settings: Settings, net: Network) -> dict[str, Sequence[tuple[int, ...]]]:
    """Nets whose memory is compared, by the shapes of their weights: this one, and those of the papers."""
    nets: dict[str, Sequence[tuple[int, ...]]] = {"this net": net.shapes}
    perceptrons = {
        "the paper's small net": (256, 20, 20, 20, 20, 20, 10),
        "MNIST, 784-300-100-10": (784, 300, 100, 10),
        "MNIST autoencoder": AUTOENCODER,
    }
    if settings.channels is None:
        nets |= {name: mlp(own).shapes for name, own in perceptrons.items() if own != settings.sizes}
    else:
        nets["KFC's net for CIFAR-10"] = presets.cifar10_kfc().shapes
    if settings.channels is not None or settings.convolutions:
        nets["KFC's net for SVHN"] = presets.svhn_kfc().shapes
    return nets


_EXACT_STEPS = 4000
"""Most parameters for which the exact step is computed for each of many dampings."""


def cosines_against_damping(study: Study, layers: Sequence[int]) -> dict[str, Any] | None:
    """Cosines of approximate steps with the exact one for dampings from 1e-5 to 10.

    For all parameters where these are at most 4,000, else for the layers given.
    """
    dampings = [10.0**power for power in range(-5, 2)]
    chosen = ["block-diagonal", "K-FAC", "block-tridiagonal", "diagonal"]
    signals, F, gradient = study.signals, study.F, study.gradient
    where = "all"
    if F.shape[0] > _EXACT_STEPS:
        if not layers:
            return None
        where = "middle"
        places = [study.signals.names.index(study.net.names[layer]) for layer in layers]
        signals = study.signals.select(places)
        gradient = np.concatenate([gradient[study.signals.slices[place]] for place in places])
        F = fisher.exact(signals)
        chosen = [name for name in chosen if name in study.matrices]
        matrices = {name: APPROXIMATIONS[name][0](signals) for name in chosen}
    else:
        matrices = {name: study.matrices[name] for name in chosen if name in study.matrices}
    if not matrices:
        return None
    curves: dict[str, list[float]] = {name: [] for name in matrices}
    solvable = []
    for damping in dampings:
        try:
            found = quality.step_cosines(F, matrices, gradient, [damping])
        except SingularMatrixError:  # too little for the precision at hand
            continue
        solvable.append(damping)
        for name, values in found.items():
            curves[name] += values
    return {"dampings": solvable, "curves": curves, "where": where} if solvable else None


def settings_record(settings: Settings) -> dict[str, Any]:
    """Settings as plain data."""
    return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(settings).items()}
