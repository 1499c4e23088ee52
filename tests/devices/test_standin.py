"""The code of a GPU, run without one: arrays that refuse to mix with the host's stand in for CuPy's.

What they cannot show is CuPy's own arithmetic and memory; tests marked ``gpu`` do.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

import minikfac as mk
from conftest import missing
from minikfac import fisher, linalg, outputs
from oracles import ACTIVATIONS, EXACT, OUTPUTS, close, random_net, random_psd, standin
from oracles.cupy_calls import Call, calls
from oracles.pages import script


@pytest.fixture(autouse=True)
def cupy():
    with standin.installed() as module:
        yield module


def same(compute: Callable[..., list], *arrays: np.ndarray, tolerance: float = EXACT) -> None:
    """``compute`` gives device arrays for device arrays, with the numbers that it gives on the host."""
    expected = compute(*arrays)
    results = compute(*map(mk.to_device, arrays))
    for a, b in zip(results, expected, strict=True):
        if isinstance(b, np.ndarray):
            assert isinstance(a, standin.ndarray)
            assert a.dtype == b.dtype
        close(mk.to_host(a), b, tolerance)


# the stand-in itself --------------------------------------------------------------


@pytest.mark.parametrize(
    "mix",
    [
        lambda host, device: host + device,
        lambda host, device: device @ host,
        lambda host, device: np.concatenate([host, device]),
        lambda host, device: standin.CUPY.concatenate([host, device]),
        lambda host, device: device.dot(host),
        lambda host, device: device[host > 0],
        lambda host, device: device.__setitem__(0, host[0:1]),
        lambda host, device: np.add(host, device, out=host),
        lambda host, device: np.asarray(device),
        lambda host, device: host.dot(device),
    ],
)
def test_the_stand_in_refuses_host_arrays(mix):
    with pytest.raises(TypeError, match=r"host array beside a device array|implicit conversion"):
        mix(np.ones(3), mk.to_device(np.ones(3)))


def test_the_stand_in_keeps_even_numbers_on_device():
    x = mk.to_device(np.arange(4.0))
    for result in (x.sum(), x[2], abs(x).max(), -x, x[1:], x.T, x * np.float64(2), np.tanh(x), 1 / (1 + x)):
        assert isinstance(result, standin.ndarray)
    view = x[1:]
    view += 1
    assert mk.to_host(x).tolist() == [0, 2, 3, 4]


# networks --------------------------------------------------------------


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_passes_stay_on_the_device(activation, output, bias):
    net, theta, x, y = random_net(np.random.default_rng(0), (4, 5, 3), activation, output, bias=bias)

    def passes(theta, x, y):
        tape = net.forward(theta, x)
        b = net.output.fisher_root(tape.z)
        gradient = net.loss_and_gradient(theta, x, y)[1]
        products = [net.jvp(theta, tape, gradient), net.vjp(theta, tape, b[0])]
        products += [net.hessian_product(theta, tape, y, gradient)]
        more = [gradient, net.predict(theta, x), *net.unpack(theta), net.pack(net.unpack(theta))]
        return [tape.z, *tape.abar, *tape.s, *net.backward(theta, tape, b), *products, *more]

    same(passes, theta, x, y)
    same(lambda theta, x, y: [net.loss(theta, x, y), net.kl(theta, 2 * theta, x)], theta, x, y)


@pytest.mark.parametrize("name", OUTPUTS)
def test_output_distributions_stay_on_the_device(name):
    output: outputs.Output = outputs.OUTPUTS[name]()
    z = np.random.default_rng(0).standard_normal((5, 3))
    noise = output.noise(np.random.default_rng(1), 5, 4, 3)
    same(lambda z: [output.fisher(z), output.kl(z, 2 * z), output.mean(z)], z)
    same(lambda z, noise: [output.transform_noise(z, noise)], z, noise)


def test_errors_on_the_device_read_as_on_the_host():
    net, theta, x, _ = random_net(np.random.default_rng(0))
    device = [mk.to_device(array) for array in (theta, x, np.array([0, 1, 2, 3, 0, 1]))]
    with pytest.raises(ValueError, match=r"expected labels in 0\.\.2, got values from 0 to 3"):
        net.loss(*device)


# Fisher matrices --------------------------------------------------------------

MATRICES: dict[str, Callable] = {
    "exact": fisher.exact,
    "block_diagonal": fisher.block_diagonal,
    "diagonal": fisher.diagonal,
    "kfac": fisher.kfac,
    "khatri_rao": fisher.khatri_rao,
    "block_tridiagonal": fisher.block_tridiagonal,
    "ekfac": fisher.ekfac,
    "nearest_kronecker": fisher.nearest_kronecker,
    "low_rank": lambda signals: fisher.low_rank(signals, 4),
    "mixed": lambda signals: fisher.mixed(signals, {0: "exact"}),
}
NET, THETA, X, Y = random_net(np.random.default_rng(0), (3, 4, 2), output="bernoulli", n=40)
V = np.random.default_rng(1).standard_normal((NET.n_params, 2))


@pytest.mark.parametrize("options", [{}, {"batch_size": 16}])
@pytest.mark.parametrize("targets", ["model", "sampled", "data"])
def test_signals_stay_on_the_device(targets, options):
    def signals(theta, x, y):
        rng = np.random.default_rng(0) if targets == "sampled" else None
        chunks = fisher.signals(NET, theta, x, y if targets == "data" else None, targets, rng=rng, **options)
        return [array for chunk in chunks for layer in chunk for array in (layer.abar, layer.g)]

    same(signals, THETA, X, Y)


@pytest.mark.parametrize("name", MATRICES)
def test_products_with_a_fisher_matrix_stay_on_the_device(name):
    def products(theta, x, v):
        F = MATRICES[name](fisher.signals(NET, theta, x))
        return [F @ v, F @ v[:, 0], F.to_dense(), F.diagonal(), F.trace()]

    same(products, THETA, X, V)


@pytest.mark.parametrize("name", MATRICES)
def test_solves_with_a_fisher_matrix_stay_on_the_device(name):
    def solves(theta, x, v):
        F = MATRICES[name](fisher.signals(NET, theta, x))
        inverse = F.inverse(damping=0.1)
        damped = F.damped(0.1)
        return [F.solve(v, damping=0.1), inverse @ v[:, 0], inverse.to_dense(), damped @ v, F.logdet(0.1)]

    same(solves, THETA, X, V)


@pytest.mark.parametrize("name", ["kfac", "exact", "block_diagonal", "ekfac", "diagonal", "mixed"])
@pytest.mark.parametrize("options", [{"explicit": True}, {"pseudo_inverse": True, "damping": 0.0}])
def test_other_inverses_stay_on_the_device(name, options):
    def inverses(theta, x, v):
        F = MATRICES[name](fisher.signals(NET, theta, x))
        return [F.inverse(**{"damping": 0.1, **options}) @ v]

    same(inverses, THETA, X, V, tolerance=1e-8)


def test_factored_damping_stays_on_the_device():
    def solves(theta, x, v):
        F = fisher.kfac(fisher.signals(NET, theta, x))
        options = dict(damping=0.1, method="factored")
        return [F.solve(v, **options), F.inverse(**options, explicit=True) @ v, F.logdet(**options)]

    same(solves, THETA, X, V)


@pytest.mark.parametrize("make", [fisher.product, fisher.gauss_newton, fisher.hessian])
def test_matrix_free_products_and_solves_stay_on_the_device(make):
    def solve(theta, x, y, v):
        F = make(NET, theta, x) if make is fisher.product else make(NET, theta, x, y)
        return [F @ v, F.solve(v, damping=3.0)]

    same(solve, THETA, X, Y, V, tolerance=1e-8)


def test_low_rank_by_lanczos_stays_on_the_device():
    net, theta, x, _ = random_net(np.random.default_rng(0), (60, 20, 3), n=30)
    assert net.n_params > 1000  # fewer are decomposed whole
    v = np.random.default_rng(1).standard_normal(net.n_params)
    same(
        lambda theta, x, v: [fisher.low_rank(fisher.signals(net, theta, x), 5) @ v],
        *(theta, x, v),
        tolerance=1e-8,
    )


def test_a_matrix_for_scipy_takes_vectors_of_the_host():
    F = fisher.kfac(fisher.signals(NET, *map(mk.to_device, (THETA, X))))
    product = F.to_scipy() @ V
    assert isinstance(F.to_scipy(), sparse.linalg.LinearOperator) and isinstance(product, np.ndarray)
    close(product, fisher.kfac(fisher.signals(NET, THETA, X)) @ V)


def test_a_matrix_on_the_device_refuses_host_vectors():
    F = fisher.kfac(fisher.signals(NET, *map(mk.to_device, (THETA, X))))
    with pytest.raises(
        TypeError, match="expected all arrays on one device, got the matrix on cuda:0, the vector on the host"
    ):
        F @ V


# linear algebra --------------------------------------------------------------


def test_linear_algebra_stays_on_the_device():
    M, N = random_psd(np.random.default_rng(0), 6), random_psd(np.random.default_rng(1), 4)
    b = np.random.default_rng(2).standard_normal((6, 3))

    def compute(M, N, b):
        L = linalg.cholesky(M)
        solves = [linalg.cholesky_solve(L, b), linalg.triangular_solve(L, b, transposed=True)]
        values, vectors = linalg.eigh(M)
        sums = linalg.kron_sum_solver(M, N, M / 2, N / 2, -1)
        inverses = [linalg.cholesky_inverse(L), linalg.pseudo_inverse(M), sums[2]]
        cg = linalg.conjugate_gradients(lambda v: M @ v, b[:, 0], precondition=lambda r: r / M.diagonal())
        return [L, *solves, *inverses, values, abs(vectors), cg.x, linalg.kron_dense(M, N), linalg.rank(M)]

    same(compute, M, N, b)


@pytest.mark.parametrize("n", [20, 90])
@pytest.mark.parametrize("which", ["LA", "SA", "LM"])
def test_extreme_eigenpairs_stay_on_the_device(n, which):
    M = random_psd(np.random.default_rng(0), n)

    def pairs(M):
        values, vectors = linalg.extreme_eigenpairs(lambda v: M @ v, M[0], 2, which)
        return [values, abs(vectors)]

    same(pairs, M, tolerance=1e-7)


@pytest.mark.parametrize("M", [np.ones((3, 3)), np.diag([1.0, -1.0, 1.0])])
def test_singular_matrices_on_the_device_are_named(M):
    with pytest.raises(linalg.SingularMatrixError, match=r"F \(3 x 3\) has numerical rank [12]"):
        linalg.cholesky(mk.to_device(M), "F")


def test_cholesky_has_cupy_report_a_breakdown(monkeypatch):
    """Left to its default, CuPy would return whatever was in memory when the factorization stopped."""
    imported = []
    errstate = standin.MODULES["cupyx"].errstate

    def record(linalg):
        imported.append(linalg)
        return errstate(linalg)

    monkeypatch.setattr(standin.MODULES["cupyx"], "errstate", record)
    linalg.cholesky(mk.to_device(np.eye(2)))
    assert imported == ["raise"]


# calls --------------------------------------------------------------

FROZEN = json.loads((Path(__file__).parents[1] / "data" / "cupy_signatures.json").read_text(encoding="utf-8"))
"""What CuPy takes, of the version that it names; tests/data/make/freeze_cupy.py made it."""


def refused(call: Call, table: dict[str, dict[str, Any]]) -> str | None:
    """Why CuPy would not take a call."""
    taken = table["methods" if call.is_method else "functions"].get(call.name)
    if taken is None:
        return f"{call.where}: {call.name} is not in the table; run tests/data/make/freeze_cupy.py"
    strange = [name for name in call.keywords if name not in taken["keywords"]]
    if strange or (taken["positional"] is not None and call.positional > taken["positional"]):
        return (
            f"{call.where}: {call.name} takes {taken}, got {call.positional} by position and {call.keywords}"
        )
    return None


def test_every_array_call_is_one_of_cupy():
    recorded = list(calls())
    names = {call.name for call in recorded}
    assert {
        "tanh",
        "linalg.eigh",
        "einsum",
        "log",
        "sum",
        "reshape",
    } <= names  # by either root, dotted or not
    assert any(call.keywords == ("keepdims",) for call in recorded)
    assert [why for call in recorded if (why := refused(call, FROZEN))] == []


@pytest.mark.parametrize(
    "call",
    [
        Call("linalg.eigh", False, 1, ("subset_by_index",), "here"),
        Call("max", True, 0, ("initial",), "here"),
        Call("maximum", False, 2, ("where",), "here"),
        Call("linalg.svd", False, 4, (), "here"),
        Call("linalg.no_such_name", False, 1, (), "here"),
    ],
)
def test_what_numpy_alone_takes_is_found(call):
    assert "here: " in refused(call, FROZEN)


def test_every_name_exists_in_numpy_too():
    for call in calls():
        place = np.ndarray if call.is_method else np
        for part in call.name.split("."):
            place = getattr(place, part)


@pytest.mark.skipif(missing("cupy") is not None, reason="not installed: cupy")
def test_the_cupy_that_is_installed_takes_every_call(monkeypatch):
    for name in standin.MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    table = script("tests/data/make/freeze_cupy.py").table()
    assert [why for call in calls() if (why := refused(call, table))] == []


def test_curvature_along_the_step_stays_on_the_device_until_the_step_ends():
    net, theta, x, y = random_net(np.random.default_rng(0), (4, 5, 3))
    for make in (
        lambda: mk.optim.KFAC(net, curvature=True),
        lambda: mk.optim.KFCPre(net, 0.1, curvature=True),
    ):
        infos = []
        for move in (np.asarray, mk.to_device):
            at, opt = move(theta), make()
            batch = (move(x), move(y))
            infos.append(opt.step(at, opt.init(at), batch, np.random.default_rng(0))[2])
        assert infos[0].keys() == infos[1].keys() >= {"curvature/dense0", "curvature"}
        assert all(isinstance(value, float) for value in infos[1].values())
        close(list(infos[1].values()), list(infos[0].values()), 1e-10)
