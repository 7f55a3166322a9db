"""Laws of intraclass correlation: published examples, known variances, and what must not matter."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volgrad.learning.batching.clusters import (
    ClusterSums,
    block_draws,
    bootstrap_correlation,
    cheapest_rows_per_cluster,
    correlation_interval,
    design_effect,
    intraclass,
)

# Shrout and Fleiss (1979), Psychological Bulletin 86, table 2: six targets, four judges.
JUDGED = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)
# Sokal and Rohlf, Biometry, box 10.1: left wings of mosquitos, 3 cages of 4 females, measured twice.
WINGS = np.array([
    [[58.5, 59.5], [77.8, 80.9], [84.0, 83.6], [70.1, 68.3]],
    [[69.8, 69.8], [56.0, 54.5], [50.7, 49.3], [63.8, 65.8]],
    [[56.6, 57.5], [77.8, 79.2], [69.9, 69.2], [62.1, 64.5]],
])  # fmt: skip


def effects(seed, clusters, rho, least=5, most=40):
    """Rows with a known intraclass correlation, in clusters of unequal size."""
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(clusters), rng.integers(least, most, clusters))
    shared = rng.standard_normal(clusters)[cluster]
    return math.sqrt(rho) * shared + math.sqrt(1 - rho) * rng.standard_normal(cluster.size), cluster


def by_hand(values, cluster, group):
    """The nested analysis of variance in loops: mean squares, and what each is expected to be."""
    clusters = np.unique(cluster)
    groups = [(c, g) for c in clusters for g in np.unique(group[cluster == c])]
    inside = {one: values[(cluster == one[0]) & (group == one[1])] for one in groups}
    of = {c: values[cluster == c] for c in clusters}
    n, a, b = len(values), len(clusters), len(groups)
    squares = [
        sum(len(of[c]) * (of[c].mean() - values.mean()) ** 2 for c in clusters),
        sum(len(part) * (part.mean() - of[one[0]].mean()) ** 2 for one, part in inside.items()),
        sum(((part - part.mean()) ** 2).sum() for part in inside.values()),
    ]
    shares = sum(len(part) ** 2 / len(of[one[0]]) for one, part in inside.items())
    k1 = (n - shares) / (b - a)
    k2 = (shares - sum(len(part) ** 2 for part in inside.values()) / n) / (a - 1)
    k3 = (n - sum(len(part) ** 2 for part in of.values()) / n) / (a - 1)
    within = squares[2] / (n - b)
    nested = (squares[1] / (b - a) - within) / k1
    return (squares[0] / (a - 1) - within - k2 * nested) / k3, nested, within


def test_a_published_one_way_example():
    found = intraclass(ClusterSums.of(JUDGED.ravel(), np.repeat(np.arange(6), 4)))
    between, within = 11.24, 6.26  # mean squares, as printed
    assert found.within == pytest.approx(within, abs=0.005)
    assert found.between == pytest.approx((between - within) / 4, abs=0.003)
    assert found.correlation == pytest.approx(0.17, abs=0.005)  # ICC(1, 1), as printed
    assert found.rows_per_cluster == 4


def test_a_published_nested_example():
    cage, female = np.repeat(np.arange(3), 8), np.repeat(np.arange(12), 2)
    found = intraclass(ClusterSums.of(WINGS.ravel(), cage, female), nested=True)
    assert found.within == pytest.approx(1.3017, abs=5e-5)
    assert found.nested == pytest.approx(94.9424, abs=5e-5)
    assert found.between == pytest.approx(17.7064, abs=1e-3)


@given(seed=st.integers(0, 10_000), clusters=st.integers(2, 6), groups=st.integers(2, 4), most=st.integers(2, 6))
@settings(max_examples=40)
def test_unequal_nested_clusters_agree_with_sums_in_loops(seed, clusters, groups, most):
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(clusters * groups), rng.integers(1, most + 1, clusters * groups))
    values, cluster = 100 + rng.standard_normal(group.size), group // groups
    if group.size <= clusters * groups:
        return
    found = intraclass(ClusterSums.of(values, cluster, group), nested=True)
    assert (found.between, found.nested, found.within) == pytest.approx(by_hand(values, cluster, group), abs=1e-9)


@given(seed=st.integers(0, 10_000), shift=st.floats(-1e6, 1e6), scale=st.floats(0.01, 100))
@settings(max_examples=30)
def test_unit_and_origin_order_and_names_do_not_matter(seed, shift, scale):
    values, cluster = effects(seed, 12, 0.4)
    plain = intraclass(ClusterSums.of(values, cluster))
    mixed = np.random.default_rng(seed).permutation(values.size)
    other = intraclass(ClusterSums.of((shift + scale * values)[mixed], 7 - 3 * cluster[mixed]))
    assert other.correlation == pytest.approx(plain.correlation, abs=1e-6)
    assert other.between == pytest.approx(scale**2 * plain.between, rel=1e-4, abs=1e-6 * scale**2)


def test_a_vector_is_summed_by_traces():
    values, cluster = effects(1, 600, 0.3)
    one = intraclass(ClusterSums.of(values, cluster))
    twice = intraclass(ClusterSums.of(np.stack([values, values], axis=1), cluster))
    assert twice.correlation == pytest.approx(one.correlation)
    with_noise = np.stack([values, np.random.default_rng(0).standard_normal(values.size)], axis=1)
    assert intraclass(ClusterSums.of(with_noise, cluster)).correlation == pytest.approx(0.15, abs=0.03)


@pytest.mark.parametrize("rho", [0.0, 0.05, 0.3, 0.8])
def test_a_known_correlation_lies_in_its_interval(rho):
    held, found = 0, []
    for seed in range(60):
        sums = ClusterSums.of(*effects(seed, 80, rho))
        low, high = correlation_interval(sums, draws=300, seed=seed)
        held += low <= rho <= high
        found.append(intraclass(sums).correlation)
    assert held >= 51  # of 60 at 95 %: fewer has a chance of 1e-4
    assert np.mean(found) == pytest.approx(rho, abs=4 * np.std(found) / math.sqrt(60))


def test_known_nested_correlations_are_found():
    rng = np.random.default_rng(3)
    group = np.repeat(np.arange(300 * 5), rng.integers(1, 12, 1500))
    cluster = group // 5
    values = (
        math.sqrt(0.2) * rng.standard_normal(300)[cluster]
        + math.sqrt(0.3) * rng.standard_normal(1500)[group]
        + math.sqrt(0.5) * rng.standard_normal(group.size)
    )
    found = intraclass(ClusterSums.of(values, cluster, group), nested=True)
    assert found.correlation == pytest.approx(0.2, abs=0.06)
    assert found.group_correlation == pytest.approx(0.5, abs=0.06)


def test_nothing_is_made_of_nothing():
    one = intraclass(ClusterSums.of(np.array([1.0, 2.0, 4.0]), np.zeros(3, int)))
    single = intraclass(ClusterSums.of(np.array([1.0, 2.0, 4.0]), np.arange(3)))
    same = intraclass(ClusterSums.of(np.ones(6), np.repeat(np.arange(3), 2)))
    empty = intraclass(ClusterSums.of(np.zeros(0), np.zeros(0, int)))
    for found in (one, single, same, empty):
        assert math.isnan(found.correlation)
    few = ClusterSums.of(*effects(1, 5, 0.3))
    assert all(math.isnan(edge) for edge in correlation_interval(few))
    assert math.isnan(design_effect(math.nan, 5.0))
    assert np.isnan(bootstrap_correlation(ClusterSums.of(np.ones(3), np.zeros(3, int)), draws=4)).all()


@pytest.mark.parametrize(
    ("values", "cluster"), [([1.0, math.nan], [0, 1]), ([1.0, math.inf], [0, 1]), ([1.0, 2.0], [0])]
)
def test_what_cannot_be_meant_is_refused(values, cluster):
    with pytest.raises(ValueError, match=r"finite|ids"):
        ClusterSums.of(np.array(values), np.array(cluster))


@given(clusters=st.integers(1, 40), block=st.integers(1, 40), seed=st.integers(0, 100))
def test_blocks_are_whole_and_of_neighbours(clusters, block, seed):
    if block > clusters:
        with pytest.raises(ValueError, match="block"):
            block_draws(clusters, block, 1, seed)
        return
    counts = block_draws(clusters, block, 7, seed)
    assert counts.shape == (7, clusters)
    assert counts.min() >= 0
    assert (counts.sum(axis=1) == block * -(-clusters // block)).all()
    if block == clusters:
        assert (counts == 1).all()
    # blocks begin somewhere: the counts on the ring are a sum of runs of `block` ones
    starts = np.random.default_rng(seed).integers(clusters, size=(7, -(-clusters // block)))
    expected = np.zeros_like(counts)
    for draw in range(7):
        for start in starts[draw]:
            expected[draw, (start + np.arange(block)) % clusters] += 1
    np.testing.assert_array_equal(counts, expected)


def test_a_bootstrap_is_the_estimate_of_the_drawn_clusters():
    values, cluster = effects(5, 20, 0.4)
    counts = block_draws(20, 4, 3, seed=(9, 0))
    drawn = bootstrap_correlation(ClusterSums.of(values, cluster), block=4, draws=3, seed=9)
    for draw in range(3):
        parts = [(values[cluster == c]) for c in range(20) for _ in range(int(counts[draw, c]))]
        again = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        assert drawn[draw] == pytest.approx(intraclass(ClusterSums.of(np.concatenate(parts), again)).correlation)


def test_the_design_effect_is_the_variance_of_a_mean():
    sizes = np.random.default_rng(2).integers(2, 30, 30)
    cluster, rng = np.repeat(np.arange(30), sizes), np.random.default_rng(4)
    shared = rng.standard_normal((4000, 30))[:, cluster]
    means = (math.sqrt(0.3) * shared + math.sqrt(0.7) * rng.standard_normal(shared.shape)).mean(axis=1)
    effect = design_effect(0.3, float((sizes**2).sum() / sizes.sum()))
    assert means.var() * cluster.size == pytest.approx(effect, rel=0.08)
    assert design_effect(-0.2, 50.0) == 1.0


@pytest.mark.parametrize(("rho", "cost"), [(0.05, 30.0), (0.3, 100.0), (0.9, 1.0)])
def test_the_cheapest_rows_per_cluster_have_the_least_variance(rho, cost):
    sizes = np.linspace(1.0, 200.0, 20_000)
    variance = (rho + (1 - rho) / sizes) * (cost + sizes)  # of a mean, times the budget
    assert cheapest_rows_per_cluster(rho, cost) == pytest.approx(sizes[np.argmin(variance)], abs=0.02)
