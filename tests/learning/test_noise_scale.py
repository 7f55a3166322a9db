"""Laws of the gradient noise scale: planted problems, what must not matter, and what it says where it cannot know."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volgrad.learning.batching.noise_intervals import median_of_means, squared_covariance
from volgrad.learning.batching.noise_scale import noise_scale, pooled


def inner(gradients):
    return gradients @ gradients.T


def planted(seed, clusters, rows, dimension, rho, truth):
    """Gradients of halves of clusters; rows have variance 1 a coordinate, the noise scale is `truth` clusters."""
    rng = np.random.default_rng(seed)
    shared = math.sqrt(rho) * rng.standard_normal((clusters, 1, dimension))
    own = math.sqrt((1.0 - rho) * 2.0 / rows) * rng.standard_normal((clusters, 2, dimension))
    mean = math.sqrt((rho + (1.0 - rho) / rows) / truth)
    return (mean + shared + own).reshape(2 * clusters, dimension)


def same(one, other, but=()):
    """That all numbers of two noise scales agree."""
    for name in ("clusters", "lo", "hi", "gradient_square", "trace", "between", "within", "per_row", "micro_batch"):
        if name not in but:
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-6, abs=1e-9, nan_ok=True), name


SIZES = st.tuples(st.integers(0, 10_000), st.integers(4, 40), st.integers(1, 12), st.floats(0.2, 50.0))


@settings(max_examples=25, deadline=None)
@given(SIZES, st.floats(1e-3, 1e3))
def test_the_unit_of_the_loss_does_not_matter(size, factor):
    seed, clusters, dimension, truth = size
    gradients = planted(seed, clusters, 4, dimension, 0.3, truth)
    found = noise_scale(inner(gradients), halves=True, rows_per_cluster=4)
    scaled = noise_scale(inner(factor * gradients), halves=True, rows_per_cluster=4)
    same(found, scaled, but=("gradient_square", "trace", "between", "within"))
    assert scaled.trace == pytest.approx(factor**2 * found.trace)
    assert scaled.significant == found.significant


@settings(max_examples=15, deadline=None)
@given(SIZES)
def test_turning_the_parameters_does_not_matter(size):
    seed, clusters, dimension, truth = size
    gradients = planted(seed, clusters, 4, dimension, 0.3, truth)
    turn, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((dimension, dimension)))
    same(noise_scale(inner(gradients), halves=True), noise_scale(inner(gradients @ turn), halves=True))


@settings(max_examples=15, deadline=None)
@given(SIZES, st.integers(2, 9))
def test_units_of_several_clusters_scale_the_noise_and_nothing_else(size, ghost):
    seed, clusters, dimension, truth = size
    gram = inner(planted(seed, clusters, 4, dimension, 0.3, truth))
    one, several = noise_scale(gram), noise_scale(gram, unit_clusters=ghost)
    for name in ("clusters", "lo", "hi", "trace", "micro_batch"):
        assert getattr(several, name) == pytest.approx(ghost * getattr(one, name))
    assert several.gradient_square == one.gradient_square
    assert several.significant == one.significant


@settings(max_examples=25, deadline=None)
@given(SIZES, st.sampled_from([1.0, 3.0, 32.0]))
def test_another_number_of_rows_and_back(size, rows):
    seed, clusters, dimension, truth = size
    found = noise_scale(inner(planted(seed, clusters, 8, dimension, 0.3, truth)), halves=True, rows_per_cluster=8)
    there = found.at(rows)
    same(found, there.at(8.0))
    same(found, found.at(8.0))
    assert (there.trace > found.trace) == (rows < 8.0)
    assert there.intraclass == found.intraclass


@settings(max_examples=25, deadline=None)
@given(SIZES, st.booleans())
def test_the_interval_holds_the_estimate_and_is_open_where_the_signal_is_faint(size, ordered):
    seed, clusters, dimension, truth = size
    gram = inner(planted(seed, clusters + 12, 4, dimension, 0.3, truth))
    found = noise_scale(gram, ordered=ordered)
    assert 0.0 <= found.lo <= found.clusters
    assert found.lo <= found.hi
    assert math.isfinite(found.hi) == found.significant
    if found.significant:
        assert found.clusters <= found.hi
        assert found.gradient_square > 0.0


def test_the_square_of_the_gradient_is_that_of_the_mean_less_its_noise():
    gradients = planted(3, 20, 4, 7, 0.3, 10.0)
    found, mean = noise_scale(inner(gradients)), gradients.mean(axis=0)
    noise = ((gradients - mean) ** 2).sum() / (len(gradients) - 1)
    assert found.gradient_square == pytest.approx(mean @ mean - noise / len(gradients))
    few = noise_scale(inner(gradients[:20]))
    assert few.trace == pytest.approx(gradients[:20].var(axis=0, ddof=1).sum())  # too few for a median of means


def test_halves_tell_the_noise_within():
    gradients = planted(4, 30, 6, 5, 0.3, 10.0)
    halves = gradients.reshape(30, 2, 5)
    found = noise_scale(inner(gradients[:50]), halves=True, rows_per_cluster=6)
    apart = ((halves[:25, 0] - halves[:25, 1]) ** 2).sum(axis=1).mean()
    assert found.within == pytest.approx(6.0 / 4.0 * apart)
    assert found.between + found.within / 6.0 == pytest.approx(found.trace)
    same(found, noise_scale(inner(halves[:25].mean(axis=1)), rows_per_cluster=6), but=("between", "within", "per_row"))


def test_the_example_of_rows_that_are_alike():
    # 32 snapshots of 64 rows, rho .3, 50 parameters: rows taken for independent are 25 times too optimistic
    scales = [
        noise_scale(inner(planted(seed, 32, 64, 50, 0.3, 7.77)), halves=True, rows_per_cluster=64) for seed in range(60)
    ]
    assert np.median([scale.rows for scale in scales]) == pytest.approx(497, rel=0.05)
    assert np.median([scale.per_row for scale in scales]) == pytest.approx(20, rel=0.1)
    assert np.mean([scale.intraclass for scale in scales]) == pytest.approx(0.3, abs=0.02)
    assert np.mean([scale.rows_lo <= 497 <= scale.rows_hi for scale in scales]) >= 0.9
    assert np.median([scale.micro_batch for scale in scales]) == pytest.approx(497, rel=0.15)


def test_rows_that_are_not_alike_need_no_clusters():
    scale = noise_scale(inner(planted(1, 400, 8, 500, 0.0, 100.0)), halves=True, rows_per_cluster=8)
    assert scale.per_row == pytest.approx(scale.rows, rel=0.05)
    assert abs(scale.intraclass) < 0.01


@pytest.mark.parametrize(("clusters", "dimension", "truth"), [(32, 10, 4.0), (64, 400, 64.0), (40, 1000, 200.0)])
def test_unbiased_and_covered(clusters, dimension, truth):
    scales = [
        noise_scale(inner(planted((9, seed), clusters, 4, dimension, 0.3, truth)), halves=True) for seed in range(100)
    ]
    square = dimension * (0.3 + 0.7 / 4) / truth
    errors = np.array([scale.gradient_square / square - 1.0 for scale in scales])
    assert abs(errors.mean()) < 3.0 * errors.std() / math.sqrt(len(errors))
    assert np.mean([scale.trace for scale in scales]) == pytest.approx(truth * square, rel=0.03)
    inside = np.mean([scale.lo <= truth <= scale.hi for scale in scales])
    assert 0.9 <= inside <= 0.995


def test_no_signal_is_rarely_significant_and_says_at_least():
    scales = [noise_scale(inner(np.random.default_rng(seed).standard_normal((40, 30)))) for seed in range(150)]
    assert np.mean([scale.significant for scale in scales]) <= 0.06
    faint = next(scale for scale in scales if not scale.significant)
    assert faint.hi == math.inf
    assert faint.words() == f"at least {faint.rows_lo:.0f} rows"
    assert np.quantile([scale.lo for scale in scales], 0.025) > 15.0  # what 40 units can tell at the least
    assert all(scale.clusters == math.inf for scale in scales if scale.gradient_square <= 0.0)


def test_heavy_tails_neither_bias_the_trace_nor_close_the_interval():
    traces, inside = [], []
    for seed in range(150):
        rng = np.random.default_rng((5, seed))
        factor = np.sqrt(3.0 / rng.chisquare(5, (64, 1)))
        scale = noise_scale(inner(0.25 + factor * rng.standard_normal((64, 100))))
        traces.append(scale.trace)
        inside.append(scale.lo <= 16.0 <= scale.hi)
    assert np.mean(traces) == pytest.approx(100.0, rel=0.06)
    assert np.mean(inside) >= 0.9


def test_one_freak_gradient_moves_the_median_of_means_less_than_the_mean():
    values = np.random.default_rng(0).chisquare(20, 64)
    spoilt = values.copy()
    spoilt[0] *= 1000.0
    assert median_of_means(spoilt) < 1.5 * median_of_means(values)
    assert spoilt.mean() > 10.0 * values.mean()
    assert median_of_means(np.full(100, 3.0)) == pytest.approx(3.0)


def test_the_squared_covariance_is_unbiased():
    deviation = np.array([2.0, 1.0, 0.5, 0.1])
    rng = np.random.default_rng(0)
    found = [squared_covariance(inner(5.0 + deviation * rng.standard_normal((12, 4))))[0] for _ in range(2000)]
    assert np.mean(found) == pytest.approx((deviation**4).sum(), rel=0.05)


def test_equal_clusters_have_no_noise():
    gradients = np.tile(np.array([[1.0, -2.0, 0.5]]), (12, 1))
    found = noise_scale(inner(gradients), halves=True, rows_per_cluster=4)
    assert found.clusters == pytest.approx(0.0, abs=1e-12)
    assert found.hi == pytest.approx(0.0, abs=1e-12)
    assert found.significant


def test_rows_that_repeat_their_cluster_are_worth_one():
    one = np.random.default_rng(0).standard_normal((50, 20)) + 0.3
    found = noise_scale(inner(np.repeat(one, 2, axis=0)), halves=True, rows_per_cluster=10)
    assert found.intraclass == pytest.approx(1.0)
    assert found.at(1.0).clusters == pytest.approx(found.clusters)
    assert found.at(100.0).rows == pytest.approx(10.0 * found.rows)


def streamed(seed, units, memory, noise, truth, dimension=100):
    """Units of variance 1: an autoregression, and as much noise beside it; and the inflation of their trace."""
    rng = np.random.default_rng(seed)
    series, fresh = rng.standard_normal((2, units, dimension))
    for at in range(1, units):
        series[at] = memory * series[at - 1] + math.sqrt(1.0 - memory**2) * series[at]
    time = ((1.0 + memory) / (1.0 - memory) + noise) / (1.0 + noise)
    mean = math.sqrt(time / truth)
    return mean + (series + math.sqrt(noise) * fresh) / math.sqrt(1.0 + noise), time


@pytest.mark.parametrize(("memory", "noise"), [(0.0, 0.0), (0.5, 0.0), (0.8, 1.0), (-0.3, 0.0)])
def test_memory_is_paid_for(memory, noise):
    scales = []
    for seed in range(40):
        gradients, time = streamed((seed, 1), 200, memory, noise, 50.0)
        scales.append(noise_scale(inner(gradients), ordered=True))
    assert np.mean([scale.time for scale in scales]) == pytest.approx(time, rel=0.07)
    ratio = np.mean([scale.trace for scale in scales]) / np.mean([scale.gradient_square for scale in scales])
    assert ratio == pytest.approx(50.0, rel=0.1)
    assert np.mean([scale.lo <= 50.0 <= scale.hi for scale in scales]) >= 0.85


def test_a_stream_of_halves_keeps_its_parts():
    gradients = planted(2, 64, 4, 30, 0.3, 20.0)
    found = noise_scale(inner(gradients), halves=True, rows_per_cluster=4, ordered=True)
    assert found.between + found.within / 4.0 == pytest.approx(found.trace)
    assert found.time == pytest.approx(1.0, abs=0.2)
    assert found.at(40.0).at(4.0).time == pytest.approx(found.time)
    assert found.at(40.0).time - 1.0 == pytest.approx(
        (found.time - 1.0) / found.time * found.trace / (found.at(40.0).trace / found.at(40.0).time)
    )
    assert noise_scale(inner(gradients), halves=True, rows_per_cluster=4).time == 1.0


def test_pooling_averages_before_it_divides():
    scales = [
        noise_scale(inner(planted(seed, 40, 4, 50, 0.3, 80.0)), halves=True, rows_per_cluster=4) for seed in range(8)
    ]
    found = pooled(scales)
    assert found.trace == pytest.approx(np.mean([scale.trace for scale in scales]))
    assert found.gradient_square == pytest.approx(np.mean([scale.gradient_square for scale in scales]))
    assert found.clusters == pytest.approx(found.trace / found.gradient_square)
    assert found.units == 320
    assert found.lo < 80.0 < found.hi
    assert found.hi / found.lo < min(scale.hi / scale.lo for scale in scales)
    same(pooled(scales[:1]), scales[0])
    same(pooled(scales, [0.0, 0.0, 2.0] + [0.0] * 5), scales[2])


def test_pooled_intervals_cover():
    inside = []
    for seed in range(40):
        parts = [noise_scale(inner(planted((seed, part), 32, 4, 60, 0.3, 64.0)), halves=True) for part in range(4)]
        found = pooled(parts)
        inside.append(found.lo <= 64.0 <= found.hi)
    assert np.mean(inside) >= 0.9


def test_no_gradient_is_not_known():
    found = noise_scale(np.zeros((6, 6)), halves=True, rows_per_cluster=2)
    assert math.isnan(found.clusters)
    assert math.isnan(found.lo)
    assert (found.hi, found.significant) == (math.inf, False)
    assert found.words() == "not known: there is no gradient"
    assert math.isnan(found.at(4.0).clusters)
    assert math.isnan(noise_scale(np.zeros((20, 20)), ordered=True).clusters)
    assert math.isnan(pooled([found, found]).clusters)


@pytest.mark.parametrize("units", [2, 3])
def test_so_few_units_tell_nothing_of_their_errors(units):
    found = noise_scale(inner(planted(0, units, 2, 5, 0.0, 1.0)[:units]))
    assert (found.lo, found.hi, found.significant) == (0.0, math.inf, False)
    assert found.words() == f"not known: {units} gradients are too few to tell"


@pytest.mark.parametrize(
    ("gram", "options", "message"),
    [
        (np.ones((1, 1)), {}, "1 units"),
        (np.ones((2, 2)), {"halves": True}, "1 units"),
        (np.ones((3, 3)), {"halves": True}, "3 gradients of halves"),
        (np.ones((2, 3)), {}, r"shape \(2, 3\)"),
        (np.full((4, 4), np.nan), {}, "not finite"),
        (np.eye(4), {"ordered": True}, "4 units in time"),
        (np.eye(4), {"unit_clusters": 0}, "0 clusters in a unit"),
        (np.eye(4), {"rows_per_cluster": -1.0}, "-1.0 rows"),
    ],
    ids=["one", "one of halves", "odd", "not square", "not finite", "short", "no clusters", "no rows"],
)
def test_what_cannot_be_estimated_is_said(gram, options, message):
    with pytest.raises(ValueError, match=message):
        noise_scale(gram, **options)


def test_other_wrong_usage_is_said():
    found = noise_scale(np.eye(8) + 1.0)
    with pytest.raises(ValueError, match="halves"):
        found.at(2.0)
    with pytest.raises(ValueError, match="draw some"):
        noise_scale(np.eye(8) + 1.0, halves=True).at(0.0)
    with pytest.raises(ValueError, match="at least one"):
        pooled([])
    for weights in ([1.0], [0.0, 0.0], [1.0, -1.0], [math.nan, 1.0]):
        with pytest.raises(ValueError, match="one for each"):
            pooled([found, found], weights)


def test_words_round():
    found = noise_scale(inner(planted(0, 32, 4, 10, 0.3, 2.0)))
    assert found.significant
    big = found._replace(clusters=1153.77, lo=899.9, hi=15_716.0, rows_per_cluster=100.0)
    assert big.words() == "about 115,000 rows (90,000 to 1,570,000)"
    small = found._replace(clusters=4.97, lo=3.1, hi=8.0, rows_per_cluster=100.0)
    assert small.words() == "about 497 rows (310 to 800)"
    assert small._replace(significant=False, hi=math.inf).words() == "at least 310 rows"
