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
from contextlib import suppress
from itertools import chain, product
from typing import Any, NoReturn

from ..backend import Array, array_module, as_array, to_host
from ..network import layers
from ..network.layers import Conv2d, Dense, Layer
from ..network.network import Network
from ..network.outputs import OUTPUTS

_POINTWISE: dict[str, type[Layer]] = {
    "Tanh": layers.Tanh,
    "Sigmoid": layers.Logistic,
    "ReLU": layers.ReLU,
    "Identity": layers.Identity,
}
_KNOWN = (
    "known are Linear, Conv2d, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d(1), Flatten, BatchNorm1d, "
    "BatchNorm2d, GroupNorm, LayerNorm, LocalResponseNorm, Softplus (beta 1, threshold 20), "
    f"{', '.join(sorted(_POINTWISE))}"
)
_NO_SOFTMAX = "leave it out: the categorical output applies the softmax itself"
_SOFTMAX_INSIDE = (
    "only a softmax at the end can be left out, and only for output='categorical', which applies it itself"
)
_NO_SIGMOID = "leave the last Sigmoid out: the bernoulli output applies the logistic itself"
_COMPUTED = "take its weights as they are now by torch.nn.utils.parametrize.remove_parametrizations"
_NO_DROPOUT = "leave it out: curvature is studied without dropout"
_BY_HAND = (
    "build the net by hand, with layers.Residual or layers.Parallel around such parts, and take the weights "
    "over by Dense.join and Conv2d.join"
)


def from_torch(
    module: Any, output: str = "categorical", input_shape: tuple[int, ...] | None = None
) -> tuple[Network, Array]:
    """Convert a ``torch.nn.Sequential``, nested or not.

    A Flatten in front is left out: inputs are flat here then, in PyTorch's order (c, h, w), which images
    (N, H, W, C) take on by ``images.transpose(0, 3, 1, 2).reshape(len(images), -1)``. Other nets take images
    as (N, H, W, C); running statistics of batch normalization are not among the parameters::

        net, theta = from_torch(module)
        stats = stats_from_torch(module)
        z = net.forward(theta, images.transpose(0, 2, 3, 1), stats).z         # of module.eval()

    Args:
        module: of Linear, Conv2d, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d(1), Flatten, BatchNorm1d,
            BatchNorm2d, GroupNorm, LayerNorm (of flat features), LocalResponseNorm, Tanh, Sigmoid, ReLU,
            Softplus (beta 1, threshold 20), Identity, and Sequential of these.
        output: the distribution that the loss stood for: "categorical" (cross-entropy), "bernoulli"
            (BCE with logits) or "gaussian" (squared error). A PyTorch module does not say.
        input_shape: of one example in PyTorch, (C, H, W) or (features,), where the layers leave it open and
            the sizes that are tried do not fit.

    Both nets run on random inputs, the module as in ``module.eval()`` and left as it was: hooks, weights that
    are computed on the way, or a class of a known name can make a module another function than its parts say.

    Returns:
        The network and theta (P,), in the dtype of the weights.

    Raises:
        ValueError: naming a layer that has no counterpart here, its position, and what to do; or where the
            outputs differ, by how much and from which layer on.
    """
    if output not in OUTPUTS:
        raise ValueError(f"expected output one of {', '.join(sorted(OUTPUTS))}, got {output!r}")
    parts = _Import(module, output)
    net = Network(parts.layers, OUTPUTS[output]())
    theta = net.pack(parts.Ws)
    net.check_finite(theta, "weights")
    if callable(module):
        _compare(module, parts, input_shape)
    return net, theta


def stats_from_torch(module: Any) -> list[Array]:
    """Return the running statistics of batch normalization, to be used in place of ``net.init_stats()``.

    PyTorch's running variance is unbiased, a sum over n - 1; here later batches are averaged in with n.

    Args:
        module: one that :func:`from_torch` takes.

    Returns:
        Per BatchNorm1d and BatchNorm2d (2, C), running_mean and running_var; [] where there is none.

    Raises:
        ValueError: as from_torch.
    """
    return _Import(module).stats


