"""Nets that come by name: shapes, parameters counted by hand, derivatives, and that they learn."""

import numpy as np
import pytest

import minikfac as mk
from minikfac import layers, presets
from oracles import FINITE_DIFFERENCE, OUTPUTS, close, derivative, random_targets, unit_vector

SMALL = {
    "tiny": presets.tiny_convnet(),
    "tiny, averages": presets.tiny_convnet("bernoulli", "logistic", "avg", (2, 3)),
    "cifar10": presets.cifar10_kfc(width=1 / 16),
    "cifar10, averages": mk.Network(presets.cifar10_kfc("avg", 1 / 16).layers, mk.outputs.Gaussian()),
    "svhn": presets.svhn_kfc(1 / 64),
    "inception": presets.small_inception((8, 8, 1), width=1),
    "three modules": presets.small_inception((4, 6, 2), 3, 2, 3, "tanh", "gaussian"),
    "resnet": presets.small_resnet((8, 8, 1), width=4, stages=2),
    "resnet, groups": presets.small_resnet((8, 8, 1), 10, 4, 2, 2, "group"),
    "resnet, layers": presets.small_resnet((5, 7, 2), 3, 2, 3, 1, "layer", "softplus", "bernoulli"),
    "resnet, bare": presets.small_resnet((8, 8, 1), width=4, stages=2, normalization=None),
}
IMAGES = {"three modules": (4, 6, 2), "resnet, layers": (5, 7, 2)}
every_net = pytest.mark.parametrize("name", SMALL)


def case(name, n=4):
    """A net, random parameters (biases, scales and shifts too), images and targets."""
    net, rng = SMALL[name], np.random.default_rng(0)
    theta = net.init(rng, "he")
    theta += 0.1 * rng.standard_normal(net.n_params)
    shape = IMAGES.get(name, (32, 32, 3) if name.startswith(("cifar10", "svhn")) else (8, 8, 1))
    x = rng.standard_normal((n, *shape))
    output = type(net.output).__name__.lower()
    return net, theta, x, random_targets(rng, output, n, net.shapes[-1][1])


# sizes --------------------------------------------------------------


def conv(kernel, c_in, c_out):
    """Weights and biases of a convolution; a dense layer is one of kernel 1."""
    return (kernel * kernel * c_in + 1) * c_out


