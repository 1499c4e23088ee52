"""Numbers for figures to show."""

import math
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
from scipy.signal import correlate2d

RNG = np.random.default_rng(0)
SIZES = [4, 6, 2]
NAMES = ["dense0", "dense1", "dense2"]
ROWS = [
    {"approximation": "K-FAC", "error": 0.5, "step_cosine": 0.8, "share": 0.6, "cg_iterations": 20},
    {
        "approximation": "diagonal",
        "error": 0.9,
        "step_cosine": -0.1,
        "share": None,
        "cg_iterations": math.inf,
    },
]
LEDGER = [
    {"label": "exact", "error": 0.0, "cost": 0.0, "step_cosine": 1.0, "share": 1.0},
    {"label": "layers independent", "error": 0.6, "cost": 0.6, "step_cosine": 0.9, "share": 0.7},
    {"label": "activations independent", "error": 0.7, "cost": 0.3, "step_cosine": 0.8, "share": 0.5},
]
RECORDS = [{"step": s, "loss": 2.0 / (s + 1), "test_error": 0.5 / (s + 1)} for s in range(5)]


CONV_LEDGER = [
    dict(zip(("label", "above", "error", "cost", "c_star", "step_cosine"), row, strict=True))
    for row in (
        ("exact Fisher matrix", None, 0.0, 0.0, 1.0, 1.0),
        ("SUD: uncorrelated", "exact Fisher matrix", 0.7, 0.7, 1.5, 0.9),
        ("IAD: independent", "exact Fisher matrix", 0.3, 0.3, 0.9, math.nan),
        ("T x KFC", "IAD: independent", 19.0, 18.0, 0.05, -0.2),
    )
]
TILES = {"conv0": {"a": np.eye(3), "g": -np.eye(3)}, "conv1": {"a": np.zeros((5, 3)), "g": np.ones((1, 1))}}
WALK = {"values": [0.0, 1.0, 2.0], "errors": {"KFC": [1e-15, 0.01, 0.5], "reduce": [3.0, 0.5, 0.0]}}


def symmetric(size: int) -> np.ndarray:
    J = RNG.normal(size=(size, size))
    return J @ J.T / size


def picture(number: int = 3) -> dict[str, Any]:
    """Arguments of forward_backward for a net of this many parameter layers."""
    hidden = [RNG.normal(size=5 + layer) for layer in range(number - 1)]
    p = np.array([0.7, 0.2, 0.1])
    return {
        "image": RNG.random((4, 4)),
        "activations": hidden,
        "probabilities": p,
        "sampled_target": 1,
        "label": 0,
        "derivatives": [*(RNG.normal(size=a.shape) for a in hidden), p - np.eye(3)[1]],
    }


def shifts() -> dict[str, Any]:
    """Arguments of shifted_products for a 3 x 4 kernel on 5 x 6 pixels with padding."""
    a, g = np.pad(RNG.normal(size=(5, 6)), ((1, 1), (1, 2))), RNG.normal(size=(5, 6))
    products = correlate2d(a, g, mode="full")
    kernel, padding = (4, 5, 3, 4), (1, 1, 1, 2)
    return {"activation": a, "derivative": g, "products": products, "kernel": kernel, "padding": padding}


def widths(ax: Any, container: int = 0) -> list[float]:
    return [bar.get_width() for bar in ax.containers[container]]
