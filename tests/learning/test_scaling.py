"""Scaling: right where float32 sums are wrong, and from the training split alone."""

import jax.numpy as jnp
import numpy as np
import pytest

from volgrad.data.image import Feature, Image
from volgrad.errors import EmptyInputError, SchemaError
from volgrad.learning.batching import scaling as module
from volgrad.learning.batching.scaling import Scaling

RANDOM = np.random.default_rng(0)
ROWS = np.stack(
    [
        RANDOM.standard_normal(3000) * 10.0 + 60_000.0,
        RANDOM.standard_normal(3000) * 1e-3,
        np.full(3000, 7.1),
        RANDOM.exponential(size=3000),
    ],
    axis=1,
).astype(np.float32)
COUNTS = np.full(300, 10)
IMAGE = Image.of(ROWS, COUNTS, np.arange(300), np.arange(300), [Feature(name, "1") for name in "abcd"])


@pytest.mark.parametrize("block", [1, 7, 3000])
def test_moments_are_those_of_double_precision(block, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", block)
    found = Scaling.fit(IMAGE, range(40, 200))
    wanted = ROWS[400:2000].astype(np.float64)
    assert found.rows == 1600
    assert found.mean == pytest.approx(wanted.mean(axis=0), rel=1e-12)
    assert found.scale[[0, 1, 3]] == pytest.approx(wanted.std(axis=0)[[0, 1, 3]], rel=1e-9)
    assert found.scale[2] == 1.0  # constant


def test_only_the_training_split_counts():
    changed = ROWS.copy()
    changed[2000:] = 1e9
    other = Image.of(changed, COUNTS, np.arange(300), np.arange(300), IMAGE.features)
    found, again = Scaling.fit(IMAGE, range(200)), Scaling.fit(other, range(200))
    assert np.array_equal(found.mean, again.mean)
    assert np.array_equal(found.scale, again.scale)


def test_columns_that_were_not_asked_for_stay():
    found = Scaling.fit(IMAGE, range(300), ["d", "a"])
    assert found.mean[[1, 2]].tolist() == [0.0, 0.0]
    assert found.scale[[1, 2]].tolist() == [1.0, 1.0]
    assert np.array_equal(found.apply(ROWS)[:, 1:3], ROWS[:, 1:3])


@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray])
@pytest.mark.parametrize("shape", [(3000, 4), (30, 100, 4)])
def test_scaled_values_have_mean_0_and_deviation_1(convert, shape):
    scaled = Scaling.fit(IMAGE, range(300)).apply(convert(ROWS.reshape(shape)))
    assert scaled.dtype == np.float32
    flat = np.asarray(scaled, np.float64).reshape(-1, 4)
    assert np.abs(flat.mean(axis=0)).max() < 1e-5
    assert flat.std(axis=0)[[0, 1, 3]] == pytest.approx(1.0, abs=1e-5)
    assert np.abs(flat[:, 2]).max() < 1e-6


def test_what_is_not_there_is_refused():
    with pytest.raises(SchemaError, match="no feature 'x'"):
        Scaling.fit(IMAGE, range(300), ["x"])
    with pytest.raises(EmptyInputError, match="split is empty"):
        Scaling.fit(IMAGE, range(0))
