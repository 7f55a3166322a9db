"""From sources into a store and out again: nothing changes, nothing is lost without a count, nothing comes twice."""

import gzip
import json
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.tables import (
    NOW,
    ROWS,
    assert_same_chains,
    canonical_table,
    chain_rows,
    quote,
    table_of,
    ticker_rows,
)
from volgrad.data import build, read_quotes
from volgrad.data.ingest import ingest
from volgrad.data.store import Store
from volgrad.errors import DamagedError, EmptyInputError, InputError, UnitsError


def written(path, table):
    """The table as a file of the kind that its name says."""
    if path.name.endswith(".csv.gz"):
        sink = pa.BufferOutputStream()
        pyarrow.csv.write_csv(table, sink)
        path.write_bytes(gzip.compress(sink.getvalue().to_pybytes()))
    else:
        pq.write_table(table, path)
    return path


def snapshot_table():
    """As the snapshot files are: volatilities in percent."""
    return canonical_table(instrument=lambda _: "x", index=lambda _: 1.0, mark_iv=lambda _: 65.0)


def updates(count=60, first=0):
    """Ticker updates as JSON lines, one every 20 seconds."""
    rows = ticker_rows(days=(24,))
    lines = []
    for number in range(first, first + count):
        row = rows[number % len(rows)]
        stamp = row["timestamp_ms"] + 20_000 * number
        lines.append(
            json.dumps(
                {
                    "instrument_name": row["instrument_name"],
                    "timestamp": stamp,
                    "best_bid_price": row["best_bid_price"],
                    "best_bid_amount": 1.0,
                    "best_ask_price": row["best_ask_price"],
                    "best_ask_amount": 1.0,
                    "bid_iv": row["bid_iv"],
                    "ask_iv": row["ask_iv"],
                    "mark_iv": row["mark_iv"],
                    "mark_price": 0.5 * (row["best_bid_price"] + row["best_ask_price"]),
                    "underlying_price": row["underlying_price"],
                    "underlying_index": "index_price",
                    "index_price": row["underlying_price"],
                    "open_interest": 1.0,
                    "state": "open",
                }
            )
        )
    return "\n".join([*lines, ""])


@pytest.mark.parametrize(
    ("table", "name"),
    [
        (canonical_table, "quotes.parquet"),
        (canonical_table, "quotes.csv.gz"),
        (snapshot_table, "quotes.parquet"),
        (snapshot_table, "quotes.csv.gz"),
        (lambda: table_of(ticker_rows()), "quotes.parquet"),
    ],
)
def test_chains_of_a_store_are_those_of_its_sources(tmp_path, table, name):
    source = written(tmp_path / name, table())
    done = ingest([source], tmp_path / "store")
    (taken,) = done.taken
    assert taken.rows == taken.stored + taken.duplicates + taken.rejected.total()
    assert_same_chains(build(read_quotes(tmp_path / "store")).chains, build(read_quotes(source)).chains)


def test_chains_drawn_from_a_stored_stream_are_those_drawn_from_its_file(tmp_path):
    (tmp_path / "feed.jsonl").write_text(updates())
    ingest([tmp_path / "feed.jsonl"], tmp_path / "store")
    for every in ("1m", "5m", "1h"):
        ours = build(read_quotes(tmp_path / "store", every=every))
        theirs = build(read_quotes(tmp_path / "feed.jsonl", every=every))
        assert_same_chains(ours.chains, theirs.chains)
        assert ours.chains
        assert [note for note in ours.notes if "drawn" in note] == [note for note in theirs.notes if "drawn" in note]


def test_a_stream_over_several_files_is_the_stream_in_one(tmp_path):
    (tmp_path / "whole.jsonl").write_text(updates(60))
    (tmp_path / "a.jsonl").write_text(updates(31))
    (tmp_path / "b.jsonl").write_text(updates(29, first=31))
    whole = build(read_quotes(tmp_path / "whole.jsonl", every="2m"))
    parts = build(read_quotes([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], every="2m"))
    assert_same_chains(parts.chains, whole.chains)


