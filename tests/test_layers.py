"""Each layer alone: derivatives against finite differences, example by example, and what it refuses."""

import numpy as np
import pytest
from oracles import ACTIVATIONS, EXACT, FINITE_DIFFERENCE, close, derivative, unit_vector

from minikfac import layers

N, K = 5, 3
POINTWISE = layers.ACTIVATIONS
LAYERS = {
    "dense": layers.Dense(4, 3),
    "dense without bias": layers.Dense(4, 3, bias=False),
    **{name: make() for name, make in POINTWISE.items()},
    "sequential": layers.Sequential(
        (layers.Logistic(), layers.Dense(4, 6), layers.Sequential((layers.Tanh(), layers.Dense(6, 2))))
    ),
}
every_layer = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)


class Pass:
    """A layer, random weights and inputs (away from a ReLU's kink), and a forward pass."""

    def __init__(self, layer: layers.Layer, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.layer = layer
        self.Ws = [self.rng.standard_normal(shape) for shape in layer.weight_shapes]
        self.Vs = [unit_vector(self.rng, *shape) for shape in layer.weight_shapes]
        x = self.rng.standard_normal((N, 4))
        self.x = x + 0.1 * np.sign(x)
        self.dx = unit_vector(self.rng, N, 4)
        self.y, self.record = layer.forward(self.Ws, self.x)

    def moved(self, t: float) -> np.ndarray:
        """y at a distance t along (dx, Vs)."""
        Ws = [W + t * V for W, V in zip(self.Ws, self.Vs, strict=True)]
        return self.layer.forward(Ws, self.x + t * self.dx)[0]


@every_layer
def test_jvp_is_the_derivative_of_the_outputs_of_every_example(layer):
    at = Pass(layer)
    dy = layer.jvp(at.Ws, at.Vs, at.record, at.dx)[0]
    close(dy, derivative(at.moved, np.zeros(()), np.ones(())), **FINITE_DIFFERENCE)


@every_layer
def test_backward_is_the_adjoint_of_jvp_for_every_example(layer):
    at = Pass(layer)
    u = at.rng.standard_normal(at.y.shape)
    dy = layer.jvp(at.Ws, at.Vs, at.record, at.dx)[0]
    dx, gs = layer.backward(at.Ws, at.record, u)
    back = (at.dx * dx).sum(1)
    for (abar, _), g, V in zip(layer.signals(at.record), gs, at.Vs, strict=True):
        back = back + np.einsum("nti,nto,io->n", abar, g, V)
    close((u * dy).sum(1), back, **EXACT)


@every_layer
def test_backward_is_the_derivative_of_the_loss_of_every_example(layer):
    at = Pass(layer)
    u = at.rng.standard_normal(at.y.shape)
    dx, gs = layer.backward(at.Ws, at.record, u)
    for n in range(N):
        along = derivative(lambda x, n=n: u[n] @ layer.forward(at.Ws, x)[0][n], at.x, at.dx)
        close(dx[n] @ at.dx[n], along, **FINITE_DIFFERENCE)
        for l, V in enumerate(at.Vs):

            def loss(W, n=n, l=l):
                return u[n] @ layer.forward([*at.Ws[:l], W, *at.Ws[l + 1 :]], at.x)[0][n]

            abar, g = layer.signals(at.record)[l][0], gs[l]
            close((abar[n].T @ g[n] * V).sum(), derivative(loss, at.Ws[l], V), **FINITE_DIFFERENCE)


@every_layer
def test_leading_axes_of_backward_are_separate_calls(layer):
    at = Pass(layer)
    u = at.rng.standard_normal((2, K, *at.y.shape))
    dx, gs = layer.backward(at.Ws, at.record, u)
    for m in range(2):
        for k in range(K):
            dx_alone, gs_alone = layer.backward(at.Ws, at.record, u[m, k])
            close(dx[m, k], dx_alone, **EXACT)
            for g, g_alone in zip(gs, gs_alone, strict=True):
                close(g[m, k], g_alone, **EXACT)


@every_layer
def test_derivatives_by_the_inputs_are_left_out_on_request(layer):
    at = Pass(layer)
    u = at.rng.standard_normal(at.y.shape)
    dx, gs = layer.backward(at.Ws, at.record, u, need_dx=False)
    if layer.weight_shapes:
        assert dx is None
    for g, expected in zip(gs, layer.backward(at.Ws, at.record, u)[1], strict=True):
        close(g, expected, **EXACT)


@every_layer
def test_jvp_by_the_weights_alone_leaves_the_inputs_where_they_are(layer):
    at = Pass(layer)
    dy = layer.jvp(at.Ws, at.Vs, at.record, None)[0]
    if not layer.weight_shapes:
        assert dy is None
        return
    close(dy, layer.jvp(at.Ws, at.Vs, at.record, 0 * at.dx)[0], **EXACT)


@every_layer
def test_backward_jvp_is_the_derivative_of_the_backward_pass(layer):
    at = Pass(layer)
    u, ru = at.rng.standard_normal((2, *at.y.shape))

    def backward(t):
        Ws = [W + t * V for W, V in zip(at.Ws, at.Vs, strict=True)]
        record = layer.forward(Ws, at.x + t * at.dx)[1]
        dx, gs = layer.backward(Ws, record, u + t * ru)
        abars = [abar for abar, _ in layer.signals(record)]
        return np.concatenate([part.ravel() for part in (dx, *abars, *gs)])

    tangent = layer.jvp(at.Ws, at.Vs, at.record, at.dx)[1]
    dx, rdx, found = layer.backward_jvp(at.Ws, at.Vs, at.record, tangent, u, ru)
    now = [dx, *(abar for abar, _, _, _ in found), *(g for _, _, g, _ in found)]
    change = [rdx, *(rabar for _, rabar, _, _ in found), *(rg for _, _, _, rg in found)]
    close(np.concatenate([part.ravel() for part in now]), backward(0.0), **EXACT)
    expected = derivative(backward, np.zeros(()), np.ones(()))
    close(np.concatenate([part.ravel() for part in change]), expected, **FINITE_DIFFERENCE)


@every_layer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_layer_keeps_the_dtype_and_changes_nothing_in_place(layer, dtype):
    at = Pass(layer)
    Ws, Vs = ([W.astype(dtype) for W in own] for own in (at.Ws, at.Vs))
    x, dx, u = (array.astype(dtype) for array in (at.x, at.dx, at.y))
    inputs = [*Ws, *Vs, x, dx, u]
    for array in inputs:
        array.flags.writeable = False
    y, record = layer.forward(Ws, x)
    back, gs = layer.backward(Ws, record, u)
    dy, tangent = layer.jvp(Ws, Vs, record, dx)
    more = layer.backward_jvp(Ws, Vs, record, tangent, u, u)
    arrays = [y, back, *gs, dy, *more[:2], *(array for parts in more[2] for array in parts)]
    arrays += [array for pair in layer.signals(record) for array in pair]
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}


