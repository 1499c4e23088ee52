"""The command line: what it prints, and one line for each error."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import minikfac
from minikfac import cli
from minikfac.cli import fisher, nets
from minikfac.tour import CHAPTERS
from oracles.cli import one_line, run


@pytest.fixture
def data_file(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4))
    path = tmp_path / "own.npz"
    np.savez(path, x=x, y=(x[:, 0] > 0).astype(int))
    return path


QUICK = ["--net", "64-6-10", "--steps", "5", "--examples", "30"]


# what works ----------------------------------------------------------------------------------------------


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"minikfac {minikfac.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "minikfac tour"),
        (["--help"], "fisher"),
        (["tour", "--help"], "Example: minikfac tour"),
        (["fisher", "--help"], "Example: minikfac fisher --net"),
        (["figures", "--help"], "Example: minikfac figures"),
        (["data"], "Example: minikfac data"),
        (["data", "fetch", "--help"], "Example: minikfac data fetch"),
        (["data", "check", "--help"], "Example: minikfac data check"),
    ],
)
def test_help_teaches(capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, err) == (0, "")
    assert expected in out


@pytest.mark.parametrize("name", ["tour", "plot", "workers"])
def test_paragraphs_of_help_flow(name: str) -> None:
    assert "\n" not in (cli.command(name).help or "\n").replace("\n\n", "")


def test_help_names_every_approximation_and_measure() -> None:
    from minikfac.quality import MEASURES
    from minikfac.tour import APPROXIMATIONS

    assert all(name in fisher.APPROXIMATIONS_HELP for name in APPROXIMATIONS)
    assert all(name in fisher.MEASURES_HELP for name in MEASURES)


def test_a_study_prints_table_and_ledger(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "fisher", *QUICK, "--approximations", "kfac,Diagonal")
    assert code == 0
    assert "460 parameters" in out and "K-FAC" in out and "no correlations between layers" in out
    assert "block-tridiagonal" not in out
    assert "\x1b" not in out and "\x1b" not in err and "\r" not in err


def test_a_study_of_ones_own_data_is_saved(
    capsys: pytest.CaptureFixture[str], data_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    arguments = ["--data", str(data_file), "--steps", "5", "--net", "4-3-2", "--approximations", "kfac"]
    code, out, _ = run(capsys, "fisher", *arguments, "--save", str(folder), "--dtype", "float32")
    assert code == 0 and f"Report: {folder / 'report.html'}" in out
    stored = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert stored["data"]["name"] == "own" and stored["settings"]["dtype"] == "float32"
    assert (folder / "quality.csv").read_text(encoding="utf-8").startswith("approximation,layer,error")
    assert (folder / "quality.png").is_file()


CONV = ["--net", "conv-2-3", "--steps", "2", "--examples", "12"]


def test_a_study_of_a_convolutional_net(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "fisher", *CONV, "--pool", "avg", "--measures", "matrix")
    assert code == 0 and "net conv 2-3, avg-pooling, 207 parameters" in out
    for row in ("SUD: ", "IAD: ", "IAD + SUD", "IAD + SH: ", "IAD + SH + SUD: KFC", "KFAC-reduce", "T x KFC"):
        assert row in out
    assert re.search(r"\(5\) IAD \+ SUD +\(4\) ", out)  # added to the fourth row, IAD
    assert "Not built: block-tridiagonal; it exists for chains of dense layers only" in out
    assert "low rank;" not in out  # there are few parameters


def test_chosen_approximations_of_a_part_of_a_convolutional_net(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--approximations", "kfacreduce,txkfc", "--layers", "middle", "--measures", "matrix"]
    code, out, _ = run(capsys, "fisher", *CONV, *arguments)
    assert code == 0 and "57 parameters" in out and "Not built" not in out
    table = out[: out.index("What each assumption")]
    assert "KFAC-reduce" in table and "T x KFC" in table and "EKFAC" not in table


def test_a_report_of_a_convolutional_net(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(capsys, "fisher", *CONV, "--measures", "matrix", "--save", str(tmp_path))
    assert code == 0 and "The block of conv0 alone" in out and "The block of conv1 alone" in out
    assert (tmp_path / "conv-autocorrelation.png").is_file()
    stored = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert stored["settings"]["channels"] == [2, 3] and stored["settings"]["sizes"] == []
    assert set(stored["convolutions"]["maps"]) == {"max", "avg"}


def test_large_sets_of_images_are_cut_short_for_a_convolutional_net(monkeypatch: pytest.MonkeyPatch) -> None:
    from minikfac import datasets

    x = np.random.default_rng(0).random((30, 4, 4, 1))
    mine = datasets.Dataset(x, np.arange(30) % 10, x, np.arange(30) % 10, "mine")
    options_of_calls: list[dict[str, object]] = []

    def load(data: str, folder: Path | None, **options: object) -> datasets.Dataset:
        options_of_calls.append(options)
        return mine

    monkeypatch.setattr("minikfac.datasets.load", load)
    monkeypatch.setattr(nets, "FEW", (20, 5))
    cut = nets.load("usps", None, None, "conv", "float32")
    assert (len(cut.x_train), len(cut.x_test)) == (20, 5)
    assert len(nets.load("usps", None, None, None, "float32").x_train) == 30
    nets.load("cifar10", None, None, "conv-3", "float64")
    nets.load("mnist", None, None, "conv", "float64")
    assert options_of_calls == [
        {"dtype": "float32", "images": True},
        {"dtype": "float32", "images": False},
        {"dtype": "float64", "images": True, "n_train": 20, "n_test": 5},
        {"dtype": "float64", "images": True, "size": 16},
    ]


def test_nets_that_fit_the_data_by_default(capsys: pytest.CaptureFixture[str], data_file: Path) -> None:
    arguments = ["--data", str(data_file), "--steps", "0", "--approximations", "kfac", "--layers", "0"]
    code, out, _ = run(capsys, "fisher", *arguments)
    assert code == 0 and "net 4-20-20-20-20-20-2, 100 parameters" in out


def test_the_default_net_for_usps_is_that_of_the_paper() -> None:
    """Its default net has the paper's 7,030 parameters; the study itself takes most of a minute."""
    from minikfac.datasets import Dataset

    x = np.random.default_rng(0).random((30, 256))
    data = Dataset(x, np.arange(30) % 10, x, np.arange(30) % 10, "usps")
    settings = fisher.settings_for(data)
    assert minikfac.mlp(settings.sizes).n_params == 7030


