"""Layers of layers against their definition, nets of them, and batches taken in chunks."""

import itertools

import numpy as np
import pytest

import minikfac as mk
from minikfac import fisher, outputs, parallel
from minikfac.network.layers import (
    AvgPool2d,
    BatchNorm,
    Conv1d,
    Conv2d,
    Dense,
    Flatten,
    GlobalAvgPool,
    Grouped,
    GroupNorm,
    LayerNorm,
    LocalResponseNorm,
    MaxPool2d,
    OnSequences,
    Parallel,
    ReLU,
    Residual,
    Sequential,
    Softplus,
    Tanh,
)
from oracles import FINITE_DIFFERENCE, close, derivative, random_targets, standin, unit_vector
from oracles.layers import Case, Pass

IMAGE = (5, 4, 2)


# by definition --------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "shortcut"),
    [
        (Conv2d(2, 2, 3, padding=1), ()),
        ([Conv2d(2, 3, 3, 2, 1), Tanh()], Conv2d(2, 3, 1, 2)),
        ([BatchNorm(2), Conv2d(2, 2, 1)], [BatchNorm(2)]),
        ((), ()),
    ],
)
def test_a_residual_is_the_sum_of_body_and_shortcut(body, shortcut):
    at = Pass(Case(Residual(body, shortcut), IMAGE))
    first, second = (
        Sequential(tuple(part) if isinstance(part, tuple | list) else (part,)) for part in (body, shortcut)
    )
    cut = len(first.weight_shapes)
    assert at.layer.weight_shapes == first.weight_shapes + second.weight_shapes
    assert at.layer.statistics_shapes == first.statistics_shapes + second.statistics_shapes
    ours, other = first.forward(at.Ws[:cut], at.x), second.forward(at.Ws[cut:], at.x)
    close(at.y, ours[0] + other[0])
    parts = [first.backward(at.Ws[:cut], ours[1], at.u), second.backward(at.Ws[cut:], other[1], at.u)]
    dx, gs = at.layer.backward(at.Ws, at.record, at.u)
    close(dx, parts[0][0] + parts[1][0])
    for g, expected in zip(gs, parts[0][1] + parts[1][1], strict=True):
        close(g, expected)


def test_parallel_joins_channels_in_the_order_of_its_branches():
    branches = (Conv2d(2, 3, 1), MaxPool2d(3, 1, 1), Sequential((Conv2d(2, 1, 3, padding=1), Tanh())))
    at = Pass(Case(Parallel(*branches), IMAGE))
    ys = [
        branch.forward(Ws, at.x)[0] for branch, Ws in zip(branches, (at.Ws[:1], [], at.Ws[1:]), strict=True)
    ]
    close(at.y, np.concatenate(ys, axis=-1), 0)
    assert at.y.shape == (5, 5, 4, 3 + 2 + 1)


def test_a_branch_in_parallel_alone_is_the_branch():
    conv = Conv2d(2, 3, 2)
    one, at = Pass(Case(conv, IMAGE)), Pass(Case(Parallel([conv]), IMAGE))
    close(at.y, one.y, 0)
    close(at.layer.backward(at.Ws, at.record, at.u)[0], conv.backward(one.Ws, one.record, one.u)[0])


def test_groups_are_one_convolution_whose_other_weights_are_zero():
    groups = Grouped(*[Conv2d(2, 3, 2, padding=((1, 0), (0, 0)))] * 2)
    whole, at = Conv2d(4, 6, 2, padding=((1, 0), (0, 0))), Pass(Case(groups, (5, 4, 4)))
    weight, bias = np.zeros((6, 4, 2, 2)), np.zeros(6)
    for group, W in enumerate(at.Ws):
        rows, columns = slice(3 * group, 3 * group + 3), slice(2 * group, 2 * group + 2)
        weight[rows, columns], bias[rows] = Conv2d(2, 3, 2).split(W)
    W = Conv2d.join(weight, bias)
    y, record = whole.forward([W], at.x)
    close(at.y, y)
    dx, gs = groups.backward(at.Ws, at.record, at.u)
    expected, (g,) = whole.backward([W], record, at.u)
    close(dx, expected)
    close(np.concatenate(gs, -1), g)
    abars = [abar for abar, _ in groups.signals(at.record)]
    patches = whole.signals(record)[0][0][..., :-1].reshape(5, 15, 4, 4)  # (N, T, places, channels)
    for group, abar in enumerate(abars):
        close(abar[..., :-1].reshape(5, 15, 4, 2), patches[..., 2 * group : 2 * group + 2], 0)


