"""Odd parameters and data: every function of a network gives the right numbers, or an error that helps."""

import warnings

import numpy as np
import pytest
import scipy.sparse

import minikfac as mk
from minikfac import fisher, layers, outputs, reparam
from oracles import FLOAT32, OUTPUTS, close, odd, random_net, random_targets
from oracles.standin import installed

ERRORS = (ValueError, TypeError, FloatingPointError)
NET, THETA, X, Y = random_net(np.random.default_rng(0))
TAPE = NET.forward(THETA, X)
V = np.random.default_rng(1).standard_normal(NET.n_params)
NORMED = mk.Network(
    [layers.Dense(4, 5), layers.BatchNorm(5), layers.Tanh(), layers.Dense(5, 3)], outputs.Categorical()
)
NORMED_THETA = NORMED.init(np.random.default_rng(0))
RELU = mk.mlp([4, 5, 3], "relu")
MAP = reparam.random(NET, np.random.default_rng(2))


# the table of cases --------------------------------------------------------------


def tape_of(theta):
    return NET.forward(THETA.astype(theta.dtype), X)


def good(dtype):
    return THETA.astype(dtype)


PARAMETERS = {
    "forward": lambda t, at: NET.forward(t, X).z,
    "abar": lambda t, at: NET.forward(t, X).abar,
    "s": lambda t, at: NET.forward(t, X).s,
    "check_finite": lambda t, at: NET.check_finite(t),
    "loss": lambda t, at: NET.loss(t, X, Y),
    "loss_and_gradient": lambda t, at: NET.loss_and_gradient(t, X, Y),
    "loss_and_gradient, train": lambda t, at: NET.loss_and_gradient(t, X, Y, train=True),
    "gradient": lambda t, at: NET.gradient(t, X, Y),
    "predict": lambda t, at: NET.predict(t, X),
    "natural_parameters": lambda t, at: NET.natural_parameters(t, X),
    "kl, from": lambda t, at: NET.kl(t, at, X),
    "kl, to": lambda t, at: NET.kl(at, t, X),
    "jvp, theta": lambda t, at: NET.jvp(t, NET.forward(at, X), at),
    "jvp, v": lambda t, at: NET.jvp(at, NET.forward(at, X), t),
    "hessian_product, theta": lambda t, at: NET.hessian_product(t, NET.forward(at, X), Y, at),
    "hessian_product, v": lambda t, at: NET.hessian_product(at, NET.forward(at, X), Y, t),
    "backward": lambda t, at: NET.backward(t, NET.forward(at, X), np.ones((6, 3), at.dtype)),
    "vjp": lambda t, at: NET.vjp(t, NET.forward(at, X), np.ones((6, 3), at.dtype)),
    "fisher_gram, theta": lambda t, at: NET.fisher_gram(t, X, at[None]),
    "fisher_gram, direction": lambda t, at: NET.fisher_gram(at, X, [t]),
    "signals": lambda t, at: [fisher.signals(NET, t, X)[0].abar, fisher.signals(NET, t, X)[1].g],
    "push": lambda t, at: MAP.push(t),
    "pull": lambda t, at: MAP.pull(t),
    "push_step": lambda t, at: MAP.push_step(t),
    "pull_step": lambda t, at: MAP.pull_step(t),
    "center": lambda t, at: reparam.center(NET, t, X).push(at),
    "normalize": lambda t, at: reparam.normalize(NET, t, X, layers=[0]).push(at),
}
REFUSED = {
    *("one NaN", "one infinity", "one minus infinity", "one too short", "one too long", "empty", "a column"),
    *("a row", "no dimension", "complex", "integers", "Booleans", "words", "objects", "half precision"),
    *("a list", "masked", "None"),
}
"""Vectors that are no parameters: those come from a net, and nothing has to be converted."""


def arrays_of(result):
    """All numbers of a result."""
    parts = result if isinstance(result, list | tuple) else [result]
    return [np.asarray(part) for part in parts]


