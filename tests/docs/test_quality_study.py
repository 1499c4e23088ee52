"""docs/results/studies.md: how good K-FAC is on the autoencoder of MNIST, held to the record."""

import json

import pytest

from oracles.pages import ROOT

RESULTS = ROOT / "docs" / "results"
PAGE = (RESULTS / "studies.md").read_text(encoding="utf-8").split("## K-FAC on 2.8 million parameters")[1]
TEXT = " ".join(PAGE.split())
MEASURED = json.loads((RESULTS / "quality.json").read_text(encoding="utf-8"))["measurements"]
MOMENTS = [MEASURED[f"autoencoder along training, step {step}"] for step in (0, 20, 100)]


@pytest.mark.parametrize("name", MOMENTS[0]["quality"])
def test_each_row_is_the_records(name: str) -> None:
    rows = [moment["quality"][name] for moment in MOMENTS]
    cells = [f"{row['error']:.2f}, {row['step_cosine']:.2f}, {row['share']:.2f}" for row in rows]
    assert " | ".join([f"| {name}", f"{rows[0]['floats']:,}", *cells]) in PAGE


def test_each_sentence_is_the_records() -> None:
    last = MOMENTS[-1]["quality"]
    kfac, chain = last["K-FAC"], last["block-tridiagonal"]
    assert f"K-FAC's error is {kfac['error']:.2f}," in TEXT
    assert f"between neighbours, {chain['error']:.2f}." in TEXT
    assert f"{chain['share']:.2f} of the exact step's progress, K-FAC {kfac['share']:.2f}" in TEXT
    lost = [
        at["quality"]["K-FAC"]["share"] - at["quality"]["K-FAC (factored damping)"]["share"] for at in MOMENTS
    ]
    assert min(lost) > 0 and f"up to {max(lost):.2f} of the progress" in TEXT
    for at in MOMENTS:
        rows = at["quality"]
        for column in ("error", "step_cosine", "share"):
            assert rows["EKFAC"][column] == pytest.approx(rows["K-FAC"][column], abs=0.003)
        assert at is MOMENTS[0] or rows["diagonal"]["share"] == pytest.approx(
            rows["no curvature"]["share"], abs=0.005
        )
        assert max(row["error_se"] for row in rows.values()) <= 0.005
    assert "| loss (nats) | | " + " | ".join(f"{at['loss']:.0f}" for at in MOMENTS) in PAGE
    iterations = [int(at["notes"].split("that of ")[1].split()[0]) for at in MOMENTS]
    assert f"took {min(iterations)} to {max(iterations):,} iterations" in TEXT
    assert all(3.5 * 60 < at["cpu_seconds"] < 8.5 * 60 and f"{at['peak_gib']:.1f}" == "1.6" for at in MOMENTS)
    errors = [at["quality"]["K-FAC"]["error"] for at in MOMENTS]
    page = (ROOT / "docs" / "howto" / "how-good-is-kfac.md").read_text(encoding="utf-8")
    assert f"[{min(errors):.2f} to {max(errors):.2f}](../results/studies.md" in page
