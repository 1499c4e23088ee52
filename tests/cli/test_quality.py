"""``minikfac quality``: what it prints, and what it refuses."""

import re
from pathlib import Path

import pytest

from oracles.cli import one_line, run

QUICK = ("quality", "--net", "64-6-10", "--examples", "60", "--vectors", "4", "--damping", "0.1")


def test_each_line_is_sharper_than_the_one_before(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, *QUICK, "--approximations", "kfac,Diagonal", "--ledger", "--wide")
    assert code == 0
    lines = [line for line in out.splitlines() if re.match(r" *[\d.]+ s  K-FAC: ", line)]
    assert len(lines) == 4  # the step; 2 and 4 vectors; the exact step
    assert "error" not in lines[0] and all(" ± " in line for line in lines[1:])
    for part in (
        "digits, net 64-6-10: 460 parameters",
        "best scale",
        "conjugate gradients: a relative residual",
    ):
        assert part in out
    assert "The ledger of assumptions" in out and re.search(r"no correlations between layers +[\d.]+ ± ", out)
    assert "EKFAC" not in out


def test_parameters_come_from_a_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ("--net", "64-6-10", "--steps", "2", "--out", str(tmp_path / "run"))
    assert run(capsys, "train", *arguments)[0] == 0
    code, out, _ = run(capsys, *QUICK, "--run", str(tmp_path / "run"), "--samples", "0")
    assert code == 0 and "Parameters after 2 steps of" in out
    assert "block-tridiagonal" in out and "low rank" not in out
    code, _, err = run(capsys, "quality", "--net", "64-5-10", "--run", str(tmp_path / "run"))
    assert code == 2 and "expected theta or direction of shape (385,), got (460,)" in one_line(err)


def test_what_does_not_converge_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, *QUICK, "--limit", "2")
    assert code == 2
    assert re.search(r"relative residual of 1\.0e-06 .* after 2 iterations; use more damping", one_line(err))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--approximations", "best"), "expected --approximations among .* got best"),
        (("--damping", "0"), "expected damping > 0 and a tolerance between 0 and 1 with products"),
        (("--run", "nowhere"), "nowhere"),
    ],
)
def test_wrong_options_are_one_line(
    capsys: pytest.CaptureFixture[str], option: tuple[str, ...], message: str
) -> None:
    code, _, err = run(capsys, *QUICK, *option)
    assert code == 2 and re.search(message, one_line(err))


def test_options_of_a_net_are_rejected_without_one(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "quality", "--data", "digits", "--output", "gaussian")
    assert code == 2 and "expected --data only with --net, got --data digits" in one_line(err)
