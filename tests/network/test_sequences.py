"""Weights shared along a sequence, targets per position, and weights of examples and positions."""

import math
from typing import Any

import numpy as np
import pytest

from minikfac import Network, fisher, layers, optim, outputs, training
from minikfac.datasets import Dataset
from oracles import FINITE_DIFFERENCE, close, derivative, error, unit_vector

N, T, D, C = 5, 3, 2, 4
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N, T, D))
Y = RNG.integers(0, C, (N, T))
W = RNG.random((N, T)) * (RNG.random((N, T)) < 0.7)  # some positions are ignored


def per_position() -> tuple[Network, Network, np.ndarray]:
    """A net at each position, as a net of sequences and as one of vectors, and their parameters."""
    parts = [layers.Dense(D, 3), layers.LayerNorm(3), layers.Tanh(), layers.Dense(3, C)]
    net = Network([*parts, layers.Flatten()], outputs.CategoricalPerPosition(T))
    return net, Network(parts, outputs.Categorical()), net.init(np.random.default_rng(1)) + 0.1


# the same weights at all positions ------------------------------------------------------------------------


def test_positions_are_examples_of_their_own() -> None:
    """Where nothing joins the positions, sums over T positions are T times the means over N T examples."""
    net, alone, theta = per_position()
    x, y = X.reshape(-1, D), Y.reshape(-1)
    loss, gradient = net.loss_and_gradient(theta, X, Y)
    assert loss == pytest.approx(T * alone.loss(theta, x, y), rel=1e-14)
    close(gradient, T * alone.gradient(theta, x, y))
    F = T * fisher.exact(fisher.signals(alone, theta, x)).to_dense()
    close(fisher.exact(fisher.signals(net, theta, X)).to_dense(), F)
    close(fisher.product(net, theta, X).to_dense(), F)
    close(fisher.gauss_newton(net, theta, X, Y).to_dense(), F)
    close(fisher.hessian(net, theta, X, Y).to_dense(), T * fisher.hessian(alone, theta, x, y).to_dense())
    kfac = fisher.kfac(fisher.signals(net, theta, X)).to_dense()
    close(kfac, T * fisher.kfac(fisher.signals(alone, theta, x)).to_dense())
    assert net.kl(theta, theta + 0.1, X) == pytest.approx(T * alone.kl(theta, theta + 0.1, x))
    close(net.predict(theta, X).reshape(-1, C), alone.predict(theta, x))


def test_positions_are_trained_like_examples_of_their_own() -> None:
    net, alone, theta = per_position()
    x, y = X.reshape(-1, D), Y.reshape(-1)
    data = Dataset(X, Y, X, Y, "sequences", n_classes=C), Dataset(x, y, x, y, "vectors", n_classes=C)
    ours = training.train(net, theta, optim.SGD(net, lr=0.1), data[0], 5, batch_size=N)
    theirs = training.train(alone, theta, optim.SGD(alone, lr=0.1 * T), data[1], 5, batch_size=N * T)
    close(ours.theta, theirs.theta)
    assert ours.records[-1]["test_error"] == pytest.approx(theirs.records[-1]["test_error"])
    assert ours.records[-1]["loss"] == pytest.approx(T * theirs.records[-1]["loss"])


def test_a_dense_layer_along_a_sequence_is_a_convolution_of_width_one() -> None:
    dense, conv = layers.Dense(D, C), layers.Conv2d(D, C, 1)
    Ws, Vs = ([RNG.standard_normal(dense.weight_shape)] for _ in range(2))
    (s, record), (s2, record2) = dense.forward(Ws, X), conv.forward(Ws, X[:, :, None])
    close(s, s2[:, :, 0])
    dy, rdy, dx = RNG.standard_normal((N, T, C)), RNG.standard_normal((N, T, C)), RNG.standard_normal(X.shape)
    wide = [array[:, :, None] for array in (dy, rdy, dx)]
    for ours, theirs in zip(dense.signals(record)[0], conv.signals(record2)[0], strict=True):
        close(ours, theirs)
    (ds, tangent), (ds2, tangent2) = dense.jvp(Ws, Vs, record, dx), conv.jvp(Ws, Vs, record2, wide[2])
    close(ds, ds2[:, :, 0])
    ours = dense.backward_jvp(Ws, Vs, record, tangent, dy, rdy)
    theirs = conv.backward_jvp(Ws, Vs, record2, tangent2, *wide[:2])
    for a, b in zip((*ours[:2], *ours[2][0]), (*theirs[:2], *theirs[2][0]), strict=True):
        close(a.reshape(b.shape), b)
    many = dense.backward(Ws, record, np.stack([dy, rdy]))
    close(many[0][1], dense.backward(Ws, record, rdy)[0])
    assert many[1][0].shape == (2, N, T, C) and dense.grids(record) == [(T, 1)]
    assert dense.example_work((T, D)) == T * (D + 1) * C


