"""Tables on the command line: every number at every width, and the measures in order of what they are for."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minikfac as mk
from minikfac import cli, fisher, quality, tour
from minikfac.cli.tables import print_comparison, print_table
from oracles.cli import one_line, run

FEW = ["approximation", "error", "cosine", "share", "CG iterations", "floats"]
WIDTHS = pytest.mark.parametrize("width", [80, 100, 120])


@pytest.fixture(scope="module")
def comparison() -> quality.Comparison:
    """Every approximation of a small net."""
    net, rng = mk.mlp([5, 4, 4, 3]), np.random.default_rng(0)
    theta, x, y = net.init(rng), rng.standard_normal((40, 5)), rng.integers(0, 3, 40)
    signals = fisher.signals(net, theta, x)
    names = quality.applicable(signals)
    matrices = {name: quality.APPROXIMATIONS[name][0](signals) for name in names}
    return quality.compare(fisher.exact(signals), matrices, net.gradient(theta, x, y), 0.01)


def printed(capsys: pytest.CaptureFixture[str], width: int, *arguments: Any) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        print_comparison(*arguments)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    return lines


def headings(lines: list[str]) -> list[list[str]]:
    """Of each table, put together from lines over the rule: by the places that the rule marks."""
    tables = []
    for number, line in enumerate(lines):
        if line.startswith("──"):
            first = max(place for place in range(number) if not lines[place]) + 1
            spans = [match.span() for match in re.finditer("─+", line)]
            tables.append([" ".join(" ".join(x[a:b] for x in lines[first:number]).split()) for a, b in spans])
    return tables


def test_at_80_columns_the_five_to_begin_with_are_shown_and_the_others_named(
    capsys: pytest.CaptureFixture[str], comparison: quality.Comparison
) -> None:
    lines = printed(capsys, 80, comparison)
    assert headings(lines) == [FEW]
    rest = " ".join(" ".join(lines).split("with --wide: ")[1].split())
    assert rest.split(", ") == [name for name in comparison.table()[0] if name not in FEW]
    assert "best scale" in rest and "c star" not in rest


def test_wider_terminals_show_more(
    capsys: pytest.CaptureFixture[str], comparison: quality.Comparison
) -> None:
    tables = [headings(printed(capsys, width, comparison)) for width in (80, 100, 120)]
    assert all(len(each) == 1 and each[0][: len(FEW)] == FEW for each in tables)
    assert all(len(wider[0]) > len(narrow[0]) for narrow, wider in pairwise(tables))


@WIDTHS
def test_wide_shows_every_number(
    capsys: pytest.CaptureFixture[str], comparison: quality.Comparison, width: int
) -> None:
    lines = printed(capsys, width, comparison, True)
    tables = headings(lines)
    assert sorted({name for each in tables for name in each}) == sorted(comparison.table()[0])
    if width == 80:
        assert tables[0] == FEW and max(map(len, tables)) <= len(FEW)
    _, cells = comparison.table()
    for row in cells:
        shown = [
            line.removeprefix(row[0]).split() for line in lines if re.match(re.escape(row[0]) + "  ", line)
        ]
        assert sorted(cell for line in shown for cell in line) == sorted(
            word for cell in row[1:] for word in cell.split()
        )


@WIDTHS
def test_means_over_seeds_are_whole(
    capsys: pytest.CaptureFixture[str], comparison: quality.Comparison, width: int
) -> None:
    twice = quality.over_seeds(lambda seed: comparison, [0, 1])
    text = " ".join(printed(capsys, width, twice))
    for cell in (cell for row in twice.table(columns=("error", "share"))[1] for cell in row[1:]):
        assert "±" in cell and cell in text


def test_long_words_of_a_cell_go_on_below(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    arguments = ", ".join(f"argument{k}=0.0123" for k in range(9))
    print_table("The best", ["optimizer", "arguments"], [["K-FAC", arguments]])
    out = capsys.readouterr().out
    assert "…" not in out and max(map(len, out.splitlines())) <= 80
    assert " ".join(out.split()).endswith(arguments)


def test_the_tour_ends_in_what_it_found_a_link_and_what_to_do_next(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    small = tour.tour(
        mk.datasets.digits(n_train=60), tour.Settings(sizes=(64, 3, 10), n_examples=30, chapters=()), False
    )
    opened: list[str] = []
    monkeypatch.setattr(tour, "tour", lambda *_: small)
    monkeypatch.setattr("webbrowser.open", opened.append)
    folder = tmp_path / "a folder"
    code, out, _ = run(capsys, "tour", "--out", str(folder))
    found, link, then = out.splitlines()[-3:]
    row = small.run.study.table["K-FAC"]
    assert code == 0 and not opened
    assert f"relative error {row['error']:.2f}" in found and f"{row['share']:.0%}" in found
    page = (folder / "report.html").as_uri()
    assert page.startswith("file:///") and "%20" in page and link.startswith(f"Report: {page}  (")
    assert then == "Next, a net of your own: minikfac fisher --net 64-20-20-10 --save my-net"
    run(capsys, "tour", "--out", str(folder), "--open")
    assert opened == [page]


def test_a_lack_of_memory_names_options(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minikfac.backend.available_memory", lambda xp: 1000)
    code, _, err = run(capsys, "fisher", "--net", "64-20-10")
    assert code == 2
    assert one_line(err).endswith("use --layers (one of them, as in 2), a smaller --net or --dtype float32")
    assert "GiB are free" in err and "fisher.kfac" not in err


def test_every_option_that_takes_less_memory_exists() -> None:
    for name, advice in cli.LESS_MEMORY.items():
        options = {option for parameter in cli.command(name).params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", advice)) <= options
