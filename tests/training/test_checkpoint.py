"""Checkpoints: runs that are killed go on in the same bits, and no other run's checkpoint is taken."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import minikfac as mk
from minikfac import fisher, optim, training
from minikfac.optim import schedules
from minikfac.parallel import one_thread
from minikfac.training import checkpoint, describe, records
from minikfac.training.checkpoint import MATRICES, Checkpoint
from minikfac.training.keep import Keep
from oracles.fisher import make_case
from oracles.resumable import EVERY, MEASURE, STEPS, problem, run, same


def untimed(history: Any) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history.records]


def assert_same_run(run: training.History, expected: training.History, keep: Keep) -> None:
    assert run.theta.tobytes() == expected.theta.tobytes()
    assert same(run.state, expected.state)
    assert same(run.average, expected.average)
    assert untimed(run) == untimed(expected) == untimed(records.read(keep.records))
    assert (np.diff(run["seconds"]) >= 0).all()


def resume(folder: Path) -> Keep:
    return Keep(folder, every=EVERY, existing="resume")


# killed -----------------------------------------------------------------------------------------------


def killing(*arguments: Any) -> list[list[int]]:
    """Run the script that kills its children, and return the numbers it prints."""
    if os.name != "posix":
        pytest.skip("kills by a signal")
    command = [sys.executable, "-m", "oracles.resumable", *map(str, arguments)]
    environment = os.environ | {
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert process.returncode == 0, process.stderr
    return [list(map(int, line.split())) for line in process.stdout.splitlines()]


@one_thread()  # as the children have it: another number may round differently
def test_a_run_killed_repeatedly_ends_in_the_same_bits(tmp_path: Path) -> None:
    seeds, expected, killed_at = 3, run(), set()
    left = killing("at-random", tmp_path, seeds, 8)
    steps_left = [[step for of, step, _ in left if of == seed] for seed in range(seeds)]
    assert steps_left == [sorted(steps) for steps in steps_left]  # no checkpoint is lost
    for seed in range(seeds):
        keep = resume(tmp_path / str(seed))
        killed_at |= {step for of, step, killed in left if of == seed and killed}
        assert_same_run(run(keep), expected, keep)
        files = [path.name for path in Path(keep.folder).iterdir() if path.suffix != ".tmp"]
        assert sorted(files) == ["run.jsonl", "run.npz"]
    assert len(killed_at - {0, STEPS}) >= 3, killed_at  # otherwise little was tried


@pytest.mark.parametrize("function", ["replace", "fsync"])
@one_thread()
def test_a_run_that_dies_while_it_writes_goes_on(tmp_path: Path, function: str) -> None:
    calls = 9
    assert killing("at-calls", tmp_path, function, calls) == [[9]] * calls  # SIGKILL
    expected, starts = run(), []
    for number in range(1, calls + 1):
        keep = resume(tmp_path / str(number))
        starts.append(checkpoint.load(keep.checkpoint).step if keep.checkpoint.exists() else 0)
        assert_same_run(run(keep), expected, keep)
    assert starts == sorted(starts) and starts[0] == 0 < starts[-1]


def test_what_was_recorded_after_the_checkpoint_is_recorded_again(tmp_path: Path) -> None:
    keep = resume(tmp_path)

    def stop(record: dict[str, Any]) -> None:
        if record["step"] == 4 * MEASURE:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(keep, on_record=stop)
    assert checkpoint.load(keep.checkpoint).step == 15  # the last multiple of EVERY before 16
    with open(keep.records, "a") as file:
        file.write('{"step": 17, "los')  # torn
    assert [row["step"] for row in records.read(keep.records).records] == [0, 4, 8, 12, 16]
    seen: list[int] = []
    history = run(keep, on_record=lambda record: seen.append(record["step"]))
    assert seen == [16, 20, 24, 28, 30]
    assert_same_run(history, run(), keep)


OPTIMIZERS = {
    "Adam": lambda net: optim.Adam(net, 0.01),
    "DiagonalNaturalGradient": lambda net: optim.DiagonalNaturalGradient(net, 0.1),
    "EKFAC": lambda net: optim.EKFAC(net, 0.1, T3=5),
    "HessianFree": lambda net: optim.HessianFree(net),
    "KFAC": lambda net: optim.KFAC(net, T1=2, T2=4, T3=5),
    "KFAC, block-tridiagonal": lambda net: optim.KFAC(net, structure="block_tridiagonal", T1=2, T2=4, T3=5),
    "KFAC, solved anew": lambda net: optim.KFAC(net, T3=1, momentum=False),
    "KFCPre": lambda net: optim.KFCPre(net, 0.1, Tf=4, Ts=2),
    "KrylovSubspace": lambda net: optim.KrylovSubspace(net),
    "LowRank": lambda net: optim.LowRank(net, 0.1),
    "NaturalGradient": lambda net: optim.NaturalGradient(net, 0.1),
    "SGD": lambda net: optim.SGD(
        net, schedules.Cosine(0.3, 20), schedules.SutskeverMomentum(0.9), nesterov=True
    ),
}


def test_no_optimizer_is_forgotten() -> None:
    names = {name for name in optim.__all__ if hasattr(getattr(optim, name), "step")}
    assert {name.split(",")[0] for name in OPTIMIZERS} == names


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_is_resumed_in_the_same_bits(tmp_path: Path, name: str, dtype: Any) -> None:
    net, theta, data = problem(dtype)
    opt = OPTIMIZERS[name](net)

    def go(keep: Keep | None = None, steps: int = 14) -> training.History:
        return training.train(net, theta, opt, data, steps, 16, 0, 7, progress=False, averaging=50, keep=keep)

    expected = go()
    keep = Keep(tmp_path, existing="resume")
    half = go(keep, 7)
    assert half.theta.tobytes() != expected.theta.tobytes()
    resumed = go(keep)
    assert_same_run(resumed, expected, keep)
    assert resumed.theta.dtype == dtype


def test_statistics_of_batch_normalization_are_resumed_too(tmp_path: Path) -> None:
    net = mk.Network(
        [mk.layers.Dense(4, 5), mk.layers.BatchNorm(5), mk.layers.Tanh(), mk.layers.Dense(5, 3)],
        mk.outputs.Categorical(),
    )
    _, _, data = problem()
    theta, opt, keep = (
        net.init(np.random.default_rng(0)),
        optim.KFCPre(net, 0.1),
        Keep(tmp_path, existing="resume"),
    )
    histories = [
        training.train(net, theta, opt, data, steps, 16, 0, 5, progress=False, keep=kept)
        for steps, kept in ((10, None), (5, keep), (10, keep))
    ]
    assert_same_run(histories[2], histories[0], keep)
    assert not same(histories[1].state["stats"], histories[2].state["stats"])


def test_another_state_would_change_the_run(tmp_path: Path) -> None:
    keep, expected = resume(tmp_path), run()
    with pytest.raises(KeyboardInterrupt):
        run(keep, on_record=interrupt_at(8))
    stored = checkpoint.load(keep.checkpoint)
    checkpoint.save(keep.checkpoint, dataclasses.replace(stored, state=stored.state | {"lam": 1.0001}))
    assert not same(run(keep).state, expected.state)


def interrupt_at(step: int) -> Any:
    def stop(record: dict[str, Any]) -> None:
        if record["step"] == step:
            raise KeyboardInterrupt

    return stop


# the start and the end of a run ---------------------------------------------------------------------------


def test_a_finished_run_can_be_made_longer(tmp_path: Path) -> None:
    net, theta, data = problem()
    keep = Keep(tmp_path, existing="resume")

    def go(steps: int, kept: Keep | None = keep) -> training.History:
        return training.train(
            net, theta, optim.SGD(net, 0.1, 0.9), data, steps, 8, 0, 5, progress=False, keep=kept
        )

    first, written = go(10), keep.checkpoint.stat().st_mtime_ns
    assert first["seconds"].tolist() == go(10)["seconds"].tolist()
    assert keep.checkpoint.stat().st_mtime_ns == written
    assert_same_run(go(20), go(20, None), keep)
    with pytest.raises(ValueError, match="expected steps >= 20, the step of the checkpoint, got 10"):
        go(10)


def test_a_run_that_reached_its_target_stays_there(tmp_path: Path) -> None:
    keep, level = resume(tmp_path), run()["loss"][3]
    first, again = run(keep, target={"loss": level}), run(keep, target={"loss": level})
    assert first["step"][-1] == again["step"][-1] == 3 * MEASURE
    assert_same_run(again, first, keep)


def test_a_checkpoint_is_not_lost_by_forgetting_to_resume(tmp_path: Path) -> None:
    run(Keep(tmp_path))
    before = Keep(tmp_path).checkpoint.read_bytes()
    with pytest.raises(FileExistsError, match=r"no checkpoint in .*run\.npz yet, got one; resume it"):
        run(Keep(tmp_path))
    assert Keep(tmp_path).checkpoint.read_bytes() == before
    run(Keep(tmp_path, name="other"))
    with pytest.raises(KeyboardInterrupt):
        run(Keep(tmp_path, existing="replace"), on_record=interrupt_at(0))
    stored = checkpoint.load(Keep(tmp_path).checkpoint)
    assert stored.step == 0 and not stored.records  # resuming now does not go on from the old run
    with pytest.raises(ValueError, match="'refuse' or 'resume' or 'replace', got 'overwrite'"):
        Keep(tmp_path, existing="overwrite")


def test_checkpoints_come_every_so_many_steps_or_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def steps_of(keep: Keep) -> list[int]:
        steps: list[int] = []
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "save", lambda _, at: steps.append(at.step))
            run(keep)
        return steps

    assert steps_of(Keep(tmp_path / "a", every=8)) == [0, 8, 16, 24, 30]
    assert steps_of(Keep(tmp_path / "b")) == [0, 30]
    assert steps_of(Keep(tmp_path / "c", seconds=0)) == [0, *range(31)]  # 0 again, with its record
    for wrong in ({"every": 0}, {"seconds": -1.0}):
        with pytest.raises(ValueError, match=r"between checkpoints.*, got (0|-1\.0)"):
            Keep(tmp_path, **wrong)  # type: ignore[arg-type]


# not finite -----------------------------------------------------------------------------------------------


def test_a_run_that_diverges_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    net, theta, data = problem()

    class Diverges(optim.SGD):
        def step(self, theta: Any, state: Any, batch: Any, rng: Any = None) -> Any:
            stepped = super().step(theta, state, batch, rng)
            return (stepped[0] * (np.nan if state["step"] == 6 else 1), *stepped[1:])

    keep = Keep(tmp_path, every=2)
    named = r"in step 7 of .* infinite parameters .*; the checkpoint of step 6 in .*run\.npz is intact"
    with pytest.raises(FloatingPointError, match=named):
        training.train(net, theta, Diverges(net, 0.1), data, 20, 8, progress=False, keep=keep)
    stored = checkpoint.load(keep.checkpoint)
    assert stored.step == 6 and np.isfinite(stored.theta).all()


@pytest.mark.parametrize("part", ["theta", "state"])
def test_nothing_that_is_not_finite_is_written(tmp_path: Path, part: str) -> None:
    path = tmp_path / "run.npz"
    good = Checkpoint(np.ones(3), {"velocity": np.ones(3), "rho": -np.inf}, 4, 40, 0.5, {})
    checkpoint.save(path, good)
    bad = {"theta": np.array([1, np.inf, 1]), "state": {"velocity": np.array([np.nan])}}[part]
    named = {"theta": "theta", "state": r"state\.velocity"}[part]
    with pytest.raises(FloatingPointError, match=f"finite numbers in {named} after step 5, got NaN or inf"):
        checkpoint.save(path, dataclasses.replace(good, step=5, **{part: bad}))
    assert checkpoint.load(path).step == 4
    assert checkpoint.load(path).state["rho"] == -np.inf  # a number of the optimizer's own may be


# the file -------------------------------------------------------------------------------------------------


STATE = {
    "step": 3,
    "on": True,
    "none": None,
    "text": "NaN",
    "numbers": [0.1, -0.0, float("inf"), 1e-323, 12345678901234567890],
    "scalar": np.float32(0.1),
    "nested": ({"a": np.arange(6).reshape(2, 3)}, [], (), {}),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "empty": np.empty((0, 3), np.float32),
    "zero": np.array(2.5),
}


def save_and_load(tmp_path: Path, state: Any) -> Any:
    path = tmp_path / "run.npz"
    checkpoint.save(path, Checkpoint(np.ones(2), state, 1, 10, 0.25, {"rho": -np.inf}, [{"loss": np.nan}]))
    return checkpoint.load(path).state


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    state = save_and_load(tmp_path, STATE)
    assert same(state, STATE)
    assert state["columns"].flags.f_contiguous  # products add in an order that follows the memory
    assert np.signbit(state["numbers"][1])


def test_numbers_beside_the_state_come_back_too(tmp_path: Path) -> None:
    save_and_load(tmp_path, {})
    stored = checkpoint.load(tmp_path / "run.npz")
    assert (stored.step, stored.examples, stored.seconds, stored.info) == (1, 10, 0.25, {"rho": -np.inf})
    assert np.isnan(stored.records[0]["loss"])


def test_the_file_is_an_archive_of_plain_arrays(tmp_path: Path) -> None:
    run(resume(tmp_path))
    with np.load(tmp_path / "run.npz", allow_pickle=False) as stored:
        kinds = {name: stored[name].dtype.kind for name in stored.files}
        tree = json.loads(stored["json"].tobytes())
    assert {"theta", "state.delta", "state.factors[0][1]", "state.inverse.parts[1].A"} <= set(kinds)
    assert set(kinds.values()) == {"f", "u"}
    assert tree["about"]["seed"] == 5 and tree["step"] == STEPS
    assert "PCG64" not in json.dumps(tree)  # no generator


def test_every_matrix_of_the_package_comes_back(tmp_path: Path) -> None:
    case = make_case((3, 4, 3), "tanh", "gaussian", n=40)
    signals = fisher.signals(case.net, case.theta, case.x)
    matrices: list[Any] = [
        fisher.exact(signals),
        fisher.block_diagonal(signals),
        fisher.diagonal(signals),
        fisher.kfac(signals),
        fisher.ekfac(signals),
        fisher.block_tridiagonal(signals),
        fisher.low_rank(signals, rank=3),
    ]
    matrices += [F.inverse(damping=0.1) for F in matrices]
    matrices += [matrices[3].inverse(0.1, method="factored", explicit=explicit) for explicit in (False, True)]
    v, used = np.random.default_rng(0).standard_normal(len(case.theta)), set()
    for F, again in zip(matrices, save_and_load(tmp_path, matrices), strict=True):
        assert same(F, again)
        assert (F @ v).tobytes() == (again @ v).tobytes()
        used |= {type(F).__name__, *(type(part).__name__ for part in getattr(F, "parts", []))}
    assert used == set(MATRICES)


def test_no_matrix_of_the_package_is_forgotten() -> None:
    for file in Path(fisher.__file__).parent.glob("[a-z]*.py"):  # names are imported on demand
        import_module(f"minikfac.fisher.{file.stem}")

    def below(kind: type) -> set[str]:
        names = {kind.__name__} if kind.__module__.startswith("minikfac.fisher.") else set()
        return names.union(*map(below, kind.__subclasses__()))

    abstract, by_functions, indefinite = (
        {"Operator", "FisherMatrix"},
        {"MatrixFree", "CGSolver"},
        {"_LadderBlock"},
    )
    assert below(fisher.Operator) == abstract | by_functions | indefinite | set(MATRICES)


class Unknown:
    pass


class Named(NamedTuple):
    x: int


@pytest.mark.parametrize(
    ("state", "named"),
    [
        ({"a": [Unknown()]}, r"plain data in state\.a\[0\], .* got Unknown"),
        ({"rng": np.random.default_rng(0)}, r"plain data in state\.rng, .* got Generator"),
        ({1: 2}, "plain data in state, .* got dict"),
        ({"a": Named(1)}, r"plain data in state\.a, .* got Named"),
        ({"a": np.array([None])}, r"an array of numbers in state\.a, got one of Python objects"),
    ],
)
def test_only_plain_data_is_written(tmp_path: Path, state: Any, named: str) -> None:
    with pytest.raises(TypeError, match=named):
        save_and_load(tmp_path, state)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("function", ["replace", "fsync"])
@one_thread()
def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    save_and_load(tmp_path, {"old": 1})

    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(os, function, full)
        save_and_load(tmp_path, {"new": 1})
    assert checkpoint.load(tmp_path / "run.npz").state == {"old": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["run.npz"]


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    save_and_load(tmp_path, STATE)
    path = tmp_path / "run.npz"
    whole = path.read_bytes()
    place = whole.index(np.ones(2).tobytes())
    for content in (
        whole[:-30],
        whole[: len(whole) // 2],
        b"",
        whole[:place] + b"\x01" + whole[place + 1 :],
        b"text",
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"run\.npz: expected an archive of arrays .* or a damaged"):
            checkpoint.load(path)


def test_another_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x=np.ones(3))
    with pytest.raises(ValueError, match=r"data\.npz: expected a checkpoint .*, got another archive"):
        checkpoint.load(path)
    np.savez(path, json=np.frombuffer(b'{"format": 1}', np.uint8))
    with pytest.raises(
        ValueError, match=r"data\.npz: expected .* of format 3, got format 1, written by another version"
    ):
        checkpoint.load(path)
    with pytest.raises(FileNotFoundError):
        checkpoint.load(tmp_path / "none.npz")


def edited(path: Path, **changes: Any) -> None:
    """Replace members of an archive, under right checksums."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = dict(stored)
    np.savez(path, **{**arrays, **{name: change(arrays) for name, change in changes.items()}})


