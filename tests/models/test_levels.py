"""Laws of the scale that is read from the quotes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tasks.chains import chain_of
from volgrad.models.levels import at_the_money_variance

DAYS = (1.0, 8.0, 30.0, 90.0)


@given(st.floats(0.1, 2.5))
def test_a_flat_smile_gives_its_own_variance(vol):
    chain = chain_of(lambda k, tau: np.full_like(k, vol), DAYS)
    np.testing.assert_allclose(at_the_money_variance(chain), vol**2 * chain.expiry_years, rtol=1e-9)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_it_rises_strictly_whatever_the_quotes_say(seed, strikes):
    random = np.random.default_rng(seed)
    chain = chain_of(
        lambda k, tau: np.clip(np.exp(random.normal(-0.5, 1.0, k.shape)), 0.15, 3.0), DAYS, strikes=strikes
    )
    theta = at_the_money_variance(chain)
    assert theta.shape == (len(DAYS),)
    assert theta[0] > 0
    assert np.all(np.diff(theta) > 0)


def test_one_quote_tells_the_level():
    chain = chain_of(lambda k, tau: np.full_like(k, 0.7), (30.0,), strikes=1)
    assert at_the_money_variance(chain)[0] == pytest.approx(0.49 * 30 / 365)


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_one_wild_quote_at_the_money_does_not_set_the_level(factor):
    def vol(k, tau):
        found = 0.6 + 0.1 * k**2
        found[np.argmin(np.abs(k))] *= factor
        return found

    theta = at_the_money_variance(chain_of(vol, DAYS))
    np.testing.assert_allclose(np.sqrt(theta / np.array(DAYS) * 365), 0.6, rtol=0.25)