class _Import:
    """Our layers, weights and running statistics, read off a module part by part.

    Attributes:
        shape: what is known of the inputs to the next part: "" nothing, "images", "pooled" (PyTorch's
            (N, C, 1, 1), ours (N, C)), or "flat".
        channels: C of images, 0 where it is not known.
        flattened: C while features lie in PyTorch's order (c, h, w) there and (h, w, c) here; else 0.
        sources: of each of our layers, the position of the part that it was made of.
        inputs: the first of the shapes.
    """

    def __init__(self, module: Any, output: str = "") -> None:
        if type(module).__name__ != "Sequential":
            raise ValueError(f"expected a torch.nn.Sequential, got {type(module).__name__}; {_BY_HAND}")
        self.layers: list[Layer] = []
        self.Ws: list[Array] = []
        self.stats: list[Array] = []
        self.sources: list[int] = []
        self.inputs = ""
        self.shape, self.channels, self.flattened = "", 0, 0
        owners: dict[int, int] = {}
        every = _parts(module)
        for self.position, self.part in enumerate(every):
            weight = getattr(self.part, "weight", None)
            owner = owners.setdefault(id(weight), self.position)
            if weight is not None and owner != self.position:
                self._refuse(f"its weights are those of layer {owner}; here no two layers share any")
            self._add(output, self.part is every[-1])
            self.sources += [self.position] * (len(self.layers) - len(self.sources))
            self.inputs = self.inputs or self.shape
        if self.flattened:
            self._refuse(
                "it gives outputs in the order (c, h, w) of flattened images, here it would be (h, w, c); on "
                "1 x 1 images put an AdaptiveAvgPool2d(1) before the Flatten, which changes nothing"
            )

    def _add(self, output: str, last: bool) -> None:
        part, name = self.part, type(self.part).__name__
        if name == "Sigmoid" and last and output == "bernoulli":
            self._refuse(_NO_SIGMOID)
        elif name in _POINTWISE:
            self.layers.append(_POINTWISE[name]())
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
            self._refuse(_COMPUTED if computed else _BY_HAND if of_parts else _KNOWN)

    def _linear(self, part: Any) -> None:
        self._takes("flat")
        weight, bias = self._numbers("weight"), self._numbers("bias")
        self.layers.append(Dense(part.in_features, part.out_features, bias is not None))
        self.Ws.append(Dense.join(self._channels_last(weight), bias))
        self.flattened = 0

    def _convolution(self, part: Any) -> None:
        self._takes("images")
        if part.groups != 1 or tuple(part.dilation) != (1, 1) or part.padding_mode != "zeros":
            self._refuse("only groups=1, dilation=1 and padding_mode='zeros' are known")
        weight, bias = self._numbers("weight"), self._numbers("bias")
        sizes = part.in_channels, part.out_channels, part.kernel_size, part.stride, part.padding
        self.layers.append(Conv2d(*sizes, bias is not None))
        self.Ws.append(Conv2d.join(weight, bias))
        self.channels = part.out_channels

    def _max_pool(self, part: Any) -> None:
        if part.dilation not in (1, (1, 1)) or part.return_indices:
            self._refuse("only dilation=1 and return_indices=False are known")
        self._pool(layers.MaxPool2d, part)

    def _average_pool(self, part: Any) -> None:
        if part.divisor_override is not None or not (part.count_include_pad or part.padding in (0, (0, 0))):
            self._refuse("only divisor_override=None is known, and with padding count_include_pad=True")
        self._pool(layers.AvgPool2d, part)

    def _pool(self, kind: type[layers.MaxPool2d | layers.AvgPool2d], part: Any) -> None:
        self._takes("images")
        if part.ceil_mode:
            self._refuse(
                "ceil_mode=True is not known, and no padding makes up for it; where windows fit the images "
                "exactly, ceil_mode=False is the same"
            )
        self.layers.append(kind(part.kernel_size, part.stride, part.padding))

    def _global_pool(self, part: Any) -> None:
        self._takes("images")
        if part.output_size not in (1, (1, 1)):
            self._refuse("only an output of 1 x 1 is known")
        self.layers.append(layers.GlobalAvgPool())
        self.shape = "pooled"

    def _flatten(self, part: Any) -> None:
        if part.start_dim not in (1, -3) or part.end_dim not in (-1, 3):
            self._refuse("only Flatten(1, -1) is known, all but the examples")
        if self.shape == "images" and not self.channels:
            self._refuse(
                "it is not known how many channels come in, as no layer before it says so; build the net by "
                "hand, permute the inputs of the next weight from (c, h, w) to (h, w, c), and use Dense.join"
            )
        if self.shape in ("", "images") and self.channels:
            self.layers.append(layers.Flatten())
            self.flattened = self.channels if self.channels > 1 else 0
        self.shape = "flat"  # as it was, where it was flat or pooled; in front, inputs are flat

    def _batch_norm(self, part: Any) -> None:
        of_images = type(part).__name__ == "BatchNorm2d"
        self._takes("images" if of_images else "flat", pooled=True)
        mean, variance = self._numbers("running_mean"), self._numbers("running_var")
        if mean is None or variance is None or not part.momentum:
            self._refuse(
                "statistics are averaged here, new = decay * old + (1 - decay) * batch's: make it with "
                "track_running_stats=True and a momentum above 0"
            )
        self._normalization(layers.BatchNorm(part.num_features, 1 - part.momentum, part.eps), "affine=True")
        self.stats.append(self._channels_last(array_module().stack([mean, variance])))
        if of_images:
            self.channels = part.num_features

    def _group_norm(self, part: Any) -> None:
        if self.flattened:
            self._refuse("its groups of features would be others here, (h, w, c): put it before the Flatten")
        self._normalization(layers.GroupNorm(part.num_groups, part.num_channels, part.eps), "affine=True")
        self.channels = part.num_channels

    def _layer_norm(self, part: Any) -> None:
        if self.shape == "images" or len(part.normalized_shape) != 1:
            self._refuse("only LayerNorm(features) of flat features is known; for images use GroupNorm")
        self._takes("flat")
        layer = layers.LayerNorm(part.normalized_shape[0], part.eps)
        self._normalization(layer, "elementwise_affine=True and bias=True")

    def _normalization(self, layer: Layer, option: str) -> None:
        """Add a normalization, with the scale and shift that ``option`` gives to it."""
        weight, bias = self._numbers("weight"), self._numbers("bias")
        if weight is None or bias is None:
            self._refuse(
                f"normalization has a scale and a shift here: make it with {option}; a weight of 1 and a "
                "bias of 0 change nothing"
            )
        self.layers.append(layer)
        self.Ws.append(self._channels_last(array_module().stack([weight, bias])))

    def _response_norm(self, part: Any) -> None:
        self._takes("images")
        self.layers.append(layers.LocalResponseNorm(part.size, part.alpha, part.beta, part.k))

    def _takes(self, shape: str, pooled: bool = False) -> None:
        """Reject a part that wants images where features come in, or the other way round."""
        if self.shape == "pooled" and pooled and shape == "images":
            return
        if self.shape in ("", shape):
            self.shape = shape
        elif shape == "flat":
            self._refuse("images (N, C, H, W) come in: put a Flatten before it")
        elif self.shape == "flat":
            self._refuse("flat features come in: it takes images (N, C, H, W)")
        else:
            self._refuse("1 x 1 images come in: use Flatten and Linear behind AdaptiveAvgPool2d(1)")

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
        tensor = getattr(self.part, name)
        if tensor is None:
            return None
        if getattr(tensor, "is_meta", False):
            self._refuse(f"its {name} is on the device 'meta', without numbers: load them first")
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype not in ("float32", "float64"):
            self._refuse(f"its {name} is {dtype}: convert by module.float() or module.double()")
        return to_host(tensor.detach().cpu().numpy())

    def _refuse(self, hint: str) -> NoReturn:
        part = self.part
        shown = type(part).__name__ if "\n" in repr(part) else repr(part)
        raise ValueError(f"no counterpart for layer {self.position}, {shown}: {hint}")


