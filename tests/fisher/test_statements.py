"""Where each approximation is exact and where it is not, what sampling does, and how all of them scale."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikfac import fisher
from oracles import EXACT, SOLVE, error
from oracles.fisher import Case, empirical_terms, fisher_matrix, make_case, random_signals

FAR = 0.05
"""Relative distance above which two matrices count as different."""
STANDARD_ERRORS = 5
"""How far a Monte Carlo mean may be off; seeds are fixed."""
OUTPUTS = ["categorical", "bernoulli", "gaussian"]
ACTIVATIONS = ["tanh", "logistic", "relu"]

seeds = st.integers(0, 2**16)


def errors(approximation: fisher.FisherMatrix, exact: fisher.FisherMatrix) -> list[float]:
    """Relative error of each layer's block."""
    pairs = zip(approximation.blocks, exact.blocks, strict=True)
    return [error(approximate.to_dense(), block.to_dense()) for approximate, block in pairs]


def kfac_errors(signals: fisher.Signals, reduce: bool = False) -> list[float]:
    return errors(fisher.kfac(signals, reduce=reduce), fisher.block_diagonal(signals))


# where K-FAC is exact -----------------------------------------------------------------------------------


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@given(seed=seeds)
def test_kfac_is_exact_for_one_example(output: str, activation: str, seed: int) -> None:
    case = make_case((3, 4, 5, 2), activation, output, n=1, seed=seed)
    if activation == "relu":  # keep every unit alive: a block of zeros has no relative error
        case = replace(case, theta=abs(case.theta), x=abs(case.x))
    rng = np.random.default_rng(seed)
    for signals in (
        case.signals(),
        case.empirical(),
        case.signals(targets="sampled", n_samples=3, rng=rng),
    ):
        assert max(kfac_errors(signals)) < EXACT
        assert max(kfac_errors(signals, reduce=True)) < EXACT


@pytest.mark.parametrize("output", OUTPUTS)
@given(seed=seeds)
def test_kfac_is_exact_where_all_inputs_are_equal(output: str, seed: int) -> None:
    case = make_case((3, 4, 5, 2), "tanh", output, n=6, seed=seed)
    case.x[:] = case.x[0]
    assert max(kfac_errors(case.signals())) < EXACT
    assert max(kfac_errors(case.empirical())) < EXACT  # G alone depends on the labels


@given(seed=seeds)
def test_kfac_is_exact_for_deep_linear_nets_with_squared_error(seed: int) -> None:
    case = make_case((3, 4, 5, 2), "identity", "gaussian", seed=seed)
    assert max(kfac_errors(case.signals())) < EXACT


@given(seed=seeds)
def test_khatri_rao_is_exact_for_deep_linear_nets(seed: int) -> None:
    case = make_case((3, 4, 5, 2), "identity", "gaussian", seed=seed)
    F = fisher.exact(case.signals()).to_dense()
    assert error(fisher.khatri_rao(case.signals()).to_dense(), F) < EXACT


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_kfac_is_exact_for_the_last_layer_with_squared_error(activation: str) -> None:
    *below, last = kfac_errors(make_case((3, 4, 5, 2), activation, "gaussian", scale=3).signals())
    assert last < EXACT
    assert min(below) > FAR


# where it is not ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["categorical", "bernoulli"])
def test_kfac_is_not_exact_for_several_examples(output: str) -> None:
    assert min(kfac_errors(make_case((3, 4, 5, 3), "tanh", output, n=20, scale=3).signals())) > FAR


def test_kfac_is_not_exact_for_deep_linear_nets_with_softmax() -> None:
    assert min(kfac_errors(make_case((3, 4, 5, 3), "identity", "categorical").signals())) > FAR


def test_kfac_with_labels_is_not_exact_in_linear_nets() -> None:
    case = make_case((3, 4, 5, 2), "identity", "gaussian")
    E = fisher_matrix(empirical_terms(case))
    for block, part in zip(fisher.kfac(case.empirical()).blocks, case.slices, strict=True):
        assert error(block.to_dense(), E[part, part]) > FAR


