"""Nets taken over from PyTorch: with PyTorch itself, and with look-alikes where it is not installed."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest

import minikfac as mk
from minikfac import fisher, interop, layers, outputs
from oracles import EXACT, FLOAT32, OUTPUTS, close, random_targets

# modules that look like PyTorch's --------------------------------------------------------------


class FakeTensor:
    def __init__(self, array):
        self.array = array
        self.dtype = f"torch.{array.dtype}"

    def detach(self):
        return self

    def cpu(self):
        return self

    def numpy(self):
        return self.array


def module(kind, **attributes):
    """An object of a class of that name, printed like PyTorch's."""
    made = type(kind, (SimpleNamespace,), {"__repr__": lambda self: f"{kind}()"})
    return made(**attributes)


def linear(n_in, n_out, bias=True, dtype=np.float32):
    rng = np.random.default_rng(n_in)
    weight, b = (FakeTensor(rng.standard_normal(shape).astype(dtype)) for shape in ((n_out, n_in), n_out))
    return module("Linear", in_features=n_in, out_features=n_out, weight=weight, bias=b if bias else None)


class Sequential(list):
    """Named as in PyTorch."""

    def __init__(self, *parts):
        super().__init__(parts)


def flatten(start=1, end=-1):
    return module("Flatten", start_dim=start, end_dim=end)


def conv(c_in, c_out, kernel=(3, 3), bias=True, dtype=np.float64, **options):
    rng = np.random.default_rng(c_in)
    weight, b = (FakeTensor(rng.standard_normal(s).astype(dtype)) for s in ((c_out, c_in, *kernel), c_out))
    usual = dict(stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1, padding_mode="zeros")
    sizes = dict(in_channels=c_in, out_channels=c_out, kernel_size=kernel)
    return module("Conv2d", weight=weight, bias=b if bias else None, **sizes, **{**usual, **options})


def conv1d(c_in, c_out, kernel=3, groups=1, dtype=np.float64, **options):
    rng = np.random.default_rng(c_in)
    weight = FakeTensor(rng.standard_normal((c_out, c_in // groups, kernel)).astype(dtype))
    usual = dict(stride=(1,), padding=(0,), dilation=(1,), padding_mode="zeros", groups=groups)
    sizes = dict(in_channels=c_in, out_channels=c_out, kernel_size=(kernel,))
    bias = FakeTensor(rng.standard_normal(c_out).astype(dtype))
    return module("Conv1d", weight=weight, bias=bias, **sizes, **{**usual, **options})


def max_pool1d(kernel=2, **options):
    usual = dict(stride=kernel, padding=0, dilation=1, ceil_mode=False, return_indices=False)
    return module("MaxPool1d", kernel_size=kernel, **{**usual, **options})


def max_pool(kernel=2, **options):
    usual = dict(stride=kernel, padding=0, dilation=1, ceil_mode=False, return_indices=False)
    return module("MaxPool2d", kernel_size=kernel, **{**usual, **options})


def avg_pool(kernel=2, **options):
    usual = dict(stride=kernel, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None)
    return module("AvgPool2d", kernel_size=kernel, **{**usual, **options})


def global_pool(size=1):
    return module("AdaptiveAvgPool2d", output_size=size)


def norm(kind, features, **options):
    """BatchNorm1d, BatchNorm2d, GroupNorm of two groups, or LayerNorm, with random numbers."""
    rng = np.random.default_rng(features)
    numbers = dict(weight=rng.standard_normal(features), bias=rng.standard_normal(features))
    if kind.startswith("BatchNorm"):
        numbers |= dict(running_mean=rng.standard_normal(features), running_var=rng.uniform(1, 2, features))
        rest = dict(num_features=features, momentum=0.1)
    elif kind == "GroupNorm":
        rest = dict(num_groups=2, num_channels=features)
    else:
        rest = dict(normalized_shape=(features,))
    tensors = {name: FakeTensor(array) for name, array in numbers.items()}
    return module(kind, **{**tensors, **rest, "eps": 1e-5, **options})


def response_norm():
    return module("LocalResponseNorm", size=3, alpha=0.5, beta=0.7, k=2.0)


def container(kind, *parts):
    """A module with modules inside, printed on several lines."""
    made = type(kind, (SimpleNamespace,), {"__repr__": lambda self: f"{kind}(\n  (0): ...\n)"})
    return made(children=lambda: iter(parts))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layers_and_weights_become_ours(dtype):
    first, second = linear(4, 5, dtype=dtype), linear(5, 3, bias=False, dtype=dtype)
    net, theta = mk.from_torch(
        Sequential(flatten(), Sequential(first, module("Sigmoid")), second), "gaussian"
    )
    assert net.layers == (layers.Dense(4, 5), layers.Logistic(), layers.Dense(5, 3, bias=False))
    assert theta.dtype == dtype
    W, V = net.unpack(theta)
    close(W, np.vstack([first.weight.array.T, first.bias.array]), 0)
    close(V, second.weight.array.T, 0)
    assert not any(np.shares_memory(theta, part.weight.array) for part in (first, second))


@pytest.mark.parametrize(
    ("kind", "ours"),
    [
        (module("Tanh"), layers.Tanh()),
        (module("Sigmoid"), layers.Logistic()),
        (module("ReLU"), layers.ReLU()),
        (module("Identity"), layers.Identity()),
        (module("Softplus", beta=1, threshold=20), layers.Softplus()),
        (module("ELU", alpha=0.7), layers.ELU(0.7)),
        (module("GELU", approximate="none"), layers.GELU()),
        (module("GELU", approximate="tanh"), layers.TanhGELU()),
        (module("LeakyReLU", negative_slope=0.2), layers.LeakyReLU(0.2)),
        (module("LogSigmoid"), layers.LogSigmoid()),
        (module("SELU"), layers.SELU()),
        (module("SiLU"), layers.SiLU()),
    ],
    ids=repr,
)
def test_each_activation_has_its_counterpart(kind, ours):
    assert mk.from_torch(Sequential(linear(2, 2), kind))[0].layers[1] == ours


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_output_is_the_one_named(output):
    assert mk.from_torch(Sequential(linear(2, 2)), output)[0].output == mk.outputs.OUTPUTS[output]()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            [linear(2, 2), module("Softmax")],
            r"no counterpart for layer 1, Softmax\(\): leave it out: the categor",
        ),
        (
            [linear(2, 2), module("LogSoftmax")],
            "no counterpart for layer 1, .*: leave it out: the categorical",
        ),
        (
            [module("Dropout"), linear(2, 2)],
            "no counterpart for layer 0, .*: leave it out: curvature is studied",
        ),
        (
            [linear(2, 2), module("Hardtanh")],
            r"for layer 1, Hardtanh\(\): known are Linear, Conv1d and .*Softplus.*, ReLU, SELU, SiLU, Sig",
        ),
        (
            [linear(2, 2), module("Softplus", beta=2, threshold=20)],
            r"no counterpart for layer 1, Softplus\(\): known are",
        ),
        ([linear(2, 2), module("Softplus", beta=1, threshold=1)], r"Softplus\(\): .*beta 1, threshold 20"),
        ([flatten(0), linear(2, 2)], r"no counterpart for layer 0, Flatten\(\): only Flatten\(1, -1\) is"),
        ([flatten(1, 2), linear(2, 2)], r"no counterpart for layer 0, Flatten\(\): only Flatten\(1, -1\) is"),
        ([linear(2, 2), module("Dropout2d")], "no counterpart for layer 1, .*: leave it out: curvature is"),
        ([linear(2, 2, dtype=np.float16)], "for layer 0, .*: its weight is float16: convert by module.float"),
        (
            [conv(1, 2), container("BasicBlock", conv(2, 2))],
            "no counterpart for layer 1, BasicBlock: build the net by hand, with layers.Residual .*weights "
            "over by Dense.join and Conv2d.join",
        ),
        ([conv(4, 4, padding_mode="reflect")], r"for layer 0, .*: only padding_mode='zeros' is known"),
        ([max_pool(return_indices=True)], r"layer 0, .*: only return_indices=False is known"),
        ([avg_pool(divisor_override=3)], r"layer 0, AvgPool2d\(\): only divisor_override=None is known"),
        (
            [conv(1, 2), global_pool((None, 2))],
            r"1, AdaptiveAvgPool2d\(\): only outputs of a given size are known: a number in place of None",
        ),
        (
            [conv(1, 2), conv1d(2, 2)],
            r"1, Conv1d\(\): images \(N, C, H, W\) come in: it takes sequences",
        ),
        (
            [conv1d(1, 2), conv(2, 2)],
            r"1, .*: sequences \(N, C, T\) come in: it takes images \(N, C, H",
        ),
        (
            [conv1d(1, 2), linear(2, 2)],
            r"1, .*: sequences \(N, C, T\) come in: put a Flatten before it",
        ),
        (
            [max_pool1d(), flatten(), linear(4, 2)],
            r"layer 1, Flatten\(\): it is not known how many channels .*; build the net by hand, permute",
        ),
        (
            [max_pool(), flatten(), linear(4, 2)],
            r"layer 1, Flatten\(\): it is not known how many channels .*; build the net by hand, permute",
        ),
        ([conv(1, 2), flatten()], r"layer 1, .*: it gives outputs in the order .* put an AdaptiveAvgPool2d"),
        (
            [conv(1, 3), flatten(), linear(8, 2)],
            r"layer 2, .*: it takes 8 features, of images with 3 channels",
        ),
        (
            [conv(1, 2), linear(2, 2)],
            r"no counterpart for layer 1, .*: images .* come in: put a Flatten before",
        ),
        (
            [conv(1, 2), global_pool(), linear(2, 2)],
            r"for layer 2, .*: 1 x 1 images come in: put a Flatten before",
        ),
        (
            [linear(2, 2), conv(2, 2)],
            r"no counterpart for layer 1, .*: flat features come in: it takes images",
        ),
        ([flatten(), max_pool()], "no counterpart for layer 1, .*: flat features come in: it takes images"),
        (
            [conv(1, 2), global_pool(), conv(2, 2, (1, 1))],
            r"layer 2, .*: 1 x 1 images come in: use Flatten and Linear behind AdaptiveAvgPool2d\(1\)",
        ),
        (
            [conv(1, 2), norm("BatchNorm1d", 2)],
            r"layer 1, BatchNorm1d\(\): images .*: put a Flatten before it",
        ),
        ([conv(1, 2), global_pool(), norm("BatchNorm1d", 2)], "for layer 2, .*: put a Flatten before it"),
        (
            [linear(2, 2), norm("BatchNorm2d", 2)],
            r"layer 1, BatchNorm2d\(\): flat features come in: it takes",
        ),
        (
            [norm("BatchNorm1d", 2, momentum=None)],
            r"0, BatchNorm1d\(\): running statistics are averaged here: make it with a momentum above 0",
        ),
        (
            [norm("BatchNorm1d", 2, momentum=0.0)],
            "layer 0, .*: running statistics are averaged .* a momentum above 0",
        ),
        (
            [conv(1, 2), flatten(), norm("GroupNorm", 8)],
            r"layer 2, GroupNorm\(\): its groups of features would be others .*: put it before the Flatten",
        ),
        (
            [conv(1, 2), norm("LayerNorm", 2)],
            r"layer 1, LayerNorm\(\): only flat features or all of an example .*; for images use GroupNorm",
        ),
        (
            [conv(1, 2), norm("LayerNorm", 4, normalized_shape=(2, 2))],
            "layer 1, .*: only flat features or all of an example are normalized; for images use GroupNorm",
        ),
        (
            [linear(2, 2), norm("LayerNorm", 4, normalized_shape=(1, 2, 2))],
            r"layer 1, .*: flat features come in: it takes images \(N, C, H, W\)",
        ),
        (
            [norm("RMSNorm", 4, eps=None)],
            "layer 0, .*: its eps is that of the dtype: give a number, as in eps=1",
        ),
        ([Sequential(linear(2, 2), module("Mish"))], r"no counterpart for layer 0\.1, Mish\(\)"),
        ([module("Tanh")], "expected at least one layer with parameters, got none"),
        ([], "expected at least one layer with parameters, got none"),
        ([linear(2, 3), linear(2, 2)], r"expected 2 inputs to Dense\(.*, got 3"),
    ],
)
def test_what_has_no_counterpart_is_named(parts, message):
    with pytest.raises(ValueError, match=message):
        mk.from_torch(Sequential(*parts))


