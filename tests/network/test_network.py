"""Networks: passes against loops and finite differences, theta as one flat array, and what is refused."""

import itertools

import numpy as np
import pytest

import minikfac as mk
from minikfac import datasets, fisher, layers, optim, outputs, training
from oracles import (
    ACTIVATIONS,
    FINITE_DIFFERENCE,
    FLOAT32,
    OUTPUTS,
    close,
    cut,
    derivative,
    loop_kl,
    loop_mean,
    loop_nll,
    loop_z,
    random_net,
    random_targets,
    unit_vector,
)

SIZES = (4, 5, 4, 3)
every_output = pytest.mark.parametrize("output", OUTPUTS)
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)
with_and_without_bias = pytest.mark.parametrize("bias", [True, False])


def odd_net() -> mk.Network:
    """Activations in front and at the end, layers in layers, with and without bias."""
    inner = layers.Sequential((layers.Dense(5, 4, bias=False), layers.Softplus()))
    return mk.Network([layers.Tanh(), layers.Dense(4, 5), inner, layers.Dense(4, 3), layers.Tanh()], GAUSSIAN)


GAUSSIAN = outputs.Gaussian()
NETS = {
    **{name: mk.mlp(SIZES, name) for name in ACTIVATIONS},
    "one layer": mk.mlp([4, 3]),
    "no bias": mk.mlp(SIZES, bias=False),
    "odd": odd_net(),
}
every_net = pytest.mark.parametrize("net", NETS.values(), ids=NETS)


def at_random(net: mk.Network) -> tuple[np.ndarray, np.ndarray, mk.network.Tape]:
    """theta, x and a tape; no pre-activation is near the kink of a ReLU."""
    rng = np.random.default_rng(0)
    while True:
        theta, x = rng.standard_normal(net.n_params) / 2, rng.standard_normal((6, 4))
        tape = net.forward(theta, x)
        if min(abs(s).min() for s in tape.s) > 0.03:
            return theta, x, tape


# parameters --------------------------------------------------------------


@every_net
def test_unpack_gives_views_and_pack_copies(net):
    theta = np.arange(float(net.n_params))
    Ws = net.unpack(theta)
    assert [W.shape for W in Ws] == list(net.shapes)
    assert all(np.shares_memory(W, theta) for W in Ws)
    packed = net.pack(Ws)
    close(packed, theta, 0)
    assert not np.shares_memory(packed, theta)
    Ws[-1][-1, -1] = -1
    assert theta[-1] == -1 and packed[-1] != -1


def test_names_shapes_and_slices_follow_the_layers_depth_first():
    net = odd_net()
    assert net.names == ("dense0", "dense1", "dense2")
    assert net.shapes == ((5, 5), (5, 4), (5, 3))
    assert net.slices == (slice(0, 25), slice(25, 45), slice(45, 60))
    assert net.n_params == 60
    assert len(net.layers) == 5


def test_is_dense_chain():
    assert mk.mlp(SIZES).is_dense_chain
    assert not odd_net().is_dense_chain


def test_repr_names_the_layers_and_the_output():
    text = repr(mk.mlp([2, 3, 1], output="gaussian"))
    assert text == "Network(13 parameters: Dense, Tanh, Dense; Gaussian)"


# initialization --------------------------------------------------------------


def test_variance_of_glorot_weights():
    net = mk.mlp([200, 300])
    W = net.unpack(net.init(np.random.default_rng(0)))[0][:-1]
    n, variance = W.size, 2 / 500
    assert abs(W.mean()) < 5 * (variance / n) ** 0.5
    assert abs(W.var() - variance) < 5 * variance * (2 / n) ** 0.5
    assert abs((W**4).mean() - 3 * variance**2) < 5 * variance**2 * (96 / n) ** 0.5  # normal, not uniform