_CONVERSIONS = {
    "Linear": _Import._linear,
    "Conv2d": _Import._convolution,
    "MaxPool2d": _Import._max_pool,
    "AvgPool2d": _Import._average_pool,
    "AdaptiveAvgPool2d": _Import._global_pool,
    "Flatten": _Import._flatten,
    "BatchNorm1d": _Import._batch_norm,
    "BatchNorm2d": _Import._batch_norm,
    "GroupNorm": _Import._group_norm,
    "LayerNorm": _Import._layer_norm,
    "LocalResponseNorm": _Import._response_norm,
}


def _parts(module: Any) -> list[Any]:
    parts: list[Any] = []
    for part in module:
        parts += _parts(part) if type(part).__name__ == "Sequential" else [part]
    return parts


def _compare(module: Any, parts: _Import, input_shape: tuple[int, ...] | None) -> None:
    """Run the module, its parts and the layers that were made of them on the same random inputs.

    Raises:
        ValueError: where the outputs differ, with their relative error and the first part that does.
    """
    torch, xp, like = sys.modules["torch"], array_module(), next(module.parameters())
    shape = tuple(input_shape or _input_shape(parts))
    x = torch.as_tensor(2 * xp.random.default_rng(0).standard_normal((8, *shape))).to(like)
    modes = {part: part.training for part in module.modules()}
    try:
        for part in modes:
            part.training = False
        with torch.no_grad(), torch.random.fork_rng([like.device.index] if like.is_cuda else []):
            whole, step, theirs = _channels_last(module(x.clone())), x.clone(), []
            for part in _parts(module):
                step = part(step)
                theirs.append(_channels_last(step))  # a copy: the next part may work in place
        ours = _outputs(parts, _channels_last(x))
    except Exception as error:  # whatever the module does
        raise ValueError(
            f"expected a module that runs on inputs (8, {', '.join(map(str, shape))}), got "
            f"{type(error).__name__}: {error}; give input_shape=(C, H, W) or (features,)"
        ) from error
    finally:
        for part, mode in modes.items():
            part.training = mode
    tolerance = 1e-2 if like.is_cuda else float(xp.finfo(ours[-1].dtype).eps) ** 0.5  # TF32 has 10 bits
    difference = _relative_error(ours[-1], whole)
    if difference <= tolerance:
        return
    where = "in the module around its layers"
    for position, array in zip(parts.sources, ours, strict=True):
        # between Flatten and Linear features lie in another order
        if not _relative_error(array, theirs[position], ordered=False) <= tolerance:
            where = f"from layer {position} on, {_parts(module)[position]}"
            break
    raise ValueError(
        "expected layers that compute what the module does, got outputs with a relative error of "
        f"{difference:.2g} on random inputs, {where}; is there a hook, a computed weight, or a class with "
        "another forward()? Build the net by hand from the weights in use, by Dense.join and Conv2d.join"
    )


