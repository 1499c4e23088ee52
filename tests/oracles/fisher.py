"""Fisher matrices by their definitions: loops over examples and targets, in NumPy alone."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

import minikfac as mk
from minikfac import fisher

# a net of dense layers, one example at a time -------------------------------------------------------------

PHI = {
    "tanh": (np.tanh, lambda s: 1 - np.tanh(s) ** 2),
    "logistic": (lambda s: 1 / (1 + np.exp(-s)), lambda s: np.exp(-s) / (1 + np.exp(-s)) ** 2),
    "relu": (lambda s: np.maximum(s, 0), lambda s: 1.0 * (s > 0)),
    "identity": (lambda s: s, np.ones_like),
}


@dataclass(frozen=True)
class Case:
    """A perceptron with random weights (biases too) and data."""

    sizes: Sequence[int]
    activation: str
    output: str
    net: mk.Network
    theta: np.ndarray
    x: np.ndarray
    y: np.ndarray
    bias: bool = True

    @property
    def Ws(self) -> list[np.ndarray]:
        """Weights (I, O), cut out of theta by hand."""
        shapes = [(i + self.bias, o) for i, o in itertools.pairwise(self.sizes)]
        ends = np.cumsum([0] + [i * o for i, o in shapes])
        return [self.theta[a:b].reshape(s) for a, b, s in zip(ends, ends[1:], shapes, strict=False)]

    @property
    def slices(self) -> list[slice]:
        ends = np.cumsum([0] + [W.size for W in self.Ws])
        return [slice(a, b) for a, b in itertools.pairwise(ends)]

    def signals(self, **options: object) -> fisher.Signals:
        return fisher.signals(self.net, self.theta, self.x, **options)

    def empirical(self) -> fisher.Signals:
        return self.signals(y=self.y, targets="data")


def make_case(
    sizes: Sequence[int] = (3, 4, 3),
    activation: str = "tanh",
    output: str = "categorical",
    n: int = 7,
    seed: int = 0,
    bias: bool = True,
    scale: float = 1,
) -> Case:
    """Weights have variance 0.8 scale^2 / I: with 1 the net is mildly curved, with 3 strongly."""
    rng = np.random.default_rng(seed)
    net = mk.mlp(list(sizes), activation, output, bias)
    theta = 0.3 * rng.standard_normal(net.n_params)
    start = 0
    for i, o in itertools.pairwise(sizes):
        theta[start : start + i * o] *= 3 / i**0.5
        start += (i + bias) * o
    theta *= scale
    x = rng.standard_normal((n, sizes[0]))
    y = {
        "categorical": lambda: rng.integers(0, sizes[-1], n),
        "bernoulli": lambda: 1.0 * (rng.random((n, sizes[-1])) < 0.5),
        "gaussian": lambda: rng.standard_normal((n, sizes[-1])),
    }[output]()
    return Case(sizes, activation, output, net, theta, x, y, bias)


def forward(case: Case, x: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """abar and s of each layer, for one example."""
    phi = PHI[case.activation][0]
    abars, ss = [], []
    a = x
    for W in case.Ws:
        abars.append(np.append(a, 1.0) if case.bias else a)
        ss.append(abars[-1] @ W)
        a = phi(ss[-1])
    return abars, ss


def mean(output: str, z: np.ndarray) -> np.ndarray:
    if output == "categorical":
        return np.exp(z) / np.exp(z).sum()
    return 1 / (1 + np.exp(-z)) if output == "bernoulli" else z


def nll(output: str, z: np.ndarray, y: np.ndarray) -> float:
    """Negative log-likelihood of one target, by its formula."""
    if output == "categorical":
        return -float(np.log(mean(output, z)[y]))
    if output == "bernoulli":
        p = mean(output, z)
        return -float(np.log(np.where(y == 1, p, 1 - p)).sum())
    return 0.5 * float(((y - z) ** 2).sum())


def targets(output: str, z: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
    """Every target with its probability.

    A Gaussian is not enumerated: targets z - e_c of weight 1 give sum_c J_c J_c^T, its closed form J^T J.
    """
    p = mean(output, z)
    if output == "categorical":
        yield from ((p[k], k) for k in range(len(z)))
    elif output == "bernoulli":
        for bits in itertools.product([0, 1], repeat=len(z)):
            y = np.array(bits)
            yield float(np.prod(np.where(y == 1, p, 1 - p))), y
    else:
        yield from ((1.0, z - e) for e in np.eye(len(z)))


def signals_of(case: Case, x: np.ndarray, y: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """(abar, g) of each layer for one example and one target."""
    abars, ss = forward(case, x)
    slope = PHI[case.activation][1]
    one_hot = np.eye(len(ss[-1]))[y] if case.output == "categorical" else y
    g = mean(case.output, ss[-1]) - one_hot
    pairs = []
    for layer in reversed(range(len(abars))):
        pairs.insert(0, (abars[layer], g))
        if layer:
            g = (case.Ws[layer][: case.sizes[layer]] @ g) * slope(ss[layer - 1])
    return pairs


def terms(case: Case) -> Iterator[tuple[float, list[tuple[np.ndarray, np.ndarray]]]]:
    """Weight and signals of every example and every target under the model; the weights hold 1 / N."""
    for x in case.x:
        for p, y in targets(case.output, forward(case, x)[1][-1]):
            yield p / len(case.x), signals_of(case, x, y)


def empirical_terms(case: Case) -> Iterator[tuple[float, list[tuple[np.ndarray, np.ndarray]]]]:
    for x, y in zip(case.x, case.y, strict=True):
        yield 1 / len(case.x), signals_of(case, x, y)


def fisher_matrix(weighted: Iterator[tuple[float, list[tuple[np.ndarray, np.ndarray]]]]) -> np.ndarray:
    """E[ D D^T ], one outer product at a time."""
    F = 0.0
    for weight, pairs in weighted:
        D = np.concatenate([np.outer(abar, g).ravel() for abar, g in pairs])
        F = F + weight * np.outer(D, D)
    return F


def cross_factors(case: Case, layer: int, other: int) -> tuple[np.ndarray, np.ndarray]:
    """E[ abar abar'^T ] and E[ g g'^T ] of two layers, one outer product at a time."""
    A = sum(np.outer(forward(case, x)[0][layer], forward(case, x)[0][other]) / len(case.x) for x in case.x)
    G = sum(weight * np.outer(pairs[layer][1], pairs[other][1]) for weight, pairs in terms(case))
    return A, G


# signals at several locations, by loops over all of them ----------------------------------------------------


def random_signals(
    n: int = 5,
    shapes: Sequence[tuple[int, int, int]] = ((3, 4, 2), (2, 3, 3)),
    k: int = 3,
    seed: int = 0,
    grids: Sequence[tuple[int, int] | None] | None = None,
) -> fisher.Signals:
    """Layers of T locations, I inputs and O outputs each: ``shapes`` holds (T, I, O)."""
    rng = np.random.default_rng(seed)
    return fisher.Signals.from_layers(
        [
            fisher.LayerSignals(rng.standard_normal((n, t, i)) + 0.5, rng.standard_normal((k, n, t, o)), grid)
            for (t, i, o), grid in zip(shapes, grids or [None] * len(shapes), strict=True)
        ]
    )


def gradient_rows(layer: fisher.LayerSignals) -> np.ndarray:
    """sum_t abar_t g_t^T as one row per (k, n); for scale and shift, sum_t abar_t times g_t."""
    K, N, T, _ = layer.g.shape
    times = np.multiply if layer.abar.ndim == 4 else np.outer
    return np.array(
        [
            sum(times(layer.abar[n, t], layer.g[k, n, t]) for t in range(T)).ravel()
            for k in range(K)
            for n in range(N)
        ]
    )


def synthetic_fisher(signals: fisher.Signals) -> np.ndarray:
    rows = np.concatenate([gradient_rows(layer) for layer in next(iter(signals))], axis=1)
    return rows.T @ rows / signals.n


def synthetic_factors(layer: fisher.LayerSignals, reduce: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """A = E[ sum_t abar abar^T ], G = (1/T) E[ sum_t g g^T ]; reduced: sum of abar, mean of g, first."""
    K, N, T, O = layer.g.shape
    A, G = np.zeros((layer.abar.shape[2],) * 2), np.zeros((O, O))
    for n in range(N):
        if reduce:
            A += np.outer(sum(layer.abar[n]), sum(layer.abar[n])) / N
        for t in range(0 if reduce else T):
            A += np.outer(layer.abar[n, t], layer.abar[n, t]) / N
        for k in range(K):
            if reduce:
                G += np.outer(sum(layer.g[k, n]) / T, sum(layer.g[k, n]) / T) / N
            for t in range(0 if reduce else T):
                G += np.outer(layer.g[k, n, t], layer.g[k, n, t]) / (N * T)
    return A, G


def moment(signal: np.ndarray, t: int, u: int) -> np.ndarray:
    """E[ v_t v_u^T ] of v (K, N, T, I), one outer product at a time."""
    K, N = signal.shape[:2]
    return sum(np.outer(signal[k, n, t], signal[k, n, u]) for k in range(K) for n in range(N)) / N


def ladder_block(layer: fisher.LayerSignals, assume: set[str]) -> np.ndarray:
    """A layer's block under assumptions, one pair of locations at a time."""
    abar, g = layer.abar[None], layer.g
    (K, N, T, _), (H, W) = g.shape, layer.grid or (1, layer.abar.shape[1])
    places = [divmod(t, W) for t in range(H * W)]
    pairs = [(t, u) for t in range(T) for u in range(T) if t == u or "SUD" not in assume]
    if "IAD" not in assume:
        return sum(
            np.kron(np.outer(abar[0, n, t], abar[0, n, u]), np.outer(g[k, n, t], g[k, n, u])) / N
            for t, u in pairs
            for n in range(N)
            for k in range(K)
        )

    def second(t: int, u: int) -> np.ndarray:
        if "SH" not in assume:
            return moment(g, t, u)
        alike = [
            moment(g, a, b)
            for a in range(T)
            for b in range(T)
            if np.subtract(places[b], places[a]).tolist() == np.subtract(places[u], places[t]).tolist()
        ]
        return sum(alike) / len(alike)

    return sum(np.kron(moment(abar, t, u), second(t, u)) for t, u in pairs)