def test_sparse_units_have_15_incoming_weights_of_variance_1():
    net = mk.mlp([100, 2000])
    W = net.unpack(net.init(np.random.default_rng(0), "sparse"))[0][:-1]
    assert set((W != 0).sum(0)) == {15}
    drawn = W[W != 0]
    assert abs(drawn.mean()) < 5 / drawn.size**0.5
    assert abs(drawn.var() - 1) < 5 * (2 / drawn.size) ** 0.5
    counts = (W != 0).sum(1)  # each input is as likely as another: binomial(2000, 0.15)
    assert abs(counts - 300).max() < 5 * (300 * 0.85) ** 0.5


def test_sparse_units_of_few_inputs_are_connected_to_all():
    net = mk.mlp([7, 3])
    assert (net.unpack(net.init(np.random.default_rng(0), "sparse"))[0][:-1] != 0).all()


@pytest.mark.parametrize("scheme", ["glorot", "sparse"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, "float32"])
def test_init_has_zero_biases_and_repeats(scheme, dtype):
    net = mk.mlp([20, 6, 3])
    theta = net.init(np.random.default_rng(0), scheme, dtype)
    assert theta.dtype == dtype and theta.shape == (net.n_params,)
    assert not any(W[-1].any() for W in net.unpack(theta))
    close(net.init(np.random.default_rng(0), scheme, dtype), theta, 0)


def test_init_without_bias_has_no_row_for_it():
    net = mk.mlp([20, 6], bias=False)
    assert net.init(np.random.default_rng(0)).all()


# passes --------------------------------------------------------------


@every_activation
@with_and_without_bias
def test_forward_is_the_loop_over_examples_and_units(activation, bias):
    net, theta, x, _ = random_net(np.random.default_rng(0), SIZES, activation, bias=bias)
    Ws = cut(theta, SIZES, bias)
    close(net.forward(theta, x).z, [loop_z(Ws, activation, row, bias) for row in x])


@with_and_without_bias
def test_the_tape_holds_abar_and_s(bias):
    net, theta, x, _ = random_net(np.random.default_rng(0), SIZES, bias=bias)
    tape, phi = net.forward(theta, x), x
    for abar, s, W in zip(tape.abar, tape.s, cut(theta, SIZES, bias), strict=True):
        expected = np.hstack([phi, np.ones((len(x), 1))]) if bias else phi
        close(abar, expected[:, None])
        close(s, (expected @ W)[:, None])
        phi = np.tanh(s[:, 0])
    close(tape.z, tape.s[-1][:, 0])


@every_net
def test_jvp_is_the_derivative_of_the_outputs(net):
    theta, x, tape = at_random(net)
    v = unit_vector(np.random.default_rng(1), net.n_params)
    expected = derivative(lambda theta: net.forward(theta, x).z, theta, v)
    close(net.jvp(theta, tape, v), expected, FINITE_DIFFERENCE)


@every_net
def test_vjp_is_the_adjoint_of_jvp(net):
    theta, _, tape = at_random(net)
    v, u = np.random.default_rng(1).standard_normal(net.n_params), np.cos(tape.z)
    close((net.jvp(theta, tape, v) * u).sum(), v @ net.vjp(theta, tape, u))


@every_net
def test_backward_gives_derivatives_by_pre_activations(net):
    """Checked through the weights: the derivative of one example's outputs is abar g^T."""
    theta, x, tape = at_random(net)
    u = np.sin(np.arange(tape.z.size)).reshape(tape.z.shape)
    gs = net.backward(theta, tape, u)
    v = unit_vector(np.random.default_rng(1), net.n_params)
    parts = zip(tape.abar, gs, net.unpack(v), strict=True)
    derivative_of_z = sum(np.einsum("nti,nto,io->n", abar, g, V) for abar, g, V in parts)
    expected = derivative(lambda theta: (net.forward(theta, x).z * u).sum(1), theta, v)
    close(derivative_of_z, expected, FINITE_DIFFERENCE)


@every_net
def test_the_leading_axis_of_backward_is_separate_calls(net):
    theta, _, tape = at_random(net)
    dz = np.random.default_rng(1).standard_normal((4, *tape.z.shape))
    together = net.backward(theta, tape, dz)
    for k in range(4):
        for g, alone in zip(together, net.backward(theta, tape, dz[k]), strict=True):
            close(g[k], alone)