def test_a_layer_alone_is_a_net():
    first = linear(3, 2, dtype=np.float64)
    net, theta = mk.from_torch(first)
    assert net.layers == (layers.Dense(3, 2),) and mk.stats_from_torch(first) == []
    close(net.unpack(theta)[0], layers.Dense.join(first.weight.array, first.bias.array), 0)


def test_other_modules_and_outputs_are_refused():
    for read in (mk.from_torch, mk.stats_from_torch):
        with pytest.raises(ValueError, match=r"no counterpart for LSTM\(\): known are Linear, "):
            read(module("LSTM"))
    with pytest.raises(
        ValueError, match="expected output one of bernoulli, categorical, gaussian, got 'softmax'"
    ):
        mk.from_torch(Sequential(linear(2, 2)), "softmax")


def test_images_stay_channels_first_where_one_says_so():
    net, _ = mk.from_torch(Sequential(conv(2, 3), flatten(), linear(12, 2)), channels_first=True)
    assert net.layers[:2] == (layers.ChannelsLast(), CONV(2, 3))
    first = linear(12, 2, dtype=np.float64)
    net, theta = mk.from_torch(Sequential(flatten(), first), channels_first=True)
    images = np.random.default_rng(0).standard_normal((5, 3, 2, 2))
    theirs = images.reshape(5, -1) @ first.weight.array.T + first.bias.array
    close(net.forward(theta, images).z, theirs)
    with pytest.raises(ValueError, match="expected channels_first=False for a module that takes no images"):
        mk.from_torch(Sequential(linear(2, 2)), channels_first=True)


@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax"])
def test_a_softmax_is_left_out_only_where_the_output_applies_it(kind):
    message = f"for layer 1, {kind}.*: only a softmax at the end can be left out, and only for output='categ"
    for parts, output in (
        ([linear(2, 2), module(kind)], "gaussian"),
        ([linear(2, 2), module(kind)], "bernoulli"),
        ([linear(2, 2), module(kind), linear(2, 2)], "categorical"),
    ):
        with pytest.raises(ValueError, match=message):
            mk.from_torch(Sequential(*parts), output)


def test_a_sigmoid_that_the_output_applies_is_refused():
    parts = Sequential(linear(2, 2), module("Sigmoid"), linear(2, 2), module("Sigmoid"))
    with pytest.raises(ValueError, match=r"for layer 3, .*: leave the last Sigmoid out: the bernoulli"):
        mk.from_torch(parts, "bernoulli")
    assert len(mk.from_torch(parts, "gaussian")[0].layers) == 4
    with pytest.raises(ValueError, match=r"for layer 3, .*: only a softmax"):
        mk.from_torch(Sequential(*parts[:3], module("Softmax")), "bernoulli")


def test_weights_that_are_not_finite_are_named():
    last = linear(5, 2)
    last.weight.array[1, 1] = np.nan
    with pytest.raises(ValueError, match="expected finite weights, got NaN or infinite values in dense1"):
        mk.from_torch(Sequential(linear(4, 5), last))


def test_weights_without_numbers_are_refused():
    first = linear(2, 2)
    first.weight.is_meta = True
    with pytest.raises(ValueError, match="its weight is on the device 'meta', without numbers: load them"):
        mk.from_torch(Sequential(first))


def test_computed_weights_are_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"for layer 0, .*: take its weights .*remove_parametrizations"):
        mk.from_torch(Sequential(module("ParametrizedLinear"), linear(2, 2)))