# damping and the chain, densely ---------------------------------------------------------------------------


def factored(A: np.ndarray, G: np.ndarray, lam: float) -> tuple[np.ndarray, np.ndarray]:
    """The factors of factored Tikhonov damping [MG15, sec. 6.3]."""
    pi = np.sqrt((np.trace(A) / len(A)) / (np.trace(G) / len(G)))
    return A + pi * np.sqrt(lam) * np.eye(len(A)), G + np.sqrt(lam) / pi * np.eye(len(G))


def chain(
    factors: Sequence[tuple[np.ndarray, np.ndarray]], cross: Sequence[tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Fhat and its inverse Xi^T Lambda Xi of the block-tridiagonal chain, in dense matrices."""
    blocks = [np.kron(A, G) for A, G in factors]
    ends = np.cumsum([0] + [len(block) for block in blocks])
    slices = [slice(a, b) for a, b in itertools.pairwise(ends)]
    Xi, Lambda, Sigma = np.eye(ends[-1]), np.zeros((ends[-1],) * 2), np.zeros((ends[-1],) * 2)
    for layer, block in enumerate(blocks):
        here = slices[layer]
        sigma = block
        if layer + 1 < len(blocks):
            up = np.kron(*cross[layer])
            Psi = up @ np.linalg.inv(blocks[layer + 1])
            Xi[here, slices[layer + 1]] = -Psi
            sigma = block - Psi @ blocks[layer + 1] @ Psi.T
        Sigma[here, here], Lambda[here, here] = sigma, np.linalg.inv(sigma)
    back = np.linalg.inv(Xi)
    return back @ Sigma @ back.T, Xi.T @ Lambda @ Xi