def json_with(**entries: Any) -> Callable[[Any], Any]:
    def change(arrays: Any) -> Any:
        tree = json.loads(arrays["json"].tobytes()) | entries
        return np.frombuffer(json.dumps(tree).encode(), np.uint8)

    return change


@pytest.mark.parametrize(
    "changes",
    [
        {"theta": lambda arrays: arrays["theta"] + 1},
        {"theta": lambda arrays: arrays["theta"].astype(np.float32)},
        {"theta": lambda arrays: arrays["theta"][None]},
        {"theta": lambda arrays: arrays["theta"].byteswap().view(">f8")},
        {"theta": lambda arrays: arrays["state.zero"], "state.zero": lambda arrays: arrays["theta"]},
        {"state.columns": lambda arrays: np.ascontiguousarray(arrays["state.columns"])},
        {"more": lambda arrays: np.ones(1)},
        {"sha256": lambda arrays: arrays["sha256"][::-1]},
        {"json": json_with(step=2)},
        {"json": json_with(records=[])},
        {"json": json_with(average=1.0)},
    ],
)
def test_parts_that_were_not_written_together_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    save_and_load(tmp_path, STATE)
    path = tmp_path / "run.npz"
    edited(path)
    assert same(checkpoint.load(path).state, STATE)  # the control: as it was
    edited(path, **changes)
    with pytest.raises(ValueError, match=r"a checkpoint .* \(parts of different checkpoints\)"):
        checkpoint.load(path)