@pytest.mark.parametrize("bias", [True, False])
def test_groups_take_weights_of_pytorch_and_give_them_back(bias):
    rng = np.random.default_rng(0)
    weight, b = rng.standard_normal((6, 2, 3, 1)), rng.standard_normal(6) if bias else None
    groups = Grouped(*[Conv2d(2, 2, (3, 1), bias=bias)] * 3)
    Ws = groups.join(weight, b)
    assert tuple(W.shape for W in Ws) == groups.weight_shapes
    close(Ws[1], Conv2d.join(weight[2:4], None if b is None else b[2:4]), 0)
    weight_back, b_back = groups.split(Ws)
    close(weight_back, weight, 0)
    if bias:
        close(b_back, b, 0)
    assert (b_back is None) == (not bias)


def test_a_depthwise_convolution_that_pytorch_made():
    """nn.Conv1d(2, 2, 3, padding=1, groups=2) on 3 k mod 7, k = 0 to 9."""
    x = (np.arange(10.0) * 3 % 7).reshape(1, 2, 5).swapaxes(1, 2)
    layer = OnSequences(Grouped(*[Conv2d(1, 1, (3, 1), padding=(1, 0))] * 2))
    kernels = np.array([[[1.0, 2, 3]], [[-1, 0, 2]]])[..., None]
    Ws = Grouped(*[Conv2d(1, 1, (3, 1))] * 2).join(kernels, np.array([0.5, -1]))
    expected = [[9.5, 24.5, 21.5, 25.5, 12.5], [7, -2, 1, 11, -4]]
    close(layer.forward(Ws, x)[0], np.array([expected]).swapaxes(1, 2))


def test_a_convolution_of_sequences_that_pytorch_made():
    """nn.Conv1d(2, 2, 3, stride=2, padding=2) on the same."""
    x = (np.arange(10.0) * 3 % 7).reshape(1, 2, 5).swapaxes(1, 2)
    W = Conv2d.join(np.arange(12.0).reshape(2, 2, 3, 1), np.array([0.5, -1]))
    expected = [[5.5, 34.5, 54.5, 18.5], [10, 117, 185, 83]]
    for padding in (2, (2, 2)):
        close(Conv1d(2, 2, 3, 2, padding).forward([W], x)[0], np.array([expected]).swapaxes(1, 2))


@pytest.mark.parametrize("padding", ["same", "valid", 1, (2, 0)])
def test_a_convolution_of_sequences_is_that_of_images_of_one_column(padding):
    """Outputs, derivatives and K-FAC's factors."""
    sides = (padding, (0, 0) if padding == (2, 0) else 0)
    conv = Conv2d(2, 3, (3, 1), padding=padding if isinstance(padding, str) else sides)
    nets = [
        mk.Network([first, Tanh(), GlobalAvgPool(), Dense(3, 2)], outputs.Categorical())
        for first in (Conv1d(2, 3, 3, padding=padding), conv)
    ]
    rng = np.random.default_rng(0)
    theta, x, y = rng.standard_normal(nets[0].n_params), rng.standard_normal((6, 5, 2)), rng.integers(0, 2, 6)
    assert nets[0].names == nets[1].names == ("conv0", "dense1")
    ours, theirs = ([net, theta, inputs] for net, inputs in zip(nets, (x, x[:, :, None]), strict=True))
    close(nets[0].gradient(theta, x, y), nets[1].gradient(theta, x[:, :, None], y), 0)
    v = unit_vector(rng, len(theta))
    close(fisher.hessian(*ours, y) @ v, fisher.hessian(*theirs, y) @ v)
    for make in (fisher.exact, fisher.kfac, fisher.ekfac):
        F, expected = (make(fisher.signals(*case)).to_dense() for case in (ours, theirs))
        close(F, expected)
    assert nets[0].forward(theta, x).abar[0].shape == (6, {"valid": 3}.get(padding, 5), 7)


