"""K-FAC in forty lines: its solution is the package's K-FAC, and each line changed gets its sentence."""

import inspect

import numpy as np
import pytest

import minikfac as mk
from minikfac import exercises, fisher, optim
from minikfac.exercises import forty_lines, inverse, kfac_in_forty_lines, kronecker_step
from oracles import EXACT, SOLVE, close

SETTINGS = {"lam": 0.05, "lr": 0.7, "momentum": 0.6, "clip": 0.02}


def batches(net, steps, n=20):
    rng = np.random.default_rng(1)
    return [(rng.standard_normal((n, 5)), rng.integers(3, size=n)) for _ in range(steps)]


def test_the_solution_is_the_packages_kfac():
    net = mk.mlp([5, 4, 4, 3])
    theta = net.init(np.random.default_rng(0))
    opt = optim.KFCPre(net, 0.7, 0.6, damping=0.05, clip=0.02, clip_norm="kfac", Tf=1)
    state, Ws, mine, scales = opt.init(theta), net.unpack(theta), None, []
    for k, (x, y) in enumerate(batches(net, 5)):
        theta, state, info = opt.step(theta, state, (x, y), np.random.default_rng(k))
        Ws, mine = forty_lines.solution(Ws, mine, x, y, np.random.default_rng(k), **SETTINGS)
        close(net.pack(Ws), theta, SOLVE)
        scales.append(info["scale"])
    assert min(scales) < 1  # the clip acts


def test_its_factors_are_those_of_the_fisher_matrix():
    net = mk.mlp([5, 4, 4, 3])
    theta = net.init(np.random.default_rng(0))
    [(x, y)] = batches(net, 1)
    _, (k, factors, _) = forty_lines.solution(
        net.unpack(theta), None, x, y, np.random.default_rng(2), **SETTINGS
    )
    signals = fisher.signals(net, theta, x, targets="sampled", rng=np.random.default_rng(2))
    assert k == 1
    for (A, G), block in zip(factors, fisher.kfac(signals).blocks, strict=True):
        close(A, block.A, EXACT)
        close(G, block.G, EXACT)


def test_it_has_at_most_forty_lines():
    functions = (forty_lines.forward, forty_lines.backward, forty_lines.solution)
    lines = [line for function in functions for line in inspect.getsource(function).splitlines()]
    assert len([line for line in lines if line.strip() and not line.strip().startswith('"""')]) <= 40


@pytest.mark.parametrize("cause", forty_lines.SLIPS)
def test_a_changed_line_gets_its_sentence(cause):
    source = "".join(
        map(inspect.getsource, (forty_lines.forward, forty_lines.backward, forty_lines.solution))
    )
    assert all(right in source for right in forty_lines.SLIPS[cause][::2])
    with np.errstate(all="ignore"):
        verdict = kfac_in_forty_lines.check(forty_lines.slip(cause))
    assert not verdict
    assert cause in str(verdict)


def test_wrong_shapes_and_unknown_mistakes_are_named():
    def doubled(*arguments):
        Ws, state = forty_lines.solution(*arguments)
        return [Ws[0], 2 * Ws[1], *Ws[2:]], state

    assert "W of layer 2 after step 1 is 2 times" in str(kfac_in_forty_lines.check(doubled))
    one = kfac_in_forty_lines.check(lambda Ws, *rest: (Ws[0], None))
    assert "Expected a list of 2 arrays of weights after step 1, got an array" in str(one)
    assert "Expected two results (Ws, state), got None" in str(kfac_in_forty_lines.check(lambda *_: None))

    def in_place(Ws, *rest):
        Ws[0] += 1
        return Ws, None

    assert "changes Ws in place" in str(kfac_in_forty_lines.check(in_place))


@pytest.mark.parametrize("size", [(5, 3), (4, 4)])
def test_a_kronecker_step_solves_with_the_whole_product(size):
    rng = np.random.default_rng(0)
    A, G = (half.T @ half for half in (rng.standard_normal((9, n)) for n in size))
    V = rng.standard_normal(size)
    close(inverse.solution(A, G, V).ravel(), -np.linalg.solve(np.kron(A, G), V.ravel()), SOLVE)


def test_wrong_kronecker_steps_get_their_sentences():
    rng = np.random.default_rng(4)
    square = [half.T @ half for half in rng.standard_normal((2, 9, 4))]
    for cause in inverse.slips(*square, rng.standard_normal((4, 4))):
        verdict = kronecker_step.check(
            lambda A, G, V, cause=cause: inverse.slips(A, G, V).get(cause, inverse.solution(A, G, V))
        )
        assert cause in str(verdict)
    assert "goes uphill" in str(kronecker_step.check(lambda *at: -inverse.solution(*at)))
    assert "it is flat" in str(kronecker_step.check(lambda *at: inverse.solution(*at).ravel()))
    assert exercises.find("kronecker-step") is kronecker_step
