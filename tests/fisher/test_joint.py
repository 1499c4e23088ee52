"""The Fisher matrix of a batch that batch normalization couples, by enumeration of the batch's targets."""

import itertools
import math
import sys
from collections.abc import Callable

import numpy as np
import pytest

import minikfac as mk
from minikfac import fisher, layers, outputs
from oracles import EXACT, FLOAT32, all_targets, derivative, error, loop_mean, standin

FINITE_DIFFERENCE = 1e-8
"""Relative error of J^T J, with J by central differences of fourth order."""
FAR = 0.05
"""Relative distance above which two matrices count as different."""
EPS = 1e-14
"""Of normalizations that are to be invariant to the scale of what they are given."""

Normalization = Callable[[int], layers.Layer]
BATCH: Normalization = lambda c: layers.BatchNorm(c, eps=EPS)  # noqa: E731
GROUP: Normalization = lambda c: layers.GroupNorm(1, c)  # noqa: E731

OUTPUTS = {"categorical": outputs.Categorical, "bernoulli": outputs.Bernoulli, "gaussian": outputs.Gaussian}


def make(
    norm: Normalization = BATCH, output: str = "categorical", n: int = 3, seed: int = 0
) -> tuple[mk.Network, np.ndarray, np.ndarray]:
    """A convolution and a dense layer, each normalized, and a dense layer above."""
    rng = np.random.default_rng(seed)
    net = mk.Network(
        [
            layers.Conv2d(1, 2, 2),
            norm(2),
            layers.Tanh(),
            layers.Flatten(),
            layers.Dense(8, 3),
            norm(3),
            layers.Tanh(),
            layers.Dense(3, 2),
        ],
        OUTPUTS[output](),
    )
    theta = net.init(rng) + 0.3 * rng.standard_normal(net.n_params)
    return net, theta, rng.standard_normal((n, 3, 3, 1))


def branches(norm: Normalization) -> tuple[mk.Network, np.ndarray, np.ndarray]:
    """Normalizations inside a residual and a parallel layer."""
    rng = np.random.default_rng(1)
    net = mk.Network(
        [
            layers.Conv2d(1, 2, 3, padding=1),
            layers.Residual([layers.Conv2d(2, 2, 3, padding=1), norm(2), layers.Tanh()]),
            layers.Parallel([layers.Conv2d(2, 1, 1), norm(1)], layers.Conv2d(2, 2, 1)),
            layers.Tanh(),
            layers.GlobalAvgPool(),
            layers.Dense(3, 3),
        ],
        outputs.Categorical(),
    )
    theta = net.init(rng) + 0.3 * rng.standard_normal(net.n_params)
    return net, theta, rng.standard_normal((4, 3, 3, 1))


