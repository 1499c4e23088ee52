"""Exercises: the solution is right, and every wrong answer gets the sentence that belongs to it."""

import doctest
import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minikfac import exercises, fisher, mlp
from minikfac.exercises import Verdict, bugs, kronecker_factors

Answer = Callable[[np.ndarray, np.ndarray], Any]
solution = kronecker_factors.solution


def test_exercises_are_found_by_name() -> None:
    assert exercises.available() == [
        "natural-gradient",
        "backward",
        "exact-fisher",
        "kronecker-factors",
        "kronecker-step",
        "factored-damping",
        "kfac-in-forty-lines",
        "tridiagonal",
        "kfc-factors",
        "reparameterize",
        "rescale-and-momentum",
        "ekfac-scales",
        "all-reduce",
    ]
    assert exercises.find("kronecker-factors") is kronecker_factors
    assert exercises.check("kronecker-factors", solution)
    with pytest.raises(ValueError, match=r"expected an exercise among natural-gradient, .*, got 'kfac'"):
        exercises.find("kfac")


@pytest.mark.parametrize("name", exercises.available())
def test_every_exercise_is_whole(name: str) -> None:
    exercise = exercises.find(name)
    right, empty = exercise.check(exercise.solution), exercise.check(exercise.starter)
    assert right.correct
    assert str(right).startswith("Correct: ")
    assert right.error is None
    assert not empty.correct
    assert str(empty).startswith("Nothing is filled in yet")
    assert isinstance(empty.error, NotImplementedError)
    assert inspect.signature(exercise.starter) == inspect.signature(exercise.solution)
    source = inspect.getsource(exercise.starter)
    assert source.startswith("def my_")
    assert "raise NotImplementedError" in source
    assert exercise.hint() == exercise.hints[0]
    assert exercise.hint(len(exercise.hints)) == exercise.hints[-1]
    with pytest.raises(ValueError, match=f"a hint from 1 to {len(exercise.hints)}, got 0"):
        exercise.hint(0)
    assert exercise.task.splitlines()[0] in repr(exercise)


def test_the_solution_is_kfac() -> None:
    net, rng = mlp([4, 3, 2], "tanh", "bernoulli"), np.random.default_rng(0)
    signals = fisher.signals(net, net.init(rng), rng.standard_normal((8, 4)))
    for layer, block in enumerate(fisher.kfac(signals).blocks):
        A, G = solution(signals[layer].abar[:, 0], signals[layer].g[:, :, 0])
        assert np.allclose(np.kron(A, G), block.to_dense(), rtol=1e-12, atol=0)


def test_other_right_answers_are_right() -> None:
    def loops(abar: np.ndarray, g: np.ndarray) -> list[list[list[float]]]:
        (n, i), o = abar.shape, g.shape[2]
        A = [[sum(abar[m, a] * abar[m, b] for m in range(n)) / n for b in range(i)] for a in range(i)]
        rows = g.reshape(-1, o)
        return [A, [[float(rows[:, a] @ rows[:, b]) / n for b in range(o)] for a in range(o)]]

    assert kronecker_factors.check(loops)
    assert kronecker_factors.check(lambda a, g: (np.mean([np.outer(v, v) for v in a], 0), G(g)))


# wrong answers ----------------------------------------------------------------------------------------------


def A(abar: np.ndarray) -> np.ndarray:
    return abar.T @ abar / len(abar)


def G(g: np.ndarray) -> np.ndarray:
    return np.einsum("kno,knp->op", g, g) / g.shape[1]


def rows(g: np.ndarray) -> np.ndarray:
    return g.reshape(-1, g.shape[-1])


def in_place(abar: np.ndarray, g: np.ndarray) -> Any:
    g /= len(abar) ** 0.5
    return A(abar), rows(g).T @ rows(g)


def broken(abar: np.ndarray, g: np.ndarray) -> Any:
    return abar @ g


def hard_coded(abar: np.ndarray, g: np.ndarray) -> Any:
    fixed = np.zeros((6, 6))
    fixed[: abar.shape[1], : abar.shape[1]] = A(abar)
    return fixed, G(g)


def scaled(a: float, b: float) -> Answer:
    return lambda abar, g: (a * A(abar), b * G(g))


