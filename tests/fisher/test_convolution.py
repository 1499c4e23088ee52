"""Exact statements on convolutions: where KFC, KFAC-reduce and T x KFC are exact, and where they are not.

Images are generated: on real ones near-constant borders make differences small that should be large.
"""

import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.linalg
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st

import minikfac as mk
from minikfac import fisher, layers, outputs
from oracles import EXACT, SOLVE, all_targets, derivative, error, loop_mean, random_targets, standin
from oracles.fisher import gradient_rows, synthetic_factors, synthetic_fisher

FAR = 0.05
"""Relative distance above which two matrices count as different."""
FINITE_DIFFERENCE = 1e-8
"""Relative error of J^T J, with J by central differences of fourth order."""
STANDARD_ERRORS = 5
"""How far a Monte Carlo mean may be off; seeds are fixed."""

OUTPUTS = {"categorical": outputs.Categorical, "bernoulli": outputs.Bernoulli, "gaussian": outputs.Gaussian}
all_outputs = pytest.mark.parametrize("output", OUTPUTS)
C_IN = 2


@dataclass(frozen=True)
class Geometry:
    """An image and how a kernel slides over it."""

    extents: tuple[int, int]
    kernel: int | tuple[int, int]
    stride: int | tuple[int, int] = 1
    padding: int | tuple[int, int] | str = 0
    dilation: int | tuple[int, int] = 1

    def conv(self, c_in: int = C_IN, c_out: int = 3, bias: bool = True) -> layers.Conv2d:
        return layers.Conv2d(c_in, c_out, self.kernel, self.stride, self.padding, bias, 0.0, self.dilation)

    def grid(self) -> tuple[int, int]:
        h, w, _ = self.conv().output_shape((*self.extents, C_IN))
        return h, w


GEOMETRIES = {
    "valid": Geometry((4, 5), (2, 3)),
    "padded": Geometry((4, 4), 3, padding=1),
    "strided": Geometry((5, 6), (3, 2), 2),
    "padded and strided": Geometry((5, 4), 3, (2, 1), (1, 2)),
    "gaps between": Geometry((7, 5), 2, 3),
    "same, even": Geometry((4, 3), (2, 4), padding="same"),
    "one row": Geometry((3, 5), (1, 3), padding=(0, 1)),
    "one pixel": Geometry((3, 4), 1),
    "dilated": Geometry((6, 6), (3, 2), (1, 2), (1, 0), (2, 3)),
    "mostly padding": Geometry((2, 2), 3, padding=2),
}
geometries = pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)


def build(
    parts: Sequence[layers.Layer], output: str, extents: tuple[int, int], n: int = 4, seed: int = 0
) -> tuple[mk.Network, np.ndarray, np.ndarray]:
    """A net with random theta, biases too, and random images."""
    rng = np.random.default_rng(seed)
    net = mk.Network(parts, OUTPUTS[output]())
    theta = net.init(rng) + 0.2 * rng.standard_normal(net.n_params)
    return net, theta, rng.standard_normal((n, *extents, C_IN)) + 0.3


def errors(F: fisher.FisherMatrix, signals: fisher.Signals) -> list[float]:
    """Relative error of each layer's block."""
    exact = fisher.block_diagonal(signals)
    return [error(a.to_dense(), b.to_dense()) for a, b in zip(F.blocks, exact.blocks, strict=True)]


# where KFC is exact -------------------------------------------------------------------------------------


def one_location(output: str, activation: layers.Layer, n: int) -> tuple[mk.Network, np.ndarray, np.ndarray]:
    """A kernel as large as the image, then 1 x 1 convolutions on what is left of it."""
    parts = [
        layers.Conv2d(C_IN, 4, (3, 2)),
        activation,
        layers.Conv2d(4, 3, 3, padding=1),
        activation,
        layers.Flatten(),
        layers.Dense(3, 3),
    ]
    return build(parts, output, (3, 2), n)