# loss, gradient, predictions, divergence --------------------------------------------------------------


@every_output
@every_activation
def test_loss_is_a_mean_over_examples_summed_over_units(activation, output):
    net, theta, x, y = random_net(np.random.default_rng(0), SIZES, activation, output)
    Ws = cut(theta, SIZES)
    losses = [loop_nll(output, loop_z(Ws, activation, x[n]), y[n]) for n in range(len(x))]
    close(net.loss(theta, x, y), np.mean(losses))


@every_output
@every_activation
def test_gradient_is_the_derivative_of_the_loss(activation, output):
    net, theta, x, y = random_net(np.random.default_rng(0), SIZES, activation, output)
    loss, gradient = net.loss_and_gradient(theta, x, y)
    close(loss, net.loss(theta, x, y), 0)
    close(net.gradient(theta, x, y), gradient, 0)
    for v in (unit_vector(np.random.default_rng(seed), net.n_params) for seed in range(3)):
        expected = derivative(lambda theta: net.loss(theta, x, y), theta, v)
        close(gradient @ v, expected, FINITE_DIFFERENCE)


@every_output
def test_the_gradient_is_a_loop_over_examples(output):
    sizes = (2, 3, 2)
    net, theta, x, y = random_net(np.random.default_rng(0), sizes, "tanh", output, n=3)

    def loss(theta):
        Ws = cut(theta, sizes)
        return np.mean([loop_nll(output, loop_z(Ws, "tanh", x[n]), y[n]) for n in range(3)])

    expected = [derivative(loss, theta, one) for one in np.eye(net.n_params)]
    close(net.gradient(theta, x, y), expected, FINITE_DIFFERENCE)


@every_output
def test_predict_gives_probabilities_or_means(output):
    net, theta, x, _ = random_net(np.random.default_rng(0), SIZES, "tanh", output)
    Ws = cut(theta, SIZES)
    close(net.predict(theta, x), [loop_mean(output, loop_z(Ws, "tanh", row)) for row in x])


@every_output
def test_kl_is_a_mean_of_enumerated_divergences(output):
    net, theta, x, _ = random_net(np.random.default_rng(0), SIZES, "tanh", output)
    theta2 = theta + 0.3 * np.random.default_rng(1).standard_normal(net.n_params)
    z1, z2 = ([loop_z(cut(t, SIZES), "tanh", row) for row in x] for t in (theta, theta2))
    expected = np.mean([loop_kl(output, a, b) for a, b in zip(z1, z2, strict=True)])
    close(net.kl(theta, theta2, x), expected)
    close(net.kl(theta, theta, x), 0)


# second derivatives --------------------------------------------------------------


@every_output
@every_activation
@with_and_without_bias
def test_hessian_products_are_derivatives_of_the_gradient(activation, output, bias):
    net, theta, x, y = random_net(np.random.default_rng(0), SIZES, activation, output, bias=bias)
    tape = net.forward(theta, x)
    for v in (unit_vector(np.random.default_rng(seed), net.n_params) for seed in range(3)):
        expected = derivative(lambda theta: net.gradient(theta, x, y), theta, v)
        close(net.hessian_product(theta, tape, y, v), expected, FINITE_DIFFERENCE)


def test_hessian_products_of_nested_layers():
    net = odd_net()
    theta, x, tape = at_random(net)
    y = np.random.default_rng(1).standard_normal((6, 3))
    v = unit_vector(np.random.default_rng(2), net.n_params)
    expected = derivative(lambda theta: net.gradient(theta, x, y), theta, v)
    close(net.hessian_product(theta, tape, y, v), expected, FINITE_DIFFERENCE)


def test_the_hessian_is_symmetric():
    net, theta, x, y = random_net(np.random.default_rng(0))
    tape = net.forward(theta, x)
    H = np.array([net.hessian_product(theta, tape, y, one) for one in np.eye(net.n_params)])
    close(H, H.T)
    assert abs(H).max() > 0.01


# precision; nothing is changed in place --------------------------------------------------------------


