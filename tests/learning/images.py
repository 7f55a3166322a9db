"""Small images for tests: the first column names the cluster, the second the row within it."""

from pathlib import Path

import numpy as np

from volgrad.data.image import Feature, Image, ImageWriter

FEATURES = (Feature("cluster", "1"), Feature("row", "1"), Feature("noise", "1"))


def table(counts: np.ndarray, seed: int = 0) -> np.ndarray:
    """Rows of clusters of these sizes."""
    rows = np.zeros((int(counts.sum()), 3), np.float32)
    rows[:, 0] = np.repeat(np.arange(len(counts)), counts)
    rows[:, 1] = np.concatenate([np.arange(count) for count in counts])
    rows[:, 2] = np.random.default_rng(seed).standard_normal(len(rows))
    return rows


def in_memory(counts: np.ndarray) -> Image:
    """An image of clusters of these sizes."""
    stamps = np.arange(len(counts)) * 100
    return Image.of(table(counts), counts, stamps, stamps + 10, FEATURES)


def on_disk(counts: np.ndarray, folder: Path) -> Image:
    """The same in files."""
    stamps = np.arange(len(counts)) * 100
    with ImageWriter(folder, FEATURES) as writer:
        writer.append(table(counts), counts, stamps, stamps + 10)
        return writer.seal({"from": "a test"})


def uneven(clusters: int, longest: int, seed: int = 1) -> np.ndarray:
    """Sizes from 1 to `longest`."""
    return np.random.default_rng(seed).integers(1, longest + 1, clusters)
