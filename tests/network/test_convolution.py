"""Convolution and pooling against loops over pixels and against PyTorch, and what they refuse."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minikfac as mk
from minikfac import outputs
from minikfac.network.layers import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    ChannelsLast,
    Conv2d,
    Dense,
    Flatten,
    GlobalAvgPool,
    LocalResponseNorm,
    MaxPool2d,
    ReLU,
    Tanh,
    ZeroPad2d,
)
from oracles import FINITE_DIFFERENCE, close, derivative, random_targets, unit_vector
from oracles.layers import Case, Pass, loop_conv, loop_pool


def channels_first(x):
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))


def channels_last(x):
    return np.moveaxis(np.asarray(x), 1, -1)


# geometries --------------------------------------------------------------

PADDINGS = ("valid", "same", 0, 1, 2, (0, 1), (2, 0), (1, 2), ((1, 0), (0, 2)), ((0, 3), (1, 1)))


def pixels_of(padding, kernel):
    """Pixels above and below, left and right."""
    if padding == "same":
        return tuple(((k - 1) // 2, k // 2) for k in kernel)
    pair = (0, 0) if padding == "valid" else (padding, padding) if isinstance(padding, int) else padding
    return tuple(p if isinstance(p, tuple) else (p, p) for p in pair)


@st.composite
def convolutions(draw):
    """A convolution, the extents of an image that fits, and the same padding pixel by pixel."""
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    span = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    padding = draw(st.sampled_from(PADDINGS))
    strides = st.integers(1, 1 if padding == "same" else 3)
    stride = draw(st.tuples(strides, strides))
    sides = pixels_of(padding, span)
    extents = tuple(draw(st.integers(max(1, k - sum(p)), 5)) for k, p in zip(span, sides, strict=True))
    c_in = draw(st.integers(1, 2))
    values = st.sampled_from([0.0, 1.0, -0.5])
    pad_value = draw(st.one_of(values, st.tuples(*[values] * c_in)))
    c_out, bias = draw(st.integers(1, 3)), draw(st.booleans())
    conv = Conv2d(c_in, c_out, kernel, stride, padding, bias, pad_value, dilation)
    return conv, extents, sides


def oracle(conv, W, x, sides):
    pad_value = [conv.pad_value] * conv.c_in if isinstance(conv.pad_value, float) else conv.pad_value
    kernel, stride, dilation = conv.windows.kernel, conv.windows.stride, conv.windows.dilation
    return loop_conv(x, W, kernel, stride, sides, pad_value, conv.bias, dilation)


# convolution --------------------------------------------------------------


@given(convolutions(), st.integers(0, 99))
def test_a_convolution_is_the_loop_over_pixels(made, seed):
    conv, extents, sides = made
    at = Pass(Case(conv, (*extents, conv.c_in)), n=2, seed=seed)
    patches, s = oracle(conv, at.Ws[0], at.x, sides)
    close(at.y, s)
    assert conv.output_shape(at.x.shape[1:]) == s.shape[1:]
    abar, flat = conv.signals(at.record)[0]
    close(abar, patches, 0)
    close(flat, s.reshape(2, -1, conv.c_out))
    assert conv.grids(at.record) == [s.shape[1:3]]
    assert conv.weight_shapes == (at.Ws[0].shape,) == ((patches.shape[2], conv.c_out),)


@given(convolutions(), st.integers(0, 99))
def test_derivatives_of_a_convolution_are_those_of_the_loop(made, seed):
    conv, extents, sides = made
    at = Pass(Case(conv, (*extents, conv.c_in)), n=2, seed=seed)

    def moved(t):
        return oracle(conv, at.Ws[0] + t * at.Vs[0], at.x + t * at.dx, sides)[1]

    close(at.jvp(), derivative(moved, np.zeros(()), np.ones(())), FINITE_DIFFERENCE)
    dx, gs = conv.backward(at.Ws, at.record, at.u)
    close((at.u * at.jvp()).sum((1, 2, 3)), at.along(dx, gs))
    close(gs[0], at.u, 0)
    us = at.rng.standard_normal((3, *at.u.shape))
    close(conv.backward(at.Ws, at.record, us)[0][2], conv.backward(at.Ws, at.record, us[2])[0])


@given(convolutions(), st.integers(0, 99))
def test_backward_jvp_of_a_convolution_differentiates_backward(made, seed):
    conv, extents, _ = made
    at = Pass(Case(conv, (*extents, conv.c_in)), n=2, seed=seed)
    ru = at.rng.standard_normal(at.u.shape)

    def backward(t):
        Ws = [at.Ws[0] + t * at.Vs[0]]
        record = conv.forward(Ws, at.x + t * at.dx)[1]
        return conv.backward(Ws, record, at.u + t * ru)[0]

    tangent = conv.jvp(at.Ws, at.Vs, at.record, at.dx)[1]
    dx, rdx, _ = conv.backward_jvp(at.Ws, at.Vs, at.record, tangent, at.u, ru)
    close(dx, backward(0.0))
    close(rdx, derivative(backward, np.zeros(()), np.ones(())), FINITE_DIFFERENCE)


@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_of_one_pixel_is_dense(bias):
    conv, dense = Conv2d(4, 3, 1, bias=bias), Dense(4, 3, bias)
    at = Pass(Case(dense, (4,)))
    tangent = dense.jvp(at.Ws, at.Vs, at.record, at.dx)[1]
    expected = [at.y, *dense.backward(at.Ws, at.record, at.u)[:1], at.jvp()]
    expected += dense.backward_jvp(at.Ws, at.Vs, at.record, tangent, at.u, at.u)[:2]
    x, dx, u = (array[:, None, None] for array in (at.x, at.dx, at.u))
    y, record = conv.forward(at.Ws, x)
    dy, tangent = conv.jvp(at.Ws, at.Vs, record, dx)
    back, rback, (four,) = conv.backward_jvp(at.Ws, at.Vs, record, tangent, u, u)
    results = [y, conv.backward(at.Ws, record, u)[0], dy, back, rback]
    for ours, theirs in zip(results, expected, strict=True):
        close(ours[:, 0, 0], theirs)
    tangent = dense.jvp(at.Ws, at.Vs, at.record, at.dx)[1]
    for ours, theirs in zip(
        four, dense.backward_jvp(at.Ws, at.Vs, at.record, tangent, at.u, at.u)[2][0], strict=True
    ):
        close(ours, theirs)
    for ours, theirs in zip(conv.signals(record)[0], dense.signals(at.record)[0], strict=True):
        close(ours, theirs)
    assert conv.grids(record) == dense.grids(at.record) == [(1, 1)]


def test_a_kernel_as_large_as_the_image_is_dense():
    at = Pass(Case(Conv2d(2, 3, (4, 5)), (4, 5, 2)))
    close(at.y[:, 0, 0], Dense(40, 3).forward(at.Ws, at.x.reshape(5, -1))[0])


def test_a_convolution_moves_with_the_image():
    at = Pass(Case(Conv2d(1, 2, 3, padding=1), (8, 8, 1)))
    y = at.layer.forward(at.Ws, np.roll(at.x, (2, 1), (1, 2)))[0]
    inner = (slice(None), slice(3, 7), slice(2, 7))
    close(y[inner], np.roll(at.y, (2, 1), (1, 2))[inner])


def test_what_the_padding_holds_does_not_move():
    """A derivative of the padding's value would appear where windows see nothing else."""
    conv = Conv2d(1, 1, 1, padding=1, pad_value=3.0)
    at = Pass(Case(conv, (2, 2, 1)), n=1)
    close(at.y[0, 0], at.Ws[0][1] + 3 * at.Ws[0][0] + np.zeros((4, 1)))
    dy = conv.jvp(at.Ws, [0 * at.Vs[0]], at.record, at.dx)[0]
    assert not dy[0, 0].any() and dy[0, 1:3, 1:3].all()


