"""Laws of switches and jumps: one seed, one history, however it is asked for; rates as told."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volgrad.simulate.happenings import JUMP_SPOT, LARGEST_JUMP, LAWS, Happenings, Mood
from volgrad.simulate.listing import DAY_US

YEAR_US = 365 * DAY_US


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.lists(st.integers(1, 30 * DAY_US), min_size=1, max_size=20))
def test_history_does_not_depend_on_how_often_it_is_asked_for(seed, steps):
    stops = np.cumsum(steps).tolist()
    piecewise, whole = Happenings([seed], 0), Happenings([seed], 0)
    parts = [piecewise.until(stop) for stop in stops]
    switches, jumps = whole.until(stops[-1])
    assert [switch for part, _ in parts for switch in part] == switches
    assert [jump for _, part in parts for jump in part] == jumps
    assert piecewise.mood == whole.mood
    times = [happening.ts_us for happening in (*switches, *jumps)]
    assert all(0 < time <= stops[-1] for time in times)


def test_regimes_last_and_jumps_come_as_their_laws_say():
    switches, jumps = Happenings([5], 0).until(150 * YEAR_US)
    starts = np.array([0] + [switch.ts_us for switch in switches])
    moods = np.array([0] + [switch.mood for switch in switches])
    lasted = np.diff(starts) / DAY_US
    stamps = np.array([jump.ts_us for jump in jumps])
    of_jump = moods[np.searchsorted(starts, stamps, side="right") - 1]
    for mood, law in zip(Mood, LAWS, strict=True):
        days = lasted[moods[:-1] == mood]
        assert days.mean() == pytest.approx(law.mean_days, rel=5.0 / np.sqrt(days.size))
        followed = np.bincount(moods[1:][moods[:-1] == mood], minlength=3) / days.size
        np.testing.assert_allclose(followed, law.following, atol=2.5 / np.sqrt(days.size))
        rate = (of_jump == mood).sum() / days.sum()
        assert rate == pytest.approx(law.jumps_a_day, rel=5.0 / np.sqrt(rate * days.sum()))


def test_jumps_move_spot_and_volatility_together():
    _, jumps = Happenings([1], 0).until(20 * YEAR_US)
    spot, stress = np.array([(jump.spot, jump.stress) for jump in jumps]).T
    assert np.all(stress > 0.0)
    assert np.all(np.abs(spot) <= LARGEST_JUMP * JUMP_SPOT)
    assert stress[spot < 0.0].mean() > 2.0 * stress[spot > 0.0].mean()
    assert np.corrcoef(spot, stress)[0, 1] < -0.5


def test_a_restful_market_has_no_history():
    assert Happenings([1], 0, restless=False).until(100 * YEAR_US) == ([], [])