def test_a_layer_behind_flatten_says_how_pytorch_orders_images():
    first = linear(12, 2, dtype=np.float64)
    net, theta = mk.from_torch(Sequential(flatten(), first))
    images = np.random.default_rng(0).standard_normal((3, 2, 2, 3))  # (N, H, W, C)
    advice = r"\(c, h, w\), x\.transpose\(0, 3, 1, 2\)\.reshape\(len\(x\), -1\)"
    with pytest.raises(ValueError, match=advice):
        net.forward(theta, images)
    with pytest.raises(ValueError, match=advice):
        mk.Network([layers.Conv2d(3, 3, 1), layers.Dense(12, 2)], net.output)
    theirs = images.transpose(0, 3, 1, 2).reshape(3, -1) @ first.weight.array.T + first.bias.array
    close(net.forward(theta, images.transpose(0, 3, 1, 2).reshape(len(images), -1)).z, theirs)
    other = images.reshape(3, -1)  # the order of our Flatten
    assert abs(net.forward(theta, other).z - theirs).max() > 0.1


def test_layers_with_the_same_weights_are_refused():
    first, last = linear(2, 2), linear(2, 2)
    tied = module("Linear", in_features=2, out_features=2, weight=first.weight, bias=last.bias)
    for again in (first, tied):
        with pytest.raises(
            ValueError, match=r"for layer 2, Linear\(\): its weights are those of layer 0; here"
        ):
            mk.from_torch(Sequential(first, module("Tanh"), again))
    assert len(mk.from_torch(Sequential(first, module("Tanh"), last))[0].shapes) == 2


def CONV(c_in, c_out, kernel=(3, 3), stride=(1, 1), padding=(0, 0), dilation=(1, 1), bias=True):
    """As PyTorch has its settings: pairs all."""
    return layers.Conv2d(c_in, c_out, kernel, stride, padding, bias, dilation=dilation)


@pytest.mark.parametrize(
    ("parts", "ours"),
    [
        ([conv(2, 3, (2, 3))], [CONV(2, 3, (2, 3))]),
        (
            [conv(2, 3, bias=False, stride=(2, 1), padding=(0, 1))],
            [CONV(2, 3, (3, 3), (2, 1), (0, 1), bias=False)],
        ),
        ([conv(2, 3, padding="same")], [CONV(2, 3, padding="same")]),
        ([conv(2, 3, padding="valid")], [CONV(2, 3, padding="valid")]),
        ([conv(2, 3, dilation=(2, 1))], [CONV(2, 3, dilation=(2, 1))]),
        ([conv(2, 3), max_pool(2, dilation=2)], [..., layers.MaxPool2d(2, 2, 0, 2)]),
        ([conv(2, 3), max_pool((2, 3), stride=1)], [..., layers.MaxPool2d((2, 3), 1, 0)]),
        ([conv(2, 3), avg_pool(3, stride=2, padding=1)], [..., layers.AvgPool2d(3, 2, 1)]),
        (
            [conv(2, 3), avg_pool(2, count_include_pad=False)],
            [..., layers.AvgPool2d(2, 2, 0, count_include_pad=False)],
        ),
        ([conv(2, 3), avg_pool(2, ceil_mode=True)], [..., layers.AvgPool2d(2, 2, 0, ceil_mode=True)]),
        ([conv(2, 3), max_pool(2, ceil_mode=True)], [..., layers.MaxPool2d(2, 2, 0, ceil_mode=True)]),
        ([conv(2, 3), global_pool((2, 3))], [..., layers.AdaptiveAvgPool2d((2, 3))]),
        ([conv1d(2, 3)], [layers.OnSequences(CONV(2, 3, (3, 1)))]),
        (
            [conv1d(2, 3, stride=(2,), padding=(1,), dilation=(2,))],
            [layers.OnSequences(CONV(2, 3, (3, 1), (2, 1), (1, 0), dilation=(2, 1)))],
        ),
        ([conv1d(2, 3, padding="same")], [layers.OnSequences(CONV(2, 3, (3, 1), padding="same"))]),
        (
            [conv1d(2, 3), max_pool1d(2, ceil_mode=True)],
            [..., layers.OnSequences(layers.MaxPool2d((2, 1), (2, 1), (0, 0), (1, 1), ceil_mode=True))],
        ),
        ([conv1d(2, 3), module("AdaptiveAvgPool1d", output_size=1)], [..., layers.GlobalAvgPool()]),
        (
            [conv1d(2, 3), module("AdaptiveAvgPool1d", output_size=2), flatten(), linear(6, 2)],
            [..., layers.OnSequences(layers.AdaptiveAvgPool2d((2, 1))), layers.Flatten(), layers.Dense(6, 2)],
        ),
        ([conv1d(2, 3), norm("BatchNorm1d", 3)], [..., layers.BatchNorm(3, 0.9, 1e-5)]),
        (
            [norm("BatchNorm1d", 2, running_mean=None, running_var=None)],
            [layers.BatchNorm(2, 0.0, 1e-5)],
        ),
        ([conv(2, 3), global_pool()], [..., layers.GlobalAvgPool()]),
        ([conv(2, 3), global_pool((1, 1)), flatten()], [..., layers.GlobalAvgPool()]),
        ([conv(2, 3), norm("BatchNorm2d", 3, momentum=0.25)], [..., layers.BatchNorm(3, 0.75, 1e-5)]),
        ([linear(2, 3), norm("BatchNorm1d", 3, eps=0.1)], [..., layers.BatchNorm(3, 0.9, 0.1)]),
        ([conv(2, 4), norm("GroupNorm", 4, eps=0.1)], [..., layers.GroupNorm(2, 4, 0.1)]),
        ([linear(2, 4), norm("GroupNorm", 4)], [..., layers.GroupNorm(2, 4, 1e-5)]),
        ([linear(2, 4), norm("LayerNorm", 4, eps=0.1)], [..., layers.LayerNorm(4, 0.1)]),
        ([linear(2, 4), norm("LayerNorm", 4, bias=None)], [..., layers.LayerNorm(4, 1e-5, bias=False)]),
        ([linear(2, 4), norm("RMSNorm", 4)], [..., layers.RMSNorm(4, 1e-5)]),
        (
            [norm("LayerNorm", 24, normalized_shape=(3, 2, 4), weight=None, bias=None), conv(3, 2, (1, 1))],
            [layers.Unscaled(layers.LayerNorm((2, 4, 3), 1e-5)), CONV(3, 2, (1, 1))],
        ),
        (
            [linear(2, 4), norm("LayerNorm", 4, weight=None, bias=None)],
            [..., layers.Unscaled(layers.LayerNorm(4, 1e-5))],
        ),
        (
            [linear(2, 4), norm("RMSNorm", 4, weight=None)],
            [..., layers.Unscaled(layers.RMSNorm(4, 1e-5))],
        ),
        (
            [conv(2, 4), norm("BatchNorm2d", 4, weight=None, bias=None)],
            [..., layers.Unscaled(layers.BatchNorm(4, 0.9, 1e-5))],
        ),
        (
            [conv(2, 4), norm("GroupNorm", 4, weight=None, bias=None)],
            [..., layers.Unscaled(layers.GroupNorm(2, 4, 1e-5))],
        ),
        (
            [module("ZeroPad2d", padding=(1, 0, 2, 0)), conv(2, 3)],
            [layers.ZeroPad2d((1, 0, 2, 0)), CONV(2, 3)],
        ),
        ([conv(2, 3), response_norm()], [..., layers.LocalResponseNorm(3, 0.5, 0.7, 2.0)]),
        ([linear(2, 4), flatten(), linear(4, 2)], [..., layers.Flatten(), layers.Dense(4, 2)]),
        ([conv(1, 2), flatten(-3, 3), linear(4, 2)], [..., layers.Flatten(), layers.Dense(4, 2)]),
        ([norm("BatchNorm2d", 4), flatten(), linear(8, 2)], [..., layers.Flatten(), layers.Dense(8, 2)]),
        ([norm("GroupNorm", 4), flatten(), linear(8, 2)], [..., layers.Flatten(), layers.Dense(8, 2)]),
        (
            [norm("GroupNorm", 4), linear(4, 2), flatten(), linear(2, 2)],
            [..., layers.Dense(4, 2), layers.Flatten(), layers.Dense(2, 2)],
        ),
    ],
)
def test_each_layer_has_its_counterpart(parts, ours):
    converted = mk.from_torch(Sequential(*parts))[0].layers
    assert converted[ours[0] is ... :] == tuple(layer for layer in ours if layer is not ...)


