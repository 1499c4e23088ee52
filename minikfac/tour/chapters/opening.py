"""The talk's opening: every map of the globe distorts, and a gradient goes by the map that it is taken on.

    maps       Tissot's ellipses on maps of the globe
    ascents    one hill climbed by the gradient and by the natural gradient, on several maps
    gaussian   a Gaussian fitted in several charts

No net; the valley, which belongs to the opening too, is in :mod:`.descent`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .gaussian_family import GaussianFlows, gaussian_flows
from .globe import Ascents, ascents
from .projections import Tissot, tissot


@dataclass
class Opening:
    """What the pictures of the opening show; parts that are not made yet are None."""

    maps: Tissot | None = None
    ascents: Ascents | None = None
    gaussian: GaussianFlows | None = None


def stages(found: Opening) -> dict[str, Callable[[], None]]:
    """Name the pieces of work that fill ``found``; they do not depend on each other."""

    def maps() -> None:
        found.maps = tissot()

    def climbed() -> None:
        found.ascents = ascents()

    def fitted() -> None:
        found.gaussian = gaussian_flows()

    return {"maps of the globe": maps, "ascent on maps": climbed, "Gaussian in charts": fitted}
