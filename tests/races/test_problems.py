"""Problems and recipes: the papers' autoencoders, parameters counted, data as a net takes it, constants."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from minikfac import layers, mlp, optim, outputs, presets
from minikfac.datasets import Dataset
from minikfac.races.problems import PROBLEMS, grey_patches, problem, reconstruction, standardized
from minikfac.races.recipes import KFC_RATES, RECIPES, Recipe, recipe, recipes_for
from minikfac.training import PerStep, train
from oracles import FLOAT32, close, loop_nll, loop_z
from oracles.dataset_files import (
    cifar_contents,
    small_cifar,
    small_mnist,
    small_usps,
    usps_lines,
    write_lines,
    write_mnist,
    write_svhn,
)

NAMES = [entry.name for entry in PROBLEMS]
EMBEDDED = ["digits", "digits-autoencoder", "digits-convnet"]


# the papers' autoencoders --------------------------------------------------------------

PAPERS = {
    "mnist": (presets.mnist_autoencoder, [784, 1000, 500, 250, 30], 2_837_314),
    "curves": (presets.curves_autoencoder, [784, 400, 200, 100, 50, 25, 6], 842_340),
    "faces": (presets.faces_autoencoder, [625, 2000, 1000, 500, 30], 7_537_655),
    "digits": (presets.digits_autoencoder, [64, 24, 12, 6], 3934),
}


@pytest.mark.parametrize("name", PAPERS)
def test_autoencoders_have_the_papers_sizes(name: str) -> None:
    make, down, n_params = PAPERS[name]
    net = make()
    sizes = [*down, *down[:-1][::-1]]
    assert net.shapes == tuple((n_in + 1, n_out) for n_in, n_out in pairwise(sizes))
    assert net.n_params == n_params == sum((a + 1) * b for a, b in pairwise(sizes))
    assert net.is_dense_chain
    hidden = [layer for layer in net.layers if not isinstance(layer, layers.Dense)]
    code = len(down) - 2
    assert [type(layer) for layer in hidden] == [
        layers.Identity if number == code else layers.Logistic for number in range(len(sizes) - 2)
    ]
    assert isinstance(net.output, outputs.Gaussian if name == "faces" else outputs.Bernoulli)


def test_width_scales_the_hidden_layers_but_not_the_code() -> None:
    net = presets.mnist_autoencoder(0.1)
    assert [shape[1] for shape in net.shapes] == [100, 50, 25, 30, 25, 50, 100, 784]


def test_an_autoencoder_is_its_definition() -> None:
    net = presets.autoencoder([3, 4, 2], "tanh", "gaussian")
    rng = np.random.default_rng(0)
    theta, x = rng.standard_normal(net.n_params), rng.standard_normal(3)
    kinds = [type(layer) for layer in net.layers[1::2]]
    assert kinds == [layers.Tanh, layers.Identity, layers.Tanh]
    same = mlp([3, 4, 2, 4, 3], "tanh", "gaussian")
    z = loop_z(same.unpack(theta), "tanh", x)
    close(same.loss(theta, x[None], x[None]), loop_nll("gaussian", z, x))
    assert abs(net.loss(theta, x[None], x[None]) - loop_nll("gaussian", z, x)) > 1e-3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: presets.autoencoder([64]), r"expected at least two sizes, inputs and code, got \[64\]"),
        (lambda: presets.autoencoder([4, 2], "step"), "expected one of .*identity, .*, got 'step'"),
        (lambda: presets.autoencoder([4, 2], output="categorical"), "expected output bernoulli or gaussian"),
        (lambda: presets.mnist_autoencoder(0), "expected a finite width above 0, got 0"),
    ],
)
def test_autoencoders_that_cannot_be_are_refused(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# data as a net takes it --------------------------------------------------------------


def images(n: int = 6, side: int = 27, channels: int = 3) -> Dataset:
    rng = np.random.default_rng(0)
    scale, shift = np.array([1.0, 2, 5])[:channels], np.array([3.0, 0, -1])[:channels]
    x_train, x_test = (shift + scale * rng.standard_normal((m, side, side, channels)) for m in (n, 2))
    return Dataset(x_train, np.arange(n) % 3, x_test, np.zeros(2, int), "random", class_names=("a", "b", "c"))


def test_a_reconstructions_targets_are_its_inputs() -> None:
    data = images(side=4, channels=1)
    made = reconstruction(data)
    assert made.y_train is made.x_train and made.y_test is made.x_test
    assert np.array_equal(made.x_train, data.x_train.reshape(6, 16))
    assert made.image_shape == (4, 4, 1) and made.n_classes is made.class_names is None


def test_channels_are_standardized_by_the_training_set() -> None:
    data = images()
    made = standardized(data.as_vectors())
    for channel in range(3):
        before, after = data.x_train[..., channel], made.x_train[..., channel]
        close(after.mean(), 0)
        close(after.std(), 1)
        slope = (data.x_test[0, 0, 0, channel] - before.mean()) / before.std()
        close(made.x_test[0, 0, 0, channel], slope)
    assert made.class_names == ("a", "b", "c") and abs(made.x_test.mean((0, 1, 2))).max() > 1e-3
    flat = Dataset(np.ones((2, 4, 4, 1)), np.arange(2), np.ones((2, 4, 4, 1)), np.arange(2), "flat")
    with pytest.raises(ValueError, match=r"flat: expected channels that vary, got .* \[0.0\]"):
        standardized(flat)


def test_grey_patches_are_the_middle_of_the_images() -> None:
    data = images()
    made = grey_patches(data)
    grey = data.x_train[2].mean(2)[1:26, 1:26]
    expected = (grey - grey.mean()) / np.sqrt(1e-4 + grey.var())
    close(made.x_train[2], expected.ravel())
    assert made.y_test is made.x_test and made.x_test.shape == (2, 625)
    with pytest.raises(ValueError, match="random: expected images of at least 28x28, got"):
        grey_patches(data, 28)


# problems --------------------------------------------------------------


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_problems_are_learned(name: str) -> None:
    task = problem(name, n_train=200, n_test=50)
    theta = task.theta()
    assert theta.dtype == task.dataset.x_train.dtype == np.float64 and task.batch_size == 200
    opt = optim.SGD(task.net, lr=0.02, momentum=0.5)
    history = train(task.net, theta, opt, task.dataset, 5, task.batch_size, progress=False)
    assert history["loss"][-1] < history["loss"][0]
    assert not np.array_equal(theta, task.theta(1)) and np.array_equal(theta, task.theta(0))


def data_folder(data: str, folder: Path) -> Path | None:
    """Small files of a data set."""
    if data == "mnist":
        write_mnist(folder, small_mnist())
    elif data == "usps":
        write_lines(folder / "zip.train.gz", usps_lines(*small_usps(6, 0)))
        write_lines(folder / "zip.test.gz", usps_lines(*small_usps(4, 1)))
    elif data == "cifar10":
        for name, content in cifar_contents().items():
            (folder / name).write_bytes(content)
    elif data == "svhn":
        for seed, (part, n) in enumerate((("train", 6), ("test", 3))):
            pixels, labels = small_cifar(n, seed)
            write_svhn(folder / f"{part}_32x32.mat", pixels, labels + 1)
    else:
        return None
    return folder


@pytest.mark.parametrize("entry", PROBLEMS, ids=NAMES)
def test_every_net_takes_its_data(entry, tmp_path: Path) -> None:
    folder = data_folder(entry.data, tmp_path)
    task = problem(entry.name, folder, n_train=5, n_test=2, width=0.1, dtype="float32")
    theta = task.theta()
    loss, gradient = task.net.loss_and_gradient(theta, task.dataset.x_train, task.dataset.y_train)
    assert np.isfinite(loss) and gradient.dtype == theta.dtype == np.float32
    first = task.net.unpack(theta)[0][:-1]
    if "autoencoder" in entry.name:
        assert task.dataset.y_train is task.dataset.x_train
        assert ((first != 0).sum(0) == 15).all()
    else:
        assert (first != 0).all()


def test_widths_are_those_of_the_papers_by_default() -> None:
    expected = {
        "digits": 3190,
        "digits-autoencoder": 3934,
        "digits-convnet": 666,
        "usps": 7030,
        "mnist-autoencoder": 2_837_314,
        "curves-autoencoder": 842_340,
        "patches-autoencoder": 7_537_655,
        "cifar10-kfc": 89_578,
        "svhn-kfc": 13_741_578,
    }
    assert {entry.name: entry.net(1.0).n_params for entry in PROBLEMS} == expected


def test_parameters_come_in_the_dtype_of_the_problem(tmp_path: Path) -> None:
    write_mnist(tmp_path, small_mnist())
    small = problem("mnist-autoencoder", tmp_path, width=0.01)
    assert small.theta().dtype == np.float32 and len(small.dataset.x_train) == small.batch_size == 7
    double = problem("mnist-autoencoder", tmp_path, width=0.01, dtype="float64")
    close(small.theta(), double.theta(), FLOAT32)
    close(double.dataset.x_train[3], small_mnist()["train-images-idx3-ubyte"][3].ravel() / 255)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(name="mnist"), "among digits, digits-autoencoder, .*, got 'mnist'; did you mean mnist-auto"),
        (dict(name="xyz"), "got 'xyz'$"),
        (dict(name="digits", width=0), "expected a finite width above 0, got 0"),
        (dict(name="digits", n_train=0), "expected n_train to be a whole number from 1 to 1500, got 0"),
        (dict(name="digits", folder="."), "digits: expected options among components, images"),
    ],
)
def test_unknown_problems_are_refused(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        problem(**arguments)


# recipes --------------------------------------------------------------


@pytest.mark.parametrize(
    "constants", RECIPES, ids=[f"{constants.problem}: {constants.name}" for constants in RECIPES]
)
def test_every_recipe_makes_an_optimizer(constants) -> None:
    entry = PROBLEMS[NAMES.index(constants.problem)]
    net = entry.net(0.05)
    opt = constants.make(net)
    assert type(opt).__name__ == constants.optimizer and opt.net is net
    assert {name: getattr(opt, name) for name in constants.arguments} == dict(constants.arguments)
    assert set(constants.ours) <= {*constants.arguments, "batch_size"}
    assert recipe(constants.problem, constants.name) is constants  # so names are unique


@pytest.mark.parametrize("name", EMBEDDED)
def test_recipes_of_the_small_problems_learn(name: str) -> None:
    task = problem(name, n_train=400, n_test=50)
    for constants in recipes_for(name).values():
        opt, size = constants.make(task.net), constants.batches(task.dataset)
        history = train(
            task.net, task.theta(), opt, task.dataset, 10, size, progress=False, averaging=constants.averaging
        )
        assert ("loss_average" in history.records[-1]) == (constants.averaging is not None)
        assert history["loss"][-1] < 0.9 * history["loss"][0]


def test_constants_are_the_papers() -> None:
    opt = recipe("mnist-autoencoder", "K-FAC").make(presets.mnist_autoencoder(0.01))
    assert (opt.lam, opt.l2, opt.tau1, opt.tau2) == (150, 1e-5, 1 / 8, 1 / 4)
    assert (opt.T1, opt.T2, opt.T3, opt.decay) == (5, 20, 20, 0.95)
    assert (opt.structure, opt.targets, opt.lr) == ("block_diagonal", "sampled", None) and opt.has_momentum
    assert opt.init(np.zeros(opt.net.n_params))["gamma"] == pytest.approx(12.247, abs=1e-3)
    curves = recipes_for("curves-autoencoder")
    tridiagonal = {**curves["K-FAC"].arguments, "structure": "block_tridiagonal"}
    assert curves["K-FAC tridiagonal"].arguments == tridiagonal
    assert recipe("mnist-autoencoder", "K-FAC without momentum").arguments["momentum"] is False
    nesterov = recipe("mnist-autoencoder", "Nesterov").arguments["momentum"]
    assert [nesterov(step) for step in (0, 250, 10**6)] == [0.5, 0.75, 0.99]
    for name, m in (("KFC-pre", 512), ("SGD", 128), ("SGD, large batches", 4096)):
        constants = recipe("cifar10-kfc", name)
        assert constants.batch_size == m and constants.arguments["momentum"] == 0.9
        assert constants.averaging == 50_000
        assert constants.arguments["lr"] in KFC_RATES and "from memory" in constants.source


@pytest.mark.parametrize("constants", [constants for constants in RECIPES if constants.averaging], ids=str)
def test_averages_keep_the_weights_of_the_papers(constants: Recipe) -> None:
    """0.99 of the old in each step [MG15]; over 50,000 examples [GM16]."""
    if isinstance(constants.averaging, PerStep):
        assert constants.averaging.weight == 0.99 and constants.batch_size in ("growing", "whole")
    else:
        retained = np.exp(-constants.batch_size / constants.averaging)
        assert retained == pytest.approx(0.99, rel=1e-12) or constants.averaging == 50_000


def test_batches_grow_as_in_the_paper_and_never_exceed_the_data() -> None:
    constants = recipe("mnist-autoencoder", "K-FAC")
    flat = np.zeros((60_000, 1))
    grow = constants.batches(Dataset(flat, flat, flat[:1], flat[:1], "many"))
    assert [grow(k - 1) for k in (1, 100, 250, 400, 500, 501)] == [1000, 2253, 7714, 26412, 60_000, 60_000]
    few = Dataset(flat[:300], flat[:300], flat[:1], flat[:1], "few")
    assert constants.batches(few) == 300
    assert recipe("mnist-autoencoder", "Nesterov").batches(few) == 300
    assert recipe("usps", "K-FAC").batches(few) == 300
    assert recipe("digits", "Nesterov").batches(few) == 250


def test_unknown_recipes_are_refused() -> None:
    with pytest.raises(ValueError, match="for digits among K-FAC, Nesterov, got 'Adam'"):
        recipe("digits", "Adam")
    with pytest.raises(ValueError, match=r"for faces among none; there are some for digits, .*, got 'K-FAC'"):
        recipe("faces", "K-FAC")
