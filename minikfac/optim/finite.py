"""Ensures that each step returns finite numbers, or raises an error with the cause and the settings.

A step does not change its arguments. After an error parameters and state are therefore unchanged, and the
quantity that is not finite can be found by recomputation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any, TypeVar, cast

from ..backend import Array, array_module, fetch, on_host
from ..linalg import SingularMatrixError
from ..parallel import WORTH_DIVIDING, one_thread
from . import checks
from .momentum import State
from .objective import decay, objective_gradient

Step = TypeVar("Step", bound=Callable[..., Any])
ENTRIES = {
    *("velocity", "m", "v", "diagonal", "U", "factors", "inverse", "bases", "eigenvalues", "lam", "gamma"),
    *("delta", "direction", "pending", "inverse_step"),
}
"""Entries of optimizers' states besides the step and statistics."""
ADVICE = {"lr": "a smaller lr", "damping": "more damping", "lam": "a larger lam"}


def finite(step: Step) -> Step:
    """Make an optimizer's ``step`` reject a loss, parameters or state vectors that are not finite.

    If numbers in info are on a device, they are fetched here together with the result of the check, in a
    single request. States of other optimizers or nets are also rejected.
    """

    @wraps(step)
    def checked(
        opt: Any, theta: Array, state: State, batch: tuple[Array, Array], rng: Any = None
    ) -> tuple[Array, State, dict[str, float]]:
        checks.state(opt, state, theta)
        try:
            with one_thread(_is_small(opt, batch)):
                moved, after, info = step(opt, theta, state, batch, rng)
        except KeyError as error:
            if error.args[0] in ENTRIES | {"stats"}:
                raise checks.another_state(opt, state) from error
            raise
        except (ValueError, FloatingPointError) as error:  # raised by passes and inverses on NaN or infinity
            named = _named(error, opt, theta, state, batch)
            if named is error:
                raise
            raise named from error
        if ENTRIES & (state.keys() - after.keys()):  # a subclass may have further entries
            raise checks.another_state(opt, state)
        # steps that have already synchronized return M, which is not finite unless the directions are
        here = on_host(theta) or not all(map(on_host, info.values()))
        *values, good = fetch(*info.values(), are_finite([moved, *_vectors(after, theta)]) if here else True)
        info = dict(zip(info, values, strict=True))
        if not (good and math.isfinite(info["loss"] + info.get("model", 0.0))):
            raise _refusal(opt, state, _not_finite(opt, theta, state, batch) or "a step with NaN or infinity")
        return moved, after, info

    return cast(Step, checked)


def _is_small(opt: Any, batch: tuple[Array, Array]) -> bool:
    """Whether a step's matrix products take less time than synchronizing two BLAS threads."""
    x, *_ = batch
    return isinstance(getattr(x, "shape", None), tuple) and opt.net.work(x) < WORTH_DIVIDING


def are_finite(arrays: Iterable[Array]) -> Any:
    """Whether all numbers in all arrays are finite; on a device the result stays there."""
    good: Any = True
    for array in arrays:
        good = good & array_module(array).isfinite(array).all()
    return good


def _vectors(value: Any, theta: Array) -> Iterator[Array]:
    """Arrays with the shape of theta in a state, such as a velocity."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for entry in value:
            yield from _vectors(entry, theta)
    elif getattr(value, "shape", None) == theta.shape:
        yield value


def _not_finite(opt: Any, theta: Array, state: State, batch: tuple[Array, Array]) -> str | None:
    """Describe the quantity that is not finite before a step; None if the step itself is the cause.

    Raises:
        ValueError: on targets outside the output distribution's support, which are not checked on a device.
    """
    if not fetch(are_finite([theta]))[0]:
        return "NaN or infinite parameters before the step"
    for name, entry in state.items():
        if not fetch(are_finite(_vectors(entry, theta)))[0]:
            return f"NaN or infinite numbers in state[{name!r}]"
    (x, y), l2 = batch, getattr(opt, "l2", 0.0)
    loss, grad, *_ = objective_gradient(opt.net, theta, x, y, state["stats"], l2)
    opt.net.output.check_values(y, opt.net.n_outputs(x))
    loss, penalty, good = fetch(loss, decay(theta, l2), are_finite([grad]))
    if not math.isfinite(loss + penalty):
        return f"a weight decay of {penalty}" if math.isfinite(loss) else f"a loss of {loss}"
    return None if good else "a gradient with NaN or infinity"


def _named(error: Exception, opt: Any, theta: Array, state: State, batch: Any) -> Exception:
    """The error to raise for one within a step: the cause if known, or the same error with the settings."""
    if opt.net.comm.size > 1:  # other ranks may not have reached this point
        return error
    try:
        text = _not_finite(opt, theta, state, batch)
    except (ValueError, FloatingPointError):  # the batch is the cause
        return error
    if text is not None:
        return _refusal(opt, state, text)
    where = f"in step {state['step']} of {type(opt).__name__} with {_shown(_in_force(opt, state))}"
    if isinstance(error, SingularMatrixError):  # whose advice is for direct users of matrices
        fact = str(error).partition("; ")[0]
        return SingularMatrixError(f"{fact}; {where}; use more damping, scaled inputs or float64")
    return type(error)(f"{error}; {where}")


def _in_force(opt: Any, state: State) -> dict[str, float]:
    """Settings that determine the length of a step, by name."""
    k = state["step"]
    names = [name for name in ("lr", "momentum", "damping", "l2") if hasattr(opt, name)]
    values = {name: checks.value_at(getattr(opt, name), k, name) for name in names}
    values |= {name: state[name] for name in ("lam", "gamma") if name in state}
    return {name: value for name, value in values.items() if checks.is_number(value)}


def _shown(settings: dict[str, float]) -> str:
    return ", ".join(f"{name}={value:.4g}" for name, value in settings.items())


def _refusal(opt: Any, state: State, what: str) -> FloatingPointError:
    """The error with the quantity that is not finite, the current settings, and advice on changing them."""
    k, in_force = state["step"], _in_force(opt, state)
    advice = "use " + " or ".join(text for name, text in ADVICE.items() if name in in_force)
    if k == 0 and what.startswith("a loss"):
        advice = "start from smaller parameters, or scale the inputs"
    step = f"step {k} of {type(opt).__name__}"
    return FloatingPointError(
        f"expected finite numbers in {step}, got {what}, with {_shown(in_force)}; {advice}"
    )