def test_a_convolution_of_one_position_is_dense_and_kfac_its_block():
    conv = mk.Network([Conv1d(3, 2, 1), Flatten()], outputs.Gaussian())
    dense = mk.Network([Dense(3, 2)], outputs.Gaussian())
    rng = np.random.default_rng(0)
    theta, x = rng.standard_normal(8), rng.standard_normal((5, 1, 3))
    signals = fisher.signals(conv, theta, x)
    F = fisher.exact(signals).to_dense()
    close(F, fisher.exact(fisher.signals(dense, theta, x[:, 0])).to_dense())
    close(fisher.kfac(signals).to_dense(), F)


def test_each_group_has_the_factors_of_a_convolution_of_its_channels():
    net = mk.Network(
        [Grouped(*[Conv2d(1, 2, 2)] * 2), Tanh(), GlobalAvgPool(), Dense(4, 3)], outputs.Categorical()
    )
    rng = np.random.default_rng(0)
    theta, x, y = rng.standard_normal(net.n_params), rng.standard_normal((6, 4, 3, 2)), rng.integers(0, 3, 6)
    assert net.names == ("conv0", "conv1", "dense2") and net.shapes[:2] == ((5, 2), (5, 2))
    blocks = fisher.kfac(fisher.signals(net, theta, x)).blocks
    tape = net.forward(theta, x)
    g = [net.backward(theta, tape, root)[:2] for root in net.output.fisher_root(tape.z)]
    for group in range(2):
        patches = Conv2d(1, 2, 2).forward([np.zeros((5, 2))], x[..., group : group + 1])[1]
        ((abar, _),) = Conv2d(1, 2, 2).signals(patches)
        close(blocks[group].A, np.einsum("nti,ntj->ij", abar, abar) / 6)
        G = sum(np.einsum("nto,ntp->op", layers[group], layers[group]) for layers in g) / (6 * 6)
        close(blocks[group].G, G)
    v = unit_vector(rng, net.n_params)
    close(
        fisher.hessian(net, theta, x, y) @ v,
        derivative(lambda t: net.gradient(t, x, y), theta, v),
        FINITE_DIFFERENCE,
    )
    close(net.gradient(theta, x, y) @ v, derivative(lambda t: net.loss(t, x, y), theta, v), FINITE_DIFFERENCE)


def test_a_branch_that_does_not_move_has_derivative_0():
    """Along weights alone, what a branch without weights gives stays where it is."""
    at = Pass(Case(Parallel(Conv2d(2, 3, 1), AvgPool2d(3, 1, 1)), IMAGE))
    dy = at.layer.jvp(at.Ws, at.Vs, at.record, None)[0]
    assert dy.shape == at.y.shape and dy[..., :3].any() and not dy[..., 3:].any()
    Ws, Vs = ([W.astype(np.float32) for W in weights] for weights in (at.Ws, at.Vs))
    record = at.layer.forward(Ws, at.x.astype(np.float32))[1]
    assert at.layer.jvp(Ws, Vs, record, None)[0].dtype == np.float32


def test_nothing_below_the_first_weights_is_differentiated():
    class Once(Tanh):
        def backward(self, *_):
            raise AssertionError("not needed")

    net = mk.Network([Once(), Dense(3, 2), Tanh(), Dense(2, 1)], outputs.Gaussian())
    theta, x = np.ones(net.n_params), np.ones((2, 3))
    net.backward(theta, net.forward(theta, x), np.ones((2, 1)))
    with pytest.raises(AssertionError, match="not needed"):
        Sequential(net.layers).backward(net.unpack(theta), net.forward(theta, x).record, np.ones((2, 1)))


def test_one_after_the_other_is_one_in_the_other():
    inner = Sequential((Conv2d(2, 3, 2), Tanh()))
    flat, deep = (
        Sequential((*inner.layers, Conv2d(3, 2, 2))),
        Sequential((inner, Sequential((Conv2d(3, 2, 2),)))),
    )
    one, other = Pass(Case(flat, IMAGE)), Pass(Case(deep, IMAGE))
    close(one.y, other.y, 0)
    close(*(at.layer.backward(at.Ws, at.record, at.u)[0] for at in (one, other)))


