"""Every number of a run as plain data: what goes into results.json."""

from __future__ import annotations

import json
import math
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..invariance.study import record as invariance_record
from .chapters.convolutions import Convolutions
from .chapters.descent import Descent
from .chapters.maps import strengths
from .chapters.opening import Opening
from .run import Findings, settings_record


def results(found: Findings) -> dict[str, Any]:
    """Numbers, settings, versions. Matrices are left out, their errors and eigenvalues are in."""
    comparison, middle = found.study.comparison, found.middle
    record: dict[str, Any] = {
        "versions": versions(),
        "settings": settings_record(found.settings),
        "data": {
            "name": found.dataset.name,
            "training_examples": len(found.dataset.x_train),
            "test_examples": len(found.dataset.x_test),
            "inputs": math.prod(found.dataset.x_train.shape[1:]),
            "classes": found.dataset.n_classes,
        },
        "net": {
            "parameters": found.net.n_params,
            "layers": {
                name: list(shape) for name, shape in zip(found.net.names, found.net.shapes, strict=True)
            },
            "studied_parameters": found.study.F.shape[0],
            "studied_layers": list(found.study.F.names),
        },
        "training": found.history.records,
        "damping": found.study.damping,
        "quality": comparison.to_dicts(),
        "quality_spread": comparison.spread,
        "ledger": found.study.ledger,
        "step_cosines": found.cosines,
        "memory": found.memory,
        "seconds": found.seconds,
    }
    for key in ("passage", "means_start", "means", "divergence", "sampling"):
        part = getattr(found, key)
        if part is not None:
            record[key] = dict(vars(part))
    if found.scatter is not None:
        record["scatter"] = {k: v for k, v in vars(found.scatter).items() if k != "samples"}
    if middle is not None:
        record["middle_layers"] = {
            "layers": list(middle.names),
            "sizes": list(middle.sizes),
            "errors": middle.errors,
            "eigenvalues": middle.eigenvalues,
            "preconditioned_eigenvalues": middle.preconditioned,
        }
    if found.descent is not None:
        record["descent"] = descent(found.descent)
    if found.opening is not None:
        record["opening"] = opening(found.opening)
    if found.invariance is not None:
        record["invariance"] = invariance_record(found.invariance)
    if found.convolutions is not None:
        record["convolutions"] = convolutions(found.convolutions)
    if found.convnet is not None:
        record["convolutional_net"] = results(found.convnet)
        del record["convolutional_net"]["versions"]
    return plain(record)


def descent(found: Descent) -> dict[str, Any]:
    """Numbers of progress: losses and steps on the quadratic, improvements by matrix."""
    record: dict[str, Any] = {}
    if found.valley is not None:
        kept = ("condition_number", "losses", "reduction", "condition_numbers", "steps")
        record["conditioning"] = {key: getattr(found.valley, key) for key in kept}
    if found.improvement is not None:
        at = found.improvement
        record["improvement"] = dict(vars(at)) | dict(vars(at.study))
        del record["improvement"]["study"]
        record["improvement"]["improvements"] = [
            {"matrix": matrix, "way": way, "nats": values}
            for (matrix, way), values in at.study.improvements.items()
        ]
    return record


def opening(found: Opening) -> dict[str, Any]:
    """Numbers of the opening: how maps distort, and how far the paths of charts are apart; no paths."""
    record: dict[str, Any] = {}
    if found.maps is not None:
        record["maps"] = {
            own.name: {"keeps": own.keeps, "areas": own.areas, "shapes": own.shapes}
            for own in found.maps.maps
        }
    if found.ascents is not None:
        record["ascents"] = {key: getattr(found.ascents, key) for key in ("duration", "steps", "apart")}
    if found.gaussian is not None:
        kept = ("mean", "variance", "steps", "one_step", "walked")
        record["gaussian"] = {key: getattr(found.gaussian, key) for key in kept}
    return record


def convolutions(chapter: Convolutions) -> dict[str, Any]:
    """Numbers of the chapter on convolutions; blocks and matrices of a batch are left out."""
    record: dict[str, Any] = {
        "maps": {pool: strengths(maps) for pool, maps in chapter.maps.items()},
        "trained_alike": chapter.records,
        "layer_ledgers": chapter.ledgers,
        "walks": [dict(vars(walk)) | {"as_predicted": walk.as_predicted} for walk in chapter.walks],
    }
    if chapter.shifts is not None:
        record["shifts"] = dict(vars(chapter.shifts)) | {"gradient": chapter.shifts.gradient}
    if chapter.coupling is not None:
        hidden = ("joint", "constant")
        record["batch_normalization"] = {k: v for k, v in vars(chapter.coupling).items() if k not in hidden}
    return record


def versions() -> dict[str, str]:
    """Of the package, Python and the libraries that compute."""
    found = {"minikfac": __version__, "python": platform.python_version(), "platform": sys.platform}
    for name in ("numpy", "scipy", "matplotlib"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def plain(value: Any) -> Any:
    """Arrays to lists, numbers to Python's, and what JSON cannot hold (NaN, infinity) to None.

    >>> plain({"a": np.array([1.0, np.nan]), "b": (np.int64(3), float("inf"))})
    {'a': [1.0, None], 'b': [3, None]}
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_results(found: Findings, path: Path) -> None:
    """Write results.json."""
    path.write_text(json.dumps(results(found), indent=1, allow_nan=False) + "\n", encoding="utf-8")