def _input_shape(parts: _Import) -> tuple[int, ...]:
    """Of one example in PyTorch: as many features as the first layer takes, or the first size that fits.

    Raises:
        ValueError: where none does.
    """
    first = next(layer for layer in parts.layers if layer.weight_shapes)
    c = getattr(first, "c_in", None) or getattr(first, "n_in", None) or first.weight_shapes[0][1]
    if parts.inputs in ("", "flat"):
        return (c,)
    body = layers.Sequential(tuple(parts.layers))
    squares = ((size, size) for size in (32, 28, 16, 64, *range(1, 257)))
    for h, w in chain(squares, product(range(1, 65), repeat=2)):
        with suppress(ValueError):
            body.output_shape((h, w, c))
            return (c, h, w)
    raise ValueError(
        f"expected images (N, {c}, H, W) of a size that fits, got none among those tried; "
        "give input_shape=(C, H, W)"
    )


def _outputs(parts: _Import, x: Array) -> list[Array]:
    """What comes out of each layer in use."""
    Ws, stats, outputs = iter(parts.Ws), iter(parts.stats), []
    for layer in parts.layers:
        weights = [next(Ws) for _ in layer.weight_shapes]
        x = layer.forward(weights, x, [next(stats) for _ in layer.statistics_shapes])[0]
        outputs.append(x)
    return outputs


def _channels_last(tensor: Any) -> Array:
    """A copy of images (N, C, H, W) as (N, H, W, C), or of features (N, C)."""
    array = as_array(tensor, "what comes out of the module").copy()
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def _relative_error(ours: Array, theirs: Array, ordered: bool = True) -> float:
    """||ours - theirs|| / ||theirs||, of features in any order where ``ordered`` is False."""
    a, b = (array.reshape(len(array), -1) for array in (ours, theirs))
    if a.shape != b.shape:
        return math.inf
    if not ordered:
        a, b = (array_module().sort(array) for array in (a, b))
    distance, scale = (float((array * array).sum()) ** 0.5 for array in (a - b, b))
    return distance / scale if scale else distance
