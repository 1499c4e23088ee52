"""On a GPU: what it can do at most, and how near minikfac and PyTorch's libraries come to it, in one run.

    python benchmarks/gpu.py                       # all jobs, float32 without TF32 and then with it
    python benchmarks/gpu.py --jobs sgd kfac --tf32 off
    python benchmarks/gpu.py --device cpu --tiny --out dry-run    # whether it runs; the times mean nothing

    ceilings        bandwidth of a copy, rate of a matrix product, in CuPy and in PyTorch
    sgd             steps of SGD: the autoencoder of K-FAC's experiments and a convolutional net; torch.nn
    kfac            steps of K-FAC: gradient, factors, inverses, preconditioning, all anew; curvlinops
                    and, with --kfac-jax, kfac-jax
    optimizers      steps of our optimizers, inverses as often as they renew them
    exact_fisher    the whole Fisher matrix, against torch.func
    parts           where the time of a step goes, part by part; eigenvectors and host draws beside it

Both sides get the same weights and data, which stay on the GPU, random ones of the shapes of MNIST and
CIFAR-10. Times are between two events of the GPU around a few calls in a row, on the default stream that
CuPy and PyTorch share, in an order that is reversed each round; the first rounds do not count. TF32 is on for
both or for neither, and what a product's error says of that is in the record. Writes
benchmarks/results/gpu_JOB.json and gpu_JOB_tf32.json.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import numpy as np

import minikfac as mk
from minikfac import fisher, linalg, optim
from minikfac.backend import array_module

Job = Callable[[], Any]
LEARNING_RATE, MOMENTUM, DAMPING = 0.01, 0.9, 1e-2


@dataclass(frozen=True)
class Sizes:
    """Examples and nets: those of the questions asked, or some that are done in a moment.

    Rounds of warm-up do not count: memory is found, kernels are compiled, libraries choose theirs.
    """

    autoencoder: int = 4096
    width: float = 1.0
    conv: int = 512
    channels: tuple[int, ...] = (3, 32, 32, 64)
    side: int = 32
    fisher_examples: int = 1000
    fisher_nets: tuple[str, ...] = ("256-20-20-20-20-20-10", "784-36-36-10")
    copied: int = 2**28
    product: int = 8192
    rounds: int = 15
    calls: int = 10
    warm_up: int = 3
    steps: int = 20


TINY = Sizes(16, 0.05, 4, (3, 4, 4), 8, 20, ("10-4-3",), 2**12, 64, 1, 1, 0, 2)


@dataclass(frozen=True)
class Device:
    """Where everything runs."""

    name: str

    @property
    def is_gpu(self) -> bool:
        return self.name != "cpu"

    def put(self, *arrays: Any) -> list[Any]:
        """Our arrays, there."""
        return [mk.to_device(array, self.name) for array in arrays]

    def put_torch(self, *values: Any) -> list[Any]:
        """PyTorch's modules, and tensors of NumPy arrays, there."""
        import torch

        return [
            (torch.from_numpy(value) if isinstance(value, np.ndarray) else value).to(self.name)
            for value in values
        ]

    def seconds(self, job: Job, calls: int) -> float:
        """Of one call, by events of the GPU around some in a row."""
        if not self.is_gpu:
            start = time.perf_counter()
            for _ in range(calls):
                job()
            return (time.perf_counter() - start) / calls
        cupy = sys.modules["cupy"]
        first, last = cupy.cuda.Event(), cupy.cuda.Event()
        first.record()
        for _ in range(calls):
            job()
        last.record()
        last.synchronize()
        return cupy.cuda.get_elapsed_time(first, last) / 1000 / calls

    def facts(self) -> dict[str, Any]:
        if not self.is_gpu:
            return {"device": "cpu"}
        runtime = sys.modules["cupy"].cuda.runtime
        properties = runtime.getDeviceProperties(int(self.name.partition(":")[2] or 0))
        return {
            "device": properties["name"].decode(),
            "memory_gib": round(properties["totalGlobalMem"] / 2**30, 1),
            "driver": runtime.driverGetVersion(),
            "cuda": runtime.runtimeGetVersion(),
        }