def test_groups_of_channels_are_convolutions_side_by_side():
    grouped = conv(4, 6, (3, 2), groups=2)
    grouped.weight = FakeTensor(np.random.default_rng(0).standard_normal((6, 2, 3, 2)))
    net, theta = mk.from_torch(Sequential(grouped))
    (layer,) = net.layers
    assert layer.branches == (CONV(2, 3, (3, 2)),) * 2 and net.names == ("conv0", "conv1")
    weight, bias = layer.split(net.unpack(theta))
    close(weight, grouped.weight.array, 0)
    close(bias, grouped.bias.array, 0)


def test_sequences_behind_a_flatten_are_permuted_and_stay_channels_first_where_one_says_so():
    first, last = conv1d(2, 3, 2), linear(12, 2, dtype=np.float64)
    whole = Sequential(first, flatten(), last)
    x = np.random.default_rng(0).standard_normal((5, 2, 5))
    windows = np.lib.stride_tricks.sliding_window_view(x, 2, 2)
    hidden = np.einsum("nctk,ock->not", windows, first.weight.array) + first.bias.array[:, None]
    expected = hidden.reshape(5, 12) @ last.weight.array.T + last.bias.array
    net, theta = mk.from_torch(whole)
    close(net.forward(theta, x.swapaxes(1, 2)).z, expected)
    net, theta = mk.from_torch(whole, channels_first=True)
    assert net.layers[0] == layers.ChannelsLast()
    close(net.forward(theta, x).z, expected)


def test_layer_norm_over_images_is_permuted():
    norm_of_all = norm("LayerNorm", 24, normalized_shape=(3, 2, 4))
    rng = np.random.default_rng(0)
    scale, shift = rng.standard_normal((2, 3, 2, 4))
    norm_of_all.weight, norm_of_all.bias = FakeTensor(scale), FakeTensor(shift)
    last = linear(24, 2, dtype=np.float64)
    net, theta = mk.from_torch(Sequential(norm_of_all, flatten(), last))
    x = rng.standard_normal((5, 3, 2, 4))
    flat = x.reshape(5, -1)
    xhat = (flat - flat.mean(1, keepdims=True)) / np.sqrt(flat.var(1, keepdims=True) + 1e-5)
    expected = (xhat * scale.ravel() + shift.ravel()) @ last.weight.array.T + last.bias.array
    close(net.forward(theta, x.transpose(0, 2, 3, 1)).z, expected)


def test_batch_norm_without_running_statistics_takes_those_of_a_batch():
    alone = norm("BatchNorm1d", 3, running_mean=None, running_var=None)
    whole = Sequential(linear(2, 3, dtype=np.float64), alone)
    net, theta = mk.from_torch(whole)
    x = np.random.default_rng(0).standard_normal((7, 2))
    s = x @ whole[0].weight.array.T + whole[0].bias.array
    expected = (s - s.mean(0)) / np.sqrt(s.var(0) + 1e-5) * alone.weight.array + alone.bias.array
    close(net.forward(theta, x, net.batch_stats(theta, x)).z, expected)
    close(net.forward(theta, x, train=True).stats[0], net.batch_stats(theta, x)[0], 0)
    with pytest.raises(ValueError, match=r"1, BatchNorm1d\(\): it takes .*net\.batch_stats\(theta, x\)"):
        mk.stats_from_torch(whole)


# Flatten runs over (c, h, w) there and over (h, w, c) here. The oracle stays in PyTorch's layout.

C, H, W = 3, 2, 4


def behind_flatten(*parts):
    """What a Sequential that begins with Flatten becomes; a convolution that changes nothing says C."""
    same = conv(C, C, (1, 1), bias=False)
    same.weight = FakeTensor(np.eye(C)[:, :, None, None])
    module = Sequential(same, flatten(), *parts)
    images = np.random.default_rng(1).standard_normal((5, C, H, W))
    net, theta = mk.from_torch(module, "gaussian")
    z = net.forward(theta, images.transpose(0, 2, 3, 1), mk.stats_from_torch(module)).z
    return z, images.reshape(5, C * H * W)


def test_the_first_linear_behind_a_flatten_of_images_is_permuted():
    first, second = linear(C * H * W, 6, dtype=np.float64), linear(6, 2, dtype=np.float64)
    z, x = behind_flatten(module("ReLU"), first, module("Tanh"), flatten(), second)
    hidden = np.tanh(np.maximum(x, 0) @ first.weight.array.T + first.bias.array)
    close(z, hidden @ second.weight.array.T + second.bias.array)
    without, _ = mk.from_torch(Sequential(flatten(), first))
    assert without.layers == (layers.Dense(C * H * W, 6),)


def test_normalization_between_flatten_and_linear_is_permuted_with_its_statistics():
    batch, layer = norm("BatchNorm1d", C * H * W), norm("LayerNorm", C * H * W)
    last = linear(C * H * W, 2, bias=False, dtype=np.float64)
    z, x = behind_flatten(batch, module("Tanh"), layer, last)
    x = (x - batch.running_mean.array) / np.sqrt(batch.running_var.array + 1e-5)
    x = np.tanh(x * batch.weight.array + batch.bias.array)
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    close(z, (x * layer.weight.array + layer.bias.array) @ last.weight.array.T)


def test_one_channel_or_one_pixel_needs_no_permutation():
    pooled, grey = conv(2, 3), conv(2, 1)
    last = linear(3, 2, dtype=np.float64)
    for parts in ([pooled, global_pool(), flatten(), last], [grey, flatten(), last]):
        net, theta = mk.from_torch(Sequential(*parts))
        close(net.unpack(theta)[-1][:-1], last.weight.array.T, 0)
    assert len(mk.from_torch(Sequential(grey, flatten()))[0].layers) == 2  # outputs, in one order anyway


def test_running_statistics_are_copies_in_the_layers_order():
    first, second = norm("BatchNorm2d", 3), norm("BatchNorm1d", 2)
    whole = Sequential(conv(1, 3), first, Sequential(global_pool(), flatten(), linear(3, 2), second))
    stats = mk.stats_from_torch(whole)
    net, theta = mk.from_torch(whole)
    assert [running.shape for running in net.init_stats()] == [running.shape for running in stats]
    for running, part, W in zip(stats, (first, second), [net.unpack(theta)[n] for n in (1, 3)], strict=True):
        close(running, [part.running_mean.array, part.running_var.array], 0)
        close(W, [part.weight.array, part.bias.array], 0)
        assert not np.shares_memory(running, part.running_mean.array)
    assert mk.stats_from_torch(Sequential(linear(2, 2))) == []


# PyTorch itself --------------------------------------------------------------


def torch_case(output, dtype="float64"):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    nn = torch.nn
    inner = nn.Sequential(nn.Linear(6, 5, bias=False), nn.Softplus(), nn.Linear(5, 4), nn.ReLU())
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(4, 6), nn.Tanh(), inner, nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 3)
    ).to(getattr(torch, dtype))
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((7, 4)).astype(dtype), random_targets(rng, output, 7, 3)
    y = y if output == "categorical" else y.astype(dtype)
    return torch, model, x, y