def test_a_window_draws_the_same_chains_as_the_whole(tmp_path):
    (tmp_path / "feed.jsonl").write_text(updates())
    ingest([tmp_path / "feed.jsonl"], tmp_path / "store")
    stamps = [chain.ts_us for chain in build(read_quotes(tmp_path / "feed.jsonl", every="2m")).chains]
    first, last = (np.datetime64(stamp, "us") for stamp in (stamps[2], stamps[4]))
    whole = build(read_quotes(tmp_path / "feed.jsonl", every="2m")).chains
    for source in ("feed.jsonl", "store"):
        cut = build(read_quotes(tmp_path / source, every="2m", from_=first, to=last)).chains
        assert_same_chains(cut, whole[2:5])


def test_the_same_again_is_nothing_new(tmp_path):
    source = written(tmp_path / "quotes.parquet", canonical_table())
    ingest([source], tmp_path / "store")
    before = build(read_quotes(tmp_path / "store")).chains
    again = ingest([source], tmp_path / "store")
    assert [one.already for one in again.taken] == [True]
    more = table_of(chain_rows() + chain_rows("ETH") + chain_rows(now=NOW + timedelta(hours=1)))
    partly = ingest([written(tmp_path / "more.csv.gz", more)], tmp_path / "store")
    assert [(one.stored, one.duplicates) for one in partly.taken] == [(ROWS, 2 * ROWS)]
    assert_same_chains(build(read_quotes(tmp_path / "store", to=NOW)).chains, before)


