"""Every public function, called with arrays of one device: what tests on the stand-in and on a GPU share.

A case takes arrays that were moved to a device and returns what its functions make of them. On the host it
must return the same numbers; on a device, arrays that are there still, and nothing large may pass through the
host on the way. ``HOST`` names the functions for which there is no case, and says why.
"""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

import minikfac as mk
from minikfac import (
    datasets,
    distributed,
    fisher,
    interop,
    laplace,
    layers,
    linalg,
    optim,
    outputs,
    plots,
    presets,
    quality,
    races,
    reparam,
    scaling,
    tour,
    training,
)
from minikfac.optim.quadratic import QuadraticModel
from oracles.resumable import problem

PARTS: dict[str, ModuleType] = {
    "": mk,
    "layers.": layers,
    "outputs.": outputs,
    "presets.": presets,
    "fisher.": fisher,
    "linalg.": linalg,
    "reparam.": reparam,
    "quality.": quality,
    "optim.": optim,
    "interop.": interop,
    "laplace.": laplace,
    "training.": training,
    "races.": races,
    "scaling.": scaling,
    "tour.": tour,
    "datasets.": datasets,
    "plots.": plots,
}
METHODS: dict[str, type] = {
    "Network.": mk.Network,
    "outputs.Output.": outputs.Output,
    "fisher.FisherMatrix.": fisher.FisherMatrix,
    "laplace.Laplace.": laplace.Laplace,
    "fisher.LayerSignals.": fisher.LayerSignals,
    "fisher.Signals.": fisher.Signals,
    "reparam.Reparameterization.": reparam.Reparameterization,
    "optim.QuadraticModel.": QuadraticModel,
}


def public_names() -> Iterator[str]:
    """Functions and classes of all parts, and methods of the classes that compute."""
    for prefix, module in PARTS.items():
        listed = getattr(module, "__all__", None) or [
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
        ]
        yield from (prefix + name for name in listed if callable(getattr(module, name)))
    for prefix, kind in METHODS.items():
        for name in dir(kind):
            member = getattr(kind, name)
            if (not name.startswith("_") or name == "__matmul__") and callable(member):
                yield prefix + name


# inputs --------------------------------------------------------------

SMALL = 20
"""Numbers that may come to the host at once: losses, traces, a Gram matrix of few directions."""


