"""Steps of conv.py and autoencoder.py in JAX: SGD, compiled, and K-FAC in kfac-jax. Without minikfac.

    python -m venv jax && jax/bin/python -m pip install jax==0.7.2 jaxlib==0.7.2 kfac-jax==0.0.8
    python benchmarks/autoencoder.py --jax jax/bin/python
    python benchmarks/conv.py --jax jax/bin/python

Takes one step, which compiles, and prints its seconds with other facts as JSON; then one for each line of
input, and prints the seconds of each. kfac-jax wants the JAX of its day, in an environment of its own.
"""

import argparse
import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from functools import partial
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


def conv_outputs(params: Params, x: jax.Array) -> jax.Array:
    for layer in params[:-1]:
        x = jax.lax.conv_general_dilated(
            x, layer["w"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x + layer["b"])
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return x.reshape(len(x), -1) @ params[-1]["w"] + params[-1]["b"]


def conv_loss(params: Params, batch: Batch, register: bool) -> jax.Array:
    x, y = batch
    z = conv_outputs(params, x)
    if register:
        kfac_jax.register_softmax_cross_entropy_loss(z, y)
    return -jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], axis=1).mean()


def autoencoder_loss(params: Params, batch: Batch, register: bool) -> jax.Array:
    """Gaussian outputs where kfac-jax is to know them, else Bernoulli."""
    z, y = batch
    for l, layer in enumerate(params):
        z = z @ layer["w"] + layer["b"]
        if l not in (CODE, len(params) - 1):
            z = jax.nn.sigmoid(z)
    if not register:
        return (jax.nn.softplus(z) - y * z).sum(axis=1).mean()
    kfac_jax.register_squared_error_loss(z, y, weight=0.5)
    return 0.5 * ((z - y) ** 2).sum(axis=1).mean()


def make(net: str, n: int) -> tuple[Callable[[Params, Batch, bool], jax.Array], Params, Batch]:
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


def sgd(net: str, n: int, lr: float, momentum: float) -> tuple[Callable[[], Any], dict[str, Any]]:
    """A compiled step that overwrites its weights and velocities, and nothing to say of it."""
    loss, params, batch = make(net, n)

    @partial(jax.jit, donate_argnums=(0, 1))
    def advance(params: Params, velocity: Params, batch: Batch) -> tuple[Params, Params, jax.Array]:
        value, grad = jax.value_and_grad(lambda p: loss(p, batch, False))(params)
        velocity = jax.tree.map(lambda v, g: momentum * v + g, velocity, grad)
        return jax.tree.map(lambda p, v: p - lr * v, params, velocity), velocity, value

    state = params, jax.tree.map(jnp.zeros_like, params)

    def step() -> Any:
        nonlocal state
        *after, value = advance(*state, batch)
        state = after[0], after[1]
        return after, value

    return step, {}


def kfac(net: str, n: int, damping: float) -> tuple[Callable[[], Any], dict[str, Any]]:
    """A step of kfac-jax, and the kinds of its blocks."""
    loss, start, batch = make(net, n)
    optimizer = kfac_jax.Optimizer(
        jax.value_and_grad(lambda params, batch: loss(params, batch, True)),
        l2_reg=0.0,
        learning_rate_schedule=lambda step: 1e-3,
        momentum_schedule=lambda step: 0.0,
        damping_schedule=lambda step: damping,
        estimation_mode="fisher_gradients",  # one sampled target per example
        curvature_update_period=1,
        inverse_update_period=1,
        num_burnin_steps=0,
    )
    params: Any = start
    key = jax.random.PRNGKey(0)
    state = optimizer.init(params, key, batch)
    count = 0

    def step() -> Any:
        nonlocal params, state, key, count
        key, step_key = jax.random.split(key)
        params, state, info = optimizer.step(params, state, step_key, batch=batch, global_step_int=count)
        count += 1
        return params, state, info

    return step, {"blocks": [type(block).__name__ for block in optimizer._estimator.blocks]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("job", choices=["SGD", "K-FAC"])
    parser.add_argument("net", choices=["conv", "autoencoder"])
    parser.add_argument("--examples", type=int, default=128)
    parser.add_argument("--damping", type=float, default=1e-2)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--momentum", type=float, default=0.0)
    options = parser.parse_args()
    if options.job == "SGD":
        step, facts = sgd(options.net, options.examples, options.lr, options.momentum)
    else:
        step, facts = kfac(options.net, options.examples, options.damping)

    def timed() -> float:
        begin = time.perf_counter()
        jax.block_until_ready(step())
        return time.perf_counter() - begin

    with_compiling = timed()
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "kfac-jax")}
    print(json.dumps({"with_compiling": with_compiling, "versions": versions, **facts}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(timed()), flush=True)


if __name__ == "__main__":
    main()
