"""What every layer keeps to: its derivatives, shapes and dtypes. Dense and pointwise layers alone."""

import math

import numpy as np
import pytest

import minikfac as mk
from minikfac import layers
from minikfac.network.layers import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm,
    ChannelsLast,
    Conv1d,
    Conv2d,
    Dense,
    Flatten,
    GlobalAvgPool,
    Grouped,
    GroupNorm,
    LayerNorm,
    LocalResponseNorm,
    Logistic,
    MaxPool2d,
    OnSequences,
    Parallel,
    Residual,
    RMSNorm,
    Sequential,
    Softplus,
    Tanh,
    Unscaled,
    ZeroPad2d,
)
from oracles import ACTIVATIONS, FINITE_DIFFERENCE, close, derivative, standin
from oracles.layers import Case, Pass

K = 3
FLAT, IMAGE, SEQUENCE = (4,), (5, 4, 2), (6, 2)
nested = Sequential(
    (
        Conv2d(2, 4, 3, padding=1),
        Parallel(Residual([GroupNorm(2, 4), Tanh(), Conv2d(4, 4, 1)]), [BatchNorm(4), AvgPool2d(3, 1, 1)]),
        LocalResponseNorm(3, alpha=1.0),
        Residual(BatchNorm(8), [Conv2d(8, 8, 1, bias=False), Softplus()]),
        GlobalAvgPool(),
        Dense(8, 2),
    )
)
CASES = {
    "dense": Case(Dense(4, 3), FLAT),
    "dense without bias": Case(Dense(4, 3, bias=False), FLAT),
    **{name: Case(layers.ACTIVATIONS[name](), FLAT) for name in (*ACTIVATIONS, "gelu")},
    "relu of images": Case(layers.ReLU(), IMAGE),
    "sequential": Case(Sequential((Logistic(), Dense(4, 6), Sequential((Tanh(), Dense(6, 2))))), FLAT),
    "nothing": Case(Sequential(()), FLAT),
    "conv": Case(Conv2d(2, 3, 3, padding=1), IMAGE),
    "conv with stride, without bias": Case(Conv2d(2, 3, (3, 2), (2, 1), (0, 1), bias=False), IMAGE),
    "conv, padded by channel": Case(Conv2d(2, 3, (2, 3), padding="same", pad_value=(0.5, -1.0)), IMAGE),
    "conv, padded by side": Case(Conv2d(2, 3, (3, 2), (2, 1), ((2, 0), (0, 1))), IMAGE),
    "dilated conv": Case(Conv2d(2, 3, 3, (1, 2), (2, 1), dilation=2), IMAGE),
    "dilated max pool": Case(MaxPool2d((3, 2), 2, (1, 0), (2, 3)), IMAGE),
    "conv of single pixels": Case(Conv2d(2, 7, 1, stride=3), IMAGE),
    "convs": Case(Sequential((Conv2d(2, 3, 2), Tanh(), Conv2d(3, 2, 3, 2, 1))), IMAGE),
    "max pool": Case(MaxPool2d(2), IMAGE),
    "max pool with overlap": Case(MaxPool2d(3, 2, 1), IMAGE),
    "max pool with overlap one way": Case(MaxPool2d((3, 2), (1, 2), (1, 0)), IMAGE),
    "max pool with overlap the other way": Case(MaxPool2d((2, 3), (2, 1), (0, 1)), IMAGE),
    "max pool with gaps": Case(MaxPool2d((2, 1), (3, 2)), IMAGE),
    "max pool beyond the image": Case(MaxPool2d((2, 3), ceil_mode=True), IMAGE),
    "average pool": Case(AvgPool2d(2), IMAGE),
    "average pool of pixels alone": Case(AvgPool2d(3, 2, 1, count_include_pad=False), IMAGE),
    "average pool beyond the padding": Case(AvgPool2d((2, 3), 2, 1, ceil_mode=True), IMAGE),
    "adaptive average pool": Case(AdaptiveAvgPool2d((3, 2)), IMAGE),
    "average pool with overlap": Case(AvgPool2d((3, 2), (2, 1), (1, 0)), IMAGE),
    "zero pad": Case(ZeroPad2d((1, 0, 2, 3)), IMAGE),
    "global average pool": Case(GlobalAvgPool(), IMAGE),
    "flatten": Case(Flatten(), IMAGE),
    "flatten what is flat": Case(Flatten(), FLAT),
    "channels last": Case(ChannelsLast(), (2, 5, 4)),
    "channels last of sequences": Case(ChannelsLast(), (2, 5)),
    "conv of sequences": Case(Conv1d(2, 3, 3, 2, (2, 0)), SEQUENCE),
    "sequences": Case(
        Sequential(
            (
                OnSequences(Grouped(*[Conv2d(1, 2, (2, 1))] * 2)),
                GroupNorm(2, 4, 0.1),
                OnSequences(MaxPool2d((2, 1), 1)),
                Tanh(),
                LayerNorm(4, 0.1),
                Parallel(GlobalAvgPool(), Flatten()),
            )
        ),
        SEQUENCE,
    ),
    "layer norm": Case(LayerNorm(4), FLAT),
    "layer norm of images": Case(LayerNorm(6), (3, 2, 6)),
    "layer norm without bias": Case(LayerNorm(4, bias=False), FLAT),
    "layer norm of all of an image": Case(LayerNorm((3, 2, 6)), (3, 2, 6)),
    "group norm": Case(GroupNorm(2, 8), (8,)),
    "group norm of images": Case(GroupNorm(3, 6), (3, 2, 6)),
    "batch norm": Case(BatchNorm(4), FLAT),
    "batch norm of images": Case(BatchNorm(2), IMAGE),
    "running batch norm": Case(BatchNorm(4), FLAT, running=True),
    "running batch norm of images": Case(BatchNorm(2), IMAGE, running=True),
    "RMS norm": Case(RMSNorm(4), FLAT),
    "RMS norm of images": Case(RMSNorm(2, eps=0.1), IMAGE),
    "unscaled group norm": Case(Unscaled(GroupNorm(3, 6)), (3, 2, 6)),
    "unscaled batch norm": Case(Unscaled(BatchNorm(2)), IMAGE),
    "unscaled RMS norm": Case(Unscaled(RMSNorm(4)), FLAT),
    "local response norm": Case(LocalResponseNorm(3, alpha=1.0, k=0.5), IMAGE),
    "even local response norm": Case(LocalResponseNorm(4, alpha=1.0), (2, 1, 6)),
    "residual": Case(Residual([Conv2d(2, 2, 3, padding=1), Tanh()]), IMAGE),
    "residual with shortcut": Case(Residual([Conv2d(2, 3, 3, 2, 1), Softplus()], Conv2d(2, 3, 1, 2)), IMAGE),
    "residual of dense layers": Case(Residual([Dense(4, 5), Tanh(), Dense(5, 4)]), FLAT),
    "parallel": Case(
        Parallel(
            Tanh(), Conv2d(2, 3, 1), [Conv2d(2, 2, 1), Tanh(), Conv2d(2, 2, 3, padding=1)], MaxPool2d(3, 1, 1)
        ),
        IMAGE,
    ),
    "parallel dense layers": Case(Parallel(Dense(4, 2), (), Dense(4, 3)), FLAT),
    "grouped": Case(Grouped(*[Conv2d(1, 3, 2)] * 2), IMAGE),
    "grouped in branches": Case(
        Grouped(Residual([Conv2d(1, 1, 3, padding=1), Tanh()]), [BatchNorm(1), Conv2d(1, 2, 1)]), IMAGE
    ),
    "nested": Case(nested, IMAGE),
    "running nested": Case(nested, IMAGE, running=True),
}
every_layer = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softplus_keeps_all_digits_where_it_is_small(dtype):
    """log(1 + e) of the rounded 1 + e has lost the digits of e = exp(x): all of them from x = -37 on."""
    x = np.linspace(np.log(np.finfo(dtype).tiny) + 1, 1, 2001).astype(dtype)
    y = Softplus().forward([], x[:, None])[0][:, 0]
    expected = np.log1p(np.exp(x.astype(np.longdouble)))
    assert y.dtype == dtype
    assert (abs(y - expected) <= 4 * np.finfo(dtype).eps * expected).all()


