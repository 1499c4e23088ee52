"""Recipes: the constants of the papers' runs, and of ours on the small problems, as data.

kfac = recipe("mnist-autoencoder", "K-FAC")
p = problem(kfac.problem)
settings = {"batch_size": kfac.batches(p.dataset), "averaging": kfac.averaging}
train(p.net, p.theta(), kfac.make(p.net), p.dataset, steps=500, **settings)

A recipe says where its constants come from, and which of them its source does not give: those are ours, found
by trying a few values. The papers tuned such constants per run and mostly do not print them, so a recipe is
a starting point for a search, not a reproduction of a curve.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .. import optim
from ..datasets import Dataset
from ..network import Network
from ..optim.schedules import SutskeverMomentum
from ..training.averaging import Averaging, PerStep
from ..training.batches import BatchSize, ExponentialBatches
from ..training.loop import Optimizer


@dataclass(frozen=True)
class Recipe:
    """One optimizer on one problem.

    Attributes:
        name: of the recipe, unique for its problem.
        problem: its name in :data:`.PROBLEMS`.
        optimizer: its class in :mod:`minikfac.optim`.
        arguments: of the optimizer.
        batch_size: examples per step; "growing" for 1,000 at first and ever more, by a constant factor, up to
            the whole training set at step 500 [MG15, sec. 13]; "whole" for the training set.
        averaging: of the iterates, as of :func:`.train`.
        source: where the constants are from.
        ours: arguments that are not.
    """

    name: str
    problem: str
    optimizer: str
    arguments: Mapping[str, Any]
    batch_size: int | str
    averaging: Averaging | None
    source: str
    ours: tuple[str, ...] = ()

    def make(self, net: Network) -> Optimizer:
        """Make the optimizer for the problem's net."""
        return getattr(optim, self.optimizer)(net, **self.arguments)

    def batches(self, dataset: Dataset) -> BatchSize:
        """Return the sizes of batches as :func:`.train` takes them; never more than there are examples."""
        n = len(dataset.x_train)
        if self.batch_size == "growing" and n > 1000:
            return ExponentialBatches.reaching(n)
        return n if isinstance(self.batch_size, str) else min(self.batch_size, n)


# K-FAC's constants [MG15, sec. 5 to 8]. lambda and gamma begin as for the paper's autoencoders.
KFAC = {
    "lam": 150.0,
    "l2": 1e-5,
    "gamma_share": 1.0,
    "tau1": 1 / 8,
    "tau2": 1 / 4,
    "T1": 5,
    "T2": 20,
    "T3": 20,
    "decay": 0.95,
}
# The baseline of that paper: Nesterov momentum that grows up to one of 0, 0.9, 0.99, 0.995 and 0.999, from
# sparse weights. That its batches held 500 is as we remember it. The learning rate was tuned.
NESTEROV = {
    "lr": 0.01,
    "momentum": SutskeverMomentum(0.99),
    "nesterov": True,
    "l2": 1e-5,
}
RETAINED = 0.99
"""Weight of the old in that paper's average of the iterates, in each step."""
# All that follows of KFC's experiments is as we remember it: momentum, damping, clip, both batch sizes, and
# averages over 50,000 examples. Learning rates were tuned over this grid, on the training error.
KFC_RATES = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)
KFC_PRE = {"lr": 0.003, "momentum": 0.9, "damping": 1e-3, "clip": 0.3, "Ts": 1, "Tf": 10}
KFC_SGD = {"lr": 0.01, "momentum": 0.9}
KFC_AVERAGING = 50_000.0


def _retained(batch_size: int) -> float:
    """Examples of an average whose old part has that weight at batches of this size."""
    return -batch_size / math.log(RETAINED)


def _of_an_autoencoder(problem: str) -> tuple[Recipe, ...]:
    kfac = Recipe("K-FAC", problem, "KFAC", KFAC, "growing", PerStep(RETAINED), "[MG15, sec. 13]")
    of_nesterov = "[MG15, sec. 13; SMDH13]"
    return (
        kfac,
        replace(kfac, name="K-FAC tridiagonal", arguments={**KFAC, "structure": "block_tridiagonal"}),
        replace(kfac, name="K-FAC without momentum", arguments={**KFAC, "momentum": False}),
        Recipe("Nesterov", problem, "SGD", NESTEROV, 500, _retained(500), of_nesterov, ("lr", "momentum")),
    )