@pytest.mark.parametrize("value", [0.5, (0.5,), np.float32(0.5), np.float64(0.5), np.array([0.5]), [0.5]])
def test_padding_values_are_kept_as_plain_numbers(value):
    conv = Conv2d(1, 1, 1, padding=1, pad_value=value)
    assert hash(conv) == hash(Conv2d(1, 1, 1, padding=1, pad_value=conv.pad_value))
    close(conv.forward([np.eye(2)[:, :1]], np.zeros((1, 1, 1, 1)))[0][0, 0], np.full((3, 1), 0.5))


@pytest.mark.parametrize("bias", [True, False])
def test_split_undoes_join_in_the_shapes_of_pytorch(bias):
    rng = np.random.default_rng(0)
    weight, b = rng.standard_normal((3, 2, 4, 5)), rng.standard_normal(3) if bias else None
    conv = Conv2d(2, 3, (4, 5), bias=bias)
    W = Conv2d.join(weight, b)
    assert W.shape == conv.weight_shape
    for o, c, i, j in np.ndindex(weight.shape):
        assert W[(i * 5 + j) * 2 + c, o] == weight[o, c, i, j]
    weight_back, b_back = conv.split(W)
    close(weight_back, weight, 0)
    if bias:
        close(b_back, b, 0)
        close(W[-1], b, 0)
    assert (b_back is None) == (not bias)
    assert not any(np.shares_memory(W, array) for array in (weight, weight_back))


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("stride", "padding"), [(1, "same"), *itertools.product([1, 2, (1, 3)], ["valid", 1, (2, 1), 3])]
)
@pytest.mark.parametrize("kernel", [1, 3, (2, 4)])
@pytest.mark.parametrize(("bias", "dilation"), [(True, 1), (False, 1), (True, (2, 1)), (False, 2)])
@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
def test_a_convolution_is_that_of_pytorch(torch, kernel, stride, padding, bias, dilation):
    rng = np.random.default_rng(0)
    theirs = torch.nn.Conv2d(3, 4, kernel, stride, padding, dilation, bias=bias)
    ours = Conv2d(3, 4, kernel, stride, padding, bias, dilation=dilation)
    W = Conv2d.join(theirs.weight.detach().numpy(), theirs.bias.detach().numpy() if bias else None)
    x = rng.standard_normal((2, 8, 9, 3))
    x_torch = torch.tensor(channels_first(x), requires_grad=True)
    z = theirs(x_torch)
    y, record = ours.forward([W], x)
    close(y, channels_last(z.detach()))
    u = rng.standard_normal(y.shape)
    z.backward(torch.tensor(channels_first(u)))
    dx, (g,) = ours.backward([W], record, u)
    close(dx, channels_last(x_torch.grad))
    weight, b = ours.split(np.einsum("nti,nto->io", ours.signals(record)[0][0], g.reshape(2, -1, W.shape[1])))
    close(weight, theirs.weight.grad)
    if bias:
        close(b, theirs.bias.grad)