@all_outputs
@pytest.mark.parametrize("activation", [layers.Tanh(), layers.ReLU(), layers.Softplus()], ids=repr)
def test_all_are_exact_for_one_example_at_one_location(output: str, activation: layers.Layer) -> None:
    net, theta, x = one_location(output, activation, n=1)
    theta, x = abs(theta), abs(x)  # units of ReLU stay alive
    y = random_targets(np.random.default_rng(0), output, 1, 3)
    for signals in (fisher.signals(net, theta, x), fisher.signals(net, theta, x, y, targets="data")):
        kinds = [fisher.kfac(signals), fisher.kfac(signals, reduce=True), fisher.fully_correlated(signals)]
        kinds += [fisher.ladder(signals, assume) for assume in fisher.LADDER]
        for matrix in kinds:
            assert max(errors(matrix, signals)) < EXACT


@all_outputs
def test_kfc_is_not_exact_for_several_examples_at_one_location(output: str) -> None:
    net, theta, x = one_location(output, layers.Tanh(), n=12)
    signals = fisher.signals(net, 2 * theta, x)
    conv = slice(0, 2)  # the last layer is exact under squared error
    assert min(errors(fisher.kfac(signals), signals)[conv]) > FAR
    assert max(errors(fisher.kfac(signals, reduce=True), signals)) == pytest.approx(
        max(errors(fisher.kfac(signals), signals)), rel=SOLVE
    )


@geometries
def test_kfc_is_exact_for_squared_error_at_every_location(geometry: Geometry) -> None:
    """Below linear 1 x 1 convolutions derivatives are uncorrelated in space, and the same everywhere."""
    parts = [geometry.conv(), layers.Conv2d(3, 4, 1), layers.Conv2d(4, 2, 1, bias=False), layers.Flatten()]
    net, theta, x = build(parts, "gaussian", geometry.extents, n=5)
    signals = fisher.signals(net, theta, x)
    assert max(errors(fisher.kfac(signals), signals)) < EXACT
    for assume in fisher.LADDER:
        assert max(errors(fisher.ladder(signals, assume), signals)) < EXACT
    assert min(errors(fisher.kfac(signals, reduce=True), signals)) > FAR
    assert min(errors(fisher.fully_correlated(signals), signals)) > FAR


@geometries
def test_below_a_nonlinearity_or_a_wider_kernel_kfc_is_not(geometry: Geometry) -> None:
    for above in ([layers.Tanh(), layers.Conv2d(3, 2, 1)], [layers.Conv2d(3, 2, 3, padding=1)]):
        parts = [geometry.conv(), *above, layers.Flatten()]
        net, theta, x = build(parts, "gaussian", geometry.extents, n=12)
        signals = fisher.signals(net, 2 * theta, x)
        below, last = errors(fisher.kfac(signals), signals)
        assert below > FAR
        assert last < EXACT


@geometries
def test_reduce_is_exact_for_linear_nets_with_pooling(geometry: Geometry) -> None:
    parts = [
        geometry.conv(),
        layers.Conv2d(3, 4, 1),
        layers.GlobalAvgPool(),
        layers.Dense(4, 3),
        layers.Dense(3, 2),
    ]
    net, theta, x = build(parts, "gaussian", geometry.extents, n=5)
    signals = fisher.signals(net, theta, x)
    assert max(errors(fisher.kfac(signals, reduce=True), signals)) < EXACT
    assert max(errors(fisher.ladder(signals, {"IAD", "SH"}), signals)) < EXACT
    *conv, _, _ = errors(fisher.kfac(signals), signals)
    assert min(conv) > FAR


@all_outputs
@pytest.mark.parametrize("name", ["valid", "strided", "gaps between", "one pixel"])
def test_equal_constant_images_make_the_block_t_times_kfc(name: str, output: str) -> None:
    geometry = GEOMETRIES[name]
    parts = [
        geometry.conv(),
        layers.Tanh(),
        layers.Conv2d(3, 4, 1),
        layers.Tanh(),
        layers.GlobalAvgPool(),
        layers.Dense(4, 3),
    ]
    net, theta, x = build(parts, output, geometry.extents, n=4)
    x[:] = x[0, 0, 0]
    signals = fisher.signals(net, theta, x)
    assert max(errors(fisher.fully_correlated(signals), signals)) < EXACT
    assert max(errors(fisher.kfac(signals, reduce=True), signals)) < EXACT
    t = np.prod(geometry.grid())
    *conv, dense = errors(fisher.kfac(signals), signals)
    assert conv == pytest.approx([1 - 1 / t] * 2, rel=SOLVE)
    assert dense < EXACT


