"""Reading tables of every kind of source, whatever the encoding: units, columns, types, windows."""

import datetime

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.tables import (
    DAYS,
    NOW,
    ROWS,
    assert_same_chains,
    canonical_table,
    chain_rows,
    expiry,
    table_of,
    ticker_rows,
)
from volgrad.data import build_chains, read_quotes
from volgrad.errors import EmptyInputError, InputError, SchemaError, UnitsError


def snapshot_table(percent=60.0):
    many = {"instrument": "x", "index": 1.0, "delta": 0.5, "vega": 1.0, "vol24h": 0.0, "mark_iv": percent}
    return table_of([row | many for row in chain_rows()])


def prepared_table(fraction=0.6):
    extra = {"forward": 90_000.0, "tau_years": 0.1, "split": "interp", "bucket": "main", "tick_low": 1e-4}
    rows = [row | extra | {"mark_iv": fraction} for row in chain_rows(days=(24,))]
    return table_of(rows, log_moneyness=lambda row: np.log(row["strike"] / row["forward"]))


def test_kinds_of_source_are_recognised_and_other_columns_are_listed():
    tables = (canonical_table(), snapshot_table(), prepared_table(), table_of(ticker_rows()))
    kinds = [read_quotes(table).sources[0].kind.value for table in tables]
    assert kinds == ["canonical", "snapshot", "prepared", "ticker5m"]
    assert read_quotes(snapshot_table()).sources[0].extra_columns == (
        "instrument",
        "index",
        "delta",
        "vega",
        "vol24h",
    )


def test_volatilities_become_fractions_by_the_kind_of_source():
    assert read_quotes(snapshot_table(60.0)).table["mark_iv"][0].as_py() == pytest.approx(0.6)
    assert read_quotes(prepared_table(0.6)).table["mark_iv"][0].as_py() == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("table", "median", "mend"),
    [(snapshot_table(0.6), "0.6 over", "multiply"), (prepared_table(60.0), "60 over", "divide")],
    ids=["fraction in a snapshot", "percent in prepared"],
)
def test_the_other_unit_is_refused_naming_file_column_and_median(tmp_path, table, median, mend):
    path = tmp_path / "january.parquet"
    pq.write_table(table, path)
    with pytest.raises(UnitsError, match=f"january.parquet: mark_iv has median {median} .*{mend}"):
        read_quotes(path)


def test_illiquid_rows_do_not_decide_about_units():
    # most rows have no ask and a nonsense volatility; those with two sides are sound
    rows = chain_rows(days=(24,), ratios=(0.9, 1.1)) + [row | {"ask": None} for row in chain_rows()]
    iv = [0.6] * 4 + [9.0] * ROWS
    assert read_quotes(table_of(rows, mark_iv=iv)).rows == len(rows)


ENCODINGS = {
    "ms": lambda t: _cast(t, ("ts", "expiry"), pa.timestamp("ms", "UTC")),
    "ns": lambda t: _cast(t, ("ts", "expiry"), pa.timestamp("ns", "UTC")),
    "another zone": lambda t: _cast(t, ("ts", "expiry"), pa.timestamp("us", "Asia/Tokyo")),
    "no zone": lambda t: _cast(t, ("ts", "expiry"), pa.timestamp("us")),
    "dictionary": lambda t: _encode(t, ("ccy", "cp")),
    "large string": lambda t: _cast(t, ("ccy", "cp"), pa.large_string()),
    "string view": lambda t: _cast(t, ("ccy", "cp"), pa.string_view()),
    "chunks": lambda t: pa.concat_tables([t.slice(0, 7), t.slice(7, 0), t.slice(7)]),
    "two dictionaries": lambda t: pa.concat_tables([_encode(t.slice(n, ROWS), ("ccy",)) for n in (ROWS, 0)]),
    "ISO text": lambda t: _cast(t, ("ts", "expiry"), pa.string()),
    "numbers as text": lambda t: _cast(t, ("bid", "ask"), pa.string()),
    "reversed": lambda t: t.take(pa.array(range(t.num_rows - 1, -1, -1))),
    "words for cp": lambda t: _set(t, "cp", pa.array([{"P": "put"}.get(v, v) for v in t["cp"].to_pylist()])),
}  # fmt: skip


def _set(table, name, values):
    return table.set_column(table.column_names.index(name), name, values)


def _cast(table, names, kind):
    for name in names:
        table = _set(table, name, table[name].cast(kind))
    return table


def _encode(table, names):
    for name in names:
        table = _set(table, name, table[name].dictionary_encode())
    return table


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
def test_encodings_do_not_matter(encode):
    assert_same_chains(
        build_chains(read_quotes(encode(canonical_table()))), build_chains(read_quotes(canonical_table()))
    )