def test_weights_and_statistics_are_dealt_out_depth_first():
    """Each norm finds its own mean: statistics far apart show which went where."""
    layer = Sequential(
        (BatchNorm(1), Parallel([BatchNorm(1), BatchNorm(1)], Residual([BatchNorm(1)], [BatchNorm(1)])))
    )
    assert layer.statistics_shapes == ((2, 1),) * 5
    assert [type(inner).__name__ for inner in layer.parameter_layers] == ["BatchNorm"] * 5
    means = [1.0, 20.0, 300.0, 4000.0, 50000.0]
    stats = [np.array([[mean], [1.0]]) for mean in means]
    Ws = [np.array([[1.0], [0.0]])] * 5
    y, record = layer.forward(Ws, np.zeros((1, 1)), stats)
    r = 1 / np.sqrt(1 + 1e-5)
    first = -1 * r
    close(y, [[((first - 20) * r - 300) * r, (first - 4000) * r + (first - 50000) * r]])
    close(layer.statistics(record), stats, 0)


# nets --------------------------------------------------------------


def inception(n=3):
    """A small net with every kind of layer that couples no examples, smooth enough for finite differences."""
    return mk.Network(
        [
            Conv2d(2, 4, 3, padding="same"),
            GroupNorm(2, 4, eps=0.1),
            Softplus(),
            Parallel(
                Conv2d(4, 3, 1),
                [Conv2d(4, 2, 1), Residual([Conv2d(2, 2, 3, padding=1), LayerNorm(2, eps=0.1), Tanh()])],
                [AvgPool2d(3, 1, 1), Conv2d(4, 2, 1, bias=False)],
            ),
            LocalResponseNorm(3, alpha=0.5),
            MaxPool2d(2),
            Residual([Conv2d(7, 5, 2, padding=1, stride=2), Tanh()], [Conv2d(7, 5, 2, padding=1, stride=2)]),
            GlobalAvgPool(),
            Dense(5, n),
        ],
        outputs.Categorical(),
    )


def test_names_and_shapes_follow_the_layers_depth_first():
    net = inception()
    assert net.names == (
        "conv0",
        "groupnorm1",
        "conv2",
        "conv3",
        "conv4",
        "layernorm5",
        "conv6",
        "conv7",
        "conv8",
        "dense9",
    )
    assert net.shapes == (
        (19, 4),
        (2, 4),
        (5, 3),
        (5, 2),
        (19, 2),
        (2, 2),
        (4, 2),
        (29, 5),
        (29, 5),
        (6, 3),
    )
    assert [place.stop - place.start for place in net.slices] == [i * o for i, o in net.shapes]
    assert all(a.stop == b.start for a, b in itertools.pairwise(net.slices))
    assert net.slices[-1].stop == net.n_params
    theta = np.arange(float(net.n_params))
    close(net.pack(net.unpack(theta)), theta, 0)
    assert net.init_stats() == [] and not net.is_dense_chain


def at_random(net, shape=(6, 5, 4, 2), seed=0):
    rng = np.random.default_rng(seed)
    theta, x = rng.standard_normal(net.n_params) / 2, rng.standard_normal(shape)
    return theta, x, random_targets(rng, "categorical", len(x), 3)


def test_the_gradient_of_a_net_of_branches():
    net = inception()
    theta, x, y = at_random(net)
    grad = net.loss_and_gradient(theta, x, y)[1]
    rng = np.random.default_rng(1)
    for place in net.slices:  # each layer alone, so that none hides behind another
        v = np.zeros(net.n_params)
        v[place] = unit_vector(rng, place.stop - place.start)
        close(grad @ v, derivative(lambda t: net.loss(t, x, y), theta, v), FINITE_DIFFERENCE)


def test_backward_gives_every_layers_g_of_every_example():
    net = inception()
    theta, x, y = at_random(net)
    tape = net.forward(theta, x)
    gs = net.backward(theta, tape, net.output.gradient(tape.z, y))
    rng = np.random.default_rng(1)
    for l, W in enumerate(net.unpack(theta)):
        V = unit_vector(rng, *W.shape)
        v = np.zeros(net.n_params)
        v[net.slices[l]] = V.ravel()
        abar, g = tape.abar[l], gs[l]
        along = [(V * _gradient(abar[n], g[n])).sum() for n in range(len(x))]
        expected = derivative(lambda t: net.output.nll(net.forward(t, x).z, y), theta, v)
        close(along, expected, FINITE_DIFFERENCE)


