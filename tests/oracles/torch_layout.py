"""How PyTorch's libraries order the parameters of a net, and how their losses are scaled."""

from collections.abc import Sequence

import numpy as np


def torch_order(shapes: Sequence[tuple[int, int]], bias: bool = True) -> np.ndarray:
    """Where each of our parameters lies in PyTorch's flat vector: theta = theta_torch[order].

    PyTorch stores, layer by layer, the weight (O, I) row by row and then the bias (O,): entry (o, i) of a
    layer that starts at s lies at s + o I + i, its bias o at s + O I + o. Here a layer is (I + 1, O) row
    by row, the bias last: entry (i, o) lies at i O + o. In PyTorch's order a Kronecker block is G (x) A
    with the rows and columns of the bias moved to the end; in ours it is A (x) G as it stands. So
    M = M_torch[order][:, order] for any matrix over parameters.

    Args:
        shapes: (O, I) of the weights, in PyTorch's order.
        bias: whether the layers have one.
    """
    order: list[int] = []
    start = 0
    for n_out, n_in in shapes:
        order += [start + o * n_in + i for i in range(n_in) for o in range(n_out)]
        start += n_out * n_in
        if bias:
            order += [start + o for o in range(n_out)]
            start += n_out
    return np.array(order)


def torch_scale(output: str, n: int, c: int, reduction: str = "mean") -> float:
    """A loss of PyTorch over ours, for N examples and C outputs; curvature scales in the same way.

    Ours is the negative log-likelihood, summed over outputs and averaged over examples. PyTorch's mean is
    over examples, and over outputs too except for cross-entropy; its squared error has no factor 1/2.

        categorical   CrossEntropyLoss     mean 1      sum N
        bernoulli     BCEWithLogitsLoss    mean 1/C    sum N
        gaussian      MSELoss              mean 2/C    sum 2 N
    """
    if reduction == "sum":
        return {"categorical": 1.0, "bernoulli": 1.0, "gaussian": 2.0}[output] * n
    return {"categorical": 1.0, "bernoulli": 1 / c, "gaussian": 2 / c}[output]
