"""Take a trained PyTorch net over: its layers become ours, its weights one flat theta.

    PyTorch                        here
    images (N, C, H, W)            (N, H, W, C): ``x.transpose(0, 2, 3, 1)``
    features (c, h, w) of Flatten  (h, w, c): the layers behind it, up to the next Linear, are permuted
    running_mean, running_var      no parameters: :func:`stats_from_torch`

PyTorch is not imported here: a module that is handed in has brought it along.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import chain, product
from typing import Any, NoReturn

from ..backend import Array, array_module, as_array, to_host
from ..network import layers
from ..network.layers import Conv2d, Dense, Layer
from ..network.network import Network
from ..network.outputs import OUTPUTS, CategoricalPerPosition, Output
from .graph import BY_HAND, Join, Step, evaluated, kind_of, refuse, steps_of

_POINTWISE: dict[str, Callable[[Any], Layer]] = {
    "ELU": lambda part: layers.ELU(part.alpha),
    "GELU": lambda part: layers.TanhGELU() if part.approximate == "tanh" else layers.GELU(),
    "Identity": lambda _: layers.Identity(),
    "LeakyReLU": lambda part: layers.LeakyReLU(part.negative_slope),
    "LogSigmoid": lambda _: layers.LogSigmoid(),
    "ReLU": lambda _: layers.ReLU(),
    "SELU": lambda _: layers.SELU(),
    "SiLU": lambda _: layers.SiLU(),
    "Sigmoid": lambda _: layers.Logistic(),
    "Tanh": lambda _: layers.Tanh(),
}
_KNOWN = (
    "known are Linear, Conv1d and 2d, MaxPool1d and 2d, AvgPool1d and 2d, AdaptiveAvgPool1d and 2d, "
    "BatchNorm1d and 2d, ZeroPad2d, Flatten, GroupNorm, LayerNorm, RMSNorm, LocalResponseNorm, Softplus "
    f"(beta 1, threshold 20), {', '.join(sorted(_POINTWISE))}"
)
_SIZES = ("in_channels", "in_features", "num_features", "num_channels", "normalized_shape")
"""Where a layer of PyTorch says how many channels or features come in."""
_INPUTS = dict(flat="flat features", images="images (N, C, H, W)", pooled="1 x 1 images")
_INPUTS["sequences"] = "sequences (N, C, T)"
_NO_SOFTMAX = "leave it out: the categorical output applies the softmax itself"
_SOFTMAX_INSIDE = (
    "only a softmax at the end can be left out, and only for output='categorical', which applies it itself"
)
_NO_SIGMOID = "leave the last Sigmoid out: the bernoulli output applies the logistic itself"
_COMPUTED = "take its weights as they are now by torch.nn.utils.parametrize.remove_parametrizations"
_NO_STATISTICS = "it takes statistics of its batch alone: net.batch_stats(theta, x) returns those of a batch"
_NO_DROPOUT = "leave it out: curvature is studied without dropout"


def from_torch(
    module: Any,
    output: str | Output = "categorical",
    input_shape: tuple[int, ...] | None = None,
    channels_first: bool = False,
) -> tuple[Network, Array]:
    """Convert a PyTorch module: a layer, or a chain of layers with residuals and concatenations.

    A ``Sequential`` is read part by part, other classes by what ``forward`` does: layers, functions such as
    ``F.relu``, ``x + f(x)`` and ``torch.cat([f(x), g(x)], 1)``. Images are (N, H, W, C) here and sequences
    (N, T, C), unless ``channels_first`` puts a layer in front that takes PyTorch's. A Flatten in front is
    left out: inputs are flat then, in PyTorch's order (c, h, w), which images (N, H, W, C) take on by
    ``images.transpose(0, 3, 1, 2).reshape(len(images), -1)``. Running statistics of batch normalization are
    not among the parameters::

        net, theta = from_torch(module)
        stats = stats_from_torch(module)
        z = net.forward(theta, images.transpose(0, 2, 3, 1), stats).z         # of module.eval()

    Args:
        module: of Linear, Conv1d and 2d, MaxPool1d and 2d, AvgPool1d and 2d, AdaptiveAvgPool1d and 2d,
            BatchNorm1d and 2d, ZeroPad2d, Flatten, GroupNorm, LayerNorm and RMSNorm (of flat features, or of
            all of an example), LocalResponseNorm, ELU, GELU, LeakyReLU, LogSigmoid, ReLU, SELU, SiLU,
            Sigmoid, Softplus (beta 1, threshold 20), Tanh and Identity.
        output: the distribution that the loss stood for: "categorical" (cross-entropy), "bernoulli"
            (BCE with logits) or "gaussian" (squared error). A PyTorch module does not say. For Linear along
            sequences (N, T, C) ``outputs.CategoricalPerPosition(T)``, which puts a Flatten at the end.
        input_shape: of one example in PyTorch, (C, H, W), (C, T), (features,), or (T, C) if Linear comes
            first, where the layers leave it open and the sizes that are tried do not fit.
        channels_first: whether the net takes images (N, C, H, W) or sequences (N, C, T), as the module does.

    Both nets run on random inputs, the module as in ``module.eval()`` and left as it was: hooks, weights that
    are computed on the way, or a class of a known name can make a module another function than its parts say.

    Returns:
        The network and theta (P,), in the dtype of the weights.

    Raises:
        ValueError: naming a part that has no counterpart here, its place, and what to do; or where the
            outputs differ, by how much and from which layer on.
    """
    if not isinstance(output, Output) and output not in OUTPUTS:
        raise ValueError(f"expected output one of {', '.join(sorted(OUTPUTS))}, got {output!r}")
    distribution = output if isinstance(output, Output) else OUTPUTS[output]()
    parts = _Import(module, type(distribution).__name__.lower())
    if isinstance(output, CategoricalPerPosition):
        parts.layers.append(layers.Flatten())
    front: list[Layer] = []
    if channels_first:
        if parts.inputs not in ("images", "sequences") and not parts.flat_images:
            raise ValueError("expected channels_first=False for a module that takes no images, got True")
        front = [layers.Flatten() if parts.flat_images else layers.ChannelsLast()]
    net = Network([*front, *parts.layers], distribution)
    theta = net.pack(parts.Ws)
    net.check_finite(theta, "weights")
    if callable(module):
        if isinstance(output, CategoricalPerPosition) and parts.inputs in ("", "flat"):
            input_shape = input_shape or (output.positions, parts.n_in)
        _compare(module, parts, front, input_shape)
    return net, theta


def stats_from_torch(module: Any) -> list[Array]:
    """Return the running statistics of batch normalization, to be used in place of ``net.init_stats()``.

    PyTorch's running variance is unbiased, a sum over n - 1; here later batches are averaged in with n.

    Args:
        module: one that :func:`from_torch` takes.

    Returns:
        Per BatchNorm1d and BatchNorm2d (2, C), running_mean and running_var; [] where there is none.

    Raises:
        ValueError: as from_torch; on batch normalization with track_running_stats=False.
    """
    parts = _Import(module)
    for step, (_, _, stats) in parts.made.items():
        if any(running is None for running in stats):
            refuse(step.path, step.part, _NO_STATISTICS)
    return parts.stats


class _Import:
    """Our layers, weights and running statistics, read off a module part by part.

    Attributes:
        shape: what is known of the inputs to the next part: "" nothing, "images", "sequences", "pooled"
            (PyTorch's (N, C, 1, 1) or (N, C, 1), ours (N, C)), or "flat".
        channels: C of images or sequences, 0 where it is not known.
        flattened: C while features lie in PyTorch's order (c, h, w) there and (h, w, c) here; else 0.
        inputs: the first of the shapes.
        n_in: C of the inputs, or how many features they have.
        flat_images: whether a Flatten in front was left out.
        made: our layers, weights and statistics of each step.
    """

    def __init__(self, module: Any, output: str = "") -> None:
        self.layers: list[Layer] = []
        self.Ws: list[Array] = []
        self.stats: list[Any] = []  # None where it is always the batch's
        self.inputs, self.flat_images, self.n_in = "", False, 0
        self.shape, self.channels, self.flattened = "", 0, 0
        self.steps, self.owners = steps_of(module), dict[int, Step | Join]()
        self.made: dict[Step, tuple[list[Layer], list[Array], list[Array]]] = {}
        self._add_all(self.steps, output)
        if self.flattened:
            self._refuse(
                "it gives outputs in the order (c, h, w) of flattened images, here it would be (h, w, c); on "
                "1 x 1 images put an AdaptiveAvgPool2d(1) before the Flatten, which changes nothing"
            )

    def _add_all(self, steps: list[Step | Join], output: str = "") -> None:
        """Take over the steps of a branch, the last one before an ``output`` if it is named."""
        for step in steps:
            self.step = step
            if isinstance(step, Join):
                self._join(step)
                continue
            size = next((getattr(step.part, name) for name in _SIZES if hasattr(step.part, name)), 0)
            self.n_in = self.n_in or (size[0] if isinstance(size, tuple | list) else size)
            before = len(self.layers), len(self.Ws), len(self.stats)
            self._add(output, step is steps[-1])
            self.made[step] = self.layers[before[0] :], self.Ws[before[1] :], self.stats[before[2] :]
            self.inputs = self.inputs or self.shape

    def _join(self, join: Join) -> None:
        """Take over branches, each from the same inputs, and what joins them."""
        before, outer, branches, after = (self.shape, self.channels, self.flattened), self.layers, [], []
        for steps in join.branches:
            (self.shape, self.channels, self.flattened), self.layers = before, []
            self._add_all(steps)
            branches.append(self.layers)
            after.append((self.shape, self.channels, self.flattened))
        self.layers, self.step = outer, join
        shapes, channels, orders = (set(values) for values in zip(*after, strict=True))
        if len(shapes - {""}) > 1 or len(orders) > 1:
            self._refuse("some of its branches give images, some features, or features in another order")
        self.shape = next(iter(shapes - {""}), "")
        if join.part == "add":
            self.channels = max(channels)
            self.layers.append(layers.Residual(*branches))
            return
        rank = {"": 2, "flat": 2, "sequences": 3}.get(self.shape, 4)
        if join.axis % rank != 1 or self.flattened:
            self._refuse("only features and channels are joined here, along axis 1: do so before a Flatten")
        self.channels = 0 if 0 in channels else sum(c for _, c, _ in after)
        self.layers.append(layers.Parallel(*branches))

    def _add(self, output: str, last: bool) -> None:
        part: Any = self.step.part
        name = kind_of(part)
        weight = getattr(part, "weight", None)
        owner = self.owners.setdefault(id(weight), self.step)
        if weight is not None and owner is not self.step:
            self._refuse(f"its weights are those of layer {owner.path}; here no two layers share any")
        if name == "Sigmoid" and last and output == "bernoulli":
            self._refuse(_NO_SIGMOID)
        elif name in _POINTWISE:
            self.layers.append(_POINTWISE[name](part))
        elif name == "Softplus" and part.beta == 1 and part.threshold >= 20:
            self.layers.append(layers.Softplus())  # above its threshold PyTorch's is x: less than 3e-9 apart
        elif name in _CONVERSIONS:
            _CONVERSIONS[name](self, part)
        elif name in ("Softmax", "LogSoftmax"):
            self._refuse(_NO_SOFTMAX if last and output == "categorical" else _SOFTMAX_INSIDE)
        elif "Dropout" in name:
            self._refuse(_NO_DROPOUT)
        else:
            computed = name.startswith("Parametrized")
            of_parts = bool(list(getattr(part, "children", tuple)()))
            self._refuse(_COMPUTED if computed else BY_HAND if of_parts else _KNOWN)

    def forward(self, step: Step, x: Array) -> Array:
        """What our layers of a step make of x."""
        made, Ws, stats = self.made[step]
        return layers.Sequential(tuple(made)).forward(Ws, x, stats)[0]

    def _linear(self, part: Any) -> None:
        self._takes("flat")
        weight, bias = self._numbers("weight"), self._numbers("bias")
        self.layers.append(Dense(part.in_features, part.out_features, bias is not None))
        self.Ws.append(Dense.join(self._channels_last(weight), bias))
        self.flattened = 0

    def _convolution(self, part: Any) -> None:
        if part.padding_mode != "zeros":
            self._refuse("only padding_mode='zeros' is known")
        weight, bias, groups = self._numbers("weight"), self._numbers("bias"), part.groups
        sizes = part.in_channels // groups, part.out_channels // groups
        conv = Conv2d(*sizes, bias=bias is not None, **_windows(part))
        grouped = layers.Grouped(*[conv] * groups)
        weight = weight.reshape(*weight.shape[:2], *conv.windows.kernel)  # of sequences (c_out, c_in, k)
        self.Ws += grouped.join(weight, bias)
        self._add_windows(part, conv if groups == 1 else grouped)
        self.channels = part.out_channels

    def _max_pool(self, part: Any) -> None:
        if part.return_indices:
            self._refuse("only return_indices=False is known")
        self._add_windows(part, layers.MaxPool2d(**_windows(part), ceil_mode=part.ceil_mode))

    def _average_pool(self, part: Any) -> None:
        if getattr(part, "divisor_override", None) is not None:
            self._refuse("only divisor_override=None is known")
        settings = dict(ceil_mode=part.ceil_mode, count_include_pad=part.count_include_pad)
        self._add_windows(part, layers.AvgPool2d(**_windows(part), **settings))

    def _adaptive_pool(self, part: Any) -> None:
        (size,) = _windows(part).values()
        if isinstance(size, tuple) and None in size:
            self._refuse("only outputs of a given size are known: a number in place of None")
        if size in (1, (1, 1)):
            self._add_windows(part, layers.GlobalAvgPool())
            self.shape = "pooled"
        else:
            self._add_windows(part, layers.AdaptiveAvgPool2d(size))

    def _add_windows(self, part: Any, layer: Layer) -> None:
        """Add a layer of images, or one of sequences as images of one column."""
        of_images = kind_of(part).endswith("2d")
        self._takes("images" if of_images else "sequences")
        either = of_images or isinstance(layer, layers.GlobalAvgPool)
        self.layers.append(layer if either else layers.OnSequences(layer))

    def _zero_pad(self, part: Any) -> None:
        self._takes("images")
        self.layers.append(layers.ZeroPad2d(part.padding))

    def _flatten(self, part: Any) -> None:
        if part.start_dim not in (1, -3) or part.end_dim not in (-1, 3):
            self._refuse("only Flatten(1, -1) is known, all but the examples")
        if self.shape in ("images", "sequences") and not self.channels:
            self._refuse(
                "it is not known how many channels come in, as no layer before it says so; build the net by "
                "hand, permute the inputs of the next weight from (c, h, w) to (h, w, c), and use Dense.join"
            )
        if self.shape == "flat" and not self.flat_images:
            self.layers.append(layers.Flatten())  # the features may be along a sequence
        elif self.shape in ("", "images", "sequences") and self.channels:
            self.layers.append(layers.Flatten())
            self.flattened = self.channels if self.channels > 1 else 0
        elif not self.shape:
            self.flat_images = True
        self.shape = "flat"  # as it was, where it was flat or pooled; in front, inputs are flat

    def _batch_norm(self, part: Any) -> None:
        of_features = "sequences" if self.shape == "sequences" else "flat"
        kind = "images" if kind_of(part) == "BatchNorm2d" else of_features
        self._takes(kind, pooled=True)
        running = [self._numbers(name) for name in ("running_mean", "running_var")]
        kept = running[0] is not None
        if kept and not part.momentum:
            self._refuse("running statistics are averaged here: make it with a momentum above 0")
        self._normalization(layers.BatchNorm(part.num_features, 1 - part.momentum if kept else 0.0, part.eps))
        self.stats.append(self._channels_last(array_module().stack(running)) if kept else None)
        if kind != "flat":
            self.channels = part.num_features

    def _group_norm(self, part: Any) -> None:
        if self.flattened:
            self._refuse("its groups of features would be others here, (h, w, c): put it before the Flatten")
        self._normalization(layers.GroupNorm(part.num_groups, part.num_channels, part.eps))
        self.channels = part.num_channels

    def _feature_norm(self, part: Any) -> None:
        shape, bias = tuple(part.normalized_shape), getattr(part, "bias", None)
        kind = {1: "flat", 2: "sequences", 3: "images"}.get(len(shape), "")
        if not kind or (self.shape in ("images", "sequences") and self.shape != kind):
            self._refuse("only flat features or all of an example are normalized; for images use GroupNorm")
        self._takes(kind)
        flat = kind == "flat"
        features, self.channels = (shape[0], 0) if flat else ((*shape[1:], shape[0]), shape[0])
        if kind_of(part) == "LayerNorm":
            self._normalization(layers.LayerNorm(features, part.eps, part.weight is None or bias is not None))
            return
        if part.eps is None:
            self._refuse("its eps is that of the dtype: give a number, as in eps=1e-6")
        self._normalization(layers.RMSNorm(features, part.eps))

    def _normalization(self, layer: layers.Normalization) -> None:
        """Add a normalization with its scale and its shift, as far as it has them."""
        weight, bias = self._numbers("weight"), self._numbers("bias") if layer.bias else None
        self.layers.append(layers.Unscaled(layer) if weight is None else layer)
        if weight is not None:
            xp, rows = array_module(), [weight] if bias is None else [weight, bias]
            rows = [xp.moveaxis(row, 0, -1).reshape(-1) for row in rows]  # of (C, H, W), or features
            self.Ws.append(self._channels_last(xp.stack(rows)))

    def _response_norm(self, part: Any) -> None:
        self._takes("images")
        self.layers.append(layers.LocalResponseNorm(part.size, part.alpha, part.beta, part.k))

    def _takes(self, shape: str, pooled: bool = False) -> None:
        """Reject a part that wants images where features come in, or the other way round."""
        if self.shape == "pooled" and pooled and shape == "images":
            return
        if self.shape in ("", shape):
            self.shape = shape
            return
        advice = f"it takes {_INPUTS[shape]}"
        if shape == "flat":
            advice = "put a Flatten before it"
        elif self.shape == "pooled":
            advice = "use Flatten and Linear behind AdaptiveAvgPool2d(1)"
        self._refuse(f"{_INPUTS[self.shape]} come in: {advice}")

    def _channels_last(self, values: Array) -> Array:
        """Reorder the last axis from (c, h, w) to (h, w, c) if it runs over flattened images."""
        if not self.flattened:
            return values
        if values.shape[-1] % self.flattened:
            self._refuse(f"it takes {values.shape[-1]} features, of images with {self.flattened} channels")
        planes = values.reshape(*values.shape[:-1], self.flattened, -1)
        return planes.swapaxes(-1, -2).reshape(values.shape)

    def _numbers(self, name: str) -> Any:
        """The numbers of a parameter or buffer as an array on the host, None where there is none."""
        tensor = getattr(self.step.part, name)
        if tensor is None:
            return None
        if getattr(tensor, "is_meta", False):
            self._refuse(f"its {name} is on the device 'meta', without numbers: load them first")
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype not in ("float32", "float64"):
            self._refuse(f"its {name} is {dtype}: convert by module.float() or module.double()")
        return to_host(tensor.detach().cpu().numpy())

    def _refuse(self, hint: str) -> NoReturn:
        refuse(self.step.path, self.step.part, hint)


_CONVERSIONS = {
    "Linear": _Import._linear,
    **dict.fromkeys(("Conv1d", "Conv2d"), _Import._convolution),
    **dict.fromkeys(("MaxPool1d", "MaxPool2d"), _Import._max_pool),
    **dict.fromkeys(("AvgPool1d", "AvgPool2d"), _Import._average_pool),
    **dict.fromkeys(("AdaptiveAvgPool1d", "AdaptiveAvgPool2d"), _Import._adaptive_pool),
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d"), _Import._batch_norm),
    "Flatten": _Import._flatten,
    "GroupNorm": _Import._group_norm,
    "LayerNorm": _Import._feature_norm,
    "LocalResponseNorm": _Import._response_norm,
    "RMSNorm": _Import._feature_norm,
    "ZeroPad2d": _Import._zero_pad,
}


def _compare(module: Any, parts: _Import, front: list[Layer], input_shape: tuple[int, ...] | None) -> None:
    """Run the module and the layers that were made of it on the same random inputs, and their parts.

    Raises:
        ValueError: where the outputs differ, with their relative error and the first part that does.
    """
    torch, xp, like = sys.modules["torch"], array_module(), next(module.parameters())
    shape = tuple(input_shape or _input_shape(parts))
    if parts.flat_images:
        shape = (math.prod(shape),)
    x = torch.as_tensor(2 * xp.random.default_rng(0).standard_normal((8, *shape))).to(like)
    theirs: list[tuple[Step, Any]] = []
    move = _channels_last if parts.inputs not in ("", "flat") else partial(as_array, name="the array")
    try:
        fork = torch.random.fork_rng([like.device.index] if like.is_cuda else [])
        with evaluated(module), torch.no_grad(), fork:
            whole = move(module(x.clone()))
            # copies: a part may work in place
            _run(parts.steps, x, lambda step, x: step.part(x.clone()), lambda ys: torch.cat(ys, 1), theirs)
        net = layers.Sequential((*front, *parts.layers))
        ours = net.forward(parts.Ws, as_array(x, "x") if front else move(x), parts.stats)[0]
    except Exception as error:  # whatever the module does
        raise ValueError(
            f"expected a module that runs on inputs (8, {', '.join(map(str, shape))}), got "
            f"{type(error).__name__}: {error}; give input_shape=(C, H, W), (C, T), (features,), or (T, C) "
            "for Linear along sequences"
        ) from error
    tolerance = 1e-2 if like.is_cuda else float(xp.finfo(ours.dtype).eps) ** 0.5  # TF32 has 10 bits
    difference = _relative_error(ours, whole)
    if difference <= tolerance:
        return
    where, made = "in the module around its layers", list[tuple[Step, Any]]()
    _run(parts.steps, move(x), parts.forward, lambda ys: xp.concatenate(ys, -1), made)
    for (step, array), (_, other) in zip(made, theirs, strict=True):
        # between Flatten and Linear features lie in another order
        if not _relative_error(array, move(other), ordered=False) <= tolerance:
            where = f"from layer {step.path} on, {step.part}"
            break
    raise ValueError(
        "expected layers that compute what the module does, got outputs with a relative error of "
        f"{difference:.2g} on random inputs, {where}; is there a hook, a computed weight, or a class with "
        "another forward()? Build the net by hand from the weights in use, by Dense.join and Conv2d.join"
    )


def _run(
    steps: list[Step | Join],
    x: Any,
    forward: Callable[[Step, Any], Any],
    concatenate: Callable[[list[Any]], Any],
    outputs: list[tuple[Step, Any]],
) -> Any:
    """Run steps one after the other, and branches from the same x; add what comes out to ``outputs``."""
    for step in steps:
        if isinstance(step, Join):
            ys = [_run(branch, x, forward, concatenate, outputs) for branch in step.branches]
            x = sum(ys[1:], start=ys[0]) if step.part == "add" else concatenate(ys)
        else:
            x = forward(step, x)
            outputs.append((step, x))
    return x


def _input_shape(parts: _Import) -> tuple[int, ...]:
    """Of one example in PyTorch: as many features as the first layer takes, or the first size that fits.

    Raises:
        ValueError: where none does.
    """
    c, body, axes = (
        parts.n_in,
        layers.Sequential(tuple(parts.layers)),
        1 if parts.inputs == "sequences" else 2,
    )
    if parts.inputs in ("", "flat"):
        return (c,)
    squares = ((size,) * axes for size in (32, 28, 16, 64, *range(1, 257)))
    for extents in chain(squares, product(range(1, 65), repeat=2) if axes == 2 else ()):
        with suppress(ValueError):
            body.output_shape((*extents, c))
            return (c, *extents)
    letters = "T" if axes == 1 else "H, W"
    raise ValueError(
        f"expected {parts.inputs} (N, {c}, {letters}) of a size that fits, got none among those tried; "
        f"give input_shape=(C, {letters})"
    )


def _channels_last(tensor: Any) -> Array:
    """A copy of images (N, C, H, W) as (N, H, W, C), sequences (N, C, T) as (N, T, C), or features (N, C)."""
    return array_module().moveaxis(as_array(tensor, "what comes out of the module").copy(), 1, -1)


def _windows(part: Any) -> dict[str, Any]:
    """The sizes of a layer's windows; along sequences, which are images of one column, (size, 1)."""
    across = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1, "output_size": 1}
    sizes = {name: getattr(part, name) for name in across if hasattr(part, name)}
    for name, size in sizes.items():
        if kind_of(part).endswith("1d") and not isinstance(size, str):
            sizes[name] = (size[0] if isinstance(size, tuple) else size, across[name])
    return sizes


def _relative_error(ours: Array, theirs: Array, ordered: bool = True) -> float:
    """||ours - theirs|| / ||theirs||, of features in any order where ``ordered`` is False."""
    a, b = (array.reshape(len(array), -1) for array in (ours, theirs))
    if a.shape != b.shape:
        return math.inf
    if not ordered:
        a, b = (array_module().sort(array) for array in (a, b))
    distance, scale = (float((array * array).sum()) ** 0.5 for array in (a - b, b))
    return distance / scale if scale else distance