def race(device: Device, sizes: Sizes, contenders: dict[str, Job]) -> dict[str, Any]:
    """Time contenders in turn; print and return seconds of a call, all rounds and medians."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for lap in range(sizes.warm_up + sizes.rounds):
        for name in list(contenders) if lap % 2 else list(reversed(contenders)):
            times = device.seconds(contenders[name], sizes.calls)
            if lap >= sizes.warm_up:
                seconds[name].append(times)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    base = medians[next(iter(medians))]
    for name, median in medians.items():
        low, high = min(seconds[name]), max(seconds[name])
        spread = f"({1e3 * low:.4f} to {1e3 * high:.4f})"
        print(f"  {name:<34}{1e3 * median:11.4f} ms  {spread}{median / base:8.2f} x")
    return {"seconds": seconds, "medians": medians}


def difference(actual: Any, wanted: Any) -> float:
    actual, wanted = mk.to_host(actual), mk.to_host(wanted)
    return float(abs(actual - wanted).max() / abs(wanted).max())


def require(differences: dict[str, float], tf32: bool) -> dict[str, float]:
    """Differences relative to the largest entry, unless one is more than rounding."""
    for what, error in differences.items():
        if not error < (3e-2 if tf32 else 1e-3):
            raise SystemExit(f"{what} differs by {error:.1e}")
    return differences


# the jobs --------------------------------------------------------------


def ceilings(device: Device, sizes: Sizes, tf32: bool) -> dict[str, Any]:
    """GB/s that a copy reads and writes, GFLOP/s of products, and the error of one."""
    rng = np.random.default_rng(0)
    n = sizes.product
    host = rng.standard_normal((n, n)).astype(np.float32)
    (a, long), results = device.put(host, np.zeros(sizes.copied, np.float32)), {}
    jobs: dict[str, Job] = {"CuPy" if device.is_gpu else "NumPy": lambda: a @ a}
    copies: dict[str, Job] = {next(iter(jobs)): lambda: long.copy()}
    try:
        import torch

        b, t = device.put_torch(host, np.zeros(sizes.copied, np.float32))
        jobs["PyTorch"], copies["PyTorch"] = (lambda: torch.matmul(b, b)), (lambda: t.clone())
    except ImportError:
        print("PyTorch is not installed; its ceilings are left out")
    print("copy")
    results["copy"] = race(device, sizes, copies)
    print(f"matrix product of {n} x {n}, float32")
    results["product"] = race(device, sizes, jobs)
    results["gb_per_second"] = {k: 8e-9 * sizes.copied / v for k, v in results["copy"]["medians"].items()}
    results["gflop_per_second"] = {k: 2e-9 * n**3 / v for k, v in results["product"]["medians"].items()}
    few = host[:256].astype(np.float64)
    exact = few @ host.astype(np.float64)
    products = {name: job()[:256] for name, job in jobs.items()}
    host_results = {
        k: product.cpu().numpy() if hasattr(product, "cpu") else mk.to_host(product)
        for k, product in products.items()
    }
    results["product_error"] = {name: difference(product, exact) for name, product in host_results.items()}
    print(f"errors of the product, some 1e-6 in float32 and 1e-3 in TF32: {results['product_error']}")
    return results


def problems(sizes: Sizes, output: str = "bernoulli") -> dict[str, Any]:
    """Net, theta, inputs, targets, PyTorch's module and its loss, by name; all on the host."""
    import nets
    import torch

    loss = {"bernoulli": torch.nn.BCEWithLogitsLoss, "gaussian": torch.nn.MSELoss}[output]()
    gaussian = mk.outputs.Gaussian() if output == "gaussian" else None
    return {
        "autoencoder": (*nets.make_autoencoder(sizes.autoencoder, sizes.width, gaussian), loss),
        "conv": (*nets.make_conv(sizes.conv, sizes.channels, sizes.side), torch.nn.CrossEntropyLoss()),
    }


def on_device(device: Device, problem: Any) -> tuple[list[Any], list[Any]]:
    """Ours: net, theta, x, y; PyTorch's: module, X, y."""
    net, theta, x, y, module, _ = problem
    X = np.ascontiguousarray(np.moveaxis(x, -1, 1)) if x.ndim == 4 else x
    return [net, *device.put(theta, x, y)], device.put_torch(module, X, y)


