"""The log-moneyness nodes on which every slice of a surface lives, and the cubic spline through them.

All expiries share one grid in forward-moneyness, because calendar arbitrage is a statement at fixed
`k = ln(K/F)`. The nodes are spaced as `sinh`: .0015 apart at the money, 7.5 % of `|k|` far from it, so that an
expiry two hours away and one two years away are resolved alike. Measured on 48 recorded chains: 241 nodes give
the same share inside as these 161 to a hundredth of a point.
"""

import functools

import numpy as np
from jaxtyping import Float64, Int32, Int64

__all__ = ["CENTRE", "NODES", "cardinal", "interpolate", "spline_curvature", "stencil"]

_HALF, _WIDTH, _STRETCH = 80, 4.0, 6.0

#: Index of the node at `k = 0`, where the payoff has its kink.
CENTRE = _HALF


def _nodes() -> Float64[np.ndarray, " nodes"]:
    nodes = _WIDTH * np.sinh(_STRETCH * np.linspace(-1.0, 1.0, 2 * _HALF + 1)) / np.sinh(_STRETCH)
    nodes[CENTRE] = 0.0
    return nodes


#: Log-moneyness of the nodes, ascending, from -4 to 4. Shape: (161,).
NODES = _nodes()
NODES.setflags(write=False)


def stencil(
    log_moneyness: Float64[np.ndarray, " rows"],
) -> tuple[Int32[np.ndarray, "rows 4"], Float64[np.ndarray, "rows 4"]]:
    """The four nodes around each point and the weights of the cubic through them (Lagrange).

    >>> index, weight = stencil(np.array([0.1]))
    >>> bool(abs((weight * NODES[index] ** 3).sum() - 0.1**3) < 1e-15)
    True
    """
    first = np.clip(np.searchsorted(NODES, log_moneyness) - 2, 0, NODES.size - 4)
    index = (first[:, None] + np.arange(4)).astype(np.int32)
    nodes = NODES[index]
    weight = np.ones_like(nodes)
    for one in range(4):
        for other in range(4):
            if one != other:
                weight[:, one] *= (log_moneyness - nodes[:, other]) / (nodes[:, one] - nodes[:, other])
    return index, weight


@functools.cache
def curvature_operator(nodes: tuple[float, ...]) -> Float64[np.ndarray, "nodes nodes"]:
    """Matrix from values at `nodes` to the second derivatives there of their natural cubic spline."""
    gap = np.diff(np.asarray(nodes))
    count = gap.size + 1
    left, right = np.eye(count), np.zeros((count, count))
    for node in range(1, count - 1):
        before, after = gap[node - 1], gap[node]
        left[node, node - 1 : node + 2] = before / 6.0, (before + after) / 3.0, after / 6.0
        right[node, node - 1 : node + 2] = 1.0 / before, -1.0 / before - 1.0 / after, 1.0 / after
    return np.linalg.solve(left, right)


def spline_curvature(
    values: Float64[np.ndarray, "*slices nodes"], nodes: Float64[np.ndarray, " nodes"] = NODES
) -> Float64[np.ndarray, "*slices nodes"]:
    """Second derivatives at the nodes of the natural cubic spline through `values`."""
    return values @ curvature_operator(tuple(nodes.tolist())).T


def cardinal(
    at: Float64[np.ndarray, " points"], nodes: Float64[np.ndarray, " nodes"] = NODES
) -> Float64[np.ndarray, "nodes points"]:
    """Matrix from values at `nodes` to their spline at each point, as `interpolate` reads it.

    >>> bool(np.allclose(NODES**2 @ cardinal(NODES[3:5]), NODES[3:5] ** 2))
    True
    """
    inside = np.clip(at, nodes[0], nodes[-1])
    left = np.clip(np.searchsorted(nodes, inside), 1, nodes.size - 1) - 1
    gap = np.diff(nodes)[left]
    up, beyond, column = (inside - nodes[left]) / gap, at - inside, np.arange(at.size)
    down = 1.0 - up
    bend = curvature_operator(tuple(nodes.tolist()))
    by_left = -down * up * gap**2 / 6.0 * (1.0 + down) - beyond * gap / 6.0 * (3.0 * down**2 - 1.0)
    by_right = -down * up * gap**2 / 6.0 * (1.0 + up) + beyond * gap / 6.0 * (3.0 * up**2 - 1.0)
    found = bend[left] * by_left[:, None] + bend[left + 1] * by_right[:, None]
    found[column, left] += down - beyond / gap
    found[column, left + 1] += up + beyond / gap
    return found.T


def interpolate(
    values: Float64[np.ndarray, "slices nodes"],
    curvature: Float64[np.ndarray, "slices nodes"],
    slice_index: Int64[np.ndarray, " points"],
    at: Float64[np.ndarray, " points"],
    nodes: Float64[np.ndarray, " nodes"] = NODES,
) -> Float64[np.ndarray, " points"]:
    """The spline of one slice at each point; beyond the last node it goes on in a straight line."""
    inside = np.clip(at, nodes[0], nodes[-1])
    left = np.clip(np.searchsorted(nodes, inside), 1, nodes.size - 1) - 1
    gap = np.diff(nodes)[left]
    up = (inside - nodes[left]) / gap
    down = 1.0 - up
    place = slice_index * nodes.size + left
    value, bend = values.ravel(), curvature.ravel()
    value_left, value_right = value[place], value[place + 1]
    bend_left, bend_right = bend[place] * gap / 6.0, bend[place + 1] * gap / 6.0
    found = down * value_left + up * value_right
    found -= down * up * gap * ((1.0 + down) * bend_left + (1.0 + up) * bend_right)
    beyond = at - inside
    if not beyond.any():
        return found
    slope = (value_right - value_left) / gap + (3.0 * up**2 - 1.0) * bend_right - (3.0 * down**2 - 1.0) * bend_left
    return found + slope * beyond
