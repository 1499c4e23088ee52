"""The second net of the explorer's second tab, by the package's own maps."""

import numpy as np

from minikfac.explorer import equivalent
from minikfac.network import Network
from minikfac.reparam import Reparameterization
from minikfac.reparam.wrap import Wrap, wrap


def equivalent_net(net: Network, strength: float) -> Reparameterization:
    return wrap(
        net,
        {
            l: Wrap(
                U=one["R"] * strength ** one["v"] @ one["R"].T,
                V=one["Q"] * strength ** one["u"] @ one["Q"].T,
                d=np.log10(strength) * one["delta"],
            )
            for l, one in enumerate(equivalent.constants())
        },
    )
