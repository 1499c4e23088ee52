"""The command line: ``minikfac tour``, ``fisher``, ``figures`` and ``data``; what trains is beside it.

Thin: it reads options, calls :mod:`minikfac.experiments` and :mod:`minikfac.report`, and prints. What is
wrong with the input ends in one line on standard error and exit code 2; an interrupt in 130.
"""

from __future__ import annotations

import math
import re
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from .. import __version__, distributed
from ..backend import DeviceError, use_device
from . import (
    invariance as cli_invariance,
)
from . import (
    problems as cli_problems,
)
from . import (
    scaling as cli_scaling,
)
from . import (
    training as cli_training,
)

if TYPE_CHECKING:
    from ..datasets import Dataset
    from ..quality import Comparison
    from ..tour import Tour

HIDDEN = (20, 20, 20, 20, 20)
"""Units of the hidden layers where no net is given: those of the paper's small net [MG15, sec. 3.1]."""
PHOTOGRAPHS = ("cifar10", "svhn")
FEW = (5000, 1000)
"""Most training and test images for a convolutional net, which is trained for a moment only."""
EXPECTED = (
    ArithmeticError,
    DeviceError,
    ImportError,
    KeyError,
    MemoryError,
    OSError,
    TypeError,
    ValueError,
)
"""What wrong input, a lack of memory or a missing library raise; anything else is a bug of the package."""

APPROXIMATIONS_HELP = (
    "Which to build, all by default; with commas between them: block-diagonal, K-FAC, "
    "K-FAC (factored damping), block-tridiagonal (chains of dense layers only), EKFAC, nearest Kronecker, "
    "diagonal, KFAC-reduce and T x KFC (convolutions), low rank, no curvature (the plain gradient)."
)
MEASURES_HELP = (
    "Groups of columns, with commas between them: matrix, spectral, inverse, step, kl, spectrum, cg; or all. "
    "What is quick by default: all but spectrum above 5,000 parameters."
)

app = typer.Typer(
    help="The Fisher matrix of a neural net, K-FAC and other approximations of it, from scratch. "
    "Begin with [bold]minikfac tour[/bold].",
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(
    help="List, fetch and check data sets. The digits come with the package; others are downloaded once, "
    "with checksums.",
    epilog="Example: minikfac data fetch usps",
)
app.add_typer(data_app, name="data")


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"minikfac {__version__}")
        raise typer.Exit()


@app.callback(epilog="Example: minikfac tour --out minikfac-tour")
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where an error comes from; may stand anywhere.")
    ] = False,
) -> None:
    """Take the options that all commands share."""


@app.command(epilog="Example: minikfac tour --out minikfac-tour")
def tour(
    out: Annotated[Path, typer.Option(help="Folder for the report; made if need be.")] = Path(
        "minikfac-tour"
    ),
    seed: Annotated[int, typer.Option(help="Of initialization, order and drawn targets.", min=0)] = 0,
) -> None:
    """Train a small net on handwritten digits and show how well each matrix approximates its Fisher matrix.

    The Fisher matrix says how much a net's predictions change when its weights
    do. The tour builds it exactly, builds K-FAC and other approximations of it
    from the same two signals of backpropagation, and leaves a report that
    explains what each of them assumes and what that costs; a chapter on
    convolutions studies a second, convolutional net, and one on invariance
    trains pairs of nets that begin as the same function. A minute in all.
    """
    from .. import datasets
    from .. import tour as tours

    started = time.perf_counter()
    _writable(out)
    made = tours.tour(datasets.digits(), tours.Settings(seed=seed, chapters=tuple(tours.CHAPTERS)))
    _print_tour(made)
    if made.convnet is not None:
        _print_tour(made.convnet)
    written = tours.write_report(made, out)
    _say(f"Report: {written.page}  ({time.perf_counter() - started:.0f} s)")


