"""Laws of the exchange's output: moments without gaps, quotes that last, one law at every cadence, changes only."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import pytest

from volgrad.simulate.exchange import Block
from volgrad.simulate.listing import listed_expiries
from volgrad.simulate.market import BITCOIN, ETHER, MarketSettings, exchange_of
from volgrad.simulate.quoting import NO_QUIRKS, RowKind

START = datetime(2026, 1, 6, 5, 0, tzinfo=UTC)  # three hours before the dailies roll
MINUTE_US = 60_000_000
QUOTE = ("bid", "ask", "bid_size", "ask_size")


def settings(every_us: int, base: MarketSettings = BITCOIN) -> MarketSettings:
    every = timedelta(microseconds=every_us)
    return replace(base, start=START, every=every, quirks=NO_QUIRKS, restless=True)


@cache
def blocks(every_us: int, ticks: int, changes_only: bool = False, seed: int = 1) -> list[Block]:
    return list(exchange_of(seed, settings(every_us), changes_only=changes_only).blocks(ticks))


def chains(every_us: int, ticks: int) -> list[dict[tuple[int, float, bool], dict[str, float]]]:
    """Each chain as a book of quotes."""
    found = []
    for block in blocks(every_us, ticks):
        rows, contracts = block.contracts.rows, block.contracts
        keys = list(
            zip(
                contracts.expiry_us[contracts.expiry_index].tolist(),
                contracts.strike_usd.tolist(),
                contracts.is_call.tolist(),
                strict=True,
            )
        )
        for tick in range(block.path.ts_us.size):
            part = slice(tick * rows, (tick + 1) * rows)
            columns = {name: block.columns[name][part] for name in (*QUOTE, "ts_us", "mark")}
            found.append(dict(zip(keys, np.stack(list(columns.values()), axis=1), strict=True)))
    return found


@pytest.mark.parametrize("every_us", [5 * MINUTE_US, 7 * MINUTE_US, 90 * MINUTE_US])
def test_moments_follow_each_other_and_each_has_its_whole_chain(every_us):
    found = blocks(every_us, 60)
    stamps = np.concatenate([block.path.ts_us for block in found])
    np.testing.assert_array_equal(np.diff(stamps), every_us)
    assert stamps.size == 60
    for block in found:
        ticks, rows = block.path.ts_us.size, block.contracts.rows
        np.testing.assert_array_equal(block.tick, np.repeat(np.arange(ticks), rows))
        np.testing.assert_array_equal(block.row, np.tile(np.arange(rows), ticks))
        for stamp in block.path.ts_us.tolist():
            np.testing.assert_array_equal(block.contracts.expiry_us, listed_expiries(stamp))
        assert np.all(block.years > 0.0)


def test_listings_roll_at_eight():
    expiries = [block.contracts.expiry_us for block in blocks(5 * MINUTE_US, 60)]
    assert expiries[0][0] < expiries[-1][0] == expiries[0][1]


def test_a_quote_that_was_not_refreshed_keeps_its_time_and_everything_else():
    before = None
    old = 0
    for chain in chains(5 * MINUTE_US, 60):
        for key, values in (chain if before else {}).items():
            if key in before and values[4] == before[key][4]:
                np.testing.assert_array_equal(values[:4], before[key][:4])
                old += 1
        before = chain
    assert old > 1000


def test_own_times_never_lie_ahead():
    for block in blocks(5 * MINUTE_US, 60):
        own, chain = block.columns["ts_us"], block.path.ts_us[block.tick]
        assert np.all(own <= chain)
        assert 0.3 < np.mean(own == chain) < 0.9
        assert np.all(own >= block.path.ts_us[0] - 24 * 60 * MINUTE_US)


def persistence(every_us: int, ticks: int, step: int) -> tuple[float, float, float]:
    """Share of quotes whose earlier middle lies inside, that stand unchanged, and the log spread's change."""
    inside, same, spread = [], [], []
    found = chains(every_us, ticks)
    for before, after in zip(found[:-step:step], found[step::step], strict=False):
        keys = before.keys() & after.keys()
        old, new = (np.array([chain[key] for key in keys]) for chain in (before, after))
        both = np.isfinite(old[:, 0] + old[:, 1] + new[:, 0] + new[:, 1])
        old, new = old[both], new[both]
        middle = 0.5 * (old[:, 0] + old[:, 1])
        inside.append(np.mean((new[:, 0] <= middle) & (middle <= new[:, 1])))
        same.append(np.mean(np.all(old[:, :2] == new[:, :2], axis=1)))
        spread.append(np.std(np.log((new[:, 1] - new[:, 0]) / (old[:, 1] - old[:, 0]))))
    return float(np.mean(inside)), float(np.mean(same)), float(np.mean(spread))


def test_quotes_last_as_recorded_ones_do():
    inside, same, spread = persistence(5 * MINUTE_US, 60, 1)
    assert 0.85 < inside < 0.99  # recorded: .944 to .966, at spreads twice as wide
    assert 0.5 < same < 0.75  # recorded: .58 to .62
    assert 0.2 < spread < 0.45  # recorded: .26 to .40