def torch_loss(torch, output, z, y):
    functional = torch.nn.functional
    if output == "categorical":
        return functional.cross_entropy(z, y)
    if output == "bernoulli":
        return functional.binary_cross_entropy_with_logits(z, y, reduction="sum") / len(z)
    return functional.mse_loss(z, y, reduction="sum") / 2 / len(z)


@pytest.mark.oracle
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", EXACT), ("float32", FLOAT32)])
def test_outputs_loss_and_gradient_are_those_of_pytorch(output, dtype, tolerance):
    torch, model, x, y = torch_case(output, dtype)
    net, theta = mk.from_torch(model, output)
    z = model(torch.from_numpy(x))
    loss = torch_loss(torch, output, z, torch.from_numpy(y))
    loss.backward()
    ours, gradient = net.loss_and_gradient(theta, x, y)
    assert theta.dtype == gradient.dtype == dtype
    close(net.forward(theta, x).z, z.detach().numpy(), tolerance)
    close(ours, loss.item(), tolerance)
    parts = [part for part in model.modules() if isinstance(part, torch.nn.Linear)]
    for part, layer, DW in zip(parts, net.shapes, net.unpack(gradient), strict=True):
        weight, bias = layers.Dense.split(DW, part.bias is not None)
        assert weight.shape == tuple(part.weight.shape) and layer == DW.shape
        close(weight, part.weight.grad.numpy(), tolerance)
        if bias is not None:
            close(bias, part.bias.grad.numpy(), tolerance)


@pytest.mark.oracle
@pytest.mark.parametrize("output", OUTPUTS)
def test_hessian_products_are_those_of_pytorch(output):
    torch, model, x, y = torch_case(output)
    net, theta = mk.from_torch(model, output)
    v = np.random.default_rng(1).standard_normal(net.n_params)
    parameters, directions = [], []
    parts = [part for part in model.modules() if isinstance(part, torch.nn.Linear)]
    for part, V in zip(parts, net.unpack(v), strict=True):
        weight, bias = layers.Dense.split(V, part.bias is not None)
        parameters += [part.weight, *([] if bias is None else [part.bias])]
        directions += [torch.from_numpy(d) for d in (weight, bias) if d is not None]
    loss = torch_loss(torch, output, model(torch.from_numpy(x)), torch.from_numpy(y))
    gradient = torch.autograd.grad(loss, parameters, create_graph=True)
    along = sum((g * d).sum() for g, d in zip(gradient, directions, strict=True))
    products = [product.numpy() for product in torch.autograd.grad(along, parameters)]
    Ws = []
    for part in parts:
        weight = products.pop(0)
        Ws.append(layers.Dense.join(weight, None if part.bias is None else products.pop(0)))
    close(net.hessian_product(theta, net.forward(theta, x), y, v), net.pack(Ws))


@pytest.mark.oracle
def test_theta_is_a_copy_of_the_weights_of_pytorch():
    torch, model, _, _ = torch_case("gaussian")
    _, theta = mk.from_torch(model, "gaussian")
    before = theta.copy()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    close(theta, before, 0)


@pytest.mark.oracle
def test_layers_of_pytorch_without_counterpart_are_named():
    nn = pytest.importorskip("torch").nn
    with pytest.raises(ValueError, match=r"no counterpart for layer 1, Dropout\(p=0\.5.*\): leave it out"):
        mk.from_torch(nn.Sequential(nn.Linear(2, 2), nn.Dropout()))
    with pytest.raises(ValueError, match=r"no counterpart for layer 0, LSTM\(2, 2\): known are Linear"):
        mk.from_torch(nn.Sequential(nn.LSTM(2, 2)))


def image_models(nn):
    """Nets of images (N, 3, 9, 12) with every layer that has a counterpart; the first has nearly all."""
    conv = nn.Sequential(
        nn.Conv2d(3, 4, (3, 2), stride=(1, 2), padding=(1, 0)),
        nn.BatchNorm2d(4),
        nn.Tanh(),
        nn.MaxPool2d((2, 3), stride=(1, 2), padding=(1, 1)),
        nn.GroupNorm(2, 4),
        nn.Conv2d(4, 6, (2, 3), padding="same", bias=False),
        nn.LocalResponseNorm(3, alpha=0.5, beta=0.7, k=2.0),
        nn.ReLU(),
        nn.AvgPool2d(3, stride=2, padding=1),
    )
    features = 6 * 5 * 2
    return {
        "all": nn.Sequential(
            conv,
            nn.Flatten(),
            nn.Softplus(),
            nn.BatchNorm1d(features, momentum=0.3, eps=1e-3),
            nn.Identity(),
            nn.LayerNorm(features),
            nn.Linear(features, 8),
            nn.Sigmoid(),
            nn.BatchNorm1d(8),
            nn.GroupNorm(4, 8),
            nn.LayerNorm(8, eps=1e-3),
            nn.Linear(8, 3),
        ),
        "global": nn.Sequential(
            nn.GroupNorm(1, 3),
            nn.Conv2d(3, 6, 3, stride=2),
            nn.BatchNorm2d(6),
            nn.AdaptiveAvgPool2d(1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.GroupNorm(3, 6),
            nn.Flatten(),
            nn.Linear(6, 3),
        ),
        "pool first": nn.Sequential(
            nn.AvgPool2d(2),
            nn.MaxPool2d(2, padding=1),
            nn.Conv2d(3, 3, 1),
            nn.Flatten(-3, 3),
            nn.Linear(3 * 3 * 4, 3, bias=False),
        ),
        "convolution only": nn.Sequential(
            nn.Conv2d(3, 2, (9, 12), padding="valid"), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        ),
    }


def plain_norms(nn):
    """A net of images (N, 3, 9, 12) whose normalizations lack a shift, or a scale too."""
    return nn.Sequential(
        nn.ZeroPad2d((2, 0, 1, 1)),
        nn.Conv2d(3, 4, 3, dilation=(2, 1)),
        nn.ZeroPad2d((0, 0, 0, 1)),
        nn.MaxPool2d((2, 3), (1, 1), (0, 1), dilation=(1, 2)),
        nn.BatchNorm2d(4, affine=False, momentum=0.3),
        nn.Tanh(),
        nn.GroupNorm(2, 4, affine=False),
        nn.Flatten(),
        nn.BatchNorm1d(280, affine=False),
        nn.Linear(280, 6),
        nn.LayerNorm(6, bias=False),
        nn.RMSNorm(6, eps=1e-3),
        nn.Linear(6, 5),
        nn.LayerNorm(5, elementwise_affine=False),
        nn.RMSNorm(5, eps=1e-3, elementwise_affine=False),
        nn.Linear(5, 3),
    )


def image_case(name, dtype="float64"):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = plain_norms(torch.nn) if name == "plain norms" else image_models(torch.nn)[name]
    model = model.to(getattr(torch, dtype))
    with torch.no_grad():
        for part in model.modules():  # scales, shifts and statistics that are not all alike
            if "Norm" in part.__class__.__name__ and getattr(part, "weight", None) is not None:
                part.weight.uniform_(0.5, 2)
            if "Norm" in part.__class__.__name__ and getattr(part, "bias", None) is not None:
                part.bias.normal_()
            if part.__class__.__name__ in ("BatchNorm1d", "BatchNorm2d"):
                part.running_mean.normal_(std=0.3)
                part.running_var.uniform_(0.5, 2)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 3, 9, 12)).astype(dtype)
    return torch, model, x, rng.integers(0, 2, 5)


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(
    ("name", "dtype", "tolerance"),
    [
        ("all", "float64", EXACT),
        ("all", "float32", FLOAT32),  # the next loses digits in training, in PyTorch too
        ("global", "float64", EXACT),
        ("pool first", "float64", EXACT),
        ("plain norms", "float64", EXACT),
        ("convolution only", "float64", EXACT),
    ],
)
def test_outputs_and_gradients_on_images_are_those_of_pytorch(name, train, dtype, tolerance):
    torch, model, x, y = image_case(name, dtype)
    net, theta = mk.from_torch(model)
    stats, images = mk.stats_from_torch(model), x.transpose(0, 2, 3, 1)
    z = model.train(train)(torch.from_numpy(x)).reshape(len(x), -1)
    loss = torch.nn.functional.cross_entropy(z, torch.from_numpy(y))
    loss.backward()
    ours, gradient = net.loss_and_gradient(theta, images, y, stats, train)
    assert theta.dtype == gradient.dtype == dtype
    close(net.forward(theta, images, stats, train).z, z.detach().numpy(), tolerance)
    close(ours, loss.item(), tolerance)
    derivatives = copy.deepcopy(model)  # a net whose weights are the gradient
    for parameter, source in zip(derivatives.parameters(), model.parameters(), strict=True):
        parameter.data = source.grad
    close(gradient, mk.from_torch(derivatives)[1], tolerance)


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
def test_statistics_of_pytorch_are_needed_for_the_same_outputs():
    torch, model, x, _ = image_case("all")
    net, theta = mk.from_torch(model)
    z = model.eval()(torch.from_numpy(x)).detach().numpy()
    assert abs(net.forward(theta, x.transpose(0, 2, 3, 1)).z - z).max() > 0.1