def test_padding_makes_constant_images_vary() -> None:
    parts = [GEOMETRIES["padded"].conv(), layers.GlobalAvgPool()]
    net, theta, x = build(parts, "gaussian", (4, 4), n=4)
    x[:] = x[0, 0, 0]
    signals = fisher.signals(net, theta, x)
    assert errors(fisher.fully_correlated(signals), signals)[0] > FAR
    assert errors(fisher.kfac(signals, reduce=True), signals)[0] < EXACT  # the sum of patches, as it is


# where neither is exact ---------------------------------------------------------------------------------


def test_reduce_is_not_exact_below_another_padded_convolution() -> None:
    """At the border of the map above fewer windows meet: g depends on the location after all."""
    conv = layers.Conv2d(C_IN, 3, 3, padding=1)
    for above, exact in ((layers.Conv2d(3, 3, 3, padding=1), False), (layers.Conv2d(3, 3, 1), True)):
        net, theta, x = build([conv, above, layers.GlobalAvgPool()], "gaussian", (4, 4), n=6)
        signals = fisher.signals(net, theta, x)
        below, top = errors(fisher.kfac(signals, reduce=True), signals)
        assert (below < EXACT) if exact else (below > FAR)
        assert top < EXACT


@geometries
@all_outputs
def test_neither_is_exact_for_one_example_below_a_dense_layer(geometry: Geometry, output: str) -> None:
    h, w = geometry.grid()
    parts = [geometry.conv(), layers.Tanh(), layers.Flatten(), layers.Dense(3 * h * w, 4)]
    net, theta, x = build(parts, output, geometry.extents, n=1)
    signals = fisher.signals(net, theta, x)
    for matrix in (fisher.kfac(signals), fisher.kfac(signals, reduce=True), fisher.fully_correlated(signals)):
        conv, dense = errors(matrix, signals)
        assert conv > FAR
        assert dense < EXACT
    assert max(errors(fisher.ladder(signals, {"IAD"}), signals)) < EXACT  # nothing varies but the location


# convolutions that are dense layers ----------------------------------------------------------------------


def matrices(
    net: mk.Network, theta: np.ndarray, x: np.ndarray, y: np.ndarray
) -> dict[str, fisher.FisherMatrix]:
    """Every Fisher matrix that nets other than dense chains have."""
    signals = fisher.signals(net, theta, x)
    kinds = {
        "exact": fisher.exact(signals),
        "empirical": fisher.exact(fisher.signals(net, theta, x, y, targets="data")),
        "block_diagonal": fisher.block_diagonal(signals),
        "diagonal": fisher.diagonal(signals),
        "kfac": fisher.kfac(signals),
        "reduce": fisher.kfac(signals, reduce=True),
        "fully_correlated": fisher.fully_correlated(signals),
        "ekfac": fisher.ekfac(signals),
        "nearest_kronecker": fisher.nearest_kronecker(signals),
        "low_rank": fisher.low_rank(signals, 5),
        "mixed": fisher.mixed(signals, {0: "exact"}),
        "joint": fisher.joint(net, theta, x),
        "product": fisher.product(net, theta, x),
        "gauss_newton": fisher.gauss_newton(net, theta, x, y),
        "hessian": fisher.hessian(net, theta, x, y),
    }
    return kinds | {f"ladder {sorted(a)}": fisher.ladder(signals, a) for a in fisher.LADDER}


@all_outputs
@pytest.mark.parametrize("extents", [(1, 1), (2, 3)], ids=["one pixel", "a kernel of the image's size"])
def test_a_convolution_at_one_location_is_a_dense_layer(output: str, extents: tuple[int, int]) -> None:
    size = C_IN * extents[0] * extents[1]
    conv = [layers.Conv2d(C_IN, 4, extents), layers.Tanh(), layers.Conv2d(4, 3, 1), layers.Flatten()]
    net, theta, x = build(conv, output, extents, n=7)
    dense = mk.Network([layers.Dense(size, 4), layers.Tanh(), layers.Dense(4, 3)], OUTPUTS[output]())
    y = random_targets(np.random.default_rng(0), output, 7, 3)
    expected = matrices(dense, theta, x.reshape(7, size), y)
    for name, matrix in matrices(net, theta, x, y).items():
        assert error(matrix.to_dense(), expected[name].to_dense()) < SOLVE, name