def test_kfac_is_not_exact_for_one_example_at_several_locations() -> None:
    signals = random_signals(n=1, shapes=((4, 3, 2),))
    assert min(kfac_errors(signals)) > FAR
    assert min(kfac_errors(signals, reduce=True)) > FAR


def test_layers_are_correlated() -> None:
    case = make_case((3, 4, 3), n=20)
    F = fisher.exact(case.signals()).to_dense()
    assert error(fisher.block_diagonal(case.signals()).to_dense(), F) > FAR


def test_labels_give_another_matrix_than_the_model() -> None:
    for output in OUTPUTS:
        case = make_case(output=output, n=20)
        assert error(fisher.exact(case.empirical()).to_dense(), fisher.exact(case.signals()).to_dense()) > FAR


# locations ----------------------------------------------------------------------------------------------


def over_locations(abar: np.ndarray, g: np.ndarray, n: int, t: int) -> fisher.Signals:
    """Signals of one layer from abar (N or 1, T or 1, I) and g (K, N or 1, T or 1, O), repeated."""
    return fisher.Signals.from_layers(
        [
            fisher.LayerSignals(
                np.broadcast_to(abar, (n, t, abar.shape[2])).copy(),
                np.broadcast_to(g, (len(g), n, t, g.shape[3])).copy(),
            )
        ]
    )


def test_kfc_is_exact_where_derivatives_at_different_locations_are_uncorrelated() -> None:
    rng = np.random.default_rng(0)
    t, o = 3, 2
    root = rng.standard_normal((o, o))
    g = np.zeros((t * o, 1, t, o))  # one term per location and column of a root of Gamma
    for u in range(t):
        g[u * o : (u + 1) * o, 0, u] = root
    signals = over_locations(rng.standard_normal((5, t, 4)), g, 5, t)
    assert max(kfac_errors(signals)) < EXACT
    assert min(kfac_errors(signals, reduce=True)) > FAR


def test_reduce_is_exact_for_equal_derivatives_at_all_locations() -> None:
    rng = np.random.default_rng(0)
    signals = over_locations(rng.standard_normal((5, 3, 4)), rng.standard_normal((2, 1, 1, 2)), 5, 3)
    assert max(kfac_errors(signals, reduce=True)) < EXACT
    assert min(kfac_errors(signals)) > FAR


def test_constant_signals_make_the_block_t_times_kfc() -> None:
    rng = np.random.default_rng(0)
    signals = over_locations(rng.standard_normal((1, 1, 4)), rng.standard_normal((2, 1, 1, 2)), 5, 3)
    block = fisher.block_diagonal(signals).to_dense()
    assert error(3 * fisher.kfac(signals).to_dense(), block) < EXACT
    assert error(fisher.kfac(signals, reduce=True).to_dense(), block) < EXACT
    assert error(fisher.kfac(signals).to_dense(), block) > FAR


# Fisher and Hessian -------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_hessian_of_a_linear_model_is_fisher(output: str) -> None:
    case = make_case((4, 3), output=output)
    H = fisher.hessian(case.net, case.theta, case.x, case.y).to_dense()
    assert error(H, fisher.exact(case.signals()).to_dense()) < EXACT


@pytest.mark.parametrize("output", OUTPUTS)
def test_only_the_last_layers_hessian_is_its_fisher_block(output: str) -> None:
    case = make_case((3, 4, 3), "tanh", output)
    H = fisher.hessian(case.net, case.theta, case.x, case.y).to_dense()
    blocks = fisher.block_diagonal(case.signals()).blocks
    below, last = (
        error(H[part, part], block.to_dense()) for part, block in zip(case.slices, blocks, strict=True)
    )
    assert last < EXACT
    assert below > FAR


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_hessian_of_a_relu_net_has_fisher_blocks(output: str) -> None:
    case = make_case((3, 6, 5, 3), "relu", output)
    H = fisher.hessian(case.net, case.theta, case.x, case.y).to_dense()
    F = fisher.exact(case.signals()).to_dense()
    for part in case.slices:
        assert error(H[part, part], F[part, part]) < EXACT
    assert error(H, F) > FAR


# the order of the approximations ------------------------------------------------------------------------


