"""Laws of the rivals: they recover what they can represent, reach scipy's optimum, and join as documented."""

import datetime as dt

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from benchmarks import rivals
from benchmarks.rivals import slices, svi

STAMP = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def chain(seed: int, taus: tuple[float, ...] = (0.05, 0.1, 0.3), noise_points: float = 0.0) -> pl.DataFrame:
    """Training quotes on an SVI smile in k / sqrt(theta), theta = .36 tau, half-spread half a vol point."""
    rng, parts = np.random.default_rng(seed), []
    for tau in taus:
        x = np.sort(rng.uniform(-2.0, 2.0, 25))
        theta = 0.36 * tau
        w = theta * (0.6 + 0.25 * (-0.3 * (x - 0.2) + np.sqrt((x - 0.2) ** 2 + 1.0)))
        iv = np.sqrt(w / tau) + 0.01 * noise_points * rng.standard_normal(25)
        part = {"split": "interp", "ts": STAMP, "ccy": "BTC", "expiry": STAMP + dt.timedelta(days=365 * tau)}
        columns = {"tau_years": np.full(25, tau), "strike": np.exp(x), "log_moneyness": x * np.sqrt(theta)}
        parts.append(
            pl.DataFrame(columns | {"bid_iv": iv - 0.005, "ask_iv": iv + 0.005}).with_columns(
                *[pl.lit(value).alias(name) for name, value in part.items()]
            )
        )
    return pl.concat(parts)


@pytest.mark.parametrize("name", sorted(rivals.RIVALS))
def test_every_rival_follows_quotes_without_noise(name: str) -> None:
    train = chain(0)
    answers = rivals.predict(rivals.RIVALS[name], train, train.with_columns(pl.lit("C").alias("cp")), None)
    middle = 0.5 * (train["bid_iv"] + train["ask_iv"]).to_numpy()
    assert np.abs(answers.predictions["iv"].to_numpy() - middle).max() < 1e-3
    assert answers.predictions.columns == ["split", "ts", "ccy", "expiry", "strike", "cp", "iv"]


@pytest.mark.parametrize("name", sorted(rivals.RIVALS))
def test_every_rival_joins_a_missing_expiry_of_a_self_similar_surface(name: str) -> None:
    """All expiries share one smile in k / sqrt(theta), theta linear in time: the join is then exact."""
    train = chain(1)
    shown, hidden = train.filter(pl.col("tau_years") != 0.1), train.filter(pl.col("tau_years") == 0.1)
    answers = rivals.predict(rivals.RIVALS[name], shown, hidden.with_columns(pl.lit("C").alias("cp")), None)
    middle = 0.5 * (hidden["bid_iv"] + hidden["ask_iv"]).to_numpy()
    assert np.abs(answers.predictions["iv"].to_numpy() - middle).max() < 2e-3


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 1000))
def test_svi_reaches_the_optimum_that_scipy_finds(seed: int) -> None:
    padded = slices.pad(chain(seed, taus=(0.1,), noise_points=0.3))
    problem = svi.Problem(padded, np.arange(1))
    ours = min(svi.descend(problem, problem.start(*start))[1][0] for start in svi.STARTS)
    low = [-np.inf, svi.SMALLEST_B, -svi.LARGEST_RHO, -svi.LARGEST_M, svi.SIGMA_RANGE[0]]
    high = [np.inf, problem.steepest[0], svi.LARGEST_RHO, svi.LARGEST_M, svi.SIGMA_RANGE[1]]
    theirs = min(
        2 * least_squares(lambda p: problem.residuals(p[None])[0], problem.start(*start)[0], bounds=(low, high)).cost
        for start in svi.STARTS
    )
    assert ours <= theirs * (1 + 1e-3)


def test_svi_derivatives_agree_with_differences() -> None:
    problem = svi.Problem(slices.pad(chain(2, noise_points=0.5)), np.arange(3))
    p = problem.start(0.3, 0.7)
    jacobian = problem.linearised(p)[1]
    for i in range(5):
        step = 1e-6 * np.eye(5)[i]
        numeric = (problem.residuals(p + step) - problem.residuals(p - step)) / 2e-6
        assert np.allclose(jacobian[:, i], numeric, rtol=1e-5, atol=1e-5)


def test_straightened_coordinates_invert_to_first_order() -> None:
    problem = svi.Problem(slices.pad(chain(3)), np.arange(3))
    p, free = problem.start(0.3, 0.7), (np.zeros(3, bool), np.zeros(3, bool))
    step = 1e-6 * np.random.default_rng(0).standard_normal((3, 5))
    moved = svi.move(p, step, free, problem.steepest)
    assert np.allclose(svi.tangent_map(p, free) @ (moved - p)[..., None], step[..., None], atol=1e-10)


def test_a_chain_without_training_quotes_is_not_answered() -> None:
    train = chain(0)
    asked = train.with_columns(pl.lit("C").alias("cp"), pl.lit("ETH").alias("ccy"))
    assert np.isnan(rivals.predict(rivals.RIVALS["svi"], train, asked, None).predictions["iv"].to_numpy()).all()


def test_a_second_run_is_remembered_and_other_quotes_are_not(tmp_path) -> None:
    for number in (0, 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        train = chain(number)
        train.write_parquet(folder / "train.parquet")
        train.with_columns(pl.lit("C").alias("cp")).write_parquet(folder / "query.parquet")
        train.select("ts", "ccy", "tau_years", pl.col("log_moneyness").alias("k")).write_parquet(
            folder / "grid.parquet"
        )
    first, again, other = (rivals.run("svi", tmp_path / name, tmp_path / "work") for name in ("0", "0", "1"))
    assert "remembered" not in first.timing
    assert again.timing["remembered"] == "yes"
    assert again.predictions.equals(first.predictions)
    assert "remembered" not in other.timing


def test_an_unknown_rival_is_named(tmp_path) -> None:
    with pytest.raises(ValueError, match="svj"):
        rivals.run("svj", tmp_path, tmp_path)
