"""Activations: their formulas, slopes and bends, also at 0 and far out, and against PyTorch's autograd."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

import minikfac as mk
from minikfac import layers, outputs
from minikfac.network.layers.pointwise import erf
from oracles import ACTIVATIONS, FINITE_DIFFERENCE, close, derivative, standin, unit_vector

POINTWISE = layers.ACTIVATIONS
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805
FORMULAS = {
    **ACTIVATIONS,
    "elu": lambda x: x if x > 0 else math.exp(x) - 1,
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    "leaky_relu": lambda x: x if x > 0 else 0.01 * x,
    "log_sigmoid": lambda x: math.log(1 / (1 + math.exp(-x))),
    "selu": lambda x: SELU_SCALE * (x if x > 0 else SELU_ALPHA * (math.exp(x) - 1)),
    "silu": lambda x: x / (1 + math.exp(-x)),
}
every_activation = pytest.mark.parametrize("name", POINTWISE)


@every_activation
def test_an_activation_is_its_formula(name):
    x = np.linspace(-3, 3, 13)
    close(POINTWISE[name]().value(x), [FORMULAS[name](float(v)) for v in x])


@every_activation
def test_slope_and_bend_are_first_and_second_derivatives(name):
    phi = POINTWISE[name]()
    x = np.linspace(-3, 3, 14)  # not 0, where some have a kink
    one = np.ones_like(x)
    close(phi.slope(x, phi.value(x)), derivative(phi.value, x, one), FINITE_DIFFERENCE)
    slope = derivative(lambda x: phi.slope(x, phi.value(x)), x, one)
    close(phi.bend(x, phi.value(x)), slope, FINITE_DIFFERENCE)


@every_activation
@pytest.mark.parametrize(("dtype", "far"), [(np.float64, 1e4), (np.float32, 1e3)])
def test_an_activation_neither_overflows_nor_warns_far_out(name, dtype, far):
    phi, x = POINTWISE[name](), np.array([-far, far], dtype)
    y = phi.value(x)
    limits = {
        "tanh": (-1, 1),
        "logistic": (0, 1),
        "identity": (-far, far),
        "elu": (-1, far),
        "leaky_relu": (-far / 100, far),
        "log_sigmoid": (-far, 0),
        "selu": (-SELU_SCALE * SELU_ALPHA, SELU_SCALE * far),
    }
    close(y, limits.get(name, (0, far)), 1e-7 if dtype == np.float32 else 1e-15)
    assert np.isfinite([phi.slope(x, y), phi.bend(x, y)]).all()


@every_activation
def test_an_activation_keeps_the_dtype_and_stays_on_the_device(name):
    phi = POINTWISE[name]()

    def values(x):
        y = phi.value(x)
        return [y, phi.slope(x, y), phi.bend(x, y)]

    x = np.linspace(-3, 3, 7, dtype=np.float32)
    expected = values(x)
    assert {array.dtype for array in expected} == {np.dtype(np.float32)}
    with standin.installed():
        there = values(mk.to_device(x))
        assert all(isinstance(array, standin.ndarray) for array in there)
        for array, host in zip(there, expected, strict=True):
            close(mk.to_host(array), host, 0)


def test_the_slope_of_relu_at_0():
    assert layers.ReLU().slope(np.zeros(1), np.zeros(1)) == 0


def test_the_error_function_has_15_digits():
    x = np.concatenate([np.linspace(-7, 7, 2801), [-40, -1e-5, 1e-300, 1e-10, 40]])
    expected = np.array([math.erf(v) for v in x])
    assert abs(erf(x) - expected).max() <= 1e-15
    small = abs(x) < 1
    assert (abs(erf(x) - expected)[small] <= 1e-15 * abs(expected[small])).all()  # so it keeps small ones


# value, slope and bend at these x, by PyTorch's autograd
AT = (-40.0, -2.5, -0.3, 0.0, 0.7, 40.0)
FROZEN = {
    layers.ELU(0.7): (
        (-0.7, -0.642540500963271, -0.181427245522797, 0, 0.7, 40),
        (0, 0.0574594990367292, 0.518572754477203, 0.7, 1, 1),
        (0, 0.0574594990367292, 0.518572754477203, 0, 0, 0),
    ),
    layers.GELU(): (
        (0, -0.0155241633144404, -0.114626573343314, 0, 0.530625443443849, 40),
        (0, -0.0376110859081452, 0.26767223317289, 0.5, 0.97661410113366, 1),
        (0, -0.0744952770976663, 0.728450727529601, 0.797884560802865, 0.47150343938381, 0),
    ),
    layers.TanhGELU(): (
        (0, -0.0150842660899986, -0.114629076457241, 0, 0.530570134705117, 40),
        (0, -0.0379515762126662, 0.267704548361198, 0.5, 0.976357218656104, 1),
        (0, -0.0762453920736129, 0.728148448433912, 0.797884560802865, 0.470862926844634, 0),
    ),
    layers.LeakyReLU(0.2): (
        (-8, -0.5, -0.06, 0, 0.7, 40),
        (0.2, 0.2, 0.2, 0.2, 1, 1),
        (0, 0, 0, 0, 0, 0),
    ),
    layers.LogSigmoid(): (
        (-40, -2.57888973429255, -0.854355244468527, -0.693147180559945, -0.403186048885458, 0),
        (1, 0.924141819978756, 0.574442516811659, 0.5, 0.331812227831834, 0),
        (0, -0.0701037165451081, -0.244458311690746, -0.25, -0.221712873293109, 0),
    ),
    layers.SELU(): (
        (-1.75809934084738, -1.61378575887324, -0.455667315379122, 0, 0.735490691148836, 42.0280394942192),
        (0, 0.144313581974134, 1.30243202546825, 1.75809934084738, 1.05070098735548, 1.05070098735548),
        (0, 0.144313581974134, 1.30243202546825, 0, 0, 0),
    ),
    layers.SiLU(): (
        (0, -0.189645450053109, -0.127667244956502, 0, 0.467731440517716, 40),
        (0, -0.0994011113415268, 0.352219989681117, 0.5, 0.823386783473342, 1),
        (0, -0.00846215652336885, 0.477997768194819, 0.5, 0.391220594677979, 0),
    ),
}


@pytest.mark.parametrize("phi", FROZEN, ids=repr)
def test_value_slope_and_bend_are_those_that_pytorch_once_gave(phi):
    x = np.array(AT)
    y = phi.value(x)
    for computed, frozen in zip((y, phi.slope(x, y), phi.bend(x, y)), FROZEN[phi], strict=True):
        np.testing.assert_allclose(computed, frozen, rtol=0, atol=1e-13)


@pytest.mark.oracle
@pytest.mark.parametrize("phi", [*FROZEN, *(make() for make in POINTWISE.values())], ids=repr)
def test_value_slope_and_bend_are_those_of_pytorchs_autograd(phi):
    import torch
    from torch import nn

    module = {
        layers.ELU: lambda: nn.ELU(phi.alpha),
        layers.GELU: nn.GELU,
        layers.Identity: nn.Identity,
        layers.LeakyReLU: lambda: nn.LeakyReLU(phi.negative_slope),
        layers.Logistic: nn.Sigmoid,
        layers.LogSigmoid: nn.LogSigmoid,
        layers.ReLU: nn.ReLU,
        layers.SELU: nn.SELU,
        layers.SiLU: nn.SiLU,
        layers.Softplus: lambda: nn.Softplus(threshold=100),
        layers.Tanh: nn.Tanh,
        layers.TanhGELU: lambda: nn.GELU("tanh"),
    }[type(phi)]()
    x = torch.tensor([*AT, 1e-9, -1e-9, -5.0, 6.0, *np.linspace(-4, 4, 33)], dtype=torch.float64)
    x.requires_grad_()
    theirs = module(x)
    (slope,) = torch.autograd.grad(theirs.sum(), x, create_graph=True)
    bend = torch.autograd.grad(slope.sum(), x)[0] if slope.requires_grad else torch.zeros_like(x)
    ours = x.detach().numpy()
    y = phi.value(ours)
    for computed, expected in ((y, theirs), (phi.slope(ours, y), slope), (phi.bend(ours, y), bend)):
        np.testing.assert_allclose(computed, expected.detach().numpy(), rtol=0, atol=1e-10)


def test_gradient_and_hessian_product_through_all_of_them():
    smooth = [layers.GELU(), layers.TanhGELU(), layers.SiLU(), layers.LogSigmoid(), layers.ELU(1.0)]
    chain = [part for phi in smooth for part in (layers.Dense(3, 3), phi)]
    net = mk.Network([*chain, layers.Dense(3, 2)], outputs.Gaussian())
    rng = np.random.default_rng(0)
    theta, x, y = rng.standard_normal(net.n_params), rng.standard_normal((6, 3)), rng.standard_normal((6, 2))
    v = unit_vector(rng, net.n_params)
    gradient = net.gradient(theta, x, y)
    close(v @ gradient, derivative(lambda t: net.loss(t, x, y), theta, v), FINITE_DIFFERENCE)
    along = derivative(lambda t: net.gradient(t, x, y), theta, v)
    close(net.hessian_product(theta, net.forward(theta, x), y, v), along, FINITE_DIFFERENCE)


def test_settings_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match=r"expected finite settings of an activation, got ELU\(alpha=inf, "):
        layers.ELU(math.inf)
    with pytest.raises(ValueError, match=r"expected finite .*, got LeakyReLU\(negative_slope=nan\)"):
        layers.LeakyReLU(math.nan)


def test_a_setting_of_a_class_of_ones_own_may_be_anything():
    @dataclass(frozen=True)
    class Named(layers.ReLU):
        label: str = "a"

    assert Named("b").label == "b"
