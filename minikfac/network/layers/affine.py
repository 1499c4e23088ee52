"""A fixed affine map of features or channels: no parameters, the same at every location.

y = x U + c

Its constants are part of the description of a net, as kernel sizes are, and never trained. An equivalent
network has such maps around its parameter layers (:mod:`minikfac.reparam`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from ...backend import Array, array_module, as_array, to_host
from .base import Rearrangement, Record, Shape, Weights


@dataclass(frozen=True, eq=False, repr=False)
class Affine(Rearrangement):
    """y = x U + c along the last axis.

    Attributes:
        U: (C, C); (C,) for a diagonal one; a number for the same factor everywhere; 1 by default.
        c: (C,), or a number; 0 by default.

    Both are kept on the host in float64, read-only, and go to the dtype and the device of the data.

    Raises:
        ValueError: on other shapes, or numbers that are not finite.
    """

    U: Any = 1.0
    c: Any = 0.0

    def __post_init__(self) -> None:
        for name, most in (("U", 2), ("c", 1)):
            constant = to_host(as_array(getattr(self, name), f"{name} of Affine"))
            if constant.dtype.kind == "c":
                raise ValueError(f"expected {name} of Affine to be real, got {constant.dtype}")
            constant = constant.astype(float)
            if constant.ndim > most or constant.shape[:1] != constant.shape[-1:] or 0 in constant.shape:
                expected = "(C, C), (C,) or a number" if most == 2 else "(C,) or a number"
                raise ValueError(f"expected {name} of Affine to be {expected}, got shape {constant.shape}")
            if not array_module().isfinite(constant).all():
                raise ValueError(f"expected {name} of Affine to be finite, got NaN or infinite values")
            constant.setflags(write=False)
            object.__setattr__(self, name, constant)
        if self.U.ndim and self.c.ndim and len(self.U) != len(self.c):
            raise ValueError(f"expected U and c of Affine for one C, got {self.U.shape} and {self.c.shape}")

    def __repr__(self) -> str:
        """Numbers as they are, arrays by shape and the beginning of their sha256: they tell nets apart."""
        shown = []
        for name, constant in (("U", self.U), ("c", self.c)):
            if constant.ndim:
                by = " x ".join(map(str, constant.shape))
                shown.append(f"{name}={by}:{hashlib.sha256(constant.tobytes()).hexdigest()[:8]}")
            else:
                shown.append(f"{name}={float(constant)!r}")
        return f"Affine({', '.join(shown)})"

    @property
    def features(self) -> int | None:
        """C, or None if any will do."""
        sized = [constant for constant in (self.U, self.c) if constant.ndim]
        return len(sized[0]) if sized else None

    @property
    def elementwise(self) -> bool:
        """Whether each feature is mapped alone."""
        return self.U.ndim < 2

    @property
    def is_identity(self) -> bool:
        return self.elementwise and bool((self.U == 1).all() and (self.c == 0).all())

    def then(self, other: Affine) -> Affine:
        """Return this map followed by another, as one."""
        (U, c), (V, d) = (self.U, self.c), (other.U, other.c)
        if self.elementwise and not other.elementwise:
            product = V * (U[:, None] if U.ndim else U)
        elif not self.elementwise and not other.elementwise:
            product = U @ V
        else:
            product = U * V  # a diagonal V scales columns
        moved = c * V if other.elementwise else c * V.sum(0) if not c.ndim else c @ V
        return Affine(product, moved + d)

    def output_shape(self, shape: Shape | None) -> Shape | None:
        if shape is not None and self.features and shape[-1] not in (None, self.features):
            raise ValueError(f"expected {self.features} features or channels into {self}, got {shape[-1]}")
        return shape

    def forward(self, Ws: Weights, x: Array, stats: Weights | None = None) -> tuple[Array, Record]:
        self.output_shape(x.shape[1:])
        return self.apply(None, x) + array_module(x).asarray(self.c, dtype=x.dtype), None

    def apply(self, record: Record, x: Array) -> Array:
        return self._linear(x, self.U)

    def adjoint(self, record: Record, dy: Array) -> Array:
        return self._linear(dy, self.U.T)

    def _linear(self, x: Array, U: Array) -> Array:
        """X U for x (..., C)."""
        U = array_module(x).asarray(U, dtype=x.dtype)
        if U.ndim < 2:
            return x * U
        return (x.reshape(-1, len(U)) @ U).reshape(x.shape)  # one large product