def sgd(device: Device, sizes: Sizes, tf32: bool) -> dict[str, Any]:
    import contenders
    import nets
    import torch

    results = {}
    for name, problem in problems(sizes).items():
        (net, theta, x, y), (module, X, t) = on_device(device, problem)
        loss, order = problem[5], nets.torch_order(module)
        print(f"SGD step, {name}: P = {net.n_params:,}, N = {len(x):,}")
        options = {"lr": LEARNING_RATE, "momentum": MOMENTUM}
        grad = torch.autograd.grad(loss(module(X), t), list(module.parameters()))
        theirs = np.concatenate([part.cpu().numpy().reshape(-1) for part in grad])[order]
        agreed = {"gradient": difference(theirs / contenders.times_ours(loss, y), net.gradient(theta, x, y))}
        require(agreed, tf32)
        competing = {"minikfac": contenders.minikfac_sgd(net, theta, x, y, **options)}
        for who, fused in (("PyTorch", None), ("PyTorch, fused", True)):
            (again,) = device.put_torch(_copy(problem[4]))
            competing[who] = contenders.torch_sgd(again, X, t, loss, **options, fused=fused)
        if x.ndim == 4:
            (again,) = device.put_torch(_copy(problem[4]))
            again, last = again.to(memory_format=torch.channels_last), X.to(memory_format=torch.channels_last)
            competing["PyTorch, channels last"] = contenders.torch_sgd(again, last, t, loss, **options)
        results[name] = {"parameters": net.n_params, "examples": len(x), "differences": agreed}
        results[name] |= race(device, sizes, competing)
    return results


def _copy(module: Any) -> Any:
    import copy

    return copy.deepcopy(module)


def kfac(device: Device, sizes: Sizes, tf32: bool, kfac_jax: str | None = None) -> dict[str, Any]:
    import contenders
    import nets

    results = {}
    for name, problem in problems(sizes, "gaussian").items():
        (net, theta, x, y), (module, X, t) = on_device(device, problem)
        loss, order = problem[5], nets.torch_order(module)
        print(f"K-FAC step, {name}: P = {net.n_params:,}, N = {len(x):,}")
        with_expectation = contenders.curvlinops_kfac(module, X, t, loss, "type-2")()
        theirs = np.concatenate([part.detach().cpu().numpy().reshape(-1) for part in with_expectation[1]])[
            order
        ]
        few = fisher.kfac(fisher.signals(net, theta, x, batch_size=256))
        ours = few.solve(net.gradient(theta, x, y), damping=contenders.DAMPING, method="factored")
        agreed = {"preconditioned gradient": difference(theirs, ours)}
        require(agreed, tf32)
        competing = {
            "minikfac": contenders.minikfac_kfac(net, theta, x, y),
            "minikfac, explicit inverses": contenders.minikfac_kfac(net, theta, x, y, explicit=True),
            "curvlinops": contenders.curvlinops_kfac(module, X, t, loss),
        }
        results[name] = {"parameters": net.n_params, "examples": len(x), "differences": agreed}
        if kfac_jax:
            results[name]["kfac_jax"] = _kfac_jax(kfac_jax, name, len(x), sizes)
        results[name] |= race(device, sizes, competing)
    return results


def _kfac_jax(python: str, name: str, n: int, sizes: Sizes) -> dict[str, Any]:
    """Steps in a process of its own, one after the other, by its clock; on the GPU if its JAX uses one."""
    import steps

    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    process = steps.Jax(python, "K-FAC", name, n, threads=2)
    for _ in range(sizes.warm_up + sizes.rounds * sizes.calls):
        process.step()
    facts = process.close()
    seconds = process.seconds[sizes.warm_up :]
    print(f"  {'kfac-jax':<34}{1e3 * statistics.median(seconds):11.4f} ms")
    return {**facts, "seconds": seconds, "median": statistics.median(seconds)}


def optimizers(device: Device, sizes: Sizes, tf32: bool) -> dict[str, Any]:
    """Ours alone: a step of each, the mean over twenty, which are a period of K-FAC's."""
    nets = {
        "autoencoder": mk.presets.mnist_autoencoder(sizes.width),
        "conv": mk.presets.cifar10_kfc(width=0.1 if sizes is TINY else 1.0),
    }
    results = {}
    for name, net in nets.items():
        rng, n = np.random.default_rng(0), getattr(sizes, name)
        x = rng.random((n, 784) if name == "autoencoder" else (n, 32, 32, 3)).astype(np.float32)
        y = x if name == "autoencoder" else rng.integers(0, 10, n)
        theta = net.init(rng, "sparse" if name == "autoencoder" else "he", np.float32)
        theta, x, y = device.put(theta, x, y)
        makes = {
            "SGD": optim.SGD(net, 1e-4, MOMENTUM),
            "Adam": optim.Adam(net, 1e-5),
            "KFC-pre": optim.KFCPre(net, 1e-4, Tf=20),
            "K-FAC": optim.KFAC(net, lam=150.0),
            "EKFAC": optim.EKFAC(net, 1e-4),
        }
        print(f"{sizes.steps} steps, {name}: P = {net.n_params:,}, N = {n:,}")
        jobs = {}
        for who, opt in makes.items():
            start = _advance(opt, theta, opt.init(theta), x, y, min(3, sizes.steps))
            jobs[who] = lambda opt=opt, start=start, x=x, y=y: _advance(opt, *start, x, y, sizes.steps)
        few = Sizes(**{**vars(sizes), "calls": 1, "rounds": min(sizes.rounds, 5)})
        timed = race(device, few, jobs)
        steps = {who: median / sizes.steps for who, median in timed["medians"].items()}
        results[name] = {"parameters": net.n_params, "examples": n, "seconds_of_a_step": steps, **timed}
    return results


