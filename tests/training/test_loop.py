"""The training loop: order by position, measurements, when it stops, and what it refuses."""

import itertools
import math
import re
import sys
import types
from typing import Any

import numpy as np
import pytest

import minikfac as mk
from minikfac import datasets, optim
from minikfac.datasets import Dataset
from minikfac.parallel import blas_threads
from minikfac.training import PerStep, evaluation, progress
from minikfac.training import loop as training
from minikfac.training.batches import ExponentialBatches, batches
from minikfac.training.evaluation import evaluate
from oracles import EXACT, error, loop_mean

N, TEST = 50, 20


def labelled(output: str = "categorical") -> tuple[mk.Network, np.ndarray, Dataset]:
    """Two of three classes split by a plane each; or targets of another kind."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N + TEST, 4))
    y = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0.5)
    if output != "categorical":
        y = np.eye(3)[y]
    net = mk.mlp([4, 6, 3], "tanh", output)
    data = Dataset(x[:N], y[:N], x[N:], y[N:], "planes")
    return net, net.init(np.random.default_rng(1)), data


def train(steps: int = 12, **options: Any) -> training.History:
    net, theta, data = labelled()
    opt = optim.SGD(net, 0.3, 0.9)
    return training.train(
        net, theta, opt, data, **{"steps": steps, "batch_size": 8, "progress": False} | options
    )


def untimed(history: training.History) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history.records]


class Recorder:
    """An optimizer that notes what it is given and shifts theta by one."""

    def __init__(self, losses: tuple[float, ...] = ()) -> None:
        self.batches: list[np.ndarray] = []
        self.draws: list[float] = []
        self.losses = losses

    def init(self, theta: np.ndarray) -> dict[str, Any]:
        return {"steps": 0}

    def step(
        self, theta: np.ndarray, state: dict[str, Any], batch: tuple[np.ndarray, np.ndarray], rng: Any
    ) -> tuple[np.ndarray, dict[str, Any], dict[str, float]]:
        self.batches.append(batch[0])
        self.draws.append(float(rng.random()))
        at = state["steps"]
        return theta + 1, {"steps": at + 1}, {"loss": self.losses[at] if at < len(self.losses) else 0.0}


def record(steps: int, seed: int = 0, batch_size: int = 8, **options: Any) -> Recorder:
    net, theta, data = labelled()
    opt = Recorder()
    training.train(net, theta, opt, data, steps, batch_size, seed, progress=False, **options)
    return opt


# order ----------------------------------------------------------------------------------------------------


def test_two_runs_are_the_same_to_the_bit() -> None:
    first, second = train(), train()
    assert np.array_equal(first.theta, second.theta)
    assert untimed(first) == untimed(second)
    assert not np.array_equal(first.theta, train(seed=1).theta)


@pytest.mark.parametrize("every", [1, 5, 100])
def test_measuring_more_or_less_changes_nothing(every: int) -> None:
    assert np.array_equal(train(measure_every=every).theta, train().theta)


def test_a_run_is_the_beginning_of_a_longer_one() -> None:
    short, long = record(9), record(20)  # six steps an epoch
    assert all(np.array_equal(a, b) for a, b in zip(short.batches, long.batches, strict=False))
    assert short.draws == long.draws[:9]
    assert len(set(long.draws)) == 20


def test_an_epoch_visits_every_example_at_most_once() -> None:
    drawn = np.array(list(itertools.islice(batches(N, 8, 0), 18))).reshape(3, 48)
    assert all(len(set(epoch)) == 48 for epoch in drawn)
    assert set(drawn.ravel()) == set(range(N))
    assert not np.array_equal(drawn[0], drawn[1])


def test_an_epoch_that_batches_divide_leaves_nothing_out() -> None:
    epochs = np.array(list(itertools.islice(batches(N, 10, 0), 10))).reshape(2, N)
    assert all(sorted(epoch) == list(range(N)) for epoch in epochs)
    whole = list(itertools.islice(batches(N, N, 0), 2))
    assert not np.array_equal(*whole)
    assert np.array_equal(whole[0], epochs[0])


def test_targets_of_a_step_are_drawn_by_its_number() -> None:
    assert record(5, seed=3).draws == [np.random.default_rng([3, k]).random() for k in range(5)]


def test_a_batch_may_be_the_whole_set() -> None:
    (first, second) = record(2, batch_size=N).batches
    assert (
        sorted(map(tuple, first)) == sorted(map(tuple, second)) == sorted(map(tuple, labelled()[2].x_train))
    )


def test_the_targets_belong_to_the_inputs() -> None:
    net, theta, data = labelled()
    of = {tuple(x): y for x, y in zip(data.x_train, data.y_train, strict=True)}

    class Check(Recorder):
        def step(self, theta: Any, state: Any, batch: Any, rng: Any) -> Any:
            assert [of[tuple(x)] for x in batch[0]] == list(batch[1])
            return super().step(theta, state, batch, rng)

    opt = Check()
    training.train(net, theta, opt, data, 7, 8, progress=False)
    assert len(opt.batches) == 7


@pytest.mark.parametrize("sizes", [8, N, lambda step: 1 + 7 * step % 23, ExponentialBatches(5, 3.0, 40)])
def test_the_batches_of_any_step_follow_from_its_number(sizes: Any) -> None:
    whole = list(itertools.islice(batches(N, sizes, 3), 30))
    for start in (0, 1, 6, 7, 17):
        later = itertools.islice(batches(N, sizes, 3, start), 30 - start)
        assert all(np.array_equal(a, b) for a, b in zip(whole[start:], later, strict=True))


def test_batches_grow_by_their_schedule() -> None:
    opt = record(12, batch_size=ExponentialBatches(4, 3.0, 30))
    expected = [min(round(4 * math.exp(k / 3)), 30) for k in range(12)]
    assert [len(batch) for batch in opt.batches] == expected
    assert expected[0] == 4 and expected[-1] == 30
    history = train(steps=12, measure_every=1, batch_size=ExponentialBatches(4, 3.0, 30))
    assert list(history["examples"]) == [0, *itertools.accumulate(expected)]


def test_the_papers_batches_grow_for_500_steps() -> None:
    for n, scale in ((60_000, 121.9), (20_000, 166.6), (103_500, 107.6)):  # MNIST, CURVES, FACES
        sizes = ExponentialBatches.reaching(n)
        assert sizes.scale == pytest.approx(scale, abs=0.05)
        assert [sizes(0), sizes(499), sizes(10**6)] == [1000, n, n]
        assert sizes(498) < n


def test_epochs_of_growing_batches_repeat_no_example() -> None:
    drawn = record(9, batch_size=lambda step: 10 + step).batches
    first = np.concatenate(drawn[:4])  # 10 + 11 + 12 + 13 of 50; 14 more do not fit
    assert len({tuple(x) for x in first}) == len(first) == 46


# records --------------------------------------------------------------------------------------------------


def test_start_and_end_are_always_measured() -> None:
    history = train(steps=7, measure_every=3)
    assert [r["step"] for r in history.records] == [0, 3, 6, 7]
    assert list(history["examples"]) == [0, 24, 48, 56]
    assert [r["step"] for r in train(steps=30).records] == list(range(0, 31, 3))
    assert [r["step"] for r in train(steps=0).records] == [0]


def test_records_hold_losses_of_the_whole_parts() -> None:
    net, _, data = labelled()
    history = train()
    z = net.forward(history.theta, data.x_test).z
    last = history.records[-1]
    assert last["loss"] == pytest.approx(net.loss(history.theta, data.x_train, data.y_train), rel=EXACT)
    assert last["test_loss"] == pytest.approx(net.loss(history.theta, data.x_test, data.y_test), rel=EXACT)
    assert last["test_error"] == np.mean(z.argmax(1) != data.y_test)
    z = net.forward(history.theta, data.x_train).z
    assert last["train_error"] == np.mean(z.argmax(1) != data.y_train)


@pytest.mark.parametrize("output", ["bernoulli", "gaussian"])
def test_targets_without_labels_have_a_squared_error(output: str) -> None:
    net, theta, data = labelled(output)
    values = evaluate(net, theta, data)
    assert set(values) == {"loss", "squared_error", "test_loss", "test_squared_error"}
    for name, x, y in (("", data.x_train, data.y_train), ("test_", data.x_test, data.y_test)):
        means = [loop_mean(output, z) for z in net.forward(theta, x).z]
        expected = np.mean(
            [sum((m - t) ** 2 for m, t in zip(*pair, strict=True)) for pair in zip(means, y, strict=True)]
        )
        assert values[f"{name}squared_error"] == pytest.approx(expected, rel=EXACT)


@pytest.mark.parametrize("output", ["categorical", "gaussian"])
def test_large_sets_are_measured_in_parts(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, theta, data = labelled(output)
    whole, sizes = evaluate(net, theta, data), []
    inner = net.natural_parameters

    def noted(theta: Any, x: Any, stats: Any) -> Any:
        sizes.append(len(x))
        return inner(theta, x, stats)

    monkeypatch.setattr(evaluation, "EVALUATED_AT_ONCE", 7)
    monkeypatch.setattr(net, "natural_parameters", noted)
    assert evaluate(net, theta, data) == pytest.approx(whole, rel=EXACT)
    assert sizes == [7] * 7 + [1] + [7, 7, 6]


def test_records_hold_what_the_last_step_told() -> None:
    class Telling(Recorder):
        def step(self, theta: Any, state: Any, batch: Any, rng: Any) -> Any:
            stepped = super().step(theta, state, batch, rng)
            return *stepped[:2], {"loss": 0.25, "lam": 10.0 * len(self.batches)}

    net, theta, data = labelled()
    history = training.train(net, theta, Telling(), data, 4, 8, measure_every=2, progress=False)
    assert [row.get("lam") for row in history.records] == [None, 20, 40]
    assert list(history["batch_loss"][1:]) == [0.25, 0.25]
    assert history["loss"][-1] == evaluate(net, history.theta, data)["loss"] != 0.25


def test_the_average_is_measured_beside_the_iterate() -> None:
    net, _, data = labelled()
    history = train(averaging=76, measure_every=4)
    expected = evaluate(net, history.average, data)
    assert {key: history.records[-1][f"{key}_average"] for key in expected} == expected
    assert expected["loss"] != history.records[-1]["loss"]
    assert history["loss_average"][0] == history["loss"][0]
    assert train().average is None
    assert not any("average" in key for key in train().records[-1])


def growing(step: int) -> int:
    return min(8 + 4 * step, N)


@pytest.mark.parametrize("sizes", [8, growing])
@pytest.mark.parametrize("averaging", [20, 76.0, math.inf, PerStep(0.6), PerStep(0.99)])
def test_the_average_is_that_of_a_plain_loop(averaging: Any, sizes: Any) -> None:
    iterates: list[np.ndarray] = []
    history = train(
        batch_size=sizes, averaging=averaging, measure_every=1,
        track=lambda step, theta: iterates.append(theta) or {},
    )  # fmt: skip
    expected = iterates[0]  # before any step
    for k, theta in enumerate(iterates[1:], 1):
        m = sizes(k - 1) if callable(sizes) else sizes
        retained = averaging.weight if isinstance(averaging, PerStep) else math.exp(-m / averaging)
        xi = min(1 - 1 / k, retained)
        expected = xi * expected + (1 - xi) * theta
    assert len(iterates) == 13
    assert error(history.average, expected) < EXACT
    assert np.array_equal(history.theta, train(batch_size=sizes).theta)  # no step depends on it
    if averaging in (math.inf, PerStep(0.99)):  # a flat mean, all along or for 100 steps
        assert error(history.average, np.mean(iterates[1:], axis=0)) < EXACT
    else:
        assert error(history.average, np.mean(iterates[1:], axis=0)) > 1e-3


def test_averages_by_step_and_by_example_agree() -> None:
    by_step, by_example = (
        train(averaging=averaging).average for averaging in (PerStep(0.8), -8 / math.log(0.8))
    )
    assert error(by_step, by_example) < EXACT


@pytest.mark.parametrize("averaging", [0.99, 0, -5, math.nan, "long"])
def test_averages_over_less_than_an_example_are_refused(averaging: Any) -> None:
    with pytest.raises(ValueError, match=rf"averaging over at least 1 example, .* got {averaging!r}"):
        train(averaging=averaging)


@pytest.mark.parametrize("weight", [0, 1, 1.5, math.nan])
def test_weights_of_an_average_are_checked(weight: float) -> None:
    with pytest.raises(ValueError, match=rf"a weight of the past in \(0, 1\), got {weight}"):
        PerStep(weight)


def test_statistics_of_batch_normalization_are_those_of_the_state() -> None:
    net = mk.Network(
        [mk.layers.Dense(4, 5), mk.layers.BatchNorm(5), mk.layers.Dense(5, 3)], mk.outputs.Categorical()
    )
    _, _, data = labelled()
    theta = net.init(np.random.default_rng(0))
    history = training.train(net, theta, optim.SGD(net, 0.1), data, 6, 10, progress=False)
    stats = history.state["stats"]
    expected = net.loss(history.theta, data.x_test, data.y_test, stats)
    assert history.records[-1]["test_loss"] == pytest.approx(expected, rel=EXACT)
    assert abs(expected - net.loss(history.theta, data.x_test, data.y_test, net.init_stats())) > 1e-3


def test_the_clock_stands_still_while_the_loop_measures() -> None:
    now = [0.0]

    class Slow(Recorder):
        def step(self, theta: Any, state: Any, batch: Any, rng: Any) -> Any:
            now[0] += 2.0
            return super().step(theta, state, batch, rng)

    def track(step: int, theta: Any) -> dict[str, Any]:
        now[0] += 100.0
        return {}

    net, theta, data = labelled()
    run = {"track": track, "clock": lambda: now[0], "progress": False}
    history = training.train(net, theta, Slow(), data, 3, 8, 0, 1, **run)
    assert list(history["seconds"]) == [0, 2, 4, 6]


def test_each_record_is_shown_when_it_is_made() -> None:
    seen: list[Any] = []
    history = train(steps=4, measure_every=2, on_record=seen.append)
    assert seen == history.records


def test_training_learns() -> None:
    history = train(steps=100)
    assert history["loss"][-1] < 0.3 * history["loss"][0]
    assert history["test_error"][-1] < history["test_error"][0]


def test_theta_is_not_changed_and_the_last_is_returned() -> None:
    net, theta, data = labelled()
    before = theta.copy()
    history = training.train(net, theta, Recorder(), data, 3, 8, progress=False)
    assert np.array_equal(theta, before)
    assert error(history.theta, theta + 3) < EXACT
    assert history.state == {"steps": 3}


def test_track_adds_to_the_records() -> None:
    history = train(
        steps=4, measure_every=2, track=lambda step, theta: {"norm": float(theta @ theta), "twice": 2 * step}
    )
    assert list(history["twice"]) == [0, 4, 8]
    assert history["norm"][-1] == history.theta @ history.theta


def test_a_column_is_nan_where_a_record_lacks_it() -> None:
    history = train(steps=4, measure_every=2, track=lambda step, theta: {"late": 1.0} if step > 2 else {})
    assert [math.isnan(value) for value in history["late"]] == [True, True, False]
    with pytest.raises(KeyError, match=r"expected a column among step, examples, seconds, loss, .* got 'acc"):
        history["accuracy"]


# when it stops --------------------------------------------------------------------------------------------


def test_a_run_stops_at_the_first_measurement_on_target() -> None:
    whole = train(steps=60, measure_every=5)
    level = whole["loss"][4]
    assert min(whole["loss"][:4]) > level
    history = train(steps=60, measure_every=5, target={"loss": level})
    assert untimed(history) == untimed(whole)[:5]
    both = train(steps=60, measure_every=5, target={"loss": level, "test_error": whole["test_error"].min()})
    first = np.flatnonzero((whole["loss"] <= level) & (whole["test_error"] <= whole["test_error"].min()))[0]
    assert both["step"][-1] == whole["step"][first]
    assert train(steps=10, target={"loss": -1.0})["step"][-1] == 10


def test_all_targets_are_to_be_reached() -> None:
    easy, never = {"loss": 1e9}, {"test_loss": -1.0}
    assert train(steps=10, target=easy)["step"][-1] == 0
    for target in (easy | never, never | easy):
        assert train(steps=10, target=target)["step"][-1] == 10


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"steps": 7.5},
            ValueError,
            r"a whole number >= 0, got 7\.5; round it, for example round\(epochs",
        ),
        ({"steps": float("nan")}, ValueError, "expected steps to be a whole number >= 0, got nan"),
        ({"steps": True}, ValueError, "expected steps to be a whole number >= 0, got True"),
        ({"seed": None}, ValueError, "expected seed to be a whole number >= 0, got None"),
        ({"seed": -1}, ValueError, "expected seed to be a whole number >= 0, got -1"),
        (
            {"batch_size": 51},
            ValueError,
            "expected batch_size from 1 to 50, the size .*, got 51",
        ),
        ({"max_seconds": "1"}, ValueError, "expected max_seconds > 0, got '1'"),
        (
            {"target": {"loss": float("nan")}},
            ValueError,
            "a finite number as the target of loss, got nan",
        ),
        ({"target": ("loss", 1)}, TypeError, "expected target as {'loss': 0.1}, got"),
        ({"track": 5}, TypeError, "expected track to be a function or None, got 5"),
        ({"on_record": "x"}, TypeError, "expected on_record to be a function or None, got 'x'"),
        (
            {"progress": None},
            TypeError,
            "progress to be True, False or the title of the bar, got None",
        ),
        ({"averaging": True}, ValueError, "expected averaging over at least 1 example, .* got True"),
    ],
)
def test_wrong_settings_are_named_before_anything_is_done(settings: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        train(**settings)


def test_parts_that_do_not_belong_together_are_refused() -> None:
    net, theta, data = labelled()
    opt = optim.SGD(net, 0.1)
    with pytest.raises(TypeError, match=r"dataset = datasets\.Dataset\(.*\), got tuple without x_train"):
        training.train(net, theta, opt, (data.x_train, data.y_train), 1, 8)  # type: ignore[arg-type]
    other = mk.mlp([4, 6, 3], "relu")
    with pytest.raises(ValueError, match=r"an optimizer for the net to be trained, Network\(.*Tanh"):
        training.train(net, theta, optim.SGD(other, 0.1), data, 1, 8)
    same = mk.mlp([4, 6, 3], "tanh")
    assert len(training.train(net, theta, optim.SGD(same, 0.1), data, 1, 8, progress=False).records) == 2
    for odd in (theta[:-1], theta.astype(np.float16), theta[None]):
        with pytest.raises(ValueError, match="expected theta"):
            training.train(net, odd, opt, data, 1, 8, progress=False)
    with pytest.raises(ValueError, match="expected finite theta"):
        training.train(net, np.nan * theta, opt, data, 1, 8, progress=False)


def test_a_target_must_be_a_column() -> None:
    with pytest.raises(ValueError, match=r"expected targets among step, .* got 'accuracy'"):
        train(target={"accuracy": 0.9})


def test_a_run_stops_when_its_seconds_are_over() -> None:
    now = itertools.count(0.0, 0.5)  # half a second from one look at the clock to the next
    history = train(steps=100, measure_every=3, max_seconds=2.0, clock=lambda: next(now))
    assert list(history["step"]) == [0, 3, 4]
    assert history["seconds"][-1] == 2.0
    with pytest.raises(ValueError, match="expected max_seconds > 0, got 0"):
        train(max_seconds=0)


# errors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [0, -3, N + 1])
def test_a_batch_must_fit_the_training_set(batch_size: int) -> None:
    with pytest.raises(ValueError, match=f"batch_size from 1 to {N}, .* got {batch_size}"):
        train(batch_size=batch_size)


def test_batches_of_a_schedule_must_fit_too() -> None:
    with pytest.raises(ValueError, match=f"batch_size from 1 to {N}, .* got 60 at step 2"):
        train(batch_size=lambda step: 20 * (step + 1))
    with pytest.raises(ValueError, match=r"got 2\.5 at step 0"):
        train(batch_size=lambda step: 2.5)
    with pytest.raises(ValueError, match="expected first <= most, got 5 and 4"):
        ExponentialBatches(5, 1, 4)
    with pytest.raises(ValueError, match="expected 1 <= first < most and at >= 2, got 1000, 900 and 500"):
        ExponentialBatches.reaching(900)


def test_numbers_of_steps_are_checked() -> None:
    for steps in (-1, 2.5, math.nan):
        with pytest.raises(ValueError, match=f"expected steps to be a whole number >= 0, got {steps}"):
            train(steps=steps)
    with pytest.raises(ValueError, match=r"expected measure_every to be a whole number >= 1, got 2\.5"):
        train(measure_every=2.5)
    with pytest.raises(ValueError, match="expected measure_every to be a whole number >= 1, got 0"):
        train(measure_every=0)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run(loss: float) -> None:
    net, theta, data = labelled()
    opt = Recorder((0.5, loss))
    with pytest.raises(FloatingPointError, match=f"got {loss} in step 1; use a smaller step size"):
        training.train(net, theta, opt, data, 10, 8, progress=False)
    assert len(opt.batches) == 2


def test_a_run_that_ends_in_nan_raises_too() -> None:
    net, theta, data = labelled()

    class Diverge(Recorder):
        def step(self, theta: Any, state: Any, batch: Any, rng: Any) -> Any:
            return theta * math.nan, state, {"loss": 0.5}

    with pytest.raises(FloatingPointError, match="got nan in step 1"):
        training.train(net, theta, Diverge(), data, 1, 8, progress=False)


def test_parameters_that_are_not_finite_are_named() -> None:
    class Breaks(Recorder):
        def step(self, theta: Any, state: Any, batch: Any, rng: Any) -> Any:
            if not np.isfinite(theta).all():
                raise ValueError("A of dense0 is not positive definite")
            return theta * math.inf, state, {"loss": 0.5}

    net, theta, data = labelled()
    named = "finite parameters, got NaN or infinite ones in step 1; use a smaller step size"
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=named):
        training.train(net, theta + 1e-3, Breaks(), data, 10, 8, measure_every=9, progress=False)

    class Faulty(Recorder):
        def step(self, theta: Any, state: Any, batch: Any, rng: Any) -> Any:
            raise ValueError("of its own")

    with pytest.raises(ValueError, match="of its own"):
        training.train(net, theta, Faulty(), data, 10, 8, progress=False)


def test_too_large_a_step_size_is_named() -> None:
    net, theta, data = labelled("gaussian")
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="use a smaller step size"):
        training.train(net, theta, optim.SGD(net, 1e200), data, 10, 8, progress=False)


# progress -------------------------------------------------------------------------------------------------


def test_progress_false_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    train()
    assert capfd.readouterr() == ("", "")


def test_a_bar_goes_to_standard_error_only(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    train(progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert f"training |{'█' * progress.LENGTH}| " in err
    assert "test error 0." in err


def test_a_bar_shows_the_damping(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    net, theta, data = labelled()
    training.train(net, theta, optim.KFAC(net, lam=7.0), data, 2, 30, progress=True)
    assert "damping 7" in capfd.readouterr().err


def test_a_file_gets_a_line_without_a_bar(capfd: pytest.CaptureFixture[str]) -> None:
    train(progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert re.fullmatch(r"training: \d+\.\d s\n", err)


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_the_bar_has_one_length_whatever_is_noted_beside_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], columns: int
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    with progress.progress_bar("Fisher matrices", 9) as bar:
        for _ in range(9):
            bar.advance("building K-FAC (factored damping)")
    bars = re.findall(r"\|(.*?)\|", capfd.readouterr().err)
    assert {len(drawn) for drawn in bars} == {progress.LENGTH}


def test_jupyter_has_its_own_bar(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    made: list[dict[str, Any]] = []

    class Widget:
        def __init__(self, **options: Any) -> None:
            made.append(options)

        def update(self) -> None:
            made.append({})

        def set_postfix_str(self, note: str) -> None:
            pass

        def close(self) -> None:
            pass

    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setattr("tqdm.auto.tqdm", Widget)
    monkeypatch.setattr(progress, "find_spec", lambda name: name)  # ipywidgets may not be installed
    train(progress=True)
    assert made[0]["desc"] == "training" and "bar_format" not in made[0] and len(made) > 1
    assert capfd.readouterr() == ("", "")
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: None))
    assert not progress.in_jupyter()


def test_training_runs_without_tqdm(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert np.array_equal(train(progress=True).theta, train().theta)
    assert capfd.readouterr() == ("", "")


def test_small_nets_train_on_one_thread(monkeypatch):
    """Two threads wait for each other in small products: a step took up to ten times as long."""
    net, data = mk.mlp([64, 16, 10]), datasets.digits()
    assert net.work(data.x_train[:100]) == 100 * (65 * 16 + 17 * 10)
    conv = mk.presets.tiny_convnet()  # 3 x 3 on 8 x 8 and on 4 x 4 locations, and a dense layer
    images = data.as_images().x_train[:5]
    assert conv.work(images) == 5 * sum(
        math.prod(shape) * t for shape, t in zip(conv.shapes, (64, 16, 1), strict=True)
    )
    threads = []

    def track(step, theta):
        threads.append(blas_threads(theta))
        return {}

    theta = net.init(np.random.default_rng(0))
    for most in (10**9, 0):
        monkeypatch.setattr("minikfac.training.loop.WORTH_DIVIDING", most)
        training.train(net, theta, optim.SGD(net, lr=0.1), data, steps=1, track=track, progress=False)
    small, large = threads[: len(threads) // 2], threads[len(threads) // 2 :]
    assert set(small[1:]) == {1} and set(large) == {blas_threads(theta)}