@given(seed=seeds, output=st.sampled_from(OUTPUTS), n=st.integers(2, 12))
def test_the_nearest_product_and_ekfac_are_optimal(seed: int, output: str, n: int) -> None:
    case = make_case((2, 4, 3), "tanh", output, n=n, seed=seed)
    signals = case.signals()
    makers = (fisher.block_diagonal, fisher.nearest_kronecker, fisher.kfac, fisher.ekfac)
    for blocks in zip(*(make(signals).blocks for make in makers), strict=True):
        F, nearest, kfac, ekfac = (block.to_dense() for block in blocks)
        scaled = (F * kfac).sum() / (kfac**2).sum() * kfac
        slack = SOLVE  # where two agree, rounding and the power iteration decide
        assert error(nearest, F) <= error(scaled, F) + slack
        assert error(scaled, F) <= error(kfac, F) + slack
        assert error(ekfac, F) <= error(kfac, F) + slack


def test_the_order_is_strict_as_a_rule() -> None:
    signals = make_case((3, 4, 5, 3), "tanh", n=20, scale=3).signals()
    F = fisher.block_diagonal(signals)
    kfac = errors(fisher.kfac(signals), F)
    for better in (fisher.nearest_kronecker, fisher.ekfac):
        for better_error, worse in zip(errors(better(signals), F), kfac, strict=True):
            assert 0 < better_error < 0.97 * worse


# what K-FAC leaves out: cumulants [MG15, sec. 3.1] --------------------------------------------------------


def partitions(items: list[int]) -> list[list[list[int]]]:
    """Every way to split the items into groups."""
    if not items:
        return [[]]
    first, rest = items[0], items[1:]
    complete = []
    for size in range(len(rest) + 1):
        for others in itertools.combinations(rest, size):
            left = [item for item in rest if item not in others]
            complete += [[[first, *others], *more] for more in partitions(left)]
    return complete


def cumulant(*samples: np.ndarray) -> float:
    """Joint cumulant of equally likely samples: sum over partitions of (-1)^(b-1) (b-1)! prod E[prod]."""
    return sum(
        (-1) ** (len(groups) - 1)
        * math.factorial(len(groups) - 1)
        * math.prod(float(np.mean(np.prod([samples[item] for item in group], axis=0))) for group in groups)
        for groups in partitions(list(range(len(samples))))
    )


def kfac_surplus(a1: np.ndarray, a2: np.ndarray, g1: np.ndarray, g2: np.ndarray) -> float:
    """k(a1, a2, g1, g2) + E[a1] k(a2, g1, g2) + E[a2] k(a1, g1, g2)."""
    return cumulant(a1, a2, g1, g2) + a1.mean() * cumulant(a2, g1, g2) + a2.mean() * cumulant(a1, g1, g2)


def signals_with_signs(a: np.ndarray, g: np.ndarray) -> fisher.Signals:
    """Signals of a dense layer, a (N, I) and g (N, O), each g with both signs: E[g] = 0 given a."""
    layer = fisher.LayerSignals(a[:, None], np.stack([g, -g])[:, :, None] / 2**0.5)
    return fisher.Signals.from_layers([layer])


