"""The same matrices by PyTorch, curvlinops and nngeometry, written by others from the same papers.

Orders and scales differ from library to library; `torch_layout` writes out how, without `interop.convert`,
which is tested here too.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import minikfac as mk
from minikfac import fisher, interop, layers, outputs
from oracles import EXACT, close
from oracles.torch_layout import torch_order, torch_scale

pytestmark = pytest.mark.oracle

N = 13


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    """Make float64 PyTorch's own default: nngeometry takes its epsilon from there."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@dataclass(frozen=True)
class Case:
    """The same net and data, here and in PyTorch; images are (N, H, W, C) here and (N, C, H, W) there.

    ``order`` is where each of our parameters lies in PyTorch's flat vector.
    """

    name: str
    output: str
    order: np.ndarray
    module: Any
    X: Any
    Y: Any
    net: mk.Network
    theta: np.ndarray
    x: np.ndarray
    y: np.ndarray

    @property
    def has_bias(self) -> bool:
        return any(p.ndim == 1 for p in self.module.parameters())

    def ours(self, matrix: Any) -> np.ndarray:
        """A matrix over PyTorch's parameters in our order."""
        return np.asarray(matrix.detach())[np.ix_(self.order, self.order)]

    def inputs(self, layer: int) -> np.ndarray:
        """Where each row of our A lies in PyTorch's, the bias last in both."""
        order = self.order[self.net.slices[layer]].reshape(self.net.shapes[layer])[:, 0]
        rows = order[: len(order) - self.has_bias] - order[: len(order) - self.has_bias].min()
        return np.append(rows, len(rows)) if self.has_bias else rows

    def locations(self, layer: int) -> int:
        return self.signals()[layer].abar.shape[1]

    def signals(self, **arguments: Any) -> fisher.Signals:
        return fisher.signals(self.net, self.theta, self.x, **arguments)

    def scale(self, reduction: str = "mean") -> float:
        return torch_scale(self.output, N, self.net.shapes[-1][-1], reduction)

    def empirical_scale(self, reduction: str = "mean") -> float:
        """In an empirical Fisher matrix the 2 of the squared error's gradients enters squared, 1/C once."""
        return self.scale(reduction) * (2 if self.output == "gaussian" else 1)

    def loss(self, reduction: str = "mean") -> Any:
        from torch import nn

        kind = {"categorical": nn.CrossEntropyLoss, "bernoulli": nn.BCEWithLogitsLoss, "gaussian": nn.MSELoss}
        return kind[self.output](reduction=reduction)

    def curvlinops(self, kind: str, reduction: str = "mean", **arguments: Any) -> np.ndarray:
        """A linear operator of curvlinops times the identity, in our order."""
        import curvlinops
        import torch

        parameters = list(self.module.parameters())
        operator = getattr(curvlinops, kind + "LinearOperator")(
            self.module, self.loss(reduction), parameters, [(self.X, self.Y)], **arguments
        )
        return self.ours(operator @ torch.eye(self.net.n_params))

    def nngeometry(self, representation: Any) -> Any:
        """The Fisher matrix of nngeometry; it knows the categorical and the Gaussian distribution."""
        from nngeometry.metrics import FIM

        variant = {"categorical": "classif_logits", "gaussian": "regression"}[self.output]
        return FIM(self.module, self.loader, representation, variant)

    @property
    def loader(self) -> Any:
        from torch.utils.data import DataLoader, TensorDataset

        return DataLoader(TensorDataset(self.X, self.Y), batch_size=5)  # the last batch is smaller


