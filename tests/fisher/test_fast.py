"""Gradient and K-FAC factors from one pass: the same as from two."""

import numpy as np
import pytest

import minikfac as mk
from minikfac import fisher, layers, optim
from minikfac.fisher.patches import PatchMoment
from minikfac.linalg import Sums
from oracles import close

RNG = np.random.default_rng(0)
X = RNG.standard_normal((7, 6, 6, 2))
Y = RNG.integers(0, 3, 7)


def conv_net(*between: layers.Layer) -> mk.Network:
    return mk.Network(
        [
            layers.Conv2d(2, 3, 3, padding=1),
            *between,
            layers.Tanh(),
            layers.MaxPool2d(2),
            layers.Flatten(),
            layers.Dense(27, 3),
        ],
        mk.outputs.Categorical(),
    )


def rng():
    return np.random.default_rng(5)


@pytest.fixture(params=["whole batch", "chunks"])
def chunk_size(request, monkeypatch):
    if request.param == "chunks":
        monkeypatch.setattr("minikfac.parallel._CHUNK", 2000)


@pytest.mark.parametrize("reduce", [False, True])
@pytest.mark.parametrize("options", [{"targets": "model"}, {"n_samples": 2, "rng": rng}, {"targets": "data"}])
def test_one_pass_gives_what_two_give(chunk_size, options, reduce):
    net = conv_net(layers.GroupNorm(1, 3))
    theta = net.init(np.random.default_rng(1))
    options = {key: value() if callable(value) else value for key, value in options.items()}
    again = {key: rng() if key == "rng" else value for key, value in options.items()}
    estimate = fisher.gradient_and_kfac(net, theta, X, Y, reduce=reduce, **options)
    loss, grad = net.loss_and_gradient(theta, X, Y)
    labels = Y if options.get("targets") == "data" else None
    again.setdefault("targets", "sampled")
    F = fisher.kfac(fisher.signals(net, theta, X, labels, **again), reduce=reduce)
    close(estimate.loss, loss)
    close(estimate.gradient, grad)
    close(estimate.fisher.to_dense(), F.to_dense())
    assert estimate.stats == []


def test_chunks_were_really_made(chunk_size, request):
    net = conv_net()
    rows = net.chunks(net.init(rng()), X)
    assert (len(rows) > 1) == ("chunks" in request.node.callspec.id)


def test_in_training_the_gradient_alone_is_coupled(chunk_size):
    net = conv_net(layers.BatchNorm(3))
    theta = net.init(np.random.default_rng(1))
    stats = [np.array([[0.1, 0.2, 0.3], [1.0, 2.0, 3.0]])]
    estimate = fisher.gradient_and_kfac(net, theta, X, Y, "model", stats=stats, train=True)
    loss, grad, after, _ = net.gradient_pass(theta, X, Y, stats)
    close(estimate.loss, loss)
    close(estimate.gradient, grad)
    close(estimate.stats[0], after[0])
    F = fisher.kfac(fisher.signals(net, theta, X, train=True))
    close(estimate.fisher.to_dense(), F.to_dense())
    running = fisher.gradient_and_kfac(net, theta, X, Y, "model", stats=stats)
    close(running.gradient, net.gradient(theta, X, Y, stats))
    close(running.stats[0], stats[0])
    single = fisher.gradient_and_kfac(net, theta.astype(np.float32), X, Y, "model", stats=np.stack(stats))
    assert single.stats[0].dtype == np.float32
    assert abs(running.loss - loss) > 1e-3  # the running statistics are others than the batch's


def test_a_generator_is_needed_to_sample_and_targets_are_checked():
    net = conv_net()
    theta = net.init(rng())
    with pytest.raises(ValueError, match=r"expected rng = numpy\.random.default_rng"):
        fisher.gradient_and_kfac(net, theta, X, Y)
    with pytest.raises(TypeError, match=r"expected rng = numpy\.random\.default_rng\(seed\), got 0"):
        fisher.gradient_and_kfac(net, theta, X, Y, rng=0)
    with pytest.raises(ValueError, match="expected a batch of at least one example"):
        fisher.gradient_and_kfac(net, theta, X[:0], Y[:0], rng=rng())
    with pytest.raises(ValueError, match="expected labels"):
        fisher.gradient_and_kfac(net, theta, X, Y + 1, targets="model")


def test_sgd_carries_the_statistics_of_batch_normalization():
    net = conv_net(layers.BatchNorm(3))
    theta = net.init(np.random.default_rng(1))
    opt = optim.SGD(net, lr=0.1)
    state = opt.init(theta)
    before = state["stats"][0].copy()
    moved, after, info = opt.step(theta, state, (X, Y))
    loss, grad, stats, _ = net.gradient_pass(theta, X, Y)
    close(info["loss"], loss)
    close(moved, theta - 0.1 * grad)
    close(after["stats"][0], stats[0])
    close(state["stats"][0], before)  # nothing is changed in place
    assert abs(after["stats"][0] - before).max() > 1e-3


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "used"),
    [
        (3, 1, "same", True),
        ((5, 3), 1, 2, True),
        ((4, 2), (1, 2), "valid", True),
        (5, 2, 2, True),
        ((2, 3), 1, 0, True),
        (1, 1, 0, False),
        (3, 3, 0, False),
    ],
)
def test_moments_of_overlapping_patches_are_those_of_all_patches(kernel, stride, padding, bias, used):
    layer = layers.Conv2d(2, 3, kernel, stride, padding, bias, pad_value=(0.5, -1.0))
    images = np.random.default_rng(2).standard_normal((5, 24, 9, 2))
    record = layer.forward([np.zeros(layer.weight_shape)], images)[1]
    ((abar, _),), (grid,) = layer.signals(record), layer.grids(record)
    overlap = PatchMoment.of(layer, grid)
    assert (overlap is not None) == used
    if not used:
        return
    sums = Sums()
    for rows in (slice(0, 2), slice(2, 5)):
        overlap.add(sums, "A", record[0][:, rows])
    flat = abar.reshape(-1, abar.shape[-1])
    close(overlap.total(sums, "A"), flat.T @ flat)


def test_factors_of_large_images_are_those_of_the_signals(chunk_size):
    net = mk.Network(
        [
            layers.Conv2d(2, 4, 5, padding=2),
            layers.ReLU(),
            layers.Conv2d(4, 3, (5, 3), stride=2),
            layers.Conv2d(3, 4, 3, padding="same", dilation=2),
            layers.Conv2d(4, 3, 3, padding=(1, 2), dilation=(1, 2)),
            layers.Flatten(),
            layers.Dense(120, 3),
        ],
        mk.outputs.Categorical(),
    )
    theta = net.init(np.random.default_rng(1))
    x = RNG.standard_normal((7, 20, 12, 2))
    matrix = fisher.gradient_and_kfac(net, theta, x, Y, "model").fisher
    for block, exact in zip(matrix.blocks, fisher.kfac(fisher.signals(net, theta, x)).blocks, strict=True):
        close(block.A, exact.A)
        close(block.G, exact.G)
