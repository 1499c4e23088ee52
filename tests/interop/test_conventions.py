"""Conventions of other libraries: against their frozen results, loops over indices, and there and back.

The same against the libraries themselves, where they are installed, is in `test_parity`.
"""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minikfac as mk
from minikfac import fisher, interop, layers, outputs
from oracles import FINITE_DIFFERENCE, close, derivative, standin
from oracles.torch_layout import torch_order, torch_scale

ROOT = Path(__file__).parents[2]
OUTPUT_TYPES = {
    "categorical": outputs.Categorical,
    "bernoulli": outputs.Bernoulli,
    "gaussian": outputs.Gaussian,
}
FROZEN = {
    library: dict(np.load(ROOT / "tests" / "data" / f"frozen_factors_{library}.npz"))
    for library in ("curvlinops", "nngeometry", "kfac-jax")
}
CASES = [
    (library, *name.split("/")[:2])
    for library, arrays in FROZEN.items()
    for name in arrays
    if name.endswith("/A0")
]


def agree(actual: Any, expected: np.ndarray) -> None:
    actual = np.asarray(actual)
    assert actual.shape == expected.shape
    close(actual, expected)


def frozen_net(library: str, output: str) -> tuple[mk.Network, np.ndarray, np.ndarray]:
    """The net of freeze_factors.py: a convolution of 2 x 2 on images of 4 x 3, and a dense layer."""
    arrays = FROZEN[library]
    net = mk.Network(
        [layers.Conv2d(2, 2, 2), layers.Tanh(), layers.Flatten(), layers.Dense(12, 3)], OUTPUT_TYPES[output]()
    )
    kernel = arrays["kernel"].reshape(8, 2)
    theta = net.pack(
        [
            np.concatenate([kernel, arrays["kernel_bias"][None]]),
            np.concatenate([arrays["weight"], arrays["weight_bias"][None]]),
        ]
    )
    return net, theta, arrays["x"]


# against frozen results ---------------------------------------------------------------------------


@pytest.mark.parametrize(("library", "output", "reduction"), CASES)
def test_factors_are_those_of_the_library(library: str, output: str, reduction: str) -> None:
    net, theta, x = frozen_net(library, output)
    K = fisher.kfac(fisher.signals(net, theta, x))
    for layer, block in enumerate(interop.convert(K, net, x, to=library, reduction=reduction)):
        A, G, scale = (FROZEN[library][f"{output}/{reduction}/{part}{layer}"] for part in ("A", "G", "scale"))
        agree(block.factors[0], A)
        agree(block.factors[1], G)
        assert block.scale == scale
        assert block.name == net.names[layer]


@pytest.mark.parametrize(("library", "output", "reduction"), CASES)
def test_factors_of_the_library_make_our_matrix(library: str, output: str, reduction: str) -> None:
    net, theta, x = frozen_net(library, output)
    theirs = [
        tuple(FROZEN[library][f"{output}/{reduction}/{part}{layer}"] for part in ("A", "G"))
        for layer in (0, 1)
    ]
    K = interop.convert_from(theirs, net, x, source=library, reduction=reduction)
    expected = fisher.kfac(fisher.signals(net, theta, x))
    for block, right in zip(K.blocks, expected.blocks, strict=True):
        agree(block.A, right.A)
        agree(block.G, right.G)


@pytest.mark.parametrize(
    ("library", "output"),
    [("curvlinops", "bernoulli"), ("nngeometry", "categorical"), ("kfac-jax", "gaussian")],
)
def test_the_exact_matrix_is_that_of_the_library(library: str, output: str) -> None:
    net, theta, x = frozen_net(library, output)
    F = fisher.exact(fisher.signals(net, theta, x))
    theirs = FROZEN[library][f"{output}/mean/F"]
    agree(interop.convert(F, net, x, to=library), theirs)
    agree(interop.convert_from(theirs, net, x, source=library).to_dense(), F.to_dense())


