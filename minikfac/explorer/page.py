"""The page: a template, its style and its scripts, and the numbers, put together into one file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from .. import __version__
from ..backend import Array
from ..network import Network
from ..training import example
from ..writing import write_text
from . import equivalent
from .numbers import DAMPINGS, MOMENTS, numbers, studied_layers

FOLDER = Path(__file__).parent
SCRIPTS = ("numbers", "net", "drawing", "matrices", "equivalent", "charts", "start")
"""Files of the page's program, in order."""
LIMIT = 8 * 2**20
"""Bytes of a page at most."""


def write(
    path: str | Path,
    net: Network,
    thetas: Mapping[str, Array],
    x: Array,
    y: Array,
    layers: Sequence[int | str] | None = None,
    dampings: Sequence[float] = DAMPINGS,
    image_shape: Sequence[int] | None = None,
    title: str = "A Fisher matrix and its approximations",
    progress: bool = True,
) -> Path:
    """Write the explorer's page of a net: one HTML file that needs neither a server nor a network.

    In a chain of dense and pointwise layers the page computes exact blocks itself, from theta and x, of at
    most 1,200 parameters: in a larger layer those between the most active inputs and units. Of any other net,
    as one with convolutions, blocks come with the page, of at most 240 parameters per layer.

    Args:
        path: the file; its folder is made if need be.
        net: the network. Dense layers and convolutions are shown.
        thetas: (P,) by the name of the moment, in order, as in ``{"before training": theta0, ...}``.
        x: inputs; means are over the first 500.
        y: their targets.
        layers: by index or name; all dense ones and convolutions by default.
        dampings: lambda > 0 at the stops of the slider, ascending.
        image_shape: height and width; where a dense first layer has an input per pixel, steps are pictures.
        title: heading of the page.
        progress: show a bar.

    Returns:
        The path.

    Raises:
        ValueError: on no moments, dampings that are not positive, other kinds of layers, or more than 4,000
            parameters in the layers that are studied.
        MemoryError: if the page would be larger than 8 MB.
    """
    chosen = studied_layers(net, layers)
    if not thetas or not dampings or not min(dampings) > 0:
        raise ValueError(
            f"expected theta of one or more moments, and dampings > 0, got {len(thetas)} moments "
            f"and dampings {list(dampings)}"
        )
    study = numbers(net, thetas, (x, y), chosen, dampings, progress)
    first, shape = study["layers"][0], tuple(image_shape or ())
    pixels = (
        bool(study["chain"]) and first["index"] == 0 and math.prod(shape) == study["chain"][0].get("n_in")
    )
    text = page(title, study | {"image": list(shape) if len(shape) == 2 and pixels else None})
    if len(text.encode()) > LIMIT:
        raise MemoryError(
            f"expected a page of at most 8 MB, got {len(text.encode()) / 2**20:.1f} MB; give fewer moments, "
            "layers or dampings"
        )
    path = Path(path).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    return path


def write_example(path: str | Path, progress: bool = True) -> Path:
    """Write the page of :func:`minikfac.training.example` at seven moments of training."""
    moments = {f"after {steps:,} steps" if steps else "before training": example(steps) for steps in MOMENTS}
    thetas = {name: moment.theta for name, moment in moments.items()}
    title, one = "K-FAC, by hand: the Fisher matrix of a small net on digits", example()
    return write(path, one.net, thetas, one.x, one.y, image_shape=(8, 8), title=title, progress=progress)


def page(title: str, study: Mapping[str, Any]) -> str:
    """The page as text."""
    content = {"study": study, "equivalent": equivalent.numbers()}
    data = json.dumps(content, allow_nan=False, separators=(",", ":")).replace("</", "<\\/")
    pieces = {
        "title": escape(title),
        "version": escape(__version__),
        "style": _read("explorer.css"),
        "script": "\n".join(_read(f"{name}.js") for name in SCRIPTS),
        "data": data,
    }
    text = _read("explorer.html")
    for name, piece in pieces.items():
        text = text.replace(f"{{{{{name}}}}}", piece)
    return text


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
