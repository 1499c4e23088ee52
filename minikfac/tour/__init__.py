"""The tour: a net's Fisher matrix, every approximation of it, and the page that shows what each costs.

The tour of a net of your own, and its page:

    from minikfac import datasets, tour
    found = tour.tour(datasets.digits(), tour.Settings(sizes=(64, 20, 20, 10)))
    tour.write_report(found, "my-net")
"""

from .chapters.along import quality_along_training
from .chapters.conditioning import conditioning
from .chapters.convolutions import convnet
from .chapters.coupling import coupling
from .chapters.damping_study import damping_study
from .chapters.exactness import exactness
from .chapters.gaussian_family import gaussian_flows
from .chapters.globe import ascents
from .chapters.maps import layer_maps, map_statistics
from .chapters.projections import PROJECTIONS, tissot
from .chapters.shifts import shifted_products
from .run import Findings, Settings, tour
from .study import APPROXIMATIONS, Study, fisher_study
from .write import Written, write_report

__all__ = [
    "APPROXIMATIONS",
    "Findings",
    "PROJECTIONS",
    "Settings",
    "Study",
    "Written",
    "ascents",
    "conditioning",
    "convnet",
    "coupling",
    "damping_study",
    "exactness",
    "fisher_study",
    "gaussian_flows",
    "layer_maps",
    "map_statistics",
    "quality_along_training",
    "shifted_products",
    "tissot",
    "tour",
    "write_report",
]