def everything(net: mk.Network, theta: np.ndarray, x: np.ndarray, y: np.ndarray, v: np.ndarray) -> list:
    tape = net.forward(theta, x)
    dz = net.output.gradient(tape.z, y)
    loss, gradient = net.loss_and_gradient(theta, x, y)
    arrays = [tape.z, *tape.abar, *tape.s, *net.backward(theta, tape, dz[None]), net.jvp(theta, tape, v)]
    arrays += [net.vjp(theta, tape, dz), net.hessian_product(theta, tape, y, v), gradient]
    return [*arrays, net.predict(theta, x), np.asarray(loss), np.asarray(net.kl(theta, v, x))]


@every_output
@every_activation
def test_float32_stays_and_agrees_with_float64(activation, output):
    net, theta, x, y = random_net(np.random.default_rng(0), SIZES, activation, output)
    v = np.random.default_rng(1).standard_normal(net.n_params)
    exact = everything(net, theta, x, y, v)
    arrays = everything(net, theta.astype(np.float32), x, y, v.astype(np.float32))  # x follows theta
    assert {array.dtype for array in arrays[:-2]} == {np.dtype(np.float32)}
    for a, b in zip(arrays, exact, strict=True):
        close(a, b, FLOAT32)


@every_output
@every_activation
def test_nothing_is_changed_in_place(activation, output):
    net, theta, x, y = random_net(np.random.default_rng(0), SIZES, activation, output)
    v = theta + 1
    copies = [array.copy() for array in (theta, x, y, v)]
    for array in (theta, x, y, v):
        array.flags.writeable = False
    everything(net, theta, x, y, v)
    for array, copy in zip((theta, x, y, v), copies, strict=True):
        close(array, copy, 0)


# presets --------------------------------------------------------------


@every_output
@every_activation
def test_mlp_puts_activations_between_dense_layers(activation, output):
    net = mk.mlp([5, 4, 2], activation, output)
    kinds = [type(layer) for layer in net.layers]
    assert kinds == [layers.Dense, layers.ACTIVATIONS[activation], layers.Dense]
    assert isinstance(net.output, outputs.OUTPUTS[output])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([4],), r"expected at least two sizes, inputs and outputs, got \[4\]"),
        (([4, 2], "sigmoid"), "expected one of elu, gelu, .*, tanh, got 'sigmoid'"),
        (([4, 2], "tanh", "softmax"), "expected one of bernoulli, categorical, gaussian, got 'softmax'"),
        (([4, 0],), "expected Dense n_out to be a positive whole number, got 0"),
        (([4, 2.0],), "expected Dense n_out to be a positive whole number, got 2.0"),
    ],
)
def test_mlp_refuses_what_it_cannot_build(arguments, message):
    with pytest.raises(ValueError, match=message):
        mk.mlp(*arguments)


# what is refused --------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "output", "error", "message"),
    [
        ([], GAUSSIAN, ValueError, "expected at least one layer with parameters, got none"),
        ([layers.Tanh()], GAUSSIAN, ValueError, "expected at least one layer with parameters, got none"),
        ([layers.Tanh], GAUSSIAN, TypeError, r"expected layers of minikfac\.layers, got <class"),
        (layers.Dense(2, 2), GAUSSIAN, TypeError, r"expected a list of layers of .*, got Dense\(n_in=2"),
        ([[layers.Dense(2, 2)]], GAUSSIAN, TypeError, r"expected layers of minikfac\.layers, got \[Dense"),
        (
            [layers.Dense(2, 2), "tanh"],
            GAUSSIAN,
            TypeError,
            r"expected layers of minikfac\.layers, got 'tanh'",
        ),
        (
            [layers.Dense(2, 2)],
            outputs.Gaussian,
            TypeError,
            r"expected an output of minikfac\.outputs, got <class",
        ),
        (
            [layers.Dense(2, 3), layers.Dense(2, 1)],
            GAUSSIAN,
            ValueError,
            r"expected 2 inputs to Dense\(.*got 3",
        ),
    ],
)
def test_a_network_refuses_parts_that_make_none(parts, output, error, message):
    with pytest.raises(error, match=message):
        mk.Network(parts, output)


