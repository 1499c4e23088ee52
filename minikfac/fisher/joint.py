"""The exact Fisher matrix of a batch whose examples are coupled by batch normalization in training [IS15].

In training the mean and variance of a channel are those of the batch, so z_n depends on all inputs. Given the
inputs, the targets are still independent of one another, and the joint distribution of the batch's targets
has the Fisher matrix N F with

    F = (1/N) sum_n sum_k d_nk d_nk^T,     d_nk = (d z_n / d theta)^T b_nk

where b_nk is column k of the root of the output's Fisher matrix at z_n. Each d_nk needs its own backward pass
through the coupled batch, with a derivative that is zero for all examples but n. Backpropagating the columns
of all examples at once would return the sum of d_1k to d_Nk, whose square is meaningless because the signs of
the columns are arbitrary.

Without coupling this equals :func:`minikfac.fisher.exact`. The output of a normalized unit does not depend on
its bias or on a common factor of its incoming weights, so F is singular along both (up to the eps of the
normalization). Holding the statistics constant, as :func:`minikfac.fisher.signals` does, gives a different
matrix.
"""

from __future__ import annotations

from ..backend import Array, array_module, check_memory
from ..network import Network, Tape
from .dense import DenseMatrix

_SCRATCH = 2**24
"""Size of the largest array of a backward pass."""


def joint(net: Network, theta: Array, x: Array) -> DenseMatrix:
    """The exact Fisher matrix (P, P) in training, for the joint distribution of a batch's targets.

    Takes N K backward passes through the whole batch; ``fisher.product(..., train=True)`` is the same matrix
    in matrix-free form, with one forward and one backward pass per product.

    Args:
        net: the network.
        theta: (P,).
        x: inputs of one batch, (N, features) or (N, H, W, C).

    Raises:
        MemoryError: before any work, with the size in GiB, if it does not fit.
    """
    xp, size = array_module(theta), net.n_params
    instead = "fisher.product(..., train=True)"
    check_memory((size, size), theta.dtype, "the joint Fisher matrix", instead, xp)
    tape = net.forward(theta, x, train=True)
    b = net.output.fisher_root(tape.z)  # (K, N, C)
    k, n, c = b.shape
    widest = max(max(abar.size, s.size) for abar, s in zip(tape.abar, tape.s, strict=True))
    step = max(1, _SCRATCH // (k * max(widest, size)))
    F = xp.zeros((size, size), dtype=theta.dtype)
    for start in range(0, n, step):
        examples = xp.arange(start, min(start + step, n))
        dz = xp.zeros((len(examples), k, n, c), dtype=b.dtype)
        dz[examples - start, :, examples] = b[:, examples].swapaxes(0, 1)
        D = _gradients(net, theta, tape, dz.reshape(-1, n, c))
        F += D.T @ D
    return DenseMatrix(F / n, net.names, net.slices, "the joint Fisher matrix")


def _gradients(net: Network, theta: Array, tape: Tape, dz: Array) -> Array:
    """J^T dz, summed over the batch, for each of the derivatives dz (D, N, C): (D, P)."""
    xp = array_module(theta)
    parts = []
    for abar, g in zip(tape.abar, net.backward(theta, tape, dz), strict=True):
        if abar.ndim == 4:
            part = xp.einsum("ntic,dntc->dic", abar, g)
        else:
            part = abar.reshape(-1, abar.shape[-1]).T @ g.reshape(len(g), -1, g.shape[-1])
        parts.append(part.reshape(len(dz), -1))
    return xp.concatenate(parts, axis=1)
