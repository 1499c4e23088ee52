"""mk.explore: the numbers are those of the parts, for any net and data, and wrong input is named."""

import base64
import importlib
import re
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

import minikfac as mk
from minikfac import fisher, layers, outputs, presets, quality, training
from minikfac.exploration import MOST_PARAMETERS, Exploration, explore
from oracles import EXACT, close

QUICK = {"n_examples": 40, "progress": False}


def points(inputs: int = 6, n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.standard_normal((n, inputs)), rng.integers(0, 3, n)


def small() -> tuple[mk.Network, np.ndarray]:
    net = mk.mlp([6, 5, 4, 3])
    return net, net.init(np.random.default_rng(0))


def convnet(normalized: bool = False) -> tuple[mk.Network, np.ndarray]:
    norm: list[layers.Layer] = [layers.BatchNorm(2)] if normalized else []
    net = mk.Network(
        [layers.Conv2d(1, 2, 3), *norm, layers.Tanh(), layers.Flatten(), layers.Dense(72, 10)],
        outputs.Categorical(),
    )
    return net, net.init(np.random.default_rng(0))


def expected(net: mk.Network, theta: Any, x: Any, y: Any, name: str) -> dict[str, Any]:
    """The row of an approximation, from the parts."""
    signals = fisher.signals(net, theta, x)
    build, method = quality.APPROXIMATIONS[name]
    methods = {} if method is None else {name: method}
    gradient = net.gradient(theta, x, y)
    return quality.compare(fisher.exact(signals), {name: build(signals)}, gradient, 0.01, methods)[name]


def test_the_name_is_public() -> None:
    assert mk.explore is explore
    importlib.import_module("minikfac.exploration")
    assert mk.explore is explore


def test_on_the_example_it_says_what_the_parts_say() -> None:
    example = training.example()
    found = mk.explore(example.net, example.data, example.theta, progress=False)
    assert isinstance(found, Exploration)
    assert np.array_equal(found.x, example.x) and len(found.table.whole()) >= 9
    for name in ("K-FAC", "K-FAC (factored damping)"):
        row = expected(example.net, example.theta, example.x, example.y, name)
        for column in ("error", "step_cosine", "share", "cg_iterations", "floats"):
            assert found.table[name][column] == pytest.approx(
                row[column], rel=EXACT if column != "cg_iterations" else 0.1
            )
    row = found.table["K-FAC"]
    words = [f"error of {row['error']:.2f}", f"cosine {row['step_cosine']:.2f}", f"{row['share']:.0%}"]
    assert all(text in found.sentence for text in [*words, "7,050 numbers in place of 5,280,804"])
    lines = repr(found).splitlines()
    assert len(lines) <= 25 and max(map(len, lines)) <= 88
    assert found.sentence in " ".join(lines)


def test_in_a_notebook_it_is_sentence_table_and_two_pictures() -> None:
    net, theta = small()
    before = plt.get_fignums()
    found = mk.explore(net, points(), theta, **QUICK)
    html = found._repr_html_()
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    assert len(pictures) == 2 and all(base64.b64decode(each).startswith(b"\x89PNG") for each in pictures)
    assert html.count("<tr>") == 1 + len(found.table.whole()) and found.sentence in html
    assert plt.get_fignums() == before  # or the notebook would show them once more


def test_the_largest_layer_that_can_be_drawn_is_drawn() -> None:
    net, theta = small()
    found = mk.explore(net, points(), theta, **QUICK)
    axes = found.plot()
    assert "dense0" in axes[-1].figure.get_suptitle()
    assert "dense2" in found.plot("dense2")[-1].figure.get_suptitle()
    plt.close("all")


def test_a_convolutional_net_takes_flat_data_as_images() -> None:
    net, theta = convnet()
    data = training.example().data
    found = mk.explore(net, data, theta, **QUICK)
    row = expected(net, theta, data.as_images().x_train[:40], data.y_train[:40], "K-FAC")
    assert found.table["K-FAC"]["error"] == pytest.approx(row["error"], rel=EXACT)
    assert "KFAC-reduce" in {row["approximation"] for row in found.table.whole()}
    assert found.x.shape == (40, 8, 8, 1)


def test_layers_can_be_chosen() -> None:
    net, theta = small()
    x, y = points()
    found = mk.explore(net, (x, y), theta, layers=["dense2", 1], **QUICK)
    signals = fisher.signals(net, theta, x).select([1, "dense2"])
    assert found.F.names == ("dense1", "dense2")  # in the order of the net
    assert np.allclose(found.F.array, fisher.exact(signals).array)
    gradient = net.gradient(theta, x, y)
    gradient = np.concatenate([gradient[net.slices[layer]] for layer in (1, 2)])
    row = quality.compare(found.F, {"K-FAC": fisher.kfac(signals)}, gradient, 0.01)["K-FAC"]
    assert found.table["K-FAC"]["step_cosine"] == pytest.approx(row["step_cosine"], rel=EXACT)


def test_float32_is_studied_in_float64() -> None:
    net, theta = small()
    x, y = points()
    found = mk.explore(net, (x.astype("float32"), y), theta.astype("float32"), **QUICK)
    assert found.F.array.dtype == np.float64


def test_what_cannot_be_built_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(signals: fisher.Signals) -> fisher.FisherMatrix:
        raise ValueError("expected convergence in 500 iterations")

    monkeypatch.setitem(quality.APPROXIMATIONS, "nearest Kronecker", (refuse, None))
    net, theta = small()
    found = mk.explore(net, points(), theta, **QUICK)
    assert "nearest Kronecker was left out: expected convergence in 500 iterations." in " ".join(
        str(found).split()
    )


def test_save_writes_the_page_of_this_net(tmp_path: Any) -> None:
    net, theta = small()
    path = mk.explore(net, points(), theta, **QUICK).save(tmp_path / "deep" / "page.html")
    text = path.read_text(encoding="utf-8")
    assert path == tmp_path / "deep" / "page.html" and "<html" in text and '"dense0"' in text


# wrong input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"model": 3}, TypeError, "expected a minikfac.Network or a torch.nn.Module, got int"),
        ({"theta": None}, ValueError, r"expected theta \(P,\) with a Network, got none"),
        ({"theta": [0.0]}, TypeError, "theta"),
        ({"theta": np.zeros(3)}, ValueError, r"expected theta or direction of shape \(74,\), got \(3,\)"),
        ({"data": points()[0]}, TypeError, r"expected a Dataset or \(x, y\), got float64 array 40 x 6"),
        ({"data": (*points(), 1)}, TypeError, r"expected a Dataset or \(x, y\), got tuple of 3"),
        ({"data": ([[1.0]], [0])}, TypeError, "x"),
        ({"data": (points()[0], points(n=3)[1])}, ValueError, "40"),
        ({"data": (points(5)[0], points()[1])}, ValueError, "6"),
        ({"data": (points()[0].astype(int), points()[1])}, ValueError, "floating dtype"),
        ({"data": (points()[0] * np.nan, points()[1])}, ValueError, "NaN or infinite"),
        ({"damping": 0}, ValueError, "expected damping > 0, got 0"),
        ({"damping": np.nan}, ValueError, "expected finite damping >= 0, got nan"),
        ({"n_examples": 0}, ValueError, "expected n_examples to be a whole number >= 1, got 0"),
        ({"n_examples": 2.5}, ValueError, "expected n_examples to be a whole number >= 1, got 2.5"),
        (
            {"layers": ["conv9"]},
            ValueError,
            "expected layers among dense0, .* or 0 to 2, got 'conv9'",
        ),
        ({"layers": []}, ValueError, "expected at least one layer among dense0, dense1, dense2, got none"),
    ],
)
def test_wrong_input_is_named(change: dict[str, Any], error: type[Exception], match: str) -> None:
    net, theta = small()
    arguments = {"model": net, "data": points(), "theta": theta, "progress": False} | change
    with pytest.raises(error, match=match):
        mk.explore(**arguments)