def test_mnist_is_loaded_at_the_size_that_the_net_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    options_of_calls: list[dict[str, object]] = []
    monkeypatch.setattr(
        "minikfac.datasets.load", lambda data, folder, **options: options_of_calls.append(options)
    )
    for net in (None, "784-10", "100-10", "99-10"):
        nets.load("mnist", None, None, net, "float64")
    assert [options["size"] for options in options_of_calls] == [16, 28, 10, 28]


def test_data_sets_are_listed_and_checked(capsys: pytest.CaptureFixture[str], data_file: Path) -> None:
    code, out, _ = run(capsys, "data", "list")
    assert code == 0 and all(name in out for name in ("digits  (bundled)", "mnist", "usps"))
    code, out, _ = run(capsys, "data", "check", "digits")
    assert code == 0 and "ok" in out
    code, out, _ = run(capsys, "data", "fetch", "digits")
    assert code == 0 and out.startswith("digits: ")
    assert run(capsys, "data", "check", str(data_file))[0] == 0


# what does not -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--net", "64-x-10"], "expected --net as units per layer, such as 64-20-10, got '64-x-10'"),
        (["--net", "64"], "expected --net as units per layer"),
        (["--net", "64-0-10"], "at least one unit per layer, got '64-0-10'"),
        (["--net", "32-10"], "expected a net with 64 inputs, as digits has, got one with 32"),
        (["--net", "64-9"], "expected a net with 10 outputs, one per class of digits, got 9"),
        (["--activation", "foo"], "softplus, tanh, got 'foo'"),
        (["--output", "foo"], "expected one of bernoulli, categorical, gaussian, got 'foo'"),
        (["--approximations", "kfac,foo"], "among block-diagonal, K-FAC, "),
        (["--approximations", ","], "got none"),
        (["--measures", "foo"], "expected --measures among matrix, spectral, "),
        (["--targets", "foo"], "expected targets 'model' or 'sampled' or 'data', got 'foo'"),
        (["--damping", "-1"], "expected damping > 0, got -1"),
        (["--examples", "0"], "expected examples from 1 to 1500, the training part of digits, got 0"),
        (["--steps", "-3"], "expected steps to be a whole number >= 0, got -3"),
        (["--lr", "0"], "expected lr > 0, got 0"),
        (["--layers", "1-9"], "of layers 0 to 5; got '1-9'"),
        (["--layers", "3-1"], "got '3-1'"),
        (["--net", "64-10", "--layers", "middle"], "three layers or more"),
        (["--net", "conv-x"], "expected --net conv, or maps per convolution as in conv-4-8, got 'conv-x'"),
        (["--net", "conv-0-3"], "channels of one convolution or more"),
        (
            ["--net", "conv-2-2-2-2"],
            "images of at least 2 x 2 pixels to pool, got [2, 2, 2, 2] for images of 8 x 8",
        ),
        (["--net", "conv", "--layers", "3"], "of layers 0 to 2; got '3'"),
        (["--net", "conv", "--pool", "median"], "expected --pool max or avg, got 'median'"),
        (["--pool", "avg"], "expected --pool only with --net conv, got --net None"),
        (["--net", "conv", "--components", "16"], "--components only with --data digits and dense layers"),
        (
            ["--net", "conv", "--approximations", "block-tridiagonal"],
            "which exists for chains of dense layers only",
        ),
        (["--dtype", "float16"], "expected --dtype float64 or float32, got 'float16'"),
        (["--components", "99"], "whole number from 1 to 61, got 99"),
        (["--data", "usps", "--components", "3"], "--components only with --data digits"),
        (["--data", "foo"], "svhn, curves or the path of an .npz file, got 'foo'"),
        (["--data", "usps", "--folder", "no/such/folder"], "got no/such/folder"),
        (["--data", "none.npz"], "got no file none.npz"),
        (["--net", "64-5000-5000-10"], "GiB are free; use --layers (one of them, as in 2), a smaller --net"),
        (["--bogus"], "--bogus"),
        (["--seed", "x"], "--seed"),
    ],
)
def test_wrong_input_ends_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code, out, err = run(capsys, "fisher", *arguments)
    assert (code, out) == (2, "")
    assert message in one_line(err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frobnicate"], "No such command 'frobnicate'. minikfac --help lists"),
        (["tour", "extra"], "extra"),
        (["figures", "--format", "gif"], "expected --format among png, svg, pdf, got 'gif'"),
        (["figures", "--slide", "blue"], "expected --slide light or dark, got 'blue'"),
        (["data", "fetch", "foo"], "expected one of digits, mnist, usps"),
        (["data", "fetch"], "NAME"),
    ],
)
def test_wrong_commands_end_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code, _, err = run(capsys, *arguments)
    assert code == 2 and message.lower() in one_line(err).lower()