@app.command(
    epilog="Example: minikfac fisher --net 64-20-20-10 --activation relu --steps 100 --save my-net",
)
def fisher(
    net: Annotated[
        str | None,
        typer.Option(
            help="Units per layer, as in 64-20-20-10; five hidden layers of 20 by default. Or conv, a small "
            "convolutional net for images; conv-4-8 says how many maps its convolutions have."
        ),
    ] = None,
    pool: Annotated[
        str | None, typer.Option(help="Of a convolutional net: max, the default, or avg.")
    ] = None,
    activation: Annotated[
        str, typer.Option(help="Of hidden units: tanh, logistic, relu, softplus or identity.")
    ] = "tanh",
    data: Annotated[
        str,
        typer.Option(
            help="digits, mnist, usps, cifar10, svhn, curves, or your own FILE.npz with x_train and y_train."
        ),
    ] = "digits",
    folder: Annotated[
        Path | None, typer.Option(help="Where the files of the data set are, if not in the cache.")
    ] = None,
    components: Annotated[
        int | None, typer.Option(help="Use so many principal components of the digits as inputs.")
    ] = None,
    output: Annotated[
        str, typer.Option(help="Distribution of the target: categorical, bernoulli or gaussian.")
    ] = "categorical",
    steps: Annotated[int, typer.Option(help="Of training before the study; 0: as initialized.")] = 200,
    lr: Annotated[float, typer.Option(help="Learning rate of that training (SGD, momentum 0.9).")] = 0.05,
    examples: Annotated[
        int | None,
        typer.Option(
            help="N, over which the Fisher matrix is a mean; 1000 by default, or as many as there are; 500 "
            "photographs for a convolutional net."
        ),
    ] = None,
    approximations: Annotated[str | None, typer.Option(help=APPROXIMATIONS_HELP)] = None,
    targets: Annotated[
        str,
        typer.Option(
            help="Where the approximations' targets come from: model (exact expectation), sampled from the "
            "model, or data (the labels: empirical Fisher)."
        ),
    ] = "model",
    samples: Annotated[int, typer.Option(help="Targets per example, where they are sampled.")] = 1,
    damping: Annotated[float, typer.Option(help="lambda > 0, added to the diagonal.")] = 1e-2,
    layers: Annotated[
        str, typer.Option(help="Restrict the study: all, middle, a range as 1-4 or a list as 0,2.")
    ] = "all",
    measures: Annotated[
        str | None,
        typer.Option(help=MEASURES_HELP),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Repeat over so many seeds, for error bars.", min=1)] = 1,
    along: Annotated[bool, typer.Option("--along", help="Measure K-FAC's error along training too.")] = False,
    seed: Annotated[int, typer.Option(help="Of initialization, order and drawn targets.", min=0)] = 0,
    dtype: Annotated[
        str, typer.Option(help="float64 or float32 (half the memory, twice as fast).")
    ] = "float64",
    device: cli_training.Device = "cpu",
    save: Annotated[
        Path | None, typer.Option(help="Folder for report, figures, results.json and quality.csv.")
    ] = None,
) -> None:
    """Build the Fisher matrix of a net of your own and measure every approximation against it.

    The exact Fisher matrix has a row and a column per parameter, so nets of up
    to some 10,000 parameters can be studied whole; --layers picks a part of
    larger ones.
    """
    from .. import tour as tours

    started = time.perf_counter()
    if save is not None:
        _writable(save)
    use_device(device)
    dataset = _load(data, folder, components, net, dtype)
    settings = _settings(
        dataset,
        net=net,
        pool=pool,
        activation=activation,
        output=output,
        steps=steps,
        lr=lr,
        n_examples=_examples(data, net, len(dataset.x_train)) if examples is None else examples,
        damping=damping,
        approximations=approximations,
        targets=targets,
        n_samples=samples,
        layers=layers,
        measures=measures,
        seed=seed,
        seeds=seeds,
        along=along,
        dtype=dtype,
        device=device,
        chapters=() if save is None else None,
    )
    made = tours.tour(dataset, settings)
    _print_tour(made)
    if save is not None:
        written = tours.write_report(made, save)
        _say(f"Report: {written.page}  ({time.perf_counter() - started:.0f} s)")
    else:
        _say(f"{time.perf_counter() - started:.0f} s; --save FOLDER writes figures and a report")


@app.command(epilog="Example: minikfac figures --out slides --format svg")
def figures(
    out: Annotated[Path, typer.Option(help="Folder for the files; made if need be.")] = Path(
        "minikfac-figures"
    ),
    image_format: Annotated[str, typer.Option("--format", help="png, svg or pdf.")] = "png",
    everything: Annotated[
        bool,
        typer.Option(
            "--all/--net-only", help="All figures, or those of the dense net, which are drawn sooner."
        ),
    ] = True,
    seed: Annotated[int, typer.Option(help="Of the tour that is drawn.", min=0)] = 0,
) -> None:
    """Draw the tour's figures as files for slides: each shows one statement."""
    from .. import datasets
    from .. import tour as tours
    from ..tour.page import FORMATS, save_all
    from ..training.progress import progress_bar

    if image_format not in FORMATS:
        raise ValueError(f"expected --format among {', '.join(FORMATS)}, got {image_format!r}")
    _writable(out)
    chapters = tuple(tours.CHAPTERS) if everything else None
    drawings = tours.tour(datasets.digits(), tours.Settings(seed=seed, chapters=chapters)).figures()
    with progress_bar("figures", len(drawings)) as bar:
        for name, _ in save_all(drawings, out, image_format):
            bar.advance(name)
    _say(f"Figures: {out}")


cli_training.register(app)
cli_problems.register(app)
cli_invariance.register(app)
cli_scaling.register(app)


@data_app.command("list", epilog="Example: minikfac data list")
def data_list() -> None:
    """List the data sets that can be named, with their sizes, sources and terms."""
    from .. import datasets

    for row in datasets.available():
        _say(f"{row.name}  ({row.where})")
        _say(f"    {row.what}; {row.images} images, {row.size}")
        _say(f"    {row.licence}; {row.source}")


@data_app.command("fetch", epilog="Example: minikfac data fetch mnist")
def data_fetch(name: Annotated[str, typer.Argument(help="digits, mnist, usps, cifar10 or svhn.")]) -> None:
    """Download a data set into the cache and verify its checksums; does nothing where it is there already."""
    from .. import datasets

    _say(f"{name}: {datasets.fetch(name)}")


@data_app.command("check", epilog="Example: minikfac data check usps --folder my-data/usps")
def data_check(
    name: Annotated[str, typer.Argument(help="digits, mnist, usps, cifar10, svhn, curves or FILE.npz.")],
    folder: Annotated[Path | None, typer.Option(help="The folder to check; the cache by default.")] = None,
) -> None:
    """Verify the structure and the checksums of a data set's files, one line per file; downloads nothing."""
    from .. import datasets

    rows = datasets.check(name, folder)
    for file, status in rows:
        _say(f"{file}: {status}")
    bad = sum(not status.startswith("ok") for _, status in rows)
    if bad:
        raise ValueError(f"{bad} of {len(rows)} files of {name} are not in order")


# options to settings ----------------------------------------------------------------------------------


def parse_sizes(text: str) -> tuple[int, ...]:
    """Read units per layer.

    >>> parse_sizes("64-20-10")
    (64, 20, 10)
    """
    if not re.fullmatch(r"\d+(-\d+)+", text):
        raise ValueError(f"expected --net as units per layer, such as 64-20-10, got {text!r}")
    sizes = tuple(map(int, text.split("-")))
    if min(sizes) < 1:
        raise ValueError(f"expected --net with at least one unit per layer, got {text!r}")
    return sizes


def parse_channels(text: str | None) -> tuple[int, ...] | None:
    """Read the maps of a convolutional net's convolutions; () for its own choice, None for another net.

    >>> parse_channels("conv-4-8"), parse_channels("conv"), parse_channels("64-20-10"), parse_channels(None)
    ((4, 8), (), None, None)
    """
    if text is None or not text.startswith("conv"):
        return None
    if not re.fullmatch(r"conv(-\d+)*", text):
        raise ValueError(f"expected --net conv, or maps per convolution as in conv-4-8, got {text!r}")
    return tuple(map(int, text.split("-")[1:]))


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
    chosen: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if first > last or last >= n_layers:
            raise ValueError(
                f"expected --layers as all, middle, a range as 1-4 or a list as 0,2, of layers 0 to "
                f"{n_layers - 1}; got {text!r}"
            )
        chosen += range(first, last + 1)
    return tuple(sorted(set(chosen)))


def parse_names(text: str | None, known: Sequence[str], option: str) -> tuple[str, ...] | None:
    """Read names with commas between them, whatever their case and hyphens; None stays None.

    >>> parse_names("kfac,Diagonal", ["K-FAC", "diagonal"], "--approximations")
    ('K-FAC', 'diagonal')
    """
    if text is None:
        return None
    if text == "all":
        return tuple(known)
    plain = {_letters(name): name for name in known}
    chosen = [part for part in text.split(",") if part.strip()]
    unknown = [part.strip() for part in chosen if _letters(part) not in plain]
    if unknown or not chosen:
        raise ValueError(f"expected {option} among {', '.join(known)}; got {', '.join(unknown) or 'none'}")
    return tuple(dict.fromkeys(plain[_letters(part)] for part in chosen))


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _load(data: str, folder: Path | None, components: int | None, net: str | None, dtype: str) -> Dataset:
    """Load the data, as images for a convolutional net.

    MNIST comes at the size that a net of dense layers asks for, 16 x 16 otherwise.
    """
    from .. import datasets

    convolutional = parse_channels(net) is not None
    options: dict[str, Any] = {"dtype": dtype, "images": convolutional}
    if dtype not in ("float64", "float32"):
        raise ValueError(f"expected --dtype float64 or float32, got {dtype!r}")
    if components is not None:
        if data != "digits" or convolutional:
            other = f"--net {net}" if convolutional else f"--data {data}"
            raise ValueError(f"expected --components only with --data digits and dense layers, got {other}")
        options["components"] = components
    if data == "mnist":
        inputs = parse_sizes(net)[0] if net is not None and not convolutional else 256
        side = round(inputs**0.5)
        options["size"] = side if side**2 == inputs and side <= 28 else 28
    if convolutional and data in PHOTOGRAPHS:
        options |= {"n_train": FEW[0], "n_test": FEW[1]}
    dataset = datasets.load(data, folder, **options)
    if convolutional:
        counts = (len(dataset.x_train), len(dataset.x_test))
        few = [min(count, most) for count, most in zip(counts, FEW, strict=True)]
        dataset = dataset if list(counts) == few else dataset.subset(*few)
    return dataset


def _settings(dataset: Dataset, net: str | None, layers: str, **options: Any) -> Any:
    from ..quality import MEASURES
    from ..tour import APPROXIMATIONS, Settings
    from ..tour.settings import default_channels

    channels = parse_channels(net)
    pool = options.pop("pool", None)
    if pool is not None and channels is None:
        raise ValueError(f"expected --pool only with --net conv, got --net {net}")
    if pool not in (None, "max", "avg"):
        raise ValueError(f"expected --pool max or avg, got {pool!r}")
    if channels is not None:
        if dataset.image_shape is None:
            raise ValueError(
                f"expected images for --net conv, got inputs {dataset.x_train.shape} of {dataset.name}"
            )
        channels = channels or default_channels(dataset.image_shape)
        options |= {"sizes": (), "channels": channels, "pool": pool or "max"}
        n_layers = len(channels) + 1
    else:
        outputs = dataset.n_classes or dataset.y_train.shape[1]
        sizes = parse_sizes(net) if net is not None else (dataset.x_train.shape[1], *HIDDEN, outputs)
        options["sizes"] = sizes
        n_layers = len(sizes) - 1
    names = options.pop("approximations")
    measures = parse_names(options.pop("measures"), list(MEASURES), "--measures")
    return Settings(
        layers=parse_layers(layers, n_layers),
        approximations=None
        if names == "all"
        else parse_names(names, list(APPROXIMATIONS), "--approximations"),
        measures=measures,
        **options,
    )


def _examples(data: str, net: str | None, available: int) -> int:
    """N where none is given: fewer where every example has hundreds of locations."""
    return min(500 if data in PHOTOGRAPHS and parse_channels(net) is not None else 1000, available)


def _writable(folder: Path) -> None:
    """Make the folder now: not to be able to write is better known before the work than after it."""
    folder.expanduser().mkdir(parents=True, exist_ok=True)


# what is printed --------------------------------------------------------------------------------------


def _console() -> Console:
    """A console as wide as the terminal; what is piped is not cut off at 80 columns."""
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=140)