def linear(*last: layers.Layer, output: outputs.Output) -> tuple[Network, np.ndarray]:
    net = Network([layers.Dense(D, 3), layers.Dense(3, C), *last], output)
    return net, net.init(np.random.default_rng(2))


def test_expand_is_exact_for_linear_nets_with_a_loss_at_each_position() -> None:
    """[EIST23, sec. 3]: squared errors, weight sharing in the expand setting."""
    net, theta = linear(layers.Flatten(), output=outputs.Gaussian())
    signals = fisher.signals(net, theta, X)
    blocks = fisher.block_diagonal(signals).to_dense()
    assert error(fisher.kfac(signals).to_dense(), blocks) < 1e-13
    assert error(fisher.kfac(signals, reduce=True).to_dense(), blocks) > 0.3


def test_reduce_is_exact_for_linear_nets_with_a_mean_over_positions() -> None:
    """[EIST23, sec. 3]: squared errors, weight sharing in the reduce setting."""
    net, theta = linear(layers.GlobalAvgPool(), output=outputs.Gaussian())
    signals = fisher.signals(net, theta, X)
    blocks = fisher.block_diagonal(signals).to_dense()
    assert error(fisher.kfac(signals, reduce=True).to_dense(), blocks) < 1e-13
    assert error(fisher.kfac(signals).to_dense(), blocks) > 0.3


def test_layers_on_sequences_have_windows_of_one_column() -> None:
    for layer in (
        layers.AvgPool2d(3, 2, 1),
        layers.Conv2d(D, 3, 3, padding=1),
        layers.Conv2d(D, 3, (3, 1), padding=1),
    ):
        with pytest.raises(
            ValueError, match=r"expected windows one column wide, as kernel_size=\(k, 1\), got"
        ):
            layers.OnSequences(layer)
    with pytest.raises(ValueError, match="expected windows one column wide"):
        layers.OnSequences(layers.Grouped(*[layers.Conv2d(1, 1, 3)] * 2))


def test_sequences_are_no_chain_of_vectors() -> None:
    net = Network([layers.Dense(D, 3), layers.Dense(3, C)], outputs.Gaussian())
    theta = net.init(np.random.default_rng(0))
    assert fisher.signals(net, theta, X[:, 0]).dense_chain
    net = Network([*net.layers, layers.Flatten()], outputs.Gaussian())
    with pytest.raises(ValueError, match="dense"):
        fisher.block_tridiagonal(fisher.signals(net, theta, X))


# targets per position -------------------------------------------------------------------------------------


def test_sampled_targets_have_the_probabilities_of_each_position() -> None:
    output, rng = outputs.CategoricalPerPosition(2), np.random.default_rng(0)
    z = np.array([[0.0, 1.0, -1.0, 2.0, 0.0, 0.0]])
    drawn = output.transform_noise(z, output.noise(rng, 1, 20_000, 6))[:, 0]
    counts = np.stack([(drawn == k).mean(0) for k in range(3)], 1)
    np.testing.assert_allclose(counts.reshape(1, -1), output.mean(z), atol=4 * 0.5 / math.sqrt(20_000))
    assert output.sample(np.repeat(z, 3, 0), rng).shape == (3, 2)


def test_sampled_signals_approach_the_exact_matrix() -> None:
    net, _, theta = per_position()
    F = fisher.exact(fisher.signals(net, theta, X)).to_dense()
    drawn = {"targets": "sampled", "rng": np.random.default_rng(0), "weights": W}
    few = fisher.exact(fisher.signals(net, theta, X, n_samples=4000, **drawn)).to_dense()
    assert error(few, fisher.exact(fisher.signals(net, theta, X, weights=W)).to_dense()) < 0.1
    assert error(few, F) > 0.2


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (Y[:, :2], ValueError, r"expected labels of shape \(5, 3\), got \(5, 2\)"),
        (Y + 1, ValueError, r"expected labels in 0..3, got values from 1 to 4"),
        (Y.astype(float), ValueError, "expected whole-number labels of an integer dtype, got float64"),
    ],
)
def test_labels_of_positions_must_fit(y: np.ndarray, error: type[Exception], message: str) -> None:
    net, _, theta = per_position()
    with pytest.raises(error, match=message):
        net.loss(theta, X, y)


