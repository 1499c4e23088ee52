"""The steps of a PyTorch module: of a ``Sequential`` its parts, of other classes what ``forward`` does.

    Step    one layer of ``torch.nn``, or a function that does what one does
    Join    branches that begin at one place, and the sum or the concatenation of what comes out of them

A trace, by ``torch.fx``, runs ``forward`` once on symbols and lists the operations: a graph. Before an
operation comes its input; before a sum, the last operation that all its terms depend on.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NoReturn

BY_HAND = (
    "build the net by hand, with layers.Residual or layers.Parallel around such parts, and take the weights "
    "over by Dense.join and Conv2d.join"
)
_SUMS, _CONCATENATIONS = ("add", "add_", "iadd"), ("cat", "concat", "concatenate")
_CONTAINERS = ("Module", "ModuleDict", "ModuleList", "Sequential")
"""Classes whose ``forward``, that of a subclass, has to be followed."""
_CLASSES = {
    kind.lower(): kind
    for kind in (
        "AdaptiveAvgPool1d AdaptiveAvgPool2d AvgPool1d AvgPool2d MaxPool1d MaxPool2d Dropout ELU Flatten "
        "GELU LeakyReLU LocalResponseNorm LogSigmoid LogSoftmax ReLU SELU Sigmoid SiLU Softmax Softplus Tanh"
    ).split()
}
"""Those of ``torch.nn`` with a function of the same arguments, whose name has no capitals."""
_ELSE = (
    "known are sums and concatenations of branches that begin at one place, the mean over locations, "
    f"view(n, -1) and the functions of {', '.join(_CLASSES.values())}; else {BY_HAND}"
)


@dataclass(frozen=True, eq=False)
class Step:
    """A layer of ``torch.nn``; ``path`` is its name in the module, as in "blocks.1.conv"."""

    path: str
    part: Any


@dataclass(frozen=True, eq=False)
class Join:
    """Branches, and the function that joins them: "add", or "cat" along an axis."""

    path: str
    part: str
    branches: list[list[Step | Join]]
    axis: int = 1


def refuse(path: str, part: Any, hint: str) -> NoReturn:
    """Raise ValueError for a part that cannot be taken over, saying which and what to do."""
    shown = part if isinstance(part, str) else type(part).__name__ if "\n" in repr(part) else repr(part)
    raise ValueError(f"no counterpart for {f'layer {path}, ' if path else ''}{shown}: {hint}")


def kind_of(part: Any) -> str:
    """Name of the class of ``torch.nn`` that a module's class is or derives from."""
    names = (kind.__name__ for kind in type(part).__mro__ if kind.__module__.startswith("torch.nn."))
    return next(names, type(part).__name__)


def steps_of(part: Any, path: str = "") -> list[Step | Join]:
    """The steps of a module, in the order in which they run.

    Raises:
        ValueError: on anything but a chain with residuals and concatenations.
    """
    if kind_of(part) not in _CONTAINERS:
        return [Step(path, part)]
    container = "torch.nn.modules.container"
    if getattr(getattr(part, "forward", None), "__module__", container) != container:
        return _Graph(part, path).steps()
    inside = getattr(part, "_modules", None) or dict(enumerate(part))
    return [step for name, inner in inside.items() for step in steps_of(inner, _within(path, str(name)))]


