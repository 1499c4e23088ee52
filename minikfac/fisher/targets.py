"""The expectation over targets: derivatives with respect to the outputs z, with square-root weights.

    "model"    the root of the output's Fisher matrix, K = C columns: the exact expectation
    "sampled"  targets drawn from the model, K = n_samples, weight 1 / sqrt(n_samples)
    "data"     the labels themselves, K = 1: the empirical Fisher [KBH19]

The Fisher matrix of the outputs is then the mean over examples of sum_k dz_k dz_k^T.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backend import (
    NUMBER_CLASSES,
    Array,
    array_module,
    as_array,
    check_generator,
    check_memory,
    whole_number,
)
from ..display import ShownByFields
from ..network import Network
from ..network.outputs import Output, weighted

TARGETS = ("model", "sampled", "data")
"""The possible sources of targets."""


@dataclass(frozen=True, repr=False)
class Targets(ShownByFields):
    """The source of a batch's targets; :meth:`terms` returns the derivatives dz (K, N, C).

    Attributes:
        output: the output distribution.
        targets: one of :data:`TARGETS`.
        n_samples: targets drawn per example.
        y: labels, for "data".
        noise: random numbers for the whole batch, of which chunks use their rows, for "sampled".
        weights: of the whole batch's targets, as the output distribution takes them.
    """

    output: Output
    targets: str
    n_samples: int
    y: Array | None
    noise: Array | None
    weights: Array | None = None

    @classmethod
    def of(
        cls,
        net: Network,
        theta: Array,
        x: Array,
        y: Array | None,
        targets: str,
        n_samples: int,
        rng: Any,
        weights: Any = None,
    ) -> Targets:
        """Check the arguments and draw random numbers.

        Raises:
            ValueError: on contradictory arguments.
            TypeError: if rng is not a generator but, for example, a seed.
        """
        if not isinstance(targets, str) or targets not in TARGETS:
            raise ValueError(f"expected targets 'model', 'sampled' or 'data', got {targets!r}")
        if (y is None) == (targets == "data"):
            raise ValueError(f"expected y if and only if targets='data', got targets={targets!r}")
        if rng is None and targets == "sampled":
            raise ValueError("expected rng = numpy.random.default_rng(seed) for sampled targets, got None")
        if rng is not None and targets != "sampled":
            raise ValueError(f"expected rng only with targets='sampled', got targets={targets!r}")
        if rng is not None:
            check_generator(rng)
        n_samples = whole_number(n_samples, "n_samples")
        if targets != "sampled" and n_samples != 1:
            raise ValueError(f"expected n_samples=1 unless targets='sampled', got {n_samples}")
        noise = None
        if y is not None or targets == "sampled" or weights is not None:
            units = net.n_outputs(x)
            weights = net.output.check_weights(weights, theta, len(x), units)
            if y is not None:
                y = as_array(y, "y", NUMBER_CLASSES)
                net.output.check(y, len(x), units)
            elif targets == "sampled":
                xp = array_module(theta)
                shape = (len(x), n_samples, units)
                check_memory(shape, theta.dtype, "sampled targets", "a smaller n_samples", xp)
                noise = xp.asarray(net.output.noise(rng, len(x), n_samples, units))
        return cls(net.output, targets, n_samples, y, noise, weights)

    def terms(self, z: Array, rows: slice) -> Array:
        """Derivatives (K, n, C) with respect to z (n, C), for the examples of a chunk."""
        dz = self._unweighted(z, rows)
        return dz if self.weights is None else weighted(dz, self.weights[rows] ** 0.5)

    def _unweighted(self, z: Array, rows: slice) -> Array:
        if self.targets == "model":
            return self.output.fisher_root(z)
        if self.y is not None:
            return self.output.gradient(z, self.y[rows])[None]
        assert self.noise is not None
        drawn = self.output.transform_noise(z, self.noise[rows])
        return (self.output.mean(z) - self.output.encode(drawn, z)) / self.n_samples**0.5