def test_positions_must_divide_the_outputs() -> None:
    with pytest.raises(ValueError, match="expected 2 x C outputs, C for each position, got 3"):
        outputs.CategoricalPerPosition(2).check(np.zeros((1, 2), int), 1, 3)
    net, _, theta = per_position()
    other = Network(net.layers, outputs.CategoricalPerPosition(5))
    with pytest.raises(ValueError, match="expected 5 x C outputs, C for each position, got 12"):
        fisher.signals(other, theta, X)
    with pytest.raises(ValueError, match="CategoricalPerPosition positions to be a positive whole number"):
        outputs.CategoricalPerPosition(0)


# weights --------------------------------------------------------------------------------------------------


def test_whole_weights_are_repetitions() -> None:
    net = Network([layers.Dense(D, 3), layers.Tanh(), layers.Dense(3, C)], outputs.Categorical())
    theta, x, y = net.init(np.random.default_rng(0)), X[:, 0], Y[:, 0]
    times = np.array([2, 0, 1, 3, 0])
    again, scale = np.repeat(np.arange(N), times), times.sum() / N
    many = x[again], y[again]
    loss, gradient = net.loss_and_gradient(theta, x, y, weights=times)
    assert (
        loss
        == pytest.approx(scale * net.loss(theta, *many), rel=1e-14)
        == net.loss(theta, x, y, weights=times)
    )
    close(gradient, scale * net.gradient(theta, *many))
    for targets in ({}, {"targets": "data"}):
        ys = [y, many[1]] if targets else [None, None]
        ours = fisher.signals(net, theta, x, ys[0], weights=times, **targets)
        theirs = fisher.signals(net, theta, many[0], ys[1], **targets)
        close(fisher.exact(ours).to_dense(), scale * fisher.exact(theirs).to_dense())
        weighted, repeated, plain = (
            fisher.kfac(each).blocks[0] for each in (ours, theirs, fisher.signals(net, theta, x))
        )
        close(weighted.A, plain.A)  # weights are in g alone
        close(weighted.G, scale * repeated.G)
    close(
        fisher.product(net, theta, x, weights=times).to_dense(),
        scale * fisher.product(net, theta, many[0]).to_dense(),
    )
    for kind in (fisher.gauss_newton, fisher.hessian):
        close(kind(net, theta, x, y, weights=times).to_dense(), scale * kind(net, theta, *many).to_dense())


def test_weights_of_examples_with_several_terms() -> None:
    """The same for each term: as weights of all terms, in every matrix and the Hessian."""
    net, _, theta = per_position()
    one = np.array([2.0, 0.0, 1.0, 0.5, 3.0])
    each = np.repeat(one[:, None], T, axis=1)
    for kind, args in ((fisher.product, (X,)), (fisher.gauss_newton, (X, Y)), (fisher.hessian, (X, Y))):
        ours, theirs = (kind(net, theta, *args, weights=weights).to_dense() for weights in (one, each))
        close(ours, theirs)
    close(net.gradient(theta, X, Y, weights=one), net.gradient(theta, X, Y, weights=each))