def inputs(dtype: Any = float) -> SimpleNamespace:
    """Arrays on the host; no layer's weights or factors are as small as ``SMALL``."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(dtype)

    theta, conv_theta = (0.5 * draw(net.n_params) for net in (NET, CONV))
    x = draw(40, 6)
    M, N = draw(8, 8), draw(7, 7)
    return SimpleNamespace(
        theta=theta,
        x=x,
        y=(rng.random((40, 5)) < 0.5).astype(dtype),
        labels=rng.integers(0, 5, 40),
        v=draw(NET.n_params),
        V=draw(NET.n_params, 3),
        z=draw(40, 5),
        z2=draw(40, 5),
        conv_theta=conv_theta,
        images=draw(12, 6, 6, 3),
        conv_labels=rng.integers(0, 5, 12),
        conv_v=draw(CONV.n_params),
        M=M @ M.T / 8 + np.eye(8, dtype=dtype),
        N=N @ N.T / 7 + np.eye(7, dtype=dtype),
        b=draw(8, 3),
        c=draw(56),
    )


NET = mk.mlp([6, 8, 5], output="bernoulli")
LABELLED = mk.mlp([6, 8, 5], output="categorical")
CONV = mk.Network(
    [
        layers.Conv2d(3, 4, 3, padding=1),
        layers.BatchNorm(4),
        layers.ReLU(),
        layers.MaxPool2d(2),
        layers.Conv2d(4, 6, 2),
        layers.GroupNorm(2, 6),
        layers.Tanh(),
        layers.Flatten(),
        layers.Dense(24, 5),
    ],
    outputs.Categorical(),
)
DAMPING = 0.1

# cases --------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Case:
    """Some public names, and a function that uses them.

    Attributes:
        names: that it covers.
        compute: arrays -> numbers and arrays.
        most: numbers that may come to the host at once.
        why: more than a few may.
        loose: whether iterations amplify rounding.
    """

    names: tuple[str, ...]
    compute: Callable[[Any], list]
    most: int = SMALL
    why: str = ""
    loose: bool = False

    def __str__(self) -> str:
        return self.compute.__name__


CASES: list[Case] = []


def check(
    case: Case,
    device_array: type,
    dtype: Any,
    compare: Callable[[np.ndarray, np.ndarray], None],
    watched: AbstractContextManager | None = None,
) -> None:
    """A case gives arrays of the device for arrays of the device, with the numbers that the host gives.

    Args:
        case: whose functions are used.
        device_array: what arrays of the device are.
        dtype: of the arrays.
        compare: fails on numbers that differ.
        watched: entered while the device works.
    """
    host = inputs(dtype)
    there = SimpleNamespace(**{name: mk.to_device(array) for name, array in vars(host).items()})
    expected = case.compute(host)
    with watched or nullcontext():
        results = case.compute(there)
    assert expected
    for a, b in zip(results, expected, strict=True):
        if isinstance(b, np.ndarray):
            assert isinstance(a, device_array)
            assert a.dtype == b.dtype and a.shape == b.shape
        else:
            assert type(a) is type(b)
        compare(mk.to_host(a), b)


def case(*names: str, most: int = SMALL, why: str = "", loose: bool = False) -> Callable:
    def add(compute: Callable[[Any], list]) -> Callable[[Any], list]:
        CASES.append(Case(names, compute, most, why, loose))
        return compute

    return add


@case(
    *("Network." + name for name in ("forward", "backward", "jvp", "vjp", "hessian_product", "fisher_gram")),
    *(
        "Network." + name
        for name in (
            "pack",
            "unpack",
            "summed_gradient",
            "weight_gradient",
            "natural_parameters",
            "n_outputs",
            "work",
        )
    ),
)
def passes_of_a_perceptron(a: Any) -> list:
    tape = NET.forward(a.theta, a.x)
    b = NET.output.fisher_root(tape.z)
    g = NET.backward(a.theta, tape, b)
    products = [NET.jvp(a.theta, tape, a.v), NET.vjp(a.theta, tape, b[0])]
    products += [NET.hessian_product(a.theta, tape, a.y, a.v), NET.fisher_gram(a.theta, a.x, a.V.T)]
    products += [NET.summed_gradient(a.theta, tape.abar, [layer[0] for layer in g])]
    products += [NET.weight_gradient(a.theta, tape, [layer[0] for layer in g])]
    weights = NET.unpack(a.theta)
    more = [
        NET.natural_parameters(a.theta, a.x),
        NET.n_outputs(a.x),
        NET.work(a.x),
        *weights,
        NET.pack(weights),
    ]
    return [tape.z, *tape.abar, *tape.s, *g, *products, *more]


@case(
    *("Network." + name for name in ("loss", "mean_loss", "loss_and_gradient", "gradient", "gradient_pass")),
    *("Network." + name for name in ("predict", "kl", "chunks", "batch_stats", "init_stats", "on")),
    "Network.check_finite",
)
def losses_and_gradients(a: Any) -> list:
    results: list = []
    for net, theta, x, y in ((NET, a.theta, a.x, a.y), (CONV, a.conv_theta, a.images, a.conv_labels)):
        loss, grad, stats, _ = net.gradient_pass(theta, x, y, net.init_stats())
        assert net.chunks(theta, x) == [slice(0, len(x))]
        results += [net.loss(theta, x, y, stats), *net.loss_and_gradient(theta, x, y, stats)]
        results += [net.gradient(theta, x, y, stats), *net.check_finite(theta)]
        results += [
            float(loss),
            grad,
            *stats,
            float(net.mean_loss(theta, x, y)),
            net.predict(theta, x, stats),
        ]
        results += [net.kl(theta, 1.1 * theta, x, stats), *net.batch_stats(theta, x)]
        results += [net.on(distributed.SERIAL).gradient(theta, x, y, stats)]
    return results


@case(
    *("layers." + name for name in ("Affine", "AvgPool2d", "BatchNorm", "Conv2d", "Dense", "Flatten")),
    *("layers." + name for name in ("GlobalAvgPool", "GroupNorm", "Identity", "LayerNorm", "Logistic")),
    *("layers." + name for name in ("LocalResponseNorm", "MaxPool2d", "Parallel", "ReLU", "Residual")),
    *("layers." + name for name in ("Sequential", "Softplus", "Tanh", "ELU", "GELU", "LeakyReLU")),
    *("layers." + name for name in ("LogSigmoid", "SELU", "SiLU", "TanhGELU", "ChannelsLast")),
    *("layers." + name for name in ("RMSNorm", "Unscaled", "ZeroPad2d", "AdaptiveAvgPool2d", "AsImages")),
    *("layers." + name for name in ("AsSequences", "Conv1d", "Grouped", "OnSequences")),
)
def every_layer(a: Any) -> list:
    results: list = []
    branches = (layers.Sequential((layers.Conv2d(4, 3, 1), layers.Softplus())), layers.Identity())
    for parts in (
        [layers.Affine(2.0, 0.5), layers.Conv2d(3, 4, 3), layers.BatchNorm(4), layers.Logistic()],
        [layers.Conv2d(3, 4, 3), layers.LayerNorm(4), layers.ReLU(), layers.AvgPool2d(2)],
        [layers.Conv2d(3, 4, 3), layers.GroupNorm(2, 4), layers.Tanh(), layers.MaxPool2d(2)],
        [layers.Conv2d(3, 4, 3), layers.LocalResponseNorm(3), layers.Parallel(branches)],
        [layers.Conv2d(3, 4, 3), layers.GELU(), layers.TanhGELU(), layers.SiLU(), layers.LogSigmoid()],
        [layers.Conv2d(3, 4, 3), layers.LeakyReLU(), layers.ELU(), layers.SELU(), layers.RMSNorm(4)],
        [layers.ChannelsLast(), layers.Conv2d(6, 4, 3, padding=1), layers.Unscaled(layers.BatchNorm(4))],
        [layers.ZeroPad2d((1, 2, 1, 1)), layers.Conv2d(3, 4, 3, dilation=2), layers.Tanh()],
        [layers.Grouped(*[layers.Conv2d(1, 2, 3)] * 3), layers.MaxPool2d(2, ceil_mode=True)],
        [
            *(layers.Conv2d(3, 4, 3, padding=((1, 0), (0, 2))), layers.AdaptiveAvgPool2d((5, 1))),
            *(layers.AsSequences(), layers.Conv1d(4, 3, 2), layers.LayerNorm((4, 3)), layers.AsImages()),
            layers.AvgPool2d((3, 1), padding=(1, 0), ceil_mode=True, count_include_pad=False),
            *(layers.AsSequences(), layers.OnSequences(layers.MaxPool2d((2, 1)))),
        ],
        [layers.Conv2d(3, 4, 3), layers.Residual(layers.Conv2d(4, 4, 3, padding=1)), layers.Identity()],
    ):
        end = layers.GlobalAvgPool() if isinstance(parts[-1], layers.Identity) else layers.Flatten()
        head = mk.Network([*parts, end], outputs.Gaussian())
        net = mk.Network([*head.layers, layers.Dense(head.n_outputs(a.images), 5)], outputs.Categorical())
        theta = 0.3 * a.images.reshape(-1)[: net.n_params]
        tape = net.forward(theta, a.images, train=True)
        g = net.backward(theta, tape, net.output.gradient(tape.z, a.conv_labels))
        results += [tape.z, *tape.abar, *tape.s, *tape.stats, *g, net.jvp(theta, tape, 2 * theta)]
    return results


@case(
    *("outputs." + name for name in ("Bernoulli", "Categorical", "CategoricalPerPosition", "Gaussian")),
    *("outputs." + name for name in ("Output", "weighted")),
    *("outputs.Output." + name for name in ("terms", "n_terms", "errors", "check_weights")),
    *("outputs.Output." + name for name in ("nll", "losses", "mean", "encode", "gradient", "kl", "has")),
    *("outputs.Output." + name for name in ("fisher", "fisher_root", "fisher_product", "hessian_product")),
    *("outputs.Output." + name for name in ("transform_noise", "check", "check_form", "check_values")),
)
def output_distributions(a: Any) -> list:
    results: list = []
    soft = abs(a.z2) / abs(a.z2).sum(1, keepdims=True)
    xp, many = mk.array_module(a.z), outputs.CategoricalPerPosition(5)
    z, labels = xp.concatenate([a.z, a.z2], axis=1), xp.stack([a.labels % 2] * 5, axis=1)
    results += [many.losses(z, labels, many.check_weights(soft, z, 40, 10)), many.gradient(z, labels)]
    results += [many.mean(z), many.fisher_root(z), many.kl(z, 2 * z), many.errors(z, labels)]
    noise = xp.asarray(many.noise(np.random.default_rng(0), 40, 2, 10))
    results += [many.transform_noise(z, noise), many.has(labels, 10), many.encode(labels, z)]
    many.check(labels, 40, 10)
    pairs = ((outputs.Categorical(), a.labels), (outputs.Bernoulli(), a.y), (outputs.Gaussian(), a.z2))
    for output, y in (*pairs, (outputs.Categorical(), soft)):
        output.check(y, 40, 5)
        output.check_form(y, 40, 5)
        output.check_values(y, 5)
        weights = output.check_weights(abs(a.z[:, 0]), a.z, 40, 5)
        results += [output.terms(a.z, y), output.errors(a.z, y), output.losses(a.z, y, weights)]
        results += [outputs.weighted(a.z, weights), xp.asarray(output.n_terms(5))]
        results += [
            output.nll(a.z, y),
            output.losses(a.z, y),
            output.mean(a.z),
            output.encode(y, a.z),
            output.has(y, 5),
        ]
        results += [
            output.gradient(a.z, y),
            output.kl(a.z, a.z2),
            output.fisher(a.z),
            output.fisher_root(a.z),
        ]
        results += [output.fisher_product(a.z, a.z2), output.hessian_product(a.z, y, a.z2)]
        noise = xp.asarray(output.noise(np.random.default_rng(0), 40, 2, 5))
        results += [output.transform_noise(a.z, noise)]
    return results


def signals_of(a: Any, **options: Any) -> fisher.Signals:
    return fisher.signals(NET, a.theta, a.x, **options)


def conv_signals_of(a: Any, **options: Any) -> fisher.Signals:
    return fisher.signals(CONV, a.conv_theta, a.images, **options)


@case(
    *("fisher." + name for name in ("signals", "LayerSignals", "Signals", "gradient_and_kfac")),
    *("fisher.LayerSignals." + name for name in ("gradients", "along", "pieces", "second_moment")),
    *("fisher.LayerSignals." + name for name in ("summed_gradients",)),
    *("fisher.Signals." + name for name in ("from_layers", "index", "select", "total", "total_of_chunks")),
)
def signals(a: Any) -> list:
    results: list = []
    rng = np.random.default_rng(0)
    for of, y in ((signals_of, a.y), (conv_signals_of, a.conv_labels)):
        for options in ({}, {"y": y, "targets": "data"}, {"targets": "sampled", "rng": rng, "batch_size": 8}):
            for chunk in of(a, **options):
                for layer in chunk:
                    results += [layer.abar, layer.g, layer.gradients(), layer.second_moment()]
                    results += [layer.along(layer.gradients()[0, 0].reshape(layer.weight_shape))]
                    results += [
                        layer.summed_gradients(
                            layer.along(layer.gradients()[0, 0].reshape(layer.weight_shape))
                        )
                    ]
                    results += [piece.abar for piece in layer.pieces()]
        whole = of(a).select([0])
        assert whole.index(0) == 0
        results += [fisher.Signals.from_layers([whole[0]])[0].g]
        results += [*whole.total(lambda layer, n: (layer.g.sum((0, 1)) / n,))[0]]
        results += [*whole.total_of_chunks(lambda chunk, n: [(chunk[0].abar.sum(0) / n,)])[0]]
    estimates = fisher.gradient_and_kfac(NET, a.theta, a.x, a.y, rng=np.random.default_rng(0))
    coupled = fisher.gradient_and_kfac(
        CONV, a.conv_theta, a.images, a.conv_labels, targets="model", train=True
    )
    for estimate in (estimates, coupled):
        results += [float(estimate.loss), estimate.gradient, *estimate.stats, estimate.fisher.to_dense()]
    return results


MATRICES: dict[str, Callable[[Any], fisher.FisherMatrix]] = {
    "exact": lambda a: fisher.exact(signals_of(a)),
    "block_diagonal": lambda a: fisher.block_diagonal(conv_signals_of(a)),
    "diagonal": lambda a: fisher.diagonal(conv_signals_of(a)),
    "kfac": lambda a: fisher.kfac(conv_signals_of(a)),
    "foof": lambda a: fisher.foof(conv_signals_of(a)),
    "khatri_rao": lambda a: fisher.khatri_rao(signals_of(a)),
    "block_tridiagonal": lambda a: fisher.block_tridiagonal(signals_of(a)),
    "ekfac": lambda a: fisher.ekfac(conv_signals_of(a)),
    "nearest_kronecker": lambda a: fisher.nearest_kronecker(signals_of(a)),
    "low_rank": lambda a: fisher.low_rank(signals_of(a), 24),
    "mixed": lambda a: fisher.mixed(conv_signals_of(a), {0: "exact"}),
    "fully_correlated": lambda a: fisher.fully_correlated(conv_signals_of(a).select([0, 4])),
    "ladder": lambda a: fisher.ladder(conv_signals_of(a).select([0]), {"IAD", "SUD"}),
    "Kronecker": lambda a: fisher.Kronecker([(a.M, a.N)]),
}
KINDS = ("BlockDiagonal", "BlockTridiagonal", "DenseMatrix", "DiagonalBlock", "EigenBlock", "FisherMatrix")
KINDS += ("KroneckerBlock", "LowRank", "Operator")
PROTOCOL = ("__matmul__", "damped", "diagonal", "inverse", "logdet", "solve", "to_dense", "trace")


def _protocol(name: str) -> Callable[[Any], list]:
    def protocol(a: Any) -> list:
        F = MATRICES[name](a)
        v = mk.array_module(a.v).concatenate([a.v, a.conv_v])[: F.shape[0]]
        V = mk.array_module(v).stack([v, v[::-1]], axis=1)
        inverse, damped = F.inverse(damping=DAMPING), F.damped(DAMPING)
        products = [F @ v, F @ V, F.to_dense(), F.diagonal(), F.trace(), F.logdet(DAMPING), damped @ v]
        return [
            *products,
            F.solve(V, damping=DAMPING),
            inverse @ v,
            inverse.to_dense(),
            F.blocks[0].to_dense(),
        ]

    protocol.__name__ = f"matrix_{name}"
    return protocol


for _name in MATRICES:
    _covered = [f"fisher.{_name}"]
    if _name == "kfac":
        _covered += [f"fisher.{kind}" for kind in KINDS]
        _covered += [f"fisher.FisherMatrix.{method}" for method in PROTOCOL]
    case(*_covered, loose=_name in ("nearest_kronecker", "block_tridiagonal"))(_protocol(_name))


@case()
def other_inverses(a: Any) -> list:
    results: list = []
    for name in ("kfac", "exact", "block_diagonal", "ekfac", "diagonal", "mixed"):
        F = MATRICES[name](a)
        v = mk.array_module(a.v).concatenate([a.v, a.conv_v])[: F.shape[0]]
        results += [F.inverse(damping=DAMPING, explicit=True) @ v]
    F = fisher.kfac(signals_of(a))
    options = dict(damping=DAMPING, method="factored")
    results += [F.solve(a.V, **options), F.inverse(**options, explicit=True) @ a.V, F.logdet(**options)]
    K = fisher.Kronecker([(a.M, a.N)])
    return [*results, K.solve(a.c), K.inverse(pseudo_inverse=True) @ a.c, F.damped(DAMPING, "factored") @ a.v]


@case("fisher.factored_damping", "fisher.tikhonov_eigenvalues")
def damping(a: Any) -> list:
    values = linalg.eigh(a.M)[0], linalg.eigh(a.N)[0]
    return [*fisher.factored_damping(a.M, a.N, DAMPING), fisher.tikhonov_eigenvalues(*values, DAMPING)]


@case(*("fisher." + name for name in ("product", "gauss_newton", "hessian", "MatrixFree")), loose=True)
def matrix_free(a: Any) -> list:
    results: list = []
    for F in (
        fisher.product(NET, a.theta, a.x),
        fisher.gauss_newton(NET, a.theta, a.x, a.y),
        fisher.hessian(NET, a.theta, a.x, a.y).damped(5.0),
    ):
        results += [F @ a.v, F @ a.V, F.solve(a.v, damping=3.0)]
    return results


@case("fisher.joint")
def joint(a: Any) -> list:
    return [fisher.joint(CONV, a.conv_theta, a.images[:4]).array]


@case(
    *("laplace." + name for name in ("Laplace", "calibration_error")),
    *("laplace.Laplace." + name for name in ("covariance_product", "log_evidence", "outputs", "predict")),
    *("laplace.Laplace." + name for name in ("precision_product", "sample", "with_best_prior")),
    *("fisher.FisherMatrix." + name for name in ("root_product", "eigenvalues")),
    loose=True,
)
def posteriors(a: Any) -> list:
    net, theta, x, y = LABELLED, a.theta, a.x, a.labels
    results: list = []
    for build in (fisher.exact, fisher.kfac, fisher.diagonal):
        F = build(fisher.signals(net, theta, x))
        p = laplace.Laplace(net, theta, F, x, y, 0.5)
        results += [p.covariance_product(a.v), p.precision_product(a.V), p.log_evidence(), *p.outputs(x)]
        results += [p.sample(3, np.random.default_rng(0)), p.predict(x)]
        results += [p.predict(x, 3, np.random.default_rng(0)), p.with_best_prior().covariance_product(a.v)]
    K = fisher.kfac(fisher.signals(net, theta, x))
    factored = laplace.Laplace(net, theta, K, x, y, method="factored")
    results += [factored.sample(3, np.random.default_rng(0)), F.root_product(a.v), K.eigenvalues()]
    return [*results, laplace.calibration_error(p.predict(x), y)]


@case("interop.convert", "interop.convert_from", "interop.flat_order", "interop.ForeignBlock")
def conventions_of_others(a: Any) -> list:
    K = fisher.kfac(signals_of(a))
    theirs = interop.convert(K, NET, a.x, to="curvlinops")
    back = interop.convert_from(theirs, NET, a.x, source="curvlinops")
    flat = interop.convert(K.to_dense(), NET, a.x, to="curvlinops")
    factors = [factor for block in theirs for factor in block.factors]
    return [*factors, back.to_dense(), flat, a.theta[interop.flat_order(NET, a.x, "curvlinops")]]


@case(
    "fisher.FisherMatrix.to_scipy",
    most=10**6,
    why="SciPy's operators take vectors of the host",
)
def scipy_operator(a: Any) -> list:
    F = fisher.kfac(signals_of(a))
    return [np.float64((F.to_scipy() @ np.ones(NET.n_params)).sum())]


@case(
    *("linalg." + name for name in ("cholesky", "cholesky_inverse", "cholesky_solve", "damped_choleskys")),
    *("linalg." + name for name in ("triangular_solve", "eigh", "pseudo_inverse", "symmetrize", "invert")),
    *("linalg." + name for name in ("kron_apply", "kron_dense", "kron_eigen_dense", "kron_sum_solver")),
    *("linalg." + name for name in ("Sums", "sum_over_chunks", "relative_error", "best_scalar")),
)
def linear_algebra(a: Any) -> list:
    L = linalg.cholesky(a.M)
    values, U = linalg.eigh(a.M)
    K1, K2, scale = linalg.kron_sum_solver(a.M, a.N, a.M / 2, a.N / 2, -1)
    sums = linalg.sum_over_chunks(lambda rows, sums: sums.add_gram("A", a.b[rows]), [slice(0, 8)], a.b)
    results = [L, linalg.cholesky_solve(L, a.b), linalg.triangular_solve(L, a.b, transposed=True)]
    ((L_M, L_N),) = linalg.damped_choleskys([((a.M, "M", 0.5), (a.N, "N", 0.5))], 0.25)
    results += [L_M, L_N, linalg.cholesky_inverse(L)]
    results += [values, (U * values) @ U.T, linalg.pseudo_inverse(a.M), linalg.symmetrize(a.b @ a.b.T)]
    results += [linalg.invert(a.M), linalg.kron_apply(a.M, a.N, a.c), linalg.kron_dense(a.M, a.N)]
    results += [linalg.kron_eigen_dense(a.M, a.N, a.c.reshape(8, 7)), sums["A"]]
    results += [linalg.relative_error(a.M, 2 * a.M), linalg.best_scalar(2 * a.M, a.M)]
    return [*results, linalg.kron_apply(K1, K2, (scale * (K1.T @ a.c.reshape(8, 7) @ K2)).reshape(-1))]


@case("linalg.rank", most=64, why="LAPACK's factorization with pivoting is on the host; only errors need it")
def numerical_rank(a: Any) -> list:
    return [linalg.rank(a.M)]


@case(
    *("linalg." + name for name in ("conjugate_gradients", "extreme_eigenpairs", "krylov_subspace")),
    *("linalg." + name for name in ("CGResult", "Subspace")),
    loose=True,
    most=200,
    why="the stand-in's Lanczos iteration is SciPy's",
)
def krylov_methods(a: Any) -> list:
    F = fisher.kfac(signals_of(a)).damped(0.3)
    cg = linalg.conjugate_gradients(lambda v: F @ v, a.v, precondition=lambda r: r / F.diagonal())
    V, T = linalg.krylov_subspace(lambda v: F @ v, a.v, 3)
    values, vectors = linalg.extreme_eigenpairs(lambda v: F @ v, a.v, 2)
    return [cg.x, V.T @ T @ V, values, abs(vectors)]


@case(
    *(
        "reparam." + name
        for name in ("logistic_to_tanh", "affine", "random", "rescale", "Reparameterization")
    ),
    *(
        "reparam.Reparameterization." + name
        for name in ("push", "pull", "push_step", "pull_step", "__matmul__")
    ),
    "reparam.LayerMap",
)
def reparameterizations(a: Any) -> list:
    rng = np.random.default_rng(0)
    logistic, relu = (mk.mlp([6, 8, 5], kind, "bernoulli") for kind in ("logistic", "relu"))
    first = reparam.logistic_to_tanh(logistic)
    results: list = []
    for r in (
        first,
        reparam.random(first.net, rng) @ first,
        reparam.affine(NET, 0, U=2.0, c=0.5, V=3.0, d=0.1),
        reparam.rescale(relu, rng=rng),
    ):
        moved = r.push(a.theta)
        results += [moved, r.pull(moved), r.push_step(a.v), r.pull_step(a.v), r.net.gradient(moved, a.x, a.y)]
    return results


@case(
    *("reparam." + name for name in ("center", "normalize", "whiten", "whiten_derivatives", "whiten_colors")),
    most=2000,
    why="the constants of a map are on the host, in double precision; those of colors are made there too",
)
def maps_made_from_data(a: Any) -> list:
    results: list = []
    for make in (reparam.center, reparam.normalize, reparam.whiten):
        r = make(NET, a.theta, a.x)
        results += [r.push(a.theta), r.net.gradient(r.push(a.theta), a.x, a.y)]
    results += [reparam.whiten_derivatives(NET, a.theta, a.x).push(a.theta)]
    colors = reparam.whiten_colors(CONV, a.images)
    return [*results, colors.push(a.conv_theta)]


@case(
    *("quality." + name for name in ("compare", "Comparison", "Reference", "ledger", "layer_ledger")),
    "quality.spectrum",
    *("quality." + name for name in ("gradients_of", "held_out", "log_density")),
    "scaling.noise_scale",
    loose=True,
    most=200,
    why="the stand-in's Lanczos iteration is SciPy's",
)
def measures(a: Any) -> list:
    signals = signals_of(a)
    F, grad = fisher.exact(signals), NET.gradient(a.theta, a.x, a.y)
    near = {"K-FAC": fisher.kfac(signals), "diagonal": fisher.diagonal(signals)}
    rows = quality.compare(F, near, grad, DAMPING).to_dicts()
    rows += quality.ledger(signals, grad, DAMPING) + quality.layer_ledger(signals, 0, grad, DAMPING)
    numbers = [
        value
        for row in rows
        for key, value in sorted(row.items())
        if type(value) is float and "seconds" not in key
    ]
    D = quality.gradients_of(signals_of(a, targets="sampled", rng=np.random.default_rng(0)))
    models = [row["nats"] for row in quality.held_out(near, D[::2], D[1::2], [0.1, 1.0])]
    batch = scaling.noise_scale(D, D.mean(0), F.__matmul__, near["K-FAC"].inverse(DAMPING).__matmul__)
    return [quality.spectrum(F), *numbers, *models, batch]


@case(
    *("quality." + name for name in ("compare_by_products", "ProductReference")),
    *("fisher." + name for name in ("estimate_trace", "estimate_diagonal", "spectral_density")),
    *("fisher." + name for name in ("Estimate", "SpectralDensity", "FisherMatrix.norm")),
    loose=True,
    most=200,
    why="a Lanczos iteration is diagonalized on the host",
)
def by_products(a: Any) -> list:
    signals, F = signals_of(a), fisher.product(NET, a.theta, a.x)
    grad = NET.gradient(a.theta, a.x, a.y)
    near = {"K-FAC": fisher.kfac(signals), "diagonal": fisher.diagonal(signals)}
    table = quality.compare(F, near, grad, DAMPING)
    rows = table.whole() + quality.ledger(signals, grad, DAMPING, F)
    numbers = [row[key] for row in rows for key in ("error", "step_cosine", "share", "c_star")]
    inverse = near["K-FAC"].inverse(DAMPING, explicit=True)
    density = fisher.spectral_density(F.damped(DAMPING), 4, 2, precondition=inverse)
    sums = [(2 * M + M) @ a.v for M in (F, fisher.exact(signals), near["diagonal"])]
    diagonal = fisher.estimate_diagonal(F, 12)
    results = [*numbers, *(near["K-FAC"].norm(), near["diagonal"].norm()), *sums, *diagonal]
    return [*results, *fisher.estimate_trace(F, 12), density.highest[0], F.blocks[1] @ a.v[56:]]


OPTIMIZERS: dict[str, Callable[[mk.Network], Any]] = {
    "SGD": lambda net: optim.SGD(net, 0.1, 0.9, l2=1e-3),
    "Adam": lambda net: optim.Adam(net, 0.01),
    "DiagonalNaturalGradient": lambda net: optim.DiagonalNaturalGradient(net, 0.01, 0.9),
    "LowRank": lambda net: optim.LowRank(net, 0.01, rank=30),
    "NaturalGradient": lambda net: optim.NaturalGradient(net, 0.1, damping=0.1),
    "EKFAC": lambda net: optim.EKFAC(net, 0.01, T3=2),
    "KFCPre": lambda net: optim.KFCPre(net, 0.05, Tf=3),
    "KFAC": lambda net: optim.KFAC(net, T1=2, T2=4, T3=3),
    "HessianFree": lambda net: optim.HessianFree(net, max_iterations=5),
    "KrylovSubspace": lambda net: optim.KrylovSubspace(net, K=3, search="model"),
}
STEPS = 6
NOT_ON_FEW_EXAMPLES = ("EKFAC", "HessianFree", "KrylovSubspace", "NaturalGradient")
"""EKFAC: which eigenvectors a factor has for eigenvalues of 0 is a routine's choice. The others: slow."""