def _gradient(abar, g):
    """sum_t of abar_t g_t^T, or of abar_t * g_t where scale and shift are."""
    return sum(a * b if a.ndim == 2 else np.outer(a, b) for a, b in zip(abar, g, strict=True))


def test_jacobian_and_adjoint_of_branches():
    net = inception()
    theta, x, _ = at_random(net)
    tape, v = net.forward(theta, x), unit_vector(np.random.default_rng(1), net.n_params)
    u = net.jvp(theta, tape, v)
    close(u, derivative(lambda t: net.forward(t, x).z, theta, v), FINITE_DIFFERENCE)
    dz = np.random.default_rng(2).standard_normal(u.shape)
    close((u * dz).sum(), net.vjp(theta, tape, dz) @ v)


def test_hessian_products_of_residual_and_parallel_convolutions():
    net = mk.Network(
        [
            Conv2d(2, 3, 3, padding=1),
            Tanh(),
            Residual([Conv2d(3, 3, 3, padding=1), Softplus()]),
            Parallel([Conv2d(3, 2, 1), AvgPool2d(2)], MaxPool2d(2)),
            Flatten(),
            Dense(20, 3),
        ],
        outputs.Categorical(),
    )
    theta, x, y = at_random(net)
    v = unit_vector(np.random.default_rng(1), net.n_params)
    product = net.hessian_product(theta, net.forward(theta, x), y, v)
    expected = derivative(lambda t: net.loss_and_gradient(t, x, y)[1], theta, v)
    close(product, expected, FINITE_DIFFERENCE)


@pytest.mark.parametrize("train", [False, True])
def test_hessian_products_of_a_net_with_norms(train):
    """With statistics that are constants, and with those of the batch, which couple all examples."""
    net = mk.Network([*inception().layers, Residual(BatchNorm(3, eps=0.1))], outputs.Categorical())
    theta, x, y = at_random(net)
    rng = np.random.default_rng(1)
    v, stats = unit_vector(rng, net.n_params), [rng.uniform(0.5, 2, (2, 3))]
    product = fisher.hessian(net, theta, x, y, stats, train) @ v
    expected = derivative(lambda t: net.loss_and_gradient(t, x, y, stats, train)[1], theta, v)
    close(product, expected, FINITE_DIFFERENCE)


def everything(net, theta, x, y, **options):
    value, grad = net.loss_and_gradient(theta, x, y, **options)
    tape = net.forward(theta, x, **options)
    dz = net.output.fisher_root(tape.z)
    passes = [tape.z, *tape.abar, *tape.s, *net.backward(theta, tape, dz), net.jvp(theta, tape, grad)]
    p = net.predict(theta, x, options["stats"])
    return [np.asarray(value), grad, p, net.vjp(theta, tape, dz[0]), *passes, *tape.stats]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("train", [True, False])
def test_a_net_keeps_dtype_and_inputs(dtype, train):
    net = mk.Network([*inception().layers, Residual(BatchNorm(3))], outputs.Categorical())
    theta, x, y = at_random(net)
    theta, x = theta.astype(dtype), x.astype(dtype)
    for array in (theta, x, y):
        array.flags.writeable = False
    stats = net.init_stats()
    arrays = everything(net, theta, x, y, stats=stats, train=train)
    assert {array.dtype for array in arrays[1:]} == {np.dtype(dtype)}
    expected = everything(net, theta.astype(float), x.astype(float), y, stats=stats, train=train)
    for array, other in zip(arrays, expected, strict=True):
        np.testing.assert_allclose(array, other, rtol=2e-3, atol=2e-4 if dtype == np.float32 else 0)


@pytest.mark.parametrize("train", [True, False])
def test_a_net_of_branches_stays_on_the_device(train):
    net = mk.Network([*inception().layers, BatchNorm(3)], outputs.Categorical())
    arrays = at_random(net)

    def passes(theta, x, y):
        stats = net.init_stats()
        grad = net.loss_and_gradient(theta, x, y, stats, train)[1]
        tape = net.forward(theta, x, train=train)
        g = net.backward(theta, tape, net.output.fisher_root(tape.z))
        more = [net.predict(theta, x, stats), net.vjp(theta, tape, tape.z), net.jvp(theta, tape, grad)]
        return [grad, tape.z, *tape.abar, *tape.s, *g, *more, *tape.stats, *tape.batch_stats]

    expected = passes(*arrays)
    with standin.installed():
        results = passes(*map(mk.to_device, arrays))
        for array, other in zip(results, expected, strict=True):
            assert isinstance(array, standin.ndarray)
            close(mk.to_host(array), other)