def test_convolutions_have_no_matrices_of_dense_chains() -> None:
    net, theta, x = build([layers.Conv2d(C_IN, 3, 2), layers.GlobalAvgPool()], "gaussian", (3, 3))
    signals = fisher.signals(net, theta, x)
    with pytest.raises(ValueError, match="expected a chain of dense layers for block_tridiagonal"):
        fisher.block_tridiagonal(signals)
    with pytest.raises(ValueError, match=r"expected dense layers for .* got shared weights in conv0"):
        fisher.khatri_rao(signals)


# a net of everything, against dense definitions -----------------------------------------------------------


def everything(output: str = "categorical", n: int = 5) -> tuple[mk.Network, np.ndarray, np.ndarray]:
    """Convolutions, normalizations, pooling, a residual and a parallel layer, and a dense one."""
    parts = [
        layers.Conv2d(C_IN, 2, 3, padding=1),
        layers.BatchNorm(2),
        layers.Tanh(),
        layers.Residual(
            [layers.Conv2d(2, 3, (1, 3), padding=(0, 1)), layers.GroupNorm(1, 3), layers.Tanh()],
            layers.Conv2d(2, 3, 1, bias=False),
        ),
        layers.MaxPool2d(2),
        layers.Parallel(layers.Conv2d(3, 1, 1), [layers.Conv2d(3, 2, 2, padding="same"), layers.Softplus()]),
        layers.LayerNorm(3),
        layers.Flatten(),
        layers.Dense(12, 3),
    ]
    return build(parts, output, (4, 4), n)


@all_outputs
def test_exact_is_the_expectation_over_all_targets(output: str) -> None:
    net, theta, x = everything(output, n=3)
    z = lambda theta: net.forward(theta, x).z  # noqa: E731
    J = np.stack([derivative(z, theta, e, h=2e-4) for e in np.eye(len(theta))], axis=-1)
    F = 0.0
    for row, J_n in zip(z(theta), J, strict=True):
        for p, y in all_targets(output, row):
            one_hot = np.eye(3)[y] if output == "categorical" else np.asarray(y)
            D = J_n.T @ (one_hot - loop_mean(output, row))
            F = F + p * np.outer(D, D) / len(x)
    assert error(fisher.exact(fisher.signals(net, theta, x)).array, F) < FINITE_DIFFERENCE
    assert error(fisher.product(net, theta, x).to_dense(), F) < FINITE_DIFFERENCE