NETS: dict[str, tuple[list[int], str, bool]] = {
    "one layer": ([5, 4], "Tanh", True),
    "tanh": ([6, 5, 4, 3], "Tanh", True),
    "logistic": ([4, 6, 3], "Sigmoid", True),
    "relu": ([7, 8, 5], "ReLU", True),
    "without bias": ([6, 5, 4], "Tanh", False),
}
CONVOLUTIONAL = {
    "convolutions": ((5, 4, 2), lambda nn: [
        nn.Conv2d(2, 3, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(3, 4, (2, 1)), nn.Tanh(),
        nn.Flatten(), nn.Linear(8, 3),
    ]),
    "strides and max-pooling": ((7, 6, 2), lambda nn: [
        nn.Conv2d(2, 3, (3, 2), stride=2, padding=(1, 0)), nn.ReLU(), nn.MaxPool2d(2, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4),
    ]),
    "convolutions without bias": ((4, 4, 1), lambda nn: [
        nn.Conv2d(1, 2, 2, bias=False), nn.Sigmoid(), nn.Flatten(), nn.Linear(18, 3, bias=False),
    ]),
}  # fmt: skip
"""Extents (H, W, C) of images, and what makes the parts of a module."""
ALL = [*NETS, *CONVOLUTIONAL]
OUTPUT_TYPES = {
    "categorical": outputs.Categorical,
    "bernoulli": outputs.Bernoulli,
    "gaussian": outputs.Gaussian,
}
OUTPUTS = tuple(OUTPUT_TYPES)


def make(name: str, output: str) -> Case:
    import torch

    torch.manual_seed(0)
    parts: list[Any] = []
    if name in NETS:
        sizes, activation, bias = NETS[name]
        for n_in, n_out in itertools.pairwise(sizes):
            parts += [torch.nn.Linear(n_in, n_out, bias=bias), getattr(torch.nn, activation)()]
        module = torch.nn.Sequential(*parts[:-1]).double()
        order = torch_order([(n_out, n_in) for n_in, n_out in itertools.pairwise(sizes)], bias)
        shape: tuple[int, ...] = (sizes[0],)
    else:
        shape, of_torch = CONVOLUTIONAL[name]
        module = torch.nn.Sequential(*of_torch(torch.nn)).double()
        order = image_order(module)
    net, theta = mk.from_torch(module, output)
    x, y = data(output, shape, net.shapes[-1][-1])
    X = torch.from_numpy(x if x.ndim == 2 else x.transpose(0, 3, 1, 2).copy())
    return Case(name, output, order, module, X, torch.from_numpy(y), net, theta, x, y)


def data(output: str, shape: tuple[int, ...], c: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((N, *shape))
    y = {
        "categorical": rng.integers(0, c, N),
        "bernoulli": rng.integers(0, 2, (N, c)).astype(float),  # curvlinops refuses others
        "gaussian": rng.standard_normal((N, c)),
    }[output]
    return x, y


def image_order(module: Any) -> np.ndarray:
    """``torch_order`` for convolutions (O, C, kh, kw), and a linear layer above flattened images (C, H, W).

    Here both are (h, w, c) by outputs, with a row for the bias; a normalization has a row of scales and one
    of shifts.
    """
    places, start, channels = [], 0, 0
    for part in module.modules():
        if getattr(part, "weight", None) is None:
            continue
        shape, size = tuple(part.weight.shape), part.weight.numel()
        indices = np.arange(start, start + size)
        if len(shape) == 4:
            channels = shape[0]
            indices = indices.reshape(shape).transpose(2, 3, 1, 0)
        elif channels and len(shape) == 2:  # features (c, h w) of a map
            indices, channels = indices.reshape(shape[0], channels, -1).transpose(2, 1, 0), 0
        else:
            indices = indices.reshape(shape).T
        places.append(indices.ravel())
        start += size
        if part.bias is not None:
            places.append(np.arange(start, start + shape[0]))
            start += shape[0]
    return np.concatenate(places)


@pytest.fixture(params=ALL)
def net_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=OUTPUTS)
def case(net_name: str, request: pytest.FixtureRequest) -> Case:
    return make(net_name, request.param)


@pytest.fixture(params=["categorical", "gaussian"])
def nngeometry_case(net_name: str, request: pytest.FixtureRequest) -> Case:
    return make(net_name, request.param)


def agree(actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.shape == expected.shape
    close(actual, expected)


# the net ------------------------------------------------------------------------------------------


def test_a_net_from_torch_predicts_the_same(case: Case) -> None:
    import torch

    z = case.module(case.X)
    mean = {"categorical": lambda z: z.softmax(1), "bernoulli": torch.sigmoid, "gaussian": lambda z: z}
    agree(case.net.predict(case.theta, case.x), mean[case.output](z).detach().numpy())


def test_loss_and_gradient(case: Case) -> None:
    import torch

    loss = case.loss()(case.module(case.X), case.Y) / case.scale()
    parts = torch.autograd.grad(loss, list(case.module.parameters()))
    grad = torch.cat([part.reshape(-1) for part in parts]).numpy()[case.order]
    found_loss, found_grad = case.net.loss_and_gradient(case.theta, case.x, case.y)
    assert found_loss == pytest.approx(loss.item(), rel=EXACT)
    agree(found_grad, grad)


@pytest.mark.parametrize("kind", ["smoothed", "of another net"])
def test_soft_targets_are_those_of_torch(kind: str) -> None:
    """Loss, gradient and empirical Fisher matrix by cross_entropy with probabilities; F does not see them."""
    import torch

    case, rng = make("tanh", "categorical"), np.random.default_rng(5)
    c = case.net.n_outputs(case.x)
    q = 0.9 * np.eye(c)[case.y] + 0.1 / c if kind == "smoothed" else rng.dirichlet(np.ones(c), N)
    Q = torch.from_numpy(q)
    gradients = []
    for n in range(N):
        case.module.zero_grad()
        torch.nn.functional.cross_entropy(case.module(case.X[n : n + 1]), Q[n : n + 1]).backward()
        gradients.append(torch.cat([p.grad.reshape(-1) for p in case.module.parameters()]).numpy())
    loss = torch.nn.functional.cross_entropy(case.module(case.X), Q).item()
    found_loss, found_grad = case.net.loss_and_gradient(case.theta, case.x, q)
    assert found_loss == pytest.approx(loss, rel=EXACT)
    D = np.array(gradients)[:, case.order]
    agree(found_grad, D.mean(0))
    agree(fisher.exact(case.signals(y=q, targets="data")).to_dense(), D.T @ D / N)
    agree(
        fisher.gauss_newton(case.net, case.theta, case.x, q).to_dense(),
        fisher.exact(case.signals()).to_dense(),
    )


# the exact Fisher matrix --------------------------------------------------------------------------


def test_exact_fisher_is_the_gauss_newton_matrix_of_torch_func(case: Case) -> None:
    import torch
    from torch.func import functional_call, hessian, jacrev, vmap

    def z(parameters: dict[str, Any], x: Any) -> Any:
        return functional_call(case.module, parameters, (x[None],))[0]

    parameters = {name: p.detach() for name, p in case.module.named_parameters()}
    parts = vmap(jacrev(z), (None, 0))(parameters, case.X)
    J = torch.cat([part.flatten(2) for part in parts.values()], dim=2)  # (N, C, P)
    with torch.no_grad():
        H = vmap(hessian(case.loss("sum")))(case.module(case.X), case.Y)  # (N, C, C)
    F = torch.einsum("ncp,ncd,ndq->pq", J, H, J) / case.scale("sum")
    agree(fisher.exact(case.signals()).to_dense(), case.ours(F))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_exact_fisher_is_the_gauss_newton_matrix_of_curvlinops(case: Case, reduction: str) -> None:
    F = case.curvlinops("GGN", reduction) / case.scale(reduction)
    agree(fisher.exact(case.signals()).to_dense(), F)


def test_exact_fisher_is_that_of_nngeometry(nngeometry_case: Case) -> None:
    from nngeometry.object import PMatDense

    F = nngeometry_case.nngeometry(PMatDense).to_torch()
    agree(fisher.exact(nngeometry_case.signals()).to_dense(), nngeometry_case.ours(F))


def test_matrix_free_products_are_those_of_curvlinops(case: Case) -> None:
    F = case.curvlinops("GGN") / case.scale()
    v = np.random.default_rng(2).standard_normal(case.net.n_params)
    agree(fisher.product(case.net, case.theta, case.x) @ v, F @ v)
    agree(fisher.gauss_newton(case.net, case.theta, case.x, case.y) @ v, F @ v)


def test_exact_blocks_are_those_of_nngeometry(nngeometry_case: Case) -> None:
    from nngeometry.object import PMatBlockDiag

    F = nngeometry_case.nngeometry(PMatBlockDiag).to_torch()
    agree(fisher.block_diagonal(nngeometry_case.signals()).to_dense(), nngeometry_case.ours(F))


def test_diagonal_is_that_of_nngeometry(nngeometry_case: Case) -> None:
    from nngeometry.object import PMatDiag

    F = nngeometry_case.nngeometry(PMatDiag).get_diag().numpy()
    agree(fisher.diagonal(nngeometry_case.signals()).diagonal(), F[nngeometry_case.order])


# other curvature matrices -------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_empirical_fisher_is_that_of_curvlinops(case: Case, reduction: str) -> None:
    theirs = case.curvlinops("EF", reduction)
    F = fisher.exact(case.signals(y=case.y, targets="data"))
    agree(F.to_dense(), theirs / case.empirical_scale(reduction))
    converted = interop.convert(F, case.net, case.x, "curvlinops", reduction, targets="data")
    order = interop.flat_order(case.net, case.x, "curvlinops")
    agree(converted, theirs[np.ix_(order, order)])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_empirical_fisher_is_that_of_torch(case: Case, reduction: str) -> None:
    """The mean, or sum, over examples of the squared gradient of each example's loss."""
    import torch

    gradients = []
    for n in range(N):
        case.module.zero_grad()
        case.loss(reduction)(case.module(case.X[n : n + 1]), case.Y[n : n + 1]).backward()
        gradients.append(torch.cat([p.grad.reshape(-1) for p in case.module.parameters()]).numpy())
    D = np.array(gradients)
    F = fisher.exact(case.signals(y=case.y, targets="data"))
    converted = interop.convert(F, case.net, case.x, "pytorch", reduction, targets="data")
    agree(converted, D.T @ D / (N if reduction == "mean" else 1))


def test_hessian_is_that_of_curvlinops(case: Case) -> None:
    H = case.curvlinops("Hessian") / case.scale()
    agree(fisher.hessian(case.net, case.theta, case.x, case.y).to_dense(), H)


# K-FAC --------------------------------------------------------------------------------------------

TYPE_2 = dict(fisher_type="type-2", separate_weight_and_bias=False)
"""The exact expectation over targets, and the bias as one more input: what the papers do."""


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_kfac_is_that_of_curvlinops(case: Case, reduction: str) -> None:
    K = case.curvlinops("KFAC", reduction, **TYPE_2) / case.scale(reduction)
    agree(fisher.kfac(case.signals()).to_dense(), K)


def test_reduced_kfac_is_that_of_curvlinops(case: Case) -> None:
    K = case.curvlinops("KFAC", kfac_approx="reduce", **TYPE_2) / case.scale()
    agree(fisher.kfac(case.signals(), reduce=True).to_dense(), K)


def test_kronecker_factors_are_those_of_curvlinops(case: Case) -> None:
    """The scale of the loss sits in their G, and so does the number of locations, which is in our A."""
    import torch
    from curvlinops import KFACLinearOperator

    parameters = list(case.module.parameters())
    K = KFACLinearOperator(case.module, case.loss(), parameters, [(case.X, case.Y)], **TYPE_2)
    K @ torch.zeros(case.net.n_params)
    places = [str(place) for place, part in enumerate(case.module) if list(part.parameters())]
    for layer, (place, block) in enumerate(zip(places, fisher.kfac(case.signals()).blocks, strict=True)):
        assert isinstance(block, fisher.KroneckerBlock)
        rows, T = case.inputs(layer), case.locations(layer)
        agree(block.A, T * K._input_covariances[place].numpy()[np.ix_(rows, rows)])
        agree(block.G, K._gradient_covariances[place].numpy() / (T * case.scale()))


def test_kfac_is_that_of_nngeometry(nngeometry_case: Case) -> None:
    from nngeometry.object import PMatKFAC

    K = nngeometry_case.nngeometry(PMatKFAC).to_torch(split_weight_bias=nngeometry_case.has_bias)
    agree(fisher.kfac(nngeometry_case.signals()).to_dense(), nngeometry_case.ours(K))


def test_kronecker_factors_are_those_of_nngeometry(nngeometry_case: Case) -> None:
    """With C outputs, or C - 1 columns of the softmax's root, theirs are A sqrt(K) and G / sqrt(K)."""
    from nngeometry.object import PMatKFAC

    theirs = nngeometry_case.nngeometry(PMatKFAC).data.values()
    outputs = nngeometry_case.net.shapes[-1][-1]
    root = (outputs - (nngeometry_case.output == "categorical")) ** 0.5
    blocks = fisher.kfac(nngeometry_case.signals()).blocks
    for layer, ((A, G), block) in enumerate(zip(theirs, blocks, strict=True)):
        assert isinstance(block, fisher.KroneckerBlock)
        rows = nngeometry_case.inputs(layer)
        agree(block.A, A.numpy()[np.ix_(rows, rows)] / root)
        agree(block.G, G.detach().numpy() * root)


def test_empirical_kfac_is_that_of_curvlinops(case: Case) -> None:
    K = case.curvlinops("KFAC", fisher_type="empirical", separate_weight_and_bias=False)
    K = K / case.empirical_scale()
    F = fisher.kfac(case.signals(y=case.y, targets="data"))
    agree(F.to_dense(), K)
    for block, layer in zip(
        interop.convert(F, case.net, case.x, "curvlinops", targets="data"), F.blocks, strict=True
    ):
        A, G = block.factors
        assert np.trace(A) * np.trace(G) == pytest.approx(layer.trace() * case.empirical_scale(), rel=1e-12)


def test_damped_kfac_solves_are_those_of_curvlinops(case: Case) -> None:
    import torch
    from curvlinops import KFACInverseLinearOperator, KFACLinearOperator

    lam = 0.1
    parameters = list(case.module.parameters())
    K = KFACLinearOperator(case.module, case.loss(), parameters, [(case.X, case.Y)], **TYPE_2)
    inverse = KFACInverseLinearOperator(K, damping=lam * case.scale(), use_exact_damping=True)
    expected = case.ours(inverse @ torch.eye(case.net.n_params)) * case.scale()
    agree(fisher.kfac(case.signals()).inverse(damping=lam).to_dense(), expected)


def test_ekfac_is_that_of_curvlinops(case: Case) -> None:
    E = case.curvlinops("EKFAC", **TYPE_2) / case.scale()
    agree(fisher.ekfac(case.signals()).to_dense(), E)


def test_ekfac_is_that_of_nngeometry(nngeometry_case: Case) -> None:
    from nngeometry.object import PMatEKFAC

    E = nngeometry_case.nngeometry(PMatEKFAC)
    E.update_diag(nngeometry_case.loader)
    theirs = E.to_torch(split_weight_bias=nngeometry_case.has_bias)
    agree(fisher.ekfac(nngeometry_case.signals()).to_dense(), nngeometry_case.ours(theirs))


# conventions ----------------------------------------------------------------------------------------


def test_our_parameters_and_gradients_in_the_order_of_torch(case: Case) -> None:
    import torch
    from torch.nn.utils import parameters_to_vector

    order = interop.flat_order(case.net, case.x, "pytorch")
    parameters = list(case.module.parameters())
    np.testing.assert_array_equal(case.theta[order], parameters_to_vector(parameters).detach().numpy())
    for reduction in ("mean", "sum"):
        parts = torch.autograd.grad(case.loss(reduction)(case.module(case.X), case.Y), parameters)
        loss = interop.loss_scale("pytorch", case.net.output, N, case.net.shapes[-1][-1], reduction)
        theirs = torch.cat([part.reshape(-1) for part in parts]).numpy()
        agree(loss * case.net.gradient(case.theta, case.x, case.y)[order], theirs)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_converted_factors_are_those_of_curvlinops(case: Case, reduction: str) -> None:
    import torch
    from curvlinops import KFACLinearOperator

    parameters = list(case.module.parameters())
    K = KFACLinearOperator(case.module, case.loss(reduction), parameters, [(case.X, case.Y)], **TYPE_2)
    K @ torch.zeros(case.net.n_params)
    places = [str(place) for place, part in enumerate(case.module) if list(part.parameters())]
    theirs = [
        (K._input_covariances[place].numpy(), K._gradient_covariances[place].numpy()) for place in places
    ]
    ours = fisher.kfac(case.signals())
    converted = interop.convert(ours, case.net, case.x, to="curvlinops", reduction=reduction)
    for block, (A, G) in zip(converted, theirs, strict=True):
        agree(block.factors[0], A)
        agree(block.factors[1], G)
    back = interop.convert_from(theirs, case.net, case.x, source="curvlinops", reduction=reduction)
    agree(back.to_dense(), ours.to_dense())


def test_converted_factors_are_those_of_nngeometry(nngeometry_case: Case) -> None:
    from nngeometry.object import PMatKFAC

    case = nngeometry_case
    theirs = [(A.numpy(), G.detach().numpy()) for A, G in case.nngeometry(PMatKFAC).data.values()]
    ours = fisher.kfac(case.signals())
    for block, (A, G) in zip(interop.convert(ours, case.net, case.x, to="nngeometry"), theirs, strict=True):
        agree(block.factors[0], A)
        agree(block.factors[1], G)
    agree(interop.convert_from(theirs, case.net, case.x, source="nngeometry").to_dense(), ours.to_dense())


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_converted_exact_matrix_is_that_of_curvlinops(case: Case, reduction: str) -> None:
    import torch
    from curvlinops import GGNLinearOperator

    parameters = list(case.module.parameters())
    operator = GGNLinearOperator(case.module, case.loss(reduction), parameters, [(case.X, case.Y)])
    theirs = (operator @ torch.eye(case.net.n_params)).numpy()
    ours = fisher.exact(case.signals())
    agree(interop.convert(ours, case.net, case.x, "curvlinops", reduction), theirs)
    agree(interop.convert_from(theirs, case.net, case.x, "pytorch", reduction).to_dense(), ours.to_dense())


@pytest.mark.parametrize("name", ["tanh", "logistic", "relu"])
@pytest.mark.parametrize("output", ["categorical", "gaussian"])
def test_kfac_of_dense_layers_is_that_of_backpack(name: str, output: str) -> None:
    """Its factors are G, which holds the scale of the loss, and A without the bias; the bias has G alone."""
    from backpack import backpack, extend
    from backpack.extensions import KFLR

    case = make(name, output)
    module, loss = extend(case.module), extend(case.loss())
    with backpack(KFLR()):
        loss(module(case.X.requires_grad_()), case.Y).backward()  # else PyTorch warns of BackPACK's hooks
    linears = [part for part in module if list(part.parameters())]
    for linear, block in zip(linears, fisher.kfac(case.signals()).blocks, strict=True):
        assert isinstance(block, fisher.KroneckerBlock)
        G, A = (factor.detach().numpy() for factor in linear.weight.kflr)
        agree(A, block.A[:-1, :-1])
        agree(G, case.scale() * block.G)
        (only,) = linear.bias.kflr
        agree(only.detach().numpy(), case.scale() * block.G)


# branches and normalizations, put together by hand -------------------------------------------------


def residual(output: str, normalized: bool) -> tuple[Case, list[np.ndarray]]:
    """A residual layer, with batch normalization at running statistics or without any; and the statistics."""
    import torch
    from torch import nn

    class Residual(nn.Module):
        def __init__(self, body: Any, shortcut: Any) -> None:
            super().__init__()
            self.body, self.shortcut = body, shortcut

        def forward(self, x: Any) -> Any:
            return self.body(x) + self.shortcut(x)

    torch.manual_seed(0)
    norm = [nn.BatchNorm2d(3)] if normalized else []
    body = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), *norm, nn.Tanh(), nn.Conv2d(3, 4, (1, 2)))
    module = nn.Sequential(
        nn.Conv2d(1, 2, 2),
        nn.Tanh(),
        Residual(body, nn.Conv2d(2, 4, (1, 2), bias=not normalized)),
        nn.Tanh(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    ).double()
    stats = []
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.weight.data, part.bias.data, part.running_mean):
                tensor.normal_()
            part.running_var.uniform_(0.5, 2)
            stats.append(np.stack([part.running_mean.numpy(), part.running_var.numpy()]))
    module.eval()

    body_here = [
        layers.Conv2d(2, 3, 3, padding=1),
        *([layers.BatchNorm(3)] if normalized else []),
        layers.Tanh(),
        layers.Conv2d(3, 4, (1, 2)),
    ]
    net = mk.Network(
        [
            layers.Conv2d(1, 2, 2),
            layers.Tanh(),
            layers.Residual(body_here, layers.Conv2d(2, 4, (1, 2), bias=not normalized)),
            layers.Tanh(),
            layers.GlobalAvgPool(),
            layers.Dense(4, 3),
        ],
        OUTPUT_TYPES[output](),
    )
    order = image_order(module)
    theta = nn.utils.parameters_to_vector(module.parameters()).detach().numpy()[order]
    x, y = data(output, (4, 5, 1), 3)
    X = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
    return Case("residual", output, order, module, X, torch.from_numpy(y), net, theta, x, y), stats


