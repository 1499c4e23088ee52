"""The list of problems and recipes: all of them, with constants that --set takes as they are printed."""

from __future__ import annotations

import pytest

from minikfac.cli.problems import value_in_words
from minikfac.optim import schedules
from minikfac.races import PROBLEMS, RECIPES, problems
from minikfac.races.contenders import CONTENDERS, SCHEDULES, argument
from oracles.cli import one_line, run


def test_every_problem_recipe_and_optimizer_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "problems")
    assert (code, err) == (0, "")
    blocks = out.split("\nOptimizers: ")
    assert blocks[1].strip().split(", ") == [each.name for each in CONTENDERS]
    heads = [line for line in blocks[0].splitlines() if not line.startswith(" ")]
    assert [line.split("  ")[0] for line in heads] == [row.name for row in PROBLEMS]
    assert "digits-autoencoder  (3,934 parameters, float64; data: digits)" in heads
    for recipe in RECIPES:
        (block,) = (part for part in f"\n{blocks[0]}".split("\n") if part.startswith(f"{recipe.problem}  "))
        after = blocks[0][blocks[0].index(block) :].split("recipes: ", 1)[1]
        listed, *others = after.split("\n    in Python alone: ")
        listed_by_name = recipe.name in [other.name for other in CONTENDERS]
        where = listed.splitlines()[0] if listed_by_name else others[0].splitlines()[0]
        assert (recipe.name if listed_by_name else f'"{recipe.name}"') in where
        assert not (listed_by_name and any(f'"{recipe.name}"' in other.splitlines()[0] for other in others))


def test_the_recipes_of_one_problem_show_their_constants(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "problems", "digits-autoencoder")
    assert code == 0 and "Optimizers" not in out and "usps" not in out
    assert (
        "K-FAC: batches of 250; [MG15], on our small problem\n        lam=1 l2=1e-05 gamma_share=1 tau1=0.125"
        in out
    )
    assert "momentum=SutskeverMomentum(0.99) nesterov=True" in out
    assert "ours: lam, batch_size\n" in out
    _, out, _ = run(capsys, "problems", "mnist-autoencoder")
    assert "K-FAC: batches that grow to the whole training set; [MG15, sec. 13]\n" in out
    _, out, _ = run(capsys, "problems", "usps")
    assert "K-FAC: the whole training set; " in out


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{recipe.problem}, {recipe.name}")
def test_constants_are_printed_as_they_are_set(recipe) -> None:
    for value in recipe.arguments.values():
        read = argument(value_in_words(value))
        assert read == (pytest.approx(value, rel=1e-4) if isinstance(value, float) else value)


def test_every_schedule_is_printed_as_it_is_set() -> None:
    made = {
        "Constant": schedules.Constant(0.1),
        "Exponential": schedules.Exponential(0.1, 0.5, 100.0),
        "InverseTime": schedules.InverseTime(0.1, 50.0),
        "Cosine": schedules.Cosine(0.1, 300),
        "Steps": schedules.Steps(0.1, (100, 200)),
        "SutskeverMomentum": schedules.SutskeverMomentum(0.995),
    }
    assert set(made) == set(SCHEDULES)
    for schedule in made.values():
        assert argument(value_in_words(schedule)) == schedule


def test_a_problem_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "problems", "mnist")
    assert (code, out) == (2, "")
    assert "expected a problem among digits, " in one_line(err) and "mean mnist-autoencoder?" in err
    assert problems.entry("usps").data == "usps"