def _say(text: str) -> None:
    print(text, flush=True)


def _print_tour(tour: Tour) -> None:
    from ..tour.chapters.convolutions import Convolutions

    run, study = tour.run, tour.run.study
    first, last = run.history.records[0], run.history.records[-1]
    error = f", test error {last['test_error']:.1%}" if "test_error" in last else ""
    _say(
        f"\n{run.dataset.name}, net {run.settings.net_name}, "
        f"{study.F.shape[0]:,} parameters, {len(run.x):,} examples, damping {study.damping:g}; "
        f"after {run.settings.steps} steps loss {last['loss']:.3g}{error}\n"
    )
    if last["loss"] > first["loss"]:
        _say("Training made the loss larger than it was: a smaller --lr may help.\n")
    _print_comparison(study.comparison)
    _print_ledger("The ledger of assumptions", study.ledger)
    if run.settings.approximations is None:
        for name, why in (
            ("block-tridiagonal", "it exists for chains of dense layers only"),
            ("low rank", "it takes long for shared weights; --approximations has it"),
        ):
            if name not in study.matrices:
                _say(f"Not built: {name}; {why}.\n")
    convolutions = tour.chapters.get("convolutions")
    if isinstance(convolutions, Convolutions) and not convolutions.beside:
        for name, rows in convolutions.ledgers.items():
            _print_ledger(f"The block of {name} alone", rows)
    if study.left_out:
        _say(
            f"Left out at this size: {', '.join(study.left_out)} (--measures all computes everything, "
            "--layers middle studies a part)\n"
        )