def test_a_source_that_fails_leaves_nothing_and_the_others_are_stored(tmp_path):
    good = written(tmp_path / "good.parquet", canonical_table())
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(written(cut, table_of(chain_rows(now=NOW + timedelta(hours=1)))).read_bytes()[:-40])
    swapped = written(tmp_path / "swapped.parquet", canonical_table(mark_iv=lambda _: 65.0))
    renamed = written(tmp_path / "renamed.parquet", canonical_table().rename_columns({"bid": "best_bid"}))
    foreign = tmp_path / "notes.txt"
    foreign.write_text("buy low\n")
    done = ingest([cut, swapped, good, renamed, foreign], tmp_path / "store")
    assert [one.source for one in done.taken] == [str(good)]
    assert [one.source for one in done.set_aside] == [str(path) for path in (cut, swapped, renamed, foreign)]
    for one in done.set_aside:
        assert one.source in str(one.error)
    assert "percent" in str(done.set_aside[1].error)
    assert_same_chains(build(read_quotes(tmp_path / "store")).chains, build(read_quotes(good)).chains)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (lambda: table_of(chain_rows(linear=True)), "bid and ask are dollars"),
        (lambda: canonical_table(settlement=lambda _: "linear"), "bid and ask are not dollars"),
        (lambda: canonical_table(underlying=lambda row: row["underlying"] / 1000), "not of one unit"),
        (lambda: canonical_table(bid_iv=lambda _: 64.0, ask_iv=lambda _: 66.0), "If they are percent, divide"),
    ],
)
def test_a_swap_of_units_is_refused_before_anything_is_stored(tmp_path, table, said):
    with pytest.raises(UnitsError, match=said):
        ingest([table()], tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_where_no_source_can_be_read_that_is_said_and_no_row_is_stored(tmp_path):
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("ts,ccy,expiry,strike,cp,bid,ask\n")
    with pytest.raises(EmptyInputError, match=r"empty\.csv: the file is empty.* Nor could 1 more be read"):
        ingest([tmp_path / "empty.csv", tmp_path / "header.csv"], tmp_path / "store")
    assert not (tmp_path / "store").exists()
    good = ingest([canonical_table()], tmp_path / "store").store
    with pytest.raises(EmptyInputError):
        ingest([tmp_path / "empty.csv"], tmp_path / "store")
    assert Store.open(tmp_path / "store").describe() == good.describe()
    with pytest.raises(ValueError, match="holds rows"):
        good.remove_empty()


def updates_of(bid, ask, underlying):
    """A session in which a book frame and a ticker of the same millisecond have the same best prices."""
    name, stamp = "BTC-30JAN26-99000-C", 1767690000000
    book = {"type": "snapshot", "timestamp": stamp, "instrument_name": name, "change_id": 1}
    book |= {"bids": [["new", bid, 1.0]], "asks": [["new", ask, 1.0]]}
    ticker = {"timestamp": stamp, "instrument_name": name, "underlying_price": underlying, "underlying_index": "x"}
    ticker |= {"best_bid_price": bid, "best_bid_amount": 1.0, "best_ask_price": ask, "best_ask_amount": 1.0}
    ticker |= {"mark_price": bid, "mark_iv": 60.0, "index_price": underlying, "open_interest": 1.0, "state": "open"}
    frames = [(f"book.{name}.raw", book), (f"ticker.{name}.raw", ticker)]
    return "".join(
        json.dumps({"jsonrpc": "2.0", "method": "subscription", "params": {"channel": channel, "data": data}}) + "\n"
        for channel, data in frames
    )


def test_a_row_that_says_more_is_another_row(tmp_path):
    (tmp_path / "session.jsonl").write_text(updates_of(0.05, 0.06, 90_000.0))
    (taken,) = ingest(tmp_path / "session.jsonl", tmp_path / "store").taken
    assert (taken.rows, taken.duplicates) == (taken.stored, 0)
    for source in ("session.jsonl", "store"):
        assert read_quotes(tmp_path / source).table["underlying"].to_pylist() == [90_000.0]


def test_a_source_of_several_kinds_is_read_as_from_its_file(tmp_path):
    """Tickers after a book summary: chains are still drawn of the first, and of the second alone."""
    summary = {"instrument_name": "BTC-30JAN26-99000-C", "creation_timestamp": 1767690000000, "bid_price": 0.05}
    summary |= {"ask_price": 0.06, "mark_price": 0.055, "mark_iv": 60.0, "underlying_price": 9e4, "volume": 0.0}
    summary |= {"base_currency": "BTC", "quote_currency": "BTC", "open_interest": 1.0, "underlying_index": "x"}
    lines = [json.dumps([summary]), *updates(40).splitlines()]
    (tmp_path / "mixed.jsonl").write_text("\n".join([*lines, ""]))
    ingest([tmp_path / "mixed.jsonl"], tmp_path / "store")
    ours, theirs = (build(read_quotes(tmp_path / source)) for source in ("store", "mixed.jsonl"))
    assert_same_chains(ours.chains, theirs.chains)
    assert len(ours.refused) == len(theirs.refused)


def test_rejections_of_tables_without_a_name_add_up(tmp_path):
    bad = table_of([quote() | {"strike": -1.0}, quote()])
    done = ingest([bad, table_of([quote() | {"strike": -2.0}])], tmp_path / "store")
    assert done.all_rejections() == [{"source": "table", "reason": "bad_strike", "count": 2}]


def test_what_was_read_whole_survives_an_interruption(tmp_path):
    first = written(tmp_path / "a.parquet", table_of(chain_rows()))
    second = written(tmp_path / "b.parquet", table_of(chain_rows("ETH")))

    def interrupt(source, rows):
        if source == str(second):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest([first, second], tmp_path / "store", progress=interrupt)
    assert [one.underlying for one in Store.open(tmp_path / "store").describe()] == ["BTC"]
    assert [one.already for one in ingest([first, second], tmp_path / "store").taken] == [True, False]
    assert_same_chains(build(read_quotes(tmp_path / "store")).chains, build(read_quotes([first, second])).chains)


def test_quotes_of_several_exchanges_are_told(tmp_path):
    written(tmp_path / "ours.parquet", canonical_table())
    bybit = {"symbol": "BTC-30JAN26-99000-C-USDT", "bid1Price": "4500", "bid1Size": "1", "bid1Iv": "0.6"}
    bybit |= {"ask1Price": "4600", "ask1Size": "1", "ask1Iv": "0.62", "markPrice": "4550", "markIv": "0.61"}
    bybit |= {"underlyingPrice": "90000", "indexPrice": "90000", "openInterest": "1", "delta": "0.4"}
    answer = {"retCode": 0, "result": {"category": "option", "list": [bybit]}, "time": 1767690000000}
    (tmp_path / "bybit.json").write_text(json.dumps(answer))
    notes = read_quotes([tmp_path / "ours.parquet", tmp_path / "bybit.json"]).notes
    assert any("several exchanges (bybit, deribit or your own)" in note for note in notes)
    assert not any("several exchanges" in note for note in read_quotes(tmp_path / "bybit.json").notes)


def test_a_store_inside_a_folder_is_read_as_a_store(tmp_path):
    ingest([table_of(chain_rows())], tmp_path / "folder" / "store")
    written(tmp_path / "folder" / "more.parquet", table_of(chain_rows("ETH")))
    assert {chain.ccy for chain in build(read_quotes(tmp_path / "folder")).chains} == {"BTC", "ETH"}
    done = ingest([tmp_path / "folder"], tmp_path / "other")
    assert [one.source for one in done.taken] == [str(tmp_path / "folder" / "more.parquet")]


def test_a_store_is_no_source_and_its_own_files_are_none(tmp_path):
    source = written(tmp_path / "quotes.parquet", canonical_table())
    ingest([source], tmp_path / "store")
    with pytest.raises(InputError, match="is a store already"):
        ingest([tmp_path / "store"], tmp_path / "other")
    assert [one.source for one in ingest([tmp_path], tmp_path / "store").taken] == [str(source)]


def test_a_damaged_part_is_named_and_the_rest_is_read(tmp_path):
    first = written(tmp_path / "first.parquet", canonical_table())
    second = written(tmp_path / "second.parquet", table_of(chain_rows(now=NOW + timedelta(days=1))))
    ingest([first, second], tmp_path / "store")
    part = next((tmp_path / "store").glob(f"quotes/BTC/{NOW:%Y-%m-%d}/*.parquet"))
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    quotes = read_quotes(tmp_path / "store")
    (aside,) = quotes.quarantined
    assert part.name in aside.file
    assert "first.parquet" in aside.why
    assert {(chain.ccy, chain.ts_us) for chain in build(quotes).chains} == {
        (chain.ccy, chain.ts_us)
        for path, ccy in ((first, "ETH"), (second, "BTC"))
        for chain in build(read_quotes(path, underlying=ccy)).chains
    }
    with pytest.raises(DamagedError, match=part.name):
        read_quotes(tmp_path / "store", underlying="BTC", to=NOW)
    ingest([first, second], tmp_path / "store")
    assert_same_chains(build(read_quotes(tmp_path / "store")).chains, build(read_quotes([first, second])).chains)


def test_underlyings_are_folders_in_upper_case_or_rejected(tmp_path):
    rows = chain_rows()
    names = ["btc", "../BTC", None] * (len(rows) // 3)
    (taken,) = ingest([table_of(rows, ccy=names)], tmp_path / "store").taken
    assert (taken.stored, dict(taken.rejected)) == (len(rows) // 3, {"bad_underlying": 2 * len(rows) // 3})
    assert taken.notes == ["table: the underlying btc as BTC"]
    assert [one.underlying for one in Store.open(tmp_path / "store").describe()] == ["BTC"]
    assert not list(tmp_path.glob("BTC*"))


def test_tables_in_memory_are_sources(tmp_path):
    polars = pytest.importorskip("polars")
    table = canonical_table()
    done = ingest([table, polars.from_arrow(table)], tmp_path / "store")
    assert [(one.source, one.stored, one.duplicates) for one in done.taken] == [
        ("table", 2 * ROWS, 0),
        ("table", 0, 2 * ROWS),
    ]


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.8, 1.0, 1.2]), st.sampled_from([90_000.0, 0.0, -1.0, None]), st.sampled_from("CPX")
        ),
        min_size=1,
        max_size=12,
    )
)
def test_every_row_is_stored_or_counted(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("dirty")
    made = [quote(ratio=ratio) | {"strike": strike, "cp": cp} for ratio, strike, cp in rows]
    taken = ingest([table_of(made)], folder / "store").taken[0]
    assert taken.rows == len(rows) == taken.stored + taken.duplicates + taken.rejected.total()
    sound = {(row["strike"], row["cp"], row["bid"]) for row in made if (row["strike"] or 0) > 0 and row["cp"] in "CP"}
    held = [one.table.num_rows for one in Store.open(folder / "store").scan()]
    assert sum(held) == taken.stored == len(sound)


def test_shared_data_go_in_and_come_out_as_they_are(tmp_path, shared_data):
    source = shared_data / "deribit_ticker5m_20230412.parquet"
    ingest([source], tmp_path / "store")
    window = {"from_": "2023-04-12T12:00", "to": "2023-04-12T12:30"}
    ours, theirs = (build(read_quotes(one, **window)) for one in (tmp_path / "store", source))
    assert ours.chains
    assert_same_chains(ours.chains, theirs.chains)
    assert ours.rejections.by_reason() == theirs.rejections.by_reason()
