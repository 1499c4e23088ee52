"""The K-FAC step of conv.py in kfac-jax, in an environment of its own, which needs no minikfac.

    python -m venv kfac-jax && kfac-jax/bin/python -m pip install jax==0.7.2 jaxlib==0.7.2 kfac-jax==0.0.8
    python benchmarks/conv.py --kfac-jax kfac-jax/bin/python

Prints the seconds of each step, and of compiling, as JSON. kfac-jax wants the JAX of its day.
"""

import argparse
import importlib.metadata
import json
import time
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import kfac_jax
import numpy as np

CHANNELS = (3, 32, 32, 64)
SIDE, CLASSES = 32, 10


def init(rng: np.random.Generator) -> list[dict[str, jax.Array]]:
    """Draw weights: three convolutions, (5, 5, c_in, c_out), and a dense layer."""
    shapes: list[tuple[int, ...]] = [(5, 5, c_in, c_out) for c_in, c_out in pairwise(CHANNELS)]
    shapes.append(((SIDE // 8) ** 2 * CHANNELS[-1], CLASSES))
    return [
        {
            "w": jnp.asarray(rng.standard_normal(shape) / np.prod(shape[:-1]) ** 0.5, jnp.float32),
            "b": jnp.zeros(shape[-1], jnp.float32),
        }
        for shape in shapes
    ]


def loss(params: list[dict[str, jax.Array]], batch: tuple[jax.Array, jax.Array]) -> jax.Array:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--examples", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--damping", type=float, default=1e-2)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    n = arguments.examples
    batch = (
        jnp.asarray(rng.standard_normal((n, SIDE, SIDE, 3)), jnp.float32),
        jnp.asarray(rng.integers(0, CLASSES, n)),
    )
    optimizer = kfac_jax.Optimizer(
        jax.value_and_grad(loss),
        l2_reg=0.0,
        learning_rate_schedule=lambda step: 1e-3,
        momentum_schedule=lambda step: 0.0,
        damping_schedule=lambda step: arguments.damping,
        estimation_mode="fisher_gradients",  # one sampled target per example
        inverse_update_period=1,
        num_burnin_steps=0,
    )
    params: Any = init(rng)
    key = jax.random.PRNGKey(0)
    state = optimizer.init(params, key, batch)
    seconds = []
    for step in range(arguments.repeats + 1):
        key, own = jax.random.split(key)
        start = time.perf_counter()
        params, state, info = optimizer.step(params, state, own, batch=batch, global_step_int=step)
        jax.block_until_ready((params, state, info))
        seconds.append(time.perf_counter() - start)
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "kfac-jax")}
    blocks = [type(block).__name__ for block in optimizer._estimator.blocks]
    found = {"with_compiling": seconds[0], "seconds": seconds[1:], "versions": versions, "blocks": blocks}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