# activations --------------------------------------------------------------


@pytest.mark.parametrize("name", POINTWISE)
def test_an_activation_is_its_formula(name):
    x = np.linspace(-3, 3, 13)
    close(POINTWISE[name]().value(x), [ACTIVATIONS[name](float(v)) for v in x], **EXACT)


@pytest.mark.parametrize("name", POINTWISE)
def test_slope_and_bend_are_first_and_second_derivatives(name):
    phi = POINTWISE[name]()
    x = np.linspace(-3, 3, 14)  # not 0, where a ReLU has a kink
    one = np.ones_like(x)
    close(phi.slope(x, phi.value(x)), derivative(phi.value, x, one), **FINITE_DIFFERENCE)
    slope = derivative(lambda x: phi.slope(x, phi.value(x)), x, one)
    close(phi.bend(x, phi.value(x)), slope, **FINITE_DIFFERENCE)


def test_the_slope_of_a_relu_at_its_kink_is_0():
    assert layers.ReLU().slope(np.zeros(1), np.zeros(1)) == 0


@pytest.mark.parametrize(("dtype", "far"), [(np.float64, 1e4), (np.float32, 1e3)])
@pytest.mark.parametrize("name", POINTWISE)
def test_an_activation_neither_overflows_nor_warns_far_out(name, dtype, far):
    phi, x = POINTWISE[name](), np.array([-far, far], dtype)
    y = phi.value(x)
    limits = {"tanh": (-1, 1), "logistic": (0, 1), "identity": (-far, far)}
    close(y, limits.get(name, (0, far)), rtol=0, atol=0)
    assert np.isfinite([phi.slope(x, y), phi.bend(x, y)]).all()