@pytest.mark.oracle
def test_modules_of_pytorch_without_counterpart_are_named():
    nn = pytest.importorskip("torch").nn
    block = nn.TransformerEncoderLayer(4, 2)
    with pytest.raises(ValueError, match=r"for layer 1, TransformerEncoderLayer: build the net by hand"):
        mk.from_torch(nn.Sequential(nn.Linear(4, 4), block))
    with pytest.raises(ValueError, match=r"layer 0, Conv2d\(2, 2, .*groups=2, padding_mode=ref.*: only pad"):
        mk.from_torch(nn.Sequential(nn.Conv2d(2, 2, 3, groups=2, padding_mode="reflect")))
    with pytest.raises(ValueError, match=r"layer 0, Linear\(.*\): its weight is bfloat16: convert by"):
        mk.from_torch(nn.Sequential(nn.Linear(2, 2)).bfloat16())
    shared = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"layer 2, Linear\(.*\): its weights are those of layer 0"):
        mk.from_torch(nn.Sequential(shared, nn.Tanh(), shared))


def models_of_groups_and_sequences(nn):
    """A net of images (N, 3, 9, 12), the others of sequences (N, 3, 11)."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = (
                nn.Conv1d(4, 4, 3, padding="same", dilation=2, bias=False),
                nn.BatchNorm1d(4),
            )

        def forward(self, x):
            return nn.functional.max_pool1d(
                nn.functional.silu(self.norm(self.conv(x))) + x, 2, ceil_mode=True
            )

    return {
        "grouped": nn.Sequential(
            nn.LayerNorm((3, 9, 12)),
            nn.Conv2d(3, 4, 2),
            nn.Tanh(),
            nn.Conv2d(4, 6, (3, 2), groups=2, padding=(1, 0), bias=False),
            nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
            nn.Conv2d(6, 6, 3, groups=6, padding="same"),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.LayerNorm((6, 3, 3), bias=False),
            nn.AdaptiveAvgPool2d((2, 3)),
            nn.BatchNorm2d(6),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(24, 3),
        ),
        "chain": nn.Sequential(
            nn.Conv1d(3, 4, 3, stride=2, padding=2),
            nn.BatchNorm1d(4),
            nn.GELU(),
            nn.Conv1d(4, 6, 2, groups=2),
            nn.LayerNorm((6, 6)),
            nn.GroupNorm(3, 6),
            nn.AvgPool1d(2, padding=1, ceil_mode=True, count_include_pad=False),
            nn.Flatten(),
            nn.Linear(24, 3),
        ),
        "residual": nn.Sequential(nn.Conv1d(3, 4, 1), Block(), Block(), Pooled(nn, -1), nn.Linear(4, 3)),
        "adaptive": nn.Sequential(
            nn.Conv1d(3, 4, 4), nn.Tanh(), nn.AdaptiveAvgPool1d(3), nn.Flatten(), nn.Linear(12, 3)
        ),
    }


@pytest.mark.oracle
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", ["grouped", "chain", "residual", "adaptive"])
def test_gradients_and_hessian_products_of_groups_and_sequences_are_those_of_pytorch(name, train):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = models_of_groups_and_sequences(torch.nn)[name].double()
    with torch.no_grad():
        for part in model.modules():
            if "Norm" in part.__class__.__name__:
                part.weight.uniform_(0.5, 2)
            if hasattr(part, "running_var"):
                part.running_mean.normal_(std=0.3)
                part.running_var.uniform_(0.5, 2)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 3, 9, 12) if name == "grouped" else (5, 3, 11))
    y = rng.integers(0, 3, 5)
    net, theta = mk.from_torch(model)
    stats, inputs = mk.stats_from_torch(model), np.moveaxis(x, 1, -1)
    loss = torch.nn.functional.cross_entropy(model.train(train)(torch.from_numpy(x)), torch.from_numpy(y))
    parameters = list(model.parameters())
    gradient = torch.autograd.grad(loss, parameters, create_graph=True)
    directions = [torch.from_numpy(rng.standard_normal(parameter.shape)) for parameter in parameters]
    along = sum((g * d).sum() for g, d in zip(gradient, directions, strict=True))
    product = torch.autograd.grad(along, parameters)

    def ours(arrays):
        """As if they were the weights."""
        other = copy.deepcopy(model)
        for parameter, array in zip(other.parameters(), arrays, strict=True):
            parameter.data = array.detach()
        return mk.from_torch(other)[1]

    value, ours_gradient = net.loss_and_gradient(theta, inputs, y, stats, train)
    close(value, loss.item(), 1e-10)
    close(ours_gradient, ours(gradient), 1e-10)
    H = mk.fisher.hessian(net, theta, inputs, y, stats, train)
    close(H @ ours(directions), ours(product), 1e-10)


@pytest.mark.oracle
def test_batch_norm_without_running_statistics_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    norm_alone = torch.nn.BatchNorm2d(4, track_running_stats=False)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 2), norm_alone, torch.nn.Flatten(), torch.nn.Linear(16, 3)
    )
    net, theta = mk.from_torch(model.double())
    x = np.random.default_rng(0).standard_normal((6, 2, 3, 3))
    images = x.transpose(0, 2, 3, 1)
    z = model.eval()(torch.from_numpy(x)).detach().numpy()
    close(net.forward(theta, images, net.batch_stats(theta, images)).z, z)


# the function of the module, not its names ------------------------------------------


def small_model(nn, dtype=None):
    """Two hidden layers."""
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 3)).to(dtype)


def halve(*arguments):
    """A forward hook."""
    return 0.5 * arguments[-1]


def halve_inputs(part, inputs):
    """A hook before forward."""
    return tuple(0.5 * value for value in inputs)


def weight_norm(torch, model):
    """Weights that a hook computes from a direction and a length."""
    part = torch.nn.utils.weight_norm(model[2])
    part.weight_g.data *= 2


def spectral_norm(torch, model):
    torch.nn.utils.spectral_norm(model[2])
    model[2].weight_orig.data *= torch.linspace(0.1, 1, 5)[:, None]


def other_class(torch, model):
    class Linear(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x).clamp(-0.1, 0.1)

    model[2] = Linear(5, 5)


CHANGES = {
    "a hook": (lambda torch, model: model[2].register_forward_hook(halve), "from layer 2 on, Linear"),
    "a hook before": (
        lambda torch, model: model[1].register_forward_pre_hook(halve_inputs),
        "from layer 1 on, Tanh",
    ),
    "a hook on all": (
        lambda torch, model: model.register_forward_hook(halve),
        "in the module around its layers",
    ),
    "weight_norm": (weight_norm, "from layer 2 on, Linear"),
    "spectral_norm": (spectral_norm, "from layer 2 on, Linear"),
    "a class of the same name": (other_class, "from layer 2 on, Linear"),
}


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("change", "place"), CHANGES.values(), ids=CHANGES)
def test_a_module_that_computes_something_else_is_refused(change, place, dtype):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = small_model(torch.nn)
    change(torch, model)
    model = model.to(getattr(torch, dtype))
    with pytest.raises(ValueError, match=rf"got outputs with a relative error of \d\S* on random.*, {place}"):
        mk.from_torch(model)


@pytest.mark.oracle
def test_a_module_that_fails_is_refused():
    torch = pytest.importorskip("torch")
    model = small_model(torch.nn)

    def fails(*_):
        raise KeyError("mask")

    model[1].register_forward_hook(fails)
    with pytest.raises(
        ValueError, match=r"expected a module that runs on inputs \(8, 4\), got KeyError: 'mas"
    ):
        mk.from_torch(model)
    assert all(part.training for part in model.modules())


@pytest.mark.oracle
@pytest.mark.parametrize("training", [True, False])
def test_the_module_stays_as_it_was(training):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Flatten())
    model = nn.Sequential(model, nn.Linear(3 * 4 * 4, 3), nn.BatchNorm1d(3)).train(training)
    model[0][1].eval()
    before, modes = copy.deepcopy(model.state_dict()), [part.training for part in model.modules()]
    random = torch.random.get_rng_state()
    mk.from_torch(model)
    assert [part.training for part in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


@pytest.mark.oracle
def test_the_size_of_images_is_tried_or_given():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    square = nn.Sequential(nn.Conv2d(1, 2, 5), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2 * 13 * 13, 3))
    oblong = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 5 * 11, 3))
    for model in (square, oblong):
        assert len(mk.from_torch(model)[0].shapes) == 2
    wide = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 3 * 997, 3))
    with pytest.raises(
        ValueError, match=r"images \(N, 1, H, W\) of a size that fits, got none .*input_shape"
    ):
        mk.from_torch(wide)
    assert len(mk.from_torch(wide, input_shape=(1, 5, 999))[0].shapes) == 2
    with pytest.raises(ValueError, match=r"a module that runs on inputs \(8, 1, 5, 5\), got RuntimeError"):
        mk.from_torch(wide, input_shape=(1, 5, 5))


@pytest.mark.oracle
def test_parametrized_and_meta_modules_are_refused():
    torch = pytest.importorskip("torch")
    model = small_model(torch.nn)
    torch.nn.utils.parametrizations.weight_norm(model[2])
    with pytest.raises(ValueError, match=r"for layer 2, .*: take its weights .*remove_parametrizations"):
        mk.from_torch(model)
    torch.nn.utils.parametrize.remove_parametrizations(model[2], "weight")
    assert len(mk.from_torch(model)[0].shapes) == 3
    with pytest.raises(ValueError, match=r"layer 0, Linear.*: its weight is on the device 'meta', without"):
        mk.from_torch(small_model(torch.nn).to("meta"))


# graphs --------------------------------------------------------------


def classes():
    """Modules of classes of ones own, with every form of a step that has a counterpart."""
    nn = pytest.importorskip("torch").nn
    import torch
    from torch.nn import functional

    class Block(nn.Module):
        """As torchvision's BasicBlock."""

        def __init__(self, c_in, c_out, stride=1):
            super().__init__()
            self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(c_out)
            self.relu = nn.ReLU(inplace=True)
            self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(c_out)
            self.downsample = None
            if c_in != c_out:
                self.downsample = nn.Sequential(
                    nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
                )

        def forward(self, x):
            identity = x if self.downsample is None else self.downsample(x)
            out = self.relu(self.bn1(self.conv1(x)))
            out = self.bn2(self.conv2(out))
            out += identity
            return self.relu(out)

    class Inception(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.three = nn.Conv2d(4, 2, 1), nn.Conv2d(4, 3, 3, padding=1)

        def forward(self, x, scale=None, training=False):
            if training:
                return x
            pooled = functional.max_pool2d(x, 3, stride=1, padding=1)
            return torch.cat([self.one(x), functional.gelu(self.three(x), approximate="tanh"), pooled], dim=1)

    class Residual(nn.Sequential):
        def forward(self, x):
            return super().forward(x) + x

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 3, padding=1)
            self.blocks = nn.ModuleList([Block(4, 4), Block(4, 6, 2)])
            self.fc1, self.fc2 = nn.Linear(6 * 3 * 3, 5), nn.Linear(5, 3)

        def forward(self, x):
            x = functional.avg_pool2d(torch.tanh(self.stem(x)), 2)
            for block in self.blocks:
                x = functional.leaky_relu(block(x), 0.2)
            x = functional.silu(self.fc1(x.view(x.size(0), -1)))
            return self.fc2(functional.elu(x, alpha=0.5).sigmoid())

    return {
        "blocks": nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), Block(4, 4), Block(4, 6, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        ),
        "a whole net": Whole(),
        "branches": nn.Sequential(
            nn.Conv2d(3, 4, 1), Inception(), Pooled(nn), nn.Linear(9, 5), Residual(nn.Linear(5, 5), nn.Tanh())
        ),
        "a block alone": Block(3, 3),
        "twice": Twice(nn),
    }


