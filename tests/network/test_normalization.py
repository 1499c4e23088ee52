"""Normalization against loops over values and against PyTorch; statistics of batches, running and coupled."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minikfac as mk
from minikfac import outputs
from minikfac.network.layers import (
    BatchNorm,
    Conv2d,
    Dense,
    Flatten,
    GlobalAvgPool,
    GroupNorm,
    LayerNorm,
    LocalResponseNorm,
    Parallel,
    Residual,
    RMSNorm,
    Tanh,
    Unscaled,
)
from oracles import (
    FINITE_DIFFERENCE,
    FLOAT32,
    OUTPUTS,
    close,
    derivative,
    random_targets,
    unit_vector,
)
from oracles.layers import (
    Case,
    Pass,
    batch_together,
    group_together,
    layer_together,
    loop_normalize,
    loop_response,
)

EPS = 0.1  # large enough to be missed where it is left out
IMAGE = (3, 2, 6)
NORMS = {
    "layer": (LayerNorm(6, EPS), layer_together),
    "group": (GroupNorm(2, 6, EPS), group_together(3)),
    "one group": (GroupNorm(1, 6, EPS), group_together(6)),
    "batch": (BatchNorm(6, eps=EPS), batch_together),
}
every_norm = pytest.mark.parametrize(("layer", "together"), NORMS.values(), ids=NORMS)


# values --------------------------------------------------------------


@every_norm
@pytest.mark.parametrize("shape", [(6,), (1, 1, 6), IMAGE])
def test_a_norm_is_its_loop(layer, together, shape):
    at = Pass(Case(layer, shape), n=3)
    xhat = loop_normalize(at.x, together, EPS)
    scale, shift = at.Ws[0]
    close(at.y, xhat * scale + shift)
    abar, s = layer.signals(at.record)[0]
    close(abar[:, :, 0].reshape(at.x.shape), xhat)
    assert (abar[:, :, 1] == 1).all()
    close(s.reshape(at.x.shape), at.y, 0)
    assert layer.grids(at.record) == [shape[:2] if len(shape) == 3 else (1, 1)]


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.integers(0, 99))
def test_groups_of_any_size_are_normalized_alone(groups, size, extent, n, seed):
    at = Pass(Case(GroupNorm(groups, groups * size, EPS), (extent, 2, groups * size)), n, seed)
    xhat = loop_normalize(at.x, group_together(size), EPS)
    close(at.y, xhat * at.Ws[0][0] + at.Ws[0][1])


@every_norm
@pytest.mark.parametrize("shape", [(6,), IMAGE])
def test_derivatives_of_a_norm_are_those_of_the_loop(layer, together, shape):
    at = Pass(Case(layer, shape), n=3)

    def moved(t):
        W = at.Ws[0] + t * at.Vs[0]
        return loop_normalize(at.x + t * at.dx, together, EPS) * W[0] + W[1]

    dy = derivative(moved, np.zeros(()), np.ones(()))
    close(at.jvp(), dy, FINITE_DIFFERENCE)
    close(at.along(*layer.backward(at.Ws, at.record, at.u)).sum(), (at.u * dy).sum(), FINITE_DIFFERENCE)


@every_norm
def test_what_moves_all_values_together_is_not_seen(layer, together):
    """A norm's output does not change with its input's mean; nor, but for eps, with its scale."""
    at = Pass(Case(layer, IMAGE))
    close(layer.forward(at.Ws, at.x + 7)[0], at.y)
    assert abs(layer.forward(at.Ws, 2 * at.x)[0] - at.y).max() > 1e-3
    dx = layer.backward(at.Ws, at.record, at.u)[0]
    for here in np.ndindex(at.x.shape):
        if not any(together(here, there) for there in np.ndindex(at.x.shape) if there < here):
            members = [there for there in np.ndindex(at.x.shape) if together(here, there)]
            close(sum(dx[there] for there in members), 0)


def test_norms_coincide_where_they_take_the_same_mean():
    rng = np.random.default_rng(0)
    W, x = rng.standard_normal((2, 6)), rng.standard_normal((5, 6))
    layer = LayerNorm(6).forward([W], x)[0]
    close(GroupNorm(1, 6).forward([W], x)[0], layer)
    close(GroupNorm(1, 6).forward([W], x[:, None, None])[0][:, 0, 0], layer)
    one = rng.standard_normal((1, *IMAGE))
    close(BatchNorm(6).forward([W], one)[0], GroupNorm(6, 6).forward([W], one)[0])
    # and otherwise not
    images = rng.standard_normal((2, *IMAGE))
    ys = [
        norm.forward([W], images)[0]
        for norm in (LayerNorm(6), GroupNorm(1, 6), GroupNorm(6, 6), BatchNorm(6))
    ]
    assert all(abs(a - b).max() > 0.1 for n, a in enumerate(ys) for b in ys[:n])


def test_a_group_of_one_value_is_normalized_to_0():
    W = np.random.default_rng(0).standard_normal((2, 6))
    close(GroupNorm(6, 6).forward([W], np.ones((3, 6)))[0], np.broadcast_to(W[1], (3, 6)))


@pytest.mark.parametrize("layer", [LayerNorm(4), GroupNorm(2, 4), BatchNorm(4)], ids=repr)
def test_constant_inputs_are_divided_by_root_eps(layer):
    Ws, x = [np.ones((2, 4))], np.full((3, 4), 5.0)
    y, record = layer.forward(Ws, x)
    close(y, np.ones((3, 4)))
    assert np.isfinite(layer.backward(Ws, record, np.ones((3, 4)))[0]).all()


@pytest.mark.parametrize("layer", [BatchNorm(2), GroupNorm(1, 2), LayerNorm(1024)], ids=repr)
def test_float32_is_enough_for_large_means_over_many_values(layer):
    """The difference of two large means, E[x^2] - E[x]^2, would have few digits left here."""
    c = layer.weight_shape[1]
    x = 100 + np.random.default_rng(0).standard_normal((160, 8192 // c, 1, c))
    W = np.ones((2, c))
    s = layer.forward([W.astype(np.float32)], x.astype(np.float32))[0]
    np.testing.assert_allclose(
        s, layer.forward([W], x.astype(np.float32).astype(float))[0], rtol=1e-3, atol=1e-3
    )


# batches and running statistics --------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6,), IMAGE])
def test_statistics_handed_in_are_constants(shape):
    at = Pass(Case(BatchNorm(6, eps=EPS), shape, running=True))
    mean, variance = at.stats[0]
    slope = at.Ws[0][0] / np.sqrt(variance + EPS)
    close(at.y, (at.x - mean) * slope + at.Ws[0][1])
    close(at.layer.backward(at.Ws, at.record, at.u)[0], at.u * slope)
    close(at.layer.jvp(at.Ws, [0 * at.Ws[0]], at.record, at.dx)[0], at.dx * slope)
    close(at.layer.statistics(at.record), at.stats, 0)


def test_constant_statistics_change_the_derivative_but_not_the_output():
    at = Pass(Case(BatchNorm(6), IMAGE))
    used = at.layer.statistics(at.record)
    y, record = at.layer.forward(at.Ws, at.x, used)
    close(y, at.y)
    coupled = at.layer.backward(at.Ws, at.record, at.u)[0]
    assert abs(at.layer.backward(at.Ws, record, at.u)[0] - coupled).max() > 0.1


def test_statistics_are_mean_and_biased_variance_of_the_batch():
    at = Pass(Case(BatchNorm(6), IMAGE))
    (statistics,) = at.layer.statistics(at.record)
    for c in range(6):
        values = at.x[..., c].ravel().tolist()
        mean = sum(values) / len(values)
        close(statistics[:, c], [mean, sum((v - mean) ** 2 for v in values) / len(values)])


def test_layer_and_group_norms_know_no_statistics():
    for layer in (LayerNorm(6), GroupNorm(2, 6), LocalResponseNorm(3)):
        at = Pass(Case(layer, IMAGE))
        assert layer.statistics_shapes == () and layer.statistics(at.record) == []
        close(layer.forward(at.Ws, at.x, [])[0], at.y, 0)


NET = mk.Network(
    [
        Conv2d(2, 3, 2, bias=False),
        BatchNorm(3, decay=0.8),
        Tanh(),
        Residual([Conv2d(3, 3, 1), BatchNorm(3, decay=0.5)]),
        Parallel(GroupNorm(1, 3), LayerNorm(3)),
        GlobalAvgPool(),
        Dense(6, 3),
    ],
    outputs.Categorical(),
)
RNG = np.random.default_rng(0)
THETA = RNG.standard_normal(NET.n_params) / 2
X, Y = RNG.standard_normal((7, 3, 4, 2)), random_targets(RNG, "categorical", 7, 3)
STATS = [RNG.uniform(0.5, 2, (2, 3)) for _ in range(2)]


def test_names_shapes_and_slices_of_a_net_with_norms():
    assert NET.names == (
        "conv0",
        "batchnorm1",
        "conv2",
        "batchnorm3",
        "groupnorm4",
        "layernorm5",
        "dense6",
    )
    assert NET.shapes == ((8, 3), (2, 3), (4, 3), (2, 3), (2, 3), (2, 3), (7, 3))
    assert [place.start for place in NET.slices] == [0, 24, 30, 42, 48, 54, 60] and NET.n_params == 81


@pytest.mark.parametrize("scheme", ["glorot", "he", "sparse"])
def test_initial_scales_are_1_and_shifts_0(scheme):
    theta = NET.init(np.random.default_rng(0), scheme)
    for name, W in zip(NET.names, NET.unpack(theta), strict=True):
        if "norm" in name:
            close(W, [[1.0] * 3, [0.0] * 3], 0)
    bare = mk.Network([Conv2d(2, 3, 2, bias=False), Conv2d(3, 3, 1), GlobalAvgPool()], NET.output)
    close(bare.init(np.random.default_rng(0), scheme)[:36], theta[[*range(24), *range(30, 42)]])


def test_statistics_begin_at_mean_0_and_variance_1():
    for stats in NET.init_stats():
        close(stats, [[0.0] * 3, [1.0] * 3], 0)
    assert len(NET.init_stats()) == 2
    close(NET.forward(THETA, X).z, NET.forward(THETA, X, NET.init_stats()).z, 0)


def test_running_statistics_are_an_exponential_average():
    before = [stats.copy() for stats in STATS]
    tape = NET.forward(THETA, X, STATS, train=True)
    for new, old, batch, decay in zip(tape.stats, before, tape.batch_stats, (0.8, 0.5), strict=True):
        close(new, decay * old + (1 - decay) * batch)
    close(STATS, before, 0)
    stats = NET.init_stats()
    for _ in range(60):
        stats = NET.forward(THETA, X, stats, train=True).stats
    np.testing.assert_allclose(stats, tape.batch_stats, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        NET.forward(THETA, X, stats).z, NET.forward(THETA, X, train=True).z, rtol=1e-4, atol=1e-4
    )


def test_without_training_statistics_stay_as_they_are():
    tape = NET.forward(THETA, X, STATS)
    close(tape.stats, STATS, 0)
    close(tape.batch_stats, STATS, 0)


def test_training_uses_statistics_of_the_batch():
    close(NET.forward(THETA, X, STATS, train=True).z, NET.forward(THETA, X, train=True).z, 0)
    assert abs(NET.forward(THETA, X, STATS).z - NET.forward(THETA, X, train=True).z).max() > 0.1
    batch = NET.forward(THETA, X, train=True)
    close(NET.forward(THETA, X, batch.batch_stats).z, batch.z)


def test_statistics_take_the_dtype_of_theta():
    tape = NET.forward(THETA.astype(np.float32), X, STATS, train=True)
    assert {stats.dtype for stats in tape.stats} == {tape.z.dtype} == {np.dtype(np.float32)}
    close(tape.stats, NET.forward(THETA, X, STATS, train=True).stats, FLOAT32)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("train", [True, False])
def test_the_gradient_is_the_derivative_of_the_loss(output, train):
    net = mk.Network(NET.layers, outputs.OUTPUTS[output]())
    y = random_targets(np.random.default_rng(0), output, len(X), 3)

    def loss(theta):
        return net.output.nll(net.forward(theta, X, STATS, train).z, y).mean()

    value, grad = net.loss_and_gradient(THETA, X, y, STATS, train)
    close(value, loss(THETA))
    V = unit_vector(np.random.default_rng(1), 3, net.n_params)
    close(V @ grad, [derivative(loss, THETA, v) for v in V], FINITE_DIFFERENCE)
    for v in V:
        tape = net.forward(THETA, X, STATS, train)
        dz = derivative(lambda theta: net.forward(theta, X, STATS, train).z, THETA, v)
        close(net.jvp(THETA, tape, v), dz, FINITE_DIFFERENCE)


def test_training_couples_the_batch():
    """Held constant, they would leave out how the batch moves them."""
    coupled = NET.loss_and_gradient(THETA, X, Y, train=True)
    constant = NET.loss_and_gradient(THETA, X, Y, NET.forward(THETA, X, train=True).batch_stats)
    close(coupled[0], constant[0])
    assert np.linalg.norm(coupled[1] - constant[1]) > 0.1 * np.linalg.norm(constant[1])


def test_examples_are_coupled_in_training_only():
    other = X.copy()
    other[3:] += 1
    assert abs((NET.forward(THETA, X).z - NET.forward(THETA, other).z)[:3]).max() == 0
    moved = NET.forward(THETA, X, train=True).z - NET.forward(THETA, other, train=True).z
    assert abs(moved[:3]).max() > 0.01


def test_batch_norm_in_use_folds_into_the_layer_below():
    """A convolution of other weights, with a bias, says the same: whatever asks for z uses the statistics."""
    norm = mk.Network(
        [Conv2d(2, 3, 2, bias=False), BatchNorm(3), Tanh(), Flatten(), Dense(18, 3)], NET.output
    )
    plain = mk.Network([Conv2d(2, 3, 2), Tanh(), Flatten(), Dense(18, 3)], NET.output)
    theta, theta2 = RNG.standard_normal((2, norm.n_params)) / 2
    stats = STATS[:1]

    def folded(theta):
        W, (scale, shift), V = norm.unpack(theta)
        slope = scale / np.sqrt(stats[0][1] + 1e-5)
        return plain.pack([np.concatenate([W * slope, [shift - stats[0][0] * slope]]), V])

    close(norm.forward(theta, X, stats).z, plain.forward(folded(theta), X).z)
    close(norm.predict(theta, X, stats), plain.predict(folded(theta), X))
    close(norm.loss(theta, X, Y, stats), plain.loss(folded(theta), X, Y))
    close(norm.kl(theta, theta2, X, stats), plain.kl(folded(theta), folded(theta2), X))
    assert abs(norm.predict(theta, X, norm.init_stats()) - norm.predict(theta, X, stats)).max() > 1e-3
    ours, theirs = norm.gradient(theta, X, Y, stats), plain.gradient(folded(theta), X, Y)
    close(ours[norm.slices[2]], theirs[plain.slices[1]])


@pytest.mark.parametrize(
    ("stats", "came"),
    [
        ([], r"\[\]"),
        (STATS[:1], r"\[\(2, 3\)\]"),
        ([STATS[0], STATS[1][0]], r"\[\(2, 3\), \(3,\)\]"),
        ([*STATS, STATS[0]], r"\[\(2, 3\), \(2, 3\), \(2, 3\)\]"),
    ],
)
@pytest.mark.parametrize("train", [True, False])
def test_statistics_of_other_shapes_are_refused(stats, came, train):
    message = rf"expected statistics of shapes \[\(2, 3\), \(2, 3\)\], got {came}"
    with pytest.raises(ValueError, match=message):
        NET.forward(THETA, X, stats, train)
    with pytest.raises(ValueError, match=message):
        NET.loss_and_gradient(THETA, X, Y, stats, train)
    with pytest.raises(ValueError, match=message):
        NET.predict(THETA, X, stats)


def test_wrong_statistics_are_refused():
    with pytest.raises(TypeError, match="expected each of the statistics to be an array of numbers, got str"):
        NET.forward(THETA, X, ["mean", "variance"])
    for bad in (np.nan, np.inf, -np.inf):
        for place in ((0, 1), (1, 2)):
            stats = [part.copy() for part in STATS]
            stats[1][place] = bad
            with pytest.raises(ValueError, match="expected finite statistics, got NaN or infinite values"):
                NET.forward(THETA, X, stats)
    with pytest.raises(ValueError, match=r"expected variances >= 0 among the statistics, got -0\.5"):
        NET.forward(THETA, X, [STATS[0], np.array([[0.0, 0.0, 0.0], [1.0, -0.5, 1.0]])])


def test_a_net_without_batch_norms_refuses_statistics():
    net = mk.mlp([4, 3])
    with pytest.raises(ValueError, match=r"expected statistics of shapes \[\], got \[\(2, 3\)\]"):
        net.forward(np.zeros(net.n_params), np.zeros((1, 4)), STATS[:1])


# local responses --------------------------------------------------------------


@given(st.integers(1, 7), st.integers(1, 5), st.integers(0, 99))
def test_local_responses_are_the_loop_over_channels(size, channels, seed):
    layer = LocalResponseNorm(size, alpha=1.5, beta=0.6, k=0.7)
    at = Pass(Case(layer, (2, 1, channels)), n=2, seed=seed)
    close(at.y, loop_response(at.x, size, 1.5, 0.6, 0.7))
    dy = derivative(lambda t: loop_response(at.x + t * at.dx, size, 1.5, 0.6, 0.7), np.zeros(()), np.ones(()))
    close(at.jvp(), dy, FINITE_DIFFERENCE)
    dx = layer.backward([], at.record, at.u)[0]
    close((dx * at.dx).sum(), (at.u * dy).sum(), FINITE_DIFFERENCE)


def test_local_responses_without_weight_are_left_alone():
    x = RNG.standard_normal((2, 3, 3, 4))
    close(LocalResponseNorm(3, alpha=0.0).forward([], x)[0], x)
    close(LocalResponseNorm(3, beta=0.0, k=2.0).forward([], x)[0], x)
    close(LocalResponseNorm(3, alpha=0.0, beta=0.5, k=4.0).forward([], x)[0], x / 2)


# PyTorch --------------------------------------------------------------


def same_as_pytorch(torch, ours, theirs, shape, weights=True, stats=None):
    """Values and derivatives of both, for inputs (N, ..., C) here and (N, C, ...) there."""
    x = RNG.standard_normal(shape)
    Ws = [RNG.standard_normal(shape) for shape in ours.weight_shapes]
    first = theirs is not None and len(shape) == 4 and not isinstance(theirs, torch.nn.LayerNorm)
    there = np.ascontiguousarray(np.moveaxis(x, -1, 1)) if first else x
    if weights:
        with torch.no_grad():
            theirs.weight.copy_(torch.tensor(Ws[0][0]))
            theirs.bias.copy_(torch.tensor(Ws[0][1]))
    x_torch = torch.tensor(there, requires_grad=True)
    z = theirs(x_torch)
    y, record = ours.forward(Ws, x, stats)
    u = RNG.standard_normal(y.shape)
    z.backward(torch.tensor(np.ascontiguousarray(np.moveaxis(u, -1, 1)) if first else u))

    def here(array):
        return np.moveaxis(np.asarray(array), 1, -1) if first else np.asarray(array)

    close(y, here(z.detach()))
    dx, gs = ours.backward(Ws, record, u)
    close(dx, here(x_torch.grad))
    if weights:
        grad = np.einsum("ntic,ntc->ic", ours.signals(record)[0][0], gs[0])
        close(grad, [theirs.weight.grad.numpy(), theirs.bias.grad.numpy()])
    return record


@pytest.mark.oracle
@pytest.mark.parametrize("shape", [(5, 6), (5, 3, 4, 6)])
def test_layer_norm_is_that_of_pytorch(torch, shape):
    same_as_pytorch(torch, LayerNorm(6), torch.nn.LayerNorm(6), shape)


@pytest.mark.oracle
@pytest.mark.parametrize("shape", [(5, 6), (5, 3, 4, 6)])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_group_norm_is_that_of_pytorch(torch, shape, groups):
    same_as_pytorch(torch, GroupNorm(groups, 6), torch.nn.GroupNorm(groups, 6), shape)


@pytest.mark.oracle
@pytest.mark.parametrize("shape", [(5, 6), (5, 3, 4, 6)])
def test_batch_norm_is_that_of_pytorch(torch, shape):
    ours = BatchNorm(6, decay=0.7)
    theirs = (torch.nn.BatchNorm1d if len(shape) == 2 else torch.nn.BatchNorm2d)(6, momentum=0.3)
    record = same_as_pytorch(torch, ours, theirs, shape)
    mean, variance = ours.statistics(record)[0]
    n = np.prod(shape) / 6
    close(theirs.running_mean, 0.3 * mean)
    close(theirs.running_var, 0.7 + 0.3 * variance * n / (n - 1))  # theirs is not biased
    theirs.eval()
    theirs.zero_grad()
    stats = [np.stack([theirs.running_mean.numpy(), theirs.running_var.numpy()])]
    same_as_pytorch(torch, ours, theirs, shape, stats=stats)


@pytest.mark.oracle
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9])
def test_local_response_norm_is_that_of_pytorch(torch, size):
    arguments = dict(alpha=0.8, beta=0.6, k=1.3)
    theirs = torch.nn.LocalResponseNorm(size, **arguments)
    same_as_pytorch(torch, LocalResponseNorm(size, **arguments), theirs, (2, 3, 4, 6), weights=False)


@pytest.mark.oracle
def test_defaults_are_those_of_pytorch(torch):
    for ours, theirs in [
        (LayerNorm(6), torch.nn.LayerNorm(6)),
        (GroupNorm(2, 6), torch.nn.GroupNorm(2, 6)),
        (BatchNorm(6), torch.nn.BatchNorm2d(6)),
    ]:
        assert ours.eps == theirs.eps
    assert BatchNorm(6).decay == 1 - torch.nn.BatchNorm2d(6).momentum
    ours, theirs = LocalResponseNorm(5), torch.nn.LocalResponseNorm(5)
    assert (ours.alpha, ours.beta, ours.k) == (theirs.alpha, theirs.beta, theirs.k)


# what is refused --------------------------------------------------------------


@pytest.mark.parametrize("layer", [LayerNorm(6), GroupNorm(2, 6), BatchNorm(6)], ids=repr)
def test_norms_refuse_inputs_of_other_channels(layer):
    message = rf"expected inputs \(N, \.\.\., 6\) to {type(layer).__name__}\(.*got \("
    for shape, came in [
        ((5, 4), r"N, 4\)"),
        ((5, 3, 3, 4), r"N, 3, 3, 4\)"),
        ((5, 3, 4), r"N, 3, 4\)"),
        ((5, 2, 2, 2, 6), r"N, 2, 2, 2, 6\)"),
    ]:
        with pytest.raises(ValueError, match=message + came):
            layer.forward([np.zeros((2, 6))], np.zeros(shape))
    with pytest.raises(ValueError, match=message + r"N, \?, \?, 4\)"):
        mk.Network([Conv2d(2, 4, 3), layer, GlobalAvgPool()], outputs.Gaussian())
    with pytest.raises(ValueError, match=message + r"N, \?, 5\)"):
        mk.Network([Dense(2, 5), layer], outputs.Gaussian())


def test_layers_above_a_norm_are_checked_too():
    with pytest.raises(ValueError, match=r"expected 5 inputs to Dense\(.*got 6"):
        mk.Network([Flatten(), Dense(2, 6), LayerNorm(6), Dense(5, 1)], outputs.Gaussian())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LayerNorm(0), "expected LayerNorm features to be a positive whole number, got 0"),
        (lambda: BatchNorm(2.5), r"expected BatchNorm features to be a positive whole number, got 2\.5"),
        (lambda: GroupNorm(0, 4), "expected GroupNorm groups to be a positive whole number, got 0"),
        (lambda: GroupNorm(2, -4), "expected GroupNorm channels to be a positive whole number, got -4"),
        (lambda: GroupNorm(3, 4), "expected groups that divide the 4 channels, got 3"),
        (lambda: GroupNorm(8, 4), "expected groups that divide the 4 channels, got 8"),
        (lambda: LayerNorm(4, 0.0), r"expected LayerNorm eps > 0, got 0\.0"),
        (lambda: GroupNorm(2, 4, -1e-5), "expected GroupNorm eps > 0, got -1e-05"),
        (lambda: BatchNorm(4, eps=float("nan")), "expected BatchNorm eps > 0, got nan"),
        (lambda: BatchNorm(4, eps=float("inf")), "expected BatchNorm eps > 0, got inf"),
        (lambda: BatchNorm(4, 1.0), r"expected BatchNorm decay of at least 0 and below 1, got 1\.0"),
        (lambda: BatchNorm(4, -0.1), r"expected BatchNorm decay of at least 0 and below 1, got -0\.1"),
        (lambda: BatchNorm(4, float("nan")), "expected BatchNorm decay of .* got nan"),
        (
            lambda: LocalResponseNorm(0),
            "expected LocalResponseNorm size to be a positive whole number, got 0",
        ),
        (lambda: LocalResponseNorm(3, alpha=-1.0), r"expected alpha >= 0, k > 0 .* got .*alpha=-1\.0"),
        (lambda: LocalResponseNorm(3, k=0.0), r"expected alpha >= 0, k > 0 and a finite beta.* got .*k=0\.0"),
        (lambda: LocalResponseNorm(3, beta=float("inf")), "expected .* a finite beta, got .*beta=inf"),
    ],
)
def test_norms_refuse_arguments_that_make_none(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("shape", [(1, 6), (1, 1, 1, 6)])
def test_a_batch_of_one_value_has_no_statistics(shape):
    layer, Ws = BatchNorm(6), [np.ones((2, 6))]
    with pytest.raises(
        ValueError, match=r"expected several values per channel in a batch for BatchNorm\(.*got \(1, "
    ):
        layer.forward(Ws, np.ones(shape))
    layer.forward(Ws, np.ones(shape), [np.ones((2, 6))])
    layer.forward(Ws, np.ones((2, *shape[1:])))
    net = mk.Network([Flatten(), BatchNorm(6)], outputs.Gaussian())
    with pytest.raises(ValueError, match="expected several values per channel in a batch"):
        net.loss_and_gradient(np.ones(12), np.ones(shape), np.ones((1, 6)), train=True)


def test_one_image_of_several_pixels_has_statistics():
    assert BatchNorm(6).forward([np.ones((2, 6))], RNG.standard_normal((1, 2, 1, 6)))[0].std() > 0.1


# settings --------------------------------------------------------------


def test_what_is_not_a_setting_of_a_norm_is_refused():
    with pytest.raises(ValueError, match="expected LayerNorm bias to be True or False, got 0"):
        LayerNorm(3, bias=0)
    with pytest.raises(ValueError, match="expected RMSNorm features to be a positive whole number, got 0"):
        RMSNorm(0)
    with pytest.raises(ValueError, match="expected RMSNorm eps > 0, got 0"):
        RMSNorm(3, 0.0)
    with pytest.raises(TypeError, match="expected a normalization with a scale into Unscaled, got Tanh"):
        Unscaled(Tanh())
    with pytest.raises(ValueError, match=r"inputs \(N, \.\.\., 3\) to RMSNorm.*got \(N, 4\)"):
        Unscaled(RMSNorm(3)).forward([], np.ones((2, 4)))


@pytest.mark.parametrize("shape", [(3, 2, 6), (4, 6)])
def test_a_norm_of_whole_examples_is_that_of_flat_features(shape):
    x = np.random.default_rng(0).standard_normal((5, *shape))
    n = math.prod(shape)
    for kind in (LayerNorm, RMSNorm):
        whole, flat = kind(shape, EPS), kind(n, EPS)
        W = np.random.default_rng(1).standard_normal(flat.weight_shape)
        assert whole.weight_shape == flat.weight_shape and whole.output_shape(None) is None
        y, record = whole.forward([W], x)
        expected, other = flat.forward([W], x.reshape(5, n))
        close(y, expected.reshape(x.shape), 0)
        close(whole.signals(record)[0][0], flat.signals(other)[0][0], 0)
        assert whole.grids(record) == [(1, 1)]
    together = loop_normalize(x, lambda a, b: a[0] == b[0], EPS)
    close(Unscaled(LayerNorm(shape, EPS)).forward([], x)[0], together)


@pytest.mark.oracle
@pytest.mark.parametrize("shape", [(3, 4, 6), (4, 6)])
def test_layer_norm_of_whole_examples_is_that_of_pytorch(torch, shape):
    rng = np.random.default_rng(0)
    x, u, W = (
        rng.standard_normal((5, *shape)),
        rng.standard_normal((5, *shape)),
        rng.standard_normal((2, *shape)),
    )
    theirs, ours = torch.nn.LayerNorm(shape), LayerNorm(shape)
    with torch.no_grad():
        theirs.weight.copy_(torch.tensor(W[0]))
        theirs.bias.copy_(torch.tensor(W[1]))
    x_torch = torch.tensor(x, requires_grad=True)
    z = theirs(x_torch)
    z.backward(torch.tensor(u))
    y, record = ours.forward([W.reshape(2, -1)], x)
    close(y, z.detach().numpy())
    dx, (g,) = ours.backward([W.reshape(2, -1)], record, u)
    close(dx, x_torch.grad.numpy())
    DW = np.empty((2, math.prod(shape)))
    ours.weight_gradient(record, g, DW)
    close(DW.reshape(2, *shape), [theirs.weight.grad.numpy(), theirs.bias.grad.numpy()])


def test_a_norm_of_whole_examples_takes_no_others():
    for shape, came in (((5, 3, 2, 4), r"N, 3, 2, 4\)"), ((5, 2, 6), r"N, 2, 6\)"), ((5, 36), r"N, 36\)")):
        with pytest.raises(ValueError, match=r"expected inputs \(N, 3, 2, 6\) to LayerNorm\(.*got \(" + came):
            LayerNorm((3, 2, 6)).forward([np.zeros((2, 36))], np.ones(shape))
    for shape in ((3, 0, 6), (2.5,), ()):
        with pytest.raises(ValueError, match="expected LayerNorm features to be "):
            LayerNorm(shape)


def test_an_rms_norm_divides_by_the_root_of_the_mean_square():
    x = np.random.default_rng(0).standard_normal((4, 5)) + 1
    scale = np.arange(1.0, 6.0)
    y, record = RMSNorm(5, EPS).forward([scale[None]], x)
    close(y, x / np.sqrt((x * x).mean(1, keepdims=True) + EPS) * scale)
    assert RMSNorm(5).signals(record)[0][0].shape == (4, 1, 1, 5)


def test_an_unscaled_norm_is_one_with_a_scale_of_1_and_a_shift_of_0():
    x = np.random.default_rng(0).standard_normal((4, 6))
    W = np.array([np.ones(6), np.zeros(6)])
    for norm in (LayerNorm(6), GroupNorm(2, 6), BatchNorm(6)):
        close(Unscaled(norm).forward([], x)[0], norm.forward([W], x)[0], 0)
    assert Unscaled(LayerNorm(6)).weight_shapes == ()


def test_running_statistics_of_unscaled_norms_are_averaged_with_their_own_decay():
    inside = Residual([Unscaled(BatchNorm(4, decay=0.5))], BatchNorm(4, decay=0.8))
    net = mk.Network([Dense(3, 4), inside, Dense(4, 2)], outputs.Categorical())
    rng = np.random.default_rng(0)
    theta, x = rng.standard_normal(net.n_params), rng.standard_normal((5, 3))
    tape = net.forward(theta, x, train=True)
    for decay, old, new, used in zip((0.5, 0.8), net.init_stats(), tape.stats, tape.batch_stats, strict=True):
        close(new, decay * old + (1 - decay) * used)
