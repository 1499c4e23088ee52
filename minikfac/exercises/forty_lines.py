"""Write K-FAC in forty lines.

One step of K-FAC on a net of tanh layers with softmax outputs. Write a function that takes

    Ws     a list of weights, (I, O) per layer, the bias in the last row
    state  None before the first step, and then whatever your function returned
    x, y   inputs (N, features) and labels (N,) of the batch
    rng    for the targets: draw(p, rng), to be imported from minikfac.exercises.forty_lines, returns one
           label per example, drawn from the rows of p (N, C)
    lam, lr, momentum, clip

and returns (new Ws, new state). In step k = 1, 2, ...:

1.  Forward: abar of every layer (its input with a 1 appended), and the probabilities p.
2.  The gradient of the mean loss: g of the last layer is p - onehot(y), back through the layers,
    DW = abar^T g / N.
3.  The factors of this batch, A = abar^T abar / N and G = g^T g / N, with g of *drawn* targets.
4.  Their moving averages: weight min(1 - 1/k, 0.95) on the old, so that the first step takes its own.
5.  Factored damping: A + pi sqrt(lam) I and G + sqrt(lam) / pi I, with pi^2 the mean of A's diagonal over
    that of G's.
6.  The proposal of every layer, v = -lr A^{-1} DW G^{-1}, with the damped factors.
7.  The clip: with nu = -lr (sum over all layers and entries of v DW), all v times sqrt(clip / nu) where
    nu > clip.
8.  Momentum: velocity = momentum * velocity + v, and W + velocity.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import Any

import numpy as np

from ..backend import Array
from ..network import mlp
from ..network.outputs import Categorical
from .exercise import Answer, Exercise, Wrong
from .judging import Part, call, kind_of, parts

HINTS = (
    "Make forward and backward two functions: backward runs twice, for labels and for drawn targets.",
    "Back through tanh: g of the layer below is (g @ W[:-1].T) * (1 - a**2), where a is what came out of "
    "that layer, abar[:, :-1] of the layer above. The bias row of W is not part of it.",
    "The state can be a tuple (k, factors, velocities); begin with (0, [(0, 0)] * L, [0] * L).",
    "kronecker-factors, factored-damping and kronecker-step are steps 3, 5 and 6.",
    "Print inspect.getsource(exercise.solution): it has 22 lines, its forward and backward another 15.",
)
Weights = list[Array]


def my_kfac_step(
    Ws: Weights, state: Any, x: Array, y: Array, rng: Any, lam: float, lr: float, momentum: float, clip: float
) -> tuple[Weights, Any]:
    """Return the weights after one step of K-FAC, and the state for the next."""
    raise NotImplementedError("write K-FAC in forty lines")


def draw(p: Array, rng: Any) -> Array:
    """One label per example (N,), drawn from the rows of p (N, C)."""
    return Categorical().sample(np.log(p), rng)


def forward(Ws: Weights, x: Array) -> tuple[list[Array], Array]:
    """Return abar (N, I) of every layer and the probabilities (N, C)."""
    abars = []
    for W in Ws:
        abars.append(np.hstack([x, np.ones((len(x), 1))]))
        s = abars[-1] @ W
        x = np.tanh(s)
    p = np.exp(s - s.max(1, keepdims=True))
    return abars, p / p.sum(1, keepdims=True)


def backward(Ws: Weights, abars: list[Array], g: Array) -> list[Array]:
    """Return g (N, O) of every layer, per example, from that of the last."""
    gs = [g]
    for W, abar in zip(Ws[:0:-1], abars[:0:-1], strict=True):
        gs.insert(0, gs[0] @ W[:-1].T * (1 - abar[:, :-1] ** 2))
    return gs


# [MG15] with the clip of [BGM17, sec. 5]: optim.KFCPre with clip_norm="kfac", and the factors of fisher.kfac
def solution(
    Ws: Weights, state: Any, x: Array, y: Array, rng: Any, lam: float, lr: float, momentum: float, clip: float
) -> tuple[Weights, Any]:
    """One step; the state is (k, factors, velocities)."""
    at_rest: Any = (0, [(0, 0)] * len(Ws), [0] * len(Ws))
    k, factors, velocity = state or at_rest
    k, n = k + 1, len(x)
    abars, p = forward(Ws, x)
    onehot = np.eye(p.shape[1])
    grads = [abar.T @ g / n for abar, g in zip(abars, backward(Ws, abars, p - onehot[y]), strict=True)]
    gs = backward(Ws, abars, p - onehot[draw(p, rng)])
    old = min(1 - 1 / k, 0.95)
    factors = [
        (old * A + (1 - old) * abar.T @ abar / n, old * G + (1 - old) * g.T @ g / n)
        for (A, G), abar, g in zip(factors, abars, gs, strict=True)
    ]
    v = []
    for (A, G), grad in zip(factors, grads, strict=True):
        pi = np.sqrt(A.trace() / len(A) / (G.trace() / len(G)))
        A_damped = A + pi * lam**0.5 * np.eye(len(A))
        G_damped = G + lam**0.5 / pi * np.eye(len(G))
        v.append(-lr * np.linalg.solve(A_damped, np.linalg.solve(G_damped, grad.T).T))
    nu = -lr * sum((step * grad).sum() for step, grad in zip(v, grads, strict=True))
    scale = min(1, np.sqrt(clip / nu))
    velocity = [momentum * last + scale * step for last, step in zip(velocity, v, strict=True)]
    return [W + step for W, step in zip(Ws, velocity, strict=True)], (k, factors, velocity)


_PI = "np.sqrt(A.trace() / len(A) / (G.trace() / len(G)))"
_OLD, _SCALE, _MOVE = "min(1 - 1 / k, 0.95)", "min(1, np.sqrt(clip / nu))", "momentum * last + scale * step"
_FACTORS = "abar.T @ abar / n, old * G + (1 - old) * g.T @ g / n"
_DRAW, _ONE, _BACK = "draw(p, rng)", "np.hstack([x, np.ones((len(x), 1))])", "gs[0] @ W[:-1].T"
_ONE_FIRST = (_ONE, "np.hstack([np.ones((len(x), 1)), x])", "abar[:, :-1]", "abar[:, 1:]")
SLIPS: dict[str, tuple[str, ...]] = {
    "the constant 1 comes first in abar, and should be the last": (*_ONE_FIRST, _BACK, "gs[0] @ W[1:].T"),
    "the first row of W was left out on the way back, and the bias is the last": (_BACK, "gs[0] @ W[1:].T"),
    "the sign of the gradient is turned": ("p - onehot[y]", "onehot[y] - p"),
    "the gradient is divided by N twice": ("abar.T @ g / n for", "abar.T @ g / n**2 for"),
    "one target was drawn for the whole batch, and not one for each example": (_DRAW, "draw(p[:1], rng)"),
    "the most probable target was taken, and not one drawn from p": (_DRAW, "p.argmax(1)"),
    "nu has a factor 1/2, which belongs to the KL divergence": ("nu = -lr *", "nu = -0.5 * lr *"),
    "lr went in twice": ("scale * step for", "lr * scale * step for"),
    "G is made of labels, as in the empirical Fisher matrix, and not of drawn targets": (_DRAW, "y"),
    "the gradient is of drawn targets, and not of the labels": ("onehot[y]", "onehot[draw(p, rng)]"),
    "g was divided by N before G was made of it": ("g.T @ g / n", "g.T @ g / n**3"),
    "the factors are not divided by N": (_FACTORS, _FACTORS.replace(" / n", "")),
    "the gradient is not divided by N": ("abar.T @ g / n for", "abar.T @ g for"),
    "the factors of earlier steps are forgotten": (_OLD, "0"),
    "the moving average begins at 0, and should begin with the factors of the first batch": (_OLD, "0.95"),
    "the old factors have the weight of the next step": (_OLD, "min(1 - 1 / (k + 1), 0.95)"),
    "pi is 1": (_PI, "1"),
    "pi is upside down": (_PI, f"1 / {_PI}"),
    "the traces in pi are not divided by the sizes of A and G": (_PI, "np.sqrt(A.trace() / G.trace())"),
    "nothing is damped": ("lam**0.5", "0"),
    "lambda was added to the factors, and the root of lambda is meant": ("lam**0.5", "lam"),
    "the sign of the step is turned": ("v.append(-lr", "v.append(lr"),
    "the clip is missing": (_SCALE, "1"),
    "the clip takes clip / nu, and its root is meant": ("np.sqrt(clip / nu)", "clip / nu"),
    "nu is taken without lr": ("nu = -lr * sum", "nu = -sum"),
    "steps below the clip are lengthened to it": (_SCALE, "np.sqrt(clip / nu)"),
    "momentum is missing": (_MOVE, "scale * step"),
    "the velocity is clipped, and not the proposal": (_MOVE, "scale * (momentum * last + step)"),
    "the new proposal has weight 1 - momentum": (_MOVE, "momentum * last + (1 - momentum) * scale * step"),
}
"""Causes of a wrong step, and the changes of the solution that make it: old, new, old, new ..."""


@cache
def slip(cause: str) -> Answer:
    """The solution with one of :data:`SLIPS`."""
    names = dict(globals())
    source = "\n".join(inspect.getsource(function) for function in (forward, backward, solution))
    for right, wrong in zip(SLIPS[cause][::2], SLIPS[cause][1::2], strict=True):
        source = source.replace(right, wrong)
    exec(f"from __future__ import annotations\n{source}", names)
    changed: Answer = names["solution"]
    return changed


CASES = {
    "a net of two layers": ((5, 4, 3), 0.1, 0.3),
    "a net of three layers, clipped": ((4, 6, 5, 3), 0.02, 0.01),
}
CORRECT = (
    "three steps on each of two nets, up to rounding: this is optim.KFCPre(net, lr, momentum, damping=lam, "
    'clip=clip, clip_norm="kfac"), and its factors are those of fisher.kfac. Now race it.'
)
STEPS, N = 3, 30


def judge(answer: Answer, sizes: tuple[int, ...], lam: float, clip: float) -> None:
    """Raise Wrong unless three steps on a net of these sizes are right."""
    net, rng = mlp(sizes), np.random.default_rng(len(sizes))
    start = [W.copy() for W in net.unpack(net.init(rng) + 0.2 * rng.standard_normal(net.n_params))]
    x, y = rng.standard_normal((STEPS, N, sizes[0])), rng.integers(sizes[-1], size=(STEPS, N))

    def walk(step: Answer) -> Iterator[Any]:
        """Weights after each step."""
        Ws, state = start, None
        for k in range(STEPS):
            generator = np.random.default_rng(k)
            settings = {"lam": lam, "lr": 0.8, "momentum": 0.7, "clip": clip}
            returned = call(step, Ws=Ws, state=state, x=x[k], y=y[k], rng=generator, **settings)
            Ws, state = parts(returned, "Ws", "state", what="results").values()
            if shapes_of(state) == shapes_of(start) != shapes_of(Ws):
                raise Wrong("Ws and state are swapped: expected (Ws, state), got (state, Ws).")
            yield Ws

    for k, (Ws, expected) in enumerate(zip(walk(answer), walk(solution), strict=True), 1):
        if not isinstance(Ws, list | tuple) or len(Ws) != len(start):
            raise Wrong(
                f"Expected a list of {len(start)} arrays of weights after step {k}, got {kind_of(Ws)}."
            )
        layers = [Part(f"W of layer {layer} after step {k}", W) for layer, W in enumerate(expected, 1)]
        sentences = [part.diagnose(W) for part, W in zip(layers, Ws, strict=True)]
        if any(sentences):
            causes = [cause for cause in SLIPS if _alike(walk(slip(cause)), Ws, k)]
            why = "; or: ".join(causes) or next(filter(None, sentences))
            raise Wrong(f"Step {k} is wrong: {why}.")


def shapes_of(Ws: Any) -> list[Any] | None:
    """Shapes of the arrays in a list; None of anything but a list."""
    return [getattr(W, "shape", None) for W in Ws] if isinstance(Ws, list | tuple) else None


def _alike(steps: Iterator[Any], Ws: Any, k: int) -> bool:
    """Whether the steps of a slip result in these weights after step k."""
    try:
        with np.errstate(all="ignore"):
            others = next(islice(steps, k - 1, None))
    except Wrong:  # it raises an error of its own, such as a singular matrix
        return False
    return all(np.allclose(W, other, rtol=1e-9, atol=1e-12) for W, other in zip(Ws, others, strict=True))


kfac_in_forty_lines = Exercise("kfac-in-forty-lines", my_kfac_step, HINTS, solution, judge, CASES, CORRECT)
