"""Ranks together against one alone: the same numbers, under real MPI; and what happens when one fails."""

import contextlib
import dataclasses
import functools
import os
import re
import subprocess
import sys
import time
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikfac import cli, distributed, fisher, linalg, optim, parallel, races, training
from minikfac.distributed import Communicator, MPICommunicator, _packed, _unpacked
from minikfac.network import presets
from minikfac.races.contenders import contender
from minikfac.training import checkpoint
from minikfac.training.describe import describe
from minikfac.training.keep import Keep
from minikfac.training.loop import _refuse_other_parameters
from oracles import error, ranks, standin
from oracles.resumable import problem as points
from oracles.resumable import same
from robustness import record

ENDED = "rank 0 of 3: ConnectionError: expected all 3 ranks to go on together, got an end of rank 1 before"
SOON = 20.0
"""Seconds from the end of a rank to that of all, on a machine where each of them waits for a core."""
ESTIMATE, PARAMETERS = 1e-13, 1e-12  # relative, in float64


def several(size: int = 2, rank: int = 0) -> Communicator:
    """One of some ranks, where nobody else speaks."""
    comm = Communicator()
    comm.rank, comm.size = rank, size
    return comm


def started(n: int, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a Python command on n ranks to its end; a hang is an error."""
    whole, environment = distributed.mpirun(n, [sys.executable, "-W", "error", *command])
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    return subprocess.run(whole, env=environment, capture_output=True, text=True, timeout=300)


# under MPI ------------------------------------------------------------------------------------------------


@functools.cache
def alone() -> dict[str, np.ndarray]:
    before, parallel._CHUNK = parallel._CHUNK, ranks.SMALL
    try:
        return ranks.together(distributed.SERIAL)
    finally:
        parallel._CHUNK = before


@pytest.mark.mpi
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_ranks_find_what_one_finds(n, tmp_path):
    file, keep = tmp_path / "found.npz", Keep(tmp_path / "run", existing="resume")
    averaging = {"averaging": 2.0 * ranks.N}
    ranks.run(keep, 2, distributed.SERIAL, **averaging)
    run = started(n, "-m", "oracles.ranks", "exact", str(file), str(keep.folder))
    assert run.returncode == 0, run.stderr
    with np.load(file) as stored:
        results = dict(stored)

    errors = {name: error(results.pop(name), expected) for name, expected in alone().items()}
    assert len(errors) > 50
    wrong = {
        name: size
        for name, size in errors.items()
        if not size < (PARAMETERS if name.startswith("theta") else ESTIMATE)
    }
    assert not wrong

    assert results.pop("ranks that differ") == 0
    assert results.pop("steps in time") > 0  # the same on all, though their clocks are not
    first, second = (results.pop(f"same bits, inverses {how}") for how in ("by cost", "otherwise"))
    assert first.tobytes() == second.tobytes()

    # noise is that of examples: where each rank draws its own, factors are others
    other = error(results.pop("control: noise of ranks"), alone()["dense factors G2 with gradient"])
    assert (other < ESTIMATE) == (n == 1)

    # one rank, then n, then one again with inverses under way: as if it had always been one
    four = ranks.run(None, 4, distributed.SERIAL, **averaging)
    assert error(results.pop("resumed theta"), four.theta) < PARAMETERS
    assert error(results.pop("resumed average"), four.average) < PARAMETERS
    assert checkpoint.load(keep.checkpoint).state["pending"]["step"] == 4
    straight = ranks.run(None, 8, distributed.SERIAL, **averaging)
    resumed = ranks.run(keep, 8, distributed.SERIAL, **averaging)
    assert error(resumed.theta, straight.theta) < PARAMETERS
    assert error(resumed.average, straight.average) < PARAMETERS

    here = re.compile(r"expected the same on all ranks, got on rank 1 \(here\) and rank 0 \(there\): (.*)")
    what = {"data": "contents", "optimizer": "optimizer.lr", "dtype": "dtype"}
    what |= {name: name for name in ("seed", "steps", "averaging")}
    for name, field in what.items() if n > 1 else ():
        named = here.fullmatch(str(results.pop(f"refused {name}")))
        assert named, name
        assert field in named[1]
    if n > 1:
        assert "expected the same parameters on all ranks after step 2" in str(results.pop("refused drift"))
        assert "expected a net without batch normalization" in str(results.pop("refused statistics"))
    assert not results


COMMON_ENDS = [
    ("raises", 1, "rank 1 of 3: RuntimeError: there is no room for this"),
    ("exits", 1, ENDED),
    ("is killed", 137, "process rank 1 .*exited on signal 9"),
    ("leaves with 0", 1, 'exited without calling "finalize"'),
]
MORE_ENDS = [
    ("is interrupted", 1, "rank 1 of 3: KeyboardInterrupt"),
    ("exits with 3", 1, ENDED),
    ("returns", 1, ENDED),
    ("is terminated", 143, "process rank 1 .*exited on signal 15"),
    ("leaves with 3", 3, "exited with non-zero status"),
]


@pytest.mark.mpi
@pytest.mark.parametrize(("how", "code", "message"), COMMON_ENDS)
def test_a_rank_that_ends_ends_all_of_them(how, code, message, tmp_path):
    assert_all_end(how, code, message, tmp_path)


@pytest.mark.mpi
@pytest.mark.slow
def test_a_rank_ends_all_of_them_however_it_ends(tmp_path):
    cases = 3 * [*COMMON_ENDS, *MORE_ENDS]
    spent = [assert_all_end(*case, tmp_path / case[0]) for case in cases]
    counts = {"ends of a rank": len(spent), "different ends": len({how for how, *_ in cases})}
    counts |= {"runs that went on": 0, "most seconds until all had ended": round(max(spent), 1)}
    record.write("ranks", counts)


def assert_all_end(how, code, message, tmp_path):
    """Run three ranks of which one ends; return the seconds from then to the end of all."""
    run = started(3, "-m", "oracles.ranks", how, str(tmp_path))
    spent = time.time() - float(run.stdout.split()[0])
    assert spent < SOON
    assert run.returncode == code
    assert len(re.findall(message, run.stderr.replace("\n", " "))) == 1
    assert checkpoint.load(tmp_path / "run.npz").step == 3
    (tmp_path / "run.npz").unlink()
    (tmp_path / "run.jsonl").unlink()
    return spent


@pytest.mark.mpi
def test_the_command_goes_on_with_more_ranks(tmp_path):
    def train(n: int, *options: str) -> subprocess.CompletedProcess[str]:
        command = [
            "-m",
            "minikfac",
            "train",
            "--distributed",
            "--set",
            "T1=2",
            "--measure-every",
            "2",
        ]
        return started(n, *command, "--out", str(tmp_path / "ranks"), *options)

    two = train(2, "--steps", "2")
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("batches of 250 on 2 ranks") == 1

    again = train(2, "--steps", "4")
    assert again.returncode == 2
    assert len(re.findall("minikfac: rank 0 of 2: expected no checkpoint", again.stderr)) == 1

    three = train(3, "--steps", "4", "--resume")
    assert three.returncode == 0, three.stderr
    p = races.problem("digits-autoencoder")
    opt = dataclasses.replace(races.recipe("digits-autoencoder", "K-FAC").make(p.net), T1=2)
    averaging = races.recipe("digits-autoencoder", "K-FAC").averaging
    one = training.train(
        p.net, p.theta(0), opt, p.dataset, 4, p.batch_size, measure_every=2, averaging=averaging
    )
    stored = checkpoint.load(tmp_path / "ranks" / "run.npz")
    assert error(stored.theta, one.theta) < PARAMETERS
    assert error(stored.average, one.average) < PARAMETERS
    assert [record["step"] for record in stored.records] == [0, 2, 4]
    for column in ("loss", "loss_average"):
        assert np.isclose([record[column] for record in stored.records], one[column], rtol=ESTIMATE).all()


# the communicator -----------------------------------------------------------------------------------------


@given(st.integers(0, 50), st.integers(1, 9))
def test_each_example_is_one_rank_s(n, size):
    parts = [several(size, rank).rows(n) for rank in range(size)]
    assert [row for part in parts for row in range(n)[part]] == list(range(n))
    assert max(p.stop - p.start for p in parts) - min(p.stop - p.start for p in parts) <= 1


@given(st.lists(st.integers(0, 1000), max_size=12), st.integers(1, 5))
def test_the_work_of_ranks_is_balanced(costs, size):
    owners = several(size).owners(costs)
    loads = [sum(cost for cost, owner in zip(costs, owners, strict=True) if owner == r) for r in range(size)]
    # largest first is at most 4/3 of the best, and the best is no less than either of these
    least = max([sum(costs) / size, *costs]) if costs else 0
    assert sum(loads) == sum(costs)
    assert max(loads) <= least + sum(costs) / size


def test_the_most_expensive_task_is_alone():
    assert several(2).owners([1, 1, 9, 3, 4]) == [1, 1, 0, 1, 1]


def test_messages_arrive_in_the_same_bits():
    rng = np.random.default_rng(0)
    M = rng.standard_normal((5, 5))
    F = fisher.Kronecker([(M @ M.T, np.eye(2)), (M @ M.T + np.eye(5), np.eye(3))], ["a", "b"])
    value = {
        0: F.inverse(0.1, method="factored"),
        "columns": np.asfortranarray(M),
        "every other": M[::2, 1:].astype(np.float32),
        "none": (np.empty((0, 3)), np.array(2.5), None, "text", 3.0),
    }
    arrived = _unpacked(_packed(value))
    v = rng.standard_normal(F.shape[0])
    assert (arrived[0] @ v == value[0] @ v).all()
    assert arrived["columns"].flags.c_contiguous
    for name in ("columns", "every other"):
        assert (arrived[name] == value[name]).all()
        assert arrived[name].dtype == value[name].dtype
    assert arrived["none"][0].shape == (0, 3)
    assert arrived["none"][1:] == value["none"][1:]
    assert len(_packed({"M": np.zeros((1000, 1000))})) < 8e6 + 500  # bytes, not text


def test_what_a_run_is_made_of_travels():
    history = ranks.run(None, 4, distributed.SERIAL)
    sent = checkpoint.Checkpoint(history.theta, history.state, info={"nan": np.nan}, records=history.records)
    arrived = _unpacked(_packed(sent))
    assert type(arrived) is checkpoint.Checkpoint
    assert same(arrived.state, sent.state)
    assert arrived.records == sent.records
    assert np.isnan(arrived.info["nan"])
    assert _unpacked(_packed((np.float32(0.1), slice(1, None), {1: [True]}))) == (
        np.float32(0.1),
        slice(1, None),
        {1: [True]},
    )


def test_objects_of_others_do_not_travel():
    with pytest.raises(TypeError, match="expected arrays of numbers to send to other ranks"):
        _packed([np.array([None, "text"])])
    with pytest.raises(TypeError, match=r"expected plain data, arrays or objects of .* got Fraction"):
        _packed({"share": Fraction(1, 3)})


class Pretended:
    """An MPI with one more rank, which always says the same."""

    def __init__(self, kinds: str | None = None) -> None:
        self.info, self.sent = {"mpi_memory_alloc_kinds": kinds}, []

    def Get_rank(self) -> int:
        return 0

    def Get_size(self) -> int:
        return 2

    def Get_info(self) -> dict[str, str | None]:
        return self.info

    def Dup(self) -> "Pretended":
        return self

    def Ibarrier(self) -> "Pretended":
        return self

    def Test(self) -> bool:
        return True

    def Allreduce(self, in_place: str, buffer: Any) -> None:
        assert in_place == "in place"
        self.sent.append(buffer)
        buffer[...] = buffer + buffer


def test_one_message_sums_all_arrays_of_a_dtype():
    mpi = Pretended()
    arrays = [np.ones((2, 3)), np.float64(5.0), np.ones(4, np.float32), np.arange(6.0).reshape(2, 3).T]
    totals = MPICommunicator(mpi, "in place").sum(arrays)
    assert [buffer.shape for buffer in mpi.sent] == [(13,), (4,)]
    for total, array in zip(totals, arrays, strict=True):
        assert (total == 2 * array).all()
        assert total.shape == array.shape
        assert total.dtype == array.dtype


@pytest.mark.parametrize(("kinds", "through_host"), [(None, True), ("system,cuda:device", False)])
def test_device_arrays_may_go_through_the_host(kinds, through_host, monkeypatch):
    waited = []
    with standin.installed() as cupy:
        monkeypatch.setattr(
            cupy.cuda,
            "get_current_stream",
            lambda: type("Stream", (), {"synchronize": lambda self: waited.append(1)})(),
            raising=False,
        )
        mpi = Pretended(kinds)
        (total,) = MPICommunicator(mpi, "in place").sum([cupy.asarray(np.ones((2, 2)))])
        assert isinstance(mpi.sent[0], np.ndarray) == through_host
        assert bool(waited) == (not through_host)
        assert isinstance(total, standin.ndarray)
        assert (total.get() == 2).all()
        back = _unpacked(_packed([cupy.asarray(np.arange(3)), np.arange(3)]))
        assert [type(array) for array in back] == [standin.ndarray, np.ndarray]
        assert (back[0].get() == back[1]).all()


def test_device_arrays_arrive_on_the_gpu_at_work(monkeypatch):
    """Where ranks use the second GPU, nothing turns to the first."""
    with standin.installed() as cupy:
        message = _packed([cupy.asarray(np.arange(3))])
        monkeypatch.setattr(cupy.cuda, "Device", lambda number: pytest.fail(f"turned to GPU {number}"))
        (back,) = _unpacked(message)
        assert isinstance(back, standin.ndarray)
        assert (back.get() == np.arange(3)).all()


def test_without_a_second_thread_tasks_run_at_once():
    comm = MPICommunicator(Pretended(), "in place", threads=False)
    assert comm.in_background(lambda ranks: ranks).result() is comm
    comm = MPICommunicator(Pretended(), "in place")
    assert comm.in_background(lambda ranks: ranks).result() is not comm


def test_a_missing_library_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ImportError, match=r"expected mpi4py and an MPI library, got none.*openmpi"):
        distributed.world()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="expected mpirun on the PATH, got none"):
        distributed.mpirun(2, ["python"])


def test_what_was_set_for_mpirun_stays(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    command, environment = distributed.mpirun(3, ["python", "script.py"])
    assert command == ["/usr/bin/mpirun", "-n", "3", "python", "script.py"]
    assert environment["OMP_NUM_THREADS"] == "7"
    assert environment["OMPI_MCA_mpi_yield_when_idle"] == "1"


# what is refused ------------------------------------------------------------------------------------------


def test_optimizers_for_one_rank_refuse_several():
    net = points()[0].on(several())
    for make in (optim.HessianFree, optim.KrylovSubspace, lambda net: optim.LowRank(net, 0.1)):
        with pytest.raises(ValueError, match=r"expected a net on one rank, as \w+ does .*, got 2 ranks"):
            make(net)


@pytest.mark.parametrize("sizes", [(2, 1), (1, 2), (2, 2)])
def test_net_and_optimizer_on_other_ranks_are_refused(sizes):
    net, theta, data = points()
    mine, of_optimizer = (net.on(several(size)) for size in sizes)
    named = r"made from the net on the same ranks, got \w+\(rank=0, size=.*and, for SGD, \w+\(rank=0, size="
    with pytest.raises(ValueError, match=named):
        training.train(mine, theta, optim.SGD(of_optimizer, 0.1), data, 1, 20, progress=False)


def test_a_net_is_put_on_ranks_and_taken_off():
    net = points()[0]
    ranked = net.on(several(3))
    assert (net.comm.size, ranked.comm.size, ranked.on(distributed.SERIAL).comm.size) == (1, 3, 1)
    assert repr(ranked) == repr(net)
    assert ranked.layers is net.layers


def test_parameters_of_ranks_that_part_are_refused():
    at = checkpoint.Checkpoint(np.zeros(3), {}, step=7)
    comm = several(3)
    comm.gather = lambda value: [value, value, "another"]  # type: ignore[method-assign, list-item]
    with pytest.raises(RuntimeError, match=r"the same parameters on all ranks after step 7, got .* rank 2"):
        _refuse_other_parameters(comm, at)


def test_many_differences_of_a_rank_are_counted():
    comm = several(2)
    comm.gather = lambda value: [value, "another"]  # type: ignore[method-assign, list-item]
    with pytest.raises(ValueError, match=r"got on rank 1 .*: a; b; c and 2 more"):
        distributed.refuse_differences(comm, "this", lambda here, there: list("abcde"))


def test_mpirun_without_distributed_is_refused(monkeypatch, capsys):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    assert cli.run(["train"]) == 2
    assert "expected --distributed under mpirun, got 2 runs of the same" in capsys.readouterr().err


def test_the_ranks_are_no_setting_of_a_run():
    nets = [points()[0].on(several(size)) for size in (2, 3)]
    for described in ([describe(net) for net in nets], [describe(optim.KFAC(net)) for net in nets]):
        assert described[0] == described[1]
    with pytest.raises(ValueError, match=r"expected arguments of K-FAC among .*curvature, got comm"):
        contender("kfac").make(nets[0], comm=several())


# stale inverses -------------------------------------------------------------------------------------------


def path_of(opt: Any, count: int) -> list[tuple[np.ndarray, dict[str, Any], dict[str, float]]]:
    """Parameters, state and info after each step on whole batches."""
    _, theta, data = points()
    state, path = opt.init(theta), []
    for k in range(count):
        batch = data.x_train, data.y_train
        theta, state, info = opt.step(theta, state, batch, np.random.default_rng([0, k]))
        path.append((theta, state, info))
    return path


def inverse_of(F: list[tuple[np.ndarray, ...]], damping: float) -> np.ndarray:
    return fisher.Kronecker(F).inverse(damping, method="factored").to_dense()


KFC = optim.KFCPre(points()[0], 0.1, damping=0.1, Tf=4)
WHOLE = optim.KFAC(points()[0], T1=2, T2=8, T3=4)


@pytest.mark.parametrize("age", [0, 1, 3])
def test_inverses_come_so_many_steps_late(age):
    path = path_of(dataclasses.replace(KFC, max_age=age), 10)
    factors = [state["factors"] for _, state, _ in path]
    # the first three steps wait; those of the factors of steps 5 and 9 (indices 4 and 8) come so much later
    for index, (_, state, info) in enumerate(path):
        of = max([begun for begun in (4, 8) if index >= begun + age], default=min(index, 2))
        assert error(state["inverse"].to_dense(), inverse_of(factors[of], 0.1)) < 1e-12
        assert info.get("age") == (index - of if age else None)


def test_a_choice_of_gamma_waits_with_its_inverses():
    path = path_of(dataclasses.replace(WHOLE, max_age=2), 18)
    ages = [info["age"] for *_, info in path]
    assert ages == [0, 0, 0, 1, 2, 2, 3, 4, 5, 2, 3, 4, 5, 2, 3, 4, 5, 2]
    gammas = [info["gamma"] for *_, info in path]
    changed = [k for k in range(2, 19) if gammas[k - 1] != gammas[k - 2]]
    assert set(changed) <= {10, 18}  # asked for in steps 8 and 16
    assert changed


@pytest.mark.parametrize("opt", [KFC, WHOLE])
def test_stale_steps_differ_from_the_first_late_inverse_on(opt):
    fresh, stale = (path_of(dataclasses.replace(opt, max_age=age), 8) for age in (0, 2))
    late = next(k for k in range(8) if fresh[k][0].tobytes() != stale[k][0].tobytes())
    assert late == (4 if opt is KFC else 3)  # the fifth step of KFC-pre, the fourth of K-FAC


@pytest.mark.parametrize("opt", [KFC, WHOLE])
@pytest.mark.parametrize("stop", [5, 6])
def test_a_run_is_resumed_with_inverses_under_way(opt, stop, tmp_path):
    net, theta, data = points()
    opt = dataclasses.replace(opt, max_age=3)
    whole = training.train(net, theta, opt, data, 11, 20, progress=False)
    keep = Keep(tmp_path, existing="resume")
    half = training.train(net, theta, opt, data, stop, 20, progress=False, keep=keep)
    assert half.state["pending"] is not None
    rest = training.train(net, theta, opt, data, 11, 20, progress=False, keep=keep)
    assert rest.theta.tobytes() == whole.theta.tobytes()


def test_inverses_are_found_in_the_second_thread():
    taken = []

    class Watched(Communicator):
        def in_background(self, task: Any) -> Any:
            taken.append(super().in_background(task))
            return taken[-1]

    watched = dataclasses.replace(KFC, net=KFC.net.on(Watched()))
    path_of(dataclasses.replace(watched, max_age=2), 8)
    assert len(taken) == 1  # asked for in step 5; those of step 1 are waited for
    assert taken[0].done()
    path_of(watched, 8)
    assert len(taken) == 1


def test_ages_that_do_not_fit_are_refused():
    net = points()[0]
    for wrong in (-1, 4, 5):
        with pytest.raises(ValueError, match=f"expected max_age from 0 to Tf - 1 = 3, got {wrong}"):
            optim.KFCPre(net, 0.1, Tf=4, max_age=wrong)
    with pytest.raises(ValueError, match="expected max_age from 0 to T3 - 1 = 19, got 20"):
        optim.KFAC(net, max_age=20)
    with pytest.raises(ValueError, match="expected T2 in multiples of T3 with max_age, got 20 and 8"):
        optim.KFAC(net, T3=8, max_age=1)


def test_a_singular_factor_is_named_when_due():
    net, theta, data = points()
    opt = optim.KFCPre(net, 0.1, damping=0.1, Tf=2, max_age=1)
    state = opt.init(theta)
    for k in range(2):
        theta, state, _ = opt.step(theta, state, (data.x_train, data.y_train), np.random.default_rng(k))
    nan = [(np.nan * A, G) for A, G in state["factors"]]
    with pytest.raises(ValueError, match="expected finite numbers in A of"):
        for k in range(2):
            theta, state, _ = opt.step(
                theta, state | {"factors": nan}, (data.x_train, data.y_train), np.random.default_rng(k)
            )


def test_inverses_cost_what_their_matrices_cost():
    """A diagonal counts for little beside a dense block of its size, a Kronecker product for its factors."""
    net = presets.mlp([30, 20, 3])
    rng = np.random.default_rng(0)
    signals = fisher.signals(net, net.init(rng), rng.standard_normal((8, 30)))
    dense, kron, diagonal = (
        fisher.mixed(signals, {0: kind, 1: "kfac"}).blocks[0].inverse_cost
        for kind in ("exact", "kfac", "diagonal")
    )
    assert dense == pytest.approx((31 * 20) ** 3)
    assert 31**3 + 20**3 <= kron <= 2**0.5 * (31**3 + 20**3)
    assert diagonal < kron < dense


def test_what_is_singular_on_one_rank_is_an_error_on_all():
    """So that all of them take more damping and go on together."""
    F = fisher.Kronecker([(np.eye(3), np.eye(2)), (np.zeros((2, 2)), np.eye(2))])
    sent = []
    for rank in (0, 1):
        comm = several(2, rank)
        comm.gather = lambda mine: (sent.append(mine), [mine])[1]  # nobody else's
        with contextlib.suppress(KeyError, linalg.SingularMatrixError):
            F.inverse(0.0, comm=comm)
    assert sorted(key for mine in sent for key in mine) == [0, 1]
    for rank in (0, 1):
        comm = several(2, rank)
        comm.gather = lambda _mine: sent
        with pytest.raises(linalg.SingularMatrixError, match=r"A of layer1 .* has numerical rank 0"):
            F.inverse(0.0, comm=comm)
