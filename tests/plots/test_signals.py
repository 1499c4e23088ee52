"""One example's way through a net, and the graphical models."""

from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
import pytest
from matplotlib.patches import Circle

from minikfac import plots
from oracles.figures import picture, widths


def test_forward_backward_holds_the_signals():
    given = picture(3)
    axes = plots.forward_backward(**given)
    image, bars = axes[:2]
    np.testing.assert_array_equal(image.images[0].get_array(), given["image"])
    np.testing.assert_array_equal(widths(bars), given["probabilities"])
    forward, backward, gradients = axes[2:4], axes[4:7], axes[7:]
    for ax, a in zip(forward, given["activations"], strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array()[:, 0], a)
        low, high = ax.images[0].get_clim()
        assert low == -high
    np.testing.assert_array_equal(backward[1].images[0].get_array()[:, 0], given["derivatives"][1])
    np.testing.assert_allclose(widths(backward[2]), given["derivatives"][2])
    below = [given["image"].ravel(), *given["activations"]]
    for ax, a, g in zip(gradients, below, given["derivatives"], strict=True):
        np.testing.assert_allclose(ax.images[0].get_array(), np.outer(a, g))
    notes = [text.get_text() for text in bars.texts]
    assert "70%, label" in notes and "20%, sampled" in notes


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image": np.ones(16)}, r"expected image of shape \(H, W\), got \(16,\)"),
        ({"activations": []}, "at least one hidden layer, got none"),
        ({"derivatives": [np.ones(5)]}, "expected derivatives of 3 layers, got 1"),
        ({"sampled_target": 3}, "expected sampled_target from 0 to 2, got 3"),
        ({"label": -1}, "expected label from 0 to 2, got -1"),
        (
            {"derivatives": [np.ones(5), np.ones(5), np.ones(3)]},
            r"expected derivatives of layer 2 of shape \(6,\), got \(5,\)",
        ),
    ],
)
def test_forward_backward_refuses(changed: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        plots.forward_backward(**(picture(3) | changed))


@pytest.mark.parametrize("n_layers", [2, 3, 4, 5])
def test_graphical_models_have_their_nodes_and_edges(n_layers: int):
    top, *models = plots.graphical_models(n_layers)
    # x; s, Ds and DW of each layer; a and Da of each but the last; p and y
    assert (
        sum(isinstance(patch, Circle) for patch in top.patches) == 1 + 3 * n_layers + 2 * (n_layers - 1) + 2
    )
    edges = [len([p for p in ax.patches if not isinstance(p, Circle)]) for ax in models]
    assert edges == [n_layers * (n_layers - 1) // 2, 0, n_layers - 1]


def test_graphical_models_refuse_many_layers():
    with pytest.raises(ValueError, match="expected n_layers from 2 to 5, got 6"):
        plots.graphical_models(6)
