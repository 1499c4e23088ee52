"""The affine map between the parameters of two networks that compute the same function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..backend import Array, array_module, check_memory
from ..display import Display, Shown, ShownByFields, by
from ..linalg import kron_dense
from ..network import Network


@dataclass(frozen=True, eq=False, repr=False)
class LayerMap(ShownByFields):
    """W = B W' U + C for the weights W of one layer and W' in the other net; None for an absent term.

    Attributes:
        B: (I, I), for the inputs of the weights: abar' = abar B.
        U: (O, O), for their outputs: s = s' U + c, where c is the last row of C.
        C: (I, O).
        B_inverse, U_inverse: inverses of B and U.
    """

    B: Array | None = None
    U: Array | None = None
    C: Array | None = None
    B_inverse: Array | None = None
    U_inverse: Array | None = None

    def pull_step(self, D: Array) -> Array:
        """B D U, the step of W that corresponds to a step D of W'."""
        return _between(self.B, D, self.U)

    def push_step(self, D: Array) -> Array:
        """B^-1 D U^-1, the step of W' that corresponds to a step D of W."""
        return _between(self.B_inverse, D, self.U_inverse)

    def pull(self, W: Array) -> Array:
        """Return W for W'."""
        moved = self.pull_step(W)
        return moved if self.C is None else moved + array_module(W).asarray(self.C, dtype=W.dtype)

    def push(self, W: Array) -> Array:
        """Return W' for W."""
        return self.push_step(W if self.C is None else W - array_module(W).asarray(self.C, dtype=W.dtype))

    def then(self, other: LayerMap) -> LayerMap:
        """W = B1 (B2 W'' U2 + C2) U1 + C1, this map followed by one from W' to W''."""
        C = None if other.C is None else self.pull_step(other.C)
        return LayerMap(
            _product(self.B, other.B),
            _product(other.U, self.U),
            self.C if C is None else C if self.C is None else C + self.C,
            _product(other.B_inverse, self.B_inverse),
            _product(self.U_inverse, other.U_inverse),
        )


def _between(left: Array | None, D: Array, right: Array | None) -> Array:
    """left D right, with the constants converted to the dtype and device of D."""
    xp = array_module(D)
    if left is not None:
        D = xp.asarray(left, dtype=D.dtype) @ D
    return D if right is None else D @ xp.asarray(right, dtype=D.dtype)


def _product(a: Array | None, b: Array | None) -> Array | None:
    return b if a is None else a if b is None else a @ b


@dataclass(frozen=True, eq=False, repr=False)
class Reparameterization(Shown):
    """Another network that computes the same function of x, and the map theta = J theta' + const.

    Layer by layer W = B W' U + C, so J is block-diagonal with blocks B (x) U^T, and Fisher matrices map as F'
    = J^T F J: a Kronecker block A (x) G becomes (B^T A B) (x) (U G U^T). The natural gradient step therefore
    maps like parameters, F'^-1 grad' = J^-1 F^-1 grad, while the gradient maps by J^T, which differs by J J^T
    [MG15, sec. 10; GM16, sec. 4.1].

    Attributes:
        source: the network with parameters theta.
        net: the other network, with parameters theta'.
        maps: one per parameter layer.
    """

    source: Network
    net: Network
    maps: tuple[LayerMap, ...]

    def _display(self) -> Display:
        rows = [
            [name, by(shape), *("-" if M is None else by(M.shape) for M in (layer.B, layer.U, layer.C))]
            for name, shape, layer in zip(self.source.names, self.source.shapes, self.maps, strict=True)
        ]
        title = f"Reparameterization({self.source.n_params:,} parameters, {len(self.maps)} layers)"
        header = ["layer", "weights", "B, of inputs", "U, of outputs", "C, constant"]
        return Display(title, header, rows, "W = B W' U + C, where - stands for no change.")

    def push(self, theta: Array) -> Array:
        """Return theta' (P,) for which ``net`` computes the same function as ``source`` with theta."""
        return self._moved(LayerMap.push, self.source, self.net, theta)

    def pull(self, theta: Array) -> Array:
        """Return theta (P,) for theta'."""
        return self._moved(LayerMap.pull, self.net, self.source, theta)

    def push_step(self, d: Array) -> Array:
        """Return J^-1 d, which converts a step or momentum from theta to theta'."""
        return self._moved(LayerMap.push_step, self.source, self.net, d)

    def pull_step(self, d: Array) -> Array:
        """Return J d, which converts a step from theta' to theta."""
        return self._moved(LayerMap.pull_step, self.net, self.source, d)

    def _moved(
        self, move: Callable[[LayerMap, Array], Array], start: Network, end: Network, theta: Array
    ) -> Array:
        """Map parameters layer by layer; reject NaN and infinity before and after."""
        moved = end.pack(list(map(move, self.maps, start.check_finite(theta, "theta or direction"))))
        end.check_finite(moved, "mapped theta or direction")
        return moved

    def __matmul__(self, first: Reparameterization) -> Reparameterization:
        """Return the composition, ``first`` followed by ``self``.

        Raises:
            ValueError: if ``self.source`` is not ``first.net``.
        """
        if not isinstance(first, Reparameterization):
            return NotImplemented
        if self.source is not first.net:
            raise ValueError(f"expected a map from {first.net!r} on the left, got one from {self.source!r}")
        maps = tuple(a.then(b) for a, b in zip(first.maps, self.maps, strict=True))
        return Reparameterization(first.source, self.net, maps)

    def jacobian(self) -> Array:
        """Form J (P, P) in float64 on the host, for small nets.

        Raises:
            MemoryError: if it does not fit.
        """
        xp = array_module()
        size = self.source.n_params
        check_memory((size, size), float, "the Jacobian between parameters", "push_step and pull_step")
        J = xp.zeros((size, size))
        for layer, shape, place in zip(self.maps, self.source.shapes, self.source.slices, strict=True):
            B = xp.eye(shape[0]) if layer.B is None else layer.B
            U = xp.eye(shape[1]) if layer.U is None else layer.U
            J[place, place] = kron_dense(B, U.T)
        return J
