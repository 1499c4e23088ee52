"""The same numbers in another layout: no parameters, derivatives flow through.

Flatten        (N, H, W, C) or (N, T, C) -> (N, features)
ChannelsLast   (N, C, H, W) -> (N, H, W, C), (N, C, T) -> (N, T, C): inputs as PyTorch has them
AsImages       sequences (N, T, C) -> images (N, T, 1, C)
AsSequences    images (N, T, 1, C) -> sequences (N, T, C)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...backend import Array, array_module
from .base import Rearrangement, Record, Shape


@dataclass(frozen=True)
class Flatten(Rearrangement):
    """(N, H, W, C) -> (N, H W C), channels last; what is flat already stays as it is."""

    def output_shape(self, shape: Shape | None) -> Shape | None:
        if shape is None or None in shape:
            return None if shape is None else (None,)
        return (math.prod(extent for extent in shape if extent is not None),)

    def apply(self, record: Record, x: Array) -> Array:
        return x.reshape(len(x), -1)

    def adjoint(self, record: Record, dy: Array) -> Array:
        return dy.reshape(*dy.shape[:-1], *record)


@dataclass(frozen=True)
class ChannelsLast(Rearrangement):
    """(N, C, H, W) -> (N, H, W, C), (N, C, T) -> (N, T, C): as the first layer, it takes PyTorch's inputs."""

    def output_shape(self, shape: Shape | None) -> Shape | None:
        if shape is None:
            return None
        if len(shape) not in (2, 3):
            raise ValueError(f"expected (N, C, H, W) or (N, C, T) into {self}, got {('N', *shape)}")
        return (*shape[1:], shape[0])

    def apply(self, record: Record, x: Array) -> Array:
        return array_module(x).moveaxis(x, 1, -1)

    def adjoint(self, record: Record, dy: Array) -> Array:
        return array_module(dy).moveaxis(dy, -1, -len(record))


@dataclass(frozen=True)
class AsImages(Rearrangement):
    """Sequences (N, T, C) as images (N, T, 1, C) of one column."""

    def output_shape(self, shape: Shape | None) -> Shape | None:
        if shape is not None and len(shape) != 2:
            raise ValueError(f"expected sequences (N, T, C) into {self}, got {('N', *shape)}")
        return None if shape is None else (shape[0], 1, shape[1])

    def apply(self, record: Record, x: Array) -> Array:
        return x[..., None, :]

    def adjoint(self, record: Record, dy: Array) -> Array:
        return dy[..., 0, :]


@dataclass(frozen=True)
class AsSequences(Rearrangement):
    """Images (N, T, 1, C) of one column as sequences (N, T, C)."""

    apply, adjoint = AsImages.adjoint, AsImages.apply

    def output_shape(self, shape: Shape | None) -> Shape | None:
        if shape is not None and (len(shape) != 3 or shape[1] not in (None, 1)):
            raise ValueError(f"expected images (N, T, 1, C) into {self}, got {('N', *shape)}")
        return None if shape is None else (shape[0], shape[2])
