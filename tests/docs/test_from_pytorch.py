"""The page on nets from PyTorch: its function takes over weights that PyTorch trained."""

from pathlib import Path

import numpy as np

from minikfac import datasets
from oracles.pages import ROOT, snippets

PERMUTED = "behind.transpose(0, 2, 3, 1).reshape(16, 64)"


def logits(snippet: str) -> np.ndarray:
    """What the page's net computes for ten test images."""
    names: dict[str, object] = {}
    exec(compile(snippet, "from-pytorch.md", "exec"), names)
    with np.load(Path(__file__).parent / "torch-digits.npz") as saved:  # a state_dict, and logits
        net, theta = names["taken_over"](saved)  # type: ignore[operator]
    return net.forward(theta, datasets.digits(images=True).x_test[:10]).z


def test_weights_taken_over_by_hand_give_the_outputs_of_pytorch() -> None:
    by_hand = snippets(ROOT / "docs" / "howto" / "from-pytorch.md")[0]
    with np.load(Path(__file__).parent / "torch-digits.npz") as saved:
        expected = saved["z"]  # PyTorch computed in float32
    assert np.allclose(logits(by_hand), expected, atol=1e-4)
    assert by_hand.count(PERMUTED) == 1
    assert abs(logits(by_hand.replace(PERMUTED, "behind.reshape(16, 64)")) - expected).max() > 1
