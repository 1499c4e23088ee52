"""Nets taken over from PyTorch: with PyTorch itself, and with look-alikes where it is not installed."""

from types import SimpleNamespace

import numpy as np
import pytest
from oracles import EXACT, FLOAT32, OUTPUTS, close, random_targets

import minikfac as mk
from minikfac import layers

# modules that look like PyTorch's --------------------------------------------------------------


class FakeTensor:
    def __init__(self, array):
        self.array = array

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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layers_and_weights_become_ours(dtype):
    first, second = linear(4, 5, dtype=dtype), linear(5, 3, bias=False, dtype=dtype)
    net, theta = mk.from_torch(
        Sequential(flatten(), Sequential(first, module("Sigmoid")), second), "gaussian"
    )
    assert net.layers == (layers.Dense(4, 5), layers.Logistic(), layers.Dense(5, 3, bias=False))
    assert theta.dtype == dtype
    W, V = net.unpack(theta)
    close(W, np.vstack([first.weight.array.T, first.bias.array]), rtol=0, atol=0)
    close(V, second.weight.array.T, rtol=0, atol=0)
    assert not any(np.shares_memory(theta, part.weight.array) for part in (first, second))


@pytest.mark.parametrize(
    ("kind", "ours"),
    [
        (module("Tanh"), layers.Tanh()),
        (module("Sigmoid"), layers.Logistic()),
        (module("ReLU"), layers.ReLU()),
        (module("Identity"), layers.Identity()),
        (module("Softplus", beta=1, threshold=20), layers.Softplus()),
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
            [linear(2, 2), module("GELU")],
            r"for layer 1, GELU\(\): known are Linear, Softplus .*, ReLU, Sigmoid",
        ),
        ([linear(2, 2), module("Softplus", beta=2)], r"no counterpart for layer 1, Softplus\(\): known are"),
        ([linear(2, 2), flatten()], r"no counterpart for layer 1, Flatten\(\): known are"),
        ([flatten(0), linear(2, 2)], r"no counterpart for layer 0, Flatten\(\): known are"),
        ([flatten(1, 2), linear(2, 2)], r"no counterpart for layer 0, Flatten\(\): known are"),
        ([Sequential(linear(2, 2), module("Tanh")), module("GELU")], r"no counterpart for layer 2, GELU\(\)"),
        ([module("Tanh")], "expected at least one layer with parameters, got none"),
        ([], "expected at least one layer with parameters, got none"),
        ([linear(2, 3), linear(2, 2)], r"expected 2 inputs to Dense\(.*, got 3"),
    ],
)
def test_what_has_no_counterpart_is_named(parts, message):
    with pytest.raises(ValueError, match=message):
        mk.from_torch(Sequential(*parts))


def test_other_modules_and_outputs_are_refused():
    with pytest.raises(ValueError, match=r"expected a torch\.nn\.Sequential, got Linear"):
        mk.from_torch(linear(2, 2))
    with pytest.raises(
        ValueError, match="expected output one of bernoulli, categorical, gaussian, got 'softmax'"
    ):
        mk.from_torch(Sequential(linear(2, 2)), "softmax")


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
    close(net.forward(theta, x).z, z.detach().numpy(), **tolerance)
    close(ours, loss.item(), **tolerance)
    parts = [part for part in model.modules() if isinstance(part, torch.nn.Linear)]
    for part, layer, DW in zip(parts, net.shapes, net.unpack(gradient), strict=True):
        weight, bias = layers.Dense.split(DW, part.bias is not None)
        assert weight.shape == tuple(part.weight.shape) and layer == DW.shape
        close(weight, part.weight.grad.numpy(), **tolerance)
        if bias is not None:
            close(bias, part.bias.grad.numpy(), **tolerance)


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
    found = [product.numpy() for product in torch.autograd.grad(along, parameters)]
    Ws = []
    for part in parts:
        weight = found.pop(0)
        Ws.append(layers.Dense.join(weight, None if part.bias is None else found.pop(0)))
    close(net.hessian_product(theta, net.forward(theta, x), y, v), net.pack(Ws), **EXACT)


@pytest.mark.oracle
def test_theta_is_a_copy_of_the_weights_of_pytorch():
    torch, model, _, _ = torch_case("gaussian")
    _, theta = mk.from_torch(model, "gaussian")
    before = theta.copy()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    close(theta, before, rtol=0, atol=0)


@pytest.mark.oracle
def test_layers_of_pytorch_without_counterpart_are_named():
    nn = pytest.importorskip("torch").nn
    with pytest.raises(ValueError, match=r"no counterpart for layer 1, Dropout\(p=0\.5.*\): leave it out"):
        mk.from_torch(nn.Sequential(nn.Linear(2, 2), nn.Dropout()))
    with pytest.raises(ValueError, match=r"no counterpart for layer 0, LSTM\(2, 2\): known are Linear"):
        mk.from_torch(nn.Sequential(nn.LSTM(2, 2)))