# pooling --------------------------------------------------------------


@st.composite
def pools(draw, kinds=(MaxPool2d, AvgPool2d)):
    """A pooling layer, extents of an image that fits, and its windows."""
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    stride = draw(st.one_of(st.none(), st.tuples(st.integers(1, 3), st.integers(1, 3))))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    extents = tuple(  # dilated windows, unlike others, could lie in the padding altogether
        draw(st.integers(max(1, (k - 1) * d + 1 - 2 * p * (d == 1)), 5))
        for k, p, d in zip(kernel, padding, dilation, strict=True)
    )
    kind, ceil, counts = draw(st.sampled_from(kinds)), draw(st.booleans()), draw(st.booleans())
    settings = {} if kind is MaxPool2d else {"count_include_pad": counts}
    pool = kind(kernel, stride, padding, dilation, ceil, **settings)
    return pool, extents, (kernel, stride or kernel, tuple((p, p) for p in padding), dilation, ceil, counts)


FROZEN_POOLS = [
    (MaxPool2d(2, ceil_mode=True), [[9, 10, 8], [6, 9, 10], [8, 7, 3]]),
    (MaxPool2d(3, 3, 1, ceil_mode=True), [[9, 10], [8, 10]]),
    (AvgPool2d(2, ceil_mode=True), [[4.5, 4.75, 7], [3, 6, 5.5], [6, 3.5, 3]]),
    (AvgPool2d(2, 2, 1, ceil_mode=True), [[0, 2.5, 4], [1.5, 5.25, 5.5], [3.5, 3.75, 4]]),
    (AvgPool2d(2, 2, 1, count_include_pad=False), [[0, 5, 8], [3, 5.25, 5.5], [7, 3.75, 4]]),
    (AvgPool2d(3, 3, 1, ceil_mode=True, count_include_pad=False), [[4.5, 5.5], [4, 5]]),
    (AdaptiveAvgPool2d(2), [[37 / 9, 53 / 9], [40 / 9, 5]]),
    (
        AdaptiveAvgPool2d((3, 4)),
        [[4.5, 6, 4.75, 6.25], [23 / 6, 16 / 3, 5, 14 / 3], [5, 3.75, 5.25, 4]],
    ),
]
"""Of the pixels 7 k mod 11, k = 0 to 24, row by row: what PyTorch 2 makes of them."""


@pytest.mark.parametrize(("pool", "expected"), FROZEN_POOLS, ids=lambda part: repr(part)[:40])
def test_pools_that_pytorch_made(pool, expected):
    x = (np.arange(25.0) * 7 % 11).reshape(1, 5, 5, 1)
    close(pool.forward([], x)[0][0, :, :, 0], expected)


