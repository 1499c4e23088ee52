"""The two jobs of conv.py, conv_memory.py and autoencoder.py, ours and in PyTorch's libraries.

    SGD step    loss and gradient of the batch, one step of SGD
    K-FAC step  gradient; factors from one sampled target per example; their inverses under factored
                damping; the preconditioned gradient

A maker takes a net and its data, ours or PyTorch's, and returns a function of no arguments that does the
job. PyTorch's losses of real targets have another scale than ours, see :func:`times_ours`; its learning
rates and dampings are scaled along, so that the steps are the same.
"""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from backpack import backpack, extend
from backpack.extensions import KFAC
from curvlinops import KFACInverseLinearOperator, KFACLinearOperator

import minikfac as mk

DAMPING = 1e-2

Job = Callable[[], Any]


def times_ours(loss: torch.nn.Module, y: Any) -> float:
    """How many times ours a loss is: theirs of real targets (N, C) is a mean over units, ours a sum."""
    of_a_unit = {torch.nn.CrossEntropyLoss: 1.0, torch.nn.BCEWithLogitsLoss: 1.0, torch.nn.MSELoss: 2.0}
    return of_a_unit[type(loss)] / (y.shape[1] if y.ndim == 2 else 1)


def minikfac_sgd(net: mk.Network, theta: Any, x: Any, y: Any, lr: float, momentum: float = 0.0) -> Job:
    """Returns the new theta (P,); with momentum, after a second step."""
    optimizer = mk.optim.SGD(net, lr, momentum)
    state = optimizer.init(theta)
    if momentum:
        theta, state, _ = optimizer.step(theta, state, (x, y))
    return lambda: optimizer.step(theta, state, (x, y))[0]


def minikfac_kfac(net: mk.Network, theta: Any, x: Any, y: Any, explicit: bool = False) -> Job:
    """Returns the gradient (P,) and the preconditioned gradient (P,).

    The inverse is used once: Cholesky solves, unless it is to be explicit.
    """
    rng = np.random.default_rng(0)

    def job() -> Any:
        estimates = mk.fisher.gradient_and_kfac(net, theta, x, y, n_samples=1, rng=rng)
        inverse = estimates.fisher.inverse(damping=DAMPING, method="factored", explicit=explicit)
        return estimates.gradient, inverse @ estimates.gradient

    return job


def torch_sgd(
    module: torch.nn.Module,
    X: torch.Tensor,
    y: torch.Tensor,
    loss: torch.nn.Module,
    lr: float,
    momentum: float = 0.0,
    fused: bool | None = None,
) -> Job:
    """Returns the parameters, changed in place; with momentum, after a second step."""
    lr = lr / times_ours(loss, y)
    optimizer = torch.optim.SGD(module.parameters(), lr=lr, momentum=momentum, fused=fused)

    def job() -> Any:
        optimizer.zero_grad()
        loss(module(X), y).backward()
        optimizer.step()
        return list(module.parameters())

    if momentum:
        job()
    return job


def curvlinops_kfac(
    module: torch.nn.Module, X: torch.Tensor, y: torch.Tensor, loss: torch.nn.Module, fisher_type: str = "mc"
) -> Job:
    """Returns the gradient and the preconditioned gradient, each as one tensor per parameter.

    Without the bound under its damping of a factor, as ours has none: the G of a deep layer may be tiny.
    """
    parameters = list(module.parameters())
    options = {"damping": DAMPING * times_ours(loss, y), "use_heuristic_damping": True, "min_damping": 0.0}

    def job() -> Any:
        grad = torch.autograd.grad(loss(module(X), y), parameters)
        K = curvlinops_factors(module, X, y, loss, fisher_type)
        inverse = KFACInverseLinearOperator(K, **options)
        return grad, inverse @ [g.detach() for g in grad]

    return job


def curvlinops_factors(
    module: torch.nn.Module, X: torch.Tensor, y: torch.Tensor, loss: torch.nn.Module, fisher_type: str
) -> KFACLinearOperator:
    """K-FAC of curvlinops; its factors are made when they are first used."""
    return KFACLinearOperator(
        module,
        loss,
        list(module.parameters()),
        [(X, y)],
        fisher_type=fisher_type,
        mc_samples=1,
        kfac_approx="expand",
        separate_weight_and_bias=False,
        check_deterministic=False,
        num_per_example_loss_terms=1,
        num_data=len(X),
    )


def backpack_kfac(module: torch.nn.Module, X: torch.Tensor, y: torch.Tensor, loss: torch.nn.Module) -> Job:
    """Returns the gradient and the preconditioned gradient, each as one tensor per parameter.

    BackPACK gives gradient and factors in one backward pass, those of weight and bias apart; what follows
    is left to its user. Its G of a convolution has another scale, which does not matter for the time.
    """
    module = extend(copy.deepcopy(module))
    loss = extend(loss)
    damping = DAMPING * times_ours(loss, y)

    def inverse(M: torch.Tensor, damping: Any) -> torch.Tensor:
        return torch.cholesky_inverse(torch.linalg.cholesky(M + damping * torch.eye(len(M))))

    def step(parameter: Any) -> torch.Tensor:
        G, *rest = parameter.kfac
        if not rest:  # a bias
            return inverse(G, damping) @ parameter.grad
        A = rest[0]
        pi = (A.trace() / len(A) * len(G) / G.trace()).sqrt()
        G_inv, A_inv = inverse(G, damping**0.5 / pi), inverse(A, damping**0.5 * pi)
        return (G_inv @ parameter.grad.flatten(1) @ A_inv).view_as(parameter)

    def job() -> Any:
        module.zero_grad()
        with backpack(KFAC(mc_samples=1)):
            loss(module(X), y).backward()
        with torch.no_grad():
            steps = [step(parameter) for parameter in module.parameters()]
        return [parameter.grad for parameter in module.parameters()], steps

    return job


OURS: dict[str, Callable[..., Job]] = {"SGD": minikfac_sgd, "K-FAC": minikfac_kfac}
THEIRS: dict[str, dict[str, Callable[..., Job]]] = {
    "SGD": {"PyTorch": torch_sgd},
    "K-FAC": {"curvlinops": curvlinops_kfac, "BackPACK": backpack_kfac},
}


def make(
    job: str,
    net: mk.Network,
    theta: Any,
    x: Any,
    y: Any,
    module: torch.nn.Module,
    loss: torch.nn.Module,
    **options: float,
) -> dict[str, Job]:
    """Make all contenders of a job, by name; PyTorch's in both of its layouts of images.

    Args:
        job: "SGD" or "K-FAC".
        net, theta, x, y: ours.
        module: the same net in PyTorch.
        loss: in PyTorch.
        options: of SGD, ``lr`` and ``momentum``.
    """
    jobs = {"minikfac": OURS[job](net, theta, x, y, **options)}
    layouts = {"": torch.contiguous_format}
    if x.ndim == 4:
        layouts[", channels last"] = torch.channels_last
    for name, maker in THEIRS[job].items():
        for layout, form in layouts.items():
            X = torch_input(x).contiguous(memory_format=form)
            copied = copy.deepcopy(module).to(memory_format=form)
            jobs[name + layout] = maker(copied, X, torch.from_numpy(y), copy.deepcopy(loss), **options)
    return jobs


def torch_input(x: Any) -> torch.Tensor:
    """Inputs as PyTorch takes them, images (N, C, H, W)."""
    X = torch.from_numpy(x)
    return X.permute(0, 3, 1, 2) if X.ndim == 4 else X


def flat(tensors: Any, order: Any) -> Any:
    """One tensor per parameter as one array (P,) in our order."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors]).numpy()[order]
