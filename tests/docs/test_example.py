"""README and docs quote one net: it is measured again, and every number on the pages is the record's."""

import json
import re

import numpy as np
import pytest

from minikfac import fisher, quality
from minikfac.parallel import one_thread
from minikfac.tour import Settings
from minikfac.tour.studied import prepare
from minikfac.training.example import N_EXAMPLES, STEPS, example
from oracles.pages import ROOT, script

RECORD = json.loads((ROOT / "docs" / "results" / "example.json").read_text(encoding="utf-8"))
ALONG, QUALITY = RECORD["along"], RECORD["quality"]
NUMBERS = r"(?<![\d.,λ])(?:\d\.\d\d|\d{1,3}(?:,\d{3})+)(?![\d.]*\d)"
"""What is a number of the record on a page: two digits behind the point, or thousands."""


@pytest.mark.parametrize("steps", [0, STEPS])
def test_the_record_is_what_is_measured(steps: int) -> None:
    one = example(steps)
    place = ALONG["steps"].index(steps)
    names = ("K-FAC", "block-diagonal", "block-tridiagonal", "EKFAC", "diagonal", "no curvature")
    with one_thread():
        signals = fisher.signals(one.net, one.theta, one.x)
        matrices = {name: quality.APPROXIMATIONS[name][0](signals) for name in names}
        gradient = one.net.gradient(one.theta, one.x, one.y)
        table = quality.compare(
            fisher.exact(signals), matrices, gradient, RECORD["damping"], measures=("matrix", "step")
        )
    for name in names:
        for column in ("error", "step_cosine", "share"):
            assert table[name][column] == pytest.approx(ALONG[name][column][place], rel=1e-4), (name, column)
            if steps == STEPS:
                assert QUALITY[name][column] == ALONG[name][column][place]
        assert QUALITY[name]["floats"] == table[name]["floats"]


def test_sizes_are_those_of_the_net() -> None:
    for what, size in script("docs/measure_example.py").sizes(example()).items():
        assert RECORD["sizes"][what] == pytest.approx(size, rel=1e-4), what


def test_the_report_studies_the_same_net() -> None:
    one = example()
    net, theta0, _, history = prepare(Settings(), one.data, progress=False)
    np.testing.assert_array_equal(theta0, one.theta0)
    np.testing.assert_array_equal(history.theta, one.theta)
    assert repr(net) == repr(one.net) and Settings().n_examples == N_EXAMPLES == len(one.x)


def numbers(text: str) -> list[str]:
    """Numbers of a text, without code and links."""
    plain = re.sub(r"```.*?```|\]\([^)]*\)|`[^`]*`", "", text, flags=re.DOTALL)
    return re.findall(NUMBERS, plain)


def allowed() -> set[str]:
    """All numbers of the record as pages print them."""
    values = [value for row in QUALITY.values() for key, value in row.items() if key != "floats"]
    values += [value for name in QUALITY for column in ALONG[name].values() for value in column]
    values += [value for what, value in RECORD["sizes"].items() if isinstance(value, float)]
    counts = [row["floats"] for row in QUALITY.values()] + list(RECORD["sizes"].values()) + ALONG["steps"]
    printed = {f"{value:.2f}" for value in values if value is not None}
    return printed | {f"{count:,}" for count in counts if isinstance(count, int)}


@pytest.mark.parametrize(
    ("page", "begin", "end", "least"),
    [
        ("README.md", "**The one idea.**", "## Run it", 12),
        ("docs/index.md", "How large is the error?", "**To begin:**", 5),
        ("docs/faq.md", "## The error is", "## Is K-FAC worth it?", 5),
        ("docs/questions.md", "# Twenty", "the race counts steps", 15),
    ],
)
def test_every_number_on_a_page_is_the_records(page: str, begin: str, end: str, least: int) -> None:
    text = (ROOT / page).read_text(encoding="utf-8").split(begin)[1].split(end)[0]
    found = numbers(text)
    assert len(found) >= least
    assert set(found) <= allowed(), set(found) - allowed()


@pytest.mark.parametrize(
    ("sentence", "value"),
    [
        ("its blocks, one per layer | 1,406,436 | {}", QUALITY["block-diagonal"]["error"]),
        ("its blocks, one per layer | 1,406,436 | 0.67 | {}", QUALITY["block-diagonal"]["share"]),
        ("| K-FAC | 7,050 | {}", QUALITY["K-FAC"]["error"]),
        ("| K-FAC | 7,050 | 0.73 | {}", QUALITY["K-FAC"]["share"]),
        ("the gradient | 0 | 1 | {}", QUALITY["no curvature"]["share"]),
        ("is {} before training", ALONG["K-FAC"]["step_cosine"][0]),
        ("{} after 200 steps", QUALITY["K-FAC"]["step_cosine"]),
        ("{} after 2,000", ALONG["K-FAC"]["step_cosine"][-1]),
    ],
)  # fmt: skip
def test_each_sentence_of_the_readme_has_its_number(sentence: str, value: float) -> None:
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert sentence.format(f"{value:.2f}") in text


def test_claims_of_the_same_net_have_the_same_numbers() -> None:
    claims = json.loads((ROOT / "docs" / "results" / "claims.json").read_text(encoding="utf-8"))["numbers"]
    for name in ("diagonal", "K-FAC", "low rank"):
        row = QUALITY[name]
        assert claims["T6"][name] == f"{row['error']:.2f} and {row['step_cosine']:.2f}"
    assert claims["T12"]["error"] == f"{QUALITY['K-FAC']['error']:.2f}"
    assert claims["T12"]["numbers of K-FAC"] == f"{QUALITY['K-FAC']['floats']:,}"
    between = claims["T9"]["no correlations between layers"]
    assert between == f"{RECORD['sizes']['between layers']:.2f}"