# chunks --------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch):
    """Examples in each forward pass of a net, in order."""
    counts = []
    run = mk.Network._pass

    def record(self, theta, x, *args, **options):
        counts.append(len(x))
        return run(self, theta, x, *args, **options)

    monkeypatch.setattr(mk.Network, "_pass", record)
    return counts


@pytest.mark.parametrize("chunk", [1, 500, 900])
def test_chunks_of_a_batch_change_rounding_at_most(chunk, monkeypatch, counted):
    net = inception()
    theta, x, y = at_random(net, (11, 5, 4, 2))
    theta2 = theta + 0.1

    def results():
        grad = net.loss_and_gradient(theta, x, y)
        return [*grad, net.loss(theta, x, y), net.predict(theta, x), net.kl(theta, theta2, x)]

    whole = results()
    assert counted == [11] * 5
    counted.clear()
    monkeypatch.setattr(parallel, "_CHUNK", chunk)
    for part, other in zip(results(), whole, strict=True):
        close(part, other)
    assert sum(counted) == 55 and max(counted) <= max(1, chunk // net._body.example_size((5, 4, 2)))
    assert len(counted) > 10


def test_a_chunk_fits_the_largest_array(monkeypatch, counted):
    net = mk.Network([Conv2d(2, 3, 3, padding=1), GlobalAvgPool()], outputs.Gaussian())
    theta, x, _ = at_random(net, (12, 5, 4, 2))
    monkeypatch.setattr(
        parallel, "_CHUNK", 3 * 7 * 4 * 6
    )  # (H + 2) Wo kw C numbers in the lines of an example
    net.predict(theta, x)
    assert sorted(counted) == [3] * 4


def test_batch_norm_in_training_is_never_cut_into_chunks(monkeypatch, counted):
    net = mk.Network(
        [Conv2d(2, 3, 2), BatchNorm(3), ReLU(), GlobalAvgPool(), Dense(3, 3)], outputs.Categorical()
    )
    theta, x, y = at_random(net)
    x[3:] += 2
    coupled = net.loss_and_gradient(theta, x, y, train=True)
    used = net.loss_and_gradient(theta, x, y, net.init_stats())
    monkeypatch.setattr(parallel, "_CHUNK", 1)
    counted.clear()
    again = net.loss_and_gradient(theta, x, y, train=True)
    assert counted == [6]
    close(again[0], coupled[0], 0)
    close(again[1], coupled[1], 0)
    # in use, examples do not see each other, and each may go alone
    counted.clear()
    alone = net.loss_and_gradient(theta, x, y, net.init_stats())
    assert counted == [1] * 6
    close(alone[0], used[0])
    close(alone[1], used[1])
    # while halves of the batch, each with its own statistics, have another loss
    halves = [
        net.loss_and_gradient(theta, x[rows], y[rows], train=True)[0] for rows in (slice(3), slice(3, 6))
    ]
    assert abs(np.mean(halves) - coupled[0]) > 1e-3


@pytest.mark.parametrize("call", ["loss", "loss_and_gradient", "predict", "kl"])
def test_an_empty_batch_of_images_is_refused(call):
    net = inception()
    theta, x, y = at_random(net)
    others = {"predict": (x[:0],), "kl": (theta, x[:0])}.get(call, (x[:0], y[:0]))
    with pytest.raises(
        ValueError, match=r"expected a batch of at least one example.* got shape \(0, 5, 4, 2\)"
    ):
        getattr(net, call)(theta, *others)


def test_targets_are_counted_before_a_batch_is_cut(monkeypatch):
    net = inception()
    theta, x, y = at_random(net)
    monkeypatch.setattr(parallel, "_CHUNK", 1)
    with pytest.raises(ValueError, match=r"expected labels of shape \(6,\), got \(5,\)"):
        net.loss_and_gradient(theta, x, y[:5])


# what is refused --------------------------------------------------------------


def test_residual_refuses_body_and_shortcut_of_different_shapes():
    message = (
        r"expected one shape from body and shortcut of Residual, got \(None, None, 3\) and \(None, None, 4\)"
    )
    with pytest.raises(ValueError, match=message):
        Residual(Conv2d(2, 3, 1), Conv2d(2, 4, 1))
    with pytest.raises(ValueError, match=r"of Residual, got \(3,\) and \(None, None, 3\)"):
        Residual([Conv2d(2, 3, 1), GlobalAvgPool()], Conv2d(2, 3, 1))
    # known only when an image is
    layer = Residual(Conv2d(2, 2, 3))
    message = r"expected one shape from body and shortcut of Residual, got \(1, 3, 2, 2\) and \(1, 5, 4, 2\)"
    with pytest.raises(ValueError, match=message):
        layer.forward([np.zeros((19, 2))], np.zeros((1, *IMAGE)))
    with pytest.raises(ValueError, match=r"of Residual, got \(3, 2, 2\) and \(5, 4, 2\)"):
        layer.output_shape(IMAGE)
    with pytest.raises(ValueError, match=r"of Residual, got \(None, None, 3\) and \(None, None, 2\)"):
        mk.Network([Conv2d(1, 2, 1), Residual(Conv2d(2, 3, 1)), Flatten()], outputs.Gaussian())


def test_parallel_refuses_branches_of_different_extents():
    with pytest.raises(ValueError, match="expected at least one branch in Parallel, got none"):
        Parallel()
    layer = Parallel(Conv2d(2, 3, 1), Conv2d(2, 3, 2))
    message = r"expected branches of Parallel with one height and width, got \(1, 5, 4, 3\), \(1, 4, 3, 3\)"
    with pytest.raises(ValueError, match=message):
        layer.forward([np.zeros((3, 3)), np.zeros((9, 3))], np.zeros((1, *IMAGE)))
    message = r"expected branches of Parallel with one height and width, got \[\(5, 4, 3\), \(4, 3, 3\)\]"
    with pytest.raises(ValueError, match=message):
        layer.output_shape(IMAGE)
    with pytest.raises(ValueError, match=r"with one height and width, got \[\(None, None, 3\), \(3,\)\]"):
        Parallel(Conv2d(2, 3, 1), [Conv2d(2, 3, 1), GlobalAvgPool()])


def test_groups_refuse_channels_and_weights_that_do_not_divide():
    groups = Grouped(*[Conv2d(2, 3, 1)] * 2)
    with pytest.raises(ValueError, match="expected channels in 2 equal groups into Grouped, got 5"):
        groups.forward([np.zeros((3, 3))] * 2, np.zeros((1, 4, 4, 5)))
    with pytest.raises(ValueError, match="expected channels in 2 equal groups into Grouped, got 3"):
        mk.Network([Conv2d(1, 3, 1), groups, Flatten()], outputs.Gaussian())
    with pytest.raises(ValueError, match=r"expected images \(N, H, W, 2\) into Conv2d.*got \(N, 4, 4, 3\)"):
        groups.output_shape((4, 4, 6))
    with pytest.raises(ValueError, match="expected kernels in 2 equal groups, got 3"):
        groups.join(np.zeros((3, 2, 1, 1)), None)
    with pytest.raises(ValueError, match=r"expected a weight \(c_out, c_in / groups, kh, kw\) and a bias"):
        groups.join(np.zeros((6, 2, 1, 1)), np.zeros(5))
    with pytest.raises(TypeError, match="expected weight to be a NumPy or CuPy array, got list"):
        groups.join([[[[1.0]]]], None)
    with pytest.raises(ValueError, match=r"expected W of shape \(3, 3\), got \(4, 3\)"):
        groups.split([np.zeros((4, 3))] * 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2, 0, 3), "expected Conv1d c_out to be a positive whole number, got 0"),
        ((2, 2, 0), "expected Conv1d kernel_size to be a positive whole number, got 0"),
        ((2, 2, (3, 1)), r"expected Conv1d kernel_size to be .* got \(3, 1\)"),
        ((2, 2, 3, 2.5), r"expected Conv1d stride to be .* got 2\.5"),
        ((2, 2, 3, 1, -1), r"expected Conv2d padding to be .* got \(-1, 0\)"),
        ((2, 2, 3, 1, (1, -1)), r"expected Conv2d padding to be .* got \(1, -1\)"),
        ((2, 2, 3, 1, "full"), "expected Conv2d padding 'valid', 'same' or numbers, got 'full'"),
        ((2, 2, 3, 1, 0, 1), "expected Conv2d bias to be True or False, got 1"),
    ],
)
def test_conv1d_refuses_arguments_that_make_none(arguments, message):
    with pytest.raises(ValueError, match=message):
        Conv1d(*arguments)