@pytest.mark.parametrize("output", ["bernoulli", "gaussian"])
def test_units_without_weight_are_missing(output: str) -> None:
    """A target's value there changes nothing; derivatives are those of the loss."""
    rng, make = np.random.default_rng(3), outputs.OUTPUTS[output]
    net = Network([layers.Dense(D, 3), layers.Tanh(), layers.Dense(3, C)], make())
    theta, x, y = net.init(rng), X[:, 0], rng.random((N, C))
    weights = (rng.random((N, C)) < 0.6) * 2.0
    other = np.where(weights > 0, y, 1 - y)
    loss, gradient = net.loss_and_gradient(theta, x, y, weights=weights)
    close(net.loss_and_gradient(theta, x, other, weights=weights)[1], gradient)
    assert abs(net.loss(theta, x, other) - net.loss(theta, x, y)) > 1e-3
    close(loss, (weights * make().terms(net.forward(theta, x).z, y)).sum() / N)
    v = unit_vector(rng, net.n_params)
    along = derivative(lambda at: net.loss(at, x, y, weights=weights), theta, v)
    close(gradient @ v, along, FINITE_DIFFERENCE)
    along = derivative(lambda at: net.gradient(at, x, y, weights=weights), theta, v)
    close(fisher.hessian(net, theta, x, y, weights=weights) @ v, along, FINITE_DIFFERENCE)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(4), r"expected weights of shape \(5,\) or \(5, 3\), got \(4,\)"),
        (np.ones((5, 2)), r"expected weights of shape \(5,\) or \(5, 3\), got \(5, 2\)"),
        (np.array([1, 1, -1, 1, 1]), "expected finite weights >= 0, not all 0, got values from -1 to 1"),
        (np.zeros(5), "expected finite weights >= 0, not all 0, got values from 0 to 0"),
        (np.array([1, 1, np.nan, 1, 1]), "expected finite weights >= 0, not all 0"),
        (np.array([1, 1, np.inf, 1, 1]), "expected finite weights >= 0, not all 0"),
        (np.ones(5) + 0j, "expected weights of a real dtype, got complex128"),
    ],
)
def test_weights_must_fit(weights: np.ndarray, message: str) -> None:
    net, _, theta = per_position()
    uses = [
        lambda: net.loss(theta, X, Y, weights=weights),
        lambda: net.gradient(theta, X, Y, weights=weights),
        lambda: fisher.signals(net, theta, X, weights=weights),
        lambda: fisher.product(net, theta, X, weights=weights),
        lambda: fisher.hessian(net, theta, X, Y, weights=weights),
    ]
    for use in uses:
        with pytest.raises(ValueError, match=message):
            use()
    with pytest.raises(ValueError, match=r"expected weights of shape \(5,\), got \(5, 3\)"):
        outputs.Categorical().check_weights(np.ones((5, 3)), theta, 5, 3)


# against PyTorch ------------------------------------------------------------------------------------------


def test_ignored_positions_as_frozen() -> None:
    """By torch.nn.functional.cross_entropy(z.mT, y, ignore_index=-1, reduction="sum") of PyTorch 2.13."""
    z = np.array([[1.0, -2.0, 0.5, 3.0, 0.0, 0.0], [-1.0, 4.0, 2.0, 1.0, 0.5, -0.5]])
    y, kept = np.array([[0, 2], [0, 1]]), np.array([[1.0, 1.0], [0.0, 1.0]])
    losses = outputs.CategoricalPerPosition(2).losses(z, y, kept)
    close(losses.sum(), 4.703650464099972)


@pytest.mark.oracle
def test_ignored_positions_are_those_of_pytorch(torch: Any) -> None:
    """Loss, gradient, Fisher matrix and Hessian, to 1e-10, with ``ignore_index`` and its mean."""
    net = Network(
        [layers.Dense(D, 3), layers.Tanh(), layers.Dense(3, C), layers.Flatten()],
        outputs.CategoricalPerPosition(T),
    )
    theta, kept = net.init(np.random.default_rng(1)), np.array(W > 0, float)
    weights = kept * N / kept.sum()
    x, y = torch.tensor(X), torch.tensor(np.where(kept > 0, Y, -100))
    shapes = [W.shape for W in net.unpack(theta)]

    def logits(flat: Any) -> Any:
        W1, W2 = (part.reshape(shape) for part, shape in zip(flat.split([9, 16]), shapes, strict=True))
        hidden = torch.tanh(x @ W1[:-1] + W1[-1])
        return hidden @ W2[:-1] + W2[-1]

    def loss(flat: Any) -> Any:
        return torch.nn.functional.cross_entropy(logits(flat).mT, y)

    at = torch.tensor(theta, requires_grad=True)
    value = loss(at)
    value.backward()
    ours = net.loss_and_gradient(theta, X, Y, weights=weights)
    close(ours[0], value.item(), 1e-10)
    close(ours[1], at.grad.numpy(), 1e-10)
    H = torch.autograd.functional.hessian(loss, at).numpy()
    close(fisher.hessian(net, theta, X, Y, weights=weights).to_dense(), H, 1e-10)
    J = torch.autograd.functional.jacobian(logits, at)[torch.tensor(kept > 0)].numpy()  # (kept, C, P)
    p = torch.softmax(logits(at), -1)[torch.tensor(kept > 0)].detach().numpy()
    F = np.einsum("ncp,nc,ncq->pq", J, p, J) - np.einsum("ncp,nc,nd,ndq->pq", J, p, p, J)
    close(fisher.exact(fisher.signals(net, theta, X, weights=weights)).to_dense(), F / kept.sum(), 1e-10)
    close(fisher.product(net, theta, X, weights=weights).to_dense(), F / kept.sum(), 1e-10)
