"""Training on a device, with the stand-in: batches go there, and checkpoints move between devices."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import minikfac as mk
from minikfac import fisher, layers, linalg, optim, outputs, training
from minikfac.datasets import Dataset
from minikfac.fisher.kronecker_block import factored_inverse
from minikfac.training import Keep, batches, checkpoint
from oracles import OUTPUTS, close, random_net, standin
from oracles.device_cases import RESUMED as OPTIMIZERS
from oracles.device_cases import trained
from oracles.resumable import problem


@pytest.fixture(autouse=True)
def cupy() -> Iterator[Any]:
    with standin.installed() as module:
        yield module


def go(name: str, device: bool, steps: int = 8, **options: Any) -> training.History:
    return trained(name, "cuda" if device else "cpu", steps, **options)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_batches_go_where_the_parameters_are(name: str) -> None:
    host, device = go(name, False), go(name, True)
    assert isinstance(device.theta, standin.ndarray)
    close(mk.to_host(device.theta), host.theta)
    close(mk.to_host(device.average), host.average)
    for key in ("loss", "test_loss", "test_error", "loss_average"):
        close(device[key], host[key])
    assert all(isinstance(value, float | int) for record in device.records for value in record.values())


def test_data_may_be_on_the_device_too() -> None:
    net, theta, data = problem()
    for part in ("x_train", "y_train", "x_test", "y_test"):
        object.__setattr__(data, part, mk.to_device(getattr(data, part)))
    opt = OPTIMIZERS["KFAC"](net)
    history = training.train(net, mk.to_device(theta), opt, data, 8, 16, 0, 4, progress=False)
    close(mk.to_host(history.theta), go("KFAC", False).theta)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_is_resumed_on_its_device(tmp_path: Path, name: str) -> None:
    keep = Keep(tmp_path, existing="resume")
    go(name, True, 4, keep=keep)
    resumed, expected = go(name, True, 8, keep=keep), go(name, True, 8)
    assert isinstance(resumed.theta, standin.ndarray)
    assert resumed.theta.get().tobytes() == expected.theta.get().tobytes()
    assert resumed.average.get().tobytes() == expected.average.get().tobytes()


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("first", [True, False])
def test_a_checkpoint_moves_between_devices(tmp_path: Path, name: str, first: bool) -> None:
    keep = Keep(tmp_path, existing="resume")
    go(name, first, 4, keep=keep)
    resumed = go(name, not first, 8, keep=keep)
    assert isinstance(resumed.theta, standin.ndarray) == isinstance(resumed.average, standin.ndarray) != first
    close(mk.to_host(resumed.theta), go(name, False).theta)


def test_a_checkpoint_is_read_without_its_device(tmp_path: Path) -> None:
    keep = Keep(tmp_path)
    history = go("KFAC", True, 4, keep=keep)
    stored = checkpoint.load(keep.checkpoint)
    assert isinstance(stored.theta, np.ndarray)
    assert stored.theta.tobytes() == history.theta.get().tobytes()
    assert isinstance(stored.state["factors"][0][0], np.ndarray)


# what a step asks ---------------------------------------------------------------------------------

ONE = [1]
PLAIN_STEPS = {
    "SGD": lambda net: optim.SGD(net, 0.1, 0.9, l2=1e-3),
    "Nesterov": lambda net: optim.SGD(net, 0.1, 0.9, nesterov=True),
    "Adam": lambda net: optim.Adam(net),
    "diagonal": lambda net: optim.DiagonalNaturalGradient(net, 0.01, 0.9),
    "EKFAC": lambda net: optim.EKFAC(net, 0.01, T3=4),
}
WAITS: dict[str, tuple[Any, list[int]]] = {
    **{name: (make, 9 * ONE) for name, make in PLAIN_STEPS.items()},
    # inverses are renewed in steps 1, 2, 3, 5 and 9: one question more, whether all factorizations were good
    "KFCPre": (lambda net: optim.KFCPre(net, 0.01, Tf=4), [2, 2, 2, 1, 2, 1, 1, 1, 2]),
    "KFCPre, free bound": (
        lambda net: optim.KFCPre(net, 0.01, Tf=4, clip_norm="kfac"),
        [2, 2, 2, 1, 2, 1, 1, 1, 2],
    ),
    # inverses in steps 1, 2, 3, 4 and 8, there three; h after the step in 3, 6 and 9
    "KFAC": (lambda net: optim.KFAC(net, T1=3, T2=8, T3=4), [2, 2, 3, 2, 1, 2, 1, 4, 2]),
}
"""How often the host waits in each of nine steps."""


def waits(make: Any, net: mk.Network, theta: Any, x: Any, y: Any) -> list[standin.Traffic]:
    opt = make(net)
    theta, batch = mk.to_device(theta), (mk.to_device(x), mk.to_device(y))
    state, traffic_of_steps = opt.init(theta), []
    for k in range(9):
        with standin.counted() as traffic:
            theta, state, info = opt.step(theta, state, batch, np.random.default_rng(k))
        traffic_of_steps.append(traffic)
        assert all(type(value) is float for value in info.values())
    return traffic_of_steps


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("name", WAITS)
def test_how_often_a_step_waits_for_the_device(name: str, output: str) -> None:
    make, expected = WAITS[name]
    steps = waits(make, *random_net(np.random.default_rng(0), (4, 5, 6, 3), output=output, n=40))
    assert [len(traffic.to_host) for traffic in steps] == expected
    assert max(size for traffic in steps for size in traffic.to_host) <= 20


@pytest.mark.parametrize("name", [name for name in PLAIN_STEPS if name != "EKFAC"])
def test_convolutions_make_first_order_steps_wait_no_longer(name: str) -> None:
    net = mk.Network(
        [layers.Conv2d(1, 2, 3), layers.BatchNorm(2), layers.ReLU(), layers.Flatten(), layers.Dense(32, 3)],
        outputs.Categorical(),
    )
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 6, 6, 1)), rng.integers(0, 3, 40)
    steps = waits(PLAIN_STEPS[name], net, net.init(rng), x, y)
    assert [len(traffic.to_host) for traffic in steps] == 9 * ONE


def test_targets_are_drawn_only_where_needed() -> None:
    net, theta, x, y = random_net(np.random.default_rng(0), output="bernoulli", n=40)
    make = lambda net: optim.KFAC(net, tau1=1 / 8)  # noqa: E731
    sent = [traffic.to_device for traffic in waits(make, net, theta, x, y)]
    assert sent == 9 * [[40 // 8 * 3]]


def test_a_training_step_sends_only_the_order() -> None:
    _, theta, data = problem()
    with standin.counted() as traffic:
        go("SGD", True, 4)
    moved = sum(part.size for part in (data.x_train, data.y_train, data.x_test, data.y_test))
    assert sum(traffic.to_device) == theta.size + moved + 4 * 16  # each once, and rows of 16 examples
    # one a step; two parts measured at the start, and at the end for the average too; the end of the clock
    assert len(traffic.to_host) == 4 + (2 + 4) + 1


def test_data_too_large_for_the_device_stay_outside(monkeypatch: Any) -> None:
    _, _, data = problem()
    size = sum(part.nbytes for part in (data.x_train, data.y_train, data.x_test, data.y_test))
    for free, batches_sent in ((2 * size, 0), (2 * size - 2, 1)):
        monkeypatch.setattr(batches, "available_memory", lambda xp, free=free: free)
        with standin.counted() as traffic:
            history = go("SGD", True, 4)
        assert traffic.to_device.count(16 * 4) == 4 * batches_sent
        close(mk.to_host(history.theta), go("SGD", False, 4).theta)


def test_an_autoencoder_s_images_are_gathered_once(monkeypatch: Any) -> None:
    net, theta, data = problem()
    data = Dataset(data.x_train, data.x_train, data.x_test, data.x_test, "points")
    net = mk.mlp([4, 2, 4], output="gaussian")
    seen = []
    opt = optim.SGD(net, 0.1)

    class Watched:
        init = opt.init

        def step(self, theta: Any, state: Any, batch: Any, rng: Any) -> Any:
            seen.append(batch[0] is batch[1])
            return opt.step(theta, state, batch, rng)

    with standin.counted() as traffic:
        theta = mk.to_device(net.init(np.random.default_rng(0)))
        training.train(net, theta, Watched(), data, 3, 16, progress=False)
    assert seen == 3 * [True]
    assert traffic.to_device.count(data.x_train.size) == 1


@pytest.mark.parametrize(
    "make",
    [lambda net: optim.KFAC(net, T2=3, T3=3, max_age=2), lambda net: optim.KFCPre(net, 0.1, Tf=3, max_age=2)],
)
def test_late_inverses_have_a_second_queue(monkeypatch: Any, make: Any) -> None:
    monkeypatch.setattr(standin.CUPY.cuda.Stream, "log", [])
    net, theta, data = problem()
    runs = []
    for device in ("cpu", "cuda"):
        at = mk.to_device(theta, device)
        runs.append(training.train(net, at, make(net), data, 14, 16, 0, 7, progress=False))
        if device == "cpu":
            assert standin.CUPY.cuda.Stream.log == []
    close(runs[1]["loss"], runs[0]["loss"])
    # the last one may be under way
    assert standin.CUPY.cuda.Stream.log[:6] == 2 * ["begin", "wait for the first queue", "end"]


# targets that there cannot be ----------------------------------------------------------------------

WRONG = {
    "categorical": (np.array([0, 1, 2, 3, 0, 1]), r"expected labels in 0\.\.2, got values from 0 to 3"),
    "bernoulli": (np.full((6, 3), 1.5), r"expected Bernoulli targets in \[0, 1\], got values from 1\.5"),
    "gaussian": (np.full((6, 3), np.nan), "expected finite Gaussian targets"),
}


@pytest.mark.parametrize("output", OUTPUTS)
def test_wrong_targets_on_a_device_make_the_loss_nan(output: str) -> None:
    net, theta, x, _ = random_net(np.random.default_rng(0), output=output)
    theta, x, y = map(mk.to_device, (theta, x, WRONG[output][0]))
    assert np.isnan(float(net.mean_loss(theta, x, y)))
    assert np.isnan(float(net.gradient_pass(theta, x, y)[0]))
    opt = optim.SGD(net, 0.1)
    for ask in (net.loss, net.loss_and_gradient, lambda *at: opt.step(at[0], opt.init(at[0]), at[1:])):
        with pytest.raises(ValueError, match=WRONG[output][1]):
            ask(theta, x, y)


@pytest.mark.parametrize("output", OUTPUTS)
def test_wrong_targets_on_a_device_are_named_in_training(output: str) -> None:
    net, theta, x, y = random_net(np.random.default_rng(0), output=output)
    data = SimpleNamespace(x_train=x, y_train=WRONG[output][0], x_test=x, y_test=y, name="wrong")
    with pytest.raises(ValueError, match=WRONG[output][1]):
        training.train(net, mk.to_device(theta), optim.SGD(net, 0.1), data, 3, 2, progress=False)  # type: ignore[arg-type]


# inverses ------------------------------------------------------------------------------------------


def choleskys(A: np.ndarray, G: np.ndarray, share: float) -> list[tuple[Any, Any]]:
    """Factors of a product on the device; the share of the damping is in A and G already."""
    return linalg.damped_choleskys(
        [((mk.to_device(A), "A", share), (mk.to_device(G), "G", share))], damping=share**2
    )


def test_a_factorization_that_breaks_down_is_noticed() -> None:
    broken = np.diag([1.0, 1.0, -1.0])
    good = np.eye(3)
    with pytest.raises(linalg.SingularMatrixError, match=r"G \(3 x 3\)"):
        choleskys(good, broken, 0.5)
    with pytest.raises(ValueError, match=r"expected finite numbers, but A \(3 x 3\) has NaN"):
        choleskys(np.nan * good, good, 0.5)


def test_too_little_damping_is_looked_at_more_closely() -> None:
    M = np.diag([1.0, 1e-16])
    with pytest.raises(linalg.SingularMatrixError):
        choleskys(M, np.eye(2), 1e-16)
    choleskys(M + 0.5 * np.eye(2), np.eye(2), 0.5)
    with standin.counted() as traffic:
        choleskys(M + 0.1 * np.eye(2), M + 0.2 * np.eye(2), 0.1)
    assert traffic.to_host == [1]


def test_inverses_of_all_layers_are_those_of_each() -> None:
    net, theta, x, _ = random_net(np.random.default_rng(0), (4, 5, 3), n=20)
    F = fisher.kfac(fisher.signals(net, mk.to_device(theta), mk.to_device(x)))
    v = mk.to_device(np.ones(net.n_params))
    for explicit in (True, False):
        with standin.counted() as traffic:
            together = factored_inverse(F, 0.1, explicit)
        assert traffic.to_host == [2]  # one answer per layer, together
        each = F.inverse(0.1, "factored", explicit=explicit)
        close((together @ v).get(), (each @ v).get())


def test_damped_diagonals_are_not_checked() -> None:
    block = fisher.DiagonalBlock(mk.to_device(np.array([1.0, 0.0, -2.0])))
    with standin.counted() as traffic:
        inverse = block.inverse(0.5).d
    assert traffic.to_host == []
    close(inverse.get(), [1 / 1.5, 2.0, np.nan])
    with pytest.raises(linalg.SingularMatrixError, match="has 2 zeros among 3"):
        block.inverse()
    eye = mk.to_device(np.eye(2))
    of_two = fisher.EigenBlock(eye, eye, mk.to_device(np.array([[1.0, 0.0], [-2.0, 3.0]])), "layer")
    with standin.counted() as traffic:
        inverse = of_two.inverse(0.5).s
    assert traffic.to_host == []
    assert np.isnan(inverse.get()).all()  # the block as a whole has no inverse