@pytest.fixture(params=OUTPUTS)
def residual_case(request: pytest.FixtureRequest) -> Case:
    return residual(request.param, normalized=False)[0]


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("normalized", [False, True])
def test_exact_fisher_of_a_residual_net_is_that_of_curvlinops(output: str, normalized: bool) -> None:
    case, stats = residual(output, normalized)
    z = case.module(case.X).detach().numpy()
    agree(case.net.forward(case.theta, case.x, stats).z, z)
    F = case.curvlinops("GGN") / case.scale()
    agree(fisher.exact(case.signals(stats=stats)).to_dense(), F)
    agree(fisher.product(case.net, case.theta, case.x, stats).to_dense(), F)


@pytest.mark.parametrize("approximation", ["expand", "reduce"])
def test_kfac_of_a_residual_net_is_that_of_curvlinops(residual_case: Case, approximation: str) -> None:
    K = residual_case.curvlinops("KFAC", kfac_approx=approximation, **TYPE_2) / residual_case.scale()
    agree(fisher.kfac(residual_case.signals(), reduce=approximation == "reduce").to_dense(), K)


def test_ekfac_of_a_residual_net_is_that_of_curvlinops(residual_case: Case) -> None:
    E = residual_case.curvlinops("EKFAC", **TYPE_2) / residual_case.scale()
    agree(fisher.ekfac(residual_case.signals()).to_dense(), E)


@pytest.mark.parametrize("output", ["categorical", "gaussian"])
def test_matrices_of_a_residual_net_are_those_of_nngeometry(output: str) -> None:
    from nngeometry.object import PMatDense, PMatKFAC

    case, _ = residual(output, normalized=False)
    agree(fisher.exact(case.signals()).to_dense(), case.ours(case.nngeometry(PMatDense).to_torch()))
    K = case.nngeometry(PMatKFAC).to_torch(split_weight_bias=True)
    agree(fisher.kfac(case.signals()).to_dense(), case.ours(K))