# dense layers --------------------------------------------------------------


def test_a_dense_layer_adds_its_last_row_of_weights():
    W = np.arange(6.0).reshape(3, 2)
    x = np.array([[1.0, 10.0]])
    s, record = layers.Dense(2, 2).forward([W], x)
    close(s, [[0 + 20 + 4, 1 + 30 + 5]], **EXACT)
    close(layers.Dense(2, 2).signals(record)[0][0], [[[1, 10, 1]]], **EXACT)


def test_a_dense_layer_without_bias_multiplies_only():
    assert layers.Dense(2, 3, bias=False).weight_shape == (2, 3)
    close(layers.Dense(1, 1, bias=False).forward([np.array([[2.0]])], np.array([[3.0]]))[0], 6, **EXACT)


@pytest.mark.parametrize("bias", [True, False])
def test_split_undoes_join_in_the_shapes_of_pytorch(bias):
    rng = np.random.default_rng(0)
    weight, b = rng.standard_normal((3, 4)), rng.standard_normal(3) if bias else None
    W = layers.Dense.join(weight, b)
    x = rng.standard_normal((2, 4))
    close(layers.Dense(4, 3, bias).forward([W], x)[0], x @ weight.T + (b if bias else 0), **EXACT)
    weight_back, b_back = layers.Dense.split(W, bias)
    close(weight_back, weight, rtol=0, atol=0)
    if bias:
        close(b_back, b, rtol=0, atol=0)
    assert (b_back is None) == (not bias)
    assert not any(np.shares_memory(W, array) for array in (weight, weight_back))


@pytest.mark.parametrize(
    ("weight", "bias", "came"),
    [((3, 4), (4,), r"\(3, 4\) and \(4,\)"), ((3,), None, r"\(3,\) and None"), ((3, 4), (3, 1), r"\(3, 1\)")],
)
def test_join_refuses_shapes_that_do_not_belong_together(weight, bias, came):
    with pytest.raises(ValueError, match=rf"expected a weight \(n_out, n_in\) and a bias .*got .*{came}"):
        layers.Dense.join(np.zeros(weight), None if bias is None else np.zeros(bias))


def test_join_refuses_lists():
    with pytest.raises(TypeError, match="expected weight to be a NumPy or CuPy array, got list"):
        layers.Dense.join([[1.0]], np.ones(1))
    with pytest.raises(TypeError, match="expected bias to be a NumPy or CuPy array, got list"):
        layers.Dense.join(np.ones((1, 1)), [1.0])


@pytest.mark.parametrize("size", [0, -1, 2.5, 3.0, True, "3", None])
def test_dense_refuses_sizes_that_are_no_counts(size):
    with pytest.raises(ValueError, match=f"expected Dense n_in to be a positive whole number, got {size!r}"):
        layers.Dense(size, 2)
    with pytest.raises(ValueError, match=f"expected Dense n_out to be a positive whole number, got {size!r}"):
        layers.Dense(2, size)


def test_dense_takes_numpys_whole_numbers():
    assert layers.Dense(np.int64(3), np.uint8(2)).weight_shape == (4, 2)


@pytest.mark.parametrize("bias", [10, "yes", None])
def test_dense_refuses_a_bias_that_is_no_yes_or_no(bias):
    with pytest.raises(ValueError, match=f"expected Dense bias to be True or False, got {bias!r}"):
        layers.Dense(3, 2, bias)


@pytest.mark.parametrize("shape", [(5, 3), (5, 4, 1), (4,)])
def test_dense_refuses_inputs_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"expected inputs of shape \(N, 4\) to Dense\(n_in=4.*got \("):
        layers.Dense(4, 2).forward([np.zeros((5, 2))], np.zeros(shape))


def test_sizes_of_neighbours_must_fit():
    chain = layers.Sequential((layers.Dense(4, 3), layers.Tanh(), layers.Dense(4, 2)))
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
