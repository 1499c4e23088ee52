"""K-FAC steps of conv.py and autoencoder.py in kfac-jax, in an environment of its own without minikfac.

    python -m venv kfac-jax && kfac-jax/bin/python -m pip install jax==0.7.2 jaxlib==0.7.2 kfac-jax==0.0.8
    python benchmarks/autoencoder.py --kfac-jax kfac-jax/bin/python
    python benchmarks/conv.py --kfac-jax kfac-jax/bin/python

Takes one step, which compiles, and prints its seconds with other facts as JSON; then one for each line of
input, and prints the seconds of each. kfac-jax wants the JAX of its day.
"""

import argparse
import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import kfac_jax
import numpy as np

CHANNELS = (3, 32, 32, 64)
SIDE, CLASSES = 32, 10
UNITS = (784, 1000, 500, 250, 30, 250, 500, 1000, 784)
CODE = UNITS.index(min(UNITS)) - 1
"""The layer without a logistic function, besides the last."""

Params = list[dict[str, jax.Array]]
Batch = tuple[jax.Array, jax.Array]


def conv_loss(params: Params, batch: Batch) -> jax.Array:
    x, y = batch
    for layer in params[:-1]:
        x = jax.lax.conv_general_dilated(
            x, layer["w"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x + layer["b"])
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    z = x.reshape(len(x), -1) @ params[-1]["w"] + params[-1]["b"]
    kfac_jax.register_softmax_cross_entropy_loss(z, y)
    return -jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], axis=1).mean()


def autoencoder_loss(params: Params, batch: Batch) -> jax.Array:
    z, y = batch
    for l, layer in enumerate(params):
        z = z @ layer["w"] + layer["b"]
        if l not in (CODE, len(params) - 1):
            z = jax.nn.sigmoid(z)
    kfac_jax.register_squared_error_loss(z, y, weight=0.5)
    return 0.5 * ((z - y) ** 2).sum(axis=1).mean()


def make(net: str, n: int) -> tuple[Callable[[Params, Batch], jax.Array], Params, Batch]:
    """Return a loss, weights and a batch: random images with labels, or with themselves as targets."""
    rng = np.random.default_rng(0)
    shapes: list[tuple[int, ...]]
    if net == "conv":
        shapes = [(5, 5, c_in, c_out) for c_in, c_out in pairwise(CHANNELS)]
        shapes.append(((SIDE // 8) ** 2 * CHANNELS[-1], CLASSES))
        x, y = rng.standard_normal((n, SIDE, SIDE, 3)), rng.integers(0, CLASSES, n)
        batch = jnp.asarray(x, jnp.float32), jnp.asarray(y)
    else:
        shapes = list(pairwise(UNITS))
        x = jnp.asarray(rng.random((n, UNITS[0])), jnp.float32)
        batch = x, x
    params = [
        {
            "w": jnp.asarray(rng.standard_normal(shape) / np.prod(shape[:-1]) ** 0.5, jnp.float32),
            "b": jnp.zeros(shape[-1], jnp.float32),
        }
        for shape in shapes
    ]
    return {"conv": conv_loss, "autoencoder": autoencoder_loss}[net], params, batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("net", choices=["conv", "autoencoder"])
    parser.add_argument("--examples", type=int, default=128)
    parser.add_argument("--damping", type=float, default=1e-2)
    arguments = parser.parse_args()
    loss, start, batch = make(arguments.net, arguments.examples)
    optimizer = kfac_jax.Optimizer(
        jax.value_and_grad(loss),
        l2_reg=0.0,
        learning_rate_schedule=lambda step: 1e-3,
        momentum_schedule=lambda step: 0.0,
        damping_schedule=lambda step: arguments.damping,
        estimation_mode="fisher_gradients",  # one sampled target per example
        curvature_update_period=1,
        inverse_update_period=1,
        num_burnin_steps=0,
    )
    params: Any = start
    key = jax.random.PRNGKey(0)
    state = optimizer.init(params, key, batch)
    count = 0

    def step() -> float:
        nonlocal params, state, key, count
        begin = time.perf_counter()
        key, step_key = jax.random.split(key)
        params, state, info = optimizer.step(params, state, step_key, batch=batch, global_step_int=count)
        jax.block_until_ready((params, state, info))
        count += 1
        return time.perf_counter() - begin

    with_compiling = step()
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "kfac-jax")}
    blocks = [type(block).__name__ for block in optimizer._estimator.blocks]
    print(json.dumps({"with_compiling": with_compiling, "versions": versions, "blocks": blocks}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(step()), flush=True)


if __name__ == "__main__":
    main()
