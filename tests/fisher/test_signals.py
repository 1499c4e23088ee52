"""The signals (abar, g): what they hold, and how they come in chunks."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minikfac import Network, fisher
from oracles import EXACT, FLOAT32, error
from oracles.fisher import Case, forward, gradient_rows, make_case, mean, random_signals, signals_of, targets

OUTPUTS = ["categorical", "bernoulli", "gaussian"]


@pytest.fixture(params=OUTPUTS)
def case(request: pytest.FixtureRequest) -> Case:
    return make_case((3, 5, 4), "tanh", request.param)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_shapes(case: Case) -> None:
    for options, k in (({}, 4), ({"targets": "sampled", "n_samples": 6, "rng": rng()}, 6)):
        signals = case.signals(**options)
        assert (signals.n, signals.n_chunks, len(signals)) == (7, 1, 2)
        assert (signals.names, signals.shapes) == (("dense0", "dense1"), ((4, 5), (6, 4)))
        assert signals.slices == (slice(0, 20), slice(20, 44))
        assert [signals[layer].abar.shape for layer in range(2)] == [(7, 1, 4), (7, 1, 6)]
        assert [signals[layer].g.shape for layer in range(2)] == [(k, 7, 1, 5), (k, 7, 1, 4)]
        assert [signals[layer].weight_shape for layer in range(2)] == [(4, 5), (6, 4)]
        assert [signals[layer].gradients().shape for layer in range(2)] == [(k, 7, 20), (k, 7, 24)]


def test_abar_is_what_went_into_the_weights(case: Case) -> None:
    for layer in range(2):
        expected = [forward(case, x)[0][layer] for x in case.x]
        assert error(case.signals()[layer].abar[:, 0], np.array(expected)) < EXACT


def test_labels_give_the_derivative_of_their_loss(case: Case) -> None:
    for layer in range(2):
        expected = [signals_of(case, x, y)[layer][1] for x, y in zip(case.x, case.y, strict=True)]
        assert error(case.empirical()[layer].g[0, :, 0], np.array(expected)) < EXACT


def test_per_example_gradients_add_up_to_the_gradient(case: Case) -> None:
    signals = case.empirical()
    total = np.concatenate([signals[layer].gradients().sum((0, 1)) for layer in range(2)])
    assert error(total / signals.n, case.net.gradient(case.theta, case.x, case.y)) < EXACT


@pytest.mark.parametrize("shape", [(1, 3, 2), (4, 3, 2)])
def test_a_gradient_is_the_sum_over_locations_of_outer_products(shape: tuple[int, int, int]) -> None:
    layer = random_signals(shapes=[shape])[0]
    assert error(layer.gradients().reshape(-1, 6), gradient_rows(layer)) < EXACT


def test_model_targets_carry_the_roots_of_their_probabilities() -> None:
    case = make_case(output="categorical")
    for layer in range(2):
        for n, x in enumerate(case.x):
            for k, (p, y) in enumerate(targets("categorical", forward(case, x)[1][-1])):
                expected = p**0.5 * signals_of(case, x, y)[layer][1]
                assert error(case.signals()[layer].g[k, n, 0], expected) < EXACT


# E[g] = 0 under the model, not under the labels ----------------------------------------------------------


def test_derivatives_average_to_zero_over_the_models_targets() -> None:
    case = make_case(output="categorical")
    signals = case.signals()
    p = np.array([mean("categorical", forward(case, x)[1][-1]) for x in case.x])  # (N, K)
    for layer in range(2):
        g = signals[layer].g[:, :, 0]
        assert abs(np.einsum("nk,kno->no", p**0.5, g)).max() < EXACT
        assert abs(g.sum(0)).max() > 0.05  # without the second root there is a remainder


@pytest.mark.parametrize("output", ["categorical", "bernoulli"])
def test_every_example_alone_averages_to_zero_over_its_targets(output: str) -> None:
    case = make_case(output=output)
    for x in case.x:
        z = forward(case, x)[1][-1]
        for layer in range(2):
            per_target = []
            for p, y in targets(output, z):
                label = np.array([y]) if output == "categorical" else 1.0 * y[None]
                signals = fisher.signals(case.net, case.theta, x[None], label, targets="data")
                per_target.append(p * signals[layer].g[0, 0, 0])
            assert abs(sum(per_target)).max() < EXACT
            assert abs(np.array(per_target)).max() > 0.01


def test_derivatives_do_not_average_to_zero_over_labels(case: Case) -> None:
    for layer in range(2):
        g = case.empirical()[layer].g[0, :, 0]
        assert np.linalg.norm(g.mean(0)) > 0.05 * np.linalg.norm(g, axis=1).mean()


def test_sampled_derivatives_average_to_zero_within_their_error(case: Case) -> None:
    n_samples = 4000
    signals = case.signals(targets="sampled", n_samples=n_samples, rng=rng(1))
    for layer in range(2):
        g = signals[layer].g[:, :, 0] * n_samples**0.5  # without their weight
        assert (abs(g.mean(0)) < 5 * g.std(0) / n_samples**0.5).all()


# chunks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"targets": "sampled", "n_samples": 3}, {"targets": "data"}])
@pytest.mark.parametrize("batch_size", [1, 3, 6])
def test_chunks_are_the_rows_of_the_whole(case: Case, options: dict[str, Any], batch_size: int) -> None:
    def make(batch_size: int | None) -> fisher.Signals:
        extra = {"rng": rng(4)} if options.get("targets") == "sampled" else {}
        y = case.y if options.get("targets") == "data" else None
        return case.signals(y=y, batch_size=batch_size, **options, **extra)

    whole, chunked = make(None), make(batch_size)
    chunks = list(chunked)
    assert (chunked.n, chunked.n_chunks) == (7, len(chunks)) == (7, -(-7 // batch_size))
    for layer in range(2):
        assert error(np.concatenate([chunk[layer].abar for chunk in chunks]), whole[layer].abar) < EXACT
        assert error(np.concatenate([chunk[layer].g for chunk in chunks], axis=1), whole[layer].g) < EXACT


def test_chunks_can_be_read_again_with_the_same_targets(case: Case) -> None:
    signals = case.signals(targets="sampled", rng=rng(), batch_size=3)
    first, second = list(signals), list(signals)
    for one, other in zip(itertools.chain(*first), itertools.chain(*second), strict=True):
        assert (one.abar == other.abar).all() and (one.g == other.g).all()


def test_seeds_decide_the_sampled_targets(case: Case) -> None:
    def g(seed: int) -> np.ndarray:
        return case.signals(targets="sampled", n_samples=3, rng=rng(seed))[1].g

    assert (g(0) == g(0)).all()
    assert (g(0) != g(1)).any()


@pytest.mark.parametrize("batch_size", [7, 8, 1000])
def test_a_batch_that_fits_is_one_chunk(case: Case, batch_size: int) -> None:
    signals = case.signals(batch_size=batch_size)
    assert signals.n_chunks == 1
    assert signals["dense1"].abar.shape == (7, 1, 6)


def test_a_layer_in_several_chunks_is_refused_with_its_size() -> None:
    case = make_case((2, 3), n=4096)
    signals = case.signals(batch_size=1024)
    size = 8 * 4096 * (3 + 3 * 3) / 2**30
    with pytest.raises(
        ValueError, match=f"expected one chunk, got 4: .* of dense0 would take {size:.2f} GiB"
    ):
        signals[0]


@pytest.mark.parametrize("make", [fisher.exact, fisher.block_diagonal, fisher.kfac, fisher.diagonal])
def test_chunks_are_made_once_however_many_layers_there_are(
    make: Callable[[fisher.Signals], fisher.FisherMatrix], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case((2, 3, 3, 3, 3, 3, 4))
    signals, forward, passes = case.signals(batch_size=2), Network.forward, []

    def counted(*args: Any) -> Any:
        passes.append(args)
        return forward(*args)

    monkeypatch.setattr(Network, "forward", counted)
    make(signals)
    assert signals.n_chunks <= len(passes) <= signals.n_chunks + 1  # one to see what arrays there are


def test_parameters_and_inputs_are_left_as_they_were() -> None:
    case = make_case()
    before = case.theta.copy(), case.x.copy()
    fisher.exact(case.signals(batch_size=2))
    assert (case.theta == before[0]).all() and (case.x == before[1]).all()


@pytest.mark.parametrize("options", [{}, {"targets": "sampled", "n_samples": 2}])
def test_float32_parameters_give_float32_signals(case: Case, options: dict[str, Any]) -> None:
    def make(theta: np.ndarray) -> fisher.LayerSignals:
        extra = {"rng": rng()} if options else {}
        return fisher.signals(case.net, theta, case.x, **options, **extra)[0]

    single, double = make(case.theta.astype(np.float32)), make(case.theta)
    assert single.abar.dtype == single.g.dtype == np.float32
    assert error(single.g, double.g) < FLOAT32


# layers --------------------------------------------------------------------------------------------------


def test_layers_go_by_index_or_name(case: Case) -> None:
    signals = case.signals()
    for layer in ("dense1", 1, -1):
        assert signals[layer] is next(iter(signals))[1]


def test_selected_layers_that_are_neighbours_are_a_chain() -> None:
    signals = make_case((2, 3, 3, 4)).signals(batch_size=3)
    for chosen, chain in (
        ([0, 1], True),
        ([1, "dense2"], True),
        ([0, 2], False),
        ([1, 0], False),
        ([2], True),
    ):
        part = signals.select(chosen)
        numbers = [signals.index(layer) for layer in chosen]
        assert part.names == tuple(signals.names[number] for number in numbers)
        assert part.shapes == tuple(signals.shapes[number] for number in numbers)
        assert (part.n, part.n_chunks, part.dense_chain) == (7, 3, chain)
        for chunk, whole in zip(part, signals, strict=True):
            assert [layer.weight_shape for layer in chunk] == [whole[n].weight_shape for n in numbers]


# errors --------------------------------------------------------------------------------------------------

CASE = make_case()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": "labels"}, "expected targets 'model', 'sampled' or 'data', got 'labels'"),
        ({"targets": "data"}, "expected y if and only if targets='data', got targets='data'"),
        ({"y": CASE.y}, "expected y if and only if targets='data', got targets='model'"),
        (
            {"targets": "sampled"},
            r"expected rng = numpy\.random\.default_rng\(seed\) for sampled targets, got None",
        ),
        ({"rng": rng()}, "expected rng only with .* got targets='model'"),
        ({"n_samples": 2}, "expected n_samples=1 unless targets='sampled', got 2"),
        ({"targets": "sampled", "n_samples": 0, "rng": rng()}, "expected n_samples to be a .* >= 1, got 0"),
        ({"targets": "sampled", "n_samples": 1.5, "rng": rng()}, "expected n_samples to be .* got 1.5"),
        ({"targets": "sampled", "n_samples": True, "rng": rng()}, "expected n_samples to be .* got True"),
        ({"batch_size": True}, "expected batch_size to be a whole number >= 1, got True"),
        ({"batch_size": 0}, "expected batch_size to be a whole number >= 1, got 0"),
        ({"batch_size": 2.5}, "expected batch_size to be a whole number >= 1, got 2.5"),
        ({"batch_size": "2"}, "expected batch_size to be a whole number >= 1, got '2'"),
        ({"targets": "data", "y": CASE.y[:3]}, r"expected labels of shape \(7,\), got \(3,\)"),
        ({"targets": "data", "y": CASE.y + 7}, r"expected labels in 0\.\.2"),
    ],
)
def test_arguments_that_do_not_go_together(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CASE.signals(**options)


def test_a_seed_is_no_generator() -> None:
    with pytest.raises(TypeError, match=r"expected rng = numpy\.random\.default_rng\(seed\), got 0"):
        CASE.signals(targets="sampled", rng=0)


def test_bad_inputs_are_refused() -> None:
    for x in (CASE.x[:0], CASE.x[0], CASE.x.astype(int), CASE.x[:, :2], CASE.x * np.nan):
        with pytest.raises(ValueError, match="expected"):
            fisher.signals(CASE.net, CASE.theta, x)
    with pytest.raises(ValueError, match="expected theta"):
        fisher.signals(CASE.net, CASE.theta[1:], CASE.x)


@pytest.mark.parametrize(
    ("ask", "kind", "message"),
    [
        (lambda s: s["dense7"], KeyError, "expected one of the layers dense0, dense1, got 'dense7'"),
        (lambda s: s[2], IndexError, "expected a layer from 0 to 1, got 2"),
        (lambda s: s[-3], IndexError, "expected a layer from 0 to 1, got -3"),
        (lambda s: s.select([]), ValueError, "expected at least one layer, got none"),
        (lambda s: s.select([0, 5]), IndexError, "expected a layer from 0 to 1, got 5"),
    ],
)
def test_layers_that_are_not_there(
    ask: Callable[[fisher.Signals], Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        ask(CASE.signals())


def layer_of(abar: tuple[int, ...], g: tuple[int, ...]) -> fisher.LayerSignals:
    return fisher.LayerSignals(np.ones(abar), np.ones(g))


@pytest.mark.parametrize(
    ("layers", "names", "message"),
    [
        ([], None, r"expected at least one LayerSignals, got \[\]"),
        ([1.0], None, r"expected at least one LayerSignals, got \[1\.0\]"),
        ([layer_of((5, 1, 2), (3, 5, 1, 2))], ["a", "b"], "expected 1 names, one per layer, got 2"),
        ([layer_of((5, 2), (3, 5, 1, 2))], ["a"], r"for a, got \(5, 2\) and \(3, 5, 1, 2\)"),
        ([layer_of((5, 1, 2), (5, 1, 2))], None, r"expected abar .* for layer0, got .* and \(5, 1, 2\)"),
        ([layer_of((5, 1, 2), (3, 4, 1, 2))], None, r"expected abar \(5, 1, I\) and g \(3, 5, 1, O\)"),
        ([layer_of((5, 4, 2), (3, 5, 1, 2))], None, r"expected abar \(5, 4, I\) and g \(3, 5, 4, O\)"),
        (
            [layer_of((5, 1, 2), (3, 5, 1, 2)), layer_of((5, 1, 2), (2, 5, 1, 2))],
            None,
            r"expected abar \(5, 1, I\) and g \(3, 5, 1, O\) for layer1, got .* and \(2, 5, 1, 2\)",
        ),
        ([layer_of((5, 4, 3, 2), (3, 5, 4, 2))], None, r"expected abar \(5, 4, 2, C\) .* got \(5, 4, 3, 2\)"),
        ([layer_of((5, 4, 2, 6), (3, 5, 4, 7))], None, r"expected abar \(5, 4, 2, C\) .* and \(3, 5, 4, 7\)"),
    ],
)
def test_arrays_that_do_not_belong_together(layers: list[Any], names: list[str] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fisher.Signals.from_layers(layers, names)
