"""The explorer: one HTML file in which a net's Fisher matrix and its approximations can be looked at by hand.

The page of a net of your own, at one or more moments of training:

    from minikfac import explorer
    explorer.write("explorer.html", net, {"before training": theta0, "after training": theta}, x, y)
"""

from .numbers import DAMPINGS, LARGEST_BLOCK, LARGEST_NET, MOMENTS
from .page import write, write_example

__all__ = ["DAMPINGS", "LARGEST_BLOCK", "LARGEST_NET", "MOMENTS", "write", "write_example"]