@given(seed=seeds, n=st.integers(2, 9))
def test_kfac_leaves_out_cumulants_of_orders_three_and_four(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((n, 3)) + 0.8
    g = rng.standard_normal((n, 2)) * a[:, :2] ** 2
    signals = signals_with_signs(a, g)
    left_out = fisher.exact(signals).to_dense() - fisher.kfac(signals).to_dense()
    a, g = np.concatenate([a, a]), np.concatenate([g, -g])
    expected = [
        [kfac_surplus(a[:, i], a[:, j], g[:, o], g[:, p]) for j in range(3) for p in range(2)]
        for i in range(3)
        for o in range(2)
    ]
    assert error(left_out, np.array(expected)) < SOLVE


def exponential_atoms(n: int = 40) -> np.ndarray:
    """Equally likely points with the moments 0, 1, 2, 9 of e - 1, e ~ Exp(1)."""
    u = -np.log(1 - (np.arange(n) + 0.5) / n) - 1
    powers = np.arange(1, 5)
    for _ in range(50):  # Newton's method, least change
        gap = (u[:, None] ** powers).mean(0) - np.array([0, 1, 2, 9])
        u = u - np.linalg.pinv((powers * u[:, None] ** (powers - 1)).T / n) @ gap
    return u


def test_the_cumulants_of_exponential_activities() -> None:
    """a = 0.8 + u, g = u eps: E[a^2 g^2] = 0.64 + 1.6 * 2 + 9, E[a^2] E[g^2] = 1.64."""
    u = exponential_atoms()
    signals = signals_with_signs(0.8 + u[:, None], u[:, None])
    exact, kfac = fisher.exact(signals).trace(), fisher.kfac(signals).trace()
    assert exact == pytest.approx(12.84, rel=SOLVE)
    assert kfac == pytest.approx(1.64, rel=SOLVE)
    a, g = np.tile(0.8 + u, 2), np.concatenate([u, -u])
    assert cumulant(a, a, g, g) == pytest.approx(8, rel=SOLVE)
    assert cumulant(a, g, g) == pytest.approx(2, rel=SOLVE)
    assert exact - kfac == pytest.approx(8 + 2 * 0.8 * 2, rel=SOLVE)


# Monte Carlo --------------------------------------------------------------------------------------------

N_SAMPLES = [1, 4, 16, 64]
N_SEEDS = 400


def sampled(case: Case, n_samples: int, seed: int) -> np.ndarray:
    """F by its definition from the signals of one seed: their weights are what is tested here."""
    rng = np.random.default_rng([seed, n_samples])
    (layers,) = case.signals(targets="sampled", n_samples=n_samples, rng=rng)
    D = np.concatenate([layer.gradients() for layer in layers], axis=2).reshape(-1, len(case.theta))
    return D.T @ D / len(case.x)


@pytest.fixture(scope="module", params=OUTPUTS)
def monte_carlo(request: pytest.FixtureRequest) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """The exact matrix, and per number of samples the sampled ones of all seeds, (seed, P, P)."""
    case = make_case((2, 2, 3), "tanh", request.param, n=5)
    exact = fisher.exact(case.signals()).to_dense()
    return exact, {m: np.array([sampled(case, m, seed) for seed in range(N_SEEDS)]) for m in N_SAMPLES}


MonteCarlo = tuple[np.ndarray, dict[int, np.ndarray]]


@pytest.mark.parametrize("n_samples", N_SAMPLES)
def test_the_sampled_trace_has_the_exact_mean(monte_carlo: MonteCarlo, n_samples: int) -> None:
    exact, matrices = monte_carlo
    ratios = matrices[n_samples].trace(axis1=1, axis2=2) / exact.trace()
    standard_error = ratios.std(ddof=1) / N_SEEDS**0.5
    assert standard_error < 0.05  # sharp enough to see a factor 1 / M
    assert abs(ratios.mean() - 1) < STANDARD_ERRORS * standard_error


@pytest.mark.parametrize("n_samples", N_SAMPLES)
def test_every_sampled_entry_has_the_exact_mean(monte_carlo: MonteCarlo, n_samples: int) -> None:
    exact, matrices = monte_carlo
    standard_error = matrices[n_samples].std(axis=0, ddof=1) / N_SEEDS**0.5
    assert (abs(matrices[n_samples].mean(0) - exact) < STANDARD_ERRORS * standard_error + EXACT).all()


def test_the_sampled_residual_falls_as_the_root_of_samples(monte_carlo: MonteCarlo) -> None:
    exact, matrices = monte_carlo
    rms = [((matrices[m] - exact) ** 2).sum((1, 2)).mean() ** 0.5 for m in N_SAMPLES]
    slope = np.polyfit(np.log(N_SAMPLES), np.log(rms), 1)[0]
    assert abs(slope + 0.5) < 0.1


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("batch_size", [1, 4, 6])
def test_sampled_matrices_do_not_depend_on_the_chunks(output: str, batch_size: int) -> None:
    case = make_case(output=output)

    def F(batch_size: int | None) -> np.ndarray:
        rng = np.random.default_rng(0)
        options = {"targets": "sampled", "n_samples": 3, "rng": rng, "batch_size": batch_size}
        return fisher.exact(case.signals(**options)).to_dense()

    assert error(F(batch_size), F(None)) < EXACT


# laws of scale ------------------------------------------------------------------------------------------

KINDS: dict[str, Callable[[fisher.Signals], fisher.FisherMatrix]] = {
    "exact": fisher.exact,
    "block_diagonal": fisher.block_diagonal,
    "diagonal": fisher.diagonal,
    "kfac": fisher.kfac,
    "reduce": lambda signals: fisher.kfac(signals, reduce=True),
    "khatri_rao": fisher.khatri_rao,
    "block_tridiagonal": lambda signals: fisher.block_tridiagonal(signals).damped(0),
    "ekfac": fisher.ekfac,
    "nearest_kronecker": fisher.nearest_kronecker,
    "low_rank": lambda signals: fisher.low_rank(signals, rank=3),
    "mixed": lambda signals: fisher.mixed(signals, {0: "exact"}, default="diagonal"),
}
every_kind = pytest.mark.parametrize("kind", KINDS)
LAWS = make_case((3, 4, 3), output="bernoulli", n=30)


def dense(kind: str, case: Case, **options: object) -> np.ndarray:
    return KINDS[kind](case.signals(**options)).to_dense()


@every_kind
def test_copies_of_the_data_change_nothing(kind: str) -> None:
    copies = replace(LAWS, x=np.tile(LAWS.x, (4, 1)))
    assert error(dense(kind, copies), dense(kind, LAWS)) < SOLVE


@every_kind
def test_the_order_of_the_examples_does_not_matter(kind: str) -> None:
    shuffled = replace(LAWS, x=np.random.default_rng(0).permutation(LAWS.x))
    assert error(dense(kind, shuffled), dense(kind, LAWS)) < SOLVE


@every_kind
@pytest.mark.parametrize("batch_size", [1, 7, 29])
def test_the_size_of_the_chunks_does_not_matter(kind: str, batch_size: int) -> None:
    assert error(dense(kind, LAWS, batch_size=batch_size), dense(kind, LAWS)) < SOLVE


@every_kind
def test_two_halves_average_to_the_whole(kind: str) -> None:
    halves = [dense(kind, replace(LAWS, x=half)) for half in (LAWS.x[:15], LAWS.x[15:])]
    off = error(sum(halves) / 2, dense(kind, LAWS))
    if kind in ("exact", "block_diagonal", "diagonal", "mixed"):
        assert off < EXACT
    else:  # a product of two expectations is not
        assert off > 1e-3


@every_kind
def test_outer_products_grow_as_the_loss_squared(kind: str) -> None:
    layers = next(iter(LAWS.signals()))
    scaled = fisher.Signals.from_layers([fisher.LayerSignals(layer.abar, 3 * layer.g) for layer in layers])
    assert error(KINDS[kind](scaled).to_dense(), 9 * dense(kind, LAWS)) < SOLVE


def test_only_the_empirical_matrix_follows_the_residuals() -> None:
    case = make_case(output="gaussian", n=20)
    z = case.net.predict(case.theta, case.x)
    far = replace(case, y=z + 3 * (case.y - z))
    E, E_far = (fisher.exact(one.empirical()).to_dense() for one in (case, far))
    assert error(E_far, 9 * E) < EXACT
    perfect = fisher.exact(replace(case, y=z).empirical()).to_dense()
    assert (perfect == 0).all()
    G, G_far = (fisher.gauss_newton(one.net, one.theta, one.x, one.y).to_dense() for one in (case, far))
    assert error(G_far, G) < EXACT


def test_the_fisher_matrix_is_the_second_derivative_of_the_divergence() -> None:
    """KL( p || p' ) = 1/2 d^T F d + O( ||d||^3 )."""
    for output in ("categorical", "bernoulli"):
        case = make_case(output=output)
        F = fisher.exact(case.signals())
        d = np.random.default_rng(0).standard_normal(len(case.theta))
        steps = np.array([0.04, 0.02, 0.01])
        gaps = [
            abs(case.net.kl(case.theta, case.theta + h * d, case.x) - 0.5 * h**2 * float(d @ (F @ d)))
            for h in steps
        ]
        slope = np.polyfit(np.log(steps), np.log(gaps), 1)[0]
        assert abs(slope - 3) < 0.2
