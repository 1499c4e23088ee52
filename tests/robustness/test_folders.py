"""Folders in which runs are killed, or meet others: what is there is of one run, and whole."""

import collections
import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from minikfac import cli
from minikfac.parallel import one_thread
from minikfac.training import checkpoint, records
from minikfac.training.keep import Keep
from minikfac.writing import replaced_at_once, sole_writer
from oracles.resumable import EVERY, JOBS, STEPS, run, same
from robustness import record

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills by a signal")

SHORT, LONG = 0, pytest.param(1, marks=pytest.mark.slow)
"""How much is tried: a dozen cases, or hundreds, whose counts are recorded."""


def children(*arguments: Any) -> list[tuple[int, ...]]:
    """Run the script that works in children, and return the numbers that it prints."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-u", "-m", "oracles.resumable", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return [tuple(map(int, line.split())) for line in done.stdout.splitlines()]


def untimed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def left_in(folder: Path) -> dict[str, Any]:
    """All that work leaves in a folder, but for the times."""
    left: dict[str, Any] = {}
    for path in folder.iterdir():
        if path.suffix == ".npz":
            stored = checkpoint.load(path)
            left[path.name] = [stored.step, stored.theta.tobytes(), stored.state, untimed(stored.records)]
        else:
            left[path.name] = records.encoded(untimed(records.read(path).records))  # NaN is not NaN
    return left


# killed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extent", [SHORT, LONG])
@one_thread()  # as the children have it: another number may round differently
def test_killed_work_ends_in_the_same_bits(extent, tmp_path):
    seeds, rounds = ((2, 4), (60, 8))[extent]
    counts = {}
    killed = children("at-random", tmp_path / "train", seeds, rounds)
    counts["train"] = sum(by_signal for _, _, by_signal in killed)
    run(Keep(tmp_path / "whole"))
    for seed in range(seeds):
        run(Keep(tmp_path / "train" / str(seed), every=EVERY, existing="resume"))
        assert same(left_in(tmp_path / "train" / str(seed)), left_in(tmp_path / "whole"))
    for name, job in JOBS.items():
        seeds, rounds = ((1, 3), (30, 3))[extent]
        counts[name] = sum(
            by_signal for _, by_signal in children("at-times", tmp_path / name, seeds, rounds, name)
        )
        job(tmp_path / f"{name} whole")
        for seed in range(seeds):
            job(tmp_path / name / str(seed), "resume")
            assert same(left_in(tmp_path / name / str(seed)), left_in(tmp_path / f"{name} whole"))
    assert sum(counts.values()) >= (8, 300)[extent], counts
    assert all(counts.values()), counts
    if extent:
        record.write("killed_runs", {"killed": counts, "ended in other bits": 0})


def test_a_lock_that_a_killed_run_leaves_locks_nobody_out(tmp_path):
    code = "import sys\nfrom minikfac.writing import sole_writer\n"
    code += "with sole_writer(sys.argv[1]):\n    print(flush=True)\n    input()"
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with pytest.raises(
            FileExistsError, match=r"expected no other run that writes in .*, got one at work"
        ):
            with sole_writer(tmp_path):
                pass
        process.send_signal(signal.SIGKILL)
    assert [path.name for path in tmp_path.iterdir()] == [".minikfac.lock"]
    with sole_writer(tmp_path), sole_writer(tmp_path):  # twice in one process
        pass
    assert not list(tmp_path.iterdir())


# two writers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extent", [SHORT, LONG])
@one_thread()
def test_of_two_runs_at_once_in_a_folder_one_wins(extent, tmp_path):
    count, loads = ((3, 50), (100, 10_000))[extent]
    codes = children("pairs", tmp_path / "pairs", count)
    assert [sorted(pair) for pair in codes] == [[0, 3]] * count
    run(Keep(tmp_path / "whole"))
    for number in range(count):
        assert same(left_in(tmp_path / "pairs" / str(number)), left_in(tmp_path / "whole"))

    loaded = children("beside", tmp_path / "beside", loads)
    of_seeds = collections.Counter(seed for seed, _ in loaded)
    assert set(of_seeds) == {5, 6}, of_seeds
    assert len({step for _, step in loaded}) > STEPS / 2
    if extent:
        counts = {"pairs": count, "pairs of which not one wins": 0}
        counts |= {"loads beside two writers": len(loaded), "loads with contents of both": of_seeds[-1]}
        record.write("two_writers", counts)


def test_of_two_commands_in_a_folder_the_second_ends_at_once(tmp_path):
    command = [sys.executable, "-m", "minikfac", "train", "--steps", "100000", "--out", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as first:
        while not (tmp_path / "run.npz").exists() and first.poll() is None:
            time.sleep(0.01)
        for other in (["train", "--overwrite"], ["compare", "--overwrite"], ["tour"], ["fisher", "--save"]):
            option = [] if other[-1] == "--save" else ["--out"]
            assert cli.run([*other, *option, str(tmp_path)]) == 2
        first.send_signal(signal.SIGKILL)
    assert checkpoint.load(tmp_path / "run.npz").theta.shape == (3934,)


def test_records_without_a_checkpoint_are_not_replaced(tmp_path, capsys):
    run(Keep(tmp_path))
    (tmp_path / "run.npz").unlink()
    before = (tmp_path / "run.jsonl").read_bytes()
    with pytest.raises(FileExistsError, match=r"expected no records in .* without a checkpoint, got some"):
        run(Keep(tmp_path))
    with pytest.raises(FileExistsError, match="replace them, or choose another folder or name"):
        run(Keep(tmp_path, existing="resume"))
    assert cli.run(["train", "--steps", "1", "--out", str(tmp_path)]) == 2
    assert "expected no file of records in" in capsys.readouterr().err
    assert (tmp_path / "run.jsonl").read_bytes() == before
    run(Keep(tmp_path, existing="replace"))


def test_what_a_killed_process_had_begun_to_write_is_removed(tmp_path):
    for name in ("run.npz.0123456789abcdef.tmp", "run.jsonl.0123456789abcdef.tmp"):
        (tmp_path / name).touch()
    others = {"other.npz.0123456789abcdef.tmp", "run.tmp", "run.npz.mine.tmp"}
    for name in others:
        (tmp_path / name).touch()
    run(Keep(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"run.npz", "run.jsonl"} | others


def test_writers_of_one_file_have_names_of_their_own(tmp_path):
    with replaced_at_once(tmp_path / "a") as first:
        with replaced_at_once(tmp_path / "a") as second:
            second.write(b"second")
        first.write(b"first")
        assert (tmp_path / "a").read_bytes() == b"second"
    assert (tmp_path / "a").read_bytes() == b"first"


# what cannot be written -------------------------------------------------------------------------------


@pytest.fixture
def closed(tmp_path, monkeypatch):
    """A folder in which nothing can be written; for the superuser, whom rights do not bind, by pretence."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    if os.geteuid() == 0:
        real = tempfile.TemporaryFile

        def refused(*arguments, dir=None, **options):
            if Path(dir).resolve() == folder.resolve():
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(dir))
            return real(*arguments, dir=dir, **options)

        monkeypatch.setattr("minikfac.writing.tempfile.TemporaryFile", refused)
    return folder


OUTPUTS = [
    ["tour", "--out"],
    ["figures", "--out"],
    ["train", "--out"],
    ["compare", "--out"],
    ["scaling", "--out"],
]
OUTPUTS += [
    ["invariance", "--out"],
    ["fisher", "--save"],
    ["plot", "none.jsonl", "--out"],
    ["workers", "--out"],
]


@pytest.mark.parametrize("command", OUTPUTS, ids=lambda command: command[0])
def test_an_output_that_cannot_be_written_is_known_before_the_work(
    command, tmp_path, closed, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    name = "a.png" if command[0] in ("plot", "workers") else ""
    (tmp_path / "blocked" / "report.html").mkdir(parents=True)
    (tmp_path / "blocked" / "a.png").mkdir()
    monkeypatch.setattr("minikfac.tour.tour", None)  # called, these would be a TypeError with another message
    monkeypatch.setattr("minikfac.invariance.study.full_study", None)
    in_the_way = command[0] in ("tour", "plot", "workers")  # a folder in the place of what they write
    for folder in ("blocked", closed.name) if in_the_way else (closed.name,):
        assert cli.run([*command, str(Path(folder) / name)]) == 2
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1
        assert folder in err
        assert "expected" in err