def _advance(opt: Any, theta: Any, state: Any, x: Any, y: Any, count: int) -> tuple[Any, Any]:
    for _ in range(count):
        theta, state, info = opt.step(theta, state, (x, y), np.random.default_rng([0, state["step"]]))
        if not np.isfinite(info["loss"]):
            raise SystemExit(f"expected a finite loss of {type(opt).__name__} in step {state['step']}")
    return theta, state


def exact_fisher(device: Device, sizes: Sizes, tf32: bool) -> dict[str, Any]:
    import exact_fisher as on_cpu
    import nets

    results = {}
    for name in sizes.fisher_nets:
        net, theta, x, _, module = nets.make(name, sizes.fisher_examples)
        theta, x = device.put(theta, x)
        module, X = device.put_torch(module, mk.to_host(x))
        order = nets.torch_order(module)
        print(f"exact Fisher matrix, {name}: P = {net.n_params:,}, N = {len(x):,}")
        ours = mk.to_host(fisher.exact(fisher.signals(net, theta, x)).array)
        theirs = on_cpu.torch_gauss_newton(module, X).detach().cpu().numpy()
        agreed = {"matrix": difference(theirs[np.ix_(order, order)], ours)}
        require(agreed, tf32)
        del ours, theirs
        competing: dict[str, Job] = {
            "minikfac": lambda: fisher.exact(fisher.signals(net, theta, x)).array,  # noqa: B023
            "torch.func, J^T (H J)": lambda: on_cpu.torch_gauss_newton(module, X),  # noqa: B023
            "torch.func, S^T S": lambda: on_cpu.torch_root(module, X),  # noqa: B023
        }
        few = Sizes(**{**vars(sizes), "calls": 1})
        results[name] = {"parameters": net.n_params, "examples": len(x), "differences": agreed}
        results[name] |= race(device, few, competing)
        gflop = on_cpu.operations(net.shapes, len(x)) / 1e9
        results[name]["gflop_needed"] = gflop
        results[name]["gflop_per_second"] = gflop / results[name]["medians"]["minikfac"]
        print(f"  {gflop:.1f} GFLOP needed, {results[name]['gflop_per_second']:.0f} GFLOP/s")
    return results


def parts(device: Device, sizes: Sizes, tf32: bool) -> dict[str, Any]:
    """Each part of a K-FAC step by itself, on arrays that are there; it takes what it took in the step."""
    nets = {
        "autoencoder": (mk.presets.mnist_autoencoder(sizes.width), (784,)),
        "conv": (_conv(sizes), (sizes.side, sizes.side, sizes.channels[0])),
    }
    results = {}
    for name, (net, shape) in nets.items():
        rng, n = np.random.default_rng(0), getattr(sizes, name)
        host = rng.random((n, *shape)).astype(np.float32)
        labels = rng.integers(0, 10, n)
        theta, x = device.put(net.init(rng, dtype=np.float32), host)
        y = x if name == "autoencoder" else device.put(labels)[0]
        tape = net.forward(theta, x)
        units = tape.z.shape[1]
        dz = net.output.gradient(tape.z, y)
        gs = net.backward(theta, tape, dz)
        F = fisher.kfac(fisher.signals(net, theta, x, targets="sampled", rng=rng))
        grad = net.gradient(theta, x, y)
        inverse = F.inverse(DAMPING, "factored", explicit=True)
        pairs = [(block.A, block.G) for block in F.blocks]
        factors = [M + DAMPING * array_module(M).eye(len(M), dtype=M.dtype) for pair in pairs for M in pair]
        Ls = [linalg.cholesky(M, at_least=DAMPING) for M in factors]
        damped = [(M, "factor", DAMPING) for M in factors]
        wanted = list(zip(damped[::2], damped[1::2], strict=True))
        jobs: dict[str, Job] = {
            "gradient_pass": lambda: net.gradient_pass(theta, x, y),  # noqa: B023
            "forward": lambda: net.forward(theta, x),  # noqa: B023
            "forward, abar of the tape": lambda: tape.abar,  # noqa: B023
            "backward": lambda: net.backward(theta, tape, dz),  # noqa: B023
            "weight gradient": lambda: net.summed_gradient(theta, tape.abar, gs),  # noqa: B023
            "draw targets on the host": lambda: net.output.noise(rng, n, 1, units),  # noqa: B023
            "factors, with their passes": lambda: fisher.kfac(
                fisher.signals(net, theta, x, targets="sampled", rng=rng)  # noqa: B023
            ),
            "Cholesky": lambda: linalg.damped_choleskys(wanted, DAMPING**2),  # noqa: B023
            "explicit inverses": lambda: [linalg.cholesky_inverse(L) for L in Ls],  # noqa: B023
            "preconditioning": lambda: inverse @ grad,  # noqa: B023
            "eigenvectors": lambda: [linalg.eigh(M) for M in factors],  # noqa: B023
        }
        print(f"parts, {name}: P = {net.n_params:,}, N = {n:,}; the first is the whole of a gradient")
        few = Sizes(**{**vars(sizes), "calls": min(sizes.calls, 3), "rounds": min(sizes.rounds, 7)})
        results[name] = {"parameters": net.n_params, "examples": n, **race(device, few, jobs)}
    return results