@pytest.mark.parametrize(
    ("extents", "grid"), [((4, 6), (2, 3)), ((5, 7), (2, 3)), ((3, 2), (5, 4)), ((1, 9), (1, 9))]
)
def test_adaptive_windows_cover_images_of_any_size(extents, grid):
    """By the definition: from floor(i H / Ho) to before ceil((i + 1) H / Ho)."""
    x, pool = np.random.default_rng(0).standard_normal((2, *extents, 3)), AdaptiveAvgPool2d(grid)
    y = pool.forward([], x)[0]
    for p, q in np.ndindex(*grid):
        rows, columns = (
            slice(math.floor(i * n / m), math.ceil((i + 1) * n / m))
            for i, n, m in zip((p, q), extents, grid, strict=True)
        )
        close(y[:, p, q], x[:, rows, columns].mean((1, 2)))
    if extents[0] % grid[0] == extents[1] % grid[1] == 0:
        kernel = tuple(n // m for n, m in zip(extents, grid, strict=True))
        close(y, AvgPool2d(kernel).forward([], x)[0])


def kind_of(pool):
    return "avg" if isinstance(pool, AvgPool2d) else "max"


@given(pools(), st.integers(1, 2), st.integers(1, 4), st.integers(0, 99))
def test_pooling_is_a_loop_over_pixels(made, channels, levels, seed):
    pool, extents, windows = made
    rng = np.random.default_rng(seed)
    x = rng.integers(-levels + 1, 1, (2, *extents, channels)).astype(float)  # few values, so many ties
    y, record = pool.forward([], x)
    expected, D = loop_pool(x, kind_of(pool), *windows)
    close(y, expected)
    assert pool.output_shape(x.shape[1:]) == y.shape[1:]
    dx = rng.standard_normal(x.shape)
    close(pool.jvp([], [], record, dx)[0], np.einsum("npqhwc,nhwc->npqc", D, dx))
    u = rng.standard_normal((3, *y.shape))
    close(pool.backward([], record, u)[0], np.einsum("npqhwc,knpqc->knhwc", D, u))


@pytest.mark.parametrize("pool", [MaxPool2d(2), MaxPool2d(3, 2, 1), AvgPool2d(2), AvgPool2d(3, 1)])
def test_a_derivative_is_not_counted_twice_on_blank_paper(pool):
    y, record = pool.forward([], np.ones((1, 7, 7, 1)))
    dx = pool.backward([], record, np.ones_like(y))[0]
    if not (isinstance(pool, AvgPool2d) and pool.padding):
        close(dx.sum(), y.size)


def test_max_pooling_of_blank_paper_follows_the_first_pixel():
    """From there upwards the pool moves with it; the other pixels move nothing until they overtake it."""
    pool, x, h = MaxPool2d(2), np.zeros((1, 2, 2, 1)), 1e-3
    record = pool.forward([], x)[1]
    for place in np.ndindex(2, 2):
        dx = np.zeros_like(x)
        dx[(0, *place, 0)] = 1
        dy = pool.jvp([], [], record, dx)[0].item()
        assert dy == (place == (0, 0))
        if place == (0, 0):
            assert dy == (pool.forward([], x + h * dx)[0] - pool.forward([], x)[0]).item() / h


def test_max_pooling_of_large_windows_tells_all_places_apart():
    x = np.zeros((1, 12, 12, 1))  # 144 places: more than 127
    for place in [(0, 1), (10, 8), (11, 11)]:
        x[(0, *place, 0)] = x.max() + 1
        dx = MaxPool2d(12).backward([], MaxPool2d(12).forward([], x)[1], np.ones((1, 1, 1, 1)))[0]
        assert np.argwhere(dx).tolist() == [[0, *place, 0]]


def test_one_window_as_large_as_a_photograph():
    x = np.zeros((1, 200, 200, 1))  # 40,000 places: more than 32,767
    x[0, 190, 7] = 1
    dx = MaxPool2d(200).backward([], MaxPool2d(200).forward([], x)[1], np.ones((1, 1, 1, 1)))[0]
    assert np.argwhere(dx).tolist() == [[0, 190, 7, 0]]


def test_padding_in_max_and_mean():
    x = np.full((1, 2, 2, 1), -4.0)
    close(MaxPool2d(2, 2, 1).forward([], x)[0], np.full((1, 2, 2, 1), -4.0))
    close(AvgPool2d(2, 2, 1).forward([], x)[0], np.full((1, 2, 2, 1), -1.0))


def test_an_average_over_all_pixels_is_the_global_one():
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 4))
    y, record = GlobalAvgPool().forward([], x)
    close(y, AvgPool2d((3, 5)).forward([], x)[0][:, 0, 0])
    close(y, [[sum(image[..., c].ravel().tolist()) / 15 for c in range(4)] for image in x])
    dx = GlobalAvgPool().backward([], record, np.ones((2, 4)))[0]
    close(dx, np.full(x.shape, 1 / 15))


@pytest.mark.parametrize(
    ("padding", "message"),
    [
        (1, r"expected ZeroPad2d padding \(left, right, top, bottom\), got 1"),
        ((1, 2), r"expected ZeroPad2d padding \(left, right, top, bottom\), got \(1, 2\)"),
        ((1, 2, 0, -1), r"expected ZeroPad2d padding to be a whole number >= 0 .* got \(0, -1\)"),
        ((1, 0.5, 0, 0), r"expected ZeroPad2d padding to be a whole number >= 0 .* got \(1, 0.5\)"),
    ],
)
def test_zero_pad_refuses_what_is_no_padding(padding, message):
    with pytest.raises(ValueError, match=message):
        ZeroPad2d(padding)


def test_zeros_lie_where_they_are_wanted():
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 1))
    y, record = ZeroPad2d((1, 0, 2, 3)).forward([], x)
    close(y, np.pad(x, ((0, 0), (2, 3), (1, 0), (0, 0))), 0)
    close(ZeroPad2d((1, 0, 2, 3)).backward([], record, y)[0], x, 0)
    with pytest.raises(ValueError, match=r"expected images \(N, H, W, C\) into ZeroPad2d"):
        ZeroPad2d((0, 0, 0, 0)).forward([], x[:, 0, :, 0])


def test_channels_last_takes_images_of_pytorch_only():
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    close(ChannelsLast().forward([], x)[0], x.transpose(0, 2, 3, 1), 0)
    with pytest.raises(
        ValueError, match=r"expected \(N, C, H, W\) or \(N, C, T\) into ChannelsLast\(\), got \('N', 7\)"
    ):
        ChannelsLast().forward([], np.ones((2, 7)))


