"""Laws of what the exchange lists, and the recorded listings themselves."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volgrad.simulate.listing import (
    DAY_US,
    FRIDAY,
    HOUR_US,
    ask_on_tick,
    bid_on_tick,
    expiry_kind,
    listed_expiries,
    round_step,
    strike_ladder,
    weekday,
)

stamps = st.integers(1_600_000_000_000_000, 2_200_000_000_000_000)
premiums = st.floats(0.0, 2.0)


@given(stamps)
def test_expiries_are_at_eight_on_fridays_but_for_four_dailies(ts_us: int) -> None:
    expiries = listed_expiries(ts_us)
    assert np.all(np.diff(expiries) > 0)
    assert expiries[0] > ts_us
    assert np.all(expiries % DAY_US == 8 * HOUR_US)
    assert np.all((expiries[:4] - ts_us) <= 4 * DAY_US)
    assert np.all(weekday(expiries[4:] // DAY_US) == FRIDAY)
    assert sum(expiry_kind(expiry) == "quarterly" for expiry in expiries.tolist()) in (4, 5)
    assert 11 <= expiries.size <= 15


@given(stamps, st.integers(1, 90 * 24))
def test_what_is_listed_stays_until_it_expires(ts_us: int, hours: int) -> None:
    later_us = ts_us + hours * HOUR_US
    before, after = listed_expiries(ts_us), listed_expiries(later_us)
    assert set(before[before > later_us].tolist()) <= set(after.tolist())


@pytest.mark.parametrize("month", ["202601", "202603", "202605"])
def test_recorded_listings_are_reproduced(shared_data: Path, month: str) -> None:
    table = pq.read_table(shared_data / f"deribit_snap_{month}.parquet", columns=["ts", "ccy", "expiry"])
    seen: dict[tuple[int, str], set[int]] = {}
    rows = table.group_by(["ts", "ccy", "expiry"]).aggregate([])
    micros = [pc.cast(rows[name].combine_chunks(), "int64").to_pylist() for name in ("ts", "expiry")]
    for ts, ccy, expiry in zip(micros[0], rows["ccy"].to_pylist(), micros[1], strict=True):
        seen.setdefault((ts * 1000, ccy), set()).add(expiry * 1000)
    assert len(seen) > 200
    for (ts_us, _), expiries in seen.items():
        assert set(listed_expiries(ts_us).tolist()) == expiries


def test_kinds() -> None:
    def kind(day: datetime) -> str:
        return expiry_kind(int(day.timestamp()) * 1_000_000)

    assert kind(datetime(2026, 1, 3, 8, tzinfo=UTC)) == "daily"
    assert kind(datetime(2026, 1, 9, 8, tzinfo=UTC)) == "weekly"
    assert kind(datetime(2026, 1, 30, 8, tzinfo=UTC)) == "monthly"
    assert kind(datetime(2026, 3, 27, 8, tzinfo=UTC)) == "quarterly"


@given(premiums)
def test_ticks_enclose_the_premium_and_lie_on_the_grid(premium: float) -> None:
    bid, ask = float(bid_on_tick(np.array([premium]))[0]), float(ask_on_tick(np.array([premium]))[0])
    assert bid <= premium + 1e-12
    assert premium <= ask + 1e-12
    for quote in (bid, ask):
        tick = 1e-4 if quote < 0.005 else 5e-4
        assert quote == round(round(quote / tick) * tick, 4)
    assert ask - bid <= 5e-4 + 1e-12
    assert ask > 0.0


def test_ticks_change_at_half_a_percent() -> None:
    premiums = np.array([0.00495, 0.005, 0.00501, 0.0049999, 0.0, 0.00003])
    assert bid_on_tick(premiums).tolist() == [0.0049, 0.005, 0.005, 0.0049, 0.0, 0.0]
    assert ask_on_tick(premiums).tolist() == [0.005, 0.005, 0.0055, 0.005, 0.0001, 0.0001]


@given(st.floats(1e-3, 1e6))
def test_round_steps_are_round_and_near(step: float) -> None:
    rounded = round_step(step)
    digits = rounded / 10.0 ** np.floor(np.log10(rounded * 1.000001))
    assert min(abs(digits - round_digits) for round_digits in (1.0, 2.0, 2.5, 5.0)) < 1e-9
    assert 0.66 < rounded / step < 1.5


@given(st.floats(1.0 / 365.0, 1.0), st.floats(0.2, 1.0), st.floats(0.7, 1.4))
def test_ladders_straddle_the_forward_in_multiples_of_one_step(years: float, vol: float, drift: float) -> None:
    forward = 90_000.0 * drift
    ladder = strike_ladder(42_000.0, forward, years, vol)
    assert np.all(np.diff(ladder) > 0.0)
    assert ladder[0] > 0.0
    assert ladder[0] < forward < ladder[-1]
    assert np.all(ladder % np.diff(ladder).min() == 0.0)
