"""Take a trained PyTorch net over: its layers become ours, its weights one flat theta.

    PyTorch                        here
    images (N, C, H, W)            (N, H, W, C): ``x.transpose(0, 2, 3, 1)``
    features (c, h, w) of Flatten  (h, w, c): the layers behind it, up to the next Linear, are permuted
    running_mean, running_var      no parameters: :func:`stats_from_torch`

PyTorch is not imported here: a module that is handed in has brought it along.
"""

from __future__ import annotations

from typing import Any, NoReturn

from ..backend import Array, array_module, to_host
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
_NO_DROPOUT = "leave it out: curvature is studied without dropout"
_BY_HAND = (
    "build the net by hand, with layers.Residual or layers.Parallel around such parts, and take the weights "
    "over by Dense.join and Conv2d.join"
)


def from_torch(module: Any, output: str = "categorical") -> tuple[Network, Array]:
    """Convert a ``torch.nn.Sequential``, nested or not.

    A Flatten in front is left out: inputs are flat here then, in PyTorch's order. The net takes images as
    (N, H, W, C); running statistics of batch normalization are not among the parameters::

        net, theta = from_torch(module)
        stats = stats_from_torch(module)
        z = net.forward(theta, images.transpose(0, 2, 3, 1), stats).z         # of module.eval()

    Args:
        module: of Linear, Conv2d, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d(1), Flatten, BatchNorm1d,
            BatchNorm2d, GroupNorm, LayerNorm (of flat features), LocalResponseNorm, Tanh, Sigmoid, ReLU,
            Softplus (beta 1, threshold 20), Identity, and Sequential of these.
        output: the distribution that the loss stood for: "categorical" (cross-entropy), "bernoulli"
            (BCE with logits) or "gaussian" (squared error). A PyTorch module does not say.

    Returns:
        The network and theta (P,), in the dtype of the weights.

    Raises:
        ValueError: naming a layer that has no counterpart here, its position, and what to do.
    """
    if output not in OUTPUTS:
        raise ValueError(f"expected output one of {', '.join(sorted(OUTPUTS))}, got {output!r}")
    parts = _Import(module)
    net = Network(parts.layers, OUTPUTS[output]())
    return net, net.pack(parts.Ws)


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
    """

    def __init__(self, module: Any) -> None:
        if type(module).__name__ != "Sequential":
            raise ValueError(f"expected a torch.nn.Sequential, got {type(module).__name__}; {_BY_HAND}")
        self.layers: list[Layer] = []
        self.Ws: list[Array] = []
        self.stats: list[Array] = []
        self.shape, self.channels, self.flattened = "", 0, 0
        owners: dict[int, int] = {}
        for self.position, self.part in enumerate(_parts(module)):
            weight = getattr(self.part, "weight", None)
            owner = owners.setdefault(id(weight), self.position)
            if weight is not None and owner != self.position:
                self._refuse(f"its weights are those of layer {owner}; here no two layers share any")
            self._add()
        if self.flattened:
            self._refuse(
                "it gives outputs in the order (c, h, w) of flattened images, here it would be (h, w, c); on "
                "1 x 1 images put an AdaptiveAvgPool2d(1) before the Flatten, which changes nothing"
            )

    def _add(self) -> None:
        part, name = self.part, type(self.part).__name__
        if name in _POINTWISE:
            self.layers.append(_POINTWISE[name]())
        elif name == "Softplus" and part.beta == 1 and part.threshold >= 20:
            self.layers.append(layers.Softplus())  # above its threshold PyTorch's is x: less than 3e-9 apart
        elif name in _CONVERSIONS:
            _CONVERSIONS[name](self, part)
        elif name in ("Softmax", "LogSoftmax"):
            self._refuse(_NO_SOFTMAX)
        elif "Dropout" in name:
            self._refuse(_NO_DROPOUT)
        else:
            self._refuse(_BY_HAND if list(getattr(part, "children", tuple)()) else _KNOWN)

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
            self._refuse("ceil_mode=True is not known; give a padding instead")
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
        """Refuse a part that wants images where features come in, or the other way round."""
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
