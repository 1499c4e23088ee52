"""Predefined networks: the papers' nets, and small ones of the same kinds.

mlp                 multi-layer perceptron
digits_mlp          the net of README, tutorials and report: 8 x 8 digits, five hidden layers of 16 tanh units
autoencoder         deep autoencoder, logistic with a linear code
mnist_autoencoder   the three of K-FAC's experiments [HS06; Martens10; MG15, sec. 13]
curves_autoencoder
faces_autoencoder
digits_autoencoder  a similar one for 8 x 8 digits, small enough for the exact Fisher matrix
tiny_convnet        two convolutions for 8 x 8 digits, small enough for the exact Fisher matrix
convnet             small ones for images of any size
cifar10_kfc         the convolutional net of KFC's experiments on CIFAR-10 [GM16, sec. 5]
svhn_kfc            its net for SVHN
small_inception     parallel branches, after GoogLeNet [SLJS15]
small_resnet        residual blocks, with a choice of normalization [HZRS16]

Images are (N, H, W, C), or flat for dense layers. ``width`` scales the channels, or the hidden units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral
from typing import TypeVar

from .layers import (
    ACTIVATIONS,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dense,
    Flatten,
    GlobalAvgPool,
    GroupNorm,
    Layer,
    LayerNorm,
    LocalResponseNorm,
    MaxPool2d,
    Parallel,
    ReLU,
    Residual,
)
from .layers.base import check_positive
from .layers.windows import pair
from .network import Network
from .outputs import OUTPUTS, Categorical

T = TypeVar("T")
_POOLS: dict[str, type[MaxPool2d] | type[AvgPool2d]] = {"max": MaxPool2d, "avg": AvgPool2d}
_LARGE = 16  # pixels a side, above which convnet averages images first


def mlp(
    sizes: Sequence[int], activation: str = "tanh", output: str = "categorical", bias: bool = True
) -> Network:
    """Make a multi-layer perceptron.

    Args:
        sizes: units per layer, from inputs to outputs, such as ``[64, 20, 20, 10]``.
        activation: of the hidden layers: "tanh", "relu" or another of ``layers.ACTIVATIONS``.
        output: "categorical", "bernoulli" or "gaussian".
        bias: whether the dense layers have biases.

    Raises:
        ValueError: on fewer than two sizes or an unknown name.

    >>> mlp([64, 20, 10]).n_params
    1510
    """
    if len(sizes) < 2:
        raise ValueError(f"expected at least two sizes, inputs and outputs, got {list(sizes)}")
    phi, distribution = _named(activation, ACTIVATIONS), _named(output, OUTPUTS)
    layers: list[Layer] = []
    for n_in, n_out in pairwise(sizes):
        layers += [Dense(n_in, n_out, bias), phi()]
    return Network(layers[:-1], distribution())


def digits_mlp(activation: str = "tanh") -> Network:
    """Make the net of README, tutorials and report, small enough for the exact Fisher matrix.

    >>> digits_mlp().n_params
    2298
    """
    return mlp([64, 16, 16, 16, 16, 16, 10], activation)


def autoencoder(sizes: Sequence[int], activation: str = "logistic", output: str = "bernoulli") -> Network:
    """Make a deep autoencoder: an encoder from the input to a code, and a mirrored decoder.

    Its targets are its inputs. The papers initialize it as ``net.init(rng, "sparse")`` does.

    Args:
        sizes: units per layer of the encoder, inputs first, code last: ``[784, 1000, 500, 250, 30]``.
        activation: for the hidden layers, as in :func:`mlp`; the code is linear.
        output: "bernoulli" for inputs in [0, 1], "gaussian" for others.

    Raises:
        ValueError: on fewer than two sizes or an unknown name.

    >>> autoencoder([64, 24, 12, 6]).n_params
    3934
    """
    if len(sizes) < 2:
        raise ValueError(f"expected at least two sizes, inputs and code, got {list(sizes)}")
    if output not in ("bernoulli", "gaussian"):
        raise ValueError(f"expected output bernoulli or gaussian for an autoencoder, got {output!r}")
    encoder = mlp(sizes, activation, output).layers
    decoder = mlp(sizes[::-1], activation, output).layers
    return Network([*encoder, ACTIVATIONS["identity"](), *decoder], OUTPUTS[output]())


def mnist_autoencoder(width: float = 1.0) -> Network:
    """Make the autoencoder of 28 x 28 digits, 784-1000-500-250-30 and back [HS06; MG15, sec. 13].

    ``width`` scales the hidden layers; the code keeps its size.

    >>> mnist_autoencoder().n_params
    2837314
    """
    return autoencoder([784, *_scaled(width, 1000, 500, 250), 30])


def curves_autoencoder(width: float = 1.0) -> Network:
    """Make the autoencoder of curves, 784-400-200-100-50-25-6 and back [HS06; MG15, sec. 13].

    >>> curves_autoencoder().n_params
    842340
    """
    return autoencoder([784, *_scaled(width, 400, 200, 100, 50, 25), 6])


def faces_autoencoder(width: float = 1.0) -> Network:
    """Make the autoencoder of 25 x 25 faces, 625-2000-1000-500-30 and back [HS06; MG15, sec. 13].

    The output is Gaussian, since pixels are not confined to [0, 1].

    >>> faces_autoencoder().n_params
    7537655
    """
    return autoencoder([625, *_scaled(width, 2000, 1000, 500), 30], output="gaussian")


def digits_autoencoder(width: float = 1.0) -> Network:
    """Make an autoencoder of 8 x 8 digits, 64-24-12-6 and back; not from a paper.

    >>> digits_autoencoder().n_params
    3934
    """
    return autoencoder([64, *_scaled(width, 24, 12), 6])


def tiny_convnet(
    output: str = "categorical",
    activation: str = "tanh",
    pool: str = "max",
    channels: int | tuple[int, int] = (4, 8),
) -> Network:
    """Make a convolutional net for 8 x 8 grey images, (N, 8, 8, 1), and 10 outputs.

    conv 3x3 - activation - pool 2 - conv 3x3 - activation - pool 2 - dense. Not from a paper: P is below
    1,000, so that the exact Fisher matrix takes at most 8 MB.

    Args:
        output: "categorical", "bernoulli" or "gaussian".
        activation: as in :func:`mlp`.
        pool: "max" or "avg".
        channels: channels of the two convolutions, one number for both or a pair.

    Raises:
        ValueError: on an unknown name, or channels that are not a pair.

    >>> tiny_convnet().n_params
    666
    """
    channels = pair("tiny_convnet", "channels", channels, 1)
    return convnet((8, 8, 1), 10, channels, activation, output, pool)


def default_channels(image_shape: Sequence[int]) -> tuple[int, ...]:
    """Channels of the convolutions for images (H, W, C): two convolutions for grey ones, three in colour.

    >>> default_channels((8, 8, 1)), default_channels((32, 32, 3))
    ((4, 8), (6, 8, 8))
    """
    return (4, 8) if image_shape[2] == 1 else (6, 8, 8)


def convnet(
    image_shape: Sequence[int],
    n_outputs: int,
    channels: Sequence[int] | None = None,
    activation: str = "tanh",
    output: str = "categorical",
    pool: str = "max",
) -> Network:
    """Make a small convolutional net.

        conv 3x3 - activation - pool 2   once per number of channels, and a dense layer on top

    On 8 x 8 digits this is :func:`tiny_convnet`. Images of more than 16 pixels a side are
    averaged over 2 x 2 first: the second moments of all pairs of locations grow with the fourth power of
    the side.

    Args:
        image_shape: (H, W, C).
        n_outputs: C of the output.
        channels: of the convolutions, each followed by pooling; :func:`default_channels` by default.
        activation, output: as of :func:`mlp`.
        pool: "max" or "avg".

    Raises:
        ValueError: on unknown names, no channels, or images too small for so much pooling.

    >>> convnet((8, 8, 1), 10).n_params
    666
    """
    phi, distribution = _named(activation, ACTIVATIONS), _named(output, OUTPUTS)
    pooling = _named(pool, _POOLS)
    channels = default_channels(image_shape) if channels is None else list(channels)
    h, w, c_in = image_shape
    layers: list[Layer] = []
    if max(h, w) > _LARGE:
        layers, h, w = [AvgPool2d(2)], h // 2, w // 2
    if not channels or min(channels) < 1 or min(h, w) < 2 ** len(channels):
        raise ValueError(
            f"expected channels of one convolution or more, each with images of at least 2 x 2 pixels to "
            f"pool, got {list(channels)} for images of {h} x {w}"
        )
    for c_out in channels:
        layers += [Conv2d(c_in, c_out, 3, padding=1), phi(), pooling(2)]
        h, w, c_in = h // 2, w // 2, c_out
    return Network([*layers, Flatten(), Dense(h * w * c_in, n_outputs)], distribution())


def cifar10_kfc(pool: str = "max", width: float = 1.0) -> Network:
    """Make the net of KFC's experiments on CIFAR-10, (N, 32, 32, 3) [GM16, sec. 5].

    conv 5x5x32 - max-pool - ReLU - response normalization - conv 5x5x32 - ReLU - avg-pool - response
    normalization - conv 5x5x64 - ReLU - avg-pool - dense 10, with 3 x 3 pools and stride 2. This net came
    with cuda-convnet and is called cifar10_full in Caffe; sizes and constants are Caffe's. There are two
    differences: in Caffe the last pooling windows extend beyond the bottom and right edges, while here images
    are padded by one pixel on all sides (both 32 -> 16 -> 8 -> 4); and its response normalization runs over 3
    x 3 pixels of one channel, here over 3 channels of one pixel.

    Args:
        pool: the first pooling; with "avg" all of them are averages, which are linear.
        width: scales the channels of the convolutions.

    Raises:
        ValueError: on an unknown name, or a width that is not positive.

    >>> cifar10_kfc().n_params
    89578
    """
    pooling, (first, second, third) = _named(pool, _POOLS), _scaled(width, 32, 32, 64)
    layers = [
        Conv2d(3, first, 5, padding=2),
        pooling(3, 2, 1),
        ReLU(),
        LocalResponseNorm(3, alpha=5e-5, beta=0.75),
        Conv2d(first, second, 5, padding=2),
        ReLU(),
        AvgPool2d(3, 2, 1),
        LocalResponseNorm(3, alpha=5e-5, beta=0.75),
        Conv2d(second, third, 5, padding=2),
        ReLU(),
        AvgPool2d(3, 2, 1),
        Flatten(),
        Dense(16 * third, 10),
    ]
    return Network(layers, Categorical())


def svhn_kfc(width: float = 1.0) -> Network:
    """Make the net of KFC's experiments on SVHN, (N, 32, 32, 3) [GM16, sec. 5; SHKSS14, app. B].

    Three times conv 5x5 - ReLU - max-pool 3x3 with stride 2, with 96, 128 and 256 channels, then dense layers
    of 2048, 2048 and 10 units. The original is trained with dropout on every layer, which is omitted here, as
    in studies of curvature. The padding is not published; here it gives 32 -> 16 -> 8 -> 4.

    Args:
        width: scales the channels of the convolutions and the hidden units.

    Raises:
        ValueError: on a width that is not positive.

    >>> svhn_kfc().n_params
    13741578
    """
    channels = _scaled(width, 96, 128, 256)
    (hidden,) = _scaled(width, 2048)
    layers: list[Layer] = []
    for c_in, c_out in pairwise([3, *channels]):
        layers += [Conv2d(c_in, c_out, 5, padding=2), ReLU(), MaxPool2d(3, 2, 1)]
    layers += [Flatten(), Dense(16 * channels[-1], hidden), ReLU(), Dense(hidden, hidden), ReLU()]
    return Network([*layers, Dense(hidden, 10)], Categorical())


def small_inception(
    input_shape: tuple[int, int, int] = (32, 32, 3),
    n_classes: int = 10,
    width: int = 4,
    modules: int = 2,
    activation: str = "relu",
    output: str = "categorical",
) -> Network:
    """Make a net of inception modules, each with four parallel branches [SLJS15, fig. 2b].

    conv 3x3 - module - max-pool - module - ... - mean over all locations - dense. The branches of a module
    are 1x1, 1x1 - 3x3, 1x1 - 5x5 and max-pool 3x3 - 1x1, with channels in the proportions of GoogLeNet's
    module 3a; each module has twice as many channels as the previous one. GoogLeNet has nine modules, a
    larger stem with pooling and response normalization, dropout, and two auxiliary classifiers in training.

    Args:
        input_shape: (H, W, C) of the images.
        n_classes: outputs.
        width: an eighth of the output channels of the first module.
        modules: number of modules; the images are halved between them.
        activation: as in :func:`mlp`.
        output: "categorical", "bernoulli" or "gaussian".

    Raises:
        ValueError: on an unknown name, sizes that are not positive, or images that are too small.

    >>> small_inception().n_params
    12956
    >>> small_inception((8, 8, 1), width=1).n_params
    992
    """
    phi, distribution = _named(activation, ACTIVATIONS), _named(output, OUTPUTS)
    check_positive("small_inception", n_classes=n_classes, width=width, modules=modules)
    _check_halvings(input_shape, modules - 1)
    channels = 4 * width
    layers: list[Layer] = [Conv2d(input_shape[2], channels, 3, padding=1), phi()]
    for number in range(modules):
        if number:
            layers.append(MaxPool2d(2))
        layers.append(_inception(channels, width * 2**number, phi))
        channels = 8 * width * 2**number
    layers += [GlobalAvgPool(), Dense(channels, n_classes)]
    return Network(layers, distribution())


def _inception(c_in: int, width: int, phi: type[Layer]) -> Parallel:
    """Make a module of 8 * width channels, of which the branches contribute 2, 4, 1 and 1 eighths."""
    three, five = 3 * width, max(1, width // 2)  # input channels of the large kernels
    return Parallel(
        [Conv2d(c_in, 2 * width, 1), phi()],
        [Conv2d(c_in, three, 1), phi(), Conv2d(three, 4 * width, 3, padding=1), phi()],
        [Conv2d(c_in, five, 1), phi(), Conv2d(five, width, 5, padding=2), phi()],
        [MaxPool2d(3, 1, 1), Conv2d(c_in, width, 1), phi()],
    )


def small_resnet(
    input_shape: tuple[int, int, int] = (32, 32, 3),
    n_classes: int = 10,
    width: int = 16,
    stages: int = 3,
    blocks: int = 1,
    normalization: str | None = "batch",
    activation: str = "relu",
    output: str = "categorical",
) -> Network:
    """Make a residual net of 2 stages * blocks + 2 layers, as for CIFAR-10 [HZRS16, sec. 4.2].

    conv 3x3 - stages of residual blocks - mean over all locations - dense. A block is conv 3x3 -
    normalization - activation - conv 3x3 - normalization, added to its input, and an activation. Each stage
    except the first halves the images and doubles the channels; the shortcut of its first block is a
    normalized 1x1 convolution, whereas the paper's nets for CIFAR-10 pad the input with zero channels. The
    paper has three stages of 3 to 18 blocks.

    Args:
        input_shape: (H, W, C) of the images.
        n_classes: outputs.
        width: channels of the first stage.
        stages: number of stages.
        blocks: blocks per stage.
        normalization: "batch", the paper's; "group", of 4 channels each; "layer", over the channels of each
            pixel; or None. Convolutions have a bias only without normalization, whose shift replaces it.
        activation: as in :func:`mlp`.
        output: "categorical", "bernoulli" or "gaussian".

    Raises:
        ValueError: on an unknown name, sizes that are not positive, images that are too small, or a width
            that is not divisible into groups.

    >>> small_resnet().n_params
    78042
    >>> small_resnet((8, 8, 1), width=4, stages=2).n_params
    1382
    """
    phi, distribution = _named(activation, ACTIVATIONS), _named(output, OUTPUTS)
    if normalization not in ("batch", "group", "layer", None):
        raise ValueError(f"expected normalization batch, group, layer or None, got {normalization!r}")
    check_positive("small_resnet", n_classes=n_classes, width=width, stages=stages, blocks=blocks)
    if normalization == "group" and width % 4:
        raise ValueError(f"expected a width that is a multiple of 4, for groups of 4 channels, got {width}")
    _check_halvings(input_shape, stages - 1)
    layers = [*_convolution(input_shape[2], width, 3, 1, normalization), phi()]
    c_in = width
    for stage in range(stages):
        c_out = width * 2**stage
        for _ in range(blocks):
            layers += [_residual(c_in, c_out, normalization, phi), phi()]
            c_in = c_out
    return Network([*layers, GlobalAvgPool(), Dense(c_in, n_classes)], distribution())


def _residual(c_in: int, c_out: int, normalization: str | None, phi: type[Layer]) -> Residual:
    """Make a block of two convolutions; if it doubles the channels, it halves the images."""
    stride = 1 if c_in == c_out else 2
    body = [
        *_convolution(c_in, c_out, 3, stride, normalization),
        phi(),
        *_convolution(c_out, c_out, 3, 1, normalization),
    ]
    return Residual(body, [] if c_in == c_out else _convolution(c_in, c_out, 1, stride, normalization))


def _convolution(c_in: int, c_out: int, kernel: int, stride: int, normalization: str | None) -> list[Layer]:
    """A convolution and its normalization."""
    layers: list[Layer] = [Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=normalization is None)]
    if normalization == "batch":
        layers.append(BatchNorm(c_out))
    elif normalization == "group":
        layers.append(GroupNorm(c_out // 4, c_out))
    elif normalization == "layer":
        layers.append(LayerNorm(c_out))
    return layers


def _scaled(width: float, *sizes: int) -> list[int]:
    if not 0 < width < math.inf:
        raise ValueError(f"expected a finite width above 0, got {width}")
    return [max(1, round(width * size)) for size in sizes]


def _named(name: str, classes: dict[str, T]) -> T:
    if name not in classes:
        raise ValueError(f"expected one of {', '.join(sorted(classes))}, got {name!r}")
    return classes[name]


def _check_halvings(input_shape: tuple[int, int, int], halvings: int) -> None:
    least = 2**halvings
    whole = isinstance(input_shape, tuple | list) and all(
        isinstance(extent, Integral) for extent in input_shape
    )
    if not whole or len(input_shape) != 3 or min(input_shape) < 1 or min(input_shape[:2]) < least:
        raise ValueError(f"expected input_shape (H, W, C) of at least {least} x {least}, got {input_shape}")