def test_a_large_net_is_compared_by_products() -> None:
    net = mk.mlp([200, 60, 3])
    theta = net.init(np.random.default_rng(0))
    found = mk.explore(net, points(200), theta, **QUICK)
    assert isinstance(found.F, fisher.MatrixFree) and found.F.shape == (12243, 12243)
    row = found.table["K-FAC"]
    x, y = (part[:40] for part in points(200))
    signals = fisher.signals(net, theta, x)
    K, grad = fisher.kfac(signals), net.gradient(theta, x, y)
    step, approximate = found.F.solve(grad, 1e-2), K.solve(grad, 1e-2)
    cosine = step @ approximate / (step @ step * (approximate @ approximate)) ** 0.5
    assert row["step_cosine"] == pytest.approx(cosine, abs=1e-3)
    assert "149,891,049" in found.sentence
    assert "± is the standard error" in " ".join(str(found).split())  # lines are wrapped
    assert found.plot("dense1")


def test_layers_too_large_are_refused_with_their_sizes_and_what_to_do() -> None:
    net = mk.mlp([200, 60, 3])
    theta = net.init(np.random.default_rng(0))
    match = r"at most 10,000 parameters.*got 12,060 \(dense0 12,060\).*layers="
    with pytest.raises(ValueError, match=match):
        mk.explore(net, points(200), theta, layers=[0], progress=False)
    assert MOST_PARAMETERS == 10_000
    found = mk.explore(net, points(200), theta, layers=[1], **QUICK)
    assert found.F.shape == (183, 183)


def test_matrices_that_do_not_fit_are_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    net, theta = small()
    monkeypatch.setattr("minikfac.backend.available_memory", lambda xp: 1000)
    monkeypatch.setattr(mk.Network, "forward", None)
    with pytest.raises(MemoryError, match=r"74 parameters.* GiB, .* use fewer layers, as in layers="):
        mk.explore(net, points(), theta, progress=False)


