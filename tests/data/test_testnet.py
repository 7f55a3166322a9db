"""Order books of the test network, recorded: deliberately dirty, and every row of them is accounted for."""

import csv
import gzip

import numpy as np
import pytest

from volgrad.data import build, read_quotes
from volgrad.data.schema import SourceKind
from volgrad.data.stream import stream

FILES = {"testnet_orderbook_btc_20210211.csv.gz": "BTC", "testnet_orderbook_eth_20210211.csv.gz": "ETH"}


@pytest.fixture(params=FILES)
def file(request, shared_data):
    return shared_data / request.param


@pytest.fixture
def lines(file):
    return gzip.decompress(file.read_bytes()).decode().splitlines()


def test_every_line_is_a_row_with_a_reason_or_counted(file, lines):
    quotes = read_quotes(file)
    (source,) = quotes.sources
    assert source.kind is SourceKind.TICKER
    assert source.rows + source.malformed_rows == len(lines) - 1
    built = build(quotes)
    assert built.rejections.used + built.rejections.total == quotes.rows + source.malformed_rows
    assert built.rejections.used == sum(chain.n_rows for chain in built.chains)


def test_rows_are_what_the_standard_library_reads(file, lines):
    (block,) = stream(file)
    rows, given = block.table.to_pylist(), list(csv.DictReader(lines))
    assert len(rows) == len(given)
    for row, cells in zip(rows, given, strict=True):
        assert round(row["ts"].timestamp() * 1000) == int(cells["timestamp"])
        assert (row["bid"] or 0.0, row["ask"] or 0.0) == (
            float(cells["best_bid_price"]),
            float(cells["best_ask_price"]),
        )
        assert row["strike"] == float(cells["instrument_name"].split("-")[2])
        assert row["cp"] == cells["instrument_name"][-1]
        assert row["underlying"] == float(cells["underlying_price"])
        assert row["mark_iv"] == pytest.approx(float(cells["mark_iv"]) / 100)
        assert row["ccy"] == FILES[file.name]


def test_an_empty_side_of_the_book_is_missing_and_no_price_is_zero(file, lines):
    (block,) = stream(file)
    given = list(csv.DictReader(lines))
    for ours, theirs in (("bid", "bids"), ("ask", "asks")):
        np.testing.assert_array_equal(block.table[ours].is_null(), [row[theirs] == "[]" for row in given])
        assert block.table[ours].null_count > 100


def test_cut_and_mixed_lines_are_counted_and_the_rest_stays_as_it_is(file, lines, tmp_path):
    dirty = [lines[0]]
    for number, line in enumerate(lines[1:]):
        dirty += [line] if number % 10 else [line, line[: len(line) // 2], "", "# rest lost"]
    (tmp_path / "dirty.csv").write_text("\n".join([*dirty, ""]), newline="\r\n")
    (whole,), (block,) = stream(file), stream(tmp_path / "dirty.csv")
    assert block.table.to_pylist() == whole.table.to_pylist()
    assert block.malformed == 2 * -(-(len(lines) - 1) // 10)