def answer(call, *arguments):
    """What a call returns, or the error; warnings of NumPy on the way do not count."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return arrays_of(call(*arguments))
        except ERRORS as error:
            return error


def agree(ours, theirs, tolerance):
    for array, other in zip(ours, theirs, strict=True):
        assert np.isfinite(array).all()
        close(array, other, tolerance)


every_dtype = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float64, 1e-12), pytest.param(np.float32, FLOAT32, marks=pytest.mark.slow)]
)


@every_dtype
@pytest.mark.parametrize("call", PARAMETERS.values(), ids=PARAMETERS)
def test_odd_parameters_are_refused_or_give_the_right_numbers(call, dtype, tolerance):
    refused = set()
    for name, theta in odd.vectors(NET.n_params, dtype):
        result = answer(call, theta, good(dtype))
        if isinstance(result, Exception):
            assert str(result).startswith("expected"), (name, result)
            refused.add(name)
        else:
            plain = np.array(theta, dtype)
            agree(result, answer(call, plain, good(dtype)), tolerance)
    assert refused >= REFUSED
    assert refused <= REFUSED | {"largest", "zeros"}  # beyond what floats hold; a net without variance


def rows(values):
    """A vector of 24 numbers, or one that is not, as 6 examples; what has another form stays as it is."""
    if isinstance(values, list):
        return [values[start : start + 4] for start in range(0, 24, 4)]
    return values.reshape(6, 4) if getattr(values, "size", 0) == 24 and values.ndim == 1 else values


INPUTS = {
    "forward": lambda x, at: NET.forward(at, x).z,
    "loss": lambda x, at: NET.loss(at, x, Y),
    "mean_loss": lambda x, at: NET.mean_loss(at, x, Y),
    "loss_and_gradient": lambda x, at: NET.loss_and_gradient(at, x, Y),
    "gradient_pass": lambda x, at: NET.gradient_pass(at, x, Y)[:2],
    "predict": lambda x, at: NET.predict(at, x),
    "kl": lambda x, at: NET.kl(at, 2 * at, x),
    "natural_parameters": lambda x, at: NET.natural_parameters(at, x),
    "fisher_gram": lambda x, at: NET.fisher_gram(at, x, at[None]),
    "batch_stats": lambda x, at: NORMED.predict(
        at0 := NORMED_THETA.astype(at.dtype), x, NORMED.batch_stats(at0, x)
    ),
    "signals": lambda x, at: fisher.signals(NET, at, x)[0].abar,
    "product": lambda x, at: fisher.product(NET, at, x) @ at,
    "center": lambda x, at: reparam.center(NET, at, x).push(at),
}
REFUSED_DATA = (REFUSED - {"objects", "half precision", "a list"}) | {"one NaN", "masked"}


@every_dtype
@pytest.mark.parametrize("call", INPUTS.values(), ids=INPUTS)
def test_odd_inputs_are_refused_or_give_the_right_numbers(call, dtype, tolerance):
    refused = set()
    for name, values in odd.vectors(24, dtype):
        x = rows(values)
        result = answer(call, x, good(dtype))
        if isinstance(result, Exception):
            assert str(result).startswith("expected"), (name, result)
            refused.add(name)
        else:
            agree(result, answer(call, np.array(x, dtype), good(dtype)), tolerance)
    assert REFUSED_DATA <= refused <= REFUSED_DATA | {"largest"}


def refuses(error, message, call, *arguments):
    with np.errstate(all="ignore"), pytest.raises(error, match=message):
        call(*arguments)


@every_dtype
@pytest.mark.parametrize("output", ["bernoulli", "gaussian"])
def test_odd_targets_are_refused_or_give_the_right_numbers(output, dtype, tolerance):
    net, theta, x, _ = random_net(np.random.default_rng(0), (4, 5, 4), output=output)
    theta, tape = theta.astype(dtype), net.forward(theta.astype(dtype), x)
    calls = {
        "loss": lambda y: net.loss(theta, x, y),
        "gradient": lambda y: net.gradient(theta, x, y),
        "hessian_product": lambda y: net.hessian_product(theta, tape, y, theta),
        "signals": lambda y: fisher.signals(net, theta, x, y, "data")[0].g,
        "hessian": lambda y: fisher.hessian(net, theta, x, y) @ theta,
        "gauss_newton": lambda y: fisher.gauss_newton(net, theta, x, y) @ theta,
    }
    for call in calls.values():
        for name, values in odd.vectors(24, dtype):
            y = rows(values)
            result = answer(call, y)
            if isinstance(result, Exception):
                assert str(result).startswith("expected"), (name, result)
            else:
                assert name not in REFUSED_DATA - {"integers", "Booleans"}
                plain = np.array(y, dtype)
                agree(result, answer(call, plain), tolerance)


@pytest.mark.parametrize("name", odd.NUMBERS)
def test_odd_condition_numbers_are_refused_or_bound_the_maps(name):
    condition = odd.NUMBERS[name]
    try:
        r = reparam.random(NET, np.random.default_rng(0), condition=condition)
    except ValueError as error:
        assert "expected a condition number from 1 to 1e12, got " in str(error)
        assert name not in ("two and a half", "NumPy int")
        return
    assert name in ("two and a half", "NumPy int")
    singular = np.linalg.svd(r.maps[0].U)[1]
    assert singular.max() / singular.min() <= float(condition)
    close(r.pull(r.push(THETA)), THETA)


@pytest.mark.parametrize("name", odd.NUMBERS)
def test_odd_factors_are_refused_or_keep_the_function(name):
    theta = RELU.init(np.random.default_rng(0))
    result = answer(lambda: reparam.rescale(RELU, {"dense0": odd.NUMBERS[name]}).push(theta))
    if isinstance(result, Exception):
        assert str(result).startswith("expected")
        return
    net = reparam.rescale(RELU, {0: odd.NUMBERS[name]}).net
    close(net.predict(result[0], X), RELU.predict(theta, X))


# parameters that are not finite --------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("layer", [0, 1])
def test_the_layers_with_numbers_that_are_not_finite_are_named(bad, layer):
    theta = THETA.copy()
    NET.unpack(theta)[layer][0, 0] = bad
    message = f"^expected finite theta, got NaN or infinite values in dense{layer}$"
    for call in (NET.forward, NET.predict, NET.natural_parameters):
        refuses(ValueError, message, call, theta, X)
    normed = NORMED_THETA.copy()
    normed[3] = bad
    refuses(ValueError, "values in dense0$", NORMED.batch_stats, normed, X)
    refuses(ValueError, message, NET.loss, theta, X, Y)
    refuses(ValueError, message, NET.loss_and_gradient, theta, X, Y)
    refuses(ValueError, message, NET.backward, theta, TAPE, np.ones((6, 3)))
    refuses(ValueError, message.replace("theta", "v"), NET.jvp, THETA, TAPE, theta)
    refuses(ValueError, message.replace("theta", "theta2"), NET.kl, THETA, theta, X)
    refuses(ValueError, message.replace("theta", "theta or direction"), MAP.push, theta)
    both = THETA.copy()
    both[[0, -1]] = bad
    refuses(ValueError, "values in dense0, dense1$", NET.forward, both, X)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_step_that_begins_at_such_parameters_has_no_loss(bad):
    """Behind tanh an infinite weight looks as good as a large one; optimizers decide by the loss."""
    theta = THETA.copy()
    theta[0] = bad
    with np.errstate(all="ignore"):
        assert np.isnan(NET.mean_loss(theta, abs(X) + 1, Y))
        assert np.isnan(NET.gradient_pass(theta, abs(X) + 1, Y)[0])
    with installed():
        on = [mk.to_device(array) for array in (theta, abs(X) + 1, Y)]
        with np.errstate(all="ignore"):
            assert np.isnan(float(NET.mean_loss(*on))) and np.isnan(float(NET.gradient_pass(*on)[0]))
            refuses(ValueError, "expected finite theta, got NaN .* in dense0", NET.loss, *on)
            refuses(ValueError, "expected finite theta, got NaN .* in dense0", NET.loss_and_gradient, *on)


def test_on_a_device_a_loss_names_inputs_that_are_not_finite():
    x = X.copy()
    x[2, 1] = np.nan
    with installed():
        on = [mk.to_device(array) for array in (THETA, x, Y)]
        refuses(ValueError, "expected finite inputs, got NaN or infinite values in 1 of 6", NET.loss, *on)
        refuses(
            ValueError,
            "expected finite theta",
            NET.kl,
            *(mk.to_device(a) for a in (THETA * np.nan, THETA, X)),
        )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_derivatives_that_are_not_finite_are_refused(bad):
    dz = np.ones((2, 6, 3))
    dz[1, 5, 0] = bad
    refuses(ValueError, "expected finite dz, got NaN or infinite values", NET.backward, THETA, TAPE, dz)
    refuses(ValueError, "expected finite dz, got NaN or infinite values", NET.vjp, THETA, TAPE, dz[1])
    refuses(
        ValueError,
        "expected dz of a real dtype, got complex128",
        NET.backward,
        THETA,
        TAPE,
        np.full((6, 3), 1j),
    )
    refuses(ValueError, "expected dz of a real dtype, got <U", NET.backward, THETA, TAPE, dz.astype(str))


# numbers that overflow on the way --------------------------------------------------------------

HUGE = {np.float32: 1e30, np.float64: 1e200}


@pytest.mark.parametrize("dtype", HUGE)
def test_a_pass_that_overflows_says_so(dtype):
    net = mk.mlp([4, 5, 3], "relu")
    theta = np.full(net.n_params, HUGE[dtype], dtype)
    message = f"expected finite outputs, got NaN or infinite values: numbers overflow {np.dtype(dtype)}"
    message += "; make parameters and inputs smaller" + (", or use float64$" if dtype == np.float32 else "$")
    x = abs(X)
    for call in (net.forward, net.predict, net.natural_parameters):
        refuses(FloatingPointError, message, call, theta, x)
    refuses(FloatingPointError, message.replace("outputs", "loss"), net.loss, theta, x, Y)
    refuses(FloatingPointError, message, net.kl, theta, theta, x)
    with np.errstate(all="ignore"):
        assert not np.isfinite(net.mean_loss(theta, x, Y))


def test_results_that_overflow_say_so():
    net = mk.mlp([4, 3], output="gaussian")
    theta, y = np.zeros(net.n_params), np.full((6, 3), 1e200)
    refuses(FloatingPointError, "expected finite loss, got", net.loss, theta, X, y)
    refuses(FloatingPointError, "expected finite KL divergence, got", net.kl, theta, theta + 1e200, X)
    tape, v = NET.forward(THETA, X), np.full(NET.n_params, 1e308)
    refuses(FloatingPointError, "expected finite J v, got", NET.jvp, THETA, tape, v)
    refuses(FloatingPointError, "expected finite H v, got", NET.hessian_product, THETA, tape, Y, v)
    steep = mk.Network(
        [layers.Dense(4, 5, bias=False), layers.Dense(5, 3, bias=False)], outputs.Categorical()
    )
    theta = steep.pack([np.zeros((4, 5)), np.full((5, 3), 1e300) * [1, -1, 1]])
    refuses(FloatingPointError, "expected finite gradient, got", steep.gradient, theta, X * 1e10, Y)


@pytest.mark.parametrize("logit", [100.0, 800.0, 1e300])
def test_saturated_logits_have_a_finite_loss(logit):
    """The log-softmax of finite numbers is finite: nothing is refused, and the loss is the distance."""
    net = mk.mlp([1, 2], bias=False)
    loss = net.loss(np.array([logit, 0.0]), np.ones((1, 1)), np.array([1]))
    assert loss == logit
    assert net.loss(np.array([logit, 0.0]), np.ones((1, 1)), np.array([0])) == 0


# array-likes --------------------------------------------------------------


class Column:
    """What a column of pandas has; rows are taken by slices, and len tells how many."""

    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def to_numpy(self):
        return self.values


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.parametrize(
    "make",
    [list, np.ndarray.tolist, np.asmatrix, scipy.sparse.csr_matrix, Column, np.ma.masked_array],
    ids=["list of arrays", "list", "matrix", "sparse", "pandas", "masked"],
)
def test_arrays_of_other_libraries_give_the_same_numbers(make):
    x, y = make(X), Column(Y) if make is Column else Y.tolist()
    close(NET.loss(THETA, x, y), NET.loss(THETA, X, Y), 0)
    close(NET.gradient(THETA, x, y), NET.gradient(THETA, X, Y), 0)
    close(NET.predict(THETA, x), NET.predict(THETA, X), 0)
    close(NET.kl(THETA, V, x), NET.kl(THETA, V, X), 0)
    close(NET.hessian_product(THETA, TAPE, y, V), NET.hessian_product(THETA, TAPE, Y, V), 0)
    assert NET.n_outputs(x) == 3
    ours, theirs = (fisher.signals(NET, THETA, *data, "data", batch_size=2) for data in ((x, y), (X, Y)))
    for chunk, other in zip(ours, theirs, strict=True):
        close(chunk[1].g, other[1].g, 0)
    stats = [s.tolist() for s in NORMED.init_stats()]
    close(NORMED.predict(NORMED_THETA, x, stats), NORMED.predict(NORMED_THETA, X, NORMED.init_stats()), 0)


@pytest.mark.oracle
def test_tensors_of_pytorch_give_the_same_numbers():
    torch = pytest.importorskip("torch")
    x, y = torch.from_numpy(X).requires_grad_(), torch.from_numpy(Y)
    close(NET.loss(THETA, x, y), NET.loss(THETA, X, Y), 0)
    close(NET.predict(THETA, x), NET.predict(THETA, X), 0)
    refuses(
        TypeError, "expected x to be an array of numbers, got Tensor: Got", NET.predict, THETA, x.bfloat16()
    )


def test_masked_data_are_refused_by_name():
    x, y = np.ma.masked_array(X, X > 1), np.ma.masked_array(Y, Y > 1)
    message = r"expected {} without masked entries, got \d+ of \d+ masked"
    for call in (NET.loss, NET.loss_and_gradient, NET.gradient_pass, NET.mean_loss):
        refuses(ValueError, message.format("x"), call, THETA, x, Y)
        refuses(ValueError, message.format("y"), call, THETA, X, y)


# labels --------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (Y + 1, ValueError, "labels in 0..2, got values from 1 to 3; if they begin at 1, subtract 1$"),
        (Y + 2, ValueError, "labels in 0..2, got values from 2 to 4; 5 classes need as many outputs$"),
        (
            2 * Y - 1,
            ValueError,
            "from -1 to 3; leave out examples without a label, and write classes -1 and 1",
        ),
        (Y.astype(float), ValueError, r"an integer dtype, got float64; convert labels with y\.astype\(int\)"),
        (Y > 1, ValueError, r"an integer dtype, got bool; convert labels with y\.astype\(int\)"),
        (Y[:, None], ValueError, r"shape \(6,\), got \(6, 1\); labels are y\[:, 0\]$"),
        (
            np.eye(3, dtype=int)[Y],
            ValueError,
            r"\(6,\), got \(6, 3\); if each row is one-hot, labels are y\.argmax\(1\)$",
        ),
        (
            np.eye(4)[Y],
            ValueError,
            r"expected labels of shape \(6,\), got \(6, 4\); probabilities have shape \(6, 3\)$",
        ),
        (
            np.ones((6, 3)),
            ValueError,
            r"sum to 1, got 6 others among 6, the first with sum 3 and",
        ),
        (Y[:-1], ValueError, r"expected labels of shape \(6,\), got \(5,\)$"),
        (
            Y.astype(str),
            TypeError,
            r"expected y to be an array of numbers, got .*; number classes from 0 by np",
        ),
        (
            ["cat"] * 6,
            TypeError,
            r"got list of dtype <U3; number classes from 0 by np\.unique\(y, return_inv",
        ),
        ([None] * 6, TypeError, "expected y to be an array of numbers, got list: None is not a number"),
        (None, TypeError, "expected y to be an array of numbers, got NoneType"),
    ],
)
def test_labels_that_are_none_come_with_what_to_do(y, error, message):
    calls = (
        lambda: NET.loss(THETA, X, y),
        lambda: NET.gradient(THETA, X, y),
        lambda: NET.gradient_pass(THETA, X, y),
        lambda: NET.hessian_product(THETA, TAPE, y, V),
        lambda: fisher.gauss_newton(NET, THETA, X, y),
    )
    for call in calls:
        refuses(error, message, call)


@pytest.mark.parametrize("y", [Y.astype(np.uint8), Y.astype(object), Y.astype(">i4"), Y.tolist(), tuple(Y)])
def test_whole_numbers_of_any_kind_are_labels(y):
    close(NET.loss(THETA, X, y), NET.loss(THETA, X, Y), 0)
    close(fisher.signals(NET, THETA, X, y, "data")[0].g, fisher.signals(NET, THETA, X, Y, "data")[0].g, 0)


def test_one_output_is_no_categorical_distribution():
    net = mk.mlp([4, 1])
    for y in (np.zeros(6, int), np.arange(6) % 2, np.zeros((6, 1))):
        refuses(
            ValueError,
            "expected at least two outputs, .* got 1, whose .*'bernoulli' with targets",
            net.loss,
            net.init(np.random.default_rng(0)),
            X,
            y,
        )


@pytest.mark.parametrize("output", OUTPUTS)
def test_targets_are_drawn_by_generators_only(output):
    net, theta, x, _ = random_net(np.random.default_rng(0), output=output)
    z, wanted = net.forward(theta, x).z, r"expected rng = numpy\.random\.default_rng\(seed\), got "
    for rng in (None, 0, np.random, np.random.RandomState(0)):
        refuses(TypeError, wanted, net.output.sample, z, rng)
        refuses(TypeError, wanted, net.init, rng)
        refuses(TypeError, wanted, reparam.random, net, rng)
        if rng is not None:
            refuses(TypeError, wanted, reparam.rescale, RELU, None, rng)
            refuses(
                TypeError, wanted, lambda rng=rng: fisher.signals(net, theta, x, targets="sampled", rng=rng)
            )
    assert (
        random_targets(np.random.default_rng(0), output, 6, 3).shape
        == net.output.sample(z, np.random.default_rng(0)).shape
    )


# statistics --------------------------------------------------------------


def test_a_net_in_use_needs_the_statistics_of_training():
    message = (
        r"expected stats, the running statistics of batch normalization, got none; .*state\['stats'\]; batch"
    )
    for call in (NORMED.predict, NORMED.natural_parameters):
        refuses(ValueError, message, call, NORMED_THETA, X)
    refuses(ValueError, message, NORMED.kl, NORMED_THETA, NORMED_THETA, X)
    for call in (NORMED.loss, NORMED.gradient, NORMED.loss_and_gradient):
        refuses(ValueError, message, call, NORMED_THETA, X, Y)
    assert np.isfinite(NORMED.loss_and_gradient(NORMED_THETA, X, Y, train=True)[0])
    close(
        NORMED.predict(NORMED_THETA, X, NORMED.batch_stats(NORMED_THETA, X)),
        NORMED.output.mean(NORMED.forward(NORMED_THETA, X, train=True).z),
    )


# constants of a layer --------------------------------------------------------------


@pytest.mark.parametrize(
    ("U", "error", "message"),
    [
        (
            np.ma.masked_array([1.0, 2.0], [False, True]),
            ValueError,
            "U of Affine without masked entries, got 1 of",
        ),
        (["0.1", "0.2"], TypeError, "U of Affine to be an array of numbers, got list of dtype <U3"),
        ([1j, 1], ValueError, "U of Affine to be real, got complex128"),
        (None, TypeError, "U of Affine to be an array of numbers, got NoneType"),
        ([[1, 2], [3]], ValueError, "U of Affine to be an array of numbers, got list: setting an array"),
    ],
)
def test_an_affine_map_refuses_what_is_no_array_of_numbers(U, error, message):
    refuses(error, message, layers.Affine, U)
    if U is not None:  # where a map is left out
        refuses(error, message, reparam.affine, NET, 0, U)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.parametrize(
    "U", [[[2, 0], [1, 3]], np.array([[2, 0], [1, 3]]).view(np.matrix), np.array([[2, 0], [1, 3]], object)]
)
def test_an_affine_map_takes_numbers_of_any_kind(U):
    close(layers.Affine(U).forward([], np.eye(2))[0], [[2.0, 0.0], [1.0, 3.0]], 0)