def _of_the_pictures(problem: str, **ours: float) -> Recipe:
    """The paper's small net on its whole training set; as we remember it, 7 steps gave an error of 5%."""
    arguments, source = {**KFAC, **ours}, "[MG15, sec. 3]"
    return Recipe("K-FAC", problem, "KFAC", arguments, "whole", PerStep(RETAINED), source, tuple(ours))


def _of_a_convnet(problem: str) -> tuple[Recipe, ...]:
    """Batches of 128 and 512; and of 4,096 for both, where the paper counts updates."""
    source = "[GM16, sec. 5], from memory"
    kfc = Recipe("KFC-pre", problem, "KFCPre", KFC_PRE, 512, KFC_AVERAGING, source, ("lr", "Ts", "Tf"))
    sgd = Recipe("SGD", problem, "SGD", KFC_SGD, 128, KFC_AVERAGING, source, ("lr",))
    large = [replace(small, name=f"{small.name}, large batches", batch_size=4096) for small in (kfc, sgd)]
    return (kfc, sgd, *large)


def _of_a_small_problem(problem: str, lam: float, lr: float) -> tuple[Recipe, ...]:
    """Ours: K-FAC's constants but for lambda, against the baseline of its paper."""
    source, ours = "[MG15; SMDH13], on our small problem", ("lr", "momentum", "batch_size")
    nesterov = Recipe("Nesterov", problem, "SGD", {**NESTEROV, "lr": lr}, 250, _retained(250), source, ours)
    return (_small_kfac("K-FAC", problem, lam=lam), nesterov)


def _small_kfac(name: str, problem: str, **arguments: Any) -> Recipe:
    source, ours = "[MG15], on our small problem", ("lam", "batch_size")
    return Recipe(name, problem, "KFAC", {**KFAC, **arguments}, 250, _retained(250), source, ours)


def _searched(name: str, **arguments: Any) -> Recipe:
    """What ``minikfac compare --tune 60 --trial 4`` found, rounded; on two cores with other work beside."""
    source = "random search, 60 s of training in trials of 4 s, on our small problem"
    return Recipe(name, "digits-autoencoder", name, arguments, 250, None, source, (*arguments, "batch_size"))


RECIPES: tuple[Recipe, ...] = (
    *_of_a_small_problem("digits", lam=0.1, lr=0.3),
    *_of_a_small_problem("digits-autoencoder", lam=1.0, lr=0.1),
    _small_kfac("K-FAC tridiagonal", "digits-autoencoder", lam=1.0, structure="block_tridiagonal"),
    _searched("SGD", lr=0.02, momentum=0.95),
    _searched("Adam", lr=0.03, beta1=0.5),
    *_of_a_small_problem("digits-convnet", lam=0.1, lr=1.0),
    _of_the_pictures("usps", lam=1.0, tau1=1.0, tau2=1.0),
    *_of_an_autoencoder("mnist-autoencoder"),
    *_of_an_autoencoder("curves-autoencoder"),
    *_of_an_autoencoder("patches-autoencoder"),
    *_of_a_convnet("cifar10-kfc"),
    *_of_a_convnet("svhn-kfc"),
)
"""What :func:`recipe` knows."""


def recipes_for(problem: str) -> dict[str, Recipe]:
    """Return the recipes of a problem by name; none for a problem without.

    >>> list(recipes_for("digits"))
    ['K-FAC', 'Nesterov']
    """
    return {entry.name: entry for entry in RECIPES if entry.problem == problem}


def recipe(problem: str, name: str) -> Recipe:
    """Find a recipe.

    Raises:
        ValueError: if there is none; it lists those of the problem.

    >>> kfac = recipe("mnist-autoencoder", "K-FAC")
    >>> kfac.optimizer, kfac.arguments["lam"], kfac.batch_size, kfac.averaging, kfac.source
    ('KFAC', 150.0, 'growing', PerStep(weight=0.99), '[MG15, sec. 13]')
    """
    recipes = recipes_for(problem)
    if name not in recipes:
        problems = ", ".join(dict.fromkeys(entry.problem for entry in RECIPES))
        names = ", ".join(recipes) or f"none; there are some for {problems}"
        raise ValueError(f"expected a recipe for {problem} among {names}, got {name!r}")
    return recipes[name]
