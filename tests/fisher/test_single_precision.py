"""Single precision, in which nets are trained: results near those in double precision, at the sizes of the
papers' layers too."""

import numpy as np
import pytest

from minikfac import fisher, linalg, presets
from oracles import FLOAT32, close, random_psd

NETS = {
    "tiny_convnet": (presets.tiny_convnet(), (8, 8, 1)),
    "cifar10_kfc": (presets.cifar10_kfc(width=0.25), (32, 32, 3)),
    "svhn_kfc": (presets.svhn_kfc(width=0.05), (32, 32, 3)),
    "small_inception": (presets.small_inception((8, 8, 3), width=2), (8, 8, 3)),
    "small_resnet": (presets.small_resnet((8, 8, 3), width=4), (8, 8, 3)),
    "small_resnet of groups": (presets.small_resnet((8, 8, 3), width=4, normalization="group"), (8, 8, 3)),
}


@pytest.mark.parametrize("name", NETS)
def test_gradients_factors_and_steps_are_those_of_double_precision(name):
    net, shape = NETS[name]
    rng = np.random.default_rng(0)
    theta, x = net.init(rng, "he", np.float32), rng.random((8, *shape)).astype(np.float32)
    y = rng.integers(0, 10, 8)

    def results(dtype):
        arguments = theta.astype(dtype), x.astype(dtype), y
        loss, gradient, matrix, stats, _ = fisher.gradient_and_kfac(
            net, *arguments, rng=np.random.default_rng(1), train=True
        )
        factors = [
            M for block in matrix.blocks for M in (getattr(block, "A", None), getattr(block, "G", None))
        ]
        matrices = [M for M in factors if M is not None]
        return loss, [gradient, matrix.solve(gradient, damping=0.1), *matrices, *stats]

    (loss, single), (expected, double) = results(np.float32), results(np.float64)
    assert abs(loss - expected) < 1e-5
    for rounded, wanted in zip(single, double, strict=True):
        assert rounded.dtype == np.float32
        close(rounded / abs(wanted).max(), wanted / abs(wanted).max(), FLOAT32)


def large_block():
    """A Kronecker block of 90,000 parameters with eigenvalues up to 4, 50,000 of them 0, and a vector."""
    rng = np.random.default_rng(0)
    A, G = (random_psd(rng, 300, rank=200).astype(np.float32) for _ in range(2))
    return fisher.Kronecker([(A, G)]).blocks[0], rng.standard_normal(90_000).astype(np.float32)


@pytest.mark.parametrize("lam", [1e-2, 1e-3])
def test_a_damped_block_of_a_large_layer_has_an_inverse(lam):
    block, v = large_block()
    exact = fisher.Kronecker([(block.A.astype(float), block.G.astype(float))]).solve(v.astype(float), lam)
    for matrix in (block, block.damped(0.0)):  # the second as EKFAC's blocks are
        solution = matrix.solve(v, lam)
        assert solution.dtype == np.float32
        close(solution / abs(exact).max(), exact / abs(exact).max(), 1e-3)
        assert np.isfinite(matrix.logdet(lam))


def test_undamped_the_block_of_a_large_layer_is_singular():
    block, v = large_block()
    with pytest.raises(linalg.SingularMatrixError, match="numerical rank 40000 of 90000; add damping"):
        block.damped(0.0).solve(v)