@every_layer
def test_jvp_is_the_derivative_of_the_outputs(case):
    at = Pass(case)
    close(at.jvp(), derivative(at.moved, np.zeros(()), np.ones(())), FINITE_DIFFERENCE)


@every_layer
def test_backward_is_the_adjoint_of_jvp(case):
    at = Pass(case)
    forward = (at.u * at.jvp()).reshape(len(at.u), -1).sum(1)
    back = at.along(*case.layer.backward(at.Ws, at.record, at.u))
    close(forward.sum(), back.sum())
    if case.coupled:
        assert abs(forward - back).max() > 1e-3  # an example's output moves with the others' inputs
    else:
        close(forward, back)


@every_layer
def test_backward_is_the_derivative_of_the_loss(case):
    at = Pass(case)
    for n in range(len(at.u)):
        u = np.zeros_like(at.u)
        u[n] = at.u[n]
        dx, gs = case.layer.backward(at.Ws, at.record, u)
        along = derivative(
            lambda x, n=n: (at.u[n] * case.layer.forward(at.Ws, x, at.stats)[0][n]).sum(), at.x, at.dx
        )
        close((dx * at.dx).sum(), along, FINITE_DIFFERENCE)
        if not case.coupled:
            assert not dx[np.arange(len(dx)) != n].any()
        for l, V in enumerate(at.Vs):

            def loss(W, n=n, l=l):
                Ws = [*at.Ws[:l], W, *at.Ws[l + 1 :]]
                return (at.u[n] * case.layer.forward(Ws, at.x, at.stats)[0][n]).sum()

            abar, g = case.layer.signals(at.record)[l][0], gs[l].reshape(len(u), -1, gs[l].shape[-1])
            gradient = abar * g[:, :, None] if abar.ndim == 4 else abar[..., None] * g[:, :, None]
            along = derivative(loss, at.Ws[l], V)
            close((gradient.sum((0, 1)) * V).sum(), along, FINITE_DIFFERENCE)


