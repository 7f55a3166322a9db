"""Laws of the probe: what it measures is what was planted, and it leaves no trace."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.learning.subjects import mean_noise, mean_subject, same_bits, waves_subject
from volgrad.learning.batch_size.noise_probe import NoiseProbe, distinct, folded, halves
from volgrad.learning.batch_size.subject import ladder_sizes, unit_of


@pytest.mark.parametrize("intraclass", [0.0, 0.3, 0.6])
def test_the_planted_noise_scale_is_found(intraclass):
    subject = mean_subject(0.3, rows=8, columns=16, intraclass=intraclass)
    found = NoiseProbe(subject).at(subject, 0)
    true = mean_noise(0.3, 8, intraclass)
    assert found.lo < true < found.hi
    assert found.clusters == pytest.approx(true, rel=0.15)
    assert found.intraclass == pytest.approx(intraclass, abs=0.05)
    assert found.significant


def test_rows_taken_for_independent_look_less_noisy_than_they_are():
    subject = mean_subject(0.3, rows=8, columns=16, intraclass=0.6)
    found = NoiseProbe(subject).at(subject, 0)
    assert found.per_row < 0.5 * found.rows


def test_the_noise_of_fewer_rows_is_told_from_that_of_all():
    all_rows = mean_subject(0.3, rows=8, columns=16, intraclass=0.3)
    two = mean_subject(0.3, rows=8, columns=16, intraclass=0.3, rows_per_cluster=2)
    told = NoiseProbe(all_rows).at(all_rows, 0).at(2)
    assert told.clusters == pytest.approx(NoiseProbe(two).at(two, 0).clusters, rel=0.25)


@pytest.mark.parametrize("position", [0, 100, 150, 190, 399])
def test_no_cluster_stands_twice_in_a_probe_so_that_noise_does_not_look_like_signal(position):
    subject = mean_subject(1e-4, clusters=250, rows=1, columns=64)  # 200 of them to train on
    found = NoiseProbe(subject).at(subject, position)
    assert found.units == 200
    assert not found.significant


@given(st.integers(0, 10_000), st.integers(1, 300), st.integers(0, 300))
def test_a_probe_begins_where_its_clusters_are_all_of_one_epoch(position, count, more):
    clusters = count + more
    start = distinct(position, count, clusters)
    assert start // clusters == (start + count - 1) // clusters
    assert position <= start < position + clusters


def test_a_slope_that_is_lost_in_noise_is_not_made_up():
    subject = mean_subject(1e-4, rows=2, columns=32)
    found = NoiseProbe(subject).at(subject, 0)
    assert not found.significant
    assert found.hi == np.inf
    assert found.lo > 10.0


def test_probing_leaves_no_trace_and_repeats():
    subject = waves_subject("batch")
    before = jax.tree.map(jnp.copy, subject.state)
    probe = NoiseProbe(subject)
    assert str(probe.at(subject, 0)) == str(probe.at(subject, 0))  # NaN is like NaN
    assert same_bits(subject.state, before)


def test_normalised_batches_are_probed_by_those_normalised_together():
    plain, batch, ghost = (waves_subject(norm) for norm in ("none", "batch", "ghost"))
    units = [unit_of(one.task, one.state.statistics, 3.0) for one in (plain, batch, ghost)]
    assert units[0] == 1
    assert units[1] * 3 >= 64
    assert units[2] == 32  # the group of ghost normalisation, where nothing else is said
    probe = NoiseProbe(ghost)
    found = probe.at(ghost, 0)
    assert (probe.unit, probe.split) == (32, False)
    assert np.isnan(found.between)
    assert found.units == probe.units


def test_adam_divides_by_the_root_of_its_mean_square():
    subject = waves_subject()
    assert subject.preconditioner() is None  # nothing is known before the first step
    inner = subject.state.optimizer.inner
    moved = inner._replace(count=jnp.ones_like(inner.count), nu=jnp.full_like(inner.nu, 4e-3))
    state = dataclasses.replace(subject.state, optimizer=subject.state.optimizer._replace(inner=moved))
    np.testing.assert_allclose(subject.at(state).preconditioner(), 0.5, rtol=1e-4)  # 4e-3 / (1 - .999) is 4


halved = jax.jit(halves)


@given(st.integers(0, 9), st.integers(0, 2**31))
def test_halves_are_disjoint_equal_and_of_the_rows_that_are_there(most, seed):
    count = np.random.default_rng(seed).integers(0, most + 1, 30)
    mask = np.arange(9)[None, :] < count[:, None]
    one, other = (np.asarray(side) for side in halved(jnp.asarray(mask), jax.random.key(seed)))
    alone = count == 1
    assert not (one & other)[~alone].any()
    assert not ((one | other) & ~mask).any()
    np.testing.assert_array_equal(one.sum(1), np.where(alone, 1, count // 2))
    np.testing.assert_array_equal(one.sum(1), other.sum(1))


def test_folding_keeps_inner_products_on_average():
    random = np.random.default_rng(0)
    long = random.standard_normal((2, 20_000)).astype(np.float32) + 1.0
    keys = jax.random.split(jax.random.key(0), 50)
    products = [float(folded(jnp.asarray(long[0]), key) @ folded(jnp.asarray(long[1]), key)) for key in keys]
    true = float(long[0].astype(float) @ long[1].astype(float))
    assert np.mean(products) == pytest.approx(true, rel=0.02)
    assert folded(jnp.ones(100), keys[0]).shape == (100,)


@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_the_ladder_holds_both_ends_and_steps_by_two(clusters, most):
    sizes = ladder_sizes(clusters, most)
    assert sizes[0] == 1
    assert sizes[-1] == min(clusters, most)
    assert all(after <= 2 * before for before, after in itertools.pairwise(sizes))
    assert sizes == sorted(set(sizes))