def test_conventions_are_not_all_the_same() -> None:
    """What is converted for one library is wrong for the others."""
    net, theta, x = frozen_net("curvlinops", "gaussian")
    K = fisher.kfac(fisher.signals(net, theta, x))
    blocks = {to: interop.convert(K, net, x, to=to)[0] for to in interop.LIBRARIES}
    for a in interop.LIBRARIES:
        for b in interop.LIBRARIES:
            pairs = zip(blocks[a].factors, blocks[b].factors, strict=True)
            same = all(np.allclose(one, other, rtol=1e-6) for one, other in pairs)
            assert same == (a == b)
    assert [blocks[to].scale for to in interop.LIBRARIES] == [2 / 3, 1, 1, 6]
    orders = {to: tuple(interop.flat_order(net, x, to)) for to in interop.LIBRARIES}
    assert orders["pytorch"] == orders["curvlinops"] == orders["nngeometry"] != orders["kfac-jax"]


def test_the_products_of_factors_are_the_blocks_over_their_parameters() -> None:
    """K-FAC converted block by block and as a whole is one matrix: bias last in a row, and at the end."""
    net, theta, x = frozen_net("curvlinops", "gaussian")
    K = fisher.kfac(fisher.signals(net, theta, x))
    for to in interop.LIBRARIES:
        whole = interop.convert(K.to_dense(), net, x, to=to)
        start = 0
        for block in interop.convert(K, net, x, to=to):
            A, G = block.factors
            i, o = len(A), len(G)
            if to == "kfac-jax":  # rows of W (I + 1, O), and the bias goes first
                product = np.kron(A, G)
                order = np.roll(np.arange(i * o), o)
            else:  # rows of [W, b] (O, I + 1), and the biases go last
                product = np.kron(G, A)
                places = np.arange(i * o).reshape(o, i)
                order = np.concatenate([places[:, :-1].ravel(), places[:, -1]])
            part = slice(start, start + i * o)
            agree(block.scale * product[np.ix_(order, order)], whole[part, part])
            start = part.stop


# order and scale ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
def test_order_of_dense_nets_is_that_of_the_parity_tests(bias: bool) -> None:
    net = mk.mlp([4, 5, 3], bias=bias)
    flat = interop.flat_order(net, np.zeros((2, 4)), "pytorch")
    assert sorted(flat) == list(range(net.n_params))
    order = torch_order([(5, 4), (3, 5)], bias)  # ours among theirs
    assert (flat[order] == np.arange(net.n_params)).all()


def test_order_takes_parameters_to_where_torch_has_them() -> None:
    """Weights (c_out, c_in, kh, kw) and (out, c h w) one after the other, by join and loops."""
    rng = np.random.default_rng(0)
    net = mk.Network(
        [
            layers.Sequential((layers.Conv2d(2, 3, (3, 2), bias=False), layers.Tanh(), layers.Flatten())),
            layers.Tanh(),
            layers.Dense(12, 4),
            layers.LayerNorm(4),
            layers.Dense(4, 2),
        ],
        outputs.Gaussian(),
    )
    x = rng.standard_normal((2, 4, 3, 2))
    kernel, first, second = (rng.standard_normal(shape) for shape in ((3, 2, 3, 2), (4, 12), (2, 4)))
    b1, scale, shift, b2 = (rng.standard_normal(size) for size in (4, 4, 4, 2))
    ours = np.zeros((13, 4))
    for o in range(4):
        for c in range(3):
            for h in range(2):
                for w in range(2):
                    ours[(h * 2 + w) * 3 + c, o] = first[o, (c * 2 + h) * 2 + w]
    ours[-1] = b1
    Ws = [layers.Conv2d.join(kernel, None), ours, np.stack([scale, shift]), layers.Dense.join(second, b2)]
    theirs = [kernel, first, b1, scale, shift, second, b2]
    theta, order = net.pack(Ws), interop.flat_order(net, x, "pytorch")
    assert (theta[order] == np.concatenate([part.ravel() for part in theirs])).all()


