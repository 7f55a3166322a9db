"""Contracts by name, remembered between blocks: the same answer as for each name alone."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from volgrad.data import contracts
from volgrad.data.contracts import Contracts
from volgrad.market.instruments import InstrumentKind, parse_options

NAMES = [
    "BTC-26JUN26-100000-C",
    "ETH-3JAN25-3400-P",
    "XRP_USDC-30JUN23-0d625-C",
    "BTC-PERPETUAL",
    "BTC-25MAR23",
    "",
    "junk",
]
BLOCKS = st.lists(st.lists(st.sampled_from([*NAMES, None]), min_size=1, max_size=12), min_size=1, max_size=5)


def column(names):
    return pa.chunked_array([pa.array(names, pa.string()).dictionary_encode()])


@given(BLOCKS)
def test_blocks_one_after_the_other_say_what_each_name_says(blocks):
    known = Contracts()
    for names in blocks:
        rows, alone = known.of(column(names)), parse_options([name or "" for name in names])
        for field in alone._fields:
            np.testing.assert_array_equal(rows.take(field), getattr(alone, field))
        np.testing.assert_array_equal(rows.is_option, alone.kind == InstrumentKind.OPTION)
        np.testing.assert_array_equal(rows.unreadable, alone.kind == InstrumentKind.UNKNOWN)
        bases = [(name or "").split("-")[0].split("_")[0] or None for name in names]
        assert rows.underlyings.to_pylist() == bases


def test_names_beyond_number_are_forgotten(monkeypatch):
    monkeypatch.setattr(contracts, "_REMEMBERED", 5)
    known = Contracts()
    for start in range(0, 100, 10):
        rows = known.of(column([f"BTC-26JUN26-{strike}-C" for strike in range(start + 1, start + 11)]))
        assert rows.take("strike_usd").tolist() == list(range(start + 1, start + 11))
    assert len(known._position) <= 22