def jacobian(net: mk.Network, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    """dz / dtheta in training, (N, C, P), by finite differences of the forward pass."""
    z = lambda theta: net.forward(theta, x, train=True).z  # noqa: E731
    return np.stack([derivative(z, theta, e, h=2e-4) for e in np.eye(len(theta))], axis=-1)


def enumerated(net: mk.Network, theta: np.ndarray, x: np.ndarray, output: str) -> np.ndarray:
    """(1/N) E[ D D^T ] over all targets of the whole batch together, D the gradient of their log p."""
    J = jacobian(net, theta, x)
    z = net.forward(theta, x, train=True).z
    F = np.zeros((len(theta),) * 2)
    for choice in itertools.product(*(list(all_targets(output, row)) for row in z)):
        p = math.prod(weight for weight, _ in choice)
        D = 0.0
        for row, J_n, (_, y) in zip(z, J, choice, strict=True):
            one_hot = np.eye(len(row))[int(y)] if output == "categorical" else np.asarray(y)
            D = D + J_n.T @ (one_hot - loop_mean(output, row))
        F += p * np.outer(D, D) / len(x)
    return F


@pytest.mark.parametrize("output", OUTPUTS)
def test_joint_is_the_expectation_over_the_targets_of_the_batch(output: str) -> None:
    net, theta, x = make(output=output)
    expected = enumerated(net, theta, x, output)
    assert error(fisher.joint(net, theta, x).to_dense(), expected) < FINITE_DIFFERENCE


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("norm", [BATCH, GROUP], ids=["batch", "group"])
def test_products_in_training_are_those_of_the_joint_matrix(norm: Normalization, output: str) -> None:
    net, theta, x = make(norm, output, n=6)
    F = fisher.joint(net, theta, x)
    assert error(fisher.product(net, theta, x, train=True).to_dense(), F.to_dense()) < EXACT
    assert F.names == net.names and F.slices == net.slices


def test_joint_through_branches() -> None:
    net, theta, x = branches(BATCH)
    F = fisher.joint(net, theta, x).to_dense()
    assert error(fisher.product(net, theta, x, train=True).to_dense(), F) < EXACT
    J = jacobian(net, theta, x)
    b = net.output.fisher_root(net.forward(theta, x, train=True).z)
    rows = np.einsum("knc,ncp->knp", b, J).reshape(-1, len(theta))
    assert error(F, rows.T @ rows / len(x)) < FINITE_DIFFERENCE


@pytest.mark.parametrize("make_net", [make, branches], ids=["chain", "branches"])
def test_without_coupling_joint_is_exact(make_net: Callable) -> None:
    net, theta, x = make_net(GROUP)
    assert (
        error(fisher.joint(net, theta, x).to_dense(), fisher.exact(fisher.signals(net, theta, x)).array)
        < EXACT
    )


@pytest.mark.parametrize("make_net", [make, branches], ids=["chain", "branches"])
def test_statistics_held_constant_give_another_matrix(make_net: Callable) -> None:
    net, theta, x = make_net(BATCH)
    constant = fisher.exact(fisher.signals(net, theta, x, train=True)).array
    assert error(constant, fisher.joint(net, theta, x).array) > FAR


@pytest.mark.parametrize("scratch", [1, 500, 700])
def test_few_examples_at_a_time_change_nothing(scratch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net, theta, x = make(n=5)
    expected = fisher.joint(net, theta, x).array
    monkeypatch.setattr(sys.modules["minikfac.fisher.joint"], "_SCRATCH", scratch)
    assert error(fisher.joint(net, theta, x).array, expected) < EXACT


class WithSigns(outputs.Categorical):
    """The same distribution with another root: the columns of every other example change sign."""

    def fisher_root(self, z: np.ndarray) -> np.ndarray:
        return super().fisher_root(z) * (-1.0) ** np.arange(len(z))[:, None]


def test_the_signs_of_the_roots_columns_do_not_matter() -> None:
    net, theta, x = make(n=6)
    other = mk.Network(net.layers, WithSigns())
    F = fisher.joint(net, theta, x).array
    assert error(fisher.joint(other, theta, x).array, F) < EXACT
    assert error(fisher.product(other, theta, x, train=True).to_dense(), F) < EXACT


def all_examples_at_once(net: mk.Network, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    """What the signs would matter to: the columns of all examples pushed back together."""
    tape = net.forward(theta, x, train=True)
    gs = net.backward(theta, tape, net.output.fisher_root(tape.z))
    signals = [fisher.LayerSignals(*pair) for pair in zip(tape.abar, gs, strict=True)]
    D = np.concatenate([layer.gradients() for layer in signals], axis=2).reshape(-1, len(theta))
    return D.T @ D / len(x)


def test_all_examples_pushed_back_at_once_depend_on_arbitrary_signs() -> None:
    net, theta, x = make(n=6)
    F = all_examples_at_once(net, theta, x)
    assert error(all_examples_at_once(mk.Network(net.layers, WithSigns()), theta, x), F) > FAR
    net, theta, x = make(GROUP, n=6)
    F = all_examples_at_once(net, theta, x)
    assert error(all_examples_at_once(mk.Network(net.layers, WithSigns()), theta, x), F) < EXACT


# where the joint matrix is singular ---------------------------------------------------------------------


def directions(net: mk.Network, theta: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Per normalized unit: its incoming weights, and its bias."""
    named = []
    for layer in (0, 2):
        for unit in range(net.shapes[layer][1]):
            for what in ("weights", "bias"):
                v = np.zeros_like(theta)
                DW, W = net.unpack(v)[layer], net.unpack(theta)[layer]
                if what == "weights":
                    DW[:-1, unit] = W[:-1, unit]
                else:
                    DW[-1, unit] = 1
                named.append((f"{what} of unit {unit} in layer {layer}", v / np.linalg.norm(v)))
    return named


def test_joint_is_singular_along_each_normalized_unit() -> None:
    net, theta, x = make(n=6)
    F = fisher.joint(net, theta, x)
    constant = fisher.exact(fisher.signals(net, theta, x, train=True))
    scale = np.linalg.norm(F.array, 2)
    for what, v in directions(net, theta):
        assert np.linalg.norm(F @ v) < EXACT * scale, what
        # with the statistics held constant, both change what the net predicts
        assert np.linalg.norm(constant @ v) > 1e-3 * scale, what


def test_the_eps_of_a_normalization_lifts_the_weights_direction() -> None:
    net, theta, x = make(lambda c: layers.BatchNorm(c, eps=0.1), n=6)
    F = fisher.joint(net, theta, x)
    for what, v in directions(net, theta):
        slope = np.linalg.norm(F @ v) / np.linalg.norm(F.array, 2)
        assert (slope > 1e-6) == what.startswith("weights"), what


# matrices with running statistics ---------------------------------------------------------------------


def test_products_with_running_statistics_are_those_of_the_exact_matrix() -> None:
    net, theta, x = make(n=6)
    stats = net.forward(theta, x, train=True).stats
    y = np.arange(6) % 2
    expected = fisher.exact(fisher.signals(net, theta, x, stats=stats)).array
    assert error(fisher.product(net, theta, x, stats).to_dense(), expected) < EXACT
    assert error(fisher.gauss_newton(net, theta, x, y, stats).to_dense(), expected) < EXACT
    assert error(fisher.product(net, theta, x).to_dense(), expected) > FAR


def test_gauss_newton_in_training_is_the_joint_matrix() -> None:
    net, theta, x = make(n=6)
    F = fisher.gauss_newton(net, theta, x, np.arange(6) % 2, train=True)
    assert error(F.to_dense(), fisher.joint(net, theta, x).array) < EXACT


def test_the_hessian_of_a_net_with_normalizations_is_symmetric() -> None:
    net, theta, x = make(n=6)
    for train in (False, True):
        H = fisher.hessian(net, theta, x, np.arange(6) % 2, train=train).to_dense()
        assert error(H, H.T) < EXACT
        assert np.linalg.eigvalsh((H + H.T) / 2)[0] < 0  # indefinite


# precision and what is refused --------------------------------------------------------------------------


def test_single_precision() -> None:
    net, theta, x = make(lambda c: layers.BatchNorm(c), n=6)
    F = fisher.joint(net, theta.astype("f"), x.astype("f")).array
    assert F.dtype == np.float32
    assert error(F, fisher.joint(net, theta, x).array) < 10 * FLOAT32


def test_joint_stays_on_the_device() -> None:
    net, theta, x = branches(BATCH)
    v = np.random.default_rng(0).standard_normal(len(theta))

    def products(theta: np.ndarray, x: np.ndarray, v: np.ndarray) -> list[np.ndarray]:
        return [fisher.joint(net, theta, x) @ v, fisher.product(net, theta, x, train=True) @ v]

    expected = products(theta, x, v)
    with standin.installed():
        for F, right in zip(products(*map(mk.to_device, (theta, x, v))), expected, strict=True):
            assert isinstance(F, standin.ndarray)
            assert error(mk.to_host(F), right) < EXACT


def test_what_does_not_fit_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    net, theta, x = make()
    monkeypatch.setattr("minikfac.backend.available_memory", lambda xp: 1000)
    with pytest.raises(MemoryError, match=r"joint Fisher matrix \(55 x 55.*use fisher.product"):
        fisher.joint(net, theta, x)