def _conv(sizes: Sizes) -> mk.Network:
    """The net of nets.make_conv, without PyTorch."""
    made: list[Any] = []
    for c_in, c_out in zip(sizes.channels, sizes.channels[1:], strict=False):
        made += [mk.layers.Conv2d(c_in, c_out, 5, padding=2), mk.layers.ReLU(), mk.layers.MaxPool2d(2)]
    features = sizes.channels[-1] * (sizes.side >> len(sizes.channels) - 1) ** 2
    head = [mk.layers.Flatten(), mk.layers.Dense(features, 10)]
    return mk.Network([*made, *head], mk.outputs.Categorical())


JOBS: dict[str, Callable[..., dict[str, Any]]] = {
    "ceilings": ceilings,
    "sgd": sgd,
    "kfac": kfac,
    "optimizers": optimizers,
    "exact_fisher": exact_fisher,
    "parts": parts,
}


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tf32", choices=("off", "on", "both"), default="both")
    parser.add_argument("--tiny", action="store_true", help="sizes that are done in a moment; not to be kept")
    parser.add_argument("--rounds", type=int, help="timed ones; 15 by default")
    parser.add_argument("--out", type=Path, default=common.RESULTS)
    parser.add_argument(
        "--kfac-jax", metavar="PYTHON", help="an interpreter that has kfac-jax and JAX for CUDA"
    )
    arguments = parser.parse_args(given)
    device = Device(arguments.device)
    if arguments.tiny and arguments.out == common.RESULTS:
        parser.error("expected --out with --tiny: such times are no results")
    if not device.is_gpu and not arguments.tiny:
        parser.error("expected --tiny with --device cpu: the records are of GPUs")
    if arguments.tf32 == "both":  # CuPy reads CUPY_TF32 when it is imported
        rest = sys.argv[1:] if given is None else given
        for tf32 in ("off", "on") if device.is_gpu else ("off",):
            environment = {**os.environ, "CUPY_TF32": str(int(tf32 == "on"))}
            subprocess.run([sys.executable, __file__, *rest, "--tf32", tf32], env=environment, check=True)
        return
    tf32 = arguments.tf32 == "on"
    if device.is_gpu and os.environ.setdefault("CUPY_TF32", str(int(tf32))) != str(int(tf32)):
        parser.error(f"expected CUPY_TF32={int(tf32)} for --tf32 {arguments.tf32}")
    mk.use_device(device.name)
    _tell_torch(tf32)
    sizes = TINY if arguments.tiny else Sizes()
    if arguments.rounds:
        sizes = Sizes(**{**vars(sizes), "rounds": arguments.rounds})
    facts = {"machine": common.machine(), **device.facts(), "tf32": tf32, "sizes": vars(sizes)}
    print(f"{facts['device']}, {'TF32' if tf32 else 'float32'}")
    for name in arguments.jobs:
        options = {"kfac_jax": arguments.kfac_jax} if name == "kfac" else {}
        record = {**facts, "job": name, "found": JOBS[name](device, sizes, tf32, **options)}
        common.write(f"gpu_{name}{'_tf32' if tf32 else ''}", record, arguments.out)


def _tell_torch(tf32: bool) -> None:
    try:
        import torch
    except ImportError:
        return
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32


if __name__ == "__main__":
    main()