N, K = 11, 3
MEAN_FIRST = "averaged over examples before the outer product"
WRONG: dict[str, tuple[Any, str]] = {
    # what it is and what it returns
    "no function": (np.eye(3), "Expected a function of abar, g, got an array of shape (3, 3) and dtype"),
    "called already": (None, "got None: hand over the function itself"),
    "one argument": (lambda abar: abar, "raises TypeError: <lambda>() takes 1 positional argument but 2"),
    "raises": (broken, "raises ValueError at `return abar @ g`: matmul"),
    "changes its input": (in_place, "changes g in place"),
    "no return": (lambda a, g: None, "got None: is there a return at the end?"),
    "one factor": (lambda a, g: A(a), "Expected two arrays (A, G), got an array of shape (6, 6)"),
    "three": (lambda a, g: (A(a), G(g), 1), "Expected two arrays (A, G), got a tuple of 3"),
    "a dict": (lambda a, g: {"A": A(a)}, "Expected two arrays (A, G), got a dict"),
    "the product": (lambda a, g: np.kron(A(a), G(g)), "got one array (24, 24): the Kronecker product itself"),
    "no numbers": (lambda a, g: ("A", "G"), "A should be an array of real numbers, got a str"),
    "complex": (lambda a, g: (A(a), 1j * G(g)), "G should be an array of real numbers, got an array of"),
    "ragged": (
        lambda a, g: ([[1, 2], [3]], G(g)),
        "Expected A to be an array of numbers, got list: setting an array element",
    ),
    "masked": (
        lambda a, g: (np.ma.masked_array(A(a), A(a) > 0), G(g)),
        "Expected A without masked entries, got ",
    ),
    # shapes
    "swapped": (lambda a, g: (G(g), A(a)), "A and G are swapped: expected (A, G)"),
    "no bias": (lambda a, g: (A(a[:, :-1]), G(g)), "A of shape (6, 6), got (5, 5): the bias is missing"),
    "A over units": (lambda a, g: (a @ a.T, G(g)), "got (11, 11): abar times its transpose the wrong way"),
    "G over units": (
        lambda a, g: (A(a), rows(g) @ rows(g).T),
        "got (33, 33): g times its transpose the wrong",
    ),
    "K is left": (lambda a, g: (A(a), g.swapaxes(1, 2) @ g), "G of shape (4, 4), got (3, 4, 4): one axis is"),
    "a number": (lambda a, g: (A(a), 3.0), "Expected G of shape (4, 4), got ()."),
    # numbers
    "NaN": (lambda a, g: (A(a), G(g) * np.nan), "G has NaN or infinite entries (16 of 16)"),
    "infinite": (
        lambda a, g: (A(a) + np.diag([np.inf] + [0] * 5), G(g)),
        "A has NaN or infinite entries (1 of",
    ),
    "zeros": (lambda a, g: (0 * A(a), G(g)), "G is right, but A is all zeros"),
    "unsymmetric": (lambda a, g: (np.tril(A(a)), G(g)), "G is right, but A is not symmetric"),
    "float32": (lambda a, g: (A(a.astype("f")), G(g)), "of its norm, as if computed in single precision."),
    "unknown": (lambda a, g: (A(a), G(g) + np.eye(4)), "A is right, but G is off by"),
    "hard-coded": (hard_coded, "Right on the first layer of a net, but not on the next: Expected A of shape"),
    # scales
    "A not averaged": (
        scaled(N, 1),
        "G is right, but A is 11 times what it should be: the sum over examples",
    ),
    "G not averaged": (
        scaled(1, N),
        "A is right, but G is 11 times what it should be: the sum over examples",
    ),
    "A over N twice": (scaled(1 / N, 1), "A is 1/11 of what it should be: it is divided by N twice"),
    "G over N twice": (scaled(1, 1 / N), "G is 1/11 of what it should be: it is divided by N twice"),
    "mean loss": (
        scaled(1, 1 / N**2),
        "g was divided by N before its square was taken, as backprop of a mean",
    ),
    "N - 1": (scaled(N / (N - 1), 1), "A is 11/10 times what it should be: it is divided by N - 1"),
    "mean over k": (scaled(1, 1 / K), "G is 1/3 of what it should be: it is a mean over the K target terms"),
    "A over k": (scaled(K, 1), "A is 3 times what it should be: it was summed over the K target terms"),
    "A mean over k": (scaled(1 / K, 1), "A is 1/3 of what it should be: it is divided by K"),
    "mean over k for N": (scaled(1, N / K), "not divided by N, and a mean was taken over the K target terms"),
    "K N - 1": (scaled(1, N / (K * N - 1)), "it is divided by K N - 1"),
    "sign": (scaled(1, -1), "G is -1 times what it should be: the sign is turned"),
    "any scale": (scaled(1, 0.37), "G is 37/100 times what it should be, and right up to that factor"),
    "an odd scale": (scaled(np.pi, 1), "A is 3.142 times what it should be, and right up to that factor"),
    "made up for": (scaled(N, 1 / N), "A (x) G is right, but A is 11 times what it should be, and G makes"),
    "both": (
        scaled(N, 1 / K),
        "A is 11 times what it should be: the sum over examples is not divided by N; G is",
    ),
    # other matrices
    "A centred": (lambda a, g: (np.cov(a.T, ddof=0), G(g)), "A is another matrix: the mean was subtracted"),
    "np.cov": (
        lambda a, g: (np.cov(a.T), G(g)),
        "A is another matrix (and 11/10 times even that): the mean was",
    ),
    "G centred": (
        lambda a, g: (A(a), K * np.cov(rows(g).T, ddof=0)),
        "G is another matrix: the mean was sub",
    ),
    "G centred each": (
        lambda a, g: (A(a), G(g - g.mean(1, keepdims=True))),
        "mean over examples was subtracted",
    ),
    "A of the mean": (
        lambda a, g: (np.outer(a.mean(0), a.mean(0)), G(g)),
        "abar was averaged before the outer",
    ),
    "G of the mean": (lambda a, g: (A(a), G(g.mean(1, keepdims=True))), MEAN_FIRST),
    "G of all means": (
        lambda a, g: (A(a), np.outer(g.mean((0, 1)), g.mean((0, 1)))),
        "g was averaged before",
    ),
    "first term": (lambda a, g: (A(a), G(g[:1])), "G is another matrix: only term 0 of the K target terms"),
    "last term": (lambda a, g: (A(a), G(g[-1:])), "G is another matrix: only term 2 of the K target terms"),
    "sum over k first": (
        lambda a, g: (A(a), G(g.sum(0, keepdims=True))),
        "g was summed over the K target terms",
    ),
    "mean over k first": (
        lambda a, g: (A(a), G(g.mean(0, keepdims=True))),
        "another matrix (and 1/9 of even that): g was summed over the K",
    ),
    "A diagonal": (lambda a, g: (np.diag(np.diag(A(a))), G(g)), "A is another matrix: only the diagonal"),
    "G diagonal": (lambda a, g: (A(a), np.diag(np.diag(G(g)))), "G is another matrix: only the diagonal"),
}


