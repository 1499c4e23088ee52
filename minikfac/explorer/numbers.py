"""The numbers of the explorer's first tab: a net's matrices and how good each approximation is, by moment.

What the page draws it computes from factors A and G and, in a chain of dense layers, from theta and x; what
it writes down comes from :mod:`minikfac.quality`, on a grid of dampings.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from .. import fisher, quality
from ..backend import Array, to_host
from ..fisher.damping import pi_ratio
from ..network import Network
from ..network.layers import Conv2d, Dense, Identity, Logistic, ReLU, Softplus, Tanh
from ..network.network import layer_index
from ..parallel import one_thread, workers
from ..training.progress import Bar, progress_bar

DAMPINGS = tuple(10.0 ** (power / 2) for power in range(-10, 1))
"""lambda, at the stops of the slider."""
MOMENTS = (0, 20, 50, 200, 500, 1000, 2000)
"""Steps of training after which the example is looked at."""
LARGEST_NET = 4000
"""Most parameters of the layers that are studied; their exact Fisher matrix has the square of that."""
LARGEST_BLOCK = 1200
"""Most parameters of a layer's block that is drawn; of a larger layer, its most active inputs and units."""
STORED_BLOCK = 240
"""The same where the page cannot compute the block by itself, so that it comes with the page."""
MOST_EXAMPLES = 500
"""Over which all matrices are means."""
MEASURES = ("error", "step_cosine", "step_length", "share")
_PAGE_ACTIVATIONS = (Identity, Logistic, ReLU, Softplus, Tanh)
"""Those that net.js has."""


def packed(array: Array, kind: str = "float32") -> dict[str, Any]:
    """An array as text: base64 of its numbers, little-endian; 8-bit integers come with a scale.

    Args:
        array: finite or NaN, any shape.
        kind: "float32" or "int8".

    >>> packed(np.array([1.0, -0.5]), "int8")
    {'kind': 'int8', 'shape': [2], 'scale': 0.007874015748031496, 'data': 'f8A='}
    """
    array = np.asarray(array, dtype=float)
    entry: dict[str, Any] = {"kind": kind, "shape": list(array.shape)}
    if kind == "int8":
        entry["scale"] = float(np.abs(array).max(initial=0.0)) / 127 or 1.0
        array = np.rint(array / entry["scale"])
    little_endian = np.dtype(kind).newbyteorder("<")
    return entry | {"data": base64.b64encode(array.astype(little_endian).tobytes()).decode("ascii")}


def numbers(
    net: Network,
    thetas: Mapping[str, Array],
    batch: tuple[Array, Array],
    chosen: list[int],
    dampings: Sequence[float],
    progress: bool,
) -> dict[str, Any]:
    """Everything that the first tab shows, as plain data; arguments are those of :func:`.write`, checked."""
    x, y = (to_host(part[:MOST_EXAMPLES]) for part in batch)
    host = {name: to_host(theta) for name, theta in thetas.items()}
    signals, chain = fisher.signals(net, [*host.values()][-1], x).select(chosen), dense_chain(net)
    names = quality.applicable(signals)
    parts = [_part(block, LARGEST_BLOCK if chain else STORED_BLOCK) for block in fisher.kfac(signals).blocks]
    with progress_bar("explorer", len(host) * len(dampings), progress) as bar, one_thread():
        study = partial(_moment, net, (x, y), chosen, parts, names, dampings, bar)
        with ThreadPoolExecutor(workers(2)) as pool:
            moments = list(pool.map(study, host.values()))
    return {
        "moments": [{"name": name, **moment} for name, moment in zip(host, moments, strict=True)],
        "layers": [
            {"name": net.names[l], "index": l, "shape": net.shapes[l], "part": [p.tolist() for p in part]}
            for l, part in zip(chosen, parts, strict=True)
        ],
        "chain": chain,
        "x": packed(x.reshape(len(x), -1)) if chain else None,
        "n": len(x),
        "parameters": sum(net.slices[l].stop - net.slices[l].start for l in chosen),
        "approximations": names,
        "dampings": list(dampings),
        "measures": MEASURES,
    }


def dense_chain(net: Network) -> list[dict[str, Any]] | None:
    """Layers as plain data where the page can run the net itself: dense ones and its activations in a row."""
    entries: list[dict[str, Any]] = []
    for layer in net.layers:
        if isinstance(layer, Dense):
            entries.append({"kind": "dense", "n_in": layer.n_in, "n_out": layer.n_out, "bias": layer.bias})
        elif type(layer) in _PAGE_ACTIVATIONS:
            entries.append({"kind": type(layer).__name__.lower()})
        else:
            return None
    return [*entries, {"kind": type(net.output).__name__.lower()}]


def studied_layers(net: Network, layers: Sequence[int | str] | None) -> list[int]:
    """Indices of the layers to study: dense ones and convolutions, few enough parameters together."""
    suited = [l for l, layer in enumerate(net.parameter_layers) if isinstance(layer, Dense | Conv2d)]
    chosen = suited if layers is None else [layer_index(net.names, layer) for layer in layers]
    size = sum(net.slices[l].stop - net.slices[l].start for l in chosen)
    if not chosen or not set(chosen) <= set(suited):
        got = ", ".join(net.names[l] for l in chosen) or "none"
        raise ValueError(f"expected dense layers or convolutions, got {got}")
    if size > LARGEST_NET:
        raise ValueError(
            f"expected layers of at most {LARGEST_NET:,} parameters together, got {size:,}; choose some by "
            f"layers=[...] of {', '.join(net.names[l] for l in suited)}"
        )
    return chosen