@every_layer
def test_leading_axes_of_backward_are_separate_calls(case):
    at = Pass(case)
    u = at.rng.standard_normal((2, K, *at.y.shape))
    dx, gs = case.layer.backward(at.Ws, at.record, u)
    assert dx.shape == (2, K, *at.x.shape)
    for m in range(2):
        for k in range(K):
            dx_alone, gs_alone = case.layer.backward(at.Ws, at.record, u[m, k])
            close(dx[m, k], dx_alone)
            for g, g_alone in zip(gs, gs_alone, strict=True):
                close(g[m, k], g_alone)


@every_layer
def test_derivatives_by_the_inputs_are_left_out_on_request(case):
    at = Pass(case)
    dx, gs = case.layer.backward(at.Ws, at.record, at.u, need_dx=False)
    if case.layer.weight_shapes:
        assert dx is None
    for g, expected in zip(gs, case.layer.backward(at.Ws, at.record, at.u)[1], strict=True):
        close(g, expected)


@every_layer
def test_jvp_with_fixed_inputs(case):
    at = Pass(case)
    dy = case.layer.jvp(at.Ws, at.Vs, at.record, None)[0]
    if not case.layer.weight_shapes:
        assert dy is None
        return
    close(dy, case.layer.jvp(at.Ws, at.Vs, at.record, 0 * at.dx)[0])


@every_layer
def test_backward_jvp_is_the_derivative_of_the_backward_pass(case):
    at = Pass(case)
    layer, u, ru = case.layer, at.u, at.rng.standard_normal(at.y.shape)
    tangent = layer.jvp(at.Ws, at.Vs, at.record, at.dx)[1]

    def backward(t):
        Ws = [W + t * V for W, V in zip(at.Ws, at.Vs, strict=True)]
        record = layer.forward(Ws, at.x + t * at.dx, at.stats)[1]
        dx, gs = layer.backward(Ws, record, u + t * ru)
        abars = [abar for abar, _ in layer.signals(record)]
        return np.concatenate([part.ravel() for part in (dx, *abars, *gs)])

    dx, rdx, signals = layer.backward_jvp(at.Ws, at.Vs, at.record, tangent, u, ru)
    now = [dx, *(abar for abar, _, _, _ in signals), *(g for _, _, g, _ in signals)]
    change = [rdx, *(rabar for _, rabar, _, _ in signals), *(rg for _, _, _, rg in signals)]
    close(np.concatenate([part.ravel() for part in now]), backward(0.0))
    expected = derivative(backward, np.zeros(()), np.ones(()))
    close(np.concatenate([part.ravel() for part in change]), expected, FINITE_DIFFERENCE)


@every_layer
def test_backward_jvp_with_fixed_inputs(case):
    at = Pass(case)
    backs = []
    for dx in (None, 0 * at.dx):
        tangent = case.layer.jvp(at.Ws, at.Vs, at.record, dx)[1]
        back, rback, parts = case.layer.backward_jvp(at.Ws, at.Vs, at.record, tangent, at.u, at.u)
        backs.append(np.concatenate([a.ravel() for a in (back, rback, *(b for four in parts for b in four))]))
    close(backs[0], backs[1])