def test_sequences_and_images_are_told_apart():
    conv = Conv1d(2, 3, 3)
    for shape, came in (((5, 4, 2), r"\('N', 5, 4, 2\)"), ((8,), r"\('N', 8\)")):
        with pytest.raises(
            ValueError, match=r"expected sequences \(N, T, C\) into AsImages\(\), got " + came
        ):
            conv.forward([np.zeros((7, 3))], np.zeros((1, *shape)))
    with pytest.raises(ValueError, match=r"images \(N, T, 1, C\) into AsSequences\(\), got \('N', 5, 4, 2\)"):
        OnSequences(MaxPool2d(1)).layers[-1].forward([], np.zeros((1, 5, 4, 2)))
    with pytest.raises(ValueError, match="expected images of at least 3 x 1 pixels with padding, got 2 x 1"):
        conv.forward([np.zeros((7, 3))], np.zeros((1, 2, 2)))
    with pytest.raises(ValueError, match=r"into Conv2d\(c_in=2.*got \(N, \?, 1, 3\)"):
        mk.Network([conv, Conv1d(2, 1, 1), Flatten()], outputs.Gaussian())


def test_channels_of_branches_add_up_for_the_layer_above():
    with pytest.raises(ValueError, match=r"into Conv2d\(c_in=6.*got \(N, \?, \?, 5\)"):
        mk.Network(
            [Parallel(Conv2d(2, 3, 1), Conv2d(2, 2, 1)), Conv2d(6, 1, 1), Flatten()], outputs.Gaussian()
        )
    assert Parallel(Dense(4, 3), Dense(4, 2)).output_shape((4,)) == (5,)
    # what a branch without weights adds is known only when an image is
    layer = Parallel(Conv2d(2, 3, 1), MaxPool2d(3, 1, 1))
    assert layer.output_shape(None) is None and layer.output_shape(IMAGE) == (5, 4, 5)
    mk.Network([layer, Conv2d(5, 1, 1), GlobalAvgPool()], outputs.Gaussian())
    with pytest.raises(ValueError, match=r"expected 4 inputs to Dense\(.*got 5"):
        mk.Network([Parallel(Dense(2, 3), Dense(2, 2)), Dense(4, 1)], outputs.Gaussian())


