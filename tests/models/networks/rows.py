"""Clusters of rows for the laws in this folder, and batch normalisation in numpy's float64."""

import numpy as np
from hypothesis import strategies as st

#: Clusters, rows, features (few, as each is compiled), seed and level of a batch with padding.
SHAPES = st.tuples(
    st.sampled_from([(1, 1, 1), (2, 1, 2), (5, 6, 2)]), st.integers(0, 9999), st.sampled_from([0.0, -3.0, 60_000.0])
).map(lambda drawn: (*drawn[0], *drawn[1:]))


def batch(clusters, rows, features, seed, level=0.0, spread=10.0):
    """Rows around a level, and a mask with at least one real row."""
    random = np.random.default_rng(seed)
    mask = np.arange(rows)[None] < random.integers(0, rows + 1, clusters)[:, None]
    mask[0, 0] = True
    return level + spread * random.standard_normal((clusters, rows, features)), mask


def normalised(x, mask, scale, shift, epsilon):
    """Of a batch of shape (clusters, rows, features): outputs, mean and variance."""
    real = x[mask]
    mean, variance = real.mean(axis=0), real.var(axis=0)
    return scale * (x - mean) / np.sqrt(variance + epsilon) + shift, mean, variance


def pulled_back(x, mask, dy, scale, epsilon):
    """`dx`, `d scale`, `d shift` by the formula of Ioffe and Szegedy 2015; 0 where masked."""
    real, dy = x[mask], dy[mask]
    deviation = np.sqrt(real.var(axis=0) + epsilon)
    normal = (real - real.mean(axis=0)) / deviation
    dx = np.zeros_like(x)
    dx[mask] = scale / deviation * (dy - dy.mean(axis=0) - normal * (dy * normal).mean(axis=0))
    return dx, (dy * normal).sum(axis=0), dy.sum(axis=0)