def test_the_theta_of_another_checkpoint_is_refused(tmp_path: Path) -> None:
    path, other = tmp_path / "run.npz", tmp_path / "other.npz"
    for step, name in enumerate((path, other)):
        checkpoint.save(name, Checkpoint(np.full(3, float(step)), {}, step))
    with np.load(other) as stored:
        edited(path, theta=lambda arrays: stored["theta"])
    with pytest.raises(ValueError, match="parts of different checkpoints"):
        checkpoint.load(path)


@pytest.mark.parametrize("tree", ["[" * 100_000, "7" * 5_000, "[]", "7", '{"format": "x"}', "\xff", "{}"])
def test_json_of_any_kind_is_refused(tmp_path: Path, tree: str) -> None:
    path = tmp_path / "run.npz"
    np.savez(path, json=np.frombuffer(tree.encode("latin-1"), np.uint8))
    with pytest.raises(ValueError, match=r"run\.npz: expected a checkpoint of minikfac, got another archive"):
        checkpoint.load(path)


def test_nothing_is_unpickled_and_nothing_but_matrices_is_made(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    np.savez(path, json=np.array([Unknown()], dtype=object))
    with pytest.raises(ValueError, match=r"json\.npy with objects, which only pickle could load"):
        checkpoint.load(path)
    save_and_load(tmp_path, {})
    with np.load(path) as stored:
        arrays = dict(stored)
    for tree in (
        {"matrix": "Popen", "parts": ["true"]},
        {"set": []},
        {"array": "none", "beside theta": True},
    ):
        text = json.loads(arrays["json"].tobytes()) | {"state": tree}
        changed = arrays | {"json": np.frombuffer(json.dumps(text).encode(), np.uint8)}
        del changed["sha256"]
        np.savez(path, **changed, sha256=np.frombuffer(checkpoint._digest(changed), np.uint8))
        with pytest.raises(ValueError, match=r"a checkpoint of minikfac, got .* \((?!parts that were not)"):
            checkpoint.load(path)


# another run ----------------------------------------------------------------------------------------------


def start(tmp_path: Path, **changes: Any) -> None:
    net, theta, data = problem(changes.pop("dtype", float))
    net = changes.pop("net", net)
    theta = changes.pop("theta", theta)
    options: dict[str, Any] = {
        "lr": 0.1,
        "batch_size": 8,
        "seed": 0,
        "opt": optim.SGD,
        "data": data,
        "averaging": None,
    } | changes
    opt = options["opt"](net, options["lr"])
    training.train(
        net, theta, opt, options["data"], 4, options["batch_size"], options["seed"], progress=False,
        averaging=options["averaging"], keep=Keep(tmp_path, existing="resume"),
    )  # fmt: skip


def other_data() -> Any:
    data = problem()[2]
    x = data.x_train.copy()
    x[7, 2] += 1e-9
    return dataclasses.replace(data, x_train=x)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"net": mk.mlp([4, 5, 3], "relu")}, r"net\.layers\[1\]: ReLU\(\) here, Tanh\(\) there"),
        (
            {"net": mk.mlp([4, 5, 5, 3]), "theta": np.ones(73)},
            r"net\.layers: .* parameters: 73 here, 43 there",
        ),
        ({"dtype": np.float32}, "dtype: float32 here, float64 there"),
        ({"lr": 0.3}, r"optimizer\.lr: 0\.3 here, 0\.1 there"),
        ({"lr": schedules.Constant(0.1)}, r"optimizer\.lr: \{'kind': 'Constant', .* here, 0\.1 there"),
        ({"opt": optim.KFCPre}, r"optimizer\.kind: KFCPre here, SGD there"),
        ({"batch_size": 9}, "batch_size: 9 here, 8 there"),
        ({"seed": 1}, "seed: 1 here, 0 there"),
        ({"averaging": 100.0}, "averaging: 100.0 here, None there"),
        ({"data": other_data()}, r"dataset\.contents \(sha256\): "),
        ({"theta": np.ones(43)}, r"initial parameters \(sha256\): "),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    start(tmp_path)
    start(tmp_path)  # the same
    before = Keep(tmp_path).checkpoint.read_bytes(), Keep(tmp_path).records.read_bytes()
    with pytest.raises(ValueError, match=rf"expected a checkpoint of this run in .*run\.npz, got .*{named}"):
        start(tmp_path, **changes)
    assert before == (Keep(tmp_path).checkpoint.read_bytes(), Keep(tmp_path).records.read_bytes())


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(tmp_path)
    monkeypatch.setattr(describe, "__version__", "9.9")
    with pytest.raises(ValueError, match=rf"version: 9\.9 here, {mk.__version__} there"):
        start(tmp_path)