def test_what_is_no_image_is_refused_for_a_convolutional_net(
    capsys: pytest.CaptureFixture[str], data_file: Path
) -> None:
    code, _, err = run(capsys, "fisher", "--data", str(data_file), "--net", "conv")
    assert code == 2 and "own" in one_line(err) and "image" in one_line(err)


def test_damaged_files_are_named(capsys: pytest.CaptureFixture[str], data_file: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(data_file.read_bytes()[:200])
    code, _, err = run(capsys, "fisher", "--data", str(damaged))
    assert code == 2 and "damaged.npz" in one_line(err)
    code, out, err = run(capsys, "data", "check", str(damaged))
    assert code == 2 and "broken" in out and "1 of 1 files" in one_line(err)


def test_a_folder_that_cannot_be_made_is_known_before_the_work(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    started = time.perf_counter()
    for command in ("tour", "figures"):
        code, _, err = run(capsys, command, "--out", str(file / "folder"))
        assert code == 2 and str(file) in one_line(err)
    code, _, err = run(capsys, "fisher", "--save", str(file))
    assert code == 2 and str(file) in one_line(err)
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(("choice", "whole"), [(["--all"], True), ([], True), (["--net-only"], False)])
def test_figures_are_those_of_all_studies_or_of_the_net(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    choice: list[str],
    whole: bool,
) -> None:
    chapters = []

    def tour(dataset: Any, settings: Any) -> Any:
        chapters.append(settings.chapters)
        return SimpleNamespace(figures=lambda: {"ledger": None})

    def save_all(drawings: Any, folder: Path, image_format: str, slide: str, scale: int) -> Any:
        assert list(drawings) == ["ledger"] and (slide, scale) == ("dark", 2)
        yield "ledger", folder / f"ledger.{image_format}"

    monkeypatch.setattr("minikfac.tour.tour", tour)
    moved = []

    def animate(drawings: Any, folder: Path) -> Any:
        moved.append(folder)
        yield "valley", folder / "valley.gif"

    monkeypatch.setattr("minikfac.tour.page.save_all", save_all)
    monkeypatch.setattr("minikfac.tour.animations.animate", animate)
    more = ["--animations"] if whole else []
    code, out, _ = run(
        capsys, "figures", *choice, *more, "--slide", "dark", "--out", str(tmp_path / "slides")
    )
    assert moved == [tmp_path / "slides"] * whole
    assert code == 0 and "slides" in out.replace("\n", "")
    assert chapters == [tuple(CHAPTERS) if whole else None]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConnectionError("no network"), "no network"),
        (ImportError("no pooch"), "no pooch"),
        (KeyError("expected a layer"), "expected a layer"),
        (MemoryError(), "MemoryError"),
        (TypeError("two\nlines"), "two lines"),
        (FloatingPointError("not finite"), "not finite"),
        (FileNotFoundError(2, "No such file or directory", "x.npz"), "x.npz: No such file or directory"),
    ],
)
def test_what_parts_raise_becomes_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    def fail(name: str) -> None:
        raise error

    monkeypatch.setattr("minikfac.datasets.fetch", fail)
    assert run(capsys, "data", "fetch", "usps") == (2, "", f"minikfac: {line}\n")
    with pytest.raises(type(error)):
        cli.run(["data", "fetch", "usps", "--debug"])


