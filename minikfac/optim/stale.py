"""Inverses that are computed in the background while steps use the previous ones [BGM17].

Inverses requested in step k are used from step k + age on. A second thread computes them, and if they are not
ready by then the step waits, so results do not depend on the thread's speed. A request is plain data,
{"step": k, "factors": those of step k, ...}, and part of the state: a run resumed from a state with a pending
request computes its inverses when they are due.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from ..backend import on_second_stream
from ..distributed import Communicator

T = TypeVar("T")
Request = dict[str, Any]


class Background:
    """Processes one request at a time in a second thread."""

    def __init__(self) -> None:
        self._request: Request | None = None
        self._future: Future[Any] | None = None

    def inverses(
        self,
        request: Request | None,
        state: Mapping[str, Any],
        max_age: int,
        wait: bool,
        answer: Callable[[Request, Communicator], T],
        comm: Communicator,
    ) -> tuple[T | None, dict[str, Any]]:
        """Return the inverses due in this step, or None, and the state's entries for pending ones.

        Args:
            request: this step's request, or None.
            state: state of the last step.
            max_age: steps from request to use, fewer than between requests; 0 for no second thread.
            wait: use the requested inverses immediately.
            answer: computes inverses on the given ranks.
            comm: the ranks.
        """
        if not max_age:
            return (None if request is None else answer(request, comm)), {}
        pending = state["pending"] if request is None else request
        if request is not None and not wait:
            self._request = request
            task = on_second_stream(partial(answer, request), request["factors"][0][0])
            self._future = comm.in_background(task)
        if pending is None or not (wait or state["step"] + 1 - pending["step"] >= max_age):
            return None, {"pending": pending, "inverse_step": state["inverse_step"]}
        begun, future, self._request, self._future = self._request, self._future, None, None
        ready = future.result() if future is not None and begun is pending else answer(pending, comm)
        return ready, {"pending": None, "inverse_step": pending["step"]}