@pytest.mark.parametrize("make", [Residual, Parallel])
def test_only_layers_can_be_parts(make):
    with pytest.raises(TypeError, match=r"expected layers of minikfac\.layers, got 'tanh'"):
        make([Tanh(), "tanh"])
    with pytest.raises(TypeError, match=r"expected a layer of minikfac\.layers, or several, got 3"):
        make(3)
    with pytest.raises(TypeError, match=r"expected layers of minikfac\.layers, got <class"):
        make([Tanh])


def test_one_after_the_other_takes_layers_in_any_sequence():
    assert Sequential([Tanh(), Flatten()]) == Sequential((Tanh(), Flatten()))
    with pytest.raises(TypeError, match=r"expected layers of minikfac\.layers, got 2"):
        Sequential((Tanh(), 2))


def test_composites_are_printed_with_their_parts():
    assert repr(Residual(Tanh())) == "Residual(Tanh(), shortcut=Sequential(layers=()))"
    assert repr(Grouped(Tanh(), ReLU())) == "Grouped(Tanh(), ReLU())"
    assert repr(Conv1d(1, 2, 3)).startswith(
        "Conv1d(layers=(AsImages(), Conv2d(c_in=1, c_out=2, kernel_size=(3,"
    )
    assert repr(Parallel(Tanh(), [ReLU(), Tanh()])) == "Parallel(Tanh(), Sequential(layers=(ReLU(), Tanh())))"