@settings(max_examples=25)
@given(order=st.permutations(range(2 * ROWS)))
def test_the_order_of_rows_does_not_matter(order):
    table = canonical_table()
    assert_same_chains(build_chains(read_quotes(table.take(pa.array(order)))), build_chains(read_quotes(table)))


def test_float32_strikes_are_strikes():
    table = canonical_table()
    single = _cast(table, ("strike",), pa.float32())
    for a, b in zip(build_chains(read_quotes(single)), build_chains(read_quotes(table)), strict=True):
        np.testing.assert_allclose(a.strike_usd, b.strike_usd, rtol=1e-7)


def test_stamps_without_zone_and_bare_dates_are_taken_as_said():
    table = _cast(canonical_table(), ("ts",), pa.timestamp("us"))
    table = _cast(table, ("expiry",), pa.date32())
    quotes = read_quotes(table)
    assert "table: ts has no time zone, taken as UTC" in quotes.notes
    assert "table: expiry holds dates, taken as 08:00 UTC of the day" in quotes.notes
    assert_same_chains(build_chains(quotes), build_chains(read_quotes(canonical_table())))


def test_polars_frames_and_categories_are_accepted():
    polars = pytest.importorskip("polars")
    frame = polars.from_arrow(canonical_table()).with_columns(polars.col("ccy").cast(polars.Categorical))
    assert_same_chains(build_chains(read_quotes(frame)), build_chains(read_quotes(canonical_table())))