def everything(layer, stats, Ws, Vs, x, dx, u):
    """All arrays that a layer makes."""
    y, record = layer.forward(Ws, x, stats)
    back, gs = layer.backward(Ws, record, u)
    dy, tangent = layer.jvp(Ws, Vs, record, dx)
    arrays = [y, back, *gs, dy, *layer.statistics(record)]
    arrays += [array for pair in layer.signals(record) for array in pair]
    rback, rrback, more = layer.backward_jvp(Ws, Vs, record, tangent, u, u)
    return [*arrays, rback, rrback, *(array for parts in more for array in parts)]


@every_layer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_layer_keeps_dtype_and_inputs(case, dtype):
    at = Pass(case)
    Ws, Vs, stats = ([W.astype(dtype) for W in weights] for weights in (at.Ws, at.Vs, at.stats or []))
    x, dx, u = (array.astype(dtype) for array in (at.x, at.dx, at.u))
    for array in [*Ws, *Vs, *stats, x, dx, u]:
        array.flags.writeable = False
    arrays = everything(case.layer, stats or None, Ws, Vs, x, dx, u)
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}


@every_layer
def test_passes_over_one_record_can_be_repeated(case):
    at = Pass(case)

    def passes():
        dx, gs = case.layer.backward(at.Ws, at.record, at.u)
        signals = [array for pair in case.layer.signals(at.record) for array in pair]
        return [dx, *gs, at.jvp(), *signals, *case.layer.statistics(at.record)]

    before = [array.copy() for array in passes()]
    for again, first in zip(passes(), before, strict=True):
        close(again, first, 0)


@every_layer
def test_a_layer_stays_on_the_device(case):
    at = Pass(case)
    expected = everything(case.layer, at.stats, at.Ws, at.Vs, at.x, at.dx, at.u)
    with standin.installed():
        Ws, Vs, stats = ([mk.to_device(W) for W in weights] for weights in (at.Ws, at.Vs, at.stats or []))
        x, dx, u = map(mk.to_device, (at.x, at.dx, at.u))
        arrays = everything(case.layer, stats or None, Ws, Vs, x, dx, u)
        assert all(isinstance(array, standin.ndarray) for array in arrays)
        for array, other in zip(arrays, expected, strict=True):
            close(mk.to_host(array), other)


@every_layer
def test_shapes_are_known_before_an_input_is(case):
    at, layer = Pass(case), case.layer
    assert layer.output_shape(case.shape) == at.y.shape[1:]
    first = layer.output_shape(None)
    assert first is None or first[-1] in (None, at.y.shape[-1])
    assert first is None or len(first) == at.y.ndim - 1 or first[0] is None  # perhaps a sequence
    for hidden in range(len(case.shape)):
        shape = tuple(None if axis == hidden else extent for axis, extent in enumerate(case.shape))
        guess = layer.output_shape(shape)
        assert len(guess) == at.y.ndim - 1
        assert all(a in (None, b) for a, b in zip(guess, at.y.shape[1:], strict=True))


@every_layer
def test_signals_are_inputs_and_outputs_of_weights(case):
    at = Pass(case)
    signals, grids = case.layer.signals(at.record), case.layer.grids(at.record)
    gs = case.layer.backward(at.Ws, at.record, at.u)[1]
    assert len(signals) == len(grids) == len(gs) == len(at.Ws) == len(case.layer.parameter_layers)
    largest = max(at.x.size, at.y.size)
    records = case.layer.records(at.record)
    for (abar, s), grid, g, W, record in zip(signals, grids, gs, at.Ws, records, strict=True):
        made = (abar * W).sum(-2) if abar.ndim == 4 else abar @ W
        close(s, made)
        assert s.shape == (len(at.x), math.prod(grid), W.shape[1])
        assert g.shape in (s.shape, (len(at.x), *grid, W.shape[1]))
        kept = record[0] if len(record) == 3 else abar  # of a convolution its lines
        largest = max(largest, kept.size)
    assert largest <= len(at.x) * case.layer.example_size(case.shape)


# dense layers --------------------------------------------------------------


def test_a_dense_layer_adds_its_last_row_of_weights():
    W = np.arange(6.0).reshape(3, 2)
    x = np.array([[1.0, 10.0]])
    s, record = Dense(2, 2).forward([W], x)
    close(s, [[0 + 20 + 4, 1 + 30 + 5]])
    close(Dense(2, 2).signals(record)[0][0], [[[1, 10, 1]]])