def _print_ledger(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    columns = ["error", "cost", "c_star", "step_cosine", "share"]
    branching = any(row["above"] != above["label"] for above, row in pairwise(rows))
    header = ["assumption", *(["added to"] if branching else []), *(key.replace("_", " ") for key in columns)]
    cells = [
        [
            str(row["label"]),
            *([str(row["above"] or "").split(":")[0]] if branching else []),
            *("-" if math.isnan(row[key]) else f"{row[key]:.3g}" for key in columns),
        ]
        for row in rows
    ]
    _print_table(title, header, cells)


def _print_comparison(comparison: Comparison) -> None:
    from ..quality import COLUMNS

    columns = list(COLUMNS)
    cut = columns.index("kl")
    titles = ("As a matrix and as a step", "As a model and as a preconditioner")
    for title, part in zip(titles, (columns[:cut], columns[cut:]), strict=True):
        _print_table(title, *comparison.table(columns=part))


def _print_table(title: str, header: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left", no_wrap=number == 0)
    for row in cells:
        table.add_row(*row)
    _console().print(table)


# errors -----------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 on success, 2 on wrong input, 130 on an interrupt."""
    code = run(list(sys.argv[1:] if arguments is None else arguments))
    distributed.end(code)
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    if not arguments or arguments == ["data"]:
        arguments.append("--help")
    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a letter shows another, and no error
        reconfigure: Callable[..., None] | None = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
    if not debug:
        warnings.filterwarnings("ignore", category=RuntimeWarning)  # what matters of overflow is an error
    try:
        code = app(args=arguments, prog_name="minikfac", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except EXPECTED as error:
        if debug:
            raise
        return _fail(_message(error))
    except Exception as error:  # click's own: unknown options and commands
        if debug or not hasattr(error, "format_message"):
            raise
        message = error.format_message()
        hint = " minikfac --help lists what there is." if message.startswith("No such command") else ""
        return _fail(message + hint)
    if code == 130:
        print("minikfac: interrupted", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _message(error: BaseException) -> str:
    """What an error says, without the quotes of a KeyError and the numbers of the operating system."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, KeyError) and error.args:
        return str(error.args[0])
    return str(error) or type(error).__name__


def _fail(message: str) -> int:
    print(f"minikfac: {distributed.name_of_failing_rank()}{' '.join(message.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