def _steps(name: str) -> Callable[[Any], list]:
    def steps(a: Any) -> list:
        results: list = []
        for net, theta, batch in (
            (NET, a.theta, (a.x, a.y)),
            (CONV, a.conv_theta, (a.images, a.conv_labels)),
        ):
            if net is CONV and name in NOT_ON_FEW_EXAMPLES:
                continue
            opt = OPTIMIZERS[name](net)
            state = opt.init(theta)
            for step in range(STEPS):
                theta, state, info = opt.step(theta, state, batch, np.random.default_rng([0, step]))
                results += [info[key] for key in ("loss", "lam", "model", "nu") if key in info]
            results += [theta, *(state[key] for key in ("velocity", "delta") if key in state)]
        return results

    steps.__name__ = f"steps_of_{name}"
    return steps


for _name in OPTIMIZERS:
    _small_problem = _name == "KrylovSubspace"
    case(
        f"optim.{_name}",
        most=64 if _small_problem else SMALL,
        why="the problem in the small space is solved on the host" if _small_problem else "",
        loose=True,
    )(_steps(_name))


@case(
    "optim.QuadraticModel", *("optim.QuadraticModel." + name for name in ("along", "of", "minimum", "value"))
)
def quadratic_model(a: Any) -> list:
    grad = NET.gradient(a.theta, a.x, a.y)
    model = QuadraticModel.along(NET, a.theta, a.x, grad, [-grad, a.v], DAMPING)
    return [*model.slope, *model.curvature[0], *model.minimum(), model.value(model.minimum())]


