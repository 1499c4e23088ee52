"""The cost model: against operations counted one by one, and against limits that are known."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minikfac as mk
from minikfac import layers, optim
from minikfac.datasets import Dataset
from minikfac.optim.schedules import InverseTime, SutskeverMomentum
from minikfac.scaling import cost_model as model
from minikfac.scaling.cost_model import Link, Machine, Schedule, layer_sizes, step_seconds
from minikfac.training import History, train
from minikfac.training.describe import describe_run
from oracles import close

MLP = mk.mlp([5, 4, 3])
SIZES = layer_sizes(MLP, (5,))
COUNTS = [1, 2, 4, 8, 16, 64, 1024]
FREE = Link()
KFAC = Schedule.of(optim.KFAC(MLP))


class Counted:
    """A number that counts what is multiplied and added."""

    count = 0

    def __init__(self, value: float = 1.0) -> None:
        self.value = value

    def __mul__(self, other: Counted) -> Counted:
        Counted.count += 1
        return Counted(self.value * other.value)

    def __add__(self, other: Counted) -> Counted:
        Counted.count += 1
        return Counted(self.value + other.value)


def counted(A: list[list[Counted]], B: list[list[Counted]], symmetric: bool = False) -> int:
    """Operations of a product of matrices by its definition, sums begun at a zero; or its upper half."""
    Counted.count = 0
    for i, row in enumerate(A):
        for j, column in enumerate(zip(*B, strict=True)):
            if symmetric and j < i:
                continue
            total = Counted(0.0)
            for a, b in zip(row, column, strict=True):
                total = total + a * b
    return Counted.count


def matrix(rows: int, columns: int) -> list[list[Counted]]:
    return [[Counted() for _ in range(columns)] for _ in range(rows)]


# operations ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("net", "shape", "T"),
    [
        (MLP, (5,), [1, 1]),
        (
            mk.Network(
                [
                    layers.Conv2d(2, 3, 2),
                    layers.Tanh(),
                    layers.Conv2d(3, 2, 2, stride=2),
                    layers.Flatten(),
                    layers.Dense(2, 2),
                ],
                mk.outputs.Categorical(),
            ),
            (4, 4, 2),
            [9, 1, 1],
        ),
    ],
    ids=["dense", "convolution"],
)
def test_operations_are_those_of_the_products(net, shape, T):
    sizes = layer_sizes(net, shape)
    assert [size.T for size in sizes] == T
    assert (
        tuple((size.I, size.O) for size in sizes) == net.shapes
        and sum(s.n_params for s in sizes) == net.n_params
    )
    for size in sizes:
        rows, i, o = size.T, size.I, size.O
        assert size.forward() == counted(matrix(rows, i), matrix(i, o))
        assert size.weight_gradient() == counted(matrix(i, rows), matrix(rows, o))
        below = counted(matrix(rows, o), matrix(o, i - 1))
        assert size.input_derivative() == (0 if size is sizes[0] else below)
        assert size.tangent() == size.forward() + size.input_derivative()
        A, G = (counted(matrix(n, rows), matrix(rows, n), symmetric=True) for n in (i, o))
        assert size.factors() == A + G
        left = counted(matrix(i, i), matrix(i, o))
        assert size.preconditioning() == left + counted(matrix(i, o), matrix(o, o))


@pytest.mark.parametrize("n", [3, 8, 20])
def test_an_inverse_by_cholesky_is_about_n_cubed_operations(n: int):
    M = np.cov(np.random.default_rng(0).standard_normal((n, 3 * n))) + np.eye(n)
    L, count = np.zeros((n, n)), 0
    for j in range(n):  # the definition; a multiplication and an addition each
        for i in range(j, n):
            s = M[i, j] - sum(L[i, k] * L[j, k] for k in range(j))
            count += 2 * j + 1
            L[i, j] = math.sqrt(s) if i == j else s / L[j, j]
    R = np.zeros((n, n))  # L^-1, column by column
    for j in range(n):
        for i in range(j, n):
            R[i, j] = ((i == j) - sum(L[i, k] * R[k, j] for k in range(j, i))) / L[i, i]
            count += 2 * (i - j) + 1
    inverse = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            inverse[i, j] = inverse[j, i] = sum(R[k, i] * R[k, j] for k in range(i, n))
            count += 2 * (n - i)
    close(inverse @ M, np.eye(n))
    size = model.LayerSize(1, n, 0)
    assert size.inverses() == n**3
    assert n**3 < count < n**3 * (1 + 3 / n)


def test_layers_that_scale_and_shift_are_refused():
    net = mk.Network([layers.Dense(3, 4), layers.BatchNorm(4), layers.Dense(4, 2)], mk.outputs.Categorical())
    with pytest.raises(ValueError, match="expected dense and convolutional layers, got batchnorm1"):
        layer_sizes(net, (3,))


def test_a_step_is_its_operations_over_the_rate():
    m, rate = 100, 1e9
    seconds = step_seconds(SIZES, m, 1, Schedule("SGD"), Machine(rate), FREE)
    forward = 2 * (6 * 4 + 5 * 3)
    close(sum(seconds.values()), m * (2 * forward + 2 * 4 * 3) / rate)
    seconds = step_seconds(SIZES, m, 1, KFAC, Machine(rate), FREE)
    close(seconds["gradient"], m * (2 * forward + 24 + forward / 5) / rate)
    factors = 6 * 7 + 4 * 5 + 5 * 6 + 3 * 4
    close(seconds["factors"], 13 * (forward + 24 + factors) / rate)  # an eighth of 100, rounded up
    close(seconds["Fisher products"], 25 * (forward + 2 * (forward + 24)) / rate)
    close(seconds["inverses"], 0.15 * (6**3 + 4**3 + 5**3 + 3**3) / rate)
    close(seconds["preconditioning"], 1.1 * 2 * (6 * 4 * 10 + 5 * 3 * 8) / rate)


def test_periods_of_the_optimizers():
    close(KFAC.inverses, 3 / 20)  # every 20 steps, three at once
    close(Schedule.of(optim.KFAC(MLP, T2=20, T3=5)).inverses, 6 / 20)  # and one at 5, 10, 15
    given = Schedule.of(optim.KFAC(MLP, lr=0.1))  # M decides about gamma and lambda all the same
    assert (given.fisher_share, given.directions) == (1 / 4, 1)
    pre = Schedule.of(optim.KFCPre(MLP, 0.1, Ts=4, Tf=8))
    assert (pre.factor_share, pre.inverses, pre.fisher_share, pre.extra_forward) == (
        1 / 4,
        1 / 8,
        1 / 4,
        False,
    )
    assert Schedule.of(optim.KFCPre(MLP, 0.1, clip_norm="kfac")).fisher_share == 0
    with pytest.raises(TypeError, match="expected SGD, KFAC or KFCPre, got Adam"):
        Schedule.of(optim.Adam(MLP, 0.1))


# limits -------------------------------------------------------------------------------------------------


def test_one_worker_says_nothing_to_nobody():
    slow = Link(1.0, 1.0)
    alone = step_seconds(SIZES, 64, 1, KFAC, Machine(1e9), slow)
    assert alone == step_seconds(SIZES, 64, 1, KFAC, Machine(1e9), FREE)
    assert not any(alone[part] for part in model.COMMUNICATING)
    two = step_seconds(SIZES, 64, 2, KFAC, Machine(1e9), slow)
    assert all(two[part] > 0 for part in model.COMMUNICATING)


def test_on_a_free_network_sgd_scales_perfectly():
    machine = Machine(1e9)
    sgd = model.strong_scaling(SIZES, 4096, COUNTS, Schedule("SGD"), machine, FREE)
    close(sgd.seconds * COUNTS, sgd.seconds[0])
    kfac = model.strong_scaling(SIZES, 2**20, COUNTS, KFAC, machine, FREE)
    close(kfac.parts["preconditioning"], kfac.parts["preconditioning"][0])
    close(kfac.parts["inverses"][-1], KFAC.inverses * max(model.inverse_seconds(SIZES, machine)))
    assert not kfac.communication.any()
    weak = model.weak_scaling(SIZES, 64, COUNTS, Schedule("SGD"), machine, FREE)
    close(weak.seconds, weak.seconds[0])
    assert weak.batch.tolist() == [64 * W for W in COUNTS]


def test_without_latency_a_ring_sends_the_array_twice():
    link = Link(0.0, 1e6)
    close([link.all_reduce(1e6, W) for W in (2, 4, 1000)], [1.0, 1.5, 1.998])


def test_a_message_of_nothing_but_latency_is_quicker_by_tree():
    short = Link(1e-3, 1e12)
    np.testing.assert_allclose(
        [short.all_reduce(8, W) for W in (2, 3, 8, 9, 1024)], [2e-3, 4e-3, 6e-3, 8e-3, 20e-3], rtol=1e-6
    )
    np.testing.assert_allclose(short.broadcast(8, 1024), 10e-3, rtol=1e-6)
    both = Link(1e-3, 1e6)
    close([both.all_reduce(size, 8) for size in (8, 1e6)], [6 * (1e-3 + 8e-6), 14 * (1e-3 + 1 / 8)])


def test_memory_and_calls_add_to_arithmetic():
    base, slow = Machine(1e9), Machine(1e9, memory=1e6)
    one, two = (
        sum(step_seconds(SIZES, 10, 1, Schedule("SGD"), machine, FREE).values()) for machine in (base, slow)
    )
    touched = 2 * 10 * 2 * ((6 + 8) + (5 + 6)) + 6 * MLP.n_params
    close(two - one, 4 * touched / 1e6)
    calls = step_seconds(SIZES, 10, 1, Schedule("SGD"), replace(base, call=0.5), FREE)
    close(sum(calls.values()) - one, 2 * 2 * 0.5)


def test_stale_inverses_cost_what_steps_do_not_cover():
    machine, link = Machine(1e9), Link(1e-6, 1e9)
    often = replace(KFAC, inverses=1.0)
    for schedule, covered in ((KFAC, True), (often, True)):
        waits = step_seconds(SIZES, 4096, 4, schedule, machine, link)
        beside = step_seconds(SIZES, 4096, 4, model.stale(schedule), machine, link)
        assert waits["inverses"] > 0 and (beside["inverses"] == 0) == covered
        assert beside["gradient"] == waits["gradient"]
    slow = replace(machine, inverse_rate=1e3)  # longer than the steps between
    waits, beside = (
        step_seconds(SIZES, 8, 2, schedule, slow, FREE) for schedule in (KFAC, model.stale(KFAC))
    )
    assert 0 < beside["inverses"] < waits["inverses"]
    close(sum(beside.values()), KFAC.inverses * max(model.inverse_seconds(SIZES, slow)))


# sharing inverses ---------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=7),
    st.integers(1, 4),
)
def test_largest_first_is_within_grahams_bound(costs: list[int], W: int):
    owners = model.largest_first(costs, W)
    longest = max(sum(c for c, w in zip(costs, owners, strict=True) if w == worker) for worker in range(W))
    assert longest == max(model.loads(costs, W))
    best = min(
        max(sum(c for c, w in zip(costs, choice, strict=True) if w == worker) for worker in range(W))
        for choice in itertools.product(range(W), repeat=len(costs))
    )
    assert best <= longest <= best * (4 / 3 - 1 / (3 * W)) + 1e-9
    assert longest >= max(*costs, sum(costs) / W) if len(costs) > 1 else longest == costs[0]


def test_largest_first_is_not_always_the_best():
    assert max(model.loads([3, 3, 2, 2, 2], 2)) == 7  # 3 + 3 against 2 + 2 + 2 is 6


def test_what_breaks_is_named():
    machine = Machine(1e9)
    curve = model.strong_scaling(SIZES, 64, COUNTS, KFAC, machine, Link(1e-4, 1e9))
    first = model.breaks(curve, SIZES, machine)
    assert first["one example a worker"] == 64
    assert first["one layer is all the inverses' time"] == 2
    assert first["network takes half the step"] == 2
    quiet = model.breaks(model.strong_scaling(SIZES, 10**9, [1, 2], KFAC, machine, FREE), SIZES, machine)
    assert list(quiet) == ["one layer is all the inverses' time"]
    wide = [model.LayerSize(1, 101, 100, first=True)]
    many = model.strong_scaling(wide, 4096, COUNTS, KFAC, machine, FREE)
    assert model.breaks(many, wide, machine)["what all repeat takes half the step"] > 1


def test_a_rate_is_measured():
    assert 1e7 < model.measured_rate(100) < 1e16


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Machine(0.0), "expected rate > 0, got 0.0"),
        (lambda: Machine(1.0, inverse_rate=-1.0), "expected inverse_rate > 0, got -1.0"),
        (lambda: Machine(1.0, call=-1.0), "expected call >= 0, got -1.0"),
        (lambda: Machine("fast"), "expected rate > 0, got 'fast'"),
        (lambda: Machine(1.0, itemsize=2.5), "expected itemsize to be a whole number >= 1, got 2.5"),
        (
            lambda: Schedule.of(optim.KFAC(MLP, structure="block_tridiagonal")),
            "expected K-FAC's block-diagonal inverse, whose cost is modelled, got 'block_tridiagonal'",
        ),
        (lambda: Link(-1.0), "expected latency >= 0 and bandwidth > 0, got -1.0 and inf"),
        (lambda: model.largest_first([1.0], 0), "expected W >= 1, got 0"),
        (
            lambda: step_seconds(SIZES, 0, 1, KFAC, Machine(1.0), FREE),
            "expected m >= 1 and W >= 1, got 0 and 1",
        ),
    ],
)
def test_what_is_no_machine_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# recorded runs ------------------------------------------------------------------------------------------


def recorded(opt: object, net: mk.Network, shape: tuple[int, ...], batch_size: object, steps: int) -> History:
    """The history of a run on random data, as its file begins: described, and through JSON."""
    rng = np.random.default_rng(0)
    x, y = rng.random((45, *shape)), rng.integers(0, 3, 45)
    data = Dataset(x[:40], y[:40], x[40:], y[40:], "random")
    theta = net.init(rng)
    run = train(net, theta, opt, data, steps, batch_size, measure_every=4, progress=False)
    about = describe_run(net, theta, opt, data, batch_size, 0, None)
    return replace(run, about=json.loads(json.dumps(about)))


@pytest.mark.parametrize("method", ["SGD", "Nesterov", "K-FAC", "KFC-pre"])
def test_a_recorded_run_keeps_its_updates_and_gets_the_seconds_of_another_machine(method: str):
    net, shape = mk.mlp([5, 4, 3]), (5,)
    if method == "KFC-pre":
        net = mk.Network(
            [layers.Conv2d(1, 2, 3), layers.ReLU(), layers.Flatten(), layers.Dense(8, 3)],
            mk.outputs.Categorical(),
        )
        shape = (4, 4, 1)
    opt = {
        "SGD": lambda: optim.SGD(net, InverseTime(0.1, 10)),
        "Nesterov": lambda: optim.SGD(net, 0.1, SutskeverMomentum(0.9), nesterov=True),
        "K-FAC": lambda: optim.KFAC(net, T3=5),
        "KFC-pre": lambda: optim.KFCPre(net, InverseTime(0.1, 10), Ts=2, clip=None),
    }[method]()
    run = recorded(opt, net, shape, 10, 12)
    machine = Machine(1e9, memory=1e8, call=1e-4)
    elsewhere = model.on_machine(run, machine)
    step = sum(step_seconds(layer_sizes(net, shape), 10, 1, Schedule.of(opt), machine, FREE).values())
    close(elsewhere["seconds"], step * run["step"])
    for column in ("step", "examples", "loss"):
        np.testing.assert_array_equal(elsewhere[column], run[column])
    close(
        model.on_machine(run, replace(machine, rate=2e9, memory=2e8, call=5e-5))["seconds"],
        step * run["step"] / 2,
    )


def test_batches_that_grow_cost_what_their_mean_costs():
    net, machine = mk.mlp([5, 4, 3]), Machine(1e6)
    opt = optim.SGD(net, 0.1)
    rows = [{"step": 0, "examples": 0}, {"step": 4, "examples": 400}, {"step": 8, "examples": 1600}]
    run = replace(recorded(opt, net, (5,), 10, 4), records=rows)
    one = sum(step_seconds(layer_sizes(net, (5,)), 1, 1, Schedule.of(opt), machine, FREE).values())
    close(model.on_machine(run, machine)["seconds"], one * run["examples"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"optimizer": {"kind": "Adam", "lr": 0.1}}, "'Adam'"),
        ({"optimizer": {"kind": "KFAC", "structure": "block_tridiagonal"}}, "block-diagonal inverse"),
        ({"net": {"layers": [{"kind": "mine"}], "output": "Categorical()"}}, "string"),
        ({"net": {"layers": ["Dense(n_in=5, n_out=3)", "BatchNorm(size=3)"], "output": "Categorical()"}}, ""),
        ({"net": {"layers": ["__import__('os').system('true')"], "output": "Categorical()"}}, "attribute"),
    ],
)
def test_runs_whose_cost_is_not_modelled_are_refused(change: dict, reason: str):
    about = {"optimizer": {"kind": "SGD", "lr": 0.1}, "dataset": {"train": [40, 5]}}
    about |= {"net": {"layers": ["Dense(n_in=5, n_out=3, bias=True)"], "output": "Categorical()"}}
    assert model.on_machine(History([{"step": 0, "examples": 0}], about=about), Machine(1.0)).records
    message = f"mine: expected dense and convolutional layers, and SGD, KFAC or KFCPre, got .*{reason}"
    with pytest.raises(ValueError, match=message):
        model.on_machine(History([], about=about | change), Machine(1.0), "mine")


def test_machines_are_read_from_toml_and_json(tmp_path):
    (tmp_path / "a.toml").write_text('name = "mine"\nrate = 4e12\nmemory = 288e9\ncall = 1e-5\n')
    (tmp_path / "a.json").write_text('{"rate": 4e12, "name": "mine", "memory": 288e9, "call": 1e-5}')
    expected = Machine(4e12, memory=288e9, call=1e-5, name="mine")
    assert model.read_machine(tmp_path / "a.toml") == model.read_machine(tmp_path / "a.json") == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("rate = fast", "Invalid value"),
        ("memory = 1e9", "missing 1 required positional argument: 'rate'"),
        ("rate = 1e9\nspeed = 2", "unexpected keyword argument 'speed'"),
        ("rate = -1", "expected rate > 0, got -1"),
        ('rate = "1e9"', "expected rate > 0, got '1e9'"),
        ("rate = true", "expected rate > 0, got True"),
        ("rate = nan", "expected rate > 0, got nan"),
        ("rate = 1e9\ncall = -1.0", "expected call >= 0, got -1.0"),
        ("\x00\xff", ""),
    ],
)
def test_a_file_that_is_no_machine_is_one_error(tmp_path, text: str, reason: str):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    message = f"bad.toml: expected a machine in TOML or JSON, with rate and perhaps .*{reason}"
    with pytest.raises(ValueError, match=message):
        model.read_machine(path)