NET, THETA, X, Y = random_net(np.random.default_rng(0))
TAPE = NET.forward(THETA, X)


@pytest.mark.parametrize(
    ("theta", "error", "message"),
    [
        (THETA[:-1], ValueError, r"expected theta or direction of shape \(43,\), got \(42,\)"),
        (THETA[:, None], ValueError, r"expected theta or direction of shape \(43,\), got \(43, 1\)"),
        (THETA.astype(int), ValueError, "expected theta of dtype float32 or float64, got int64"),
        (THETA.astype(np.float16), ValueError, "expected theta of dtype float32 or float64, got float16"),
        (THETA.astype(complex), ValueError, "expected theta of dtype float32 or float64, got complex128"),
        (list(THETA), TypeError, "expected theta to be a NumPy or CuPy array, got list"),
    ],
)
def test_theta_must_be_one_flat_array_of_floats(theta, error, message):
    with pytest.raises(error, match=message):
        NET.forward(theta, X)
    with pytest.raises(error, match=message):
        NET.jvp(THETA, TAPE, theta)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (
            X[0],
            ValueError,
            r"expected a batch of at least one example, \(N, features\) or .*, got shape \(4,\)",
        ),
        (X[:0], ValueError, r"expected a batch of at least one example, .* got shape \(0, 4\)"),
        (X[:, :3], ValueError, r"expected inputs of shape \(N, 4\) to Dense\(.*got \(6, 3\)"),
        (X[None], ValueError, r"expected outputs \(N, C\) of the last layer, got \(1, 6, 3\); add a Flatten"),
        (X[None, None], ValueError, r"expected inputs of shape \(N, 4\) to Dense\(.*got \(1, 1, 6, 4\)"),
        ((X * 100).astype(np.uint8), ValueError, "expected inputs of a floating dtype, got uint8; convert"),
        (X.astype(complex), ValueError, "expected inputs of a floating dtype, got complex128; convert"),
        ("x", TypeError, "expected x to be an array of numbers, got str of dtype <U1"),
    ],
)
def test_inputs_must_be_a_batch_of_floats(x, error, message):
    with pytest.raises(error, match=message):
        NET.forward(THETA, x)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_inputs_must_be_finite(bad):
    x = X.copy()
    x[1, 2] = x[1, 3] = x[4, 0] = bad
    with pytest.raises(
        ValueError, match="expected finite inputs, got NaN or infinite values in 2 of 6 examples"
    ):
        NET.forward(THETA, x)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_inputs_too_large_for_theta_are_infinite():
    with pytest.raises(ValueError, match="infinite values in 1 of 6 examples"):
        NET.forward(THETA.astype(np.float32), np.where(X == X[2, 1], 1e300, X))


@pytest.mark.parametrize("x", [X[0, 0], X[0], X[:0]])
def test_whatever_cuts_a_batch_names_one_that_is_none(x):
    with pytest.raises(ValueError, match="expected a batch of at least one example"):
        NET.loss(THETA, np.asarray(x), Y)
    with pytest.raises(ValueError, match="expected a batch of at least one example"):
        NET.gradient(THETA, np.asarray(x), Y)


def test_layers_may_come_from_a_generator():
    assert mk.Network((layer for layer in NET.layers), NET.output).shapes == NET.shapes


def test_inputs_of_half_precision_are_converted():
    assert NET.forward(THETA, X.astype(np.float16)).z.dtype == np.float64


@pytest.mark.parametrize(
    "call",
    [
        lambda y: NET.loss(THETA, X, y),
        lambda y: NET.loss_and_gradient(THETA, X, y),
        lambda y: NET.gradient(THETA, X, y),
        lambda y: NET.hessian_product(THETA, TAPE, y, THETA),
    ],
    ids=["loss", "loss_and_gradient", "gradient", "hessian_product"],
)
def test_whatever_takes_targets_checks_them(call):
    with pytest.raises(ValueError, match=r"expected labels in 0\.\.2, got values from 0 to 3"):
        call(np.array([0, 1, 2, 3, 0, 1]))
    with pytest.raises(ValueError, match=r"expected labels of shape \(6,\), got \(5,\)"):
        call(Y[:5])


