"""Laws of making a chain ready: what is padded does not matter, what is read is the chain's."""

import dataclasses

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tasks.chains import chain_of, simulated_chains
from volgrad.models.local_vol import Prior
from volgrad.tasks.fit import MODELS
from volgrad.tasks.framing import frame_chain, ladder_size


@given(st.integers(1, 500), st.lists(st.integers(1, 100), min_size=1, max_size=6, unique=True))
def test_a_rung_holds_what_it_is_for(count, rungs):
    ladder = tuple(sorted(rungs))
    size = ladder_size(count, ladder)
    assert size >= count
    assert size in ladder or size % ladder[-1] == 0
    assert ladder_size(size, ladder) == size


def test_the_frame_holds_the_expiries_that_have_quotes():
    chain = simulated_chains()[0]
    kept = chain.expiry_index != 3
    columns = ("strike_usd", "expiry_index", "log_moneyness", "is_call", "bid", "ask", "bid_iv", "ask_iv")
    without = dataclasses.replace(chain, **{name: getattr(chain, name)[kept] for name in columns})
    framed = frame_chain(without, Prior())
    assert framed.expiries.tolist() == [index for index in range(chain.n_expiries) if index != 3]
    assert framed.theta.size == chain.n_expiries - 1
    real = np.asarray(framed.data.mask)
    assert framed.data.rows.expiry[real].max() == framed.theta.size - 1


def test_rows_are_the_quotes_in_their_own_order():
    chain = simulated_chains()[0]
    framed = frame_chain(chain, Prior())
    real = np.asarray(framed.data.mask)
    assert real.sum() == chain.n_rows
    rows = framed.data.rows
    np.testing.assert_array_equal(rows.log_moneyness[real], chain.log_moneyness)
    np.testing.assert_array_equal(rows.mid_vol[real], chain.mid_iv)
    np.testing.assert_allclose(rows.root_years[real] ** 2, chain.row_expiry_years)
    assert np.all(rows.half_spread[real] >= chain.half_spread_iv)
    assert all(np.all(np.isfinite(leaf)) for leaf in rows)


@pytest.mark.parametrize("model", [kind() for kind in MODELS.values()], ids=lambda model: model.name)
def test_chains_of_one_rung_share_a_shape(model):
    """So that one compiled program serves them."""
    shapes = set()
    for days, strikes in (((2.0, 9.0, 30.0), 7), ((3.0, 11.0, 50.0), 8)):
        chain = chain_of(lambda k, tau: 0.6 + 0.1 * k**2, days, strikes=strikes)
        framed = model.frame(chain, (), 1.0)
        start, warm = model.start(framed, chain, None)
        assert not warm
        leaves, tree = jax.tree.flatten((framed.task, framed.data, start))
        shapes.add((tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves)))
        assert int(framed.data.mask.sum()) == chain.n_rows
    assert len(shapes) == 1


def test_the_prior_leans_on_earlier_chains_where_they_speak():
    chain = chain_of(lambda k, tau: 0.6 + 0.1 * k**2, (2.0, 9.0, 30.0))
    plain = frame_chain(chain, Prior())
    knots = plain.task.frame.mean.shape[1]
    stamp = int(chain.expiry_us[1])
    leant = frame_chain(chain, Prior(), [{stamp: np.full(knots, 0.7)}])
    move = leant.task.frame.mean[:3] - plain.task.frame.mean[:3]
    assert np.all(np.abs(leant.task.frame.mean[1] - 0.7) < np.abs(plain.task.frame.mean[1] - 0.7))
    np.testing.assert_allclose(move[0], move[2])  # the others move together, by the average
    nothing = frame_chain(chain, Prior(), [{12345: np.full(knots, 0.7)}])
    np.testing.assert_array_equal(nothing.task.frame.mean, plain.task.frame.mean)