def test_normalization_behind_flattened_images_is_permuted_too() -> None:
    net = mk.Network(
        [layers.Conv2d(1, 2, 2), layers.Flatten(), layers.LayerNorm(6), layers.Dense(6, 2)],
        outputs.Gaussian(),
    )
    x = np.zeros((2, 4, 2, 1))
    order = interop.flat_order(net, x, "curvlinops")
    start = net.slices[1].start
    expected = [0, 2, 4, 1, 3, 5]  # (h, w, c) of (c, h, w)
    assert (order[net.slices[1]] - start == expected + [6 + place for place in expected]).all()
    theta = net.init(np.random.default_rng(0))
    K = fisher.kfac(fisher.signals(net, theta, np.random.default_rng(1).standard_normal(x.shape)))
    block = interop.convert(K, net, x, to="curvlinops")[1]
    assert len(block.factors) == 1
    positions = order[net.slices[1]] - start
    agree(block.factors[0], K.blocks[1].to_dense()[np.ix_(positions, positions)])  # loss: 2 / C = 1


@pytest.mark.parametrize("output", OUTPUT_TYPES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("library", ["pytorch", "curvlinops"])
def test_scale_of_torch_losses(library: str, output: str, reduction: str) -> None:
    scale = interop.loss_scale(library, OUTPUT_TYPES[output](), n=7, c=5, reduction=reduction)
    assert scale == torch_scale(output, 7, 5, reduction)


EMPIRICAL = {  # of the squared gradient of an example's negative log-likelihood, one with C = 3, N = 5
    ("pytorch", "gaussian", "mean"): 4 / 9,
    ("pytorch", "gaussian", "sum"): 4 * 5,
    ("pytorch", "bernoulli", "mean"): 1 / 9,
    ("pytorch", "bernoulli", "sum"): 5,
    ("pytorch", "categorical", "mean"): 1,
    ("curvlinops", "gaussian", "mean"): 4 / 3,
    ("curvlinops", "gaussian", "sum"): 4 * 5,
    ("curvlinops", "bernoulli", "mean"): 1 / 3,
    ("curvlinops", "bernoulli", "sum"): 5,
    ("curvlinops", "categorical", "mean"): 1,
    ("nngeometry", "gaussian", "mean"): 1,
    ("kfac-jax", "gaussian", "mean"): 4,
    ("kfac-jax", "bernoulli", "mean"): 1,
}


@pytest.mark.parametrize(("library", "output", "reduction"), EMPIRICAL)
def test_empirical_matrices_have_the_scale_of_their_loss_squared(
    library: str, output: str, reduction: str
) -> None:
    net, theta, x = frozen_net("curvlinops", output)
    y = FROZEN["curvlinops"][output] if output in FROZEN["curvlinops"] else random_targets(output, len(x))
    signals = fisher.signals(net, theta, x, y, targets="data")
    F, K, order = fisher.exact(signals), fisher.kfac(signals), interop.flat_order(net, x, library)
    scale = EMPIRICAL[library, output, reduction]
    options = {"reduction": reduction, "targets": "data"}
    theirs = interop.convert(F, net, x, library, **options)
    agree(theirs, scale * F.array[np.ix_(order, order)])
    agree(interop.convert_from(theirs, net, x, library, **options).array, F.array)
    blocks = interop.convert(K, net, x, library, **options)
    for block, ours in zip(blocks, K.blocks, strict=True):
        A, G = block.factors
        close(block.scale * np.trace(A) * np.trace(G), scale * ours.trace())
    agree(interop.convert_from(blocks, net, x, library, **options).to_dense(), K.to_dense())


def random_targets(output: str, n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    if output == "categorical":
        return rng.integers(0, 3, n)
    return rng.standard_normal((n, 3)) if output == "gaussian" else 1.0 * (rng.random((n, 3)) < 0.5)


@pytest.mark.parametrize("output", ["gaussian", "bernoulli"])
def test_an_empirical_matrix_is_the_mean_square_of_the_gradients_of_torchs_loss(output: str) -> None:
    """Each example's loss as PyTorch has it, a mean over outputs, and finite differences of it."""
    net = mk.mlp([3, 2, 3], output=output)
    rng = np.random.default_rng(0)
    theta, x = rng.standard_normal(net.n_params), rng.standard_normal((5, 3))
    y = random_targets(output, 5)

    def losses(theta: np.ndarray) -> np.ndarray:
        z = net.forward(theta, x).z
        squares = (z - y) ** 2
        return (squares if output == "gaussian" else np.logaddexp(0, z) - y * z).mean(1)

    D = np.array([derivative(losses, theta, direction) for direction in np.eye(net.n_params)]).T
    order = interop.flat_order(net, x, "pytorch")
    F = fisher.exact(fisher.signals(net, theta, x, y, targets="data"))
    theirs = interop.convert(F, net, x, "pytorch", targets="data")
    close(theirs, (D.T @ D / 5)[np.ix_(order, order)], FINITE_DIFFERENCE)


def test_other_targets_are_refused() -> None:
    K = fisher.Kronecker([(np.eye(3), np.eye(2))])
    for targets in ("labels", None, 1):
        with pytest.raises(ValueError, match=f"expected targets 'model', 'sampled', 'data', got {targets!r}"):
            interop.convert(K, targets=targets)


# there and back -----------------------------------------------------------------------------------


def random_net(seed: int) -> tuple[mk.Network, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    kh, kw, c_in, c_out, classes = (int(v) for v in rng.integers(1, 4, 5))
    h, w = kh + int(rng.integers(0, 3)), kw + int(rng.integers(0, 3))
    features = (h - kh + 1) * (w - kw + 1) * c_out
    net = mk.Network(
        [
            layers.Conv2d(c_in, c_out, (kh, kw), bias=bool(rng.integers(2))),
            layers.Tanh(),
            layers.Flatten(),
            layers.Dense(features, classes + 1, bias=bool(rng.integers(2))),
        ],
        [outputs.Categorical(), outputs.Gaussian()][seed % 2],
    )
    return net, rng.standard_normal(net.n_params), rng.standard_normal((4, h, w, c_in))


@given(seed=st.integers(0, 2**16), library=st.sampled_from(interop.LIBRARIES))
def test_there_and_back(seed: int, library: str) -> None:
    net, theta, x = random_net(seed)
    signals = fisher.signals(net, theta, x)
    reductions = ["mean", "sum"] if library in ("pytorch", "curvlinops") else ["mean"]
    for reduction in reductions:
        K = fisher.kfac(signals)
        theirs = interop.convert(K, net, x, to=library, reduction=reduction)
        back = interop.convert_from(theirs, net, x, source=library, reduction=reduction)
        for block, right in zip(back.blocks, K.blocks, strict=True):
            np.testing.assert_allclose(block.A, right.A, rtol=1e-14)
            np.testing.assert_allclose(block.G, right.G, rtol=1e-14)
        F = fisher.exact(signals)
        flat = interop.convert(F, net, x, to=library, reduction=reduction)
        again = interop.convert_from(flat, net, x, source=library, reduction=reduction)
        np.testing.assert_allclose(again.to_dense(), F.to_dense(), rtol=1e-14)
        assert sorted(interop.flat_order(net, x, library)) == list(range(net.n_params))


def test_there_and_back_with_whole_blocks_and_other_scales() -> None:
    net = mk.Network([layers.Dense(3, 4), layers.LayerNorm(4), layers.Dense(4, 2)], outputs.Bernoulli())
    theta, x = np.random.default_rng(0).standard_normal(net.n_params), np.ones((3, 3)) * [[1], [2], [-1]]
    K = fisher.kfac(fisher.signals(net, theta, x))
    theirs = interop.convert(K, net, x, to="curvlinops", reduction="sum")
    agree(interop.convert_from(theirs, net, x, "curvlinops", "sum").to_dense(), K.to_dense())
    doubled = [interop.ForeignBlock(block.name, block.factors, 2 * block.scale) for block in theirs]
    agree(interop.convert_from(doubled, net, x, "curvlinops", "sum").to_dense(), 2 * K.to_dense())


def test_other_matrices_become_arrays() -> None:
    net, theta, x = frozen_net("curvlinops", "categorical")
    signals = fisher.signals(net, theta, x)
    order = interop.flat_order(net, x, "curvlinops")
    for F in (fisher.ekfac(signals), fisher.diagonal(signals), fisher.low_rank(signals, rank=3)):
        agree(interop.convert(F, net, x, to="curvlinops"), F.to_dense()[np.ix_(order, order)])


def test_conversions_stay_on_the_device() -> None:
    net, theta, x = frozen_net("curvlinops", "gaussian")
    signals = fisher.signals(net, theta, x)
    on_host = [interop.convert(fisher.kfac(signals), net, x, to=to) for to in interop.LIBRARIES]
    with standin.installed():
        signals = fisher.signals(net, mk.to_device(theta), mk.to_device(x))
        K = fisher.kfac(signals)
        for to, expected in zip(interop.LIBRARIES, on_host, strict=True):
            theirs = interop.convert(K, net, mk.to_device(x), to=to)
            for block, right in zip(theirs, expected, strict=True):
                for one, other in zip(block.factors, right.factors, strict=True):
                    assert isinstance(one, standin.ndarray)
                    agree(mk.to_host(one), other)
            back = interop.convert_from(theirs, net, mk.to_device(x), source=to)
            agree(mk.to_host(back.to_dense()), mk.to_host(K.to_dense()))
            for inputs in (mk.to_device(x), x):  # only their shape counts
                flat = interop.convert(fisher.exact(signals), net, inputs, to=to)
                assert isinstance(flat, standin.ndarray)


def test_conversions_without_inputs_stay_on_the_device() -> None:
    net = mk.mlp([3, 4, 2])
    rng = np.random.default_rng(0)
    theta, x = net.init(rng), rng.standard_normal((5, 3))
    K = fisher.kfac(fisher.signals(net, theta, x))
    with standin.installed():
        there = fisher.kfac(fisher.signals(net, mk.to_device(theta), mk.to_device(x)))
        for library in interop.LIBRARIES:
            theirs = interop.convert(there, to=library)
            for block, right in zip(theirs, interop.convert(K, to=library), strict=True):
                for one, other in zip(block.factors, right.factors, strict=True):
                    agree(mk.to_host(one), other)
            back = interop.convert_from(theirs, source=library).to_dense()
            flat = interop.convert_from(
                interop.convert(there.to_dense(), net, to=library), net, source=library
            )
            for matrix in (back, flat.to_dense()):
                assert isinstance(matrix, standin.ndarray)
                agree(mk.to_host(matrix), K.to_dense())


# errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", interop.LIBRARIES)
def test_a_chain_of_dense_layers_needs_no_net(library: str) -> None:
    net = mk.mlp([3, 4, 2])
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 3))
    K = fisher.kfac(fisher.signals(net, net.init(rng), x))
    named = interop.convert(K, net, x, to=library)
    for blocks in (interop.convert(K, to=library), interop.convert(K, net, to=library)):
        for one, other in zip(blocks, named, strict=True):
            assert (one.name, one.scale) == (other.name, other.scale)
            for factor, same in zip(one.factors, other.factors, strict=True):
                agree(factor, same)
    agree(interop.convert_from(named, source=library).to_dense(), K.to_dense())


def test_what_only_a_net_or_inputs_tell_is_asked_for() -> None:
    with pytest.raises(ValueError, match="expected net= unless all blocks are Kronecker products"):
        interop.convert(np.eye(3), to="pytorch")
    with pytest.raises(ValueError, match="expected net= unless"):
        interop.convert_from(np.eye(3), source="pytorch")
    with pytest.raises(ValueError, match="expected net= unless all blocks are Kronecker products"):
        interop.convert_from([(np.eye(4), np.eye(2)), (np.eye(6),)], source="pytorch")
    net = mk.mlp([3, 4, 2])
    with pytest.raises(ValueError, match="expected inputs x, which determine the number of examples"):
        interop.convert(np.eye(net.n_params), net, to="pytorch", reduction="sum")
    images = mk.presets.tiny_convnet()
    with pytest.raises(ValueError, match="expected inputs x, which determine the shape of inputs to"):
        interop.convert(np.eye(images.n_params), images, to="pytorch")


def test_errors_say_what_was_expected() -> None:
    net, theta, x = frozen_net("curvlinops", "categorical")
    K = fisher.kfac(fisher.signals(net, theta, x))
    with pytest.raises(ValueError, match=r"expected a library among pytorch, curvlinops.*, got 'asdl'"):
        interop.convert(K, net, x, to="asdl")
    with pytest.raises(ValueError, match="expected reduction 'mean' or 'sum', got 'none'"):
        interop.convert(K, net, x, to="pytorch", reduction="none")
    with pytest.raises(ValueError, match="expected reduction 'mean', the only one of kfac-jax, got 'sum'"):
        interop.convert(K, net, x, to="kfac-jax", reduction="sum")
    with pytest.raises(ValueError, match=r"expected a matrix of shape \(57, 57\) for .*, got \(3, 3\)"):
        interop.convert(np.eye(3), net, x, to="pytorch")
    with pytest.raises(ValueError, match=r"expected an array of shape \(57, 57\) for .*, got \(3, 3\)"):
        interop.convert_from(np.eye(3), net, x, source="pytorch")
    with pytest.raises(ValueError, match="expected 2 blocks, one per parameter layer, got 1"):
        interop.convert_from([(np.eye(9), np.eye(2))], net, x, source="pytorch")
    separate = [(np.eye(8), np.eye(2)), (np.eye(13), np.eye(3))]
    with pytest.raises(
        ValueError, match=r"A of conv0 of shape \(9, 9\), got \(8, 8\); weight and bias belong"
    ):
        interop.convert_from(separate, net, x, source="curvlinops")
    with pytest.raises(ValueError, match=r"expected G of conv0 of shape \(2, 2\), got \(3, 3\)$"):
        interop.convert_from([(np.eye(9), np.eye(3)), separate[1]], net, x, source="curvlinops")
    with pytest.raises(ValueError, match=r"expected block of conv0 of shape \(18, 18\), got \(4, 4\)"):
        interop.convert_from([(np.eye(4),), separate[1]], net, x, source="curvlinops")
    bernoulli = mk.mlp([3, 2], output="bernoulli")
    with pytest.raises(ValueError, match="expected categorical or Gaussian outputs for nngeometry, got Bern"):
        interop.convert(np.eye(8), bernoulli, np.ones((2, 3)), to="nngeometry")
    normalized = mk.Network([layers.Dense(3, 2), layers.LayerNorm(2)], outputs.Gaussian())
    with pytest.raises(
        ValueError, match="expected dense layers and convolutions for kfac-jax, got LayerNorm"
    ):
        interop.convert(np.eye(12), normalized, np.ones((2, 3)), to="kfac-jax")
    with pytest.raises(ValueError, match=r"expected one block \(F,\) for layernorm1, scale and shift, got 2"):
        pair = (np.eye(2), np.eye(2))
        interop.convert_from([(np.eye(4), np.eye(2)), pair], normalized, np.ones((2, 3)), source="pytorch")
    branch = layers.Residual(
        [layers.Flatten(), layers.Dense(4, 2)], layers.Sequential((layers.Flatten(), layers.Dense(4, 2)))
    )
    hidden = mk.Network([branch], outputs.Gaussian())
    with pytest.raises(ValueError, match="expected Flatten outside of branches, got Residual"):
        interop.flat_order(hidden, np.ones((1, 2, 1, 2)), "pytorch")


# the scale doctor ---------------------------------------------------------------------------------

N, T, M, C = 7, 6, 4, 3
SCALES: list[tuple[float, str]] = [
    (1, "the scale is right"),
    (N, "a sum over the N examples"),
    (1 / N, "divided by N once too often"),
    (1 / N**2, "those of the mean loss"),
    (T, "a factor T too many"),
    (1 / T, "a factor T is missing"),
    (1 / T**2, "it is divided by T twice too often"),
    (M, "a sum over the M samples"),
    (1 / M, "divided by M instead of sqrt(M)"),
    (2, "without its 1/2, a Gaussian of variance 1/2"),
    (1 / 2, "it contains a 1/2"),
    (-1, "the sign is turned"),
    (C, "it is multiplied by C"),
    (1 / C, "a mean over the C outputs"),
    (1 / C**2, "gradients of a mean over the C outputs"),
    (2 / C, "without its 1/2, a Gaussian of variance 1/2 and the loss is a mean over the C outputs"),
    (2 * N, "a Gaussian of variance 1/2 and it is a sum over the N"),
    (
        1 / (N**2 * T**2),
        "those of the mean loss, N times too small, and were squared and it is divided by T twice too often",
    ),
]


@pytest.mark.parametrize(("factor", "part"), SCALES)
def test_a_factor_gives_its_cause_away(factor: float, part: str) -> None:
    causes = interop.scale_causes(1 / factor, n=N, t=T, m=M, c=C)
    assert any(part in cause for cause in causes), causes


def test_causes_of_a_factor() -> None:
    assert len(interop.scale_causes(1 / 4.0, m=4)) == 2  # 4 samples, or the squares of 2 residuals
    assert interop.scale_causes(math.pi, n=N, t=T, m=M, c=C) == []
    assert interop.scale_causes(N) == []  # nothing is known of N
    assert interop.scale_causes(1.01, n=N) == [] and interop.scale_causes(1.01, n=N, rtol=0.02) == [
        "the scale is right"
    ]
    assert interop.scale_causes(1 / 2, n=1, c=1) == interop.scale_causes(1 / 2)  # a factor of 1 is no cause
    for wrong in (0.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"expected a finite c\* other than 0, got"):
            interop.scale_causes(wrong)


def test_causes_of_measured_scales() -> None:
    """c* of matrices of other conventions against ours, from the comparison to the cause."""
    net, theta, x = frozen_net("curvlinops", "gaussian")
    F = fisher.exact(fisher.signals(net, theta, x)).to_dense()
    back = np.argsort(interop.flat_order(net, x, "kfac-jax"))
    theirs = FROZEN["kfac-jax"]["gaussian/mean/F"][back][:, back]
    c_star = (theirs * F).sum() / (theirs * theirs).sum()
    (said,) = interop.scale_causes(c_star, n=5, t=6, c=3)
    assert "without its 1/2" in said
    signals = fisher.signals(net, theta, x)
    K = fisher.kfac(signals).blocks[0]
    for factor, part in ((1 / 6, "a factor T is missing"), (6, "a factor T too many"), (1 / 25, "mean loss")):
        wrong = fisher.Kronecker([(K.A, factor * K.G)]).to_dense()
        right = K.to_dense()
        c_star = (wrong * right).sum() / (wrong * wrong).sum()
        assert part in " ".join(interop.scale_causes(c_star, n=5, t=6, c=3))


def test_frozen_versions_are_those_of_the_constraints() -> None:
    pinned = (ROOT / "tests" / "parity" / "constraints.txt").read_text()
    for library in ("curvlinops", "nngeometry"):
        for package, version in json.loads(str(FROZEN[library]["about"])).items():
            assert re.search(rf"^{package}=={re.escape(version.partition('+')[0])}$", pinned, re.MULTILINE)


# the page -----------------------------------------------------------------------------------------

PAGE = ROOT / "docs" / "conventions.md"


def table() -> dict[str, dict[str, str]]:
    """The rows of the page's table: row, library, cell."""
    lines = re.findall(r"^\|(.*)\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    cells = [[cell.strip() for cell in line.split("|")] for line in lines]
    table_rows = [row for row in cells if len(row) == 7]
    heads = [head.lower().partition(" ")[0] for head in table_rows[0][1:]]
    return {row[0]: dict(zip(heads, row[1:], strict=True)) for row in table_rows[2:]}


def value(cell: str, **letters: float) -> float:
    """A cell such as "2 / C" or "ℓ T" with numbers for letters; Python reads ℓ as l."""
    return float(
        eval(
            cell.replace("ℓ T", "l * T").replace("ℓ", "l").replace(" N", " * N").replace("²", "**2"),
            {},
            letters,
        )
    )


@pytest.mark.parametrize("library", interop.LIBRARIES)
def test_the_table_of_conventions_is_what_the_code_does(library: str) -> None:
    rows = {row: cells[library] for row, cells in table().items()}
    net, theta, x = frozen_net("curvlinops", "gaussian")
    for output, name in (
        ("categorical", "categorical"),
        ("bernoulli", "Bernoulli"),
        ("gaussian", "Gaussian"),
    ):
        for reduction, suffix in (("mean", ""), ("sum", ', `reduction="sum"`')):
            cell = rows[f"ℓ, {name}{suffix}"]
            if not cell:
                with pytest.raises(ValueError, match="expected"):
                    interop.loss_scale(library, OUTPUT_TYPES[output](), 5, 3, reduction)
            else:
                scale = interop.loss_scale(library, OUTPUT_TYPES[output](), 5, 3, reduction)
                assert scale == value(cell, N=5, C=3)
            # a row of its own, or that of the Fisher matrix; none where there is no such loss
            cell = rows.get(f"ℓ, empirical, {name}{suffix}", cell)
            if cell:
                scale = interop.loss_scale(library, OUTPUT_TYPES[output](), 5, 3, reduction, "data")
                assert scale == pytest.approx(value(cell, N=5, C=3), rel=1e-15)
    K = fisher.kfac(fisher.signals(net, theta, x))
    block, theirs = K.blocks[0], interop.convert(K, net, x, to=library)[0]
    letters = {"l": value(rows["ℓ, Gaussian"], N=5, C=3), "T": 6, "K": 3}
    alpha, gamma, s = (value(rows[row], **letters) for row in ("α, in A", "γ, in G", "s, outside"))
    assert s * alpha * gamma == pytest.approx(letters["l"], rel=1e-14)
    assert theirs.scale == s
    assert theirs.factors[0].trace() == pytest.approx(alpha * block.A.trace(), rel=1e-14)
    agree(theirs.factors[1], gamma * block.G)
    first = (theirs.factors[0] / alpha)[0]  # input (0, 0, 0) against all
    kernel_row = (
        np.moveaxis(block.A[0, :8].reshape(2, 2, 2), -1, 0) if "c, h, w" in rows["images"] else block.A[0, :8]
    )
    agree(first[:8], kernel_row.ravel())
    order = interop.flat_order(net, x, library)[net.slices[0]]
    assert (order[:2] == [16, 17]).all() == rows["flat parameters of a layer"].startswith("b")
    assert rows["weights"] == ("(I, O)" if rows["Kronecker product"] == "A ⊗ G" else "(O, I)")


def test_the_page_of_conventions_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(snippets) == 2
    for snippet in snippets:
        exec(compile(snippet, PAGE.name, "exec"), names)
        said = re.findall(r"^(?:\s*print\(.*\)  )?# (.*)$", snippet, re.MULTILINE)
        assert capsys.readouterr().out.splitlines() == said


@pytest.mark.parametrize("library", interop.LIBRARIES)
def test_factored_damping_is_the_same_in_every_convention(library: str) -> None:
    """Their factors damped with l lambda / s are ours damped with lambda, as the page says."""
    net, theta, x = frozen_net("curvlinops", "gaussian")
    K = fisher.kfac(fisher.signals(net, theta, x))
    loss = interop.loss_scale(library, net.output, len(x), 3)
    damped = fisher.Kronecker([fisher.factored_damping(block.A, block.G, 0.3) for block in K.blocks])
    expected = interop.convert(damped, net, x, to=library)
    for theirs, right in zip(interop.convert(K, net, x, to=library), expected, strict=True):
        A, G = fisher.factored_damping(*theirs.factors, loss * 0.3 / theirs.scale)
        agree(np.kron(A, G), np.kron(*right.factors))
