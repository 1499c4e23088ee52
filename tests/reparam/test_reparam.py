"""Equivalent networks: one function, the affine map of parameters, Fisher matrices, and what is refused."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import minikfac as mk
from minikfac import datasets, fisher, linalg, outputs, reparam
from minikfac.network.layers import (
    Affine,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dense,
    Flatten,
    GroupNorm,
    Identity,
    LayerNorm,
    LocalResponseNorm,
    Logistic,
    MaxPool2d,
    Parallel,
    ReLU,
    Residual,
    Tanh,
)
from oracles import FINITE_DIFFERENCE, FLOAT32, close, derivative, standin
from oracles.layers import Case as LayerCase
from oracles.layers import Pass
from oracles.reparam import ARCHITECTURES, Case, colors

ROUNDING = 1e-12
"""z of two nets after products with matrices of condition number up to 10 or so."""
LOOSE = 1e-10
"""The same where whitening has its way with a covariance of larger condition number."""


# the layer --------------------------------------------------------------

RNG = np.random.default_rng(0)
U3, C3 = RNG.standard_normal((3, 3)), RNG.standard_normal(3)


@pytest.mark.parametrize("shape", [(3,), (2, 4, 3)])
@pytest.mark.parametrize(
    "layer",
    [
        Affine(U3, C3),
        Affine(U3),
        Affine(C3, U3[0]),
        Affine(c=C3),
        Affine(-2.0),
        Affine(0.5, 0.5),
        Affine(U3, 1.0),
    ],
)
def test_an_affine_layer_forward_backward_and_along_a_direction(layer, shape):
    at = Pass(LayerCase(layer, shape))
    matrix = layer.U if layer.U.ndim == 2 else layer.U * np.eye(3)
    flat = at.x.reshape(-1, 3)
    expected = [
        [sum(row[i] * matrix[i, o] for i in range(3)) + np.broadcast_to(layer.c, 3)[o] for o in range(3)]
        for row in flat
    ]
    close(at.y, np.array(expected).reshape(at.x.shape))
    close(at.jvp(), derivative(at.moved, 0.0, 1.0), FINITE_DIFFERENCE)
    dx, gs = layer.backward([], at.record, np.stack([at.u, 2 * at.u]))
    assert gs == [] and layer.backward([], at.record, at.u, need_dx=False) == (None, [])
    close((dx[1] * at.dx).sum(), 2 * (at.u * at.jvp()).sum())
    assert layer.jvp([], [], at.record, None) == (None, None)


def test_an_affine_layer_has_no_curvature_of_its_own():
    net = mk.Network([Affine(U3, C3), Dense(3, 4), Tanh(), Affine(2.0, 1.0), Dense(4, 2)], outputs.Gaussian())
    rng = np.random.default_rng(1)
    theta, x, y = net.init(rng), rng.standard_normal((5, 3)), rng.standard_normal((5, 2))
    v = rng.standard_normal(net.n_params)
    tape = net.forward(theta, x)
    close(
        net.hessian_product(theta, tape, y, v),
        derivative(lambda t: net.gradient(theta + t * v, x, y), 0.0, 1.0),
        FINITE_DIFFERENCE,
    )


@pytest.mark.parametrize(
    "a", [Affine(U3, C3), Affine(C3, U3[0]), Affine(-2.0, C3), Affine(0.5, 0.5), Affine()]
)
@pytest.mark.parametrize("b", [Affine(U3.T, U3[1]), Affine(U3[2]), Affine(3.0, -1.0)])
def test_two_affine_maps_are_one(a, b):
    x = np.random.default_rng(0).standard_normal((2, 3, 3, 3))
    close(a.then(b).forward([], x)[0], b.forward([], a.forward([], x)[0])[0])


def test_affine_layers_are_told_apart_by_their_constants():
    assert repr(Affine(0.5, 0.25)) == "Affine(U=0.5, c=0.25)"
    assert repr(Affine(U3)) == repr(Affine(U3.copy())) != repr(Affine(U3 + 1e-9))
    with pytest.raises(ValueError, match="read-only"):
        Affine(U3).U[0] = 1


def test_an_affine_layer_keeps_dtype_and_copies_constants():
    U = U3.copy()
    layer = Affine(U, C3)
    U[:] = 0
    x = np.ones((2, 3), np.float32)
    assert layer.forward([], x)[0].dtype == np.float32
    close(layer.forward([], x)[0], U3.sum(0) + [C3, C3], FLOAT32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            dict(U=np.ones((2, 3))),
            r"expected U of Affine to be \(C, C\), \(C,\) or a number, got shape \(2, 3\)",
        ),
        (dict(U=np.ones((2, 2, 2))), "expected U of Affine"),
        (dict(c=np.ones((2, 2))), r"expected c of Affine to be \(C,\) or a number"),
        (dict(c=np.ones(0)), "expected c of Affine"),
        (dict(U=np.nan), "expected U of Affine to be finite"),
        (dict(U=U3, c=np.ones(2)), "expected U and c of Affine for one C"),
    ],
)
def test_an_affine_layer_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        Affine(**options)


def test_an_affine_layer_refuses_other_features():
    with pytest.raises(ValueError, match=r"expected 3 features or channels into Affine.*, got 4"):
        mk.Network([Dense(2, 4), Affine(U3), Dense(4, 1)], outputs.Gaussian())


# the same function --------------------------------------------------------------

MAPS = {
    "affine": lambda case: reparam.random(case.net, np.random.default_rng(1)),
    "orthogonal": lambda case: reparam.random(case.net, np.random.default_rng(1), kind="orthogonal"),
    "diagonal": lambda case: reparam.random(case.net, np.random.default_rng(1), kind="diagonal"),
    "center": lambda case: reparam.center(case.net, case.theta, case.x, case.stats),
    "normalize": lambda case: reparam.normalize(case.net, case.theta, case.x, case.stats),
    "whiten derivatives": lambda case: reparam.whiten_derivatives(
        case.net, case.theta, case.x, stats=case.stats, layers=_with_free_outputs(case.net)
    ),
    "two": lambda case: _two(case),
}


def _ordinary(net):
    return [l for l, layer in enumerate(net.parameter_layers) if isinstance(layer, Dense | Conv2d)]


def _with_free_outputs(net):
    """A layer normalization takes a direction of its input away, so that G there is singular."""
    return [l for l in _ordinary(net) if "layernorm" not in "".join(net.names[l + 1 : l + 2])]


def _two(case):
    first = reparam.random(case.net, np.random.default_rng(1))
    return reparam.random(first.net, np.random.default_rng(2)) @ first


def agree(case: Case, r: reparam.Reparameterization, tolerance: float = ROUNDING) -> None:
    other = r.push(case.theta)
    close(case.z(r.net, other), case.z(case.net, case.theta), tolerance)
    close(r.pull(other), case.theta, tolerance)
    assert other.shape == case.theta.shape and r.net.output == case.net.output


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", MAPS)
def test_the_nets_agree(architecture, name):
    case = ARCHITECTURES[architecture](Tanh)
    r = MAPS[name](case)
    agree(case, r, LOOSE if name == "whiten derivatives" else ROUNDING)
    assert np.linalg.norm(r.push(case.theta) - case.theta) > 0.1


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name not in ("normalized",)])
def test_the_nets_agree_after_whitening(architecture):
    case = ARCHITECTURES[architecture](Tanh)
    layers = _ordinary(case.net)
    if architecture not in ("dense", "pooled", "pooled to nothing"):  # more features than examples
        layers = layers[:-1]
    agree(case, reparam.whiten(case.net, case.theta, case.x, case.stats, layers), LOOSE)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_nets_agree_with_tanh_for_logistic_units(architecture):
    case = ARCHITECTURES[architecture](Logistic)
    r = reparam.logistic_to_tanh(case.net)
    agree(case, r)
    assert "Logistic" not in repr(r.net.layers) and "Tanh" in repr(r.net.layers)


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name != "residual"])
def test_the_nets_agree_after_rescaling(architecture):
    case = ARCHITECTURES[architecture](ReLU)
    r = reparam.rescale(case.net, rng=np.random.default_rng(1))
    agree(case, r)
    if architecture not in (
        "padded with numbers",
        "parallel",
        "sequences",
    ):  # rows inside of rows are one row then
        assert repr(r.net.layers) == repr(case.net.layers)  # other parameters alone


def test_the_nets_agree_in_whitened_colors():
    case = ARCHITECTURES["padded with numbers"](Tanh)
    agree(case, reparam.whiten_colors(case.net, case.x))


@given(
    st.lists(st.integers(1, 5), min_size=2, max_size=4),
    st.sampled_from([Tanh, Logistic, ReLU, Identity]),
    st.sampled_from(["affine", "orthogonal", "diagonal"]),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_dense_nets_agree(sizes, phi, kind, seed, bias):
    layers = []
    for a, b in itertools.pairwise(sizes):
        layers += [phi(), Dense(a, b, bias)]
    case = Case(layers[1:], (sizes[0],), 5)
    rng = np.random.default_rng(seed)
    first = reparam.random(case.net, rng, kind=kind)
    second = reparam.random(first.net, rng)
    agree(case, first)
    agree(case, second @ first, 1e-11)
    d = rng.standard_normal(case.net.n_params)
    close(first.push_step(d), first.push(case.theta + d) - first.push(case.theta), ROUNDING)
    if phi is Logistic and bias and len(sizes) > 2:
        agree(case, reparam.logistic_to_tanh(case.net))


@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.integers(1, 2),
    st.one_of(st.sampled_from(["valid", "same"]), st.integers(0, 2)),
    st.sampled_from([Tanh, Logistic]),
    st.sampled_from(["affine", "orthogonal", "diagonal"]),
    st.integers(0, 2**32 - 1),
)
def test_convolutional_nets_agree(c_in, c_out, kernel, stride, padding, phi, kind, seed):
    assume(padding != "same" or stride == 1)
    layers = [Conv2d(c_in, 2, 1), phi(), Conv2d(2, c_out, kernel, stride, padding), phi(), Flatten()]
    size = mk.Network(layers, outputs.Bernoulli()).n_outputs(np.zeros((1, 4, 3, c_in)))
    case = Case([*layers, Dense(size, 2)], (4, 3, c_in), 3)
    agree(case, reparam.random(case.net, np.random.default_rng(seed), kind=kind))
    if phi is Logistic:
        agree(case, reparam.logistic_to_tanh(case.net))


# what the maps are, by definition --------------------------------------------------------------


def test_a_layer_between_maps_sees_mapped_signals():
    case = ARCHITECTURES["dense"](Tanh)
    rng = np.random.default_rng(1)
    U, c, V, d = (rng.standard_normal(shape) for shape in ((4, 4), 4, (5, 5), 5))
    r = reparam.affine(case.net, "dense1", U, c, V, d)
    old, new = case.net.forward(case.theta, case.x), r.net.forward(r.push(case.theta), case.x)
    close(new.abar[1][:, 0, :-1], old.abar[1][:, 0, :-1] @ V + d, ROUNDING)
    close(new.s[1] @ U + c, old.s[1], ROUNDING)
    W, W2 = case.net.unpack(case.theta), r.net.unpack(r.push(case.theta))
    for l in (0, 2):  # the others keep their weights
        np.testing.assert_array_equal(W2[l], W[l])
    # s' U + c = [x V + d, 1] W' U + c = [x, 1] W for every x
    B = np.block([[V, np.zeros((5, 1))], [d, 1.0]])
    mapped = B @ W2[1] @ U
    mapped[-1] += c
    close(mapped, W[1], ROUNDING)


def test_a_convolution_sees_mapped_pixels_and_padding():
    case = ARCHITECTURES["padded with numbers"](Tanh)
    rng = np.random.default_rng(1)
    V, d = rng.standard_normal((3, 3)), rng.standard_normal(3)
    r = reparam.affine(case.net, 0, V=V, d=d)
    old, new = case.net.forward(case.theta, case.x).abar[0], r.net.forward(r.push(case.theta), case.x).abar[0]
    close(new[..., :-1].reshape(-1, 3), old[..., :-1].reshape(-1, 3) @ V + d, ROUNDING)
    close(r.net.parameter_layers[0].pad_value, np.array([0.3, -0.2, 0.5]) @ V + d)


def test_padding_with_zeros_would_be_another_function():
    case = ARCHITECTURES["same"](Tanh)
    r = reparam.affine(case.net, 0, d=np.ones(3))
    zeros = [replace(layer, pad_value=0.0) if isinstance(layer, Conv2d) else layer for layer in r.net.layers]
    z = case.z(mk.Network(zeros, r.net.output), r.push(case.theta))
    assert abs(z - case.z(case.net, case.theta)).max() > 0.1


def test_no_padding_and_no_shift_need_no_padding_value():
    for architecture, options in (("valid", dict(d=np.ones(3))), ("same", dict(V=2 * np.eye(3)))):
        case = ARCHITECTURES[architecture](Tanh)
        assert reparam.affine(case.net, 0, **options).net.parameter_layers[0].pad_value == 0.0


@pytest.mark.parametrize("architecture", ["dense", "same", "normalized"])
def test_push_and_pull_are_affine_with_the_jacobian(architecture):
    case = ARCHITECTURES[architecture](Tanh)
    r = reparam.random(case.net, np.random.default_rng(1))
    rng = np.random.default_rng(2)
    d, other = rng.standard_normal(case.net.n_params), r.push(case.theta)
    J = r.jacobian()
    close(r.pull(other + d) - r.pull(other), J @ d)
    close(r.pull_step(d), J @ d)
    close(J @ r.push_step(d), d)
    close(r.push(case.theta + d) - other, r.push_step(d))
    unit = np.eye(case.net.n_params)
    close(np.stack([r.pull(other + e) - r.pull(other) for e in unit], axis=1), J)


def test_composition_is_one_after_the_other():
    case = ARCHITECTURES["same"](Tanh)
    first = reparam.random(case.net, np.random.default_rng(1))
    second = reparam.center(first.net, first.push(case.theta), case.x)
    third = reparam.random(second.net, np.random.default_rng(2))
    whole = third @ second @ first
    assert whole.source is case.net and whole.net is third.net
    d = np.random.default_rng(3).standard_normal(case.net.n_params)
    close(whole.push(case.theta), third.push(second.push(first.push(case.theta))))
    close(whole.pull(d), first.pull(second.pull(third.pull(d))))
    close(whole.push_step(d), third.push_step(second.push_step(first.push_step(d))))
    close(whole.jacobian(), first.jacobian() @ second.jacobian() @ third.jacobian())
    agree(case, (third @ second) @ first)
    with pytest.raises(ValueError, match=r"expected a map from Network.* on the left"):
        first @ second
    with pytest.raises(TypeError):
        first @ 3.0


def test_a_jacobian_that_does_not_fit_is_refused():
    net = mk.mlp([1000, 1000], "tanh", "bernoulli")
    r = reparam.affine(net, 0, V=2.0)
    with pytest.raises(MemoryError, match=r"the Jacobian between parameters .* use push_step and pull_step"):
        r.jacobian()


def test_float32_stays_and_agrees():
    case = ARCHITECTURES["same"](Tanh)
    r = reparam.random(case.net, np.random.default_rng(1))
    theta, x = case.theta.astype(np.float32), case.x.astype(np.float32)
    other = r.push(theta)
    assert other.dtype == r.pull(other).dtype == r.push_step(theta).dtype == np.float32
    z = r.net.forward(other, x).z
    assert z.dtype == np.float32
    close(z, case.net.forward(theta, x).z, FLOAT32)


# maps from data --------------------------------------------------------------


def entered(r, case):
    """What enters each layer of the other net, (rows, C), padding not counted."""
    layers = [layer for layer in r.net.layers if not isinstance(layer, Affine)]
    assert all(not isinstance(layer, Residual | Parallel) for layer in layers)
    return r.net.forward(r.push(case.theta), case.x, case.stats).abar


def moments(rows):
    return rows.mean(0), np.cov(rows.T, bias=True)


def test_centered_activations_have_mean_zero():
    case = ARCHITECTURES["dense"](Tanh)
    for abar in entered(reparam.center(case.net, case.theta, case.x), case):
        close(abar[:, 0, :-1].mean(0), 0)


def test_normalized_activations_have_variance_one():
    case = ARCHITECTURES["dense"](Tanh)
    for abar in entered(reparam.normalize(case.net, case.theta, case.x), case):
        m, S = moments(abar[:, 0, :-1])
        close(m, 0)
        close(S.diagonal(), 1)
        assert abs(S - np.diag(S.diagonal())).max() > 0.05


def test_whitened_activations_and_derivatives_make_the_factors_identities():
    case = ARCHITECTURES["dense"](Tanh)
    r = reparam.whiten(case.net, case.theta, case.x)
    r = reparam.whiten_derivatives(r.net, r.push(case.theta), case.x) @ r
    for block in fisher.kfac(fisher.signals(r.net, r.push(case.theta), case.x)).blocks:
        close(block.A, np.eye(len(block.A)), 1e-10)
        close(block.G, np.eye(len(block.G)), 1e-10)


def test_sampled_derivatives_can_be_whitened():
    case = ARCHITECTURES["dense"](Tanh)
    options = dict(targets="sampled", n_samples=3)
    r = reparam.whiten_derivatives(case.net, case.theta, case.x, rng=np.random.default_rng(3), **options)
    drawn = fisher.signals(r.net, r.push(case.theta), case.x, rng=np.random.default_rng(3), **options)
    for block in fisher.kfac(drawn).blocks:
        close(block.G, np.eye(len(block.G)), 1e-10)


@pytest.mark.parametrize("make", [reparam.center, reparam.normalize, reparam.whiten])
def test_channels_are_counted_once_per_pixel(make):
    """1 x 1 kernels see each pixel once; the larger kernel of the same layer must get the same maps."""
    x = colors(np.random.default_rng(0), 20, 4, 4, 3)
    wrapped = []
    for conv in (Conv2d(3, 2, 1), Conv2d(3, 2, 3, padding=1)):
        net = mk.Network([conv, Flatten(), Dense(32, 2)], outputs.Bernoulli())
        r = make(net, net.init(np.random.default_rng(1)), x, layers=[0])
        wrapped.append(r.net.layers[0])
    pixels = wrapped[0].forward([], x)[0].reshape(-1, 3)
    m, S = moments(pixels)
    close(m, 0)
    if make is not reparam.center:
        close(S.diagonal(), 1)
    if make is reparam.whiten:
        close(S, np.eye(3))
    assert repr(wrapped[0]) == repr(wrapped[1])


def test_single_pixels_are_whitened_like_dense_inputs():
    x = colors(np.random.default_rng(0), 60, 1, 1, 3)
    net = mk.Network([Conv2d(3, 2, 1), Flatten(), Dense(2, 2)], outputs.Bernoulli())
    theta = net.init(np.random.default_rng(1))
    r = reparam.whiten(net, theta, x)
    A = fisher.kfac(fisher.signals(r.net, r.push(theta), x)).blocks[0].A
    close(A, np.eye(4), 1e-11)


def test_whitened_channels_leave_neighbouring_pixels_correlated():
    x = colors(np.random.default_rng(0), 60, 3, 3, 3)
    net = mk.Network([Conv2d(3, 2, 2), Flatten(), Dense(8, 2)], outputs.Bernoulli())
    theta = net.init(np.random.default_rng(1))
    r = reparam.whiten(net, theta, x, layers=["conv0"])
    A = fisher.kfac(fisher.signals(r.net, r.push(theta), x)).blocks[0].A / 4
    assert abs(A - np.eye(13)).max() > 0.1


def test_whitened_colors_are_those_of_datasets():
    case = ARCHITECTURES["same"](Tanh)
    r = reparam.whiten_colors(case.net, case.x)
    whitened = r.net.layers[0].forward([], case.x)[0]
    close(whitened, datasets.color_whitening(case.x).apply(case.x))
    m, S = moments(whitened.reshape(-1, 3))
    close(m, 0)
    close(S, np.eye(3))
    close(r.net.parameter_layers[0].pad_value, datasets.color_whitening(case.x).d)


@pytest.mark.parametrize("make", [reparam.center, reparam.normalize, reparam.whiten])
def test_maps_do_not_depend_on_chunks(make, monkeypatch):
    case = ARCHITECTURES["dense"](Tanh)
    whole = make(case.net, case.theta, case.x)
    monkeypatch.setattr(mk.Network, "chunks", lambda *_: [slice(0, 7), slice(7, 150)])
    parts = make(case.net, case.theta, case.x)
    close(parts.push(case.theta), whole.push(case.theta))


def test_maps_follow_the_running_statistics():
    case = ARCHITECTURES["normalized"](Tanh)
    r = reparam.center(case.net, case.theta, case.x, case.stats)
    tape = case.net.forward(case.theta, case.x, case.stats)
    # the dense layer comes after both normalizations
    before = tape.abar[4][:, 0, :-1].mean(0)
    new = r.net.forward(r.push(case.theta), case.x, case.stats).abar[4][:, 0, :-1]
    close(new.mean(0), 0)
    other = reparam.center(case.net, case.theta, case.x)
    assert abs(before).max() > 0.01
    assert abs(other.push(case.theta) - r.push(case.theta)).max() > 0.01


# other units --------------------------------------------------------------


def test_tanh_replaces_logistic_without_maps():
    net = mk.mlp([4, 5, 3], "logistic", "bernoulli")
    theta = net.init(np.random.default_rng(0)) + 0.1
    r = reparam.logistic_to_tanh(net)
    assert r.net.layers == (Dense(4, 5), Tanh(), Dense(5, 3))
    W1, W2 = net.unpack(theta)
    V1, V2 = r.net.unpack(r.push(theta))
    # logistic(s) = (1 + tanh(s / 2)) / 2
    close(V1, W1 / 2)
    close(V2[:-1], W2[:-1] / 2)
    close(V2[-1], W2[-1] + W2[:-1].sum(0) / 2)


def test_padding_zero_becomes_minus_one_for_tanh():
    net = mk.Network(
        [
            Conv2d(1, 2, 3, padding=1),
            Logistic(),
            MaxPool2d(2),
            Conv2d(2, 3, 3, padding="same"),
            Logistic(),
            Flatten(),
            Dense(12, 2),
        ],
        outputs.Bernoulli(),
    )
    r = reparam.logistic_to_tanh(net)
    assert [type(layer) for layer in r.net.layers] == [Conv2d, Tanh, MaxPool2d, Conv2d, Tanh, Flatten, Dense]
    assert [layer.pad_value for layer in r.net.parameter_layers[:2]] == [0.0, (-1.0, -1.0)]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        # the last layer, and units on units: no weights follow
        ([Dense(3, 4), Logistic()], [Dense, Tanh, Affine]),
        ([Dense(3, 4), Logistic(), Logistic()], [Dense, Tanh, Affine, Tanh, Affine]),
        # nor does a shift pass an average over zeros
        (
            [Conv2d(3, 2, 1), Logistic(), AvgPool2d(2, padding=1), Flatten(), Dense(18, 2)],
            [Conv2d, Tanh, Affine, AvgPool2d, Flatten, Dense],
        ),
        # through pooling in both directions
        (
            [
                Conv2d(3, 2, 1),
                AvgPool2d(2, padding=1),
                Logistic(),
                AvgPool2d(1),
                Identity(),
                Flatten(),
                Dense(18, 2),
            ],
            [Conv2d, AvgPool2d, Tanh, AvgPool2d, Identity, Flatten, Dense],
        ),
        # a map that is there takes another up
        ([Dense(3, 4), Affine(3.0, 1.0), Logistic(), Dense(4, 2)], [Dense, Affine, Tanh, Dense]),
    ],
)
def test_maps_stay_where_no_weights_take_them_up(layers, expected):
    case = Case(layers, (3,) if isinstance(layers[0], Dense) else (4, 4, 3), 5)
    r = reparam.logistic_to_tanh(case.net)
    agree(case, r)
    assert [type(layer) for layer in r.net.layers] == expected


def test_logistic_units_before_branches_are_taken_up_inside():
    case = Case(
        [Dense(3, 4), Logistic(), Residual(Dense(4, 4)), Parallel(Dense(4, 2), [Logistic(), Dense(4, 3)])],
        (3,),
        5,
    )
    r = reparam.logistic_to_tanh(case.net)
    agree(case, r)
    residual, parallel = r.net.layers[2:]
    assert residual.body == Dense(4, 4) and repr(residual.shortcut) == "Affine(U=0.5, c=0.5)"
    assert [type(layer) for layer in parallel.branches[1].layers] == [Affine, Tanh, Dense]


def test_rescaled_units_are_multiplied_and_their_weights_divided():
    net = mk.mlp([3, 4, 2], "relu", "bernoulli")
    theta = net.init(np.random.default_rng(0)) + 0.1
    factors = np.array([1.0, 2.0, 0.5, 4.0])
    r = reparam.rescale(net, {"dense0": factors})
    assert r.net.layers == net.layers
    W1, W2 = net.unpack(theta)
    V1, V2 = r.net.unpack(r.push(theta))
    close(V1, W1 * factors)
    close(V2[:-1], W2[:-1] / factors[:, None])
    np.testing.assert_array_equal(V2[-1], W2[-1])


def test_rescaled_channels_pass_pooling_and_flattening():
    case = ARCHITECTURES["same"](ReLU)
    factors = np.array([2.0, 0.25])
    r = reparam.rescale(case.net, {1: factors})
    W, W2 = case.net.unpack(case.theta)[2], r.net.unpack(r.push(case.theta))[2]
    close(W2[:-1].reshape(-1, 2, 2), W[:-1].reshape(-1, 2, 2) / factors[:, None])


# random maps --------------------------------------------------------------


def test_random_maps_are_of_their_kind():
    net = mk.mlp([4, 5, 3], "tanh", "bernoulli")
    for kind in ("affine", "orthogonal", "diagonal"):
        r = reparam.random(net, np.random.default_rng(0), condition=10, kind=kind)
        for layer in r.maps:
            V, shift = layer.B[:-1, :-1], layer.B[-1, :-1]
            values = np.linalg.svd(V, compute_uv=False), np.linalg.svd(layer.U, compute_uv=False)
            assert all(10**-0.5 <= v.min() and v.max() <= 10**0.5 for v in values)
            assert (layer.C is None) == (shift == 0).all() == (kind != "affine")
            if kind == "orthogonal":
                close(layer.B @ layer.B.T, np.eye(len(layer.B)))
                close(layer.U @ layer.U.T, np.eye(len(layer.U)))
            assert ((V != 0).sum() == len(V)) == (kind == "diagonal")
    J = reparam.random(net, np.random.default_rng(0), kind="orthogonal").jacobian()
    close(J @ J.T, np.eye(net.n_params))


def test_random_maps_are_drawn_by_the_generator():
    net = mk.mlp([4, 5, 3], "tanh", "bernoulli")
    a, b, c = (reparam.random(net, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert repr(a.net.layers) == repr(b.net.layers) != repr(c.net.layers)


# Fisher matrices --------------------------------------------------------------

MATRICES = {
    "exact": fisher.exact,
    "block_diagonal": fisher.block_diagonal,
    "kfac": fisher.kfac,
    "kfac-reduce": lambda signals: fisher.kfac(signals, reduce=True),
    "block_tridiagonal": fisher.block_tridiagonal,
    "diagonal": fisher.diagonal,
}


def fisher_pair(case, r, make, **options):
    """F of both nets, and J."""
    F, F2 = (
        make(fisher.signals(net, theta, case.x, stats=case.stats, **options)).to_dense()
        for net, theta in ((case.net, case.theta), (r.net, r.push(case.theta)))
    )
    return F, F2, r.jacobian()


@pytest.mark.parametrize("architecture", ["dense", "same", "pooled", "residual", "parallel", "normalized"])
@pytest.mark.parametrize("name", ["exact", "block_diagonal", "kfac", "kfac-reduce"])
def test_fisher_matrices_map_by_the_jacobian(architecture, name):
    case = ARCHITECTURES[architecture](Tanh)
    F, F2, J = fisher_pair(case, reparam.random(case.net, np.random.default_rng(1)), MATRICES[name])
    close(F2, J.T @ F @ J)


def test_the_tridiagonal_fisher_matrix_maps_by_the_jacobian():
    case = ARCHITECTURES["dense"](Tanh)
    r = reparam.random(case.net, np.random.default_rng(1))
    F, F2, J = fisher_pair(case, r, fisher.block_tridiagonal)
    close(F2, J.T @ F @ J, 1e-7)


def test_sampled_targets_are_the_same_in_both_nets():
    case = ARCHITECTURES["same"](Tanh)
    r = reparam.random(case.net, np.random.default_rng(1))
    drawn = [
        fisher.signals(net, theta, case.x, targets="sampled", rng=np.random.default_rng(4))
        for net, theta in ((case.net, case.theta), (r.net, r.push(case.theta)))
    ]
    F, F2 = (fisher.exact(signals).to_dense() for signals in drawn)
    J = r.jacobian()
    close(F2, J.T @ F @ J)


@pytest.mark.parametrize("architecture", ["dense", "same"])
def test_a_diagonal_fisher_matrix_maps_under_diagonal_maps_only(architecture):
    case = ARCHITECTURES[architecture](Tanh)
    for kind, maps in (("diagonal", True), ("orthogonal", False), ("affine", False)):
        r = reparam.random(case.net, np.random.default_rng(1), kind=kind)
        F, F2, J = fisher_pair(case, r, fisher.diagonal)
        error = np.linalg.norm(F2 - J.T @ F @ J) / np.linalg.norm(F2)
        assert error < 1e-12 if maps else error > 0.1


# what is refused --------------------------------------------------------------

DENSE = mk.mlp([3, 4, 2], "tanh", "bernoulli")
PLAIN = mk.mlp([3, 4, 2], "tanh", "bernoulli", bias=False)
NORMALIZED = ARCHITECTURES["normalized"](Tanh).net


@pytest.mark.parametrize(
    ("net", "layer", "options", "message"),
    [
        (PLAIN, 0, dict(d=1.0), "expected d = 0 for dense0, which has no bias to absorb d"),
        (PLAIN, 1, dict(c=[0.0, 1.0]), "expected c = 0 for dense1, which has no bias to absorb c"),
        (
            NORMALIZED,
            "batchnorm1",
            dict(V=2.0),
            "expected no input map of batchnorm1.*scale and shift come after",
        ),
        (NORMALIZED, 3, dict(d=1.0), "expected no input map of groupnorm3"),
        (
            NORMALIZED,
            5,
            dict(U=np.ones((3, 3))),
            "expected a diagonal U for layernorm5: scale and shift do not mix",
        ),
        (DENSE, 0, dict(U=np.eye(3)), r"expected U and c of dense0 for 4 features or channels, got \(3, 3\)"),
        (DENSE, 0, dict(d=np.ones(4)), "expected V and d of dense0 for 3 features or channels"),
        (DENSE, 0, dict(V=np.ones((3, 3))), r"expected V of dense0 \(3 x 3\) to be invertible"),
        (DENSE, 0, dict(U=[1, 0, 2, 0]), "expected U of dense0 without zeros, got 2 of 4"),
        (DENSE, 0, dict(U=np.inf), "expected U of Affine to be finite"),
    ],
)
def test_maps_without_an_equivalent_are_refused(net, layer, options, message):
    with pytest.raises(ValueError, match=message):
        reparam.affine(net, layer, **options)


def test_what_has_an_equivalent_in_such_layers_is_taken():
    rng = np.random.default_rng(0)
    case = Case(PLAIN.layers, (3,), 5)
    agree(case, reparam.affine(case.net, 0, U=rng.standard_normal((4, 4)), V=rng.standard_normal((3, 3))))
    case = ARCHITECTURES["normalized"](Tanh)
    agree(case, reparam.affine(case.net, 1, U=rng.uniform(1, 2, 4), c=rng.standard_normal(4)))
    agree(case, reparam.affine(case.net, 1, U=np.diag(rng.uniform(1, 2, 4))))


def test_layers_are_named_or_numbered():
    for l in (1, -1, "dense1"):
        assert reparam.affine(DENSE, l, U=2.0).maps[1].U is not None
    with pytest.raises(KeyError, match="expected one of the layers dense0, dense1, got 'dense2'"):
        reparam.affine(DENSE, "dense2", U=2.0)
    with pytest.raises(IndexError, match="expected a layer from 0 to 1, got 2"):
        reparam.affine(DENSE, 2, U=2.0)


def test_constant_units_are_refused_unless_left_out():
    rng = np.random.default_rng(0)
    theta, x = DENSE.init(rng), rng.standard_normal((50, 3))
    x[:, 1] = 0.5
    with pytest.raises(ValueError, match="expected inputs of dense0 that vary, but 1 of 3 do not"):
        reparam.normalize(DENSE, theta, x)
    with pytest.raises(linalg.SingularMatrixError, match=r"inputs of dense0 \(3 x 3\) has numerical rank 2"):
        reparam.whiten(DENSE, theta, x)
    case = Case(DENSE.layers, (3,), 5)
    agree(case, reparam.normalize(DENSE, theta, x, layers=["dense1"]))
    agree(case, reparam.whiten(DENSE, theta, x, layers=[1]))
    agree(case, reparam.center(DENSE, theta, x))


def test_centring_needs_biases():
    theta, x = PLAIN.init(np.random.default_rng(0)), np.random.default_rng(1).standard_normal((9, 3))
    with pytest.raises(ValueError, match="expected d = 0 for dense0, which has no bias"):
        reparam.center(PLAIN, theta, x)


def test_derivatives_of_a_softmax_cannot_be_whitened():
    net = mk.mlp([3, 4, 3], "tanh", "categorical")
    theta, x = net.init(np.random.default_rng(0)), np.random.default_rng(1).standard_normal((50, 3))
    with pytest.raises(linalg.SingularMatrixError, match=r"G of dense1 \(3 x 3\) has numerical rank 2"):
        reparam.whiten_derivatives(net, theta, x)


def test_a_normalization_has_no_factor_to_whiten():
    case = ARCHITECTURES["normalized"](Tanh)
    with pytest.raises(ValueError, match="expected a dense layer or a convolution, got batchnorm1"):
        reparam.whiten_derivatives(case.net, case.theta, case.x, layers=[1])


def test_colors_enter_a_convolution():
    with pytest.raises(ValueError, match="expected a net that starts with a convolution, got Dense"):
        reparam.whiten_colors(DENSE, np.zeros((2, 3, 3, 3)))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([Conv2d(2, 3, 1), Tanh(), Flatten(), Dense(3, 1)], "expected a net with logistic units"),
        *(
            (
                [Conv2d(2, 4, 1), Logistic(), *between, Flatten(), Dense(4, 1)],
                "expected no normalization directly after",
            )
            for between in (
                [LocalResponseNorm(3)],
                [MaxPool2d(2), LocalResponseNorm(3)],
                [BatchNorm(4)],
                [GroupNorm(2, 4)],
                [LayerNorm(4)],
                [Residual([BatchNorm(4), Conv2d(4, 4, 1)])],
            )
        ),
        ([Dense(2, 3), Logistic(), Dense(3, 1, bias=False)], "expected d = 0 for dense1, which has no bias"),
    ],
)
def test_logistic_units_that_cannot_be_replaced_are_refused(layers, message):
    with pytest.raises(ValueError, match=message):
        reparam.logistic_to_tanh(mk.Network(layers, outputs.Bernoulli()))


RELU = mk.mlp([3, 4, 2], "relu", "bernoulli")


@pytest.mark.parametrize(
    ("net", "options", "message"),
    [
        (RELU, {}, "expected either factors or rng"),
        (RELU, dict(factors={0: 2.0}, rng=np.random.default_rng(0)), "expected either factors or rng"),
        (RELU, dict(factors={0: [1, 2]}), r"expected 4 positive factors for dense0, got \(2,\)"),
        (RELU, dict(factors={0: -1.0}), r"expected 4 positive factors for dense0, got \(\) with minimum -1"),
        (RELU, dict(factors={1: 2.0}), "expected ReLU units after dense1"),
        (DENSE, dict(factors={0: 2.0}), "expected ReLU units after dense0"),
    ],
)
def test_factors_that_cannot_be_taken_up_are_refused(net, options, message):
    with pytest.raises(ValueError, match=message):
        reparam.rescale(net, **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(rng=0), TypeError, r"expected rng = numpy.random.default_rng\(seed\), got 0"),
        (dict(rng=np.random.default_rng(0), kind="linear"), ValueError, "expected kind 'affine' or"),
        (
            dict(rng=np.random.default_rng(0), condition=0.5),
            ValueError,
            "condition number from 1 to 1e12, got 0.5",
        ),
    ],
)
def test_random_maps_refuse(options, error, message):
    with pytest.raises(error, match=message):
        reparam.random(DENSE, **options)


# on a device --------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["dense", "same", "normalized"])
def test_equivalent_nets_stay_on_the_device(architecture):
    case = ARCHITECTURES[architecture](Logistic)
    with standin.installed():
        theta, x = mk.to_device(case.theta), mk.to_device(case.x)
        stats = [mk.to_device(array) for array in case.stats]
        makes = {
            "random": lambda theta, x, stats: reparam.random(case.net, np.random.default_rng(1)),
            "center": lambda theta, x, stats: reparam.center(case.net, theta, x, stats),
            "normalize": lambda theta, x, stats: reparam.normalize(case.net, theta, x, stats),
            "whiten": lambda theta, x, stats: reparam.whiten(case.net, theta, x, stats, [0]),
            "derivatives": lambda theta, x, stats: reparam.whiten_derivatives(
                case.net, theta, x, stats=stats, layers=[0]
            ),
            "tanh": lambda theta, x, stats: reparam.logistic_to_tanh(case.net),
        }
        if architecture == "same":
            makes["colors"] = lambda theta, x, stats: reparam.whiten_colors(case.net, x)
        for make in makes.values():
            expected, r = make(case.theta, case.x, case.stats), make(theta, x, stats)
            pairs = (
                (r.push(theta), expected.push(case.theta)),
                (r.pull(theta), expected.pull(case.theta)),
                (r.push_step(theta), expected.push_step(case.theta)),
                (r.net.forward(theta, x, stats).z, expected.net.forward(case.theta, case.x, case.stats).z),
                (
                    r.net.gradient(theta, x, mk.to_device(case.y), stats),
                    expected.net.gradient(case.theta, case.x, case.y, case.stats),
                ),
            )
            for array, wanted in pairs:
                assert isinstance(array, standin.ndarray)
                np.testing.assert_allclose(mk.to_host(array), wanted, rtol=1e-9, atol=1e-9)