def _part(block: fisher.FisherMatrix, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of inputs and of units whose parameters are drawn: all, or the most active of each."""
    assert isinstance(block, fisher.KroneckerBlock)
    active = [np.argsort(-M.diagonal(), kind="stable") for M in (block.A, block.G)]
    while len(active[0]) * len(active[1]) > most:  # a little less of the longer one
        longer = int(len(active[1]) > len(active[0]))
        active[longer] = active[longer][:-1]
    return np.sort(active[0]), np.sort(active[1])


def _moment(
    net: Network,
    batch: tuple[Array, Array],
    chosen: list[int],
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
    names: Sequence[str],
    dampings: Sequence[float],
    bar: Bar,
    theta: Array,
) -> dict[str, Any]:
    """The matrices at one theta, the steps that they give, and how good they are, for each damping."""
    signals = fisher.signals(net, theta, batch[0]).select(chosen)
    F, slopes = fisher.exact(signals), net.gradient(theta, *batch)
    matrices = {name: quality.APPROXIMATIONS[name][0](signals) for name in names}
    gradient = np.concatenate([slopes[net.slices[l]] for l in chosen])
    tables: list[np.ndarray] = []
    steps = np.empty((len(dampings), 1 + len(names), len(gradient)))
    for place, damping in enumerate(dampings):
        reference = quality.Reference.of(F, gradient, damping)
        tables.append(_measures(reference, matrices, tables[0] if tables else None))
        each = [reference.step, *(matrices[name].solve(gradient, damping, _method(name)) for name in names)]
        for part in F.slices:  # the largest entry 1: of a step's length there is a measure
            steps[place, :, part] = [step[part] / (np.abs(step[part]).max() or 1.0) for step in each]
        bar.advance()
    stored = dense_chain(net) is None
    return {
        "theta": None if stored else packed(theta),
        "floats": {name: matrix.floats for name, matrix in matrices.items()},
        "table": packed(np.array(tables)),
        "steps": packed(steps, "int8"),
        "layers": [
            _layer(F.blocks[l].array, signals.select([l]), part, stored) for l, part in enumerate(parts)
        ],
    }


def _method(name: str) -> str | None:
    return quality.APPROXIMATIONS[name][1]


def _measures(
    reference: quality.Reference, matrices: Mapping[str, fisher.FisherMatrix], first: np.ndarray | None
) -> np.ndarray:
    """(approximations, 1 + layers, measures); NaN for what does not exist.

    Errors of matrices that are damped by lambda I alone are those of the first damping.
    """
    table = np.full((len(matrices), 1 + len(reference.F.slices), len(MEASURES)), np.nan)
    for place, (name, matrix) in enumerate(matrices.items()):
        damped = _method(name) or isinstance(matrix, fisher.BlockTridiagonal)
        chosen = ["matrix", "step"] if first is None or damped else ["step"]
        methods = {name: method} if (method := _method(name)) else None
        study = (reference.F, {name: matrix}, reference.gradient, reference.damping)
        rows = quality.compare(*study, methods, chosen, reference).rows
        table[place] = [[row.get(measure, np.nan) for measure in MEASURES] for row in rows]
        if first is not None and "matrix" not in chosen:
            table[place, :, 0] = first[place, :, 0]
    return table


def _layer(
    block: Array, signals: fisher.Signals, part: tuple[np.ndarray, np.ndarray], stored: bool
) -> dict[str, Any]:
    """Factors and spectra of a layer, of the part of it that is drawn."""
    kfac, nearest, ekfac = (
        build(signals).blocks[0] for build in (fisher.kfac, fisher.nearest_kronecker, fisher.ekfac)
    )
    assert isinstance(kfac, fisher.KroneckerBlock) and isinstance(nearest, fisher.KroneckerBlock)
    assert isinstance(ekfac, fisher.EigenBlock)
    of_A, of_G = (np.ix_(index, index) for index in part)
    rows = (part[0][:, None] * len(kfac.G) + part[1]).ravel()
    exact, eigenvalues = block[np.ix_(rows, rows)], np.linalg.eigvalsh
    factors = {"A": kfac.A[of_A], "G": kfac.G[of_G]}
    factors |= {"nearest_A": nearest.A[of_A], "nearest_G": nearest.G[of_G]}
    factors |= {"U_A": ekfac.U_A[part[0]], "U_G": ekfac.U_G[part[1]], "s": ekfac.s}
    spectra = {
        "exact": eigenvalues(exact),
        "K-FAC": np.outer(eigenvalues(factors["A"]), eigenvalues(factors["G"])),
        "EKFAC": eigenvalues(ekfac.to_dense()[np.ix_(rows, rows)]),
        "nearest Kronecker": np.outer(eigenvalues(factors["nearest_A"]), eigenvalues(factors["nearest_G"])),
        "diagonal": exact.diagonal(),
    }
    return {
        **{key: packed(M) for key, M in factors.items()},
        "pi": float(pi_ratio(kfac.A, kfac.G)),
        "spectra": {name: packed(np.sort(values, None)[::-1]) for name, values in spectra.items()},
        "block": packed(exact[np.tril_indices(len(exact))]) if stored else None,
    }