@pytest.mark.parametrize("times", [2, 6])
def test_what_happens_in_a_while_is_the_same_at_fine_steps_and_at_coarse_ones(times):
    """From five minutes on the market's path is the same at every cadence: only the quotes are drawn anew.

    A coarse step sees one refresh where a fine one sees several, each of which may move a price that would have
    stood: somewhat more prices stand unchanged over a coarse step.
    """
    fine = persistence(5 * MINUTE_US, 60, times)
    coarse = persistence(5 * times * MINUTE_US, 60 // times, 1)
    assert fine[0] == pytest.approx(coarse[0], abs=0.04)
    assert -0.02 < coarse[1] - fine[1] < 0.15
    assert fine[2] == pytest.approx(coarse[2], abs=0.04)


@cache
def errors() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors of the middles in half-spreads, with chain and expiry, of quotes near the money."""
    error, chain, expiry = [], [], []
    for number, block in enumerate(blocks(30 * MINUTE_US, 200, seed=4)):
        columns, contracts = block.columns, block.contracts
        forward = block.forward_usd[block.tick, contracts.expiry_index[block.row]]
        is_otm = contracts.is_call[block.row] == (contracts.strike_usd[block.row] > forward)
        sound = (columns["bid"] > 0.001) & np.isfinite(columns["ask"]) & is_otm & (columns["kind"] == RowKind.NORMAL)
        half = 0.5 * (columns["ask"] - columns["bid"])
        error.append(np.clip((0.5 * (columns["bid"] + columns["ask"]) - columns["mark"]) / half, -3.0, 3.0)[sound])
        chain.append((1000 * number + block.tick)[sound])
        expiry.append(contracts.expiry_index[block.row][sound])
    return np.concatenate(error), np.concatenate(chain), np.concatenate(expiry)


def intraclass(values: np.ndarray, group: np.ndarray) -> float:
    """One-way analysis of variance (Fisher)."""
    _, group = np.unique(group, return_inverse=True)
    count = np.bincount(group)
    mean = np.bincount(group, values) / count
    between = np.sum(count * (mean - values.mean()) ** 2) / (count.size - 1)
    within = np.sum((values - mean[group]) ** 2) / (values.size - count.size)
    usual = (values.size - np.sum(count**2) / values.size) / (count.size - 1)
    return float((between - within) / (between + (usual - 1.0) * within))


def test_errors_are_shared_within_a_chain_and_more_within_an_expiry():
    error, chain, expiry = errors()
    of_chain, of_expiry = intraclass(error, chain), intraclass(error, 100 * chain + expiry)
    assert 0.02 < of_chain < 0.2  # recorded: .04 to .07
    assert 0.08 < of_expiry < 0.3  # recorded: .10 to .18
    assert of_chain < of_expiry
    assert 0.3 < error.std() < 0.55  # recorded: .28 to .55
    shuffled = np.random.default_rng(1).permutation(error)
    assert abs(intraclass(shuffled, chain)) < 0.01


@pytest.mark.parametrize(("every_us", "ticks"), [(100_000, 9_000), (10_000_000, 1_500)])
def test_only_changes_are_shown_after_the_first_chain(every_us, ticks):
    found = blocks(every_us, ticks, changes_only=True)
    book: dict[tuple[int, int], tuple[float, ...]] = {}
    shown, last = 0, -1
    for block in found:
        stamps = block.path.ts_us[block.tick]
        np.testing.assert_array_equal(block.columns["ts_us"], stamps)
        assert np.all(np.diff(stamps) >= 0)
        assert stamps.size == 0 or stamps[0] > last
        last = stamps[-1] if stamps.size else last
        keys = block.contracts.key[block.row].tolist()
        quotes = np.nan_to_num(np.stack([block.columns[name] for name in QUOTE], axis=1), nan=-1.0).tolist()
        for key, quote in zip(keys, quotes, strict=True):
            assert book.get(key) != quote
            book[key] = quote
        shown += len(keys)
    first = found[0]
    assert np.array_equal(first.row[first.tick == 0], np.arange(first.contracts.rows))
    assert first.contracts.rows < shown < 0.1 * ticks * first.contracts.rows
    assert set(found[-1].contracts.key.tolist()) <= book.keys()


def test_the_first_moment_of_a_day_shows_the_whole_chain():
    base = replace(settings(1_000_000), start=datetime(2026, 1, 6, 23, 58, tzinfo=UTC))
    for block in exchange_of(1, base, changes_only=True).blocks(240):
        if block.path.ts_us[0] % (24 * 60 * MINUTE_US) == 0:
            assert np.array_equal(block.row[block.tick == 0], np.arange(block.contracts.rows))
            return
    raise AssertionError("no block begins at midnight")


def test_both_underlyings_of_a_seed_and_both_seeds_differ():
    def spots(base: MarketSettings, seed: int) -> np.ndarray:
        (block, *_) = exchange_of(seed, settings(5 * MINUTE_US, base)).blocks(20)
        return np.diff(np.log(block.path.values["spot_usd"]))

    returns = [spots(BITCOIN, 1), spots(ETHER, 1), spots(BITCOIN, 2)]
    assert np.max(np.abs(np.corrcoef(returns) - np.eye(3))) < 0.9
    np.testing.assert_array_equal(spots(BITCOIN, 1), returns[0])