def Pooled(nn, axes=(2, 3)):
    """The mean over locations, by a method."""

    class Mean(nn.Module):
        def forward(self, x):
            return x.mean(axes)

    return Mean()


def Twice(nn):
    """Residuals inside a residual, and x + x."""

    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.three = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            y = x + self.one(x).relu()
            return (y + self.two(y)).add(self.three(y)) + (y + y)

    return Inner()


def changed(model):
    """In float64, with scales, shifts and statistics that are not all alike."""
    import torch

    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.weight.uniform_(0.5, 2)
                part.bias.normal_()
                part.running_mean.normal_(std=0.3)
                part.running_var.uniform_(0.5, 2)
    return model.double()


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["blocks", "a whole net", "branches", "a block alone", "twice"])
@pytest.mark.parametrize("train", [False, True])
def test_outputs_and_gradients_of_other_classes_are_those_of_pytorch(name, train):
    import torch

    torch.manual_seed(0)
    model = changed(classes()[name])
    net, theta = mk.from_torch(model, input_shape=(3, 12, 12) if name == "a whole net" else None)
    stats, rng = mk.stats_from_torch(model), np.random.default_rng(0)
    x = rng.standard_normal((5, 4) if name == "twice" else (5, 3, 12, 12))
    images = x if x.ndim == 2 else x.transpose(0, 2, 3, 1)
    z = model.train(train)(torch.from_numpy(x))
    body = layers.Sequential(net.layers)
    ours, record = body.forward(net.unpack(theta), images, None if train else stats)
    close(ours, z.detach().movedim(1, -1).numpy())
    dz = rng.standard_normal(ours.shape)
    z.movedim(1, -1).backward(torch.from_numpy(dz))
    gs = body.backward(net.unpack(theta), record, dz)[1]
    gradient = np.empty_like(theta)
    for layer, memo, g, out in zip(
        net.parameter_layers, body.records(record), gs, net.unpack(gradient), strict=True
    ):
        layer.weight_gradient(memo, g, out)
    derivatives = copy.deepcopy(model.eval())  # a net whose weights are the gradient
    for parameter, source in zip(derivatives.parameters(), model.parameters(), strict=True):
        parameter.data = source.grad
    shape = (3, 12, 12) if name == "a whole net" else None
    close(gradient, mk.from_torch(derivatives, input_shape=shape)[1], 1e-11)


@pytest.mark.oracle
def test_the_layers_of_other_classes():
    models = classes()
    blocks = mk.from_torch(models["blocks"])[0].layers
    assert [type(layer) for layer in blocks[1:4]] == [layers.Residual, layers.ReLU, layers.Residual]
    assert len(blocks[1].body.layers) == 5 and blocks[1].shortcut == layers.Sequential(())
    inception, mean = mk.from_torch(models["branches"])[0].layers[1:3]
    assert [type(branch) for branch in inception.branches] == [
        layers.Conv2d,
        layers.Sequential,
        layers.MaxPool2d,
    ]
    assert mean == layers.GlobalAvgPool()