def test_sources_of_different_kinds_mix():
    quotes = read_quotes([snapshot_table(), table_of(ticker_rows("ETH"))])
    assert [source.kind.value for source in quotes.sources] == ["snapshot", "ticker5m"]
    assert [(chain.ccy, chain.n_rows) for chain in build_chains(quotes)] == [
        ("BTC", ROWS // 2),
        ("ETH", ROWS // 2),
    ]


def test_a_missing_or_renamed_column_is_told_with_its_nearest_name(tmp_path):
    table = canonical_table().rename_columns({"bid": "best_bid_price", "strike": "strikes"})
    pq.write_table(table, tmp_path / "drift.parquet")
    with pytest.raises(SchemaError) as caught:
        read_quotes(tmp_path / "drift.parquet")
    text = str(caught.value)
    assert "drift.parquet: a quote table needs the columns strike, bid; found: ts, ccy" in text
    assert "'bid' is perhaps 'best_bid_price'" in text
    assert "'strike' is perhaps 'strikes'" in text


@pytest.mark.parametrize("style", ["{}_{}", "[{}_{}]", "{} {}"])
def test_calls_and_puts_side_by_side_are_told_as_such_and_nothing_is_to_be_renamed(style):
    wide = {style.format(side, what).upper(): what for side in "cp" for what in ("bid", "ask")}
    table = canonical_table().drop_columns("cp")
    for name, what in wide.items():
        table = table.append_column(name, table[what])
    with pytest.raises(SchemaError) as caught:
        read_quotes(table.drop_columns(["bid", "ask"]))
    text = str(caught.value)
    assert f"side by side ({' and '.join(name for name, what in wide.items() if what == 'bid')})" in text
    assert "a row for each call and a row for each put" in text
    assert "Rename" not in text


@pytest.mark.parametrize("others", [("best_bid", "bid_price"), ("bid_1", "bid_2")])
def test_no_name_is_proposed_where_several_columns_fit(others):
    table = canonical_table()
    for other in others:
        table = table.append_column(other, table["bid"])
    with pytest.raises(SchemaError, match="Expected: ts, ccy") as caught:
        read_quotes(table.drop_columns("bid"))
    assert "perhaps" not in str(caught.value)


def test_a_missing_column_of_a_ticker_file_is_told():
    with pytest.raises(SchemaError, match="a 5-minute ticker file needs the column cycle"):
        read_quotes(table_of(ticker_rows(), drop=("cycle",)))


WRONG_TYPES = {
    "bid": (["cheap"] * (2 * ROWS), "column bid holds 'cheap' in row 0, expected a number"),
    "strike": ([NOW] * (2 * ROWS), "column strike holds timestamp"),
    "ts": (list(range(2 * ROWS)), "column ts holds int64, expected a timestamp"),
    "expiry": (["soon"] * (2 * ROWS), "column expiry holds 'soon' in row 0, expected a time"),
    "ccy": (list(range(2 * ROWS)), "column ccy holds int64, expected text"),
}


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_wrong_types_are_told(name):
    values, words = WRONG_TYPES[name]
    with pytest.raises(SchemaError, match=words):
        read_quotes(canonical_table(**{name: values}))


@pytest.mark.parametrize(("name", "reason"), [("bid", "bad_number"), ("strike", "bad_number"), ("ts", "bad_timestamp")])
def test_one_bad_cell_costs_its_row_and_most_of_a_column_the_source(name, reason):
    good = canonical_table()[name].cast(pa.string()).to_pylist()
    quotes = read_quotes(canonical_table(**{name: [*good[:41], "n.a.", *good[42:]]}))
    assert quotes.rejections.by_reason() == {reason: 1}
    assert quotes.reason[41] != 0
    assert quotes.table[name].null_count == 1
    mostly = [text if i < ROWS - 1 else "n.a." for i, text in enumerate(good)]
    with pytest.raises(SchemaError, match=rf"column {name} holds 'n\.a\.' in row {ROWS - 1}, expected"):
        read_quotes(canonical_table(**{name: mostly}))


def days_of(quotes):
    return sorted({stamp.date().day for stamp in quotes.table["ts"].to_pylist()})


@pytest.mark.parametrize(
    ("window", "days"),
    [
        ({"from_": "2026-01-07"}, [7, 8]),
        ({"to": "2026-01-07"}, [6, 7]),
        ({"to": datetime.date(2026, 1, 6)}, [6]),
        ({"to": "2026-01-07T09:00"}, [6]),
        ({"from_": NOW + datetime.timedelta(days=1), "to": NOW + datetime.timedelta(days=1)}, [7]),
        ({"from_": np.datetime64("2026-01-08"), "to": "2026-01-08T23:00:00+09:00"}, [8]),
    ],
)
def test_the_window_includes_both_ends_and_a_bare_date_is_a_whole_day(window, days):
    table = table_of(
        [row for day in range(3) for row in chain_rows(now=NOW + datetime.timedelta(days=day), days=(24,))]
    )
    quotes = read_quotes(table, **window)
    assert days_of(quotes) == days
    assert quotes.sources[0].rows_filtered == table.num_rows - quotes.rows


@pytest.mark.parametrize("underlying", ["eth", ["ETH"], "ETH,SOL"])
def test_underlyings_are_chosen_by_name(underlying):
    assert {chain.ccy for chain in build_chains(read_quotes(canonical_table(), underlying=underlying))} == {"ETH"}


def test_a_window_that_leaves_nothing_says_what_there_is():
    with pytest.raises(
        EmptyInputError, match=r"no row is left from 2027-01-01.* for SOL; there is BTC, ETH from 2026-01-06"
    ):
        read_quotes(canonical_table(), from_="2027-01-01", underlying="SOL")
    with pytest.raises(InputError, match="'next week' is no time"):
        read_quotes(canonical_table(), from_="next week")
    with pytest.raises(InputError, match="lies after"):
        read_quotes(canonical_table(), from_="2026-02-01", to="2026-01-01")


def test_nothing_is_noted_about_a_source_of_which_the_window_keeps_no_row():
    sources = [canonical_table(), table_of(ticker_rows())]
    assert any("collection cycles" in note for note in read_quotes(sources).notes)
    late = table_of(ticker_rows(cycle=NOW + datetime.timedelta(days=1)))
    quotes = read_quotes([canonical_table(), late], to=NOW)
    assert [source.rows_filtered for source in quotes.sources] == [0, ROWS]
    assert quotes.notes == read_quotes(canonical_table()).notes


def test_a_column_twice_is_refused():
    twice = canonical_table().append_column("bid", pa.nulls(2 * ROWS, pa.float64()))
    with pytest.raises(SchemaError, match="table: the column bid is there 2 times"):
        read_quotes(twice)


def test_cycles_are_what_a_window_counts_for_tickers():
    assert read_quotes(table_of(ticker_rows()), to=NOW).rows == ROWS


def test_snapshots_name_linear_instruments():
    table = snapshot_table()
    names = [f"BTC_USDC-30JAN26-{i}-C" if i % 2 else f"BTC-30JAN26-{i}-C" for i in range(1, table.num_rows + 1)]
    table = table.set_column(table.column_names.index("instrument"), "instrument", pa.array(names))
    unit = np.array([90_000.0 if "_USDC" in name else 1.0 for name in names])  # linear premiums are dollars
    for side in ("bid", "ask"):
        table = table.set_column(table.column_names.index(side), side, pa.array(table[side].to_numpy() * unit))
    quotes = read_quotes(table)
    assert quotes.table["settlement"].to_pylist()[:2] == ["linear", "inverse"]


def test_prices_of_zero_are_missing_never_zero():
    quotes = read_quotes(table_of(ticker_rows(), best_bid_price=[0.0] * ROWS))
    assert quotes.table["bid"].null_count == ROWS
    assert quotes.table["expiry"][0].as_py() == expiry(DAYS[0])
