"""The tour: a net's Fisher matrix, every approximation of it, and the page that shows what each costs.

The tour of a net of your own, and its page:

    from minikfac import datasets, tour
    mine = tour.tour(datasets.digits(), tour.Settings(sizes=(64, 20, 20, 10)))
    tour.write_report(mine, "my-net")
"""

from typing import TYPE_CHECKING

from .._on_demand import on_demand

if TYPE_CHECKING:
    from ..exploration import Study, fisher_study
    from ..network.presets import convnet
    from ..quality import APPROXIMATIONS
    from .chapters import CHAPTERS
    from .chapters.ascents import ascents
    from .chapters.batchnorm import coupling
    from .chapters.conditioning import conditioning
    from .chapters.damping_study import damping_study
    from .chapters.exactness import exactness
    from .chapters.gaussian import gaussian_flows
    from .chapters.globe import PROJECTIONS, tissot
    from .chapters.maps import layer_maps, map_statistics
    from .chapters.shifts import shifted_products
    from .page import Written, write_report
    from .run import Tour, tour
    from .settings import Settings
    from .studied import Run

__all__ = on_demand(__name__)