def test_a_bug_is_no_wrong_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise AssertionError

    monkeypatch.setattr("minikfac.datasets.fetch", fail)
    with pytest.raises(AssertionError):
        cli.run(["data", "fetch", "usps"])


def test_an_interrupt_ends_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("minikfac.datasets.fetch", interrupt)
    code, _, err = run(capsys, "data", "fetch", "usps")
    assert code == 130 and err.strip() == "minikfac: interrupted"


def interruptible(command: list[str]) -> subprocess.Popen[str]:
    """Start a command that Ctrl-C ends, also where the tests themselves ignore it, as under nohup."""

    def restore() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, preexec_fn=restore, **pipes)


@pytest.mark.skipif(os.name == "nt", reason="other signals")
@pytest.mark.parametrize("module", ["_on_demand", "linalg", "cli.common", "cli.workers", "plots"])
def test_control_c_while_modules_are_imported(module: str, tmp_path: Path) -> None:
    """The command stops itself where it begins to import one, is interrupted there, and goes on."""
    (tmp_path / "sitecustomize.py").write_text(f"""
import os, signal, sys
class Stops:
    def find_spec(self, name, *_):
        if name == "minikfac.{module}":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Stops())
""")
    before = os.environ.get("PYTHONPATH", "")
    code = f"import os, sys; os.environ['PYTHONPATH'] = {str(tmp_path)!r} + os.pathsep + {before!r}; "
    code += "os.execv(sys.executable, [sys.executable, '-m', 'minikfac', 'workers', '--problem', 'digits'])"
    with interruptible([sys.executable, "-c", code]) as process:
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "minikfac: interrupted\n")


