"""The models of the gradient, as recorded: measured again, and the numbers of the page are the record's."""

import json

import pytest

from minikfac.parallel import one_thread
from oracles.pages import ROOT, script

RECORD = json.loads((ROOT / "docs" / "results" / "gradient-models.json").read_text(encoding="utf-8"))
MEDIANS = {kind: {row["approximation"]: row for row in rows} for kind, rows in RECORD["medians"].items()}
CHAIN, KFAC = "block-tridiagonal", "K-FAC (factored damping)"


def test_the_record_is_what_is_measured() -> None:
    names = (CHAIN, KFAC, "diagonal")
    with one_thread():
        rows = {
            row["approximation"]: row
            for row in script("docs/measure_gradient_models.py").judged(0, "sampled", names)
        }
    recorded = {row["approximation"]: row for row in RECORD["seeds"]["sampled"][0]}
    for name in names:
        assert rows[name]["damping"] == pytest.approx(recorded[name]["damping"])
        for column in ("floats", "nats", "nats_se", "behind", "behind_se"):
            assert rows[name][column] == pytest.approx(recorded[name][column], rel=1e-4), (name, column)


def test_medians_are_those_of_the_seeds() -> None:
    for kind, seeds in RECORD["seeds"].items():
        for row, again in zip(
            RECORD["medians"][kind], script("docs/measure_gradient_models.py").summary(seeds), strict=True
        ):
            assert {key: again[key] for key in ("approximation", "floats", "damping")} == {
                key: row[key] for key in ("approximation", "floats", "damping")
            }
            for key in ("nats", "lowest", "highest", "behind", "most behind", "nats_se", "behind_se"):
                assert again[key] == pytest.approx(row[key], rel=1e-4), (kind, row["approximation"], key)


@pytest.mark.parametrize("kind", ["sampled", "model"])
def test_the_chain_is_best_with_every_seed(kind: str) -> None:
    for name, row in MEDIANS[kind].items():
        assert name == CHAIN or row["least behind"] > 0


def test_the_claim_states_the_numbers_of_the_record() -> None:
    text = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8").split("## T7.")[1].split("## T8.")[0]
    rows = MEDIANS["sampled"]
    for name in (CHAIN, KFAC, "block-diagonal", "exact", "diagonal"):
        assert f"{rows[name]['nats']:,.0f}" in text, name
    for name in (CHAIN, KFAC, "block-diagonal", "exact"):
        assert f"{rows[name]['floats']:,}" in text, name
    behind = rows[KFAC]
    assert f"{behind['least behind']:,.0f} to {behind['most behind']:,.0f}" in text
    assert f"standard error {behind['behind_se']:,.0f}" in text
    assert f"{MEDIANS['model'][KFAC]['behind']:,.0f}" in text