@contextmanager
def evaluated(module: Any) -> Iterator[None]:
    """As in ``module.eval()``, and back."""
    modes = {part: part.training for part in module.modules()}
    try:
        for part in modes:
            part.training = False
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def _within(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


class _Graph:
    """The operations of a module's ``forward``, from a trace.

    Attributes:
        back: of each operation the one before it; of a sum or concatenation the last that all branches share.
    """

    def __init__(self, module: Any, path: str) -> None:
        self.module, self.path = module, path
        settings = inspect.signature(module.forward).parameters
        inputs = [name for name, setting in settings.items() if setting.default is setting.empty]
        if len(inputs) != 1:
            refuse(path, module, f"it takes {len(inputs)} inputs, {', '.join(inputs)}; {BY_HAND}")
        tracer = import_module("torch.fx").Tracer()
        tracer.is_leaf_module = lambda part, _: kind_of(part) not in _CONTAINERS
        defaults = {name: setting.default for name, setting in settings.items() if name not in inputs}
        try:
            with evaluated(module):
                self.nodes = list(tracer.trace(module, defaults).nodes)
        except Exception as error:  # whatever the module does
            refuse(path, module, f"its graph cannot be followed, {type(error).__name__}: {error}; {BY_HAND}")
        self.back: dict[Any, Any] = {}
        for node in self.nodes:
            lines = [list(self._line(source)) for source in _inputs(node)]
            shared = (node for node in lines[0] if all(node in line for line in lines)) if lines else ()
            self.back[node] = next(iter(shared), None)

    def _line(self, node: Any) -> Iterator[Any]:
        """An operation, the one before it, and so on."""
        while node is not None:
            yield node
            node = self.back[node]

    def steps(self) -> list[Step | Join]:
        output = self.nodes[-1].args[0]
        if not hasattr(output, "op"):
            refuse(self.path, self.module, f"it gives a {type(output).__name__}, not one array; {BY_HAND}")
        return self._between(self.nodes[0], output)

    def _between(self, first: Any, last: Any) -> list[Step | Join]:
        """The steps behind one operation, up to another."""
        steps: list[Step | Join] = []
        for node in self._line(last):
            if node is first:
                return steps
            steps = self._steps(node) + steps
        return refuse(self.path, self.module, f"what it gives does not depend on its input; {BY_HAND}")

    def _steps(self, node: Any) -> list[Step | Join]:
        """The steps of one operation."""
        if node.op == "call_module":
            return [Step(_within(self.path, node.target), self.module.get_submodule(node.target))]
        name, settings, stack = _name(node), node.args[1:], list(node.meta.get("nn_module_stack") or ())
        path = _within(self.path, stack[-1] if stack else "")
        if name in (*_SUMS, *_CONCATENATIONS) and self.back[node] is not None:
            branches = [self._between(self.back[node], source) for source in _inputs(node)]
            if name in _SUMS:
                return [Join(path, "add", sorted(branches, key=len, reverse=True))]
            return [Join(path, "cat", branches, node.kwargs.get("dim", settings[0] if settings else 0))]
        parts = _parts_of(name, settings, dict(node.kwargs))
        return [Step(path, part) for part in parts] if parts else refuse(path, name, _ELSE)


def _parts_of(name: str, settings: tuple[Any, ...], named: dict[str, Any]) -> list[Any]:
    """Layers of ``torch.nn`` that do what a function does; [] where there are none."""
    nn, kind = sys.modules["torch"].nn, _CLASSES.get(name.replace("_", ""))
    axes = named.get("dim", settings[0] if settings else None)
    if kind in ("Dropout", "LogSoftmax", "Softmax"):
        return [getattr(nn, kind)()]  # to be refused, whatever the settings are
    if kind:
        first = {"start_dim": 0} if kind == "Flatten" and not settings else {}  # the class begins at 1
        return [getattr(nn, kind)(*settings, **first | named)]
    if name in ("view", "reshape") and settings[1:] == (-1,):
        return [nn.Flatten()]
    over = axes if isinstance(axes, tuple | list) else (axes,)
    if name == "mean" and set(over) in ({2}, {-1}, {2, 3}, {-2, -1}, {2, -1}, {-2, 3}):
        pool = nn.AdaptiveAvgPool1d(1) if len(over) == 1 else nn.AdaptiveAvgPool2d(1)
        return [pool, *([] if named.get("keepdim") else [nn.Flatten()])]
    return []


def _name(node: Any) -> str:
    """Of the function or method that is called, "" for layers."""
    return "" if node.op == "call_module" else getattr(node.target, "__name__", str(node.target))


def _inputs(node: Any) -> list[Any]:
    """The operations whose results it takes: of a sum or concatenation all, of others the first."""
    name, sources = _name(node), node.args[:1]
    if name in _SUMS:
        sources = node.args if not node.kwargs else ()
    elif name in _CONCATENATIONS:
        sources = node.args[0] if node.args and isinstance(node.args[0], tuple | list) else ()
    return list(sources) if all(hasattr(source, "op") for source in sources) else []