@pytest.mark.parametrize("layer", [Conv2d, MaxPool2d])
def test_a_dilation_that_is_no_distance_is_refused(layer):
    arguments = (1, 1, 3) if layer is Conv2d else (3,)
    for dilation in (0, 1.5, (1, 2, 3), "2"):
        with pytest.raises(ValueError, match=f"expected {layer.__name__} dilation to be a whole number >= 1"):
            layer(*arguments, dilation=dilation)
    with pytest.raises(ValueError, match="expected images of at least 5 x 3 pixels with padding, got 4 x 4"):
        layer(*arguments, dilation=(2, 1)).forward([np.zeros((10, 1))], np.ones((1, 4, 4, 1)))


def test_flatten_puts_channels_last():
    x = np.arange(24.0).reshape(1, 2, 3, 4)
    y, record = Flatten().forward([], x)
    assert y.shape == (1, 24) and y[0, (1 * 3 + 2) * 4 + 3] == x[0, 1, 2, 3]
    close(Flatten().backward([], record, y)[0], x, 0)


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [
        (2, None, 0, ()),
        (3, 2, 1, ()),
        ((3, 2), (1, 2), (1, 0), ()),
        (3, 1, 0, ()),
        (2, 3, 1, ()),
        (2, 2, 1, (2,)),
        ((2, 3), 3, (0, 1), ((3, 2),)),
    ],
)
@pytest.mark.parametrize("kind", ["Max", "Avg"])
@pytest.mark.parametrize(
    ("levels", "settings"),
    [
        (None, {}),
        (3, {"ceil_mode": True}),
        (None, {"count_include_pad": False}),
        (None, {"ceil_mode": True, "count_include_pad": False}),
    ],
)
def test_pooling_is_that_of_pytorch(torch, kind, kernel, stride, padding, dilation, levels, settings):
    if kind == "Avg":
        dilation = ()  # which PyTorch's has not
    else:
        settings = {name: value for name, value in settings.items() if name == "ceil_mode"}
    rng = np.random.default_rng(0)
    shape = (2, 7, 6, 3)
    x = rng.standard_normal(shape) if levels is None else rng.integers(0, levels, shape).astype(float)
    ours = {"Max": MaxPool2d, "Avg": AvgPool2d}[kind](kernel, stride, padding, *dilation, **settings)
    theirs = getattr(torch.nn, f"{kind}Pool2d")(kernel, stride, padding, *dilation, **settings)
    x_torch = torch.tensor(channels_first(x), requires_grad=True)
    z = theirs(x_torch)
    y, record = ours.forward([], x)
    close(y, channels_last(z.detach()))
    u = rng.standard_normal(y.shape)
    z.backward(torch.tensor(channels_first(u)))
    close(ours.backward([], record, u)[0], channels_last(x_torch.grad))


@pytest.mark.oracle
@pytest.mark.parametrize("grid", [1, 2, 3, (3, 5), (7, 6), (9, 2)])
def test_adaptive_pooling_is_that_of_pytorch(torch, grid):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 7, 6, 3))
    x_torch = torch.tensor(channels_first(x), requires_grad=True)
    z = torch.nn.AdaptiveAvgPool2d(grid)(x_torch)
    y, record = AdaptiveAvgPool2d(grid).forward([], x)
    close(y, channels_last(z.detach()))
    u = rng.standard_normal(y.shape)
    z.backward(torch.tensor(channels_first(u)))
    close(AdaptiveAvgPool2d(grid).backward([], record, u)[0], channels_last(x_torch.grad))


@pytest.mark.oracle
@pytest.mark.parametrize("padding", [((1, 0), (0, 2)), ((0, 2), (3, 1))])
@pytest.mark.parametrize("stride", [1, (2, 1)])
def test_padding_by_side_is_that_of_pytorch(torch, padding, stride):
    rng, (rows, columns) = np.random.default_rng(0), padding
    x, weight = rng.standard_normal((2, 6, 5, 2)), rng.standard_normal((3, 2, 3, 2))
    padded = torch.nn.functional.pad(torch.tensor(channels_first(x)), (*columns, *rows))
    z = torch.nn.functional.conv2d(padded, torch.tensor(weight), stride=stride)
    conv = Conv2d(2, 3, (3, 2), stride, padding, bias=False)
    close(conv.forward([Conv2d.join(weight, None)], x)[0], channels_last(z))


# networks --------------------------------------------------------------


def blank_paper(rng, n=6, extent=10):
    """Images with a scribble in one corner and nothing elsewhere."""
    x = np.zeros((n, extent, extent, 1))
    x[:, 1:5, 1:5] = rng.standard_normal((n, 4, 4, 1))
    return x