@pytest.mark.parametrize("shape", [(6,), (6, 4), (5, 3), (1, 1, 6, 3)])
def test_backward_refuses_derivatives_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"expected dz of shape \(6, 3\) or \(K, 6, 3\), got \("):
        NET.backward(THETA, TAPE, np.zeros(shape))


def test_backward_refuses_lists():
    with pytest.raises(TypeError, match="expected dz to be a NumPy or CuPy array, got list"):
        NET.backward(THETA, TAPE, [[0.0] * 3] * 6)


def test_vjp_takes_one_derivative_only():
    with pytest.raises(ValueError, match=r"expected dz of shape \(6, 3\), got \(2, 6, 3\)"):
        NET.vjp(THETA, TAPE, np.zeros((2, 6, 3)))


def test_pack_refuses_weights_of_other_shapes_and_lists():
    with pytest.raises(
        ValueError, match=r"expected weights of shapes \[\(5, 5\), \(6, 3\)\], got \[\(5, 5\)\]"
    ):
        NET.pack([np.zeros((5, 5))])
    with pytest.raises(TypeError, match="expected each weight to be a NumPy or CuPy array, got list"):
        NET.pack([[[0.0]], np.zeros((6, 3))])


@pytest.mark.parametrize("dtype", [int, np.float16, complex])
def test_init_refuses_other_dtypes(dtype):
    with pytest.raises(ValueError, match="expected theta of dtype float32 or float64, got"):
        NET.init(np.random.default_rng(0), dtype=dtype)


def test_init_refuses_unknown_schemes_and_seeds():
    with pytest.raises(ValueError, match="expected scheme 'glorot' or 'he' or 'sparse', got 'xavier'"):
        NET.init(np.random.default_rng(0), "xavier")
    with pytest.raises(TypeError, match=r"expected rng = numpy\.random\.default_rng\(seed\), got 0"):
        NET.init(0)


def test_every_output_accepts_targets_of_its_kind():
    for output, n_out in itertools.product(OUTPUTS, (1, 2, 5)):
        if (output, n_out) == ("categorical", 1):
            continue  # one class has nothing to learn
        net, theta, x, _ = random_net(np.random.default_rng(0), (3, n_out), output=output)
        y = random_targets(np.random.default_rng(1), output, len(x), n_out)
        assert np.isfinite(net.loss(theta, x, y))


def test_soft_targets_through_passes_and_training() -> None:
    """A one-hot row is its label; the Fisher matrix does not depend on targets; a run counts top labels."""
    net, theta, x, y = random_net(np.random.default_rng(4), (3, 4, 3))
    one_hot = np.eye(3)[y]
    q = 0.8 * one_hot + 0.2 / 3
    loss, gradient = net.loss_and_gradient(theta, x, one_hot)
    assert loss == pytest.approx(net.loss(theta, x, y))
    close(gradient, net.gradient(theta, x, y))
    v = unit_vector(np.random.default_rng(0), net.n_params)
    close(net.gradient(theta, x, q) @ v, derivative(lambda at: net.loss(at, x, q), theta, v), 1e-8)
    F = fisher.exact(fisher.signals(net, theta, x)).to_dense()
    close(fisher.gauss_newton(net, theta, x, q).to_dense(), F)
    gradients = np.stack([net.gradient(theta, x[n : n + 1], q[n : n + 1]) for n in range(6)])
    empirical = fisher.exact(fisher.signals(net, theta, x, q, "data")).to_dense()
    close(empirical, gradients.T @ gradients / 6)
    with pytest.raises(ValueError, match="probabilities >= 0 that sum to 1, got 6 others among 6"):
        net.loss(theta, x, 2 * q)
    data = datasets.Dataset(x, q, x, q, "soft")
    run = training.train(net, theta, optim.KFAC(net), data, 20, 6, progress=False)
    assert run["loss"][-1] < run["loss"][0]
    p = net.predict(run.theta, x)
    assert run["test_error"][-1] == np.mean(p.argmax(1) != y)
