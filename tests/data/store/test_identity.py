"""The hash of a row: of its values alone, and of all of them."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.store.small import quotes, shuffled
from volgrad.data.schema import Dataset
from volgrad.data.store.identity import Lanes, row_hashes
from volgrad.data.store.rows import canonical_types


def pairs(dataset, table):
    lanes = row_hashes(dataset, canonical_types(table, "test"))
    return list(zip(lanes.first.tolist(), lanes.second.tolist(), strict=True))


def test_order_of_rows_and_columns_and_slices_do_not_matter():
    table = quotes(days=range(5), minutes=range(20))
    whole = pairs(Dataset.QUOTES, table)
    assert len(set(whole)) == table.num_rows
    assert sorted(pairs(Dataset.QUOTES, shuffled(table, 2))) == sorted(whole)
    assert pairs(Dataset.QUOTES, table.select(table.column_names[::-1])) == whole
    assert pairs(Dataset.QUOTES, table.slice(37, 100)) == whole[37:137]
    assert pairs(Dataset.QUOTES, pa.concat_tables([table.slice(0, 7), table.slice(7)])) == whole


@pytest.mark.parametrize("rows", [1, 16_383, 16_384, 16_385, 40_000])
def test_blocks_do_not_matter(rows):
    values = np.random.default_rng(1).random(rows)
    table = pa.table({"close": values, "open": values[::-1]})
    whole = row_hashes(Dataset.BARS, table)
    for place in {0, rows // 2, rows - 1}:
        one = row_hashes(Dataset.BARS, table.slice(place, 1))
        assert (one.first[0], one.second[0]) == (whole.first[place], whole.second[place])


@given(arrays.arrays(np.float64, st.integers(1, 40), elements=st.floats(width=16, allow_nan=True)))
def test_equal_values_and_only_they_have_equal_hashes(values):
    keys = [None if np.isnan(value) else value + 0.0 for value in values]
    hashes = pairs(Dataset.BARS, pa.table({"close": values}))
    assert [hashes.index(one) for one in hashes] == [keys.index(key) for key in keys]


def test_the_same_value_in_another_column_is_another_row():
    assert pairs(Dataset.BARS, pa.table({"open": [1.0]})) != pairs(Dataset.BARS, pa.table({"close": [1.0]}))
    swapped = [pa.table({"open": [a], "close": [b]}) for a, b in ((1.0, 2.0), (2.0, 1.0))]
    assert pairs(Dataset.BARS, swapped[0]) != pairs(Dataset.BARS, swapped[1])
    text = [pa.table({"a": [x], "b": [y]}) for x, y in (("C", "P"), ("P", "C"), ("", "CP"), (None, "CP"))]
    assert len({pairs(Dataset.BARS, table)[0] for table in text}) == 4


def test_no_two_rows_of_a_fine_grid_share_a_half_of_their_hash():
    """Round numbers and steps of one bit are the hardest for multiplicative hashing; 10^5 rows expect 3e-10 of it."""
    strikes, sizes = np.meshgrid(np.arange(300) * 500.0, np.arange(300) / 8)
    table = pa.table({"strike": strikes.ravel(), "bid_size": sizes.ravel()})
    for lane in row_hashes(Dataset.QUOTES, table):
        assert len(np.unique(lane)) == table.num_rows
    near = np.nextafter(0.05, 1) + np.arange(300) * np.spacing(0.05)
    table = pa.table({"bid": np.repeat(near, 300), "ask": np.tile(near, 300)})
    for lane in row_hashes(Dataset.QUOTES, table):
        assert len(np.unique(lane)) == table.num_rows


def test_every_bit_of_a_lane_depends_on_the_values():
    values = np.random.default_rng(4).random(20_000)
    for lane in row_hashes(Dataset.BARS, pa.table({"close": values})):
        ones = [(lane >> np.uint64(bit) & np.uint64(1)).mean() for bit in range(64)]
        assert np.abs(np.array(ones) - 0.5).max() < 5 * 0.5 / np.sqrt(20_000)


def test_taking_rows_takes_both_halves():
    lanes = Lanes(np.arange(4, dtype=np.uint64), np.arange(4, 8, dtype=np.uint64))
    assert [half.tolist() for half in lanes.take(np.array([True, False, False, True]))] == [[0, 3], [4, 7]]