def test_a_dense_layer_without_bias_multiplies_only():
    assert Dense(2, 3, bias=False).weight_shape == (2, 3)
    close(Dense(1, 1, bias=False).forward([np.array([[2.0]])], np.array([[3.0]]))[0], 6)


@pytest.mark.parametrize("bias", [True, False])
def test_split_undoes_join_in_the_shapes_of_pytorch(bias):
    rng = np.random.default_rng(0)
    weight, b = rng.standard_normal((3, 4)), rng.standard_normal(3) if bias else None
    W = Dense.join(weight, b)
    x = rng.standard_normal((2, 4))
    close(Dense(4, 3, bias).forward([W], x)[0], x @ weight.T + (b if bias else 0))
    weight_back, b_back = Dense.split(W, bias)
    close(weight_back, weight, 0)
    if bias:
        close(b_back, b, 0)
    assert (b_back is None) == (not bias)
    assert not any(np.shares_memory(W, array) for array in (weight, weight_back))


@pytest.mark.parametrize(
    ("weight", "bias", "came"),
    [((3, 4), (4,), r"\(3, 4\) and \(4,\)"), ((3,), None, r"\(3,\) and None"), ((3, 4), (3, 1), r"\(3, 1\)")],
)
def test_join_refuses_shapes_that_do_not_belong_together(weight, bias, came):
    with pytest.raises(ValueError, match=rf"expected a weight \(n_out, n_in\) and a bias .*got .*{came}"):
        Dense.join(np.zeros(weight), None if bias is None else np.zeros(bias))


def test_join_refuses_lists():
    with pytest.raises(TypeError, match="expected weight to be a NumPy or CuPy array, got list"):
        Dense.join([[1.0]], np.ones(1))
    with pytest.raises(TypeError, match="expected bias to be a NumPy or CuPy array, got list"):
        Dense.join(np.ones((1, 1)), [1.0])


def test_split_takes_matrices_only():
    with pytest.raises(TypeError, match="expected W to be a NumPy or CuPy array, got list"):
        Dense.split([[1.0], [1.0]])
    with pytest.raises(ValueError, match=r"expected W \(I, O\), got shape \(3,\)"):
        Dense.split(np.ones(3))


@pytest.mark.parametrize("size", [0, -1, 2.5, 3.0, True, "3", None])
def test_dense_refuses_sizes_that_are_no_counts(size):
    with pytest.raises(ValueError, match=f"expected Dense n_in to be a positive whole number, got {size!r}"):
        Dense(size, 2)
    with pytest.raises(ValueError, match=f"expected Dense n_out to be a positive whole number, got {size!r}"):
        Dense(2, size)


def test_dense_takes_numpys_whole_numbers():
    assert Dense(np.int64(3), np.uint8(2)).weight_shape == (4, 2)


@pytest.mark.parametrize("bias", [10, 1, 1.0, "yes", None])
def test_dense_refuses_a_bias_that_is_a_number(bias):
    with pytest.raises(ValueError, match=f"expected Dense bias to be True or False, got {bias!r}"):
        Dense(3, 2, bias)


@pytest.mark.parametrize("shape", [(5, 3), (5, 4, 1), (4,)])
def test_dense_refuses_inputs_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"expected inputs of shape \(N, 4\) to Dense\(n_in=4.*got \("):
        Dense(4, 2).forward([np.zeros((5, 2))], np.zeros(shape))


def test_sizes_of_neighbours_must_fit():
    chain = Sequential((Dense(4, 3), Tanh(), Dense(4, 2)))
    with pytest.raises(ValueError, match=r"expected 4 inputs to Dense.*, got 3"):
        chain.output_shape(None)
    with pytest.raises(ValueError, match=r"expected 4 inputs to Dense.*, got 7"):
        chain.output_shape((7,))


def test_a_layer_without_a_second_derivative_says_so():
    class Cube(layers.Layer):
        def forward(self, Ws, x):
            return x**3, x

        def backward(self, Ws, record, dy, need_dx=True):
            return 3 * record**2 * dy, []

        def jvp(self, Ws, Vs, record, dx):
            return (None if dx is None else 3 * record**2 * dx), dx

    with pytest.raises(ValueError, match="the Hessian is not implemented for Cube layers"):
        Cube().backward_jvp([], [], None, None, None, None)
