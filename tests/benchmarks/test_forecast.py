"""The forecast benchmark: its scores on numbers whose answers are known."""

import numpy as np
import pytest

from benchmarks.forecast import OURS, Scores, linear, normal_scores, rivals, table
from volgrad.data.image import Feature, Image

NAMES = ("log_rv_day", "log_rv_week", "log_rv_month", "dvol", "underlying", "log_rv_next")


def image(hours=60, seed=0):
    """Two underlyings whose next day follows from DVOL and the day before it, without noise."""
    random = np.random.default_rng(seed)
    rows = random.standard_normal((hours, 2, len(NAMES)))
    rows[:, :, 4] = [0.0, 1.0]
    rows[:, :, 5] = 0.3 * rows[:, :, 0] + rows[:, :, 3] + np.array([1.0, -1.0])[None, :]
    stamps = np.arange(hours) * 3_600_000_000
    features = [Feature(name, "1") for name in NAMES]
    return Image.of(rows.reshape(-1, len(NAMES)).astype(np.float32), np.full(hours, 2), stamps, stamps, features)


def test_each_rival_knows_what_it_is_given():
    found = rivals(image(), range(40), range(40, 60))
    square = {name: score[:, 0].mean() for name, score in found.items()}
    assert square["HAR-DVOL"] < 1e-9
    assert square["linear"] < 1e-9
    assert square["HAR"] > 0.5
    assert square["DVOL x"] == pytest.approx(0.09, rel=0.6)
    assert square["DVOL"] > 0.8  # a level of 1 above, or below


def test_qlike_is_0_where_nothing_is_missed():
    np.testing.assert_allclose(normal_scores(np.array([1.0, -2.0]), np.array([1.0, -2.0]), 0.0), 0.0)
    # twice the variance: 2 - log 2 - 1
    assert normal_scores(np.log(np.array([2.0])), np.zeros(1), 0.0)[0, 1] == pytest.approx(2.0 - np.log(2.0) - 1.0)


def test_linear_forecasts_are_those_of_numpy():
    random = np.random.default_rng(1)
    x, noise = random.standard_normal((500, 2)), random.standard_normal(500)
    found, deviation = linear(x, x @ np.array([1.0, 2.0]) + 3.0 + noise, np.array([[0.0, 0.0], [1.0, 1.0]]))
    np.testing.assert_allclose(found, [3.0, 6.0], atol=0.3)
    assert deviation == pytest.approx(1.0, abs=0.1)


def test_an_interval_of_the_gain_holds_the_gain_and_is_clear_of_0_where_all_agree():
    days = np.repeat(np.arange(100), 4)
    theirs = np.random.default_rng(0).uniform(1.0, 2.0, (400, 2))
    methods = {OURS: theirs - 0.5, "HAR": theirs, "DVOL": theirs[::-1] - 0.5}
    one = table(Scores(days, np.zeros(400, int), methods), seed=0, block_days=5)["0"]
    assert (one["forecasts"], one["blocks"]) == (400, 20)
    assert one["methods"]["HAR"]["qlike_gain"] == pytest.approx([0.5, 0.5])
    low, high = one["methods"]["DVOL"]["qlike_gain"]
    assert low < 0.0 < high