@pytest.mark.oracle
def test_graphs_that_cannot_be_followed_are_named():
    torch = pytest.importorskip("torch")
    nn = torch.nn

    def made(forward, **parts):
        kind = type("Odd", (nn.Module,), {"forward": forward})
        odd = kind()
        for name, part in parts.items():
            setattr(odd, name, part)
        return odd

    def constant(self, x):
        return torch.ones(3)

    fc, other = nn.Linear(4, 4), nn.Linear(4, 2)
    for odd, message in (
        (
            made(lambda self, x: x if x.sum() > 0 else -x),
            "its graph cannot be followed, TraceError: .*control",
        ),
        (made(lambda self, x, mask: x + mask), "it takes 2 inputs, x, mask; build the net by hand"),
        (made(lambda self, x: (x, x)), "it gives a tuple, not one array"),
        (made(constant), "no counterpart for layer 1, _tensor_constant0"),
        (
            made(lambda self, x: self.fc(x) * x, fc=fc),
            "layer 1, mul: known are sums and concatenations .*ReLU",
        ),
        (made(lambda self, x: self.fc(x) + 1, fc=fc), "layer 1, add: known are sums .* begin at one place"),
        (made(lambda self, x: torch.add(x, x, alpha=2)), "layer 1, add: known are sums"),
        (
            made(lambda self, x: self.fc(self.fc(x)), fc=fc),
            r"layer 1\.fc, .* are those of layer 1\.fc; here no",
        ),
        (made(lambda self, x: x + self.p, p=nn.Parameter(torch.ones(4))), "layer 1, add: known are sums"),
        (made(lambda self, x: self.p, p=nn.Parameter(torch.ones(4))), "layer 1, p: known are sums"),
        (made(lambda self, x: torch.softmax(x, 1) + x), "layer 1, Softmax.*: only a softmax at the end"),
        (
            made(lambda self, x: nn.functional.dropout(x, 0.5, self.training)),
            r"layer 1, Dropout\(.*leave it out",
        ),
        (
            made(lambda self, x: torch.cat([x, self.fc(x)], 0), fc=fc),
            "layer 1, cat: only features and channels",
        ),
        (made(lambda self, x: x.flatten()), r"layer 1, Flatten\(start_dim=0.*: only Flatten\(1, -1\)"),
        (made(lambda self, x: x.reshape(2, -1, 2)), "layer 1, reshape: known are"),
        (
            made(lambda self, x: self.inner(x), inner=made(lambda self, x: x.exp())),
            r"layer 1\.inner, exp: known",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            mk.from_torch(nn.Sequential(nn.Linear(4, 4), odd, other))


@pytest.mark.oracle
def test_branches_that_do_not_fit_together_are_named():
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Joined(nn.Module):
        def __init__(self, join, *branches):
            super().__init__()
            self.join, self.branches = join, nn.ModuleList(branches)

        def forward(self, x):
            return self.join([branch(x) for branch in self.branches])

    def concatenated(axis):
        return lambda parts: torch.cat(parts, axis)

    def sequential(*parts):
        return nn.Sequential(nn.Conv2d(1, 2, 1), *parts)

    flat, order = (
        nn.Sequential(nn.Flatten(), nn.Linear(18, 2)),
        nn.Sequential(nn.Flatten(), nn.Linear(18, 18)),
    )
    images = "layer 1, add: some of its branches give images, some features"
    axes = "layer 1, cat: only features and channels are joined here, along axis 1: do so before a Flatten"
    for model, message in (
        (Joined(sum_of, flat, nn.Conv2d(2, 2, 1)), images),
        (Joined(sum_of, nn.Flatten(), order), "or features in another order"),
        (Joined(concatenated(1), nn.Flatten(), nn.Flatten()), axes),
        (Joined(concatenated(2), nn.ReLU(), nn.Tanh()), axes),
        (Joined(concatenated(-1), nn.ReLU(), nn.Tanh()), axes),
    ):
        with pytest.raises(ValueError, match=message):
            mk.from_torch(sequential(model))
    images = Joined(concatenated(-3), nn.ReLU(), nn.Tanh())
    assert len(mk.from_torch(sequential(images, nn.Flatten(), nn.Linear(36, 2)))[0].layers) == 4


def sum_of(parts):
    return parts[0] + parts[1]


@pytest.mark.oracle
def test_channels_first_is_what_the_module_takes():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = changed(classes()["blocks"])
    net, theta = mk.from_torch(model, channels_first=True)
    x = np.random.default_rng(0).standard_normal((4, 3, 8, 6))
    theirs = model.eval()(torch.from_numpy(x)).detach().numpy()
    close(net.forward(theta, x, mk.stats_from_torch(model)).z, theirs)


@pytest.mark.oracle
def test_a_class_of_ones_own_that_computes_something_else_is_refused():
    """A sum in place changes x, which the shortcut reads after it: not the residual that the graph shows."""
    torch = pytest.importorskip("torch")

    class InPlace(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(3, 3)

        def forward(self, x):
            return self.fc(torch.relu_(x)) + x

    torch.manual_seed(0)
    with pytest.raises(ValueError, match="in the module around its layers; is there a hook"):
        mk.from_torch(torch.nn.Sequential(torch.nn.Linear(3, 3), InPlace()))


# along sequences ------------------------------------------------------------------------------------------


@pytest.mark.oracle
def test_linear_along_a_sequence():
    """A module at each position, with a loss there, or flattened with one loss."""
    import torch

    module = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3)).double()
    x = np.random.default_rng(0).standard_normal((6, 7, 5))
    net, theta = mk.from_torch(module, outputs.CategoricalPerPosition(7))
    z = module(torch.tensor(x)).detach().numpy()
    close(net.forward(theta, x).z.reshape(z.shape), z, 1e-10)
    flat = torch.nn.Sequential(*module, torch.nn.Flatten(), torch.nn.Linear(21, 2)).double()
    net, theta = mk.from_torch(flat, input_shape=(7, 5))
    close(net.forward(theta, x).z, flat(torch.tensor(x)).detach().numpy(), 1e-10)
    with pytest.raises(ValueError, match=r"expected a module that runs on inputs \(8, 6, 5\)"):
        mk.from_torch(flat, input_shape=(6, 5))
    of_positions = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 3))
    with torch.no_grad():
        of_positions[1].weight[:] = torch.arange(1.0, 5.0)
    with pytest.raises(ValueError, match="relative error of"):  # it normalizes positions there, features here
        mk.from_torch(of_positions.double(), outputs.CategoricalPerPosition(4))


@pytest.mark.oracle
def test_explore_of_sequences_moves_no_axis_of_layers_of_features():
    import torch

    module = torch.nn.Sequential(torch.nn.LayerNorm(5), torch.nn.Linear(5, 3)).double()
    x, y = torch.randn(30, 5, 5).double(), torch.randint(0, 3, (30, 5))
    seen = mk.explore(module, (x, y), output=outputs.CategoricalPerPosition(5), progress=False)
    close(seen.x, x.numpy())


@pytest.mark.oracle
def test_the_mean_of_pytorch_runs_over_positions():
    import torch

    module = torch.nn.Sequential(torch.nn.Linear(5, 3)).double()
    x, y = torch.randn(6, 4, 5).double(), torch.randint(0, 3, (6, 4))
    net, theta = mk.from_torch(module, outputs.CategoricalPerPosition(4))

    def loss(weight, bias):
        return torch.nn.functional.cross_entropy((x @ weight.T + bias).mT, y)

    H = torch.autograd.functional.hessian(loss, (module[0].weight, module[0].bias))
    F = interop.convert(fisher.exact(fisher.signals(net, theta, x.numpy())).to_dense(), net, x.numpy())
    close(F[:15, :15], H[0][0].reshape(15, 15).detach().numpy(), 1e-10)