@pytest.mark.parametrize(
    "pool", [MaxPool2d(2), MaxPool2d(3, 2, 1), AvgPool2d(3, 2), GlobalAvgPool()], ids=repr
)
def test_the_gradient_on_blank_paper(pool):
    """All patches of blank paper are the same and stay so: their maximum is tied, yet smooth in theta."""
    rng = np.random.default_rng(0)
    head = [] if isinstance(pool, GlobalAvgPool) else [Flatten()]
    first, second = Conv2d(1, 3, 3, padding=1), Conv2d(3, 4, 2)
    body = [first, Tanh(), pool, *([] if isinstance(pool, GlobalAvgPool) else [second, Tanh()]), *head]
    n_in = math.prod(mk.network.layers.Sequential(tuple(body)).output_shape((10, 10, 1)))
    net = mk.Network([*body, Dense(n_in, 3)], outputs.Categorical())
    x, y = blank_paper(rng), random_targets(rng, "categorical", 6, 3)
    theta = rng.standard_normal(net.n_params) / 2
    value, grad = net.loss_and_gradient(theta, x, y)
    close(value, net.loss(theta, x, y))
    for _ in range(3):
        v = unit_vector(rng, net.n_params)
        close(grad @ v, derivative(lambda t: net.loss(t, x, y), theta, v), FINITE_DIFFERENCE)


def test_sharing_derivatives_among_ties_would_count_them_twice():
    """The trap that the test above is for: a mask ``x == max`` is right on noise and wrong on paper."""
    rng = np.random.default_rng(0)
    pool = MaxPool2d(2)
    tapes = {}
    for name, x in (("paper", blank_paper(rng)), ("noise", rng.standard_normal((6, 10, 10, 1)))):
        y, record = pool.forward([], x)
        u = rng.standard_normal(y.shape)
        mask = x == y.repeat(2, 1).repeat(2, 2)
        tapes[name] = abs(mask * u.repeat(2, 1).repeat(2, 2) - pool.backward([], record, u)[0]).max()
    assert tapes["noise"] == 0 and tapes["paper"] > 0.1


IMAGES = mk.Network(
    [
        Conv2d(2, 4, 3, padding=1),
        ReLU(),
        MaxPool2d(2),
        Conv2d(4, 3, (2, 1), stride=(1, 2), bias=False),
        Tanh(),
        Flatten(),
        Dense(6, 3),
    ],
    outputs.Categorical(),
)


def test_names_shapes_and_slices_of_a_net_of_images():
    assert IMAGES.names == ("conv0", "conv1", "dense2")
    assert IMAGES.shapes == ((19, 4), (8, 3), (7, 3))
    assert IMAGES.slices == (slice(0, 76), slice(76, 100), slice(100, 121))
    assert not IMAGES.is_dense_chain
    assert IMAGES.init_stats() == []


def test_the_tape_says_where_locations_lie():
    theta, x = IMAGES.init(np.random.default_rng(0)), np.random.default_rng(1).standard_normal((5, 6, 4, 2))
    tape = IMAGES.forward(theta, x)
    assert tape.z.shape == (5, 3) and tape.stats == [] and tape.batch_stats == []
    assert tape.grids == [(6, 4), (2, 1), (1, 1)]
    assert [abar.shape for abar in tape.abar] == [(5, 24, 19), (5, 2, 8), (5, 1, 7)]
    assert [s.shape for s in tape.s] == [(5, 24, 4), (5, 2, 3), (5, 1, 3)]
    g = IMAGES.backward(theta, tape, np.ones((2, 5, 3)))
    assert [layer.shape for layer in g] == [(2, 5, 24, 4), (2, 5, 2, 3), (2, 5, 1, 3)]


def test_a_net_of_images_in_loops():
    """Forward by the oracles alone, from theta to z."""
    rng = np.random.default_rng(0)
    theta, x = rng.standard_normal(IMAGES.n_params), rng.standard_normal((3, 6, 4, 2))
    first, second, third = (
        theta[place].reshape(shape) for place, shape in zip(IMAGES.slices, IMAGES.shapes, strict=True)
    )
    a = np.maximum(loop_conv(x, first, (3, 3), padding=((1, 1), (1, 1)))[1], 0)
    a = loop_pool(a, "max", (2, 2), (2, 2))[0]
    a = np.tanh(loop_conv(a, second, (2, 1), (1, 2), bias=False)[1])
    z = np.array([[*image.ravel(), 1] for image in a]) @ third
    close(IMAGES.forward(theta, x).z, z)


@pytest.mark.parametrize(("scheme", "fan"), [("glorot", 4 * 9 + 9 * 50), ("he", 4 * 9)])
def test_initial_kernels_have_the_variance_of_their_scheme(scheme, fan):
    net = mk.Network([Conv2d(4, 50, 3), GlobalAvgPool()], outputs.Gaussian())
    W = net.unpack(net.init(np.random.default_rng(0), scheme))[0]
    assert not W[-1].any()
    z = (W[:-1].var() * fan / 2 - 1) / math.sqrt(2 / W[:-1].size)  # in standard errors of a variance
    assert abs(z) < 5
    assert abs(W[:-1].mean()) < 5 * math.sqrt(2 / fan / W[:-1].size)


def test_sparse_initial_kernels_have_15_weights_per_unit():
    net = mk.Network([Conv2d(4, 50, 3), GlobalAvgPool()], outputs.Gaussian())
    W = net.unpack(net.init(np.random.default_rng(0), "sparse"))[0]
    assert ((W != 0).sum(0) == 15).all() and not W[-1].any()


