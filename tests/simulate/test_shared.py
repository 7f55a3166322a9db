"""Laws of what quotes have in common: stationary, one law at every cadence, kept while an expiry is listed."""

import numpy as np
import pytest

from volgrad.simulate.shared import CHAIN_ERROR, EXPIRY_ERROR, EXPIRY_SPREAD, HALF_LIVES_MINUTES, SharedErrors

MINUTE_US = 60_000_000
EXPIRIES = np.arange(1, 41) * 86_400_000_000


def run(every_us: int, ticks: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    shared = SharedErrors(np.random.default_rng(seed))
    shared.listed(EXPIRIES)
    return shared.run(ticks, every_us)


@pytest.mark.parametrize("minutes", [0.01, 5, 600])
def test_the_law_is_stationary_at_every_cadence(minutes):
    runs = [run(int(minutes * MINUTE_US), 30, seed) for seed in range(600)]
    error = np.stack([error for error, _ in runs])
    spread = np.stack([spread for _, spread in runs])
    for tick in (0, -1):
        assert error[:, tick].std() == pytest.approx(np.hypot(CHAIN_ERROR, EXPIRY_ERROR), rel=0.08)
        assert spread[:, tick].std() == pytest.approx(EXPIRY_SPREAD, rel=0.08)
        common = np.hypot(CHAIN_ERROR, EXPIRY_ERROR / np.sqrt(EXPIRIES.size))
        assert error[:, tick].mean(axis=1).std() == pytest.approx(common, rel=0.15)


def test_half_lives_are_as_told():
    minutes = int(HALF_LIVES_MINUTES["expiry_spread"])
    spread = np.concatenate([run(minutes * MINUTE_US, 40, seed)[1] for seed in range(40)], axis=1)
    assert np.corrcoef(spread[:-1].ravel(), spread[1:].ravel())[0, 1] == pytest.approx(0.5, abs=0.02)


def test_an_expiry_keeps_its_own_while_others_come_and_go():
    shared = SharedErrors(np.random.default_rng(3))
    shared.listed(EXPIRIES)
    _, before = shared.run(1, MINUTE_US)
    shared.listed(EXPIRIES[5:])
    _, after = shared.run(1, MINUTE_US)
    assert after.shape == (1, EXPIRIES.size - 5)
    assert np.corrcoef(before[0, 5:], after[0])[0, 1] > 0.99