def dataset_of(a: Any) -> datasets.Dataset:
    """Points for training, on the host always: they go to theta by themselves."""
    x, y = (mk.to_host(array) for array in (a.x, a.labels))
    return datasets.Dataset(x[:30], y[:30], x[30:], y[30:], "points")


def trained(name: str, device: str, steps: int = 8, **options: Any) -> training.History:
    """A small run that is measured and, with ``keep``, leaves checkpoints; the data are on the host."""
    net, theta, data = problem()
    opt = RESUMED[name](net)
    theta = mk.to_device(theta, device)
    return training.train(net, theta, opt, data, steps, 16, 0, 4, progress=False, averaging=80, **options)


RESUMED: dict[str, Callable[[mk.Network], Any]] = {
    "SGD": lambda net: optim.SGD(net, 0.1, 0.9),
    "KFAC": lambda net: optim.KFAC(net, T1=2, T2=4, T3=3),
    "KFCPre": lambda net: optim.KFCPre(net, 0.1, Tf=3),
}


@case(
    "training.train",
    "training.History",
    "training.PerStep",
    most=10**4,
    why="the data are made on the host here, and a measurement ends with a look at theta",
    loose=True,
)
def training_runs(a: Any) -> list:
    opt = optim.KFCPre(LABELLED, 0.05, Tf=2)
    averaging = training.PerStep(0.9)
    history = training.train(
        LABELLED, a.theta, opt, dataset_of(a), 5, 10, 0, 2, progress=False, averaging=averaging
    )
    losses = [row["loss"] for row in history.records]
    return [history.theta, history.average, *losses, *history["test_error"]]


