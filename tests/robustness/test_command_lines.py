"""Each wrong command line ends with exit code 2 and one line, before any work."""

import io
import os
import random
import shutil
import subprocess
import sys
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import pytest

from minikfac import cli
from minikfac.training import records
from robustness import record
from robustness.command_lines import SMALL, lines

FEW, REAL = 120, 50
"""Lines of the default run; those that are tried in a process of their own, too."""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    rows = [{"step": k, "seconds": 1.0 * k, "examples": 9 * k, "loss": 3.0 - k} for k in range(3)]
    records.write(tmp_path / "a.jsonl", {"seed": 0}, rows)
    return tmp_path


LONG = {"tour": "tour.tour", "figures": "tour.tour", "invariance": "invariance.study.full_study"}
"""Work of minutes, which a line that is not refused begins."""


def outcome(line):
    """The exit code, and what stands on standard error but for lines of progress of a training."""
    err = io.StringIO()
    at_work = patch(f"minikfac.{LONG[line[0]]}", no_work) if line[0] in LONG else nullcontext()
    with redirect_stdout(io.StringIO()), redirect_stderr(err), at_work:
        code = cli.run(list(line))
    for folder in Path().glob("minikfac-*/"):  # or the next line would be refused for that
        shutil.rmtree(folder)
    return code, [text for text in err.getvalue().splitlines() if not text.startswith("training: ")]


def no_work(*_, **__):
    pytest.fail("the work began")


def is_refused(code, err):
    return code == 2 and len(err) == 1 and err[0].startswith("minikfac: ")


def sample(count):
    return random.Random(0).sample(lines(), count)


def test_lines_are_of_every_command_and_option():
    made = lines()
    assert len(made) == len(set(made)) >= 1000
    assert {line[0] for line in made} == {*cli.COMMANDS} - {"data"}


@pytest.mark.parametrize("command", SMALL)
def test_without_the_wrong_option_a_line_is_right(here, command):
    assert outcome((command, *SMALL[command]))[0] == 0


def test_some_wrong_command_lines_end_in_one_line(here):
    wrong = {line: got for line in sample(FEW) if not is_refused(*(got := outcome(line)))}
    assert not wrong


@pytest.mark.slow
def test_all_wrong_command_lines_end_in_one_line(here):
    wrong = {line: got for line in lines() if not is_refused(*(got := outcome(line)))}
    assert not wrong
    counts = {"commands": len({line[0] for line in lines()}), "lines": len(lines())}
    counts |= {"not refused in one line": 0, "also in a process each": REAL}
    record.write("wrong_command_lines", counts)


@pytest.mark.slow
def test_wrong_command_lines_of_real_processes_end_in_one_line(here):
    for line in sample(REAL):
        command = [sys.executable, "-m", "minikfac", *map(os.fsencode, line)]
        done = subprocess.run(command, capture_output=True)
        err = [text for text in done.stderr.decode().splitlines() if not text.startswith("training: ")]
        assert is_refused(done.returncode, err), (line, done)
    assert not list(here.rglob("*.np[yz]"))