@pytest.mark.skipif(os.name == "nt", reason="other signals")
def test_control_c_in_the_middle_of_the_work(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "minikfac", "tour", "--out", str(tmp_path)]
    with interruptible(command) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("training: ")  # the matrices are being built
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "minikfac: interrupted\n"


def test_a_terminal_without_letters_and_colours() -> None:
    surroundings = {**os.environ, "PYTHONIOENCODING": "ascii", "TERM": "dumb", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "minikfac", "fisher", *QUICK, "--approximations", "kfac"]
    done = subprocess.run(command, capture_output=True, env=surroundings, check=True)
    done.stdout.decode("ascii")
    assert b"\x1b" not in done.stdout + done.stderr
    assert b"K-FAC" in done.stdout


# outputs and names ---------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="other pipes")
def test_an_output_that_nobody_reads_ends_in_a_line() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "minikfac", "problems"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "minikfac: the output was closed before the end\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device")
@pytest.mark.parametrize(
    ("redirection", "code", "err"),
    [(">&-", 0, ""), ("> /dev/full", 2, "minikfac: No space left on device\n")],
)
def test_an_output_that_is_closed_or_full_ends_in_a_line(redirection: str, code: int, err: str) -> None:
    command = f"{sys.executable} -m minikfac problems digits {redirection}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (code, err)


NO_UTF8 = os.fsdecode(b"\xff\xfe")
NAMES = [
    "cost in $ and $",
    "$x^",
    "a[1]",
    "[red]a",
    "[@a=b]x",
    ":smile:",
    "_a",
    "日本",
    "{a}",
    "%s",
    "a\\b",
    NO_UTF8,
]
"""Of files."""


@pytest.mark.skipif(os.name == "nt", reason="other names")
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_records_of_any_name_are_drawn_and_listed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from minikfac.training import records

    monkeypatch.chdir(tmp_path)
    rows = [{"step": k, "seconds": 1.0 * k, "examples": 5 * k, "loss": 3.0 - k} for k in range(3)]
    files = [Path(f"{name}.jsonl"), Path("folder", f"{name}.jsonl")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        Path("other").mkdir(exist_ok=True)
        records.write(Path("other", "a.jsonl"), {"seed": 0}, rows)
        Path("other", "a.jsonl").rename(file)
    for more in (["--out", "a.png"], ["--out", "a.svg"]):
        code, out, err = run(capsys, "plot", str(files[0]), "--levels", "2", *more)
        assert (code, err) == (0, "")
        assert name.encode(errors="replace").decode() in out


@pytest.mark.skipif(os.name == "nt", reason="other names")
def test_data_of_a_name_that_is_no_utf_8_are_trained_on_and_studied(
    data_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"$a$ [b] {NO_UTF8}"
    data_file.rename(f"{name}.npz")
    small = ["--data", f"{name}.npz", "--net", "4-3-2", "--steps", "3"]
    code, out, err = run(capsys, "train", *small, "--batch-size", "10", "--out", f"{name} out")
    assert code == 0, err
    assert "$a$ [b] \ufffd\ufffd, net 4-3-2: 23 parameters" in out
    code, out, err = run(capsys, "fisher", *small, "--approximations", "diagonal", "--save", f"{name} report")
    assert code == 0, err
    stored = json.loads(Path(f"{name} report", "results.json").read_text())
    assert stored["data"]["name"] == "$a$ [b] \ufffd\ufffd"