@case(
    "tour.fisher_study",
    "tour.Study",
    loose=True,
    most=200,
    why="the stand-in's Lanczos iteration is SciPy's",
)
def study(a: Any) -> list:
    chosen = ["K-FAC", "diagonal", "no curvature"]
    study = tour.fisher_study(NET, a.theta, a.x, a.y, chosen, progress=False)
    rows = study.table.whole()
    return [study.F.array, study.gradient, *(row["error"] for row in rows), *(row["share"] for row in rows)]


@case(
    "races.race",
    "races.Race",
    most=10**4,
    why="as for training: the data are on the host",
    loose=True,
)
def race(a: Any) -> list:
    contenders = {"SGD": optim.SGD(LABELLED, 0.1), "K-FAC": optim.KFAC(LABELLED, T3=2)}
    comparison = races.race(LABELLED, a.theta, contenders, dataset_of(a), 3, batch_size=10, progress=False)
    return [runs[0].records[-1]["loss"] for runs in comparison.histories.values()]


@case(
    *("plots." + name for name in ("matrices", "block_means", "spectra")),
    *("plots." + name for name in ("gradient_scatter", "mean_derivatives")),
    *("plots." + name for name in ("kronecker_factors", "kfac_picture", "matrix_rows")),
    most=10**6,
    why="matplotlib draws on the host",
)
def figures(a: Any) -> list:
    import matplotlib.pyplot as plt

    plt.close("all")  # what other tests drew
    signals = signals_of(a)
    F, near = fisher.exact(signals), fisher.kfac(signals)
    sizes = [signals.slices[l].stop - signals.slices[l].start for l in range(2)]
    plots.matrices(F.array, {"K-FAC": near.to_dense()}, signals.names, sizes)
    plots.block_means(F.array, sizes)
    plots.matrix_rows({"F": {"F": F.array, "K-FAC": near.to_dense()}}, signals.names, sizes)
    factors = [(block.A, block.G) for block in near.blocks]
    plots.kronecker_factors(F.array[: sizes[0], : sizes[0]], *factors[0])
    plots.kfac_picture(F.array, factors, signals.names, 1)
    plots.spectra({"exact": quality.spectrum(F.damped(DAMPING)), "K-FAC": quality.spectrum(near)})
    plots.gradient_scatter(signals[0].gradients()[0, :, :2], F.array[:2, :2])
    plots.mean_derivatives(a.z.mean(0), a.z2.mean(0))
    drawn = len(plt.get_fignums())
    plt.close("all")
    return [drawn]