@pytest.mark.parametrize("slip", WRONG)
def test_a_wrong_answer_gets_its_sentence(slip: str) -> None:
    answer, part = WRONG[slip]
    verdict = kronecker_factors.check(answer)
    assert isinstance(verdict, Verdict)
    assert not verdict
    assert part in str(verdict)


@pytest.mark.parametrize("slip", WRONG)
def test_a_verdict_is_one_sentence(slip: str) -> None:
    text = str(kronecker_factors.check(WRONG[slip][0]))
    assert repr(kronecker_factors.check(WRONG[slip][0])) == text
    assert re.search(r"[^.?][.?]$", text)
    assert not re.search(r"[.?] [A-Z]", text) or slip == "ragged"  # that one quotes NumPy
    assert len(text) < 320


def test_the_error_of_an_answer_is_kept() -> None:
    error = kronecker_factors.check(broken).error
    assert isinstance(error, ValueError)
    assert error.__traceback__ is not None


def test_an_interrupt_goes_through() -> None:
    def interrupted(abar: np.ndarray, g: np.ndarray) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kronecker_factors.check(interrupted)


def test_the_examples_in_the_docs_are_what_happens() -> None:
    result = doctest.testmod(exercises, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0
    assert result.failed == 0
    result = doctest.testmod(bugs, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0