def test_a_page_of_batch_normalization_is_refused(tmp_path: Any) -> None:
    net, theta = convnet(normalized=True)
    found = mk.explore(net, training.example().data, theta, **QUICK)
    with pytest.raises(ValueError, match="expected a net without batch normalization"):
        found.save(tmp_path / "page.html")


# PyTorch ----------------------------------------------------------------------------------------------------


@pytest.mark.oracle
def test_a_torch_module_brings_weights_and_statistics() -> None:
    import torch
    from torch import nn

    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 4)
    )
    x, y = torch.randn(30, 3, 6, 6), torch.randint(0, 4, (30,))
    for _ in range(3):
        module.train()(x)
    found = mk.explore(module.eval(), (x, y), **QUICK)
    z = found.net.forward(found.theta, found.x, found.stats).z
    assert np.allclose(z, module(x).detach().numpy(), atol=1e-5)
    theirs = found.net.gradient(found.theta, found.x, found.y, found.stats)
    assert found.x.shape == (30, 6, 6, 3) and np.isfinite(theirs).all()
    assert 0 < found.table["K-FAC"]["step_cosine"] <= 1


@pytest.mark.oracle
def test_modules_with_residuals_are_explored() -> None:
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x + self.norm(self.conv(x)))

    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), Block(), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    x, y = torch.randn(20, 3, 6, 6), torch.randint(0, 3, (20,))
    found = mk.explore(module, (x, y), **QUICK)
    z = found.net.forward(found.theta, found.x, found.stats).z
    assert np.allclose(z, module.eval()(x).detach().numpy(), atol=1e-5)
    assert found.F.shape[0] == sum(parameter.numel() for parameter in module.parameters())
    assert 0 < found.table["K-FAC"]["share"] <= 1


@pytest.mark.oracle
def test_sequences_and_groups_are_explored() -> None:
    import torch
    from torch import nn

    torch.manual_seed(0)
    module = nn.Sequential(
        *(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Conv1d(4, 4, 2, groups=2), nn.AvgPool1d(2, ceil_mode=True)),
        *(nn.Flatten(), nn.Linear(12, 3)),
    )
    x, y = torch.randn(20, 2, 8), torch.randint(0, 3, (20,))
    explored = mk.explore(module, (x, y), **QUICK)
    assert explored.x.shape == (20, 8, 2) and explored.net.names == ("conv0", "conv1", "conv2", "dense3")
    z = explored.net.forward(explored.theta, explored.x).z
    assert np.allclose(z, module(x).detach().numpy(), atol=1e-5)
    assert 0 < explored.table["K-FAC"]["share"] <= 1


@pytest.mark.oracle
def test_images_before_a_flatten_are_flattened_in_its_order() -> None:
    import torch
    from torch import nn

    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(48, 5), nn.Tanh(), nn.Linear(5, 3))
    x, y = torch.randn(20, 3, 4, 4), torch.randint(0, 3, (20,))
    theirs = module(x).detach().numpy()
    images = x.numpy().transpose(0, 2, 3, 1).astype(float)
    labels = y.numpy()
    for data in ((x, y), (x.numpy(), labels), mk.datasets.Dataset(images, labels, images, labels, "noise")):
        found = mk.explore(module, data, **QUICK)
        assert np.allclose(found.net.forward(found.theta, found.x).z, theirs, atol=1e-5)


@pytest.mark.oracle
def test_other_losses_and_wrong_modules() -> None:
    import torch
    from torch import nn

    module = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
    x = torch.randn(20, 6)
    found = mk.explore(module, (x, torch.randn(20, 3).double()), output="gaussian", **QUICK)
    assert isinstance(found.net.output, outputs.Gaussian)
    with pytest.raises(ValueError, match="expected no theta with a torch module, which brings its weights"):
        mk.explore(module, (x, x), np.zeros(3))
    with pytest.raises(ValueError, match=r"no counterpart for LSTM\(6, 3\): known are Linear"):
        mk.explore(nn.LSTM(6, 3), (x, x))


def test_presets_are_explored() -> None:
    net = presets.tiny_convnet()
    theta = net.init(np.random.default_rng(0))
    found = mk.explore(net, training.example().data, theta, n_examples=20, progress=False)
    assert len(found.plot()) == 7
    plt.close("all")


def test_signals_draw_the_layers_own_block_and_factors(monkeypatch):
    one = training.example(0)
    signals, drawn = fisher.signals(one.net, one.theta, one.x), []
    monkeypatch.setattr("minikfac.plots.kronecker_factors", lambda *arrays, **names: drawn.append(arrays))
    signals.plot(1)
    [(block, A, G)] = drawn
    expected = fisher.kfac(signals).blocks[1]
    close(A, expected.A)
    close(G, expected.G)
    close(block, fisher.block_diagonal(signals).blocks[1].to_dense())