@case(
    "array_module",
    "to_host",
    "to_device",
    "use_device",
    "mlp",
    "Network",
    most=10**3,
    why="to_host is asked for",
)
def moves(a: Any) -> list:
    xp = mk.array_module(a.x)
    assert (xp is np) == isinstance(a.x, np.ndarray)
    return [np.float64(mk.to_host(a.x).sum())]


# without a case --------------------------------------------------------------

_DRAWS = "draws numbers by a generator, on the host"
_RECORDS = "reads records, which are on the host"
_OWN = "a study on arrays of its own making, on the host"
_ABSTRACT = "a base class, used by its subclasses"
_DATA = "loads or makes data, on the host"
HOST: dict[str, str] = {
    "Network.init": _DRAWS,
    "outputs.Output.noise": _DRAWS,
    "outputs.Output.sample": "draws on the host; what it makes of it is transform_noise",
    "interop.from_torch": "reads PyTorch's weights on the host",
    "interop.stats_from_torch": "reads PyTorch's statistics on the host",
    "from_torch": "reads PyTorch's weights on the host",
    "stats_from_torch": "reads PyTorch's statistics on the host",
    "reparam.Reparameterization.jacobian": "forms constants on the host, for small nets",
    "linalg.SingularMatrixError": "an error",
    "linalg.consecutive": "slices from sizes",
    "interop.loss_scale": "a number from names and sizes",
    "interop.scale_causes": "words from numbers",
    "explore": "signals, exact and compare, one after the other",
    "fisher.FisherMatrix.plot": "draws on the host",
    "fisher.Signals.plot": "draws on the host",
    "quality.applicable": "reads shapes",
    "quality.format_cell": "writes text",
    "quality.over_seeds": "averages rows of numbers",
    "training.example": _OWN,
    **{
        f"layers.{name}": _ABSTRACT
        for name in ("Composite", "Layer", "Normalization", "ParameterLayer", "Pointwise")
    },
    **{f"layers.{name}": "a type" for name in ("Record", "Shape")},
    **{name: "describes a net; no arrays" for name in public_names() if name.startswith("presets.")},
    **{
        f"tour.{name}": _OWN
        for name in ("ascents", "conditioning", "convnet", "coupling", "damping_study", "exactness")
    },
    **{
        f"tour.{name}": _OWN
        for name in ("gaussian_flows", "layer_maps", "map_statistics", "shifted_products")
    },
    **{f"tour.{name}": _OWN for name in ("tissot", "tour", "write_report")},
    **{f"races.{name}": _OWN for name in ("problem", "random_search", "recipe", "recipes_for")},
    **{"scaling.batch_sweep": _OWN},
    **{
        name: "settings or results"
        for name in (
            "training.Example",
            "training.ExponentialBatches",
            "training.Keep",
            "tour.Run",
            "tour.Settings",
            "tour.Tour",
            "tour.Written",
            "races.Problem",
            "races.Recipe",
            "races.Search",
            "scaling.Budget",
            "scaling.Scaling",
        )
    },
    **{f"datasets.{name}": _DATA for name in datasets.__all__},
}

_DRAWN = {name for case in CASES for name in case.names}
HOST |= {
    name: "draws what :func:`minikfac.to_host` or a record gave it"
    for name in public_names()
    if name.startswith("plots.") and name not in _DRAWN
}