# what is refused --------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 2, 3), "expected Conv2d c_in to be a positive whole number, got 0"),
        ((2, 2.0, 3), r"expected Conv2d c_out to be a positive whole number, got 2\.0"),
        ((2, 2, 0), "expected Conv2d kernel_size to be a whole number >= 1 or a pair of them, got 0"),
        ((2, 2, (3,)), r"expected Conv2d kernel_size to be .* got \(3,\)"),
        ((2, 2, (3, 3, 3)), r"expected Conv2d kernel_size to be .* got \(3, 3, 3\)"),
        ((2, 2, 2.5), r"expected Conv2d kernel_size to be .* got 2\.5"),
        ((2, 2, True), "expected Conv2d kernel_size to be .* got True"),
        ((2, 2, 3, 0), "expected Conv2d stride to be a whole number >= 1 or a pair of them, got 0"),
        ((2, 2, 3, 1, -1), "expected Conv2d padding to be a whole number >= 0 or a pair of them, got -1"),
        ((2, 2, 3, 1, ((1, 0), (0, -1))), r"expected Conv2d padding to be .* >= 0 .*, got \(0, -1\)"),
        ((2, 2, 3, 1, ((1, 0), 1)), r"expected Conv2d padding to be a whole .*, got \(\(1, 0\), 1\)"),
        ((2, 2, 3, 1, ((1,), (0, 1))), r"expected Conv2d padding to be a whole .*, got \(1,\)"),
        ((2, 2, 3, 1, ((1, 0), (0, 1), (0, 1))), r"expected Conv2d padding to be a whole .*, got \(\(1, 0"),
        ((2, 2, 3, 1, "full"), "expected Conv2d padding 'valid', 'same' or numbers, got 'full'"),
        ((2, 2, 3, 1, "SAME"), "expected Conv2d padding 'valid', 'same' or numbers, got 'SAME'"),
        ((2, 2, 3, 2, "same"), "expected stride 1 with padding 'same', got 2; give numbers"),
        ((2, 2, 3, (1, 2), "same"), r"expected stride 1 with padding 'same', got \(1, 2\)"),
        ((2, 2, 3, 1, 0, "yes"), "expected Conv2d bias to be True or False, got 'yes'"),
        ((2, 2, 3, 1, 0, True, (1.0, 2.0, 3.0)), "expected one pad_value or 2, got 3"),
        ((2, 2, 3, 1, 0, True, "zero"), "expected pad_value to be a finite number or 2 of them, got 'zero'"),
        ((2, 2, 3, 1, 0, True, None), "expected pad_value to be a finite number or 2 of them, got None"),
        ((2, 2, 3, 1, 0, True, "01"), "expected pad_value to be a finite number or 2 of them, got '01'"),
        ((2, 2, 3, 1, 0, True, float("nan")), "expected pad_value to be a finite number .*, got nan"),
        ((2, 2, 3, 1, 0, True, (0, float("inf"))), r"expected pad_value to be .*, got \(0, inf\)"),
        ((2, 2, 3, 1, 0, 1), "expected Conv2d bias to be True or False, got 1"),
        ((2, 2, 3, 1, 0, 1.0), "expected Conv2d bias to be True or False, got 1.0"),
    ],
)
def test_conv_refuses_arguments_that_make_none(arguments, message):
    with pytest.raises(ValueError, match=message):
        Conv2d(*arguments)


@pytest.mark.parametrize("pool", [MaxPool2d, AvgPool2d])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "expected {} kernel_size to be a whole number >= 1 or a pair of them, got 0"),
        ((2, 0), "expected {} stride to be a whole number >= 1 or a pair of them, got 0"),
        ((2, 2, "same"), "expected {} padding to be a whole number >= 0 or a pair of them, got 'same'"),
        ((3, 1, 2), r"expected padding of at most half a window in {}\(kernel_size=3"),
        (((3, 2), 1, (1, 2)), "expected padding of at most half a window in {}"),
        ((3, 1, 0, 1, 1), "expected {} ceil_mode to be True or False, got 1"),
        ((3, 1, 0, 1, "no"), "expected {} ceil_mode to be True or False, got 'no'"),
    ],
)
def test_pools_refuse_arguments_that_make_none(pool, arguments, message):
    with pytest.raises(ValueError, match=message.format(pool.__name__)):
        pool(*arguments)


def test_other_settings_of_pools_are_refused():
    with pytest.raises(ValueError, match="expected AvgPool2d count_include_pad to be True or False, got 0"):
        AvgPool2d(2, count_include_pad=0)
    for size in (0, 2.5, (2, 0), (1, 2, 3), None, (None, 2)):
        with pytest.raises(
            ValueError, match="expected AdaptiveAvgPool2d output_size to be a whole number >="
        ):
            AdaptiveAvgPool2d(size)
    with pytest.raises(ValueError, match="expected images of at least 5 x 5 pixels with padding, got 2 x 2"):
        MaxPool2d(5, 2, ceil_mode=True).forward([], np.ones((1, 2, 2, 1)))  # 3 pixels short, with steps of 2