def module(c_in, w):
    """Weights of an inception module: branch by branch, GoogLeNet's 3a over 32 times w."""
    return [
        conv(1, c_in, 2 * w),
        *(conv(1, c_in, 3 * w), conv(3, 3 * w, 4 * w)),
        *(conv(1, c_in, max(1, w // 2)), conv(5, max(1, w // 2), w)),
        conv(1, c_in, w),
    ]


def normalized(kernel, c_in, c_out):
    """Weights of a convolution without biases, and the scales and shifts behind it."""
    return [kernel * kernel * c_in * c_out, 2 * c_out]


COUNTED = {
    "tiny": (presets.tiny_convnet(), [conv(3, 1, 4), conv(3, 4, 8), conv(1, 2 * 2 * 8, 10)]),
    "cifar10": (
        presets.cifar10_kfc(),
        [conv(5, 3, 32), conv(5, 32, 32), conv(5, 32, 64), conv(1, 4 * 4 * 64, 10)],
    ),
    "half of cifar10": (
        presets.cifar10_kfc(width=0.5),
        [conv(5, 3, 16), conv(5, 16, 16), conv(5, 16, 32), conv(1, 4 * 4 * 32, 10)],
    ),
    "svhn": (
        presets.svhn_kfc(),
        [
            *(conv(5, 3, 96), conv(5, 96, 128), conv(5, 128, 256)),
            *(conv(1, 4 * 4 * 256, 2048), conv(1, 2048, 2048), conv(1, 2048, 10)),
        ],
    ),
    "inception": (
        presets.small_inception(),
        [conv(3, 3, 16), *module(16, 4), *module(32, 8), conv(1, 64, 10)],
    ),
    "three modules": (
        SMALL["three modules"],
        [conv(3, 2, 8), *module(8, 2), *module(16, 4), *module(32, 8), conv(1, 64, 3)],
    ),
    "resnet": (
        presets.small_resnet(),
        [
            *normalized(3, 3, 16),
            *(*normalized(3, 16, 16), *normalized(3, 16, 16)),
            *(*normalized(3, 16, 32), *normalized(3, 32, 32), *normalized(1, 16, 32)),
            *(*normalized(3, 32, 64), *normalized(3, 64, 64), *normalized(1, 32, 64)),
            conv(1, 64, 10),
        ],
    ),
    "resnet of two blocks": (
        SMALL["resnet, groups"],
        [
            *normalized(3, 1, 4),
            *(4 * normalized(3, 4, 4)),
            *(*normalized(3, 4, 8), *normalized(3, 8, 8), *normalized(1, 4, 8)),
            *(2 * normalized(3, 8, 8)),
            conv(1, 8, 10),
        ],
    ),
    "resnet, bare": (
        SMALL["resnet, bare"],
        [
            conv(3, 1, 4),
            *(conv(3, 4, 4), conv(3, 4, 4)),
            *(conv(3, 4, 8), conv(3, 8, 8), conv(1, 4, 8)),
            conv(1, 8, 10),
        ],
    ),
}


@pytest.mark.parametrize("name", COUNTED)
def test_parameters_are_those_counted_by_hand(name):
    net, counted = COUNTED[name]
    assert [place.stop - place.start for place in net.slices] == counted
    assert net.n_params == sum(counted)


def test_small_versions_are_small():
    assert presets.tiny_convnet().n_params < 1000
    for name in ("inception", "resnet", "resnet, groups", "resnet, bare"):
        assert SMALL[name].n_params < 5000


@pytest.mark.parametrize(
    ("net", "images", "grids"),
    [
        (SMALL["tiny"], (8, 8, 1), [8, 4, 1]),
        (SMALL["cifar10"], (32, 32, 3), [32, 16, 8, 1]),
        (SMALL["svhn"], (32, 32, 3), [32, 16, 8, 1, 1, 1]),
        (SMALL["inception"], (8, 8, 1), [8, *[8] * 6, *[4] * 6, 1]),
        (SMALL["resnet, bare"], (8, 8, 1), [8, *[8] * 2, *[4] * 3, 1]),
    ],
)
def test_images_shrink_as_they_should(net, images, grids):
    tape = net.forward(np.zeros(net.n_params), np.ones((1, *images)))
    assert tape.grids == [(side, side) for side in grids]


def test_layers_come_in_the_order_of_the_paper():
    kinds = [type(layer) for layer in presets.cifar10_kfc().layers]
    conv, relu, norm, avg = layers.Conv2d, layers.ReLU, layers.LocalResponseNorm, layers.AvgPool2d
    first, second, third = (
        [conv, layers.MaxPool2d, relu, norm],
        [conv, relu, avg, norm],
        [conv, relu, avg],
    )
    assert kinds == [*first, *second, *third, layers.Flatten, layers.Dense]
    averages = presets.cifar10_kfc("avg").layers
    assert sum(isinstance(layer, avg) for layer in averages) == 3 and averages[1] == layers.AvgPool2d(3, 2, 1)
    assert averages[3] == norm(3, alpha=5e-5, beta=0.75, k=1)  # Caffe's constants
    stage = [conv, relu, layers.MaxPool2d]
    dense = [layers.Dense, relu, layers.Dense, relu, layers.Dense]
    assert [type(layer) for layer in presets.svhn_kfc(0.1).layers] == [*3 * stage, layers.Flatten, *dense]


def test_an_inception_module_has_four_branches():
    branches = presets.small_inception((8, 8, 1), width=2, activation="tanh").layers[2].branches
    phi, conv = layers.Tanh(), layers.Conv2d
    assert [branch.layers for branch in branches] == [
        (conv(8, 4, 1), phi),
        (conv(8, 6, 1), phi, conv(6, 8, 3, padding=1), phi),
        (conv(8, 1, 1), phi, conv(1, 2, 5, padding=2), phi),
        (layers.MaxPool2d(3, 1, 1), conv(8, 2, 1), phi),
    ]


@pytest.mark.parametrize(
    ("normalization", "kind", "statistics"),
    [("batch", layers.BatchNorm, 9), ("group", layers.GroupNorm, 0), ("layer", layers.LayerNorm, 0)],
)
def test_each_convolution_of_a_resnet_is_normalized(normalization, kind, statistics):
    net = presets.small_resnet((8, 8, 1), 10, 4, 3, normalization=normalization)
    body = layers.Sequential(net.layers).parameter_layers
    convolutions, scales = body[:-1:2], body[1:-1:2]
    assert all(isinstance(layer, layers.Conv2d) and not layer.bias for layer in convolutions)
    assert all(isinstance(layer, kind) for layer in scales)
    assert len(convolutions) == len(scales) == 1 + 3 * 2 + 2
    assert len(net.init_stats()) == statistics


# passes --------------------------------------------------------------


@every_net
def test_outputs_are_finite_and_of_the_right_shape(name):
    net, theta, x, _ = case(name)
    p = net.predict(theta, x, net.init_stats())
    assert p.shape == (len(x), net.shapes[-1][1]) and np.isfinite(p).all()


@every_net
@pytest.mark.parametrize("train", [False, True])
def test_gradient_is_the_derivative_of_the_loss(name, train):
    net, theta, x, y = case(name)
    v = unit_vector(np.random.default_rng(1), net.n_params)

    def loss(at):
        return net.loss_and_gradient(at, x, y, net.init_stats(), train)[0]

    expected = derivative(loss, theta, v, h=1e-4)  # small steps: kinks of ReLU and of maxima are near
    close(net.loss_and_gradient(theta, x, y, net.init_stats(), train)[1] @ v, expected, FINITE_DIFFERENCE)


@every_net
def test_a_few_steps_down_the_gradient_lower_the_loss(name):
    net, theta, x, y = case(name, n=8)
    stats = net.init_stats()
    before = net.loss_and_gradient(theta, x, y, train=True)[0]
    for _ in range(10):
        _, gradient = net.loss_and_gradient(theta, x, y, train=True)
        stats = net.forward(theta, x, stats, train=True).stats
        theta = theta - 0.05 * gradient / max(1, np.linalg.norm(gradient))
    assert net.loss_and_gradient(theta, x, y, train=True)[0] < before - 0.05


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("make", [presets.tiny_convnet, presets.small_inception, presets.small_resnet])
def test_every_output_can_be_chosen(make, output):
    assert make(output=output).output == mk.outputs.OUTPUTS[output]()


@pytest.mark.parametrize("activation", layers.ACTIVATIONS)
@pytest.mark.parametrize("make", [presets.tiny_convnet, presets.small_inception, presets.small_resnet])
def test_every_activation_can_be_chosen(make, activation):
    kinds = {type(layer) for layer in make(activation=activation).layers}
    assert kinds & set(layers.ACTIVATIONS.values()) == {layers.ACTIVATIONS[activation]}


# what they refuse --------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: presets.tiny_convnet(pool="min"), "expected one of avg, max, got 'min'"),
        (lambda: presets.tiny_convnet("softmax"), "expected one of bernoulli, categorical, gaussian, got"),
        (
            lambda: presets.tiny_convnet(activation="sine"),
            "expected one of elu, gelu, .*, tanh, got 'sine'",
        ),
        (
            lambda: presets.tiny_convnet(channels=(4, 0)),
            r"expected tiny_convnet channels to be .* a pair of them, got \(4, 0\)",
        ),
        (lambda: presets.tiny_convnet(channels=(1, 2, 3)), r"expected tiny_convnet channels .*\(1, 2, 3\)"),
        (lambda: presets.cifar10_kfc("min"), "expected one of avg, max, got 'min'"),
        (lambda: presets.cifar10_kfc(width=0), "expected a finite width above 0, got 0"),
        (lambda: presets.svhn_kfc(-1), "expected a finite width above 0, got -1"),
        (lambda: presets.svhn_kfc(float("inf")), "expected a finite width above 0, got inf"),
        (
            lambda: presets.small_resnet(output="x"),
            "expected one of bernoulli, categorical, gaussian, got 'x'",
        ),
        (lambda: presets.small_inception(width=0.5), "expected small_inception width to be .* got 0.5"),
        (lambda: presets.small_inception(modules=0), "expected small_inception modules to be .* got 0"),
        (
            lambda: presets.small_inception((8, 3, 1), modules=3),
            r"expected input_shape \(H, W, C\) of at least 4 x 4, got \(8, 3, 1\)",
        ),
        (lambda: presets.small_inception(modules=True), "expected small_inception modules to be .* got True"),
        (lambda: presets.small_inception(8), r"expected input_shape \(H, W, C\) of at least 2 x 2, got 8"),
        (lambda: presets.small_inception((8.0, 8, 1)), r"expected input_shape .* got \(8\.0, 8, 1\)"),
        (lambda: presets.small_inception((8, 8)), r"expected input_shape \(H, W, C\) of at least 2 x 2, got"),
        (
            lambda: presets.small_resnet(normalization="instance"),
            "expected normalization batch, group, layer or None, got 'instance'",
        ),
        (lambda: presets.small_resnet(blocks=0), "expected small_resnet blocks to be a .* got 0"),
        (
            lambda: presets.small_resnet(width=6, normalization="group"),
            "expected a width that is a multiple of 4, for groups of 4 channels, got 6",
        ),
        (lambda: presets.small_resnet((2, 2, 1)), r"expected input_shape \(H, W, C\) of at least 4 x 4"),
    ],
)
def test_what_cannot_be_made_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_they_are_found_by_name():
    assert mk.presets is presets and presets.mlp is mk.mlp
