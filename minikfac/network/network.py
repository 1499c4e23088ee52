"""A network: layers and an output distribution. Its parameters are a separate flat array theta.

theta (P,), x (N, features)  --forward-->  tape: abar, s of every parameter layer, z (N, C)
tape, dz = dL/dz             --backward->  g = dL/ds of every parameter layer
gradient of layer l          =  (1/N) sum_n sum_t abar[n, t] g[n, t]^T
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property, partial
from numbers import Integral
from typing import Any

from ..backend import (
    NUMBER_CLASSES,
    Array,
    all_finite,
    array_module,
    as_array,
    check_array,
    check_generator,
    number,
    on_host,
    to_host,
)
from ..display import Display, Shown, ShownByFields, call
from ..distributed import SERIAL, Communicator
from ..linalg import Sums, consecutive, sum_over_chunks
from ..parallel import chunks, for_each
from .layers import Affine, Dense, Layer, ParameterLayer, Pointwise, Record, Sequential
from .layers.base import sum_of_products
from .layers.composite import batch_norms
from .layers.dense import SCHEMES
from .outputs import Output

Stats = Sequence[Array] | None
"""Running statistics of batch normalization, (2, C) each; None for those of ``net.init_stats()``."""


_FLATTEN = "add a Flatten(), and for a label at each of T positions the output CategoricalPerPosition(T)"


@dataclass(frozen=True, repr=False)
class Tape(ShownByFields):
    """The results of a forward pass that the backward pass needs.

    Attributes:
        z: (N, C), natural parameters of the output distribution.
        record: the layers' records for the backward pass.
        stats: running statistics of batch normalization after this pass; [] for most nets.
    """

    z: Array
    record: Record
    stats: list[Array]
    _body: Layer

    @cached_property
    def _signals(self) -> list[tuple[Array, Array]]:
        return self._body.signals(self.record)

    @property
    def abar(self) -> list[Array]:
        """The input of each parameter layer's weights, (N, T, I), with a constant 1 appended.

        Scale-and-shift layers have (N, T, 2, C): the normalized input, and 1.
        """
        return [abar for abar, _ in self._signals]

    @property
    def s(self) -> list[Array]:
        """The pre-activations of each parameter layer, (N, T, O)."""
        return [s for _, s in self._signals]

    @property
    def records(self) -> list[Record]:
        """The record of each parameter layer for its weight gradient."""
        return self._body.records(self.record)

    @property
    def grids(self) -> list[tuple[int, int]]:
        """(H, W) of each parameter layer, whose T = H W locations are in row-major order."""
        return self._body.grids(self.record)

    @property
    def batch_stats(self) -> list[Array]:
        """The mean and variance used by each batch normalization in this pass, (2, C)."""
        return self._body.statistics(self.record)


class Network(Shown):
    """A sequence of layers, and the distribution of the target given their output.

    Attributes:
        layers: the layers.
        output: the output distribution.
        names: names of the parameter layers, such as ``"dense0"``; the number is the layer's index ``l``.
        shapes: shapes of their weights, (I, O) each.
        slices: slices of their weights in theta.
        n_params: P.
        comm: the ranks that share each batch, see :meth:`on`; by default a single one.
    """

    comm: Communicator = SERIAL

    def __init__(self, layers: Sequence[Layer], output: Output) -> None:
        """Raises ValueError without layers or if sizes do not fit, TypeError on anything but layers."""
        if not isinstance(layers, Iterable):
            raise TypeError(f"expected a list of layers of minikfac.layers, got {layers!r}")
        self._body = Sequential(tuple(layers))
        if not isinstance(output, Output):
            raise TypeError(f"expected an output of minikfac.outputs, got {output!r}")
        self.output = output
        parameter_layers = self._body.parameter_layers
        if not parameter_layers:
            raise ValueError("expected at least one layer with parameters, got none")
        self._body.output_shape(None)
        self.shapes = self._body.weight_shapes
        self.names = tuple(f"{layer.kind}{number}" for number, layer in enumerate(parameter_layers))
        sizes = [math.prod(shape) for shape in self.shapes]
        self.slices = consecutive(sizes)
        self.n_params = sum(sizes)

    @property
    def layers(self) -> tuple[Layer, ...]:
        return self._body.layers

    @property
    def parameter_layers(self) -> tuple[ParameterLayer, ...]:
        """The layers with weights, including those in branches; ``parameter_layers[l]`` is layer ``l``."""
        return self._body.parameter_layers

    @property
    def is_dense_chain(self) -> bool:
        """Whether the net is a sequence of dense layers, pointwise layers and fixed affine maps only."""
        return all(isinstance(layer, Dense | Pointwise | Affine) for layer in self.layers)

    def on(self, comm: Communicator) -> Network:
        """Return this net on several ranks, such as :func:`minikfac.distributed.world`.

        Losses, gradients, signals and optimizers of the new net then divide each batch among the ranks.
        Single passes such as :meth:`forward`, :meth:`predict` or :meth:`kl` are still computed in full by
        each rank.
        """
        net = copy(self)
        net.comm = comm
        return net

    def _display(self) -> Display:
        kinds = [type(layer).__name__ for layer in self.layers]
        if len(kinds) > 4:
            kinds[2:-1] = [f"{len(kinds) - 3} more"]
        title = f"Network({self.n_params:,} parameters: {', '.join(kinds)}; {type(self.output).__name__})"
        rows, names = [], list(zip(self.names, self.shapes, strict=True))
        for layer in self.layers:
            inside = [names.pop(0) for _ in layer.parameter_layers]
            count = sum(math.prod(shape) for _, shape in inside)
            rows.append([call(layer), ", ".join(name for name, _ in inside), f"{count:,}" if count else ""])
        return Display(title, ["layer", "weights", "parameters"], rows)

    # parameters ---------------------------------------------------------------------------------

    def init(self, rng: Any, scheme: str = "glorot", dtype: Any = float) -> Array:
        """Draw initial parameters theta (P,) on the host; biases are 0.

        Args:
            rng: a ``numpy.random.Generator``.
            scheme: "glorot", weights N(0, 2 / (n_in + n_out)) [GB10]; "he", N(0, 2 / n_in) [HZRS15]; or
                "sparse", 15 incoming weights per unit from N(0, 1) and the others 0 [Martens10, sec. 5].
                A convolution's n_in is kh kw c_in. Normalizations start with scale 1 and shift 0.
            dtype: float32 or float64.

        Raises:
            ValueError: on an unknown scheme or dtype.
            TypeError: if rng is not a generator but, for example, a seed.
        """
        check_generator(rng)
        if scheme not in SCHEMES:
            raise ValueError(f"expected scheme {' or '.join(map(repr, SCHEMES))}, got {scheme!r}")
        Ws = [layer.initial_weights(rng, scheme) for layer in self.parameter_layers]
        theta = self.pack(Ws).astype(dtype)
        self.unpack(theta)  # rejects other dtypes
        return theta

    def unpack(self, theta: Array) -> list[Array]:
        """Return the weights of each parameter layer, (I, O), as views of theta (P,)."""
        check_array(theta, "theta")
        if theta.shape != (self.n_params,):
            raise ValueError(f"expected theta or direction of shape ({self.n_params},), got {theta.shape}")
        if theta.dtype.name not in ("float32", "float64"):
            raise ValueError(f"expected theta of dtype float32 or float64, got {theta.dtype}")
        return [theta[part].reshape(shape) for part, shape in zip(self.slices, self.shapes, strict=True)]

    def check_finite(self, theta: Array, name: str = "theta") -> list[Array]:
        """Return the weights as :meth:`unpack` does; values on a device are not checked.

        Raises:
            ValueError: on NaN or infinite values, with the names of the affected layers.
        """
        Ws = self.unpack(theta)
        if on_host(theta) and not all_finite(theta):
            bad = [name for name, W in zip(self.names, Ws, strict=True) if not all_finite(W)]
            raise ValueError(f"expected finite {name}, got NaN or infinite values in {', '.join(bad)}")
        return Ws

    def pack(self, Ws: Sequence[Array]) -> Array:
        """Return a flat array (P,) with copies of the weights."""
        for W in Ws:
            check_array(W, "each weight")
        shapes = tuple(W.shape for W in Ws)
        if shapes != self.shapes:
            raise ValueError(f"expected weights of shapes {list(self.shapes)}, got {list(shapes)}")
        return array_module(*Ws).concatenate([W.reshape(-1) for W in Ws])

    # passes -------------------------------------------------------------------------------------

    def init_stats(self) -> list[Array]:
        """Return the initial running statistics on the host, (2, C) with mean 0 and variance 1.

        There is one array per batch normalization, so [] for most nets.
        """
        xp = array_module()
        return [xp.stack([xp.zeros(c), xp.ones(c)]) for _, c in self._body.statistics_shapes]

    def n_outputs(self, x: Array) -> int:
        """C, the number of natural parameters for inputs like x."""
        shape = self._body.output_shape(as_batch(x).shape[1:])
        if shape is None or len(shape) != 1 or shape[0] is None:
            raise ValueError(f"expected outputs (N, C) of the last layer, got {shape}; {_FLATTEN}")
        return shape[0]

    def batch_stats(self, theta: Array, x: Array) -> list[Array]:
        """Return the statistics that batch normalization computes for a batch in training, (2, C) each.

        Other passes use them as constants. [] for most nets, at no cost. On overflow they are not finite, and
        other passes reject them.
        """
        if not self._body.statistics_shapes:
            return []
        self.check_finite(theta)
        return self._pass(theta, x, train=True).batch_stats

    def forward(self, theta: Array, x: Array, stats: Stats = None, train: bool = False) -> Tape:
        """Run the net on inputs x, (N, features) or images (N, H, W, C).

        Args:
            theta: (P,).
            x: inputs.
            stats: running statistics of batch normalization; those of :meth:`init_stats` by default.
            train: let batch normalization use the statistics of this batch instead of the running ones, and
                average them into ``tape.stats``.

        Raises:
            ValueError: on an empty batch, integers, NaN or infinite values, or shapes that do not fit.
            TypeError: if theta and x are on different devices, or x is not an array of numbers.
            FloatingPointError: if finite numbers overflow.
        """
        self._check_numbers(theta, stats, needed=False)
        tape = self._pass(theta, x, stats, train)
        self._check_result(tape.z, "outputs", theta=theta)
        return tape

    def _pass(self, theta: Array, x: Array, stats: Stats = None, train: bool = False) -> Tape:
        """Run the net as :meth:`forward` does, checking only the values of x."""
        Ws = self.unpack(theta)
        x = _check_inputs(theta, x)
        running = self._check_stats(theta, stats)
        z, record = self._body.forward(Ws, x, None if train else running)
        if z.ndim != 2:
            raise ValueError(f"expected outputs (N, C) of the last layer, got {z.shape}; {_FLATTEN}")
        if train:
            decays = [layer.decay for layer in batch_norms(self._body)]
            running = [
                decay * old + (1 - decay) * new
                for decay, old, new in zip(decays, running, self._body.statistics(record), strict=True)
            ]
        return Tape(z, record, running, self._body)

    def _check_numbers(self, theta: Array, stats: Stats, needed: bool) -> None:
        """Reject parameters and statistics that are not finite, and missing statistics if needed."""
        self.check_finite(theta)
        if needed and stats is None and self._body.statistics_shapes:
            raise ValueError(
                "expected stats, the running statistics of batch normalization, got none; training keeps "
                "them in the optimizer's state['stats']; batch_stats(theta, x) returns those of a batch"
            )
        for part in [] if stats is None or not on_host(theta) else self._check_stats(theta, stats):
            if not all_finite(part):
                raise ValueError("expected finite statistics, got NaN or infinite values")
            if (lowest := float(part[1].min())) < 0:
                raise ValueError(f"expected variances >= 0 among the statistics, got {lowest:g}")

    def _check_stats(self, theta: Array, stats: Stats) -> list[Array]:
        """Statistics converted to the dtype and device of theta."""
        given = self.init_stats() if stats is None else stats
        stats = [as_array(part, "each of the statistics") for part in given]
        shapes = tuple(part.shape for part in stats)
        if shapes != self._body.statistics_shapes:
            raise ValueError(
                f"expected statistics of shapes {list(self._body.statistics_shapes)}, got {list(shapes)}"
            )
        return [array_module(theta).asarray(part, dtype=theta.dtype) for part in stats]

    def chunks(self, theta: Array, x: Array, train: bool = False) -> list[slice]:
        """Split this rank's rows of x into chunks for separate passes; [] if it has none.

        Examples coupled by batch normalization form a single chunk.

        Raises:
            ValueError: if examples are coupled across ranks.
        """
        x = as_batch(x)
        if train and self._body.statistics_shapes:
            if self.comm.size > 1:
                raise ValueError(
                    "expected a net without batch normalization to train on several ranks, got one that "
                    "needs statistics of the whole batch"
                )
            return [slice(None)]
        share = self.comm.rows(len(x))
        if share.start == share.stop:
            return []
        size, work = (f(x.shape[1:]) for f in (self._body.example_size, self._body.example_work))
        parts = chunks(share.stop - share.start, size, theta, work)
        return [slice(share.start + rows.start, share.start + rows.stop) for rows in parts]

    def work(self, x: Array) -> int:
        """Number of multiplications by weights in a forward pass over x."""
        return len(x) * self._body.example_work(x.shape[1:])

    def backward(self, theta: Array, tape: Tape, dz: Array) -> list[Array]:
        """Propagate dL/dz back to the pre-activations of every parameter layer.

        Args:
            theta: (P,).
            tape: the tape of the forward pass.
            dz: (N, C), or (K, N, C) for K derivatives at once; per example, not averaged.

        Returns:
            g for each parameter layer, (N, T, O) or (K, N, T, O).
        """
        self.check_finite(theta)
        gs = self._backward(theta, tape, dz)
        self._check_result(gs[0], "g", theta=theta)  # overflow in later layers reaches the first
        return gs

    def _backward(self, theta: Array, tape: Tape, dz: Array) -> list[Array]:
        """Backpropagate as :meth:`backward` does, checking only the values of dz."""
        check_array(dz, "dz")
        if dz.ndim not in (2, 3) or dz.shape[-2:] != tape.z.shape:
            expected = f"{tape.z.shape} or (K, {len(tape.z)}, {tape.z.shape[1]})"
            raise ValueError(f"expected dz of shape {expected}, got {dz.shape}")
        if dz.dtype.kind not in "biuf":
            raise ValueError(f"expected dz of a real dtype, got {dz.dtype}")
        if on_host(dz) and not all_finite(dz):
            raise ValueError("expected finite dz, got NaN or infinite values")
        gs = self._body.backward(self.unpack(theta), tape.record, dz, need_dx=False)[1]
        return [g.reshape(*dz.shape[:-1], -1, g.shape[-1]) for g in gs]

    def jvp(self, theta: Array, tape: Tape, v: Array) -> Array:
        """Return J v (N, C), the derivative of z along the direction v (P,) of the parameters.

        Takes one extra forward pass, the R-operator [Pearlmutter94].
        """
        u = self._body.jvp(self.check_finite(theta), self.unpack(v), tape.record, None)[0]
        assert u is not None
        self._check_result(u, "J v", theta=theta, v=v)
        return u

    def fisher_gram(self, theta: Array, x: Array, directions: Array, stats: Stats = None) -> Array:
        """Return d_i^T F d_j (m, m) for directions d (m, P) and the exact Fisher matrix F over x.

        Takes one R-operator pass per direction and no backward pass: (J d_i)^T F_R (J d_j) with the output's
        Fisher matrix F_R [MG15, app. C].
        """
        xp, x = array_module(theta), as_batch(x)
        self._check_numbers(theta, stats, needed=False)
        Ws, Vs = self.unpack(theta), [self.unpack(d) for d in directions]

        def add(rows: slice, sums: Sums) -> None:
            tape = self._pass(theta, x[rows], stats)
            u = xp.stack([self._body.jvp(Ws, V, tape.record, None)[0] for V in Vs])  # (m, n, C)
            Fu = xp.stack([self.output.fisher_product(tape.z, Jd) for Jd in u])
            sums.add("gram", u.reshape(len(u), -1) @ Fu.reshape(len(u), -1).T)

        gram = sum_over_chunks(add, self.chunks(theta, x), theta, self.comm)["gram"] / len(x)
        self._check_result(gram, "d^T F d", **{f"direction {i}": d for i, d in enumerate(directions)})
        return (gram + gram.T) / 2

    def vjp(self, theta: Array, tape: Tape, dz: Array) -> Array:
        """Return J^T dz summed over examples, (P,), for dz (N, C); the adjoint of :meth:`jvp`."""
        self.check_finite(theta)
        gs = self._backward(theta, tape, dz)
        if dz.ndim != 2:
            raise ValueError(f"expected dz of shape {tape.z.shape}, got {dz.shape}")
        product = self.weight_gradient(theta, tape, gs)
        self._check_result(product, "J^T dz", theta=theta)
        return product

    def summed_gradient(self, theta: Array, abars: Sequence[Array], gs: Sequence[Array]) -> Array:
        """Return sum_n sum_t abar g^T for every layer as a flat array like theta, (P,).

        For scale and shift it is the sum of abar * g.
        """
        xp = array_module(theta)
        total = xp.empty_like(theta)
        for abar, g, W in zip(abars, gs, self.unpack(total), strict=True):
            if abar.ndim == 4:
                W[...] = xp.einsum("ntic,ntc->ic", abar, g)  # CuPy's einsum has no out
            else:
                sum_of_products(abar, g, W)
        return total

    def weight_gradient(self, theta: Array, tape: Tape, gs: Sequence[Array]) -> Array:
        """:meth:`summed_gradient` of the signals on a tape, without extracting image patches."""
        total = array_module(theta).empty_like(theta)
        layers = zip(self.parameter_layers, tape.records, gs, self.unpack(total), strict=True)
        for layer, record, g, W in layers:
            layer.weight_gradient(record, g, W)
        return total

    def hessian_product(self, theta: Array, tape: Tape, y: Array, v: Array, weights: Any = None) -> Array:
        """Return H v (P,) for the Hessian H of the mean loss over the examples of the tape.

        Takes one more forward and backward pass, each differentiated along v [Pearlmutter94].
        """
        y = as_array(y, "y", NUMBER_CLASSES)
        self.output.check(y, *tape.z.shape)
        Ws, Vs = self.check_finite(theta), self.unpack(v)
        rz, tangent = self._body.jvp(Ws, Vs, tape.record, None)
        assert rz is not None
        weights = self.output.check_weights(weights, theta, *tape.z.shape)
        dz = self.output.gradient(tape.z, y, weights)
        rdz = self.output.hessian_product(tape.z, y, rz, weights)
        signals = self._body.backward_jvp(Ws, Vs, tape.record, tangent, dz, rdz)[2]
        abars, rabars, gs, rgs = zip(*signals, strict=True)
        total = self.summed_gradient(theta, rabars, gs) + self.summed_gradient(theta, abars, rgs)
        self._check_result(total, "H v", theta=theta, v=v)
        return total / len(tape.z)

    # uses of a net -----------------------------------------------------------------------

    def loss(self, theta: Array, x: Array, y: Array, stats: Stats = None, weights: Any = None) -> float:
        """Mean negative log-likelihood over examples, in nats, summed over output units.

        Args:
            theta: (P,).
            x, y: inputs and targets: arrays, or data that :func:`minikfac.backend.as_array` can convert.
            stats: running statistics, required for nets with batch normalization.
            weights: of the examples, (N,): the loss is (1/N) sum_n w_n loss_n, divided by N whatever their
                sum is. Or of the independent terms of their targets, (N, terms): C units, or T positions, of
                which those with weight 0 are ignored. For the mean over the rest give w N / sum(w).

        Raises:
            ValueError: on numbers that are not finite, or inputs, targets or statistics that do not fit.
            TypeError: on anything but an array of numbers.
            FloatingPointError: if finite numbers overflow.
        """
        self._check_numbers(theta, stats, needed=True)
        return self._finite_loss(self.mean_loss(theta, x, y, stats, weights), theta, x, y)

    def mean_loss(self, theta: Array, x: Array, y: Array, stats: Stats = None, weights: Any = None) -> Any:
        """:meth:`loss`, but NaN for parameters that are not finite, and NaN or infinite on overflow.

        On a device it stays there, and is NaN for invalid inputs and targets as well.
        """
        x, y = as_batch(x), as_array(y, "y", NUMBER_CLASSES)
        chunks, weights_of = self.chunks(theta, x), self._rows_of_weights(weights, theta, x)

        def add(rows: slice, sums: Sums) -> None:
            z = self._pass(theta, x[rows], stats).z
            if _is_first(rows, chunks):
                self.output.check(y, len(x), z.shape[1])
            sums.add("loss", self.output.losses(z, y[rows], weights_of(rows)).sum())

        loss = sum_over_chunks(add, chunks, theta, self.comm)["loss"]
        return _or_nan(number(loss) / len(x), theta)

    def _rows_of_weights(self, weights: Any, theta: Array, x: Array) -> Callable[[slice], Array | None]:
        """A function of rows to their weights, once these are checked."""
        if weights is None:
            return lambda rows: None
        checked = self.output.check_weights(weights, theta, len(x), self.n_outputs(x))
        assert checked is not None
        return checked.__getitem__

    def _finite_loss(self, loss: Any, theta: Array, x: Array, y: Array) -> float:
        """A loss as a float; if it is NaN or infinite, raises an error with the cause, also on a device."""
        value = float(loss)
        if not math.isfinite(value):
            self.output.check_values(as_array(y, "y"), self.n_outputs(x))
            _check_inputs(to_host(theta), to_host(as_batch(x)))
            self._check_result(value, "loss", theta=theta)
        return value

    def _check_result(self, result: Any, what: str, **parameters: Array) -> None:
        """Reject NaN and infinity in an array or a float, with the cause; does nothing on a device."""
        if not on_host(result) or all_finite(array_module().asarray(result)):
            return
        for name, vector in parameters.items():
            self.check_finite(to_host(vector), name)
            dtype = vector.dtype
        advice = ", or use float64" if dtype == "float32" else ""
        raise FloatingPointError(
            f"expected finite {what}, got NaN or infinite values: numbers overflow {dtype}; "
            f"make parameters and inputs smaller{advice}"
        )

    def loss_and_gradient(
        self, theta: Array, x: Array, y: Array, stats: Stats = None, train: bool = False, weights: Any = None
    ) -> tuple[float, Array]:
        """Return the loss and its gradient (P,): means over the N examples.

        See :meth:`forward` for ``stats`` and ``train``, one of which batch normalization needs, and
        :meth:`loss` for ``weights``. The batch is
        processed in chunks on all cores, unless batch normalization couples its examples.
        """
        self._check_numbers(theta, stats, needed=not train)
        loss, grad, *_ = self.gradient_pass(theta, x, y, stats, train, weights)
        value = self._finite_loss(loss, theta, x, y)
        self._check_result(grad, "gradient", theta=theta)
        return value, grad

    def gradient_pass(
        self, theta: Array, x: Array, y: Array, stats: Stats = None, train: bool = True, weights: Any = None
    ) -> tuple[Any, Array, list[Array], list[Array]]:
        """Return the loss, its gradient (P,), and two kinds of statistics, for a training step.

        The statistics are those of batch normalization: the running ones after the pass, and those used in
        it. The loss is NaN for parameters that are not finite. On a device it stays there as a 0-d array,
        which avoids synchronization, and is also NaN if the output distribution does not allow one of the
        targets.
        """
        x, y = as_batch(x), as_array(y, "y", NUMBER_CLASSES)
        chunks, weights_of = self.chunks(theta, x, train), self._rows_of_weights(weights, theta, x)
        after: list[Array] = []
        used: list[Array] = []

        def add(rows: slice, sums: Sums) -> None:
            tape = self._pass(theta, x[rows], stats, train)
            if _is_first(rows, chunks):  # once, when the number of outputs is known
                self.output.check(y, len(x), tape.z.shape[1])
                after[:], used[:] = tape.stats, tape.batch_stats
            dz = self.output.gradient(tape.z, y[rows], weights_of(rows)) / len(x)
            gs = self._body.backward(self.unpack(theta), tape.record, dz, need_dx=False)[1]
            sums.add("loss", self.output.losses(tape.z, y[rows], weights_of(rows)).sum())
            sums.add("gradient", self.weight_gradient(theta, tape, gs))

        sums = sum_over_chunks(add, chunks, theta, self.comm)
        return _or_nan(number(sums["loss"]) / len(x), theta), sums["gradient"], after, used

    def gradient(self, theta: Array, x: Array, y: Array, stats: Stats = None, weights: Any = None) -> Array:
        """Return the gradient (P,) of the mean loss; see :meth:`loss` for the arguments."""
        return self.loss_and_gradient(theta, x, y, stats, weights=weights)[1]

    def predict(self, theta: Array, x: Array, stats: Stats = None) -> Array:
        """Return the mean of the target, (N, C): class probabilities, or the Gaussian's mean.

        See :meth:`loss` for arguments and errors.
        """
        return self.output.mean(self.natural_parameters(theta, x, stats))

    def kl(self, theta: Array, theta2: Array, x: Array, stats: Stats = None) -> float:
        """Mean KL( p_theta(. | x) || p_theta2(. | x) ) over the inputs x, in nats.

        See :meth:`loss` for arguments and errors.
        """
        self.check_finite(theta2, "theta2")
        z, z2 = (self.natural_parameters(at, x, stats) for at in (theta, theta2))
        kl = float(self.output.kl(z, z2).mean())
        self._check_result(kl, "KL divergence", theta=theta, theta2=theta2)
        return kl

    def natural_parameters(self, theta: Array, x: Array, stats: Stats = None) -> Array:
        """Compute only z (N, C), chunk by chunk, without keeping tapes.

        See :meth:`loss` for arguments and errors.
        """
        self._check_numbers(theta, stats, needed=True)
        x = as_batch(x)
        chunks = self.on(SERIAL).chunks(theta, x)

        def z_of(rows: slice) -> Array:
            return self._pass(theta, x[rows], stats).z

        parts = for_each([partial(z_of, rows) for rows in chunks], theta)
        z = parts[0] if len(parts) == 1 else array_module(theta).concatenate(parts)
        self._check_result(z, "outputs", theta=theta)
        return z


def layer_index(names: Sequence[str], layer: int | str) -> int:
    """Position of a parameter layer given by index or name.

    Raises:
        KeyError, IndexError: if there is no such layer.
        TypeError: if it is neither a whole number nor a string.
    """
    if isinstance(layer, bool) or not isinstance(layer, str | Integral):
        raise TypeError(f"expected the index or name of a layer, got {layer!r}")
    if isinstance(layer, str):
        if layer not in names:
            raise KeyError(f"expected one of the layers {', '.join(names)}, got {layer!r}")
        return names.index(layer)
    if not -len(names) <= layer < len(names):
        raise IndexError(f"expected a layer from 0 to {len(names) - 1}, got {layer}")
    return layer % len(names)


def _is_first(rows: slice, chunks: Sequence[slice]) -> bool:
    """Whether a chunk is a rank's first; a rank without examples uses one of another rank's."""
    return not chunks or rows.start == chunks[0].start


def _or_nan(loss: Any, theta: Array) -> Any:
    """A loss, or NaN if parameters are not finite, as infinite ones pass unnoticed through tanh."""
    if on_host(theta):
        return loss if all_finite(theta) else math.nan
    xp = array_module(theta)
    return xp.where(xp.isfinite(theta).all(), loss, xp.nan)


def as_batch(x: Any) -> Array:
    """Convert inputs to an array by :func:`minikfac.backend.as_array`; reject anything but a batch."""
    x = as_array(x, "x")
    if x.ndim < 2 or x.size == 0:
        raise ValueError(
            f"expected a batch of at least one example, (N, features) or (N, H, W, C), got shape {x.shape}"
        )
    return x


def _check_inputs(theta: Array, x: Array) -> Array:
    x = as_batch(x)
    xp = array_module(theta, x, names="theta, x")
    if x.dtype.kind != "f":
        raise ValueError(f"expected inputs of a floating dtype, got {x.dtype}; convert and scale them first")
    x = x.astype(theta.dtype, copy=False)  # numbers too large for the dtype become infinite
    if on_host(x) and not xp.isfinite(x).all():  # on a GPU a check would stall the queue
        bad = int((~xp.isfinite(x.reshape(len(x), -1)).all(1)).sum())
        raise ValueError(f"expected finite inputs, got NaN or infinite values in {bad} of {len(x)} examples")
    return x
