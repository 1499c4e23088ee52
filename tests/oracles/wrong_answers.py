"""Wrong answers to the exercises by kinds of mistakes that many share, with what is to be said of each."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from minikfac import exercises
from minikfac.exercises import forty_lines

Case = tuple[str, Callable[..., Any], str]
Table = dict[str, Case]


def of(name: str) -> Callable[..., Any]:
    return exercises.find(name).solution


def after(name: str, change: Callable[..., Any]) -> Callable[..., Any]:
    """The solution, and then a change of all that it returns."""
    return lambda *given: change(*returned(of(name)(*given)))


def returned(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def first(M: np.ndarray, *axes: int) -> np.ndarray:
    """With what belongs to the constant 1 in front."""
    return np.roll(M, 1, axis=axes)


def moment(rows: np.ndarray) -> np.ndarray:
    return rows.T @ rows


def flat(g: np.ndarray) -> np.ndarray:
    return g.reshape(-1, g.shape[-1])


# bias first ---------------------------------------------------------------------------------------


def in_front(a: np.ndarray) -> np.ndarray:
    return np.c_[np.ones(len(a)), a]


def last(a: np.ndarray) -> np.ndarray:
    return np.c_[a, np.ones(len(a))]


def backward(x: np.ndarray, y: np.ndarray, W1: np.ndarray, W2: np.ndarray, one: Any, weights: Any) -> Any:
    """Backprop with the constant 1 where ``one`` puts it, and the rows ``weights`` of W2 on the way back."""
    abar0 = one(x)
    a = np.tanh(abar0 @ W1)
    abar1 = one(a)
    z = np.exp(abar1 @ W2)
    g2 = z / z.sum(1, keepdims=True) - np.eye(z.shape[1])[y]
    g1 = g2 @ W2[weights].T * (1 - a**2)
    return g1, g2, abar0.T @ g1 / len(x), abar1.T @ g2 / len(x)


def push_with_bias_first(W: Any, U: Any, c: Any, V: Any, d: Any) -> Any:
    B = np.block([[np.ones((1, 1)), d[None]], [np.zeros((len(V), 1)), V]])
    return np.linalg.solve(B, np.concatenate([W[:1] - c, W[1:]])) @ np.linalg.inv(U)


def append_another(abar: np.ndarray) -> np.ndarray:
    return np.concatenate([abar, np.ones((*abar.shape[:-1], 1))], axis=-1)


def kfac(*changes: str) -> Callable[..., Any]:
    """K-FAC in forty lines with changes of its text: old, new, old, new ..."""
    source = "\n".join(
        map(inspect.getsource, (forty_lines.forward, forty_lines.backward, forty_lines.solution))
    )
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        assert old in source
        source = source.replace(old, new)
    names = dict(vars(forty_lines))
    exec(f"from __future__ import annotations\n{source}", names)
    return names["solution"]


ONE, ONE_FIRST = "np.hstack([x, np.ones((len(x), 1))])", "np.hstack([np.ones((len(x), 1)), x])"
BIAS: Table = {
    "in the gradient": (
        "backward",
        after("backward", lambda g1, g2, DW1, DW2: (g1, g2, DW1, first(DW2, 0))),
        "DW2 is another matrix: the bias comes first, and should be the last",
    ),
    "from the start": (
        "backward",
        lambda *given: backward(*given, one=in_front, weights=slice(1, None)),
        "g2 is another matrix: the constant 1 comes first in [x, 1] and [a, 1], and should be the last",
    ),
    "on the way back": (
        "backward",
        lambda *given: backward(*given, one=last, weights=slice(1, None)),
        "the first row of W2 was left out, and the bias is the last",
    ),
    "of A": (
        "kronecker-factors",
        after("kronecker-factors", lambda A, G: (first(A, 0, 1), G)),
        "G is right, but A is another matrix: the bias comes first, and should be the last",
    ),
    "a second one": (
        "kronecker-factors",
        lambda abar, g: (moment(append_another(abar)) / len(abar), moment(flat(g)) / len(abar)),
        "got (7, 7): a 1 was appended to abar, which has it already",
    ),
    "of Omega": (
        "kfc-factors",
        after("kfc-factors", lambda Omega, Gamma: (first(Omega, 0, 1), Gamma)),
        "Omega is another matrix: the bias comes first, and should be the last",
    ),
    "a second one of Omega": (
        "kfc-factors",
        lambda abar, g: of("kfc-factors")(append_another(abar), g),
        "got (10, 10): a 1 was appended to abar, which has it already",
    ),
    "of W'": (
        "reparameterize",
        after("reparameterize", lambda W: first(W, 0)),
        "W' is another matrix: the bias comes first, and should be the last",
    ),
    "of B and C": (
        "reparameterize",
        push_with_bias_first,
        "the bias was taken for the first row of W, and is the last",
    ),
    "in forty lines": (
        "kfac-in-forty-lines",
        kfac(ONE, ONE_FIRST, "abar[:, :-1]", "abar[:, 1:]", "W[:-1].T", "W[1:].T"),
        "the constant 1 comes first in abar, and should be the last",
    ),
    "in forty lines, on the way back": (
        "kfac-in-forty-lines",
        kfac("gs[0] @ W[:-1].T", "gs[0] @ W[1:].T"),
        "the first row of W was left out on the way back, and the bias is the last",
    ),
}

# signs --------------------------------------------------------------------------------------------


def both(*returned: Any) -> Any:
    return tuple(-part for part in returned)


SIGNS: Table = {
    "of F, and so of the step": (
        "natural-gradient",
        after("natural-gradient", both),
        "F is -1 times what it should be: the sign is turned; the step is -F^-1 grad with that F",
    ),
    "of one entry of the step": (
        "natural-gradient",
        after("natural-gradient", lambda F, step: (F, step * [1, -1])),
        "the sign of the step of log sigma is turned",
    ),
    "of the other entry": (
        "natural-gradient",
        after("natural-gradient", lambda F, step: (F, step * [-1, 1])),
        "the sign of the step of mu is turned",
    ),
    "of all": ("backward", after("backward", both), "g2 is -1 times what it should be: the sign is turned"),
    "of both gradients": (
        "backward",
        after("backward", lambda g1, g2, DW1, DW2: (g1, g2, -DW1, -DW2)),
        "g2 and g1 are right, but DW2 is -1 times what it should be: the sign is turned",
    ),
    "of exact F": (
        "exact-fisher",
        lambda *given: -of("exact-fisher")(*given),
        "the sign is turned.",
    ),
    "of A and G": (
        "kronecker-factors",
        after("kronecker-factors", both),
        "A (x) G is right, but the signs of A and G are both turned, and a mean of squares is positive",
    ),
    "of Omega and Gamma": (
        "kfc-factors",
        after("kfc-factors", both),
        "the signs of Omega and Gamma are both turned, and a mean of squares is positive",
    ),
    "of the step": (
        "kronecker-step",
        lambda *given: -of("kronecker-step")(*given),
        "the sign is turned: this step goes uphill",
    ),
    "of pi": (
        "factored-damping",
        after("factored-damping", lambda pi, A, G: (-pi, A, G)),
        "should be 5.108: the sign is turned",
    ),
    "of both dampings": (
        "factored-damping",
        lambda A, G, lam: (of("factored-damping")(A, G, lam)[0], *of("factored-damping")(-A, -G, lam)[1:]),
        "pi is right, but A_damped is another matrix (and -1 times even that): the damping was subtracted",
    ),
    "of gradient and step": (
        "kfac-in-forty-lines",
        kfac("p - onehot[y]", "onehot[y] - p"),
        "the sign of the gradient is turned",
    ),
    "of PsiA and PsiG": (
        "tridiagonal",
        after("tridiagonal", lambda PsiA, PsiG, Sigma: (-PsiA, -PsiG, Sigma)),
        "PsiA is -1 times what it should be: the sign is turned",
    ),
    "of c and d": (
        "reparameterize",
        lambda W, U, c, V, d: of("reparameterize")(W, U, -c, V, -d),
        "the signs of c and d are both turned",
    ),
    "of alpha and mu": (
        "rescale-and-momentum",
        after("rescale-and-momentum", both),
        "the sign is turned, M goes",
    ),
    "of mu": (
        "rescale-and-momentum",
        after("rescale-and-momentum", lambda alpha, mu: (alpha, -mu)),
        "alpha is right, but mu is",
    ),
    "of s": ("ekfac-scales", lambda *given: -of("ekfac-scales")(*given), "the sign is turned."),
    "of all that workers hold": ("all-reduce", after("all-reduce", both), "gradient is -1 times"),
}

# a second constant --------------------------------------------------------------------------------


def scaled(name: str, *factors: float) -> Callable[..., Any]:
    """The solution with each thing that it returns multiplied."""
    parts = lambda values: tuple(c * v for c, v in zip(factors, values, strict=True))  # noqa: E731
    return after(name, lambda *values: parts(values) if len(values) > 1 else parts(values)[0])


CONSTANTS: Table = {
    "F twice": (
        "natural-gradient",
        scaled("natural-gradient", 2, 1),
        "F is 2 times what it should be: a factor 2",
    ),
    "F over N twice": (
        "natural-gradient",
        scaled("natural-gradient", 1 / 49, 1),
        "F is 1/49 of what it should be: it is divided by N once too often; and that twice",
    ),
    "half a step": (
        "natural-gradient",
        scaled("natural-gradient", 1, 0.5),
        "step is 1/2 of what it should be: a factor 2 is missing",
    ),
    "g twice": ("backward", scaled("backward", 1, 2, 1, 1), "g2 is 2 times what it should be: a factor 2"),
    "DW over N three times": (
        "backward",
        scaled("backward", 1, 1, 1, 1 / 25),
        "it is divided by N twice; and that twice",
    ),
    "2 DW not over N": (
        "backward",
        scaled("backward", 1, 1, 1, 10),
        "DW2 is 10 times what it should be: it is the sum over the examples, and the loss is their mean; and",
    ),
    "exact F over N C": (
        "exact-fisher",
        scaled("exact-fisher", 1 / 15),
        "F is 1/15 of what it should be: it is divided by N twice; and it is divided by C",
    ),
    "exact F over N three times": (
        "exact-fisher",
        scaled("exact-fisher", 1 / 25),
        "divided by N twice; and that twice",
    ),
    "A twice": (
        "kronecker-factors",
        scaled("kronecker-factors", 2, 1),
        "A is 2 times what it should be: a factor 2",
    ),
    "A times N squared": (
        "kronecker-factors",
        scaled("kronecker-factors", 121, 1),
        "A is 121 times what it should be: the sum over examples is not divided by N; and that twice",
    ),
    "2 G not over N": (
        "kronecker-factors",
        scaled("kronecker-factors", 1, 22),
        "the sum over examples is not divided by N; and a factor 2",
    ),
    "G over N K": (
        "kronecker-factors",
        scaled("kronecker-factors", 1, 1 / 33),
        "it is divided by N twice; and it is a mean over the K target terms",
    ),
    "any other": ("kronecker-factors", scaled("kronecker-factors", 1, 0.37), "right up to that factor"),
    "D twice": ("kronecker-step", scaled("kronecker-step", 2), "D is 2 times what it should be: a factor 2"),
    "pi twice": ("factored-damping", scaled("factored-damping", 2, 1, 1), "a factor 2"),
    "half the damping": (
        "factored-damping",
        lambda A, G, lam: (of("factored-damping")(A, G, lam)[0], *of("factored-damping")(A, G, lam / 4)[1:]),
        "A_damped is another matrix: what was added is 1/2 of what is to be added",
    ),
    "another damping": (
        "factored-damping",
        lambda A, G, lam: (of("factored-damping")(A, G, lam)[0], *of("factored-damping")(A, G, 7 * lam)[1:]),
        "A_damped is another matrix: what was added is 2.646 times what is to be added",
    ),
    "nu halved": (
        "kfac-in-forty-lines",
        kfac("nu = -lr * sum", "nu = -0.5 * lr * sum"),
        "nu has a factor 1/2",
    ),
    "gradient twice over N": (
        "kfac-in-forty-lines",
        kfac("abar.T @ g / n for", "abar.T @ g / n**2 for"),
        "the gradient is divided by N twice",
    ),
    "lr twice": (
        "kfac-in-forty-lines",
        kfac("scale * step for", "lr * scale * step for"),
        "lr went in twice",
    ),
    "Psi twice": (
        "tridiagonal",
        scaled("tridiagonal", 2, 1, 1),
        "PsiA is 2 times what it should be: a factor 2",
    ),
    "Omega twice": (
        "kfc-factors",
        scaled("kfc-factors", 2, 1),
        "Omega is 2 times what it should be: a factor 2",
    ),
    "Gamma over N T": (
        "kfc-factors",
        scaled("kfc-factors", 1, 1 / 66),
        "Gamma is 1/66 of what it should be: it is divided by N twice; and it is divided by T twice",
    ),
    "W' twice": (
        "reparameterize",
        scaled("reparameterize", 2),
        "W' is 2 times what it should be: a factor 2",
    ),
    "half of alpha and mu": (
        "rescale-and-momentum",
        scaled("rescale-and-momentum", 0.5, 0.5),
        "the 1/2 of the model",
    ),
    "mu twice": ("rescale-and-momentum", scaled("rescale-and-momentum", 1, 2), "alpha is right, but mu is"),
    "s over N K": (
        "ekfac-scales",
        scaled("ekfac-scales", 1 / 45),
        "divided by N twice; and it is a mean over the K",
    ),
    "the batch twice": (
        "all-reduce",
        scaled("all-reduce", 2, 1, 1),
        "gradient is 2 times what it should be: a factor",
    ),
}

# one drawn target in place of the expectation -----------------------------------------------------


def one_each(K: int, N: int) -> tuple[np.ndarray, np.ndarray]:
    """A target of each example, drawn with a seed."""
    return np.random.default_rng(3).integers(K, size=N), np.arange(N)


def drawn_label(x: Any, y: Any, W1: Any, W2: Any) -> Any:
    labels = (y + np.random.default_rng(0).integers(1, 3, size=len(y))) % W2.shape[1]
    return of("backward")(x, labels, W1, W2)


SEEDS = itertools.count()


def afresh(*given: Any) -> Any:
    D, p, _ = given
    rng = np.random.default_rng(next(SEEDS))
    labels = [rng.choice(p.shape[1], p=row) for row in p]
    return moment(D[labels, np.arange(len(p))]) / len(p)


def seeded(D: np.ndarray, p: np.ndarray, y: np.ndarray) -> Any:
    return moment(D[one_each(*p.T.shape)]) / len(p)


def one_number(x: np.ndarray, mu: float, rho: float) -> Any:
    u = np.random.default_rng(0).standard_normal()
    D = np.array([u * np.exp(-rho), u**2 - 1])
    return np.outer(D, D), of("natural-gradient")(x, mu, rho)[1]


def one_term(U_A: np.ndarray, U_G: np.ndarray, abar: np.ndarray, g: np.ndarray) -> Any:
    return of("ekfac-scales")(U_A, U_G, abar, g[one_each(*g.shape[:2])][None])


ONE_EACH = "one target of each example went in, and all of them are to be summed"
DRAWN: Table = {
    "one number": ("natural-gradient", one_number, "it is one outer product, of one number or of a mean"),
    "for the label": ("backward", drawn_label, "the target is another label than y"),
    "of F, another each time": (
        "exact-fisher",
        afresh,
        "Two calls with the same arguments give different results",
    ),
    "of F": (
        "exact-fisher",
        seeded,
        ONE_EACH,
    ),
    "of G": (
        "kronecker-factors",
        lambda abar, g: of("kronecker-factors")(abar, g[one_each(*g.shape[:2])][None]),
        ONE_EACH,
    ),
    "of Gamma": (
        "kfc-factors",
        lambda abar, g: of("kfc-factors")(abar, g[one_each(*g.shape[:2])][None]),
        ONE_EACH,
    ),
    "of s": (
        "ekfac-scales",
        one_term,
        ONE_EACH,
    ),
    "of s, the first": (
        "ekfac-scales",
        lambda U_A, U_G, abar, g: of("ekfac-scales")(U_A, U_G, abar, g[:1]),
        ONE_EACH,
    ),
    "one for all images": (
        "kfac-in-forty-lines",
        kfac("draw(p, rng)", "draw(p[:1], rng)"),
        "one target was drawn for the whole batch, and not one for each example",
    ),
    "from a generator of one's own": (
        "kfac-in-forty-lines",
        kfac("draw(p, rng)", "draw(p, np.random.default_rng())"),
        "Two calls with the same arguments give different results: draw from the rng that is handed in",
    ),
    "the most probable": (
        "kfac-in-forty-lines",
        kfac("draw(p, rng)", "p.argmax(1)"),
        "the most probable target was taken, and not one drawn from p",
    ),
}

# reshaped, where a transpose is meant -------------------------------------------------------------


def turn(v: np.ndarray) -> np.ndarray:
    """The shape of the transpose, and the order of the original."""
    return v.reshape(v.shape[::-1])


RESHAPED: Table = {
    "p": (
        "exact-fisher",
        lambda D, p, y: np.einsum("cna,cn,cnb->ab", D, turn(p), D) / len(p),
        "p was reshaped to (C, N), and its transpose is meant",
    ),
    "abar": (
        "kronecker-factors",
        lambda abar, g: (turn(abar) @ turn(abar).T / len(abar), moment(flat(g)) / len(abar)),
        "abar was reshaped, which mixes the examples, and a transpose is meant",
    ),
    "g": (
        "kronecker-factors",
        lambda abar, g: (moment(abar) / len(abar), turn(flat(g)) @ turn(flat(g)).T / len(abar)),
        "g was reshaped, which mixes the examples, and a transpose is meant",
    ),
    "patches": (
        "kfc-factors",
        lambda abar, g: (turn(flat(abar)) @ turn(flat(abar)).T / len(abar), of("kfc-factors")(abar, g)[1]),
        "abar was reshaped, which mixes the examples, and a transpose is meant",
    ),
    "g of patches": (
        "kfc-factors",
        lambda abar, g: (
            of("kfc-factors")(abar, g)[0],
            turn(flat(g)) @ turn(flat(g)).T / abar[..., 0].size,
        ),
        "g was reshaped, which mixes the examples, and a transpose is meant",
    ),
    "[a, 1]": (
        "backward",
        lambda x, y, W1, W2: (
            *of("backward")(x, y, W1, W2)[:3],
            turn(last(np.tanh(last(x) @ W1))) @ of("backward")(x, y, W1, W2)[1] / len(x),
        ),
        "abar was reshaped, which mixes the examples, and a transpose is meant",
    ),
    "V": (
        "kronecker-step",
        lambda A, G, V: -np.linalg.solve(A, turn(np.linalg.solve(G, turn(V)))),
        "V was reshaped, and its transpose is meant",
    ),
    "V, with the whole product": (
        "kronecker-step",
        lambda A, G, V: -np.linalg.solve(np.kron(G, A), V.ravel()).reshape(V.shape),
        "A and G are swapped: A acts on the inputs, which are the rows of V",
    ),
}

# returned in another order ------------------------------------------------------------------------

ORDERS: Table = {
    "step, F": (
        "natural-gradient",
        after("natural-gradient", lambda F, step: (step, F)),
        "F and step are swapped: expected (F, step), got (step, F).",
    ),
    "top first": (
        "backward",
        after("backward", lambda g1, g2, DW1, DW2: (g2, g1, DW2, DW1)),
        "g1, g2, DW1 and DW2 are swapped: expected (g1, g2, DW1, DW2), got (g2, g1, DW2, DW1).",
    ),
    "weights first": (
        "backward",
        after("backward", lambda g1, g2, DW1, DW2: (DW1, DW2, g1, g2)),
        "got (DW1, DW2, g1, g2).",
    ),
    "DW2 before DW1": (
        "backward",
        after("backward", lambda g1, g2, DW1, DW2: (g1, g2, DW2, DW1)),
        "DW1 and DW2 are swapped: expected (g1, g2, DW1, DW2), got (g1, g2, DW2, DW1).",
    ),
    "G, A": (
        "kronecker-factors",
        after("kronecker-factors", lambda A, G: (G, A)),
        "A and G are swapped: expected (A, G)",
    ),
    "Gamma, Omega": ("kfc-factors", after("kfc-factors", lambda A, G: (G, A)), "Omega and Gamma are swapped"),
    "pi last": (
        "factored-damping",
        after("factored-damping", lambda pi, A, G: (A, G, pi)),
        "expected (pi, A_damped, G_damped), got (A_damped, G_damped, pi).",
    ),
    "G before A": (
        "factored-damping",
        after("factored-damping", lambda pi, A, G: (pi, G, A)),
        "A_damped and G_damped are swapped",
    ),
    "state, Ws": (
        "kfac-in-forty-lines",
        after("kfac-in-forty-lines", lambda Ws, state: (state, Ws)),
        "Ws and state are swapped: expected (Ws, state)",
    ),
    "PsiG, PsiA": (
        "tridiagonal",
        after("tridiagonal", lambda PsiA, PsiG, Sigma: (PsiG, PsiA, Sigma)),
        "PsiA and PsiG are swapped: expected (PsiA, PsiG, Sigma), got (PsiG, PsiA, Sigma).",
    ),
    "Sigma first": (
        "tridiagonal",
        after("tridiagonal", lambda PsiA, PsiG, Sigma: (Sigma, PsiA, PsiG)),
        "got (Sigma, PsiA, PsiG).",
    ),
    "mu, alpha": (
        "rescale-and-momentum",
        after("rescale-and-momentum", lambda alpha, mu: (mu, alpha)),
        "alpha and mu are swapped: expected (alpha, mu), got (mu, alpha).",
    ),
    "G before A on workers": (
        "all-reduce",
        after("all-reduce", lambda gradient, A, G: (gradient, G, A)),
        "A and G are swapped: expected (gradient, A, G), got (gradient, G, A).",
    ),
    "gradient last": (
        "all-reduce",
        after("all-reduce", lambda gradient, A, G: (A, G, gradient)),
        "got (A, G, gradient).",
    ),
    "wrong and swapped": (
        "kronecker-factors",
        after("kronecker-factors", lambda A, G: (2 * G, -A)),
        "A and G are swapped: expected (A, G), got (G, A).",
    ),
}

TABLES = {
    "bias first": BIAS,
    "signs": SIGNS,
    "a second constant": CONSTANTS,
    "one drawn target": DRAWN,
    "reshaped": RESHAPED,
    "another order": ORDERS,
}