@pytest.mark.parametrize(
    "layer",
    [Conv2d(3, 2, 2), MaxPool2d(2), AvgPool2d(2), AdaptiveAvgPool2d(2), GlobalAvgPool()],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_of_images_refuse_flat_inputs(layer):
    message = rf"expected images \(N, H, W, [3C]\) into {type(layer).__name__}.*got \("
    Ws = [np.zeros(shape) for shape in layer.weight_shapes]
    with pytest.raises(ValueError, match=message + r"[5N], 12\)"):
        layer.forward(Ws, np.zeros((5, 12)))
    with pytest.raises(ValueError, match=message + r"N, 12\)"):
        layer.output_shape((12,))
    if not isinstance(layer, GlobalAvgPool):  # which takes sequences, too
        with pytest.raises(ValueError, match=message + r"N, \?, 7\)"):
            mk.Network([Dense(4, 7), layer, Flatten(), Dense(2, 2)], outputs.Gaussian())


def test_conv_refuses_images_of_other_channels():
    with pytest.raises(ValueError, match=r"expected images \(N, H, W, 3\) into Conv2d.*got \(5, 4, 4, 1\)"):
        Conv2d(3, 2, 2).forward([np.zeros((13, 2))], np.zeros((5, 4, 4, 1)))
    with pytest.raises(ValueError, match=r"expected images \(N, H, W, 3\) into Conv2d.*got \(N, \?, \?, 8\)"):
        mk.Network([Conv2d(1, 8, 2), Tanh(), Conv2d(3, 2, 2), Flatten()], outputs.Gaussian())


@pytest.mark.parametrize("layer", [Conv2d(1, 2, (5, 2)), MaxPool2d((5, 2)), AvgPool2d((5, 2))], ids=repr)
def test_images_smaller_than_a_window_are_refused(layer):
    message = "expected images of at least 5 x 2 pixels with padding, got 3 x 4"
    Ws = [np.zeros(shape) for shape in layer.weight_shapes]
    with pytest.raises(ValueError, match=message):
        layer.forward(Ws, np.zeros((1, 3, 4, 1)))
    with pytest.raises(ValueError, match=message):
        layer.output_shape((3, 4, 1))


def test_padding_counts_towards_the_size_of_an_image():
    Conv2d(1, 2, 5, padding=1).forward([np.zeros((26, 2))], np.zeros((1, 3, 3, 1)))
    with pytest.raises(ValueError, match="expected images of at least 5 x 5 pixels with padding, got 4 x 5"):
        Conv2d(1, 2, 5, padding=1).forward([np.zeros((26, 2))], np.zeros((1, 2, 3, 1)))


def test_dense_on_images_asks_for_a_flatten():
    message = r"expected 6 inputs to Dense.*, got \(None, None, 4\); put a Flatten\(\) before it"
    with pytest.raises(ValueError, match=message):
        mk.Network([Conv2d(1, 4, 3), Dense(6, 2)], outputs.Gaussian())
    net = mk.Network([Dense(6, 2)], outputs.Gaussian())
    message = r"expected inputs of shape \(N, 6\) to Dense.*, got \(5, 2, 3, 1\); put a Flatten\(\) before it"
    with pytest.raises(ValueError, match=message):
        net.forward(np.zeros(net.n_params), np.zeros((5, 2, 3, 1)))
    with pytest.raises(ValueError, match=r"to Dense.*got \(5, 3\)$"):
        net.forward(np.zeros(net.n_params), np.zeros((5, 3)))


def test_a_net_that_ends_in_images_is_refused():
    net = mk.Network([Conv2d(1, 4, 3), LocalResponseNorm(3)], outputs.Gaussian())
    with pytest.raises(ValueError, match=r"expected outputs \(N, C\) of .*got \(5, 2, 2, 4\); add a Flatten"):
        net.forward(np.zeros(net.n_params), np.zeros((5, 4, 4, 1)))


@pytest.mark.parametrize(
    ("weight", "bias", "came"),
    [
        ((3, 2, 4, 5), (2,), r"\(3, 2, 4, 5\) and \(2,\)"),
        ((3, 4), None, r"\(3, 4\) and None"),
        ((3, 2, 1, 1), (3, 1), r"\(3, 1\)"),
    ],
)
def test_join_refuses_shapes_that_do_not_belong_together(weight, bias, came):
    with pytest.raises(ValueError, match=rf"expected a weight \(c_out, c_in, kh, kw\) and a bias .*{came}"):
        Conv2d.join(np.zeros(weight), None if bias is None else np.zeros(bias))


def test_join_and_split_refuse_lists_and_other_shapes():
    with pytest.raises(TypeError, match="expected weight to be a NumPy or CuPy array, got list"):
        Conv2d.join([[[[1.0]]]], None)
    with pytest.raises(TypeError, match="expected bias to be a NumPy or CuPy array, got list"):
        Conv2d.join(np.ones((1, 1, 1, 1)), [1.0])
    with pytest.raises(TypeError, match="expected W to be a NumPy or CuPy array, got list"):
        Conv2d(1, 1, 1).split([[1.0], [1.0]])
    with pytest.raises(ValueError, match=r"expected W of shape \(5, 3\), got \(4, 3\)"):
        Conv2d(1, 3, 2).split(np.zeros((4, 3)))