@pytest.mark.parametrize("by_pairs", [True, False], ids=["pairs of locations", "targets"])
@pytest.mark.parametrize("batch_size", [None, 2])
def test_both_ways_of_summing_are_the_definition(
    by_pairs: bool, batch_size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over pairs of locations, T^2 of them, or over the K targets of per-example gradients."""
    net, theta, x = everything()
    module = sys.modules["minikfac.fisher.exact"]

    def way(first: fisher.LayerSignals, second: fisher.LayerSignals) -> bool:
        return by_pairs and not (first.scale_and_shift or second.scale_and_shift)

    monkeypatch.setattr(module, "_by_pairs_of_locations", way)
    signals = fisher.signals(net, theta, x, batch_size=batch_size)
    expected = synthetic_fisher(fisher.signals(net, theta, x))
    assert error(fisher.exact(signals).array, expected) < EXACT
    blocks = fisher.block_diagonal(signals).blocks
    for block, part in zip(blocks, net.slices, strict=True):
        assert error(block.to_dense(), expected[part, part]) < EXACT


def test_the_cheaper_way_is_taken() -> None:
    way = sys.modules["minikfac.fisher.exact"]._by_pairs_of_locations
    for t, u, k, expected in (
        (1, 1, 1, True),
        (2, 2, 4, True),
        (2, 2, 3, False),
        (2, 3, 6, True),
        (3, 3, 8, False),
    ):
        first, second = (
            fisher.LayerSignals(np.ones((2, size, 3)), np.ones((k, 2, size, 2))) for size in (t, u)
        )
        assert way(first, second) == expected


@geometries
@pytest.mark.parametrize("k", [1, 3])
def test_exact_sums_over_examples_targets_and_locations(geometry: Geometry, k: int) -> None:
    parts = [geometry.conv(bias=False), layers.Tanh(), layers.GlobalAvgPool(), layers.Dense(3, 3)]
    net, theta, x = build(parts, "categorical", geometry.extents, n=3)
    rng = np.random.default_rng(0)
    signals = fisher.signals(net, theta, x, targets="sampled", n_samples=k, rng=rng)
    assert error(fisher.exact(signals).array, synthetic_fisher(signals)) < EXACT


@pytest.fixture(scope="module", params=[None, 2], ids=["whole", "chunks"])
def dense_oracle(request: pytest.FixtureRequest) -> tuple[mk.Network, fisher.Signals, list, np.ndarray]:
    """A net, its signals, those of the one chunk, and the exact matrix by loops."""
    net, theta, x = everything()
    signals = fisher.signals(net, theta, x)
    recipe = fisher.signals(net, theta, x, batch_size=request.param)
    return net, recipe, next(iter(signals)), synthetic_fisher(signals)


Oracle = tuple[mk.Network, fisher.Signals, list[fisher.LayerSignals], np.ndarray]


def check_blocks(
    oracle: Oracle,
    matrix: fisher.FisherMatrix,
    expected: Callable[[fisher.LayerSignals, np.ndarray], np.ndarray],
) -> None:
    """Compare with what is expected of a layer's signals and exact block; normalizations have that block."""
    net, _, chunk, F = oracle
    for name, block, layer, part in zip(net.names, matrix.blocks, chunk, net.slices, strict=True):
        whole = F[part, part]
        right = whole if layer.scale_and_shift else expected(layer, whole)
        assert error(block.to_dense(), right) < SOLVE, name


def test_diagonal_is_that_of_the_exact_matrix(dense_oracle: Oracle) -> None:
    _, signals, _, F = dense_oracle
    assert error(fisher.diagonal(signals).to_dense(), np.diag(np.diag(F))) < EXACT


@pytest.mark.parametrize("reduce", [False, True])
def test_kfac_is_a_kronecker_product_per_weight_matrix(dense_oracle: Oracle, reduce: bool) -> None:
    matrix = fisher.kfac(dense_oracle[1], reduce=reduce)
    check_blocks(dense_oracle, matrix, lambda layer, F: np.kron(*synthetic_factors(layer, reduce)))


def test_ekfac_is_the_diagonal_in_the_eigenbasis_of_kfc(dense_oracle: Oracle) -> None:
    def expected(layer: fisher.LayerSignals, F: np.ndarray) -> np.ndarray:
        U = np.kron(*(np.linalg.eigh(M)[1] for M in synthetic_factors(layer)))
        return (U * np.diag(U.T @ F @ U)) @ U.T

    check_blocks(dense_oracle, fisher.ekfac(dense_oracle[1]), expected)


def rearranged(F: np.ndarray, i: int, o: int) -> np.ndarray:
    """Entry ((i, j), (o, p)) of F[i o, j p]: of rank one for a Kronecker product."""
    return F.reshape(i, o, i, o).swapaxes(1, 2).reshape(i * i, o * o)


def test_nearest_kronecker_is_the_leading_singular_pair(dense_oracle: Oracle) -> None:
    def expected(layer: fisher.LayerSignals, F: np.ndarray) -> np.ndarray:
        i, o = layer.weight_shape
        U, s, Vt = np.linalg.svd(rearranged(F, i, o))
        return np.kron((s[0] * U[:, 0]).reshape(i, i), Vt[0].reshape(o, o))

    check_blocks(dense_oracle, fisher.nearest_kronecker(dense_oracle[1]), expected)


@pytest.mark.parametrize("dense", [0, 1000], ids=["Lanczos", "dense"])
def test_low_rank_keeps_the_leading_eigenvectors(
    dense_oracle: Oracle, dense: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, signals, _, F = dense_oracle
    monkeypatch.setattr(sys.modules["minikfac.fisher.low_rank"], "_DENSE", dense)
    values, vectors = np.linalg.eigh(F)
    expected = (vectors[:, -4:] * values[-4:]) @ vectors[:, -4:].T
    assert error(fisher.low_rank(signals, 4).to_dense(), expected) < SOLVE


def test_mixed_takes_each_block_from_its_own_kind(dense_oracle: Oracle) -> None:
    net, signals, _, F = dense_oracle
    kinds = {
        name: kind
        for name, kind in zip(net.names, itertools.cycle(["exact", "diagonal", "kfac"]), strict=False)
    }
    matrix = fisher.mixed(signals, kinds)
    wholes = {"exact": fisher.block_diagonal, "diagonal": fisher.diagonal, "kfac": fisher.kfac}
    blocks = {kind: make(signals).blocks for kind, make in wholes.items()}
    for layer, (block, kind) in enumerate(zip(matrix.blocks, kinds.values(), strict=True)):
        assert error(block.to_dense(), blocks[kind][layer].to_dense()) < EXACT
    assert error(matrix.to_dense(), F) > FAR


@pytest.mark.parametrize("lam", [0.1, 1.0])
def test_damped_solves_are_those_of_dense_matrices(dense_oracle: Oracle, lam: float) -> None:
    _, signals, _, F = dense_oracle
    v = np.random.default_rng(0).standard_normal(len(F))
    for make in (fisher.exact, fisher.block_diagonal, fisher.kfac, fisher.ekfac, fisher.nearest_kronecker):
        matrix = make(signals)
        expected = scipy.linalg.solve(matrix.to_dense() + lam * np.eye(len(F)), v)
        assert error(matrix.solve(v, lam), expected) < SOLVE


def test_all_matrices_of_convolutions_stay_on_the_device() -> None:
    net, theta, x = everything()
    y, v = np.arange(5) % 3, np.random.default_rng(1).standard_normal(len(theta))

    def products(*arrays: np.ndarray) -> dict[str, np.ndarray]:
        theta, x, y, v = arrays
        return {name: matrix @ v for name, matrix in matrices(net, theta, x, y).items()}

    expected = products(theta, x, y, v)
    with standin.installed():
        for name, moved in products(*map(mk.to_device, (theta, x, y, v))).items():
            assert isinstance(moved, standin.ndarray), name
            assert error(mk.to_host(moved), expected[name]) < SOLVE, name


@pytest.mark.parametrize(
    "norm",
    [layers.BatchNorm(3), layers.GroupNorm(1, 3), layers.LayerNorm(3), layers.RMSNorm(3)],
    ids=lambda layer: layer.kind,
)
@pytest.mark.parametrize("train", [False, True])
def test_scale_and_shift_have_their_whole_block_everywhere(norm: layers.Layer, train: bool) -> None:
    parts = [layers.Conv2d(C_IN, 3, 2), norm, layers.Tanh(), layers.GlobalAvgPool(), norm, layers.Dense(3, 3)]
    net, theta, x = build(parts, "categorical", (4, 4), n=6)
    signals = fisher.signals(net, theta, x, train=train)
    (chunk,) = signals
    for position, T in ((1, 9), (2, 1)):
        layer, part = chunk[position], net.slices[position]
        assert layer.scale_and_shift and layer.abar.shape == (6, T, 1 + norm.bias, 3)
        rows = gradient_rows(layer)
        block = rows.T @ rows / 6
        kinds = [
            f(signals) for f in (fisher.kfac, fisher.ekfac, fisher.nearest_kronecker, fisher.block_diagonal)
        ]
        kinds += [fisher.kfac(signals, reduce=True), fisher.fully_correlated(signals)]
        kinds += [fisher.ladder(signals, assume) for assume in fisher.LADDER]
        for matrix in kinds:
            assert error(matrix.blocks[position].to_dense(), block) < EXACT
        assert error(fisher.exact(signals).array[part, part], block) < EXACT


# the order of the approximations ------------------------------------------------------------------------


@given(
    seed=st.integers(0, 2**16),
    geometry=st.sampled_from(list(GEOMETRIES.values())),
    output=st.sampled_from(list(OUTPUTS)),
    n=st.integers(1, 5),
)
def test_ekfac_and_nearest_are_never_worse_than_kfc(
    seed: int, geometry: Geometry, output: str, n: int
) -> None:
    h, w = geometry.grid()
    parts = [geometry.conv(), layers.Tanh(), layers.Flatten(), layers.Dense(3 * h * w, 3)]
    net, theta, x = build(parts, output, geometry.extents, n, seed)
    signals = fisher.signals(net, theta, x)
    makers = (fisher.block_diagonal, fisher.nearest_kronecker, fisher.kfac, fisher.ekfac)
    for blocks in zip(*(make(signals).blocks for make in makers), strict=True):
        F, nearest, kfac, ekfac = (block.to_dense() for block in blocks)
        scaled = (F * kfac).sum() / (kfac**2).sum() * kfac
        slack = SOLVE  # where two agree, rounding and the power iteration decide
        assert error(nearest, F) <= error(scaled, F) + slack
        assert error(scaled, F) <= error(kfac, F) + slack
        assert error(ekfac, F) <= error(kfac, F) + slack


# KFC's first theorem ------------------------------------------------------------------------------------

T1, T2 = 3, 4
SHIFTS = list(itertools.product((-1, 0, 1), repeat=2))


def beta(*shifts: tuple[int, int]) -> int:
    """Locations t such that t + d is inside the image for every shift d; closed form [GM16, theorem 1]."""
    count = 1
    for extent, axis in ((T1, 0), (T2, 1)):
        offsets = [d[axis] for d in shifts]
        count *= extent - max(0, *offsets) + min(0, *offsets)
    return count


def test_beta_counts_the_locations_where_all_shifts_stay_inside() -> None:
    for d, e in itertools.product(SHIFTS, repeat=2):
        inside = [
            all(0 <= t + shift[0] < T1 and 0 <= u + shift[1] < T2 for shift in (d, e))
            for t, u in itertools.product(range(T1), range(T2))
        ]
        assert beta(d, e) == sum(inside)
        assert beta(d) == beta(d, (0, 0)) == (T1 - abs(d[0])) * (T2 - abs(d[1]))


def test_beta_is_the_activation_factor_of_blank_paper() -> None:
    net = mk.Network([layers.Conv2d(1, 1, 3, padding=1), layers.Flatten()], outputs.Gaussian())
    (block,) = fisher.kfac(
        fisher.signals(net, net.init(np.random.default_rng(0)), np.ones((2, T1, T2, 1)))
    ).blocks
    assert isinstance(block, fisher.KroneckerBlock)
    counts = [[beta(d, e) for e in SHIFTS] for d in SHIFTS]
    border = [beta(d) for d in SHIFTS]
    expected = np.block([[np.array(counts), np.array(border)[:, None]], [np.array([*border, T1 * T2])]])
    assert error(block.A, expected) < EXACT


class Stationary:
    """Images M(j) + filtered white noise, and derivatives of covariance Gamma, white in space."""

    M = np.array([0.7, -0.4])
    FILTERS = np.array([[[1.0, 0.6], [-0.5, 0.3]], [[0.4, -0.8], [0.9, 0.5]]])  # (J, 2, 2)
    ROOT = np.array([[1.0, 0.0], [0.7, 0.5]])

    def images(self, rng: np.random.Generator, n: int) -> np.ndarray:
        noise = rng.standard_normal((n, T1 + 1, T2 + 1))
        maps = [
            sum(f[r] * noise[:, r[0] : r[0] + T1, r[1] : r[1] + T2] for r in np.ndindex(2, 2))
            for f in self.FILTERS
        ]
        return self.M + np.stack(maps, axis=-1)

    def derivatives(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return rng.standard_normal((1, n, T1 * T2, 2)) @ self.ROOT.T

    def omega(self, j: int, other: int, d: tuple[int, int]) -> float:
        """E[ a_{j,t} a_{j',t+d} ]."""
        f, h = self.FILTERS[j], self.FILTERS[other]
        product = self.M[j] * self.M[other]
        for r in np.ndindex(2, 2):  # the noise at t + r is the one that t + d meets at r - d
            s = (r[0] - d[0], r[1] - d[1])
            product += f[r] * h[s] if min(s) >= 0 and max(s) < 2 else 0.0
        return product

    def block(self, count: Callable[..., int]) -> np.ndarray:
        """The theorem's block, entry by entry, with ``count`` for beta."""
        places = [(d, j) for d in SHIFTS for j in range(2)]
        A = np.zeros((len(places) + 1,) * 2)
        for (row, (d, j)), (column, (e, k)) in itertools.product(enumerate(places), repeat=2):
            A[row, column] = count(d, e) * self.omega(j, k, (e[0] - d[0], e[1] - d[1]))
        A[-1, :-1] = A[:-1, -1] = [count(d) * self.M[j] for d, j in places]
        A[-1, -1] = T1 * T2
        return np.kron(A, self.ROOT @ self.ROOT.T)


BATCHES, EXAMPLES = 400, 20


@pytest.fixture(scope="module")
def stationary_blocks() -> dict[str, np.ndarray]:
    """Exact blocks and KFC's of many batches, (batch, P, P)."""
    rng, process = np.random.default_rng(0), Stationary()
    conv = layers.Conv2d(2, 2, 3, padding=1)
    samples: dict[str, list[np.ndarray]] = {"exact": [], "KFC": []}
    for _ in range(BATCHES):
        x = process.images(rng, EXAMPLES)
        ((abar, _),) = conv.signals(conv.forward([np.zeros(conv.weight_shape)], x)[1])
        layer = fisher.LayerSignals(abar, process.derivatives(rng, EXAMPLES), (T1, T2))
        signals = fisher.Signals.from_layers([layer])
        samples["exact"].append(fisher.block_diagonal(signals).to_dense())
        samples["KFC"].append(fisher.kfac(signals).to_dense())
    return {kind: np.array(blocks) for kind, blocks in samples.items()}


def z_scores(blocks: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return (blocks.mean(0) - expected) / (blocks.std(0, ddof=1) / len(blocks) ** 0.5)


@pytest.mark.parametrize("kind", ["exact", "KFC"])
def test_under_all_assumptions_blocks_average_to_the_theorem(
    stationary_blocks: dict[str, np.ndarray], kind: str
) -> None:
    expected = Stationary().block(beta)
    standard_errors = stationary_blocks[kind].std(0, ddof=1) / BATCHES**0.5
    assert np.linalg.norm(standard_errors) < FAR * np.linalg.norm(expected)  # sharp
    assert abs(z_scores(stationary_blocks[kind], expected)).max() < STANDARD_ERRORS


@pytest.mark.parametrize("kind", ["exact", "KFC"])
def test_without_the_border_the_theorem_fails(stationary_blocks: dict[str, np.ndarray], kind: str) -> None:
    everywhere = Stationary().block(lambda *shifts: T1 * T2)
    assert abs(z_scores(stationary_blocks[kind], everywhere)).max() > 4 * STANDARD_ERRORS


# the gradient as a cross-correlation ---------------------------------------------------------------------


@pytest.mark.parametrize("extents", [(3, 4), (1, 5)], ids=str)
def test_a_weight_gradient_is_the_cross_correlation_of_two_maps(extents: tuple[int, int]) -> None:
    """Dw_{ij,d} = sum_t a_{j,t+d} Ds_{i,t}, for every shift d at which the maps overlap."""
    h, w = extents
    conv = layers.Conv2d(C_IN, 3, (2 * h - 1, 2 * w - 1), padding=(h - 1, w - 1))
    net, theta, x = build([conv, layers.Flatten()], "gaussian", extents, n=1)
    y = np.random.default_rng(1).standard_normal((1, h * w * 3))
    Ds = (net.predict(theta, x) - y).reshape(h, w, 3)
    gradient = net.loss_and_gradient(theta, x, y)[1]
    weights, bias = conv.split(net.unpack(gradient)[0])
    for i, j in itertools.product(range(3), range(C_IN)):
        expected = scipy.signal.correlate2d(x[0, :, :, j], Ds[:, :, i], mode="full")
        assert error(weights[i, j], expected) < EXACT
        assert error(weights[i, j], expected[::-1, ::-1]) > FAR  # not a convolution
    assert error(bias, Ds.sum((0, 1))) < EXACT
    for place in np.random.default_rng(2).integers(0, len(theta), 10):
        slope = derivative(lambda theta: net.loss(theta, x, y), theta, np.eye(len(theta))[place])
        assert slope == pytest.approx(gradient[place], rel=1e-7, abs=1e-8)
