"""Find the bug: implementations of K-FAC that are wrong in one place, and statements to find it by.

    >>> from minikfac.exercises import bugs
    >>> bugs.available()
    ['ash', 'birch', 'cedar', 'elm', 'fir', 'hazel', 'larch', 'maple', 'oak']
    >>> bug = bugs.find("birch")
    >>> F = bug.implementation        # F(net, theta, x, y) is a Fisher matrix; n_samples=, rng= draw targets
    >>> print(bug.look())             # runs the statements: where K-FAC must be exact, and how it must scale
    birch: a Kronecker-factored Fisher matrix
      S1  holds  one example of a dense net: exact
                 exact up to rounding
    ...

Which statement fails, and for which cause of ``bugs.CAUSES``?

    >>> bug.check("S1", "locations")
    S1 holds of birch (one example of a dense net: exact): name a statement that fails.

``print(bug.source())`` shows the lines with the bug, for those who have found it.
"""

from .bug import CAUSES, Bug, Findings, available, find, look

__all__ = ["CAUSES", "Bug", "Findings", "available", "find", "look"]
