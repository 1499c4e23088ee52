"""The two jobs of conv.py and conv_memory.py, ours and in PyTorch's libraries.

    SGD step    loss and gradient of the batch, one step of plain SGD
    K-FAC step  gradient; factors from one sampled target per example; their inverses under factored
                damping; the preconditioned gradient

A maker takes the net of ``nets.make_conv`` and returns a function of no arguments that does the job.
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

LEARNING_RATE = 0.1
DAMPING = 1e-2

Job = Callable[[], Any]


def minikfac_sgd(net: mk.Network, theta: Any, x: Any, y: Any) -> Job:
    """Returns the new theta (P,)."""
    optimizer = mk.optim.SGD(net, lr=LEARNING_RATE)
    state = optimizer.init(theta)
    return lambda: optimizer.step(theta, state, (x, y))[0]


def minikfac_kfac(net: mk.Network, theta: Any, x: Any, y: Any) -> Job:
    """Returns the gradient (P,) and the preconditioned gradient (P,)."""
    rng = np.random.default_rng(0)

    def job() -> Any:
        found = mk.fisher.gradient_and_kfac(net, theta, x, y, n_samples=1, rng=rng)
        inverse = found.fisher.inverse(damping=DAMPING, method="factored")  # used once: Cholesky solves
        return found.gradient, inverse @ found.gradient

    return job


def torch_sgd(module: torch.nn.Module, X: torch.Tensor, y: torch.Tensor) -> Job:
    """Returns the parameters, changed in place."""
    loss = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(module.parameters(), lr=LEARNING_RATE)

    def job() -> Any:
        optimizer.zero_grad()
        loss(module(X), y).backward()
        optimizer.step()
        return list(module.parameters())

    return job


def curvlinops_kfac(
    module: torch.nn.Module, X: torch.Tensor, y: torch.Tensor, fisher_type: str = "mc"
) -> Job:
    """Returns the gradient and the preconditioned gradient, each as one tensor per parameter."""
    loss = torch.nn.CrossEntropyLoss()
    parameters = list(module.parameters())

    def job() -> Any:
        grad = torch.autograd.grad(loss(module(X), y), parameters)
        K = curvlinops_factors(module, X, y, fisher_type)
        inverse = KFACInverseLinearOperator(K, damping=DAMPING, use_heuristic_damping=True)
        return grad, inverse @ [g.detach() for g in grad]

    return job


def curvlinops_factors(
    module: torch.nn.Module, X: torch.Tensor, y: torch.Tensor, fisher_type: str
) -> KFACLinearOperator:
    """K-FAC of curvlinops; its factors are made when they are first used."""
    return KFACLinearOperator(
        module,
        torch.nn.CrossEntropyLoss(),
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


def backpack_kfac(module: torch.nn.Module, X: torch.Tensor, y: torch.Tensor) -> Job:
    """Returns the gradient and the preconditioned gradient, each as one tensor per parameter.

    BackPACK gives gradient and factors in one backward pass, those of weight and bias apart; what follows
    is left to its user. Its G of a convolution has another scale, which does not matter for the time.
    """
    module = extend(copy.deepcopy(module))
    loss = extend(torch.nn.CrossEntropyLoss())

    def inverse(M: torch.Tensor, damping: Any) -> torch.Tensor:
        return torch.cholesky_inverse(torch.linalg.cholesky(M + damping * torch.eye(len(M))))

    def step(parameter: Any) -> torch.Tensor:
        G, *rest = parameter.kfac
        if not rest:  # a bias
            return inverse(G, DAMPING) @ parameter.grad
        A = rest[0]
        pi = (A.trace() / len(A) * len(G) / G.trace()).sqrt()
        G_inv, A_inv = inverse(G, DAMPING**0.5 / pi), inverse(A, DAMPING**0.5 * pi)
        return (G_inv @ parameter.grad.flatten(1) @ A_inv).view_as(parameter)

    def job() -> Any:
        module.zero_grad()
        with backpack(KFAC(mc_samples=1)):
            loss(module(X), y).backward()
        with torch.no_grad():
            steps = [step(parameter) for parameter in module.parameters()]
        return [parameter.grad for parameter in module.parameters()], steps

    return job


OURS = {"SGD": minikfac_sgd, "K-FAC": minikfac_kfac}
THEIRS: dict[str, dict[str, Callable[..., Job]]] = {
    "SGD": {"PyTorch": torch_sgd},
    "K-FAC": {"curvlinops": curvlinops_kfac, "BackPACK": backpack_kfac},
}


def make(job: str, net: mk.Network, theta: Any, x: Any, y: Any, module: torch.nn.Module) -> dict[str, Job]:
    """Make all contenders of a job, by name; PyTorch's in both of its layouts of images."""
    found = {"minikfac": OURS[job](net, theta, x, y)}
    labels = torch.from_numpy(y)
    for name, maker in THEIRS[job].items():
        for layout, form in (("", torch.contiguous_format), (", channels last", torch.channels_last)):
            X = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(memory_format=form)
            own = copy.deepcopy(module).to(memory_format=form)
            found[name + layout] = maker(own, X, labels)
    return found


def flat(tensors: Any, order: Any) -> Any:
    """One tensor per parameter as one array (P,) in our order."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors]).numpy()[order]
