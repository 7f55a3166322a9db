"""Laws of the paired statistics: signs, symmetry, coverage, clusters."""

import types

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from benchmarks import scoring

HOUR_MS = 3_600_000


def inverse_price(k: np.ndarray, s: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Coin premium, as the scorer has it."""
    d1 = -k / s + 0.5 * s
    return w * (ndtr(w * d1) - np.exp(k) * ndtr(w * (d1 - s)))


SCORER = types.SimpleNamespace(inverse_price=inverse_price)


def quotes(seed: int, chains: int = 20, strikes: int = 6) -> pl.DataFrame:
    """A test table: chains six hours apart, half-spread one volatility point around a volatility of .6."""
    rng, n = np.random.default_rng(seed), chains * strikes
    k, tau = rng.normal(0, 0.2, n), np.full(n, 0.1)
    middle = rng.normal(0.6, 0.03, n)
    sign = np.where(k >= 0, 1.0, -1.0)
    side = {s: inverse_price(k, (middle + d) * np.sqrt(tau), sign) for s, d in (("bid", -0.01), ("ask", 0.01))}
    stamp = pl.Series(np.repeat(np.arange(chains) * 6 * HOUR_MS, strikes)).cast(pl.Datetime("ms", "UTC"))
    return pl.DataFrame(
        {"split": ["interp"] * n, "bucket": ["main"] * n, "ts": stamp, "ccy": ["BTC"] * n, "expiry": stamp}
        | {
            "strike": np.arange(n) * 1.0,
            "cp": np.where(k >= 0, "C", "P"),
            "tau_years": tau,
            "log_moneyness": k,
        }
        | side
        | {"bid_iv": middle - 0.01, "ask_iv": middle + 0.01}
    )


def answered(test: pl.DataFrame, shift: np.ndarray | float) -> pl.DataFrame:
    """Predictions: the middle volatility plus `shift` (fraction)."""
    middle = 0.5 * (pl.col("bid_iv") + pl.col("ask_iv"))
    keys = test.select(*scoring.QUOTE_KEY, middle.alias("iv"))
    return keys.with_columns(pl.Series("iv", keys["iv"].to_numpy() + shift))


def noise(seed: int, size: int, points: float) -> np.ndarray:
    """Gaussian errors, `points` volatility points."""
    return 0.01 * points * np.random.default_rng(seed).standard_normal(size)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_a_method_compared_with_itself_differs_by_nothing(seed: int) -> None:
    test = quotes(seed)
    a = answered(test, noise(seed, test.height, 1.0))
    told = scoring.paired(a, a.sample(fraction=1.0, shuffle=True, seed=seed), test, SCORER, draws=50)["main/interp"]
    assert told["inside"]["value"] == told["rmse"]["value"] == 0.0
    assert told["inside"]["by_snapshot"] == (0.0, 0.0)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_swapping_the_methods_turns_every_sign(seed: int) -> None:
    test = quotes(seed)
    a, b = (answered(test, noise(seed + i, test.height, 1.0 + i)) for i in (0, 1))
    one, other = (scoring.paired(*pair, test, SCORER, draws=200)["main/interp"] for pair in ((a, b), (b, a)))
    for figure in ("inside", "inside_by_chain", "rmse"):
        assert one[figure]["value"] == pytest.approx(-other[figure]["value"])
        low, high = one[figure]["by_snapshot"]
        assert (-high, -low) == pytest.approx(other[figure]["by_snapshot"])
    assert one["chains_a_better"] == other["chains_b_better"]


def test_inside_is_between_bid_and_ask_and_a_missing_answer_is_a_miss() -> None:
    test = quotes(0)
    shift = np.tile([0.0, 0.0099, -0.0099, 0.0101, -0.0101, np.nan], 20)
    rows = scoring.row_scores(scoring.joined(answered(test, shift), test), SCORER)
    assert rows["inside"].to_list() == [True, True, True, False, False, False] * 20
    told = scoring.paired(answered(test, shift), answered(test, 0.0), test, SCORER, draws=50)["main/interp"]
    assert told["inside_a"] == pytest.approx(50.0)
    assert told["inside_b"] == pytest.approx(100.0)
    assert told["answered_by_both"] == pytest.approx(5 / 6)
    assert told["rmse_b"] == pytest.approx(0.0, abs=1e-9)


def test_predictions_without_a_chain_lose_that_chain_and_nothing_else() -> None:
    test = quotes(1)
    a = answered(test, 0.0)
    told = scoring.paired(a.filter(pl.col("ts") != a["ts"][0]), a, test, SCORER, draws=50)["main/interp"]
    assert told["chains_b_better"] == 1
    assert told["inside"]["value"] == pytest.approx(-100 / 20)


def test_interval_covers_a_true_difference_at_its_nominal_rate() -> None:
    """Chains with a shared shock: the interval by cluster holds the true mean about 95 times in 100."""
    rng, hits, trials = np.random.default_rng(7), 0, 200
    for trial in range(trials):
        gain = 0.1 + np.repeat(rng.normal(0, 0.2, 60), 2) + rng.normal(0, 0.05, 120)
        rows = np.full(120, 10.0)
        zero = np.zeros(120)
        counts = np.stack([rows, rows * gain, zero, rows, rows, rows, np.ones(120), gain], 1)
        interval = scoring.bootstrap(counts, np.repeat(np.arange(60), 2), draws=300, seed=trial)
        assert interval is not None
        hits += bool(interval[0, 0] <= 10.0 <= interval[1, 0])
    assert 0.88 <= hits / trials <= 0.99


def test_shared_shocks_widen_the_interval() -> None:
    rng = np.random.default_rng(3)
    gain = np.repeat(rng.normal(0, 0.2, 30), 4)
    counts = np.stack([np.ones(120), gain, *np.zeros((1, 120)), *np.ones((4, 120)), gain], 1)
    together = scoring.bootstrap(counts, np.repeat(np.arange(30), 4), 1000, 0)
    apart = scoring.bootstrap(counts, np.arange(120), 1000, 0)
    assert together is not None
    assert apart is not None
    assert np.diff(together[:, 0])[0] > 1.5 * np.diff(apart[:, 0])[0]


def test_too_few_clusters_give_no_interval() -> None:
    test = quotes(0, chains=12)  # three days
    told = scoring.paired(answered(test, 0.005), answered(test, 0.02), test, SCORER, draws=50)["main/interp"]
    assert told["inside"]["by_day"] is None
    assert told["inside"]["by_snapshot"] == (100.0, 100.0)
    assert "too few" in scoring.table({"main/interp": told})


def test_a_missing_column_is_named() -> None:
    test = quotes(0)
    with pytest.raises(ValueError, match="strike"):
        scoring.joined(answered(test, 0.0).drop("strike"), test)


def test_row_scores_agree_with_the_scorer_itself() -> None:
    if scoring.find_scorer() is None:
        pytest.skip("no score_surface.py at $VOLGRAD_SCORER or ../shared/benchmarks beside the repository")
    scorer = scoring.load_scorer()
    test = quotes(5).with_columns(pl.lit(1e-4).alias("tick_low"))
    rows = scoring.joined(answered(test, noise(5, test.height, 1.0)), test)
    mine, theirs = scoring.row_scores(rows, scorer), scorer.metrics(rows)
    assert mine["inside"].mean() == pytest.approx(theirs["inside"])
    assert np.sqrt((mine["error"] ** 2).mean()) == pytest.approx(theirs["rmse"])
